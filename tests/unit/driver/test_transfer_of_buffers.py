"""One command that is waited for, by the namespace's calls: which memory, where, and whose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from pool_rig import pooled, usable
from soft_controller import BLOCKS, OK, SoftController

from pynvme_user import (
    Controller,
    DeviceRemovedError,
    NvmeError,
    NvmeStatusError,
)
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import Status
from pynvme_user.transport.pcie import PcieTransport


def test_the_same_buffer_of_a_view(soft: SoftController, ctrl: Controller) -> None:
    """Views of a DmaBuffer go where they lie."""
    seen: list[tuple[int, int, int]] = []
    soft.io = lambda sqe: seen.append((sqe.cdw10, sqe.cdw12, sqe.prp1)) or OK
    buffer = ctrl.alloc(4096)
    ns = ctrl.namespaces[1]
    ns.read_into(3, buffer[512:1536])
    ns.read_into(BLOCKS - 1, buffer[-512:])
    ns.write_from(4, buffer.view(np.uint32)[128:256])
    assert seen == [
        (3, 1, buffer.iova + 512),
        (BLOCKS - 1, 0, buffer.iova + 3584),
        (4, 0, buffer.iova + 512),
    ]


def test_errors_name_the_command(soft: SoftController, ctrl: Controller) -> None:
    soft.io = lambda _: HOST_ABORTED
    with pytest.raises(NvmeStatusError, match=r"Read of 1 blocks from LBA 7 on \(namespace 1\)"):
        ctrl.namespaces[1].read_into(7, ctrl.alloc(512))
    soft.io = lambda _: Status(0x285)
    with pytest.raises(NvmeError, match="Compare of 1 blocks from LBA 7 on"):
        ctrl.namespaces[1].compare(7, ctrl.alloc(512))


def test_a_negative_lba_is_refused_by_name(ctrl: Controller) -> None:
    buffer = ctrl.alloc(512)
    ctrl.namespaces[1].read_into(0, buffer)
    pair = pooled(ctrl)
    for lba in (-1, 1 << 64):
        with pytest.raises(ValueError, match="are not all in namespace 1"):
            ctrl.namespaces[1].read_into(lba, buffer)
    assert pair.waiter.pinned == ()
    assert pooled(ctrl) is pair
    usable(ctrl)


def test_a_buffer_of_another_controller_is_copied(
    soft: SoftController, ctrl: Controller, impatient: None
) -> None:
    """Its address means nothing, or something else, to this device."""
    seen: list[int] = []

    def look(sqe: SQE) -> Status:
        seen.append(sqe.prp1)
        return OK

    with Controller(PcieTransport(SoftController())) as other:
        other_use = other.alloc(1 << 20)  # so that the two pools do not number alike
        buffer = other.alloc(512)
        other.namespaces[1].read_into(0, buffer)
        other.namespaces[1].read_into(0, buffer)  # what a transfer of it takes is known now
        soft.io = look
        ctrl.namespaces[1].write(0, buffer)
        assert len(seen) == 1
        assert buffer.iova not in seen
        assert other_use.iova != buffer.iova
        with ctrl.queue_pair(3) as pair, pytest.raises(ValueError, match="does not reach"):
            pair.submit_read(ctrl.namespaces[1], 0, 1, buffer)


def test_buffers_and_operations_in_turn(soft: SoftController, ctrl: Controller) -> None:
    """Only what differs from the last transfer is written: each goes where it should."""
    seen: list[tuple[int, int, int, int, int]] = []
    soft.io = lambda sqe: seen.append((sqe.opc, sqe.cdw10, sqe.cdw12, sqe.prp1, sqe.prp2)) or OK
    ns = ctrl.namespaces[1]
    small, large = ctrl.alloc(512), ctrl.alloc(2048)
    expected = []
    for lba, (opc, buffer, fua) in enumerate(
        product((NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE), (small, large), (False, True))
    ):
        move = {NvmOpcode.READ: ns.read_into, NvmOpcode.WRITE: ns.write_from}.get(opc, ns.compare)
        for _ in range(2):
            move(lba, buffer, fua=fua)
            cdw12 = buffer.nbytes // 512 - 1 | fua << 30
            expected.append((opc, lba, cdw12, buffer.iova, 0))
    assert seen == expected


def test_after_a_reset_nothing_is_there(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []
    soft.io = lambda sqe: seen.append(sqe.prp1) or OK
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    for _ in range(2):
        ns.read_into(0, buffer)
        ctrl.reset()
        ns.read_into(0, buffer)
    assert seen == [buffer.iova] * 4


def test_memory_that_becomes_read_only(ctrl: Controller) -> None:
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    for _ in range(2):
        ns.read_into(0, buffer)
    buffer.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        ns.read_into(0, buffer)
    ns.write_from(0, buffer)


def test_what_only_looks_like_a_buffer(ctrl: Controller) -> None:
    """Any object may have a ``mapping``."""
    ns = ctrl.namespaces[1]
    ns.read_into(0, ctrl.alloc(512))

    class Lookalike(bytearray):
        mapping = (ctrl.dma, 0, 512)

    data = Lookalike(b"\xee" * 512)
    ns.read_into(0, data)
    assert data == bytes(512)


def test_no_transfer_once_the_device_is_gone(soft: SoftController, ctrl: Controller) -> None:
    seen: list[int] = []
    soft.io = lambda sqe: seen.append(sqe.cdw10) or OK
    ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
    ns.read_into(1, buffer)
    ctrl._recovery.mark_removed()
    with pytest.raises(DeviceRemovedError):
        ns.read_into(2, buffer)
    assert seen == [1]
