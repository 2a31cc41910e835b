"""What a primary controller sends to bring secondary controllers online, and lists of many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pynvme_user as nvme
from pynvme_user import Cns, Controller
from pynvme_user.spec.identify_controller_bits import OACS
from pynvme_user.spec.identify_lists import (
    CRT,
    SCS,
    PrimaryControllerCapabilities,
    SecondaryController,
)
from pynvme_user.spec.management import (
    VirtualizationAction,
    VirtualizationManagementCdw10,
    VirtualizationResource,
)
from pynvme_user.testing import Command, SoftDevice, faults

VQ, VI = VirtualizationResource
OFFLINE, ASSIGN, ONLINE = list(VirtualizationAction)[1:]
Sent = list[tuple[int, int, int, int]]


def listed(*entries: SecondaryController) -> bytes:
    page = bytes([len(entries)]).ljust(32, b"\0") + b"".join(map(bytes, entries))
    return page.ljust(4096, b"\0")


@pytest.fixture
def device() -> SoftDevice:
    device = SoftDevice("?size=1M")
    device.set_identify(
        Cns.SECONDARY_CONTROLLERS, listed(SecondaryController.build(scid=7, scs=SCS.build(onl=1)))
    )
    return device


@pytest.fixture
def sent(device: SoftDevice) -> Sent:
    """Action, controller, resource and count of each command."""
    found: Sent = []

    def answer(command: Command) -> int:
        cdw10 = VirtualizationManagementCdw10(command.sqe.cdw10)
        found.append((cdw10.act, cdw10.cntlid, cdw10.rt, command.sqe.cdw11))
        return 0

    device.order(faults.answer(answer), opc=0x1C, admin=True)
    return found


@pytest.fixture
def ctrl(device: SoftDevice, sent: Sent) -> Iterator[Controller]:
    with nvme.open(device) as ctrl:
        page = ctrl.identify.replace(oacs=OACS.build(vms=1))
        ctrl._device.identify = page
        yield ctrl


def primary(device: SoftDevice, **fields: int) -> None:
    page = PrimaryControllerCapabilities.build(**fields)
    device.set_identify(Cns.PRIMARY_CONTROLLER_CAPABILITIES, bytes(page))


CLEARED = [(OFFLINE, 7, VQ, 0), (ASSIGN, 7, VQ, 0), (ASSIGN, 7, VI, 0)]


@pytest.mark.parametrize(
    ("fields", "asked", "given"),
    [
        ({"vqfrt": 9, "vqfrsm": 4, "vifrt": 9, "vifrsm": 3}, {}, (4, 3)),
        ({"vqfrt": 9, "vqrfa": 7, "vqfrsm": 4, "vifrt": 1, "vifrsm": 3}, {}, (2, 1)),
        ({"vqfrt": 9, "vqfrsm": 4}, {"queues": 3, "interrupts": 5}, (3, 5)),
    ],
)
def test_it_is_given_what_it_needs_and_brought_online(
    ctrl: Controller,
    device: SoftDevice,
    sent: Sent,
    fields: dict[str, int],
    asked: dict[str, int],
    given: tuple[int, int],
) -> None:
    primary(device, crt=CRT.build(vqrs=1, virs=1), **fields)
    assert ctrl.bring_online(7, **asked).scs.onl
    queues, interrupts = given
    assert sent == [
        *CLEARED,
        (ASSIGN, 7, VQ, queues),
        (ASSIGN, 7, VI, interrupts),
        (ONLINE, 7, VQ, 0),
    ]


def test_resources_that_are_not_flexible_are_left(
    ctrl: Controller, device: SoftDevice, sent: Sent
) -> None:
    primary(device, crt=CRT.build(vqrs=1), vqfrt=2, vqfrsm=2)
    ctrl.bring_online(7)
    assert sent[len(CLEARED) :] == [(ASSIGN, 7, VQ, 2), (ONLINE, 7, VQ, 0)]


def test_more_of_them_than_a_page_has(ctrl: Controller, device: SoftDevice) -> None:
    """The controller gives those from the id asked for on."""
    pages = {0: range(1, 128), 128: range(128, 131)}
    asked: list[int] = []
    identify = ctrl.identify_page

    def page(cns: int, *, cntid: int = 0) -> bytes:
        asked.append(cntid)
        return listed(*(SecondaryController.build(scid=scid) for scid in pages[cntid]))

    ctrl.identify_page = page  # type: ignore[method-assign]
    assert [entry.scid for entry in ctrl.secondary_controllers()] == list(range(1, 131))
    assert asked == [0, 128]
    # One that gives the same page again is asked no further.
    ctrl.identify_page = lambda cns, *, cntid=0: listed(  # type: ignore[method-assign]
        *(SecondaryController.build(scid=scid) for scid in range(1, 128))
    )
    assert len(ctrl.secondary_controllers()) == 127
    ctrl.identify_page = identify  # type: ignore[method-assign]
