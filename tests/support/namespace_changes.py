"""Formats a namespace under its users, and the ways in which they use it."""

from __future__ import annotations

from collections.abc import Callable

from soft_controller import OK, SoftController

from pynvme_user import DmaBuffer, Namespace, QueuePair
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.status import Status


def batch(ns: Namespace, qp: QueuePair, buffer: DmaBuffer) -> None:
    """Submit a batch of one, and reap it."""
    assert qp.submit_many(ns, NvmOpcode.READ, 0, 8, buffer, 0) == 1
    assert len(qp.reap(None).check().tags) == 1


WAYS: dict[str, Callable[[Namespace, QueuePair, DmaBuffer], object]] = {
    "read_into": lambda ns, qp, buffer: ns.read_into(0, buffer),
    "write_from": lambda ns, qp, buffer: ns.write_from(0, buffer),
    "with FUA": lambda ns, qp, buffer: ns.read_into(0, buffer, True),
    "compare": lambda ns, qp, buffer: ns.compare(0, buffer),
    "read": lambda ns, qp, buffer: ns.read(0, 8),
    "write of bytes": lambda ns, qp, buffer: ns.write(0, bytes(4096)),
    "split": lambda ns, qp, buffer: ns.read_into(0, ns.controller.alloc(64 << 10)),
    "write_zeroes": lambda ns, qp, buffer: ns.write_zeroes(0, 8),
    "deallocate": lambda ns, qp, buffer: ns.deallocate([(0, 8)]),
    "submit_read": lambda ns, qp, buffer: qp.submit_read(ns, 0, 8, buffer),
    "submit_write": lambda ns, qp, buffer: qp.submit_write(ns, 0, 8, buffer),
    "submit_write_zeroes": lambda ns, qp, buffer: qp.submit_write_zeroes(ns, 0, 8),
    "submit_deallocate": lambda ns, qp, buffer: qp.submit_deallocate(ns, [(0, 8)]),
    "batch": batch,
    "read_many": lambda ns, qp, buffer: qp.read_many(ns, [0], 8, buffer),
    "write_many": lambda ns, qp, buffer: qp.write_many(ns, [0], 8, buffer),
}


def reformat(soft: SoftController, **fields: int) -> Callable[[SQE], Status]:
    """Let each Format NVM change the LBA format."""

    def admin(sqe: SQE) -> Status:
        if sqe.opc == AdminOpcode.FORMAT_NVM:
            soft.lbaf = LbaFormat.build(**({"ds": 9} | fields))
        return OK

    return admin


def count(soft: SoftController) -> list[int]:
    """Count the I/O commands that the device gets."""
    seen: list[int] = []

    def look(sqe: SQE) -> Status:
        seen.append(sqe.opc)
        return OK

    soft.io = look
    return seen
