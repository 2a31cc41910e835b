"""Raw commands with as much data as one carries, both ways, on both kinds of queue."""

from __future__ import annotations

import numpy as np
import pytest
from soft_controller import OK, SoftController

from pynvme_user import Controller
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode, NvmOpcode
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.status import Status
from pynvme_user.transport.pcie import PcieTransport

LARGEST = 2 << 20


def set_mdts(soft: SoftController, mdts: int) -> None:
    def identify(sqe: SQE) -> bytes | None:
        if sqe.cdw10 & 0xFF != Cns.CONTROLLER:
            return None
        page = IdentifyController.from_bytes(soft._page(sqe))
        return bytes(page.replace(mdts=mdts))

    soft.identify = identify


def pattern(length: int) -> bytes:
    return np.random.default_rng(length).bytes(length)


def send(ctrl: Controller, soft: SoftController, kind: str, buffer: object, length: int) -> None:
    """Run a command of this class on the buffer."""
    dwords = length // 4 - 1
    match kind:
        case "admin, from the controller":
            fields = {"cdw10": (dwords & 0xFFFF) << 16 | 0x07, "cdw11": dwords >> 16}
            ctrl.admin(AdminOpcode.GET_LOG_PAGE, buffer=buffer, **fields)  # type: ignore[arg-type]
        case "admin, to the controller":
            ctrl.admin(AdminOpcode.FIRMWARE_DOWNLOAD, buffer=buffer, cdw10=dwords)
        case "I/O, from the controller":

            def fill(sqe: SQE) -> Status:
                soft.fill(sqe, soft.log_page)
                return OK

            soft.io = fill
            ctrl.io(NvmOpcode.ZONE_MANAGEMENT_RECEIVE, nsid=1, buffer=buffer, cdw12=dwords)
        case "I/O, to the controller":

            def take(sqe: SQE) -> Status:
                soft.given = soft.data(sqe, length)
                return OK

            soft.io = take
            ctrl.io(NvmOpcode.RESERVATION_REGISTER, nsid=1, buffer=buffer)


@pytest.mark.parametrize("mdts", [0, 1, 2, 5, 9, 12])
@pytest.mark.parametrize("offset", [0, 4, 2048, 4092, None])
@pytest.mark.parametrize("queue", ["admin", "I/O"])
@pytest.mark.parametrize("way", ["from the controller", "to the controller"])
def test_the_largest_transfer(
    soft: SoftController, mdts: int, offset: int | None, queue: str, way: str
) -> None:
    """At any offset in a page, and from memory that the device does not reach."""
    set_mdts(soft, mdts)
    with Controller(PcieTransport(soft)) as ctrl:
        length = min(4096 << mdts, LARGEST) if mdts else LARGEST
        assert ctrl.max_transfer == length
        data = pattern(length)
        if offset is None:
            memory = buffer = np.zeros(length, np.uint8)
        else:
            memory = ctrl.alloc(length + 8192)
            buffer = memory[offset:][:length]
        if way == "from the controller":
            soft.log_page = data
            send(ctrl, soft, f"{queue}, {way}", buffer, length)
            assert bytes(buffer) == data
            assert memory.sum() == buffer.sum()  # and nothing beside it
        else:
            buffer[:] = np.frombuffer(data, np.uint8)
            send(ctrl, soft, f"{queue}, {way}", buffer, length)
            assert soft.given == data
        with pytest.raises(ValueError, match=f"one command carries up to {length} bytes"):
            send(ctrl, soft, f"{queue}, {way}", bytearray(length + 4), length + 4)


def test_a_reset_brings_another_mdts(soft: SoftController) -> None:
    """As new firmware does: what a command carries is found out again, lists included."""
    set_mdts(soft, 3)
    with Controller(PcieTransport(soft)) as ctrl, ctrl.queue_pair(4) as pair:
        assert ctrl.max_transfer == 32 << 10
        for mdts in (8, 2):
            set_mdts(soft, mdts)
            ctrl.reset()
            assert ctrl.max_transfer == 4096 << mdts
            soft.log_page = pattern(ctrl.max_transfer)
            soft.io = lambda sqe: soft.fill(sqe, soft.log_page) or OK
            buffer = ctrl.alloc(ctrl.max_transfer + 4)[4:]
            pair.submit(SQE.build(opc=NvmOpcode.ZONE_MANAGEMENT_RECEIVE, nsid=1), buffer)
            (done,) = pair.drain()
            assert done.status.ok
            assert bytes(buffer) == soft.log_page
