"""The Persistent Memory Region: a BAR whose memory keeps what is written (Base 2.1, 8.2.4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

import numpy as np

from pynvme_user import owned
from pynvme_user.access.bar_memory import BarMemory
from pynvme_user.access.base import Access, RegionIndex
from pynvme_user.dma import DeviceMemory, DmaBuffer, DmaPool
from pynvme_user.errors import (
    ClosedError,
    DeviceRemovedError,
    NotSupportedError,
    NvmeError,
    NvmeTimeoutError,
)
from pynvme_user.spec.registers import (
    CAP,
    PMRCAP,
    PMRCTL,
    PMREBS,
    PMRMSCL,
    PMRMSCU,
    PMRSTS,
    PMRSWTP,
    PmrHealth,
)
from pynvme_user.transport.controller_memory import RegisterFile

_NAME = "the Persistent Memory Region"
#: PMRCAP.PMRWBM: what ends only when all that was written before is persistent.
_BY_READ_OF_REGION, _BY_READ_OF_STATUS = 1, 2
_TIME_UNITS = {0: 0.5, 1: 60.0}  # PMRCAP.PMRTU, seconds
#: What a change of PMRSTS.NRDY may take at least and at most, whatever the device says, in seconds.
_FLOOR_SECONDS, _MOST_SECONDS = 5.0, 600.0
#: More than any BAR has: all of it.
_ALL = 1 << 62


class PersistentMemoryRegion:
    """Memory that keeps its bytes without power, from when it is made until :meth:`close`.

    :attr:`array` is the region. Where the controller takes it for data of commands, too
    (PMRCAP.CMSS with RDS or WDS), parts of it are buffers as :meth:`Controller.alloc` gives. A
    context manager.
    """

    def __init__(
        self,
        access: Access,
        memory: DmaPool,
        registers: RegisterFile,
        warn: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self._name = access.name
        if not registers.read(CAP).pmrs:
            raise NotSupportedError(
                f"{self._name} has no Persistent Memory Region (CAP.PMRS is 0): use a namespace"
            )
        self._registers, self._memory, self._ended = registers, memory, ended
        #: What the controller says of it.
        self.pmrcap = registers.read(PMRCAP)
        self._region = access.map_bar(RegionIndex(self.pmrcap.bir), 0, _ALL)
        self._closed = False
        self._failure = ""
        owned.register(self)
        try:
            status = self._enable()
        except BaseException:
            self.end()
            raise
        #: What the controller says of its contents: PMRSTS.HSTS.
        known = status.hsts in list(PmrHealth)
        self.health = PmrHealth(status.hsts) if known else int(status.hsts)
        read_only = self.health == PmrHealth.READ_ONLY
        if self.health:
            said = PmrHealth(self.health).name.lower().replace("_", " ") if known else self.health
            warn(f"{_NAME} says {said} of its contents (PMRSTS.HSTS)")
        own = DeviceMemory(
            _NAME,
            bool(self.pmrcap.cmss and self.pmrcap.rds and not read_only),
            bool(self.pmrcap.cmss and self.pmrcap.wds),
            cdmmms=True,
            lasts=False,
        )
        self._extents = memory.add(self._region, own)
        #: The bytes of the region; read-only where its health says so.
        self.array: DmaBuffer = memory.alloc(self._region.length, zero=False, within=self._extents)
        if read_only:
            self.array.flags.writeable = False

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self._region.length

    @property
    def sustained_write_throughput(self) -> int:
        """Bytes a second that it takes for long (PMRSWTP); 0: the controller does not say."""
        told = self._registers.read(PMRSWTP)
        return int(told.pmrswtv) << 10 * told.pmrswtu

    @property
    def elasticity_buffer(self) -> int:
        """Bytes that it takes faster than that (PMREBS); 0: the controller does not say."""
        told = self._registers.read(PMREBS)
        return int(told.pmrwbz) << 10 * told.pmrszu

    def flush(self) -> None:
        """Return when all that was written to :attr:`array` is persistent, as PMRCAP.PMRWBM says.

        Raises NvmeError where the region reports an error (PMRSTS.ERR): what was written may be
        lost.
        """
        self._check_open()
        if not self.pmrcap.pmrwbm & _BY_READ_OF_STATUS:
            self._load()
        if self._failure:
            raise NvmeError(self._failure)
        self._check(self._registers.read(PMRSTS))

    def _load(self) -> None:
        """Read some of the region over the bus: no cache has it."""
        int(self.array.array[:4].view(np.uint32)[0])

    def enable_again(self) -> None:
        """Enable it after a reset. Where that fails the next flush says why."""
        try:
            self._enable()
        except DeviceRemovedError:
            raise
        except NvmeError as error:
            self._failure = f"{error} (after a reset)"

    def _enable(self) -> PMRSTS:
        """Say where it is, enable it, and return its status.

        Raises NvmeTimeoutError where it does not become ready within PMRCAP.PMRTO, NvmeError.
        """
        registers = self._registers
        if self.pmrcap.cmss:
            registers.write(PMRMSCU.build(cba=self._region.iova >> 32))
            registers.write(PMRMSCL.build(cmse=1, cba=self._region.iova >> 12 & 0xFFFFF))
        registers.write(PMRCTL.build(en=1))
        status = self._wait("become ready", nrdy=0)
        self._check(status)
        if status.cbai:
            raise NvmeError(
                f"{self._name} does not take {self._region.iova:#x} as the address of {_NAME} "
                "(PMRSTS.CBAI): reset the device"
            )
        return status

    def close(self) -> None:
        """Disable it. Its array is no part of it any more. Safe to call twice.

        What was written and not flushed may be lost. Raises NvmeTimeoutError.
        """
        if self._closed:
            return
        self.end()
        self._wait("become disabled", nrdy=1)

    def end(self) -> None:
        """Disable it, without a wait."""
        self._closed = True
        self._ended()
        if hasattr(self, "array"):
            self._memory.remove(self._extents, self.array)
        try:
            forget_persistent_memory(self._registers)
            self._registers.write(PMRCTL(0))
        finally:
            if isinstance(self._region.owner, BarMemory):
                self._region.owner.close()

    def forked(self, owner: int) -> None:
        """Be closed, in a child of process ``owner``."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{_NAME} of {self._name} is closed: call Controller.pmr() again")

    def _check(self, status: PMRSTS) -> None:
        if status.err:
            raise NvmeError(
                f"{_NAME} of {self._name} reports the error {status.err:#x} (PMRSTS.ERR): what was "
                "written last may be lost, see the vendor's manual"
            )

    def _wait(self, what: str, *, nrdy: int) -> PMRSTS:
        unit = _TIME_UNITS.get(int(self.pmrcap.pmrtu), 0.5)
        seconds = min(max(self.pmrcap.pmrto * unit, _FLOOR_SECONDS), _MOST_SECONDS)
        deadline = time.monotonic() + seconds
        while True:
            status = self._registers.read(PMRSTS)
            if status.nrdy == nrdy:
                return status
            if time.monotonic() > deadline:
                raise NvmeTimeoutError(
                    f"{_NAME} of {self._name} did not {what} within {seconds:g} s (PMRSTS "
                    f"{int(status):#x}): reset the device, or power it off and on"
                )
            time.sleep(0.001)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def forget_persistent_memory(registers: RegisterFile) -> None:
    """Let no address lead to it; which whoever had the controller before may have left so."""
    if registers.read(CAP).pmrs and registers.read(PMRMSCL).cmse:
        registers.write(PMRMSCL(0))
        registers.write(PMRMSCU(0))
