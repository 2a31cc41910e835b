"""What QEMU's controller has when its name asks for it: data placement, atomicity, secondary ones.

What an older QEMU does not know is skipped; QEMU 10.0 runs all.
"""

from __future__ import annotations

import pytest
from qemu_options import PLACEMENT, SECONDARY, open_with

from pynvme_user import AdminOpcode, FeatureId, Namespace, NvmeStatusError, NvmOpcode
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.directives import DirectiveType
from pynvme_user.spec.fdp import ReclaimUnitHandleDescriptor
from pynvme_user.spec.feature_dwords import FdpEventsCdw11, FdpEventsCdw12
from pynvme_user.spec.logs import (
    FdpConfigurationsLog,
    FdpEventsLog,
    FdpEventType,
    FdpStatisticsLog,
    LogId,
    ReclaimUnitHandleUsageLog,
)
from pynvme_user.spec.management import VirtualizationAction, VirtualizationResource
from pynvme_user.spec.nvm import ReadWriteCdw13, WriteCdw12
from pynvme_user.spec.status import GenericStatus

pytestmark = pytest.mark.usefixtures("qemu")

GROUP = 1  # QEMU's only endurance group
RECLAIM_UNIT = 1 << 20


def write_placed(ns: Namespace, lba: int, data: bytes, placement: int) -> None:
    blocks = len(data) // ns.block_size
    ns.controller.io(
        NvmOpcode.WRITE,
        nsid=ns.nsid,
        cdw10=lba,
        cdw12=WriteCdw12.build(nlb=blocks - 1, dtype=DirectiveType.DATA_PLACEMENT),
        cdw13=ReadWriteCdw13.build(dspec=placement),
        buffer=bytearray(data),
    )


def handles(ns: Namespace) -> list[ReclaimUnitHandleDescriptor]:
    return list(ns.reclaim_unit_handles())


def test_data_placement() -> None:
    """A write takes room of the reclaim unit that its placement id names, and of no other."""
    with open_with(PLACEMENT) as ctrl:
        ns = ctrl.namespaces[1]
        assert ctrl.identify.ctratt.fdps
        assert ns.identify.endgid == GROUP
        whole = RECLAIM_UNIT // ns.block_size
        assert [(one.pid, one.ruhid, one.ruamw) for one in handles(ns)] == [
            (0, 0, whole),
            (1, 2, whole),
        ]
        data = bytes(range(256)) * 16
        write_placed(ns, 8, data, 1)
        assert ns.read(8, len(data) // ns.block_size) == data
        assert [one.ruamw for one in handles(ns)] == [whole, whole - len(data) // ns.block_size]

        ns.update_reclaim_units([1])
        assert [one.ruamw for one in handles(ns)] == [whole, whole]
        with pytest.raises(NvmeStatusError) as caught:
            ns.update_reclaim_units([7])
        assert caught.value.status.code() is GenericStatus.INVALID_FIELD


def test_log_pages_of_data_placement() -> None:
    with open_with(PLACEMENT) as ctrl:
        ns = ctrl.namespaces[1]
        (configuration,) = ctrl.log(FdpConfigurationsLog, lsi=GROUP)
        assert (configuration.header.nruh, configuration.header.nrg) == (4, 1)
        assert configuration.header.runs == RECLAIM_UNIT
        assert configuration.header.fdpa.fdpcv
        assert len(list(configuration)) == 4
        usage = ctrl.log(ReclaimUnitHandleUsageLog, lsi=GROUP)
        assert [bool(handle.ruha) for handle in usage] == [True, False, True, False]
        for written in (0, 4096):
            statistics = ctrl.log(FdpStatisticsLog, lsi=GROUP)
            assert (statistics.hbmw, statistics.mbmw) == (written, written)
            ns.write(0, bytes(4096))


def test_events_of_data_placement() -> None:
    """A reclaim unit that is left before it is full is an event, once its handle reports such."""
    with open_with(PLACEMENT) as ctrl:
        ns = ctrl.namespaces[1]
        kind = FdpEventType.RECLAIM_UNIT_NOT_FULLY_WRITTEN
        fid = FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS
        ctrl.admin(
            AdminOpcode.SET_FEATURES,
            nsid=1,
            cdw10=fid,
            cdw11=FdpEventsCdw11.build(phndl=0, noet=1),
            cdw12=FdpEventsCdw12.build(fdpee=1),
            buffer=bytearray([kind]),
        )
        supported = ctrl.feature(fid, nsid=1, cdw11=FdpEventsCdw11.build(phndl=0, noet=255))
        known = list(supported.data)[: supported.result]
        assert {one.fdpet for one in known} == set(FdpEventType)
        assert [one.fdpet for one in known if one.fdpeta.fdpee] == [kind]

        write_placed(ns, 0, bytes(512), 0)
        assert not list(ctrl.log(FdpEventsLog, lsi=GROUP, lsp=1))
        ns.update_reclaim_units([1, 0])
        (event,) = ctrl.log(FdpEventsLog, lsi=GROUP, lsp=1)
        assert event.etyp == kind
        assert (event.fdpef.piv, event.pid) == (1, 0)
        assert (event.fdpef.nsidv, event.nsid) == (1, 1)


def test_the_size_of_atomic_writes() -> None:
    with open_with("atomic.dn=on&atomic.awun=15&atomic.awupf=7") as ctrl:
        assert (ctrl.identify.awun, ctrl.identify.awupf) == (15, 7)
        assert ctrl.feature(FeatureId.WRITE_ATOMICITY).value.dn == 1


def test_a_controller_without_shadow_doorbells() -> None:
    with open_with("dbcs=off") as ctrl:
        assert not ctrl.identify.oacs.dbcs
        assert ctrl.transport.shadow is None
        ns = ctrl.namespaces[1]
        ns.write(3, b"a" * ns.block_size)
        assert ns.read(3, 1) == b"a" * ns.block_size


def test_short_queues() -> None:
    with open_with("mqes=7") as ctrl:
        assert ctrl.registers.cap.mqes == 7
        ns = ctrl.namespaces[1]
        with pytest.raises(ValueError, match="7"), ctrl.queue_pair(9):
            pass
        with ctrl.queue_pair(7) as qp:
            buffer = ctrl.alloc(100 * ns.block_size)
            qp.read_many(ns, range(100), 1, buffer).check()


def test_a_page_of_the_vendor() -> None:
    """The Open Compute Project's SMART page, known by the GUID at its end."""
    with open_with("ocp=on") as ctrl:
        page = bytes(ctrl.log_page(0xC0, 512))
        assert page[496:].hex() == "c5af1028eabff2a49c4f6f7cc914d5af"


def test_secondary_controllers() -> None:
    with open_with(SECONDARY) as ctrl:
        capabilities = ctrl.identify_data(Cns.PRIMARY_CONTROLLER_CAPABILITIES)
        assert (capabilities.vqfrt, capabilities.vifrt) == (4, 2)
        secondary = list(ctrl.identify_data(Cns.SECONDARY_CONTROLLERS))
        assert [(one.scid, one.vfn, one.scs.onl) for one in secondary] == [(1, 1, 0), (2, 2, 0)]

        give = ctrl.virtualization_management
        # QEMU 7.2 has the command all the same, of which its OACS says nothing.
        force = not ctrl.identify.oacs.vms
        for resource, count in ((VirtualizationResource.VQ, 2), (VirtualizationResource.VI, 1)):
            given = give(
                1,
                VirtualizationAction.SECONDARY_ASSIGN,
                resource=resource,
                count=count,
                force=force,
            )
            assert given == count
        first, second = ctrl.identify_data(Cns.SECONDARY_CONTROLLERS)
        assert (first.nvq, first.nvi) == (2, 1)
        assert (second.nvq, second.nvi) == (0, 0)


def test_the_name_of_a_subsystem() -> None:
    with open_with("subsys.nqn=mine") as ctrl:
        assert ctrl.identify.subnqn == "nqn.2019-08.org.qemu:mine"
        assert ctrl.log_page(LogId.SMART, 512)
