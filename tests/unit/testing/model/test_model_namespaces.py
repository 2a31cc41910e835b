"""Namespaces of the model: made, attached, formatted; and what Identify says of them."""

from __future__ import annotations

import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller, Namespace, NamespaceChangedError
from pynvme_user.spec.admin import Cns, FormatCdw10, SecureErase
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode, CommandSetId
from pynvme_user.spec.events import AsyncEventType, NoticeEvent
from pynvme_user.spec.identify import IdentifyNamespace, NamespaceIdentifiers, decode_namespace_list
from pynvme_user.spec.identify_lists import ControllerList, EnduranceGroupList, NvmSetList
from pynvme_user.spec.identify_pages import IDENTIFY_PAGES
from pynvme_user.spec.logs import ChangedNamespaceList
from pynvme_user.spec.management import CapacityOperation
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.spec.support import ADMIN_NEEDS
from pynvme_user.testing import SoftDevice

S, G = CommandSpecificStatus, GenericStatus
#: Of exports and live migration.
NOT_MODELLED = {Cns.UNDERLYING_NAMESPACES, Cns.PORTS, Cns.CONTROLLER_STATE_FORMATS}


def ids(ctrl: Controller, cns: Cns) -> list[int]:
    return decode_namespace_list(ctrl.identify_page(cns))


def test_every_page_of_identify(ctrl: Controller) -> None:
    for (cns, csi), page in IDENTIFY_PAGES.items():
        nsid = 1 if page.nsid and "ID List" not in page.name else 0
        zoned = csi == CommandSetId.ZONED and cns != Cns.CSI_CONTROLLER
        if cns in NOT_MODELLED or zoned:  # namespace 1 is not zoned
            with refused(G.INVALID_FIELD):
                ctrl.identify_page(cns, nsid=nsid, csi=csi or 0)
        else:
            page.structure.from_bytes(ctrl.identify_page(cns, nsid=nsid, csi=csi or 0))
    for wrong in ({"cns": 0xFF}, {"cns": 1, "csi": 2}, {"cns": Cns.NAMESPACE_FORMAT, "cnssid": 60}):
        with refused(G.INVALID_FIELD):
            ctrl.identify_page(**wrong)


def test_identify_tells_of_what_there_is(ctrl: Controller) -> None:
    told = {need.field for needs in ADMIN_NEEDS.values() for need in needs}
    assert "oacs" in told
    assert not ctrl.identify.oacs.dbcs
    assert not ctrl.identify.oacs.hmlms
    assert ctrl.identify.tnvmcap == 4 << 20
    assert ctrl.identify.unvmcap == 3 << 20


def test_the_life_of_a_namespace(ctrl: Controller) -> None:
    nsid = ctrl.create_namespace(100, 1)
    assert nsid == 2
    assert ids(ctrl, Cns.ACTIVE_NAMESPACES) == [1]
    assert ids(ctrl, Cns.ALLOCATED_NAMESPACES) == [1, 2]
    assert not any(ctrl.identify_page(Cns.NAMESPACE, nsid=2))
    page = IdentifyNamespace.from_bytes(ctrl.identify_page(Cns.ALLOCATED_NAMESPACE, nsid=2))
    assert (page.nsze, 1 << page.lbaf.ds) == (100, 4096)
    with refused(G.INVALID_FIELD):
        ctrl.io(2, nsid=2, buffer=bytearray(4096))
    ctrl.attach_namespace(2)
    with refused(S.NAMESPACE_ALREADY_ATTACHED):
        ctrl.attach_namespace(2)
    ns = ctrl.namespaces[2]
    ns.write(99, b"2" * 4096)
    assert ns.read(98, 2) == bytes(4096) + b"2" * 4096
    assert list(ctrl.namespaces) == [1, 2]
    one, other = (NamespaceIdentifiers.from_bytes(ctrl.identify_page(3, nsid=n)) for n in (1, 2))
    assert one.uuid != other.uuid
    listed = ControllerList.from_bytes(ctrl.identify_page(Cns.NAMESPACE_CONTROLLERS, nsid=2))
    assert list(listed) == [ctrl.identify.cntlid]
    ctrl.detach_namespace(2)
    with refused(S.NAMESPACE_NOT_ATTACHED):
        ctrl.detach_namespace(2)
    assert list(ctrl.namespaces) == [1]
    ctrl.attach_namespace(2)
    assert ctrl.namespaces[2].read(99, 1) == b"2" * 4096
    ctrl.delete_namespace(2)
    assert list(ctrl.namespaces) == [1]
    # Its blocks are zeroes for who has them next.
    ctrl.attach_namespace(ctrl.create_namespace(100, 1))
    assert not any(ctrl.namespaces[2].read(99, 1))


def test_namespace_1_goes_and_comes(ctrl: Controller, ns: Namespace) -> None:
    ns.write(0, b"1" * 512)
    ctrl.delete_namespace(NSID_ALL)
    assert list(ctrl.namespaces) == []
    with refused(G.INVALID_FIELD):
        ctrl.io(2, nsid=1, buffer=bytearray(512))
    assert ctrl.create_namespace(16) == 1
    ctrl.attach_namespace(1)
    again = ctrl.namespaces[1]
    assert again.block_count == 16
    assert not any(again.read(0, 1))
    again.write(15, b"2" * 512)
    with pytest.raises(NamespaceChangedError):
        ns.read(0, 1)


def test_what_cannot_be_made(ctrl: Controller) -> None:
    for code, options in (
        (S.NAMESPACE_INSUFFICIENT_CAPACITY, {"blocks": 7000}),
        (S.THIN_PROVISIONING_NOT_SUPPORTED, {"blocks": 8, "capacity": 4}),
        (S.INVALID_FORMAT, {"blocks": 8, "lbaf": 40}),
        (S.INVALID_FORMAT, {"blocks": 8, "protection": 1}),
        (S.IOCS_NOT_SUPPORTED, {"blocks": 8, "csi": CommandSetId.ZONED}),
        (S.ANA_GROUP_ID_INVALID, {"blocks": 8, "ana_group": 5}),
        (G.INVALID_FIELD, {"blocks": 8, "endurance_group": 9}),
        (G.INVALID_FIELD, {"blocks": 0}),
    ):
        with refused(code):
            ctrl.create_namespace(**options)  # type: ignore[arg-type]
    for nsid, code in ((9, G.INVALID_FIELD), (200, G.INVALID_NAMESPACE_OR_FORMAT)):
        with refused(code):
            ctrl.delete_namespace(nsid)
        with refused(code):
            ctrl.attach_namespace(nsid)
    with refused(S.CONTROLLER_LIST_INVALID):
        ctrl.attach_namespace(1, [99])
    with refused(S.CONTROLLER_LIST_INVALID):
        ctrl.attach_namespace(1, [])
    with refused(G.INVALID_FIELD):
        ctrl.admin(AdminOpcode.NAMESPACE_MANAGEMENT, cdw10=7)
    while len(ids(ctrl, Cns.ALLOCATED_NAMESPACES)) < 32:
        ctrl.create_namespace(1)
    with refused(S.NAMESPACE_ID_UNAVAILABLE):
        ctrl.create_namespace(1)


# --- format ---------------------------------------------------------------------------------------


def test_another_block_size(ctrl: Controller, ns: Namespace) -> None:
    ns.write(0, b"x" * 512)
    ctrl.format(1, 1)
    with pytest.raises(NamespaceChangedError, match="from 512 bytes to 4096"):
        ns.read(0, 1)
    now = ctrl.namespaces[1]
    assert (now.block_size, now.block_count) == (4096, 256)
    assert not any(now.read(0, 256))
    now.write(255, b"y" * 4096)
    ctrl.format(1, 0, erase=SecureErase.USER_DATA)
    last = ctrl.namespaces[1]
    assert (last.block_size, last.block_count) == (512, 2048)
    assert not any(last.read(2040, 8))


def test_a_format_with_metadata(ctrl: Controller) -> None:
    index = next(n for n, form in enumerate(ctrl.namespaces[1].identify.lbafs) if form.ms == 8)
    ctrl.format(1, index, protection=1, protection_first=True)
    page = ctrl.namespaces[1].identify
    assert (page.lbaf.ms, page.dps.pit, page.dps.pip, page.flbas.mtelba) == (8, 1, 1, 0)
    ctrl.format(NSID_ALL, index, extended=True)
    page = ctrl.namespaces[1].identify
    assert (page.dps, page.flbas.mtelba, page.format_index) == (0, 1, index)


def test_illegal_formats(ctrl: Controller) -> None:
    for cdw10 in (FormatCdw10.build(lbafl=15), FormatCdw10.build(pi=1), FormatCdw10.build(lbafu=3)):
        with refused(S.INVALID_FORMAT):
            ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=cdw10)
    with refused(G.INVALID_FIELD):
        ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1, cdw10=FormatCdw10.build(ses=5))
    with refused(G.INVALID_FIELD):
        ctrl.format(2)


# --- two controllers ------------------------------------------------------------------------------


def test_another_controller_of_the_subsystem(device: SoftDevice, ctrl: Controller) -> None:
    assert device.model
    other = SoftDevice("?commands=all", subsystem=device.model.subsystem)
    with nvme.open(other) as second:
        assert (ctrl.identify.cntlid, second.identify.cntlid) == (0, 1)
        assert list(second.namespaces) == []
        with refused(S.NAMESPACE_IS_PRIVATE):
            ctrl.attach_namespace(1, [1])
        nsid = ctrl.create_namespace(64, shared=True)
        with second.events() as events:
            ctrl.attach_namespace(nsid, [0, 1])
            event = events.wait(5)
            assert event is not None
            assert event.result.aet == AsyncEventType.NOTICE
            assert event.result.aei == NoticeEvent.ATTACHED_NAMESPACE_ATTRIBUTE_CHANGED
            assert isinstance(event.log, ChangedNamespaceList)
            assert list(event.log) == [nsid]
            mine, theirs = ctrl.namespaces[nsid], second.namespaces[nsid]
            mine.write(3, b"from one " * 56 + b"to other")
            assert theirs.read(3, 1) == mine.read(3, 1)
            ctrl.format(nsid, 1)
            assert events.wait(5) is not None
            assert second.namespaces[nsid].block_size == 4096
            ctrl.detach_namespace(nsid, [1])
            assert events.wait(5) is not None
        assert list(second.namespaces) == []
    # With the other gone, the first one goes on.
    ctrl.namespaces[1].write(0, bytes(512))


def test_the_memory_outlasts_the_first_controller() -> None:
    device = SoftDevice("?size=1M&commands=all")
    assert device.model
    other = SoftDevice("?commands=all", subsystem=device.model.subsystem)
    with nvme.open(other) as second:
        with nvme.open(device) as first:
            assert not first.identify.unvmcap
            first.delete_namespace(1)
            first.create_namespace(8, shared=True)
            first.attach_namespace(1, [0, 1])
            first.namespaces[1].write(0, b"!" * 512)
        assert second.namespaces[1].read(0, 1) == b"!" * 512
    with pytest.raises(nvme.DeviceNameError, match="commands=all"):
        SoftDevice("", subsystem=device.model.subsystem)


# --- capacity -------------------------------------------------------------------------------------


def test_capacity(ctrl: Controller) -> None:
    group = ctrl.capacity_management(CapacityOperation.CREATE_ENDURANCE_GROUP, capacity=1 << 20)
    nvm_set = ctrl.capacity_management(CapacityOperation.CREATE_NVM_SET, group, capacity=1 << 16)
    page = EnduranceGroupList.from_bytes(ctrl.identify_page(Cns.ENDURANCE_GROUPS))
    assert list(page) == [1, group]
    sets = NvmSetList.from_bytes(ctrl.identify_page(Cns.NVM_SETS))
    assert [(each.nsetid, each.endgid) for each in sets] == [(1, 1), (nvm_set, group)]
    with refused(S.INSUFFICIENT_CAPACITY):
        ctrl.capacity_management(CapacityOperation.CREATE_NVM_SET, group, capacity=1 << 30)
    ctrl.capacity_management(CapacityOperation.DELETE_ENDURANCE_GROUP, group)
    assert len(NvmSetList.from_bytes(ctrl.identify_page(Cns.NVM_SETS))) == 1
    for operation, element in (
        (CapacityOperation.DELETE_ENDURANCE_GROUP, 1),
        (CapacityOperation.DELETE_NVM_SET, nvm_set),
        (CapacityOperation.SELECT_CAPACITY_CONFIGURATION, 1),
    ):
        with refused(G.INVALID_FIELD):
            ctrl.capacity_management(operation, element)
