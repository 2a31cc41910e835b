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

#: Two of the virtual functions enabled.
ENABLED = f"{NAME}&sriov_numvfs=2"

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


# --- opened ---------------------------------------------------------------------------------------


@pytest.fixture
def primary() -> Iterator[Controller]:
    with nvme.open(ENABLED) as ctrl:
        yield ctrl


def test_virtual_functions_read_and_write_while_the_physical_one_works(primary: Controller) -> None:
    ns = primary.namespaces[1]
    ids = [entry.scid for entry in primary.secondary_controllers()]
    for number in (1, 2):
        told = primary.bring_online(ids[number - 1], queues=3, interrupts=2, force=True)
        assert (told.scs.onl, told.nvq, told.nvi) == (1, 3, 2)
    with primary.sibling(1) as one, primary.sibling(2) as two:
        assert [ctrl.identify.cntlid for ctrl in (one, two)] == ids[:2]
        assert one.identify.subnqn == primary.identify.subnqn
        assert one.max_queue_pairs == 2
        for lba, ctrl in enumerate((primary, one, two)):
            ctrl.namespaces[1].write(lba, bytes([lba + 1]) * ns.block_size)
        for ctrl in (primary, one, two):
            found = ctrl.namespaces[1].read(0, 3)
            assert found == b"".join(bytes([n]) * ns.block_size for n in (1, 2, 3))
        one.reset()
        one.transport.reset()
        one.reset()
        assert one.namespaces[1].read(2, 1) == two.namespaces[1].read(2, 1)
    primary.take_offline(ids[0], force=True)
    assert [entry.scs.onl for entry in primary.secondary_controllers()] == [0, 1, 0]


def test_one_that_is_offline_is_not_opened(primary: Controller) -> None:
    for _ in range(2):
        with pytest.raises(NvmeError, match=r"a virtual function that is offline .*bring_online"):
            primary.sibling(1)
    primary.bring_online(primary.secondary_controllers()[0].scid, force=True)
    with primary.sibling(1) as ctrl:
        assert ctrl.namespaces[1].read(0, 1)


def test_one_whose_primary_controller_is_reset(primary: Controller) -> None:
    """It is offline from then on; brought online again, it opens again."""
    scid = primary.secondary_controllers()[0].scid
    primary.bring_online(scid, queues=3, interrupts=2, force=True)
    with primary.sibling(1) as ctrl:
        assert ctrl.namespaces[1].read(0, 1)
    primary.transport.reset()
    primary.reset()
    assert [entry.scs.onl for entry in primary.secondary_controllers()] == [0, 0, 0]
    primary.bring_online(scid, queues=3, interrupts=2, force=True)
    with primary.sibling(1) as ctrl:
        assert ctrl.namespaces[1].read(0, 1)


def test_more_than_there_are() -> None:
    with pytest.raises(nvme.DeviceAccessError, match="has no SR-IOV: give it sriov_max_vfs=2"):
        nvme.open("qemu:?size=1M&sriov_numvfs=2")
    with pytest.raises(nvme.DeviceAccessError, match="not 4, but at most 3"):
        nvme.open(f"{NAME}&sriov_numvfs=4")
