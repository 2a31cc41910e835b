"""nvme-cli's names and shapes of log pages of Endurance Groups and NVM Sets; see `nvme_json`.

Predictable latency, capacity, and Flexible Data Placement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pynvme_user.cli.shape import Shape, View
from pynvme_user.spec.bits import named
from pynvme_user.spec.fdp import ReclaimUnitHandleStatus
from pynvme_user.spec.logs_capacity import (
    CapacityConfiguration,
    CapacityConfigurationList,
    ChannelConfiguration,
    Channels,
    EnduranceGroupAggregateLog,
    EnduranceGroupConfiguration,
    MediaUnitConfiguration,
    MediaUnitStatus,
    MediaUnitStatusLog,
    PredictableLatencyAggregateLog,
    PredictableLatencyLog,
)
from pynvme_user.spec.logs_fdp import (
    FdpConfiguration,
    FdpConfigurationsLog,
    FdpEvent,
    FdpEventsLog,
    FdpEventType,
    FdpStatisticsLog,
    MediaReallocated,
    ReclaimUnitHandle,
    ReclaimUnitHandleAttributes,
    ReclaimUnitHandleType,
    ReclaimUnitHandleUsage,
    ReclaimUnitHandleUsageLog,
)


def _named(name: str, names: Any) -> Callable[[Any], str]:
    """Write a number and what it is called."""

    def say(page: Any) -> str:
        value = getattr(page, name)
        return f"{value:#x} ({named(value, names).replace('_', ' ').capitalize() or 'Unknown'})"

    return say


def _status_json(page: PredictableLatencyLog, view: View) -> dict[str, object]:
    return {"nvmset_id": view.nsid, "status": int(page.stat)}


def _reallocated(event: FdpEvent) -> Mapping[str, Any]:
    found = event.media_reallocated
    return {} if found is None else {"etsp": found}


def _absent_lba(event: MediaReallocated) -> tuple[str, ...]:
    return ("sef",) if event.sef.lbav else ("sef", "lba")


_AGGREGATE = {"ne": "num_entries_avail"}

GROUPS: Mapping[type, Shape] = {
    PredictableLatencyLog: Shape(
        heading="Predictable Latency Per NVM Set Log for device: {device}",
        keys={
            "stat": _status_json,
            "et": "event_type",
            "dtwinrt": "dtwin_reads_typical",
            "dtwinwt": "dtwin_writes_typical",
            "dtwintm": "dtwin_time_maximum",
            "ndwintmh": "ndwin_time_minimum_high",
            "ndwintml": "ndwin_time_minimum_low",
            "dtwinre": "dtwin_reads_estimate",
            "dtwinwe": "dtwin_writes_estimate",
            "dtwinte": "dtwin_time_estimate",
        },
        labels={"stat": "status"},
        decimal=("stat", "et"),
    ),
    PredictableLatencyAggregateLog: Shape(
        heading="Predictable Latency Event Aggregate Log for device: {device}",
        keys=_AGGREGATE,
        entries="list_of_entries",
        entry="entry",
        first=1,
    ),
    EnduranceGroupAggregateLog: Shape(
        heading="Endurance Group Event Aggregate Log for device: {device}",
        keys=_AGGREGATE,
        entries="list_of_entries",
        entry="entry",
        first=1,
    ),
    MediaUnitStatusLog: Shape(keys={"selc": "sel_config"}, entries="mus_list"),
    MediaUnitStatus: Shape(
        keys={
            "did": "domainid",
            "caf": "cap_adj_fctr",
            "avsp": "avl_spare",
            "pused": "percent_used",
        },
        # 2.3 leaves the channels out.
        entries="channels",
    ),
    CapacityConfigurationList: Shape(entries="Capacity Descriptor"),
    CapacityConfiguration: Shape(
        keys={"ccid": "cap_config_id", "did": "domainid"}, entries="Endurance Descriptor"
    ),
    EnduranceGroupConfiguration: Shape(
        keys={"cadjf": "cap_adj_factor", "ee": None},
        parts=lambda group: {"channels": group.channels},
        entries="NVM Set IDs",
        entry="nvmsetid",
    ),
    Channels: Shape(entries="Channel Descriptor"),
    ChannelConfiguration: Shape(keys={"chid": "chanid"}, entries="Media Descriptor"),
    # 2.3 has a channel's names for a media unit, too.
    MediaUnitConfiguration: Shape(keys={"muid": "chanid", "mudl": "chmus"}, entries=None),
    FdpConfigurationsLog: Shape(keys={"numfdpc": "n", "ver": None, "sze": None}, entries="configs"),
    FdpConfiguration: Shape(
        keys={"dsze": None, "maxpids": None},
        # 2.3 leaves the handles out; the key is that of later versions.
        entries="ruhs",
    ),
    ReclaimUnitHandle: Shape(values={"ruht": _named("ruht", ReclaimUnitHandleType)}),
    ReclaimUnitHandleUsageLog: Shape(entries="ruhus"),
    ReclaimUnitHandleUsage: Shape(values={"ruha": _named("ruha", ReclaimUnitHandleAttributes)}),
    FdpStatisticsLog: Shape(
        labels={
            "hbmw": "Host Bytes with Metadata Written (HBMW)",
            "mbmw": "Media Bytes with Metadata Written (MBMW)",
            "mbe": "Media Bytes Erased (MBE)",
        },
    ),
    FdpEventsLog: Shape(keys={"numfdpe": "n"}, entries="events"),
    FdpEvent: Shape(
        keys={
            "etyp": "type",
            "etmsp": "timestamp",
            "etsp": None,
            "rgid": None,
            "ruhid": None,
            "vs": None,
        },
        labels={"etsp": None},
        values={"etyp": _named("etyp", FdpEventType)},
        parts=_reallocated,
    ),
    MediaReallocated: Shape(absent=_absent_lba),
    ReclaimUnitHandleStatus: Shape(entries="ruhss"),
}
