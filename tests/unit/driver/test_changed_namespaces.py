"""Commands that may change namespaces: what was known of them is not trusted any more."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from generator_rig import endless
from namespace_changes import WAYS, count, reformat
from soft_controller import OK, SoftController, keep_reads, namespace_list
from workload_rig import COMMANDS

from pynvme_user import (
    Completion,
    Controller,
    DeviceRemovedError,
    DmaBuffer,
    Namespace,
    NamespaceChangedError,
    NvmeError,
    NvmeStatusError,
    NvmeTimeoutError,
    QueuePair,
    VectorResult,
)
from pynvme_user.driver.admin import CHANGE_NAMESPACES
from pynvme_user.driver.geometry import Geometry
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.identify import IdentifyNamespace, LbaFormat
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.workload.loop import Workload


@pytest.mark.parametrize("how", ["format", "reset"])
@pytest.mark.parametrize("way", WAYS)
def test_another_block_size(soft: SoftController, ctrl: Controller, way: str, how: str) -> None:
    """Nothing is sent whose length is computed from the size before; a new object has the new."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(4096)
    with ctrl.queue_pair(4) as pair:
        WAYS[way](ns, pair, buffer)
        pair.drain()
        if how == "format":
            soft.admin = reformat(soft, ds=12)
            ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        else:
            soft.lbaf = LbaFormat.build(ds=12)
            ctrl.reset()
        seen = count(soft)
        for _ in range(2):
            with pytest.raises(
                NamespaceChangedError,
                match=r"namespace 1 was formatted: its block size changed from 512 bytes to 4096: "
                r"take it anew, as namespaces\[1\]",
            ):
                WAYS[way](ns, pair, buffer)
        assert not seen
        assert pair.outstanding == 0
        again = ctrl.namespaces[1]
        assert again is not ns
        assert again.block_size == 4096
        again.read_into(0, buffer)
        assert seen == [NvmOpcode.READ]


@pytest.mark.parametrize("way", WAYS)
def test_the_same_format(soft: SoftController, ctrl: Controller, way: str) -> None:
    """It is identified again, once, and goes on."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(4096)
    soft.admin = reformat(soft)
    with ctrl.queue_pair(4) as pair:
        for _ in range(3):
            ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
            asked = identified(soft)
            WAYS[way](ns, pair, buffer)
            pair.drain()
            WAYS[way](ns, pair, buffer)
            pair.drain()
            assert asked.count(Cns.NAMESPACE) == 1
    ns.read_into(0, buffer)


@pytest.mark.parametrize("event", ["the same format", "another format", "reset"])
@pytest.mark.parametrize("way", ["read_many", "write_many", "split"])
def test_just_before_many_begin(
    soft: SoftController,
    ctrl: Controller,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    event: str,
) -> None:
    """After the caller looked and before the first I/O: no reason to end where nothing is new."""
    run_made = QueuePair.run_made
    begun: list[int] = []

    def late(pair: QueuePair, *args: Any, **options: Any) -> VectorResult | None:
        begun.append(len(begun))
        if begun == [0]:
            if event == "reset":
                ctrl.reset()
            else:
                ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        return run_made(pair, *args, **options)

    monkeypatch.setattr(QueuePair, "run_made", late)
    ns = ctrl.namespaces[1]
    soft.admin = reformat(soft, ds=12 if event == "another format" else 9)
    seen = count(soft)
    with ctrl.queue_pair(4) as pair:
        if event == "another format":
            with pytest.raises(NamespaceChangedError, match="its block size changed"):
                WAYS[way](ns, pair, ctrl.alloc(4096))
            assert begun == [0]
            assert not seen
        else:
            WAYS[way](ns, pair, ctrl.alloc(4096))
            assert begun == [0, 1]
            assert seen
        assert pair.outstanding == 0


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way.startswith("submit_") or way in ("write_zeroes",)]
)
def test_between_the_checks_and_the_submission(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What was checked against the old format is not sent to the new one."""
    formats: list[Completion] = []

    def late(check: Callable[..., None]) -> Callable[..., None]:
        def checked(geometry: Geometry, lba: int, blocks: int) -> None:
            check(geometry, lba, blocks)
            if not formats:
                formats.append(ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1))

        return checked

    ns = ctrl.namespaces[1]
    soft.admin = reformat(soft, ds=12)
    seen = count(soft)
    with ctrl.queue_pair(4) as pair:
        buffer = ctrl.alloc(4096)
        monkeypatch.setattr(Geometry, "check_range", late(Geometry.check_range))
        monkeypatch.setattr(Geometry, "check_transfer", late(Geometry.check_transfer))
        with pytest.raises(NamespaceChangedError, match="its block size changed"):
            WAYS[way](ns, pair, buffer)
        assert formats
        assert pair.outstanding == 0
        assert not seen


def identified(soft: SoftController) -> list[int]:
    """Note what is identified."""
    asked: list[int] = []

    def note(sqe: SQE) -> None:
        asked.append(sqe.cdw10 & 0xFF)

    soft.identify = note
    return asked


def test_another_size(soft: SoftController, ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(512)
    for blocks in (500, 2000):
        soft.blocks = blocks
        ctrl.admin(AdminOpcode.NAMESPACE_MANAGEMENT, nsid=1)
        ns.read_into(blocks - 1, buffer)
        assert ns.block_count == ns.identify.nsze == blocks
        for call in (ns.read_into, ns.write_from):
            with pytest.raises(ValueError, match=f"which has blocks 0 to {blocks - 1}"):
                call(blocks, buffer)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"lbafs": [LbaFormat.build(ds=9, ms=8)]}, "its metadata changed from 0 bytes to 8"),
        ({"flbas": 16}, "its metadata or protection information is another"),
        ({"dps": 1}, "its metadata or protection information is another"),
        ({"nguid": bytes(range(16))}, "is another one now, with another NGUID or EUI64"),
        ({"eui64": bytes(range(8))}, "is another one now, with another NGUID or EUI64"),
    ],
)
def test_what_else_makes_it_another(
    soft: SoftController, ctrl: Controller, fields: dict[str, object], what: str
) -> None:
    ns = ctrl.namespaces[1]

    def identify(sqe: SQE) -> bytes | None:
        if sqe.cdw10 & 0xFF != Cns.NAMESPACE:
            return None
        return bytes(IdentifyNamespace.from_bytes(soft._page(sqe)).replace(**fields))  # type: ignore[arg-type]

    soft.identify = identify
    ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
    with pytest.raises(NamespaceChangedError, match=what):
        ns.read_into(0, ctrl.alloc(512))


@pytest.mark.parametrize("how", ["page of zeroes", "error"])
def test_not_active_any_more(soft: SoftController, ctrl: Controller, how: str) -> None:
    """Also when the id is active again later: for all that this object knows it is another one."""
    ns = ctrl.namespaces[1]
    soft.identify = lambda sqe: {
        Cns.NAMESPACE: bytes(4096),
        Cns.ACTIVE_NAMESPACES: namespace_list([]),
    }.get(Cns(sqe.cdw10 & 0xFF))
    if how == "error":
        missing = Status.of(GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
        soft.admin = lambda sqe: OK if sqe.cdw10 & 0xFF or sqe.opc != 6 else missing
    ctrl.admin(AdminOpcode.NAMESPACE_ATTACHMENT, nsid=1)
    with pytest.raises(NamespaceChangedError, match="is not active any more"):
        ns.read(0, 1)
    with pytest.raises(KeyError, match="active are: none"):
        ctrl.namespaces[1]
    soft.identify = lambda _: None
    soft.admin = lambda _: OK
    ctrl.admin(AdminOpcode.NAMESPACE_ATTACHMENT, nsid=1)
    with pytest.raises(NamespaceChangedError, match="is not active any more"):
        ns.read(0, 1)
    assert ctrl.namespaces.ids == [1]
    ctrl.namespaces[1].read(0, 1)


def test_an_identify_that_fails_is_tried_again(soft: SoftController, ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    ctrl.admin(AdminOpcode.SANITIZE)
    busy = Status.of(GenericStatus.INTERNAL_ERROR)
    soft.admin = lambda sqe: busy if sqe.opc == AdminOpcode.IDENTIFY else OK
    for _ in range(2):
        with pytest.raises(NvmeStatusError, match=r"Identify .* Internal Error"):
            ns.read(0, 1)
    soft.admin = lambda _: OK
    ns.read(0, 1)


@pytest.mark.parametrize("opcode", [*sorted(CHANGE_NAMESPACES), "others"])
def test_which_commands(soft: SoftController, ctrl: Controller, opcode: AdminOpcode | str) -> None:
    ns = ctrl.namespaces[1]
    if opcode == "others":
        for other in (AdminOpcode.GET_FEATURES, AdminOpcode.FIRMWARE_DOWNLOAD, 0xC0):
            ctrl.admin(other, buffer=bytearray(4))
        assert ns.geometry.current
        assert ctrl.namespaces[1] is ns
    else:
        ctrl.admin(int(opcode))
        assert not ns.geometry.current
        assert ctrl.namespaces[1] is not ns


def test_it_failed(soft: SoftController, ctrl: Controller) -> None:
    """Whatever its outcome: part of it may have been done."""
    ns = ctrl.namespaces[1]

    def admin(sqe: SQE) -> Status:
        if sqe.opc != AdminOpcode.FORMAT_NVM:
            return OK
        soft.lbaf = LbaFormat.build(ds=12)
        return Status.of(GenericStatus.INTERNAL_ERROR)

    soft.admin = admin
    with pytest.raises(NvmeStatusError):
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
    with pytest.raises(NamespaceChangedError):
        ns.read(0, 1)


def test_it_is_not_answered(soft: SoftController, ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    soft.admin = lambda sqe: None if sqe.opc == AdminOpcode.FORMAT_NVM else OK
    with pytest.raises(NvmeTimeoutError):
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, timeout=0.1)
    soft.lbaf = LbaFormat.build(ds=12)
    with pytest.raises(NamespaceChangedError):
        ns.read(0, 1)
    assert ctrl.namespaces[1].block_size == 4096


def test_ctrl_c(soft: SoftController, ctrl: Controller) -> None:
    """The namespace is identified only after the end of the command that nobody waits for."""
    ns = ctrl.namespaces[1]
    order: list[str] = []
    kept: list[SQE] = []

    def admin(sqe: SQE) -> Status | None:
        if sqe.opc == AdminOpcode.FORMAT_NVM:
            kept.append(sqe)
            return None
        order.append(AdminOpcode(sqe.opc).name)
        return OK

    def answer() -> None:
        soft.lbaf = LbaFormat.build(ds=12)
        order.append("formatted")
        soft.complete(soft._queues[0], kept[0], OK)

    soft.admin = admin
    main = threading.main_thread().ident
    assert main is not None
    ctrl_c = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
    ctrl_c.join()
    timer = threading.Timer(0.2, answer)
    timer.start()
    with pytest.raises(NamespaceChangedError):
        ns.read(0, 1)
    timer.join()
    assert order == ["formatted", "IDENTIFY"]


# --- what is outstanding ------------------------------------------------------------------------


def test_what_is_outstanding_ends_first(soft: SoftController, ctrl: Controller) -> None:
    """Rung or not: the device sees the command after it, and its owner finds its outcome."""
    order: list[int] = []

    def io(sqe: SQE) -> Status:
        order.append(sqe.cdw10)
        return Status(0x281) if sqe.cdw10 == 2 else OK

    def admin(sqe: SQE) -> Status:
        if sqe.opc == AdminOpcode.FORMAT_NVM:
            order.append(-1)
        return OK

    soft.io, soft.admin = io, admin
    ns = ctrl.namespaces[1]
    with ctrl.queue_pair(4) as pair, ctrl.queue_pair(4) as other:
        cids = [pair.submit_read(ns, lba, 1, ctrl.alloc(512)) for lba in (1, 2)]
        pair.ring()
        cids.append(pair.submit_read(ns, 3, 1, ctrl.alloc(512)))
        there = other.submit_read(ns, 4, 1, ctrl.alloc(512))
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        assert order[-1] == -1
        assert sorted(order[:-1]) == [1, 2, 3, 4]
        assert [(done.cid, int(done.status)) for done in pair.drain()] == [
            (cid, 0x281 if n == 1 else 0) for n, cid in enumerate(cids)
        ]
        assert [done.cid for done in other.poll()] == [there]
        assert pair.poll() == other.poll() == []


def test_what_never_ends_is_aborted_first(soft: SoftController, ctrl: Controller) -> None:
    ctrl.timeout = 0.2
    soft.io = keep_reads
    soft.abort_answer = False
    with ctrl.queue_pair(4) as pair:
        pair.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        (done,) = pair.drain()
        assert done.timed_out
    assert ctrl.resets == 1


@pytest.fixture
def formatting(soft: SoftController, ctrl: Controller) -> Iterator[Callable[[], None]]:
    """Begin to format in another thread, once I/O runs."""
    threads = []

    def format_now(sqe: SQE) -> Status | None:
        soft.io = succeed
        thread = threading.Thread(
            target=ctrl.admin, args=(AdminOpcode.FORMAT_NVM,), kwargs={"nsid": 1}
        )
        thread.start()
        threads.append(thread)
        return succeed(sqe)

    succeed = soft.io

    def begin() -> None:
        soft.io = format_now

    soft.admin = reformat(soft)
    yield begin
    for thread in threads:
        thread.join()


def test_a_vector(soft: SoftController, ctrl: Controller, formatting: Callable[[], None]) -> None:
    """It ends with an error, nothing is outstanding, and the queue pair can go on."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(8 * 512)
    with ctrl.queue_pair(8) as pair:
        formatting()
        lbas = np.arange(1 << 20) % 1000
        with pytest.raises(
            NamespaceChangedError, match="namespace 1 may have changed while I/O ran on it"
        ):
            pair.read_many(ns, lbas, 1, buffer, recycle=True)
        assert pair.outstanding == 0
        assert pair.poll() == []
        pair.read_many(ns, range(20), 1, buffer, recycle=True).check()


def test_a_workload(soft: SoftController, ctrl: Controller, formatting: Callable[[], None]) -> None:
    """All that was submitted has its end; a log that is full is no reason to wait."""
    ns = ctrl.namespaces[1]
    buffer = ctrl.alloc(8 * 512)
    work = Workload(
        endless(), commands=COMMANDS, buffer=buffer, queue_depth=8, block_shift=9, records=16
    )
    geometry = ns.current()
    with ctrl.queue_pair(8) as pair:
        while len(work.take_records()) < 16:
            pair.run_loop(work, 1_000_000, geometry=geometry, owner=buffer)
        pair.run_loop(work, 20_000_000, geometry=geometry, owner=buffer)
        assert pair.outstanding == 8
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        assert pair.outstanding == 0
        with pytest.raises(NamespaceChangedError):
            pair.run_loop(work, 1_000_000, geometry=geometry, owner=buffer)
        assert work.completed == work.submitted
        assert len(work.take_records()) == 24
        work.go_on()
        pair.run_loop(work, 1_000_000, geometry=ns.current(), owner=buffer)
        work.stop()
        while not pair.run_loop(work, 1_000_000, geometry=ns.current(), owner=buffer):
            pass


def test_formats_beside_threads(soft: SoftController, ctrl: Controller) -> None:
    """No command ever reaches the device whose length is of another block size than it has now."""
    wrong: list[object] = []
    stop = threading.Event()
    done = dict.fromkeys(WAYS, 0)

    def io(sqe: SQE) -> Status:
        if sqe.opc == NvmOpcode.DATASET_MANAGEMENT:
            length = int.from_bytes(soft.data(sqe, 16)[4:8], "little") << soft.lbaf.ds
        else:
            length = ((sqe.cdw12 & 0xFFFF) + 1) << soft.lbaf.ds
        if length != 4096 and (length != 16384 or sqe.opc != NvmOpcode.READ):
            wrong.append((sqe, soft.lbaf.ds))
        return OK

    def admin(sqe: SQE) -> Status:
        if sqe.opc == AdminOpcode.FORMAT_NVM:
            soft.lbaf = LbaFormat.build(ds=0)  # nothing that is sent now is right
            time.sleep(0.002)
            soft.lbaf = LbaFormat.build(ds=sqe.cdw10)
        return OK

    def work(names: list[str], pair: QueuePair) -> None:
        buffer = ctrl.alloc(4096)
        try:
            with pair:
                while not stop.is_set():
                    for name in names:
                        try:
                            ns = ctrl.namespaces[1]
                            blocks = 4096 >> ns.block_shift
                            THREAD_WAYS[name](ns, pair, buffer, blocks)
                            pair.drain()
                            done[name] += 1
                        except NamespaceChangedError:
                            pair.drain()
        except BaseException as error:
            wrong.append(error)

    soft.io, soft.admin = io, admin
    names = list(THREAD_WAYS)
    # Before the first single call, which takes one of the four that there are.
    pairs = [ctrl.queue_pair(4) for _ in range(3)]
    threads = [
        threading.Thread(target=work, args=(names[n::3], pair)) for n, pair in enumerate(pairs)
    ]
    for thread in threads:
        thread.start()
    formats = 0
    end = time.monotonic() + 60
    while formats < 30 or (
        min(done[name] for name in names) < 5 and not wrong and time.monotonic() < end
    ):
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=(12, 9)[formats % 2])
        formats += 1
        time.sleep(0.003)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(done[name] for name in names) >= 5


THREAD_WAYS: dict[str, Callable[[Namespace, QueuePair, DmaBuffer, int], object]] = {
    "read_into": lambda ns, qp, buffer, blocks: ns.read_into(0, buffer),
    "write of bytes": lambda ns, qp, buffer, blocks: ns.write(0, bytes(4096)),
    "split": lambda ns, qp, buffer, blocks: ns.read_into(0, ns.controller.alloc(64 << 10)),
    "write_zeroes": lambda ns, qp, buffer, blocks: ns.write_zeroes(0, blocks),
    "submit_read": lambda ns, qp, buffer, blocks: qp.submit_read(ns, 0, blocks, buffer),
    "submit_deallocate": lambda ns, qp, buffer, blocks: qp.submit_deallocate(ns, [(0, blocks)]),
    "read_many": lambda ns, qp, buffer, blocks: qp.read_many(ns, [0], blocks, buffer),
}


def test_a_reset_while_an_io_is_made(soft: SoftController, ctrl: Controller) -> None:
    """Resets beside all that may be under way: what is refused is refused by our errors."""
    stop = threading.Event()
    wrong: list[BaseException] = []
    ns = ctrl.namespaces[1]

    def work(name: str) -> None:
        buffer = ctrl.alloc(4096)
        with ctrl.queue_pair(4) as pair:
            while not stop.is_set():
                try:
                    THREAD_WAYS[name](ns, pair, buffer, 8)
                    pair.drain()
                except NvmeError:
                    pass
                except BaseException as error:
                    wrong.append(error)
                    return

    threads = [
        threading.Thread(target=work, args=(name,))
        for name in ("read_into", "submit_read", "read_many")
    ]
    for thread in threads:
        thread.start()
    for _ in range(15):
        time.sleep(0.005)
        ctrl.reset()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    ns.read(0, 1)


def test_ctrl_c_before_it_is_sent(soft: SoftController, ctrl: Controller) -> None:
    """It waits for what is outstanding: given up meanwhile, it never reaches the device."""
    sent: list[int] = []

    def admin(sqe: SQE) -> Status:
        sent.append(sqe.opc)
        return OK

    ns = ctrl.namespaces[1]
    soft.io = keep_reads
    with ctrl.queue_pair(4) as pair:
        cid = pair.submit_read(ns, 0, 1, ctrl.alloc(512))
        soft.admin = admin
        main = threading.main_thread().ident
        assert main is not None
        ctrl_c = threading.Timer(0.25, signal.pthread_kill, (main, signal.SIGINT))
        ctrl_c.start()
        with pytest.raises(KeyboardInterrupt):
            ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
        ctrl_c.join()
        assert not sent
        soft.complete(*soft.kept.pop(), Status(0x281))
        assert [(done.cid, int(done.status)) for done in pair.drain()] == [(cid, 0x281)]
        soft.io = lambda _: OK
        ns.read(0, 1)
        pair.submit_read(ns, 0, 1, ctrl.alloc(512))
        assert pair.drain()[0].status.ok


def test_gone_before_it_is_sent(soft: SoftController, ctrl: Controller) -> None:
    soft.io = keep_reads
    pair = ctrl.queue_pair(4)
    pair.submit_read(ctrl.namespaces[1], 0, 1, ctrl.alloc(512))
    soft.gone = True
    with pytest.raises(DeviceRemovedError):
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1)
    with pytest.raises(DeviceRemovedError):
        pair.poll()
