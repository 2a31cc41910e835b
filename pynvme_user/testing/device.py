"""The software controller in this process, as a device: no QEMU, no socket, no privilege.

Its registers are calls of C, its doorbells too, which wake its thread; its memory is this
process's own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pynvme_user import owned
from pynvme_user.access.bar_memory import BarMemories
from pynvme_user.access.base import (
    Access,
    DmaRegion,
    Doorbells,
    Region,
    RegionIndex,
    make_foreign,
)
from pynvme_user.access.iova import IovaSpace
from pynvme_user.access.memory import PAGE_SIZE, allocate, allocate_pages
from pynvme_user.access.regions import (
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    FileRegion,
    check_access,
)
from pynvme_user.errors import DeviceNameError, DmaError
from pynvme_user.host.numa import Placement
from pynvme_user.links import Interrupt
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.registers import PMRSTS
from pynvme_user.spec.status import Status, StatusCode
from pynvme_user.testing.core import DOORBELLS, REGISTERS, Core, OwnMemory, ffi, lib
from pynvme_user.testing.faults import Fault, Rule, status_number
from pynvme_user.testing.pages import CONFIG_SIZE, PCI_COMMAND, configuration_space
from pynvme_user.testing.settings import Settings, parse_settings
from pynvme_user.testing.storage import DEFAULT_SIZE, Storage

if TYPE_CHECKING:
    from pynvme_user.testing.model.dispatch import Model
    from pynvme_user.testing.model.state import Subsystem

_COMMAND = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE
#: Far from what addresses of this process look like: who mixes the two is found out.
_IOVAS = (1 << 36, (1 << 46) - 1)


class SoftRegion:
    """BAR0: registers, doorbells."""

    def __init__(self, name: str, core: Core, size: int) -> None:
        self.name = f"{name} BAR0"
        self.size = size
        self._core = core
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Refuse every access, in a child of process ``owner``."""
        make_foreign(self, owner)

    def read(self, offset: int, width: int) -> int:
        """Read a register of 4 or 8 bytes, or a part of one; a doorbell reads as 0."""
        check_access(self.name, self.size, offset, width)
        if offset >= REGISTERS:
            return 0
        aligned = offset & ~3
        value = self._core.read(aligned, max(width, 4))
        return value >> 8 * (offset - aligned) & (1 << 8 * width) - 1

    def write(self, offset: int, width: int, value: int) -> None:
        """Write a register of 4 or 8 bytes; fewer are lost, as NVMe has it."""
        check_access(self.name, self.size, offset, width)
        if width < 4:
            return
        if offset >= REGISTERS:
            self._core.ring(offset - REGISTERS, value & 0xFFFF)
        else:
            self._core.write(offset, width, value)


class SoftConfig:
    """PCI configuration space."""

    def __init__(self, name: str, core: Core, vectors: int) -> None:
        self.name = f"{name} CONFIG"
        self.size = CONFIG_SIZE
        self._core = core
        self._bytes = configuration_space(vectors)
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Refuse every access, in a child of process ``owner``."""
        make_foreign(self, owner)

    def read(self, offset: int, width: int) -> int:
        """Read some bytes."""
        check_access(self.name, self.size, offset, width)
        self._check_open()
        return int.from_bytes(self._bytes[offset : offset + width], "little")

    def write(self, offset: int, width: int, value: int) -> None:
        """Write some bytes. Of what they mean, the command register alone is known."""
        check_access(self.name, self.size, offset, width)
        self._check_open()
        self._bytes[offset : offset + width] = value.to_bytes(width, "little")
        self._core.set_command(int.from_bytes(self._bytes[PCI_COMMAND : PCI_COMMAND + 2], "little"))

    def _check_open(self) -> None:
        _ = self._core.handle


class _Resources:
    """What a device has of this process: closed with it, or at the interpreter's exit."""

    def __init__(self, core: Core, undo: owned.Undo) -> None:
        self.vectors: list[int] = []  # eventfds
        self._core = core
        self._undo = undo

    def close(self) -> None:
        """Give all of it back. Safe to call twice."""
        self._core.check_caller()
        self._undo.close()
        while self.vectors:
            owned.close(self.vectors.pop())


class SoftDevice(Access):
    """The software controller: ``text`` is the device name behind ``soft:``.

    A Controller made of it closes it. With the option ``commands=all`` it has a :attr:`model`, and
    may be another controller of a subsystem that is there: ``subsystem`` is another device's
    ``model.subsystem``, whose storage it shares.

    Raises DeviceNameError, DeviceAccessError, and DeviceBusyError where another process uses the
    file.
    """

    emulated = True

    def __init__(self, text: str = "", *, subsystem: Subsystem | None = None) -> None:
        self.name = f"soft:{text}"
        settings = parse_settings(text)
        options = settings.core
        has_model = settings.commands == "all"
        if subsystem is not None and not has_model:
            raise DeviceNameError(f"{self.name}: a subsystem is shared with commands=all: add it")
        with owned.Undo() as undo:
            storage = None
            size = settings.size or DEFAULT_SIZE
            if subsystem is None and not settings.null:
                storage = Storage(settings.path, settings.capacity or settings.size)
                size = min(storage.size, settings.size or storage.size)
                if has_model:
                    # All of spec/ goes with it, which nobody else wants to wait for.
                    from pynvme_user.testing.model.state import Subsystem

                    subsystem = Subsystem(storage, options.block_size.bit_length() - 1)
                else:
                    undo.callback(storage.close)
            if subsystem is not None:
                subsystem.take()
                undo.callback(subsystem.release)
            if size < options.block_size:
                raise DeviceNameError(f"{self.name}: the size is less than one block")
            self._iovas = IovaSpace([_IOVAS])
            #: BARs that are memory.
            self._bars: dict[RegionIndex, DmaRegion] = {}
            cmb = None
            if settings.cmb:
                bar = self._make_bar(RegionIndex.BAR2, settings.cmb)
                at = bar.iova if settings.legacy_cmb else 0
                cmb = OwnMemory(bar.address, bar.length, settings.cmb_uses, at)
            pmr = None
            self._pmr: Storage | None = None
            if settings.pmr or settings.pmrdev:
                self._pmr = self._open_pmr(settings)
                undo.callback(self._pmr.close)
                pmr = OwnMemory(self._pmr.address, self._pmr.size, settings.pmrcap)
            self._memories = undo.enter_context(BarMemories())
            length = DOORBELLS << options.dstrd
            self._doorbells = np.zeros(length // 4, np.uint32)
            if settings.inline:
                wait = None
            else:
                wait = lib.CONTROLLER_SPIN if settings.spin else lib.CONTROLLER_SLEEP
            self._core = Core(
                replace(options, size=size),
                storage.address if storage else None,
                self._doorbells.ctypes.data,
                wait=wait,
                model=has_model,
                cmb=cmb,
                pmr=pmr,
            )
            undo.callback(self._core.close)
            #: What is beyond the controller in C, with ``commands=all``.
            self.model: Model | None = None
            if subsystem is not None:
                from pynvme_user.testing.model.dispatch import make_model

                self.model = make_model(settings, size, subsystem, self._core)
                undo.callback(self.model.leave)
            self._resources = _Resources(self._core, undo.pop_all())
        self._posted = not settings.spin
        self._vectors = self._resources.vectors
        self.interrupt_vectors = settings.vectors
        self.interrupts_wanted = settings.interrupts
        self._config = SoftConfig(self.name, self._core, settings.vectors)
        self.registers: Region = SoftRegion(self.name, self._core, REGISTERS + length)
        self._start_dma()
        owned.close_at_exit(self._resources)

    def __del__(self) -> None:
        if hasattr(self, "_resources") and owned.is_here():
            self._resources.close()

    # The seam

    def doorbells(self, offset: int, length: int) -> Doorbells:
        """Doorbells are calls of the controller; where its thread never sleeps, memory."""
        at = offset - REGISTERS
        if self._posted:
            post = int(ffi.cast("uintptr_t", ffi.addressof(lib, "controller_doorbell")))
            return Doorbells(post=post, context=self._core.address, base=at)
        return Doorbells(mmio=self._doorbells.ctypes.data + at)

    def region(self, index: RegionIndex) -> Region:
        """BAR0 and configuration space are there."""
        match index:
            case RegionIndex.BAR0:
                return self.registers
            case RegionIndex.CONFIG:
                return self._config
        return super().region(index)

    def _make_bar(self, index: RegionIndex, length: int) -> DmaRegion:
        memory = allocate_pages(length)
        iova = self._iovas.allocate(length, PAGE_SIZE)
        bar = self._bars[index] = DmaRegion(memory.address, length, iova, memory)
        return bar

    def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
        """Give a part of a BAR that is memory, which it is for this process as it is."""
        if index == RegionIndex.BAR3 and self._pmr is not None:
            file = FileRegion(f"{self.name} {index.name}", self._pmr.fd, 0, self._pmr.size)
            memory = self._memories.map(file, file.fd, [(0, file.size)], offset, length)
            return DmaRegion(memory.address, memory.length, self._pmr_iova + offset, memory)
        bar = self._bars.get(index)
        return super().map_bar(index, offset, length) if bar is None else bar.part(offset, length)

    def _open_pmr(self, settings: Settings) -> Storage:
        storage = Storage(settings.pmrdev, settings.pmr or None, shared=True)
        if storage.size % PAGE_SIZE:
            storage.close()
            raise DeviceNameError(
                f"{self.name}: a Persistent Memory Region is whole pages of {PAGE_SIZE} bytes, not "
                f"{storage.size} bytes: give another file"
            )
        self._pmr_iova = self._iovas.allocate(storage.size, PAGE_SIZE)
        return storage

    def allocate_dma(self, length: int, placement: Placement | None = None) -> DmaRegion:
        """Memory of this process, in hugepages where they are free and fit."""
        memory = allocate((length + PAGE_SIZE - 1) & -PAGE_SIZE, placement)
        return self._map(memory.address, memory.length, memory.page_size, memory)

    def map_dma(self, address: int, length: int) -> DmaRegion:
        """Let the controller reach memory of the user's, whole pages."""
        if (address | length) % PAGE_SIZE or not length:
            raise DmaError(
                f"{length} bytes at {address:#x} are not whole pages of {PAGE_SIZE} bytes: align "
                "the memory to a page"
            )
        return self._map(address, length, PAGE_SIZE, None)

    def _map(self, address: int, length: int, alignment: int, owner: object) -> DmaRegion:
        iova = self._iovas.allocate(length, alignment)
        self._core.map(iova, length, address)
        return DmaRegion(address, length, iova, owner)

    def release_dma(self, region: DmaRegion) -> None:
        """Unmap."""
        try:
            self._core.unmap(region.iova, region.length)
        except KeyError:
            raise DmaError(
                f"{self.name} has no DMA mapping at {region.iova:#x}: released twice?"
            ) from None
        self._iovas.release(region.iova, region.length)

    def arm_interrupts(self, count: int) -> Sequence[Interrupt]:
        """Give an eventfd for each of the MSI-X vectors 0 to ``count`` - 1; they close with us."""
        self.check_vectors(count)
        while len(self._vectors) < count:
            eventfd = owned.descriptor(os.eventfd, 0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._vectors.append(eventfd)
            self._core.set_event(len(self._vectors) - 1, eventfd)
        return [Interrupt(event_fd=fd) for fd in self._vectors[:count]]

    def _start_dma(self) -> None:
        self._config.write(PCI_COMMAND, 2, _COMMAND)

    def reset(self) -> None:
        """Reset the function."""
        self._core.reset()
        self._start_dma()

    def alive(self) -> bool:
        """Tell that it is there, always: one that is gone reads as all ones."""
        return True

    def close(self) -> None:
        """End its thread; give storage, memory and descriptors back. Safe to call twice."""
        self._resources.close()

    # What it does wrong

    def order(
        self,
        fault: Fault,
        *,
        opc: int | None = None,
        admin: bool = False,
        qid: int | None = None,
        lbas: range | None = None,
        nth: int = 1,
        every: int = 1,
        times: int = 0,
        delay: float = 0.0,
    ) -> Rule:
        """Order a fault: what is to become of these commands, until the rule is removed.

        I/O commands, or ``admin`` commands: of opcode ``opc``, of queue ``qid``, that touch one of
        ``lbas``; without these, of any. It acts from the ``nth`` of them on, in each ``every``-th,
        ``times`` times (0: for ever), and takes ``delay`` seconds. Raises ValueError for what no
        rule can be.
        """
        if lbas is not None and (lbas.step != 1 or not lbas or lbas.start < 0):
            raise ValueError(f"lbas is a range of blocks, such as range(0, 8), not {lbas!r}")
        if not 0 <= delay <= 3600:
            raise ValueError(f"a delay is 0 to 3600 seconds, not {delay}")
        if nth < 1 or every < 1 or times < 0:
            raise ValueError("nth and every are 1 or more, times is 0 or more")
        try:
            number = self._core.add_rule(
                action=fault.action,
                queues=lib.CONTROLLER_ADMIN if admin else lib.CONTROLLER_IO,
                opcode=-1 if opc is None else int(opc),
                qid=-1 if qid is None else qid,
                lba=lbas.start if lbas else 0,
                blocks=len(lbas) if lbas else 0,
                nth=nth,
                every=every,
                times=times,
                delay_ns=int(delay * 1e9),
                value=fault.value,
                answer=fault.answer,
            )
        except OSError as error:
            raise ValueError(
                f"no such rule ({error.strerror}): there are up to 64, and a fault of data is of "
                "I/O commands, of all queues, without a delay"
            ) from None
        return Rule(self._core, number)

    @property
    def kept(self) -> list[tuple[int, SQE]]:
        """Queue and command of all that it keeps."""
        return [(qid, SQE.from_bytes(sqe)) for qid, sqe in self._core.kept()]

    def release(self, status: Status | StatusCode | int = 0) -> int:
        """End all that it keeps with that status; return how many commands that were."""
        return self._core.release(status_number(status))

    def end(self, qid: int, cid: int, status: Status | StatusCode | int = 0) -> None:
        """End one command that it keeps, or that takes its time. Raises KeyError for none."""
        try:
            self._core.end(qid, cid, status_number(status))
        except OSError:
            raise KeyError(f"queue {qid} has no command {cid} that could be ended") from None

    def post(self, qid: int, cid: int, status: Status | StatusCode | int = 0, dw0: int = 0) -> None:
        """Post a completion for a submission queue, whether a command has that CID or not.

        Raises KeyError where there is no such queue, or its completion queue has no room.
        """
        try:
            self._core.post(qid, cid, status_number(status), dw0)
        except OSError:
            raise KeyError(f"no completion can be posted for queue {qid}") from None

    @property
    def queues(self) -> tuple[set[int], set[int]]:
        """The ids of the submission and of the completion queues that there are."""
        return self._core.queues()

    def set_identify(self, cns: int, page: bytes, *, per_namespace: bool = False) -> None:
        """Give the 4096 bytes that Identify returns for ``cns``; ``per_namespace``: for NSID 1."""
        self._core.set_page(cns, page, per_namespace=per_namespace)

    def set_log(self, lid: int, page: bytes) -> None:
        """Give what Get Log Page returns for ``lid``, of any length; ``commands=all`` alone.

        Raises ValueError without it.
        """
        if self.model is None:
            raise ValueError(f"{self.name} has a few log pages of its own: add commands=all")
        self.model.set_log(lid, page)

    def send_event(self, dw0: int) -> bool:
        """End an Asynchronous Event Request with that dword 0; False if none is there."""
        return self._core.event(dw0)

    def misbehave(
        self,
        *,
        never_ready: bool = False,
        never_disabled: bool = False,
        fatal_when_enabled: bool = False,
        never_shut_down: bool = False,
        gone: bool = False,
    ) -> None:
        """Set what it does wrong besides commands; what is left out, it does right."""
        self._core.set_quirks(
            never_ready * lib.CONTROLLER_NEVER_READY
            | never_disabled * lib.CONTROLLER_NEVER_DISABLED
            | fatal_when_enabled * lib.CONTROLLER_FATAL_AT_ENABLE
            | never_shut_down * lib.CONTROLLER_NEVER_SHUT_DOWN
            | gone * lib.CONTROLLER_IS_GONE
        )

    def set_pmr_status(self, *, err: int = 0, health: int = 0, never_ready: bool = False) -> None:
        """Say what PMRSTS has of the Persistent Memory Region: ERR, HSTS, and NRDY for ever."""
        self._core.set_pmrsts(int(PMRSTS.build(err=err, hsts=health, nrdy=never_ready)))

    def fail(self) -> None:
        """Let it report a fatal error (CSTS.CFS) and do nothing more until it is reset."""
        self._core.fail()

    def counts(self) -> Counts:
        """Return what it counted since it was made."""
        log = self._core.log()
        return Counts(*(int(getattr(log, name)) for name in Counts.__dataclass_fields__))


@dataclass(frozen=True)
class Counts:
    """I/O commands: struct controller_log."""

    reads: int
    writes: int
    fua_writes: int
    trims: int
    flushes: int
    deepest: int
    planted: int
