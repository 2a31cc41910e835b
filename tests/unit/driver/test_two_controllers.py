"""What belongs to one controller is of no use to another, and is refused before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from generator_rig import generator
from soft_controller import OK, SoftController
from workload_rig import COMMANDS

from pynvme_user import Controller, DmaBuffer, Namespace, QueuePair
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.transport.pcie import PcieTransport
from pynvme_user.workload.loop import Workload


class Rig:
    """Two controllers; what the first was sent."""

    def __init__(self, soft: SoftController, ours: Controller, others: Controller) -> None:
        self.sent: list[int] = []
        soft.io = self._look
        self.ours = ours
        self.others = others

    def _look(self, sqe: SQE) -> Status:
        self.sent.append(sqe.opc)
        return OK


@pytest.fixture
def rig(soft: SoftController, ctrl: Controller) -> Iterator[Rig]:
    with Controller(PcieTransport(SoftController())) as other:
        yield Rig(soft, ctrl, other)


def reaped(qp: QueuePair, submitted: int) -> None:
    """Reap a batch of one."""
    assert submitted == 1
    assert len(qp.reap(None).check().tags) == 1


NAMESPACES: dict[str, Callable[[QueuePair, Namespace, DmaBuffer], object]] = {
    "submit_read": lambda qp, ns, buffer: qp.submit_read(ns, 0, 1, buffer),
    "submit_write": lambda qp, ns, buffer: qp.submit_write(ns, 0, 1, buffer),
    "submit_compare": lambda qp, ns, buffer: qp.submit_compare(ns, 0, 1, buffer),
    "submit_write_zeroes": lambda qp, ns, _: qp.submit_write_zeroes(ns, 0, 1),
    "submit_deallocate": lambda qp, ns, _: qp.submit_deallocate(ns, [(0, 1)]),
    "submit_flush": lambda qp, ns, _: qp.submit_flush(ns),
    "submit_many": lambda qp, ns, buffer: reaped(
        qp, qp.submit_many(ns, NvmOpcode.READ, [0], 1, buffer, 0)
    ),
    "a buffer for each": lambda qp, ns, buffer: reaped(
        qp, qp.submit_many(ns, NvmOpcode.READ, [0], 1, [buffer])
    ),
    "flush in a batch": lambda qp, ns, _: reaped(qp, qp.submit_many(ns, NvmOpcode.FLUSH, 0, 0)),
    "read_many": lambda qp, ns, buffer: qp.read_many(ns, [0], 1, buffer),
    "write_many": lambda qp, ns, buffer: qp.write_many(ns, [0], 1, buffer),
    "no I/O at all": lambda qp, ns, buffer: qp.write_many(ns, [], 1, buffer),
    "run_vector": lambda qp, ns, buffer: qp.run_vector(
        NvmOpcode.READ,
        ns,
        np.zeros(1, np.uint64),
        np.array([buffer.iova], np.uint64),
        blocks=1,
        last_blocks=1,
        geometry=ns.current(),
        owner=buffer,
    ),
}


@pytest.mark.parametrize("way", NAMESPACES)
def test_another_controllers_namespace(rig: Rig, way: str) -> None:
    with rig.ours.queue_pair(4) as pair:
        with pytest.raises(ValueError, match="namespace 1 is one of soft, which is another contr"):
            NAMESPACES[way](pair, rig.others.namespaces[1], rig.ours.alloc(512))
        assert pair.outstanding == 0
        NAMESPACES[way](pair, rig.ours.namespaces[1], rig.ours.alloc(512))
        pair.drain()
    assert len(rig.sent) == (way != "no I/O at all")


BUFFERS: dict[str, Callable[[QueuePair, Namespace, DmaBuffer], object]] = {
    name: NAMESPACES[name]
    for name in (
        "submit_read",
        "submit_write",
        "submit_compare",
        "submit_many",
        "a buffer for each",
        "read_many",
        "write_many",
    )
} | {
    "raw": lambda qp, ns, buffer: qp.submit(SQE.build(opc=NvmOpcode.READ, nsid=1), buffer),
    "run_vector": NAMESPACES["run_vector"],
}


@pytest.mark.parametrize(
    ("way", "form"),
    [
        *((way, form) for way in BUFFERS for form in ("buffer", "slice")),
        *((way, "plain array") for way in BUFFERS if way != "run_vector"),
    ],
)
def test_another_controllers_buffer(rig: Rig, way: str, form: str) -> None:
    buffer = rig.others.alloc(1024)
    given = {"buffer": buffer[:512], "slice": buffer[512:], "plain array": buffer.array[:512]}
    with rig.ours.queue_pair(4) as pair:
        with pytest.raises(ValueError, match="the device does not reach this buffer"):
            BUFFERS[way](pair, rig.ours.namespaces[1], given[form])
        assert pair.outstanding == 0
    assert not rig.sent


def test_a_workload_of_another_controller(rig: Rig) -> None:
    buffer = rig.others.alloc(4 * 512)
    work = Workload(
        generator("read"), commands=COMMANDS, buffer=buffer, queue_depth=4, block_shift=9
    )
    geometry = rig.ours.namespaces[1].current()
    with rig.ours.queue_pair(4) as pair:
        for _ in range(2):
            with pytest.raises(ValueError, match="the device does not reach this buffer"):
                pair.run_loop(work, 1_000_000, geometry=geometry, owner=buffer)
        # Another buffer to keep does not change where its I/Os go.
        with pytest.raises(ValueError, match="the device does not reach this buffer"):
            pair.run_loop(work, 1_000_000, geometry=geometry, owner=rig.ours.alloc(4 * 512))
    assert not rig.sent


def test_calls_copy_what_only_another_controller_reaches(rig: Rig) -> None:
    """As any memory that the device does not reach."""
    buffer = rig.others.alloc(4096)
    ns = rig.ours.namespaces[1]
    for call in (ns.read_into, ns.write_from, ns.compare):
        for _ in range(2):
            call(0, buffer)
    rig.ours.io(NvmOpcode.READ, nsid=1, buffer=buffer)
    rig.ours.admin(0x06, cdw10=1, buffer=buffer)
    assert len(rig.sent) == 7
    assert bytes(buffer) == bytes(rig.ours.identify)


def test_a_queue_pair_that_another_controller_is_to_delete(rig: Rig) -> None:
    with rig.ours.queue_pair(4) as pair, rig.others.queue_pair(4) as other:
        assert pair.qid == other.qid
        rig.others._queue_pairs.release(pair)
        other.submit_flush(rig.others.namespaces[1])
        assert other.drain()[0].status.ok
        pair.submit_flush(rig.ours.namespaces[1])
        assert pair.drain()[0].status.ok
