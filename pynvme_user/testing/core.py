"""The software controller in C (_controller.h); the only importer of its extension.

Who serves it gives it doorbells, memory and interrupts: device.py in this process,
vfio_user_server.py to others.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pynvme_user.errors import ClosedError
from pynvme_user.testing._controller_cffi import ffi, lib
from pynvme_user.testing.pages import PAGE, identify_pages

__all__ = ["DOORBELLS", "FAULTS", "REGISTERS", "USES", "Core", "Options", "OwnMemory", "ffi", "lib"]

#: Of BAR0: the registers, before the doorbells.
REGISTERS = 0x1000
#: Where CAP.DSTRD is 0.
DOORBELLS = 0x1000
#: Faults of data by their names in options, and what each is in C.
FAULTS = {
    "none": lib.CONTROLLER_EXECUTE,
    "read-flip": lib.CONTROLLER_READ_FLIP,
    "write-flip": lib.CONTROLLER_WRITE_FLIP,
    "torn": lib.CONTROLLER_TORN_WRITE,
    "lost": lib.CONTROLLER_LOST_WRITE,
    "misdirected": lib.CONTROLLER_MISDIRECTED,
    "stale": lib.CONTROLLER_STALE_READ,
    "status": lib.CONTROLLER_STATUS,
    "kept": lib.CONTROLLER_KEPT_TRIM,
}
#: What may lie in memory of the controller's own, by the names of CMBSZ's fields.
USES = {
    "sqs": lib.CONTROLLER_SQS,
    "cqs": lib.CONTROLLER_CQS,
    "lists": lib.CONTROLLER_LISTS,
    "rds": lib.CONTROLLER_RDS,
    "wds": lib.CONTROLLER_WDS,
}
_INTERNAL_ERROR = 0x4006


@dataclass(frozen=True)
class Options:
    """What a controller is: see struct controller_config. Times are in microseconds.

    ``slow`` is what each so-many-th I/O command takes instead of ``delay``, and that number;
    ``fault`` its kind, in each so-many-th command, and its value.
    """

    size: int = 1 << 30
    block_size: int = 512
    queues: int = 128
    mqes: int = 0xFFFF
    mdts: int = 5
    dstrd: int = 0
    version: int = 0x20000
    to: int = 10
    delay: float = 0.0
    slow: tuple[float, int] = (0.0, 0)
    in_turn: bool = False
    shadow: bool = False
    fault: tuple[str, int, int] = ("none", 0, 0)


@dataclass(frozen=True)
class OwnMemory:
    """Memory of the controller's own: ``length`` bytes at ``address``, the caller's.

    ``uses`` is what may lie there, enum controller_use. It is always at ``at`` for the controller,
    or, where that is 0, where its registers say.
    """

    address: int
    length: int
    uses: int
    at: int = 0


class Core:
    """A controller, disabled at first, until :meth:`close`. Its calls may come from any thread.

    ``storage`` is the address of its namespace's bytes; None: it has none. ``doorbells`` that of
    zeroed memory for them.
    ``wait`` is how its thread waits, enum controller_wait; None: it has no thread, and
    ``controller_doorbell`` executes. With ``model`` the function of that name is asked about what C
    does not do. ``cmb`` is its Controller Memory Buffer, ``pmr`` its Persistent Memory Region, of
    which ``uses`` is the register PMRCAP. Raises ValueError for options that no
    controller has.
    """

    def __init__(
        self,
        options: Options,
        storage: int | None,
        doorbells: int,
        *,
        wait: int | None,
        model: bool = False,
        cmb: OwnMemory | None = None,
        pmr: OwnMemory | None = None,
    ) -> None:
        shift = options.block_size.bit_length() - 1
        blocks = options.size >> shift
        #: Functions of rules, by what C knows each by.
        self._answers: dict[int, Callable[[Any], int]] = {}
        self._numbers = itertools.count(1)  # 0 is the model's
        #: Executes a command that C does not: see `model` of struct controller_config.
        self.model: Callable[[Any], int] = lambda call: _INTERNAL_ERROR
        self._keys: dict[int, int] = {}  # of them, by the rule's id
        self._answering: int | None = None  # the thread that does
        self._context = ffi.new_handle(self)
        config = ffi.new("struct controller_config *")
        config.storage = ffi.cast("uint8_t *", storage or 0)
        config.blocks = blocks
        config.block_shift = shift
        config.mqes = options.mqes
        config.queues = options.queues
        config.mdts = options.mdts
        config.dstrd = options.dstrd
        config.version = options.version
        config.to = options.to
        config.delay_ns = int(options.delay * 1000)
        config.slow_ns = int(options.slow[0] * 1000)
        config.slow_every = options.slow[1]
        config.in_turn = options.in_turn
        config.shadow = options.shadow
        config.doorbells = ffi.cast("uint32_t *", doorbells)
        config.answer = lib.testing_answer
        config.model = model
        config.context = self._context
        if pmr is not None:
            config.pmr = ffi.cast("uint8_t *", pmr.address)
            config.pmr_length, config.pmrcap = pmr.length, pmr.uses
        if cmb is not None:
            config.cmb = ffi.cast("uint8_t *", cmb.address)
            config.cmb_length, config.cmb_uses, config.cmb_at = cmb.length, cmb.uses, cmb.at
        self._handle = lib.controller_new(config)
        if not self._handle:
            raise ValueError(f"there is no controller of {options}")
        try:
            for cns, per_namespace, page in identify_pages(
                blocks=blocks,
                block_shift=shift,
                mdts=options.mdts,
                shadow=options.shadow,
                model="memory" if storage else "null",
            ):
                self.set_page(cns, page, per_namespace=per_namespace)
            kind, every, value = options.fault
            if every:
                opcode = -2 if kind == "status" else -1
                self.add_rule(
                    action=FAULTS[kind], opcode=opcode, nth=every, every=every, value=value
                )
            if wait is not None:
                err = lib.controller_start(self._handle, wait)
                if err:
                    raise OSError(-err, os.strerror(-err))
        except BaseException:
            self.close()
            raise

    @property
    def handle(self) -> Any:
        """The C structure, to change something. Raises ClosedError once it is gone."""
        self.check_caller()
        return self._look

    @property
    def _look(self) -> Any:
        """The C structure, to look at."""
        if not self._handle:
            raise ClosedError("the software controller is closed: make another")
        return self._handle

    def check_caller(self) -> None:
        """Raise RuntimeError in a rule's function."""
        if self._answering == threading.get_ident():
            raise RuntimeError("a rule's function answers, and calls nothing of its device")

    @property
    def address(self) -> int:
        """Where the C structure is, the context of its doorbells."""
        return int(ffi.cast("uintptr_t", self.handle))

    def close(self) -> None:
        """End its thread and free it; memory that the caller gave is his. Safe to call twice."""
        self.check_caller()
        handle, self._handle = self._handle, None
        if handle:
            lib.controller_free(handle)
        self._answers.clear()

    # Registers, memory, interrupts

    def read(self, offset: int, width: int) -> int:
        """Read a register of 4 or 8 bytes. Raises OSError for what is none."""
        value = ffi.new("uint64_t *")
        self._check(lib.controller_read(self._look, offset, width, value))
        return int(value[0])

    def write(self, offset: int, width: int, value: int) -> None:
        """Write one."""
        self._check(lib.controller_write(self.handle, offset, width, value))

    def ring(self, offset: int, value: int) -> None:
        """Write the doorbell so many bytes behind the first."""
        self._check(lib.controller_doorbell(self.handle, offset, value))

    def map(self, iova: int, length: int, address: int) -> None:
        """Let it reach memory. Raises OSError."""
        self._check(lib.controller_map(self.handle, iova, length, ffi.cast("void *", address)))

    def unmap(self, iova: int, length: int) -> int:
        """Take memory back; return where it is. Raises KeyError for what is not mapped."""
        address = lib.controller_unmap(self.handle, iova, length)
        if not address:
            raise KeyError(iova)
        return int(ffi.cast("uintptr_t", address))

    def set_command(self, command: int) -> None:
        """Tell the PCI command register."""
        lib.controller_set_command(self.handle, command)

    def set_event(self, vector: int, fd: int) -> None:
        """Give an interrupt vector its eventfd; -1 takes it away."""
        lib.controller_set_event(self.handle, vector, fd)

    def reset(self) -> None:
        """Reset it as the bus does."""
        lib.controller_reset(self.handle)

    # What it says and does

    def set_page(self, cns: int, page: bytes, *, per_namespace: bool = False) -> None:
        """Give the page of 4096 bytes that Identify returns for ``cns``."""
        if len(page) != PAGE:
            raise ValueError(f"an Identify page has {PAGE} bytes, not {len(page)}")
        self._check(lib.controller_set_page(self.handle, cns, per_namespace, page))

    def add_rule(
        self,
        *,
        action: int,
        queues: int = lib.CONTROLLER_IO,
        opcode: int = -1,
        qid: int = -1,
        lba: int = 0,
        blocks: int = 0,
        nth: int = 1,
        every: int = 1,
        times: int = 0,
        delay_ns: int = 0,
        value: int = 0,
        answer: Callable[[Any], int] | None = None,
    ) -> int:
        """Add a rule: see struct controller_rule. Returns its id. Raises OSError.

        ``answer`` is the function of CONTROLLER_ANSWER: it is given the struct controller_call.
        """
        if answer is not None:
            # Before C knows the rule: it may be asked at once.
            value = next(self._numbers)
            self._answers[value] = answer
        rule = ffi.new("struct controller_rule *")
        rule.action, rule.queues, rule.opcode, rule.qid = action, queues, opcode, qid
        rule.lba, rule.blocks, rule.nth, rule.every = lba, blocks, nth, every
        rule.times, rule.delay_ns, rule.value = times, delay_ns, value
        number = int(self._check(lib.controller_add_rule(self.handle, rule)))
        if answer is not None:
            self._keys[number] = value
        return number

    def remove_rule(self, number: int) -> None:
        """Remove a rule, if it is still there."""
        lib.controller_remove_rule(self.handle, number)
        if number in self._keys:
            del self._answers[self._keys.pop(number)]

    def counts(self, number: int) -> tuple[int, int]:
        """How many commands matched a rule, and in how many of them it acted.

        Raises KeyError for one that was removed.
        """
        rule = ffi.new("struct controller_rule *")
        if lib.controller_get_rule(self._look, number, rule):
            raise KeyError(number)
        return int(rule.seen), int(rule.acted)

    def kept(self) -> Iterator[tuple[int, bytes]]:
        """Queue and 64 bytes of each command that is kept."""
        sqe, qid = ffi.new("uint8_t[64]"), ffi.new("uint32_t *")
        for index in itertools.count():
            if lib.controller_get_kept(self._look, index, sqe, qid):
                return
            yield int(qid[0]), bytes(ffi.buffer(sqe))

    def end(self, qid: int, cid: int, status: int) -> None:
        """End a command that does not end by itself. Raises OSError."""
        self._check(lib.controller_end(self.handle, qid, cid, status))

    def post(self, qid: int, cid: int, status: int, dw0: int) -> None:
        """Post a completion. Raises OSError."""
        self._check(lib.controller_post(self.handle, qid, cid, status, dw0))

    def queues(self) -> tuple[set[int], set[int]]:
        """Tell the ids of the submission and of the completion queues that there are."""
        found = ffi.new("uint8_t[]", lib.CONTROLLER_QUEUES)
        lib.controller_get_queues(self._look, found)
        bits = list(enumerate(ffi.buffer(found)[:]))
        return {n for n, there in bits if there & 1}, {n for n, there in bits if there & 2}

    def release(self, status: int) -> int:
        """End what is kept; return how many commands that were."""
        return int(lib.controller_release(self.handle, status))

    def event(self, dw0: int) -> bool:
        """End an Asynchronous Event Request; False if there is none."""
        return not lib.controller_event(self.handle, dw0)

    def set_quirks(self, quirks: int) -> None:
        """Set what it does wrong besides commands: CONTROLLER_NEVER_READY and so on."""
        lib.controller_set_quirks(self.handle, quirks)

    def set_pmrsts(self, pmrsts: int) -> None:
        """Say what PMRSTS has."""
        lib.controller_set_pmrsts(self.handle, pmrsts)

    def fail(self) -> None:
        """Let it report a fatal error."""
        lib.controller_set_fatal(self.handle)

    def log(self) -> Any:
        """Return what it counted: struct controller_log."""
        log = ffi.new("struct controller_log *")
        lib.controller_get_log(self._look, log)
        return log

    def _check(self, result: int) -> int:
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    # What the model calls, in an answer and elsewhere.

    def ask_events(self) -> None:
        """Have the model asked again about Asynchronous Event Requests that are kept."""
        lib.controller_ask_events(self._look)

    def set_namespace(self, address: int, blocks: int, block_shift: int) -> None:
        """Say what namespace 1 is; no blocks leave its I/O to the model."""
        at = ffi.cast("uint8_t *", address)
        lib.controller_set_namespace(self._look, at, blocks, block_shift)

    def end_kept(self, qid: int, cid: int, status: int) -> bool:
        """End a command that does not end by itself; False if there is none."""
        return not lib.controller_end(self._look, qid, cid, status)

    def _answer(self, call: Any) -> int:
        if not call.value:
            return self.model(call)
        answer = self._answers.get(call.value)
        if answer is None:
            return int(lib.CONTROLLER_ANSWER_EXECUTE)
        self._answering = threading.get_ident()
        try:
            return answer(call)
        finally:
            self._answering = None


def _failed(kind: Any, error: BaseException, trace: Any) -> None:
    """Tell of an error in a rule's function; its command ends with Internal Error."""
    sys.unraisablehook(
        SimpleNamespace(
            exc_type=kind,
            exc_value=error,
            exc_traceback=trace,
            err_msg="Exception in a rule of the software controller",
            object=None,
        )
    )


@ffi.def_extern("testing_answer", _INTERNAL_ERROR, _failed)  # type: ignore[untyped-decorator]
def _testing_answer(context: Any, call: Any) -> int:
    core: Core = ffi.from_handle(context)
    return core._answer(call)
