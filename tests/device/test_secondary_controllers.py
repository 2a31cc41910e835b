"""Secondary controllers of QEMU's: virtual functions that are not enabled, and their resources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pynvme_user as nvme
from pynvme_user import Controller, NotSupportedError, NvmeError, NvmeStatusError
from pynvme_user.spec.management import VirtualizationAction, VirtualizationResource

NAME = (
    "qemu:?size=16M&subsys.nqn=nqn.2014-08.org.example:vf&sriov_max_vfs=3&sriov_vq_flexible=12"
    "&sriov_vi_flexible=6&max_ioqpairs=16&msix_qsize=17"
)

pytestmark = pytest.mark.usefixtures("qemu")


@pytest.fixture
def ctrl() -> Iterator[Controller]:
    with nvme.open(NAME) as ctrl:
        yield ctrl


def test_what_the_primary_controller_has_to_give(ctrl: Controller) -> None:
    told = ctrl.primary_capabilities()
    assert told.cntlid == ctrl.identify.cntlid
    assert (told.crt.vqrs, told.crt.virs) == (1, 1)
    assert (told.vqfrt, told.vifrt) == (12, 6)
    assert (told.vqrfa, told.virfa) == (0, 0)


def test_secondary_controllers(ctrl: Controller) -> None:
    found = ctrl.secondary_controllers()
    assert [entry.vfn for entry in found] == [1, 2, 3]
    assert len({entry.scid for entry in found}) == 3
    assert {entry.pcid for entry in found} == {ctrl.identify.cntlid}
    assert [(entry.scs.onl, entry.nvq, entry.nvi) for entry in found] == [(0, 0, 0)] * 3


def test_resources_come_and_go(ctrl: Controller) -> None:
    first, second, _ = (entry.scid for entry in ctrl.secondary_controllers())
    for resource, count in ((VirtualizationResource.VQ, 4), (VirtualizationResource.VI, 2)):
        given = ctrl.virtualization_management(
            first,
            VirtualizationAction.SECONDARY_ASSIGN,
            resource=resource,
            count=count,
            force=True,  # QEMU has the command and does not say so (OACS)
        )
        assert given == count
    entries = {entry.scid: entry for entry in ctrl.secondary_controllers()}
    assert (entries[first].nvq, entries[first].nvi) == (4, 2)
    assert (entries[second].nvq, entries[second].nvi) == (0, 0)
    told = ctrl.primary_capabilities()
    assert (told.vqrfa, told.virfa) == (4, 2)
    ctrl.take_offline(first, force=True)
    told = ctrl.primary_capabilities()
    assert (told.vqrfa, told.virfa) == (0, 0)


def test_one_whose_function_is_not_enabled_stays_offline(ctrl: Controller) -> None:
    scid = ctrl.secondary_controllers()[0].scid
    with pytest.raises(NvmeStatusError, match="Invalid Secondary Controller State"):
        ctrl.bring_online(scid, queues=2, interrupts=1, force=True)
    (entry, *_) = ctrl.secondary_controllers()
    assert (entry.scs.onl, entry.nvq, entry.nvi) == (0, 2, 1)


def test_none_of_that_id(ctrl: Controller) -> None:
    known = ", ".join(str(entry.scid) for entry in ctrl.secondary_controllers())
    with pytest.raises(NvmeError, match=f"no secondary controller 999: there are {known}"):
        ctrl.bring_online(999)


def test_a_command_of_which_the_controller_says_nothing(ctrl: Controller) -> None:
    if ctrl.identify.oacs.vms:
        pytest.skip("this QEMU says that it has Virtualization Management")
    scid = ctrl.secondary_controllers()[0].scid
    for use in (ctrl.bring_online, ctrl.take_offline):
        with pytest.raises(NotSupportedError, match="Virtualization Management Supported"):
            use(scid)
