"""nvme-cli's names and shapes of what I/O commands bring: reservations, zones; see `nvme_json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pynvme_user.cli.shape import Shape, View
from pynvme_user.spec.management import LbaStatusCompletion, LbaStatusList
from pynvme_user.spec.reservations import ExtendedReservationStatus, ReservationStatus
from pynvme_user.spec.zns import ZoneDescriptor, ZoneList, ZoneState, ZoneType

_STATES = {
    ZoneState.EMPTY: "EMPTY",
    ZoneState.IMPLICITLY_OPENED: "IMP_OPENED",
    ZoneState.EXPLICITLY_OPENED: "EXP_OPENED",
    ZoneState.CLOSED: "CLOSED",
    ZoneState.READ_ONLY: "READONLY",
    ZoneState.FULL: "FULL",
    ZoneState.OFFLINE: "OFFLINE",
}
_ROW = 16


def _state(zone: ZoneDescriptor) -> str:
    known = zone.zs.zs in _STATES
    return _STATES[ZoneState(zone.zs.zs)] if known else "Unknown State"


def _kind(zone: ZoneDescriptor) -> str:
    required = int(zone.zt) == ZoneType.SEQUENTIAL_WRITE_REQUIRED
    return "SEQWRITE_REQ" if required else "Unknown"


def _zone_json(zone: ZoneDescriptor) -> dict[str, object]:
    # 2.3 writes ZAI over ZA, both as attrs; the key of ZAI is that of later versions.
    return {
        "slba": zone.zslba,
        "wp": zone.wp,
        "cap": zone.zcap,
        "state": _state(zone),
        "type": _kind(zone),
        "attrs": int(zone.za),
        "attrs_info": int(zone.zai),
    }


def _zones_json(page: ZoneList, _: View) -> object:
    zones = []
    for zone, extension in zip(page, page.extensions, strict=True):
        made = _zone_json(zone)
        if extension:
            made["ext_data"] = extension.hex() if zone.za.zdev else "Not valid"
        zones.append(made)
    return {"nr_zones": page.header.nzones, "zone_list": zones}


def _zone_lines(page: ZoneList, view: View) -> Iterator[str]:
    yield f"nr_zones: {page.header.nzones}"
    for zone, extension in zip(page, page.extensions, strict=True):
        place = f"SLBA: {zone.zslba:<#10x} WP: {zone.wp:<#10x} Cap: {zone.zcap:<#10x}"
        if view.human:
            yield f"{place} State: {_state(zone):<12} Type: {_kind(zone):<14}"
            yield from (f"  {text}" for _, value, text in zone.za.fields() if value)
        else:
            yield (
                f"{place} State: {zone.zs:<#4x} Type: {zone.zt:<#4x} "
                f"Attrs: {zone.za:<#4x} AttrsInfo: {zone.zai:<#4x}"
            )
        if extension and zone.za.zdev:
            yield f"Extension Data: {extension.hex()}"


_LBA_STATUS_ENDS = {
    int(LbaStatusCompletion.INCOMPLETE): "more was found than the dwords that were asked for hold",
    int(LbaStatusCompletion.COMPLETE): "the action was done over the whole range",
}


def _lba_status_lines(page: LbaStatusList, _: View) -> Iterator[str]:
    header = page.header
    yield f"Number of LBA Status Descriptors(NLSD): {header.nlsd}"
    yield f"Completion Condition(CMPC): {int(header.cmpc)}"
    if end := _LBA_STATUS_ENDS.get(int(header.cmpc)):
        yield f"\t{end}"
    for one in page:
        # 2.3 has DSLBA in decimal behind its 0x.
        yield f"{{ DSLBA: {one.dslba:#018x}, NLB: {one.nlb:#010x}, Status: {one.status:#04x} }}"


NVM: Mapping[type, Shape] = {
    LbaStatusList: Shape(text=_lba_status_lines, entries="descs"),
    ReservationStatus: Shape(
        heading="NVME Reservation status:", keys={"regstrnt": "regctl"}, entries="regctls"
    ),
    ExtendedReservationStatus: Shape(
        heading="NVME Reservation status:", keys={"regstrnt": "regctl"}, entries="regctlext"
    ),
    ZoneList: Shape(json=_zones_json, text=_zone_lines),
    ZoneDescriptor: Shape(json=lambda zone, _: _zone_json(zone)),
}
