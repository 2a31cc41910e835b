"""Flexible Data Placement: QEMU 10.0's, and that of the software controller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qemu_options import PLACEMENT, open_with

import pynvme_user as nvme
from pynvme_user import AdminOpcode, Controller, FeatureId, Namespace, NvmeStatusError
from pynvme_user.spec.fdp import ReclaimUnitHandleDescriptor
from pynvme_user.spec.feature_dwords import FdpEventsCdw11, FdpEventsCdw12
from pynvme_user.spec.logs import (
    FdpConfigurationsLog,
    FdpEventsLog,
    FdpEventType,
    FdpStatisticsLog,
    ReclaimUnitHandleUsageLog,
)
from pynvme_user.spec.status import GenericStatus

GROUP = 1
RECLAIM_UNIT = 1 << 20


@pytest.fixture
def placed(device_name: str) -> Iterator[Controller]:
    """A controller with data placement, of the kind that --device names."""
    if device_name.startswith("qemu:"):
        opened = open_with(PLACEMENT)
    elif device_name.startswith("soft:"):
        opened = nvme.open(f"soft:?size=64M&commands=all&{PLACEMENT}")
    else:
        pytest.skip("starts a device of its own, QEMU's or the software controller")
    with opened as ctrl:
        yield ctrl


def handles(ns: Namespace) -> list[ReclaimUnitHandleDescriptor]:
    return list(ns.reclaim_unit_handles())


def test_writes_by_placement(placed: Controller) -> None:
    """A write takes room of the reclaim unit that its placement id names, and of no other."""
    ns = placed.namespaces[1]
    assert placed.identify.ctratt.fdps
    assert ns.identify.endgid == GROUP
    whole = RECLAIM_UNIT // ns.block_size
    assert [(one.pid, one.ruhid, one.ruamw) for one in handles(ns)] == [
        (0, 0, whole),
        (1, 2, whole),
    ]
    data = bytes(range(256)) * 16
    ns.write(8, data, placement=1)
    assert ns.read(8, len(data) // ns.block_size) == data
    assert [one.ruamw for one in handles(ns)] == [whole, whole - len(data) // ns.block_size]

    ns.update_reclaim_units([1])
    assert [one.ruamw for one in handles(ns)] == [whole, whole]
    with pytest.raises(NvmeStatusError) as caught:
        ns.update_reclaim_units([7])
    assert caught.value.status.code() is GenericStatus.INVALID_FIELD


def test_log_pages(placed: Controller) -> None:
    ns = placed.namespaces[1]
    (configuration,) = placed.log(FdpConfigurationsLog, lsi=GROUP)
    assert (configuration.header.nruh, configuration.header.nrg) == (4, 1)
    assert configuration.header.runs == RECLAIM_UNIT
    assert configuration.header.fdpa.fdpcv
    assert len(list(configuration)) == 4
    usage = placed.log(ReclaimUnitHandleUsageLog, lsi=GROUP)
    assert [bool(handle.ruha) for handle in usage] == [True, False, True, False]
    for written in (0, 4096):
        statistics = placed.log(FdpStatisticsLog, lsi=GROUP)
        assert (statistics.hbmw, statistics.mbmw) == (written, written)
        ns.write(0, bytes(4096))


def test_events(placed: Controller) -> None:
    """A reclaim unit that is left before it is full is an event, once its handle reports such."""
    ns = placed.namespaces[1]
    kind = FdpEventType.RECLAIM_UNIT_NOT_FULLY_WRITTEN
    fid = FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS
    placed.admin(
        AdminOpcode.SET_FEATURES,
        nsid=1,
        cdw10=fid,
        cdw11=FdpEventsCdw11.build(phndl=0, noet=1),
        cdw12=FdpEventsCdw12.build(fdpee=1),
        buffer=bytearray([kind]),
    )
    supported = placed.feature(fid, nsid=1, cdw11=FdpEventsCdw11.build(phndl=0, noet=255))
    known = list(supported.data)[: supported.result]
    assert {one.fdpet for one in known} == set(FdpEventType)
    assert [one.fdpet for one in known if one.fdpeta.fdpee] == [kind]

    ns.write(0, bytes(512), placement=0)
    assert not list(placed.log(FdpEventsLog, lsi=GROUP, lsp=1))
    ns.update_reclaim_units([1, 0])
    (event,) = placed.log(FdpEventsLog, lsi=GROUP, lsp=1)
    assert event.etyp == kind
    assert (event.fdpef.piv, event.pid) == (1, 0)
    assert (event.fdpef.nsidv, event.nsid) == (1, 1)
