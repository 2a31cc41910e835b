"""nvme-cli's names and shapes of what Identify returns; see `nvme_json`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from uuid import UUID

from pynvme_user.cli.shape import Json, Shape, View, hexadecimal
from pynvme_user.spec.bits import named
from pynvme_user.spec.identify import (
    RP,
    IdentifierType,
    IdentifyNamespace,
    IdentifyNamespaceIndependent,
    LbaFormat,
)
from pynvme_user.spec.identify_controller import IdentifyController, PowerScale, PowerState
from pynvme_user.spec.identify_lists import (
    ControllerList,
    DomainAttributes,
    DomainList,
    EnduranceGroupList,
    IoCommandSets,
    NamespaceDescriptorList,
    NamespaceGranularity,
    NamespaceGranularityList,
    NamespaceList,
    NvmSetAttributes,
    NvmSetList,
    PrimaryControllerCapabilities,
    SecondaryController,
    SecondaryControllerList,
    UuidEntry,
    UuidList,
)
from pynvme_user.spec.identify_nvm import (
    ExtendedLbaFormat,
    GuardFormat,
    IdentifyControllerNvm,
    IdentifyNamespaceNvm,
)
from pynvme_user.spec.identify_zns import IdentifyControllerZns, IdentifyNamespaceZns


def _padded(name: str) -> Json:
    """Text with its padding, as nvme-cli leaves it."""

    def make(page: Any, _: View) -> dict[str, object]:
        field = getattr(type(page), name)
        raw = bytes(page)[field.offset : field.offset + field.size]
        return {name: raw.decode("latin-1").rstrip("\0")}

    return make


def _if_any(name: str) -> Json:
    """Text, where there is some."""

    def make(page: Any, _: View) -> dict[str, object]:
        text = page.to_dict()[name]
        return {name: text} if text else {}

    return make


def _watts(value: int, digits: int | None) -> str:
    return "-" if digits is None else f"{value / 10**digits:.{digits}f}W"


_DIGITS = {PowerScale.NOT_REPORTED: None, PowerScale.W_0_0001: 4, PowerScale.W_0_01: 2}


_WORKLOADS = {0: "-", 1: "1MiB 32 RW, 30s idle", 2: "80K 128KiB SW"}


def _scaled(value: int, scale: int) -> str:
    return _watts(value, _DIGITS[PowerScale(scale)]) if scale in _DIGITS else "reserved"


def _power_states(page: IdentifyController, _: View) -> Iterator[str]:
    for number, state in enumerate(page.psds[: page.npss + 1]):
        most = _watts(state.mp, 4 if state.flags.mxps else 2)
        kind = "non-operational" if state.flags.nops else "operational"
        idle = _scaled(state.idlp, state.ips.ips)
        active = _scaled(state.actp, state.apws.aps)
        yield (
            f"ps   {number:4} : mp:{most} {kind} enlat:{state.enlat} exlat:{state.exlat} "
            f"rrt:{state.rrt} rrl:{state.rrl}"
        )
        yield f"            rwt:{state.rwt} rwl:{state.rwl} idle_power:{idle} active_power:{active}"
        yield f"            active_power_workload:{_WORKLOADS.get(state.apws.apw, 'reserved')}"


def _power_state_json(state: PowerState, _: View) -> dict[str, object]:
    return {
        "max_power": state.mp,
        "flags": state.flags,
        "entry_lat": state.enlat,
        "exit_lat": state.exlat,
        "read_tput": state.rrt,
        "read_lat": state.rrl,
        "write_tput": state.rwt,
        "write_lat": state.rwl,
        "idle_power": state.idlp,
        "idle_scale": state.ips.ips,
        "active_power": state.actp,
        "active_power_work": state.apws.apw,
        "active_scale": state.apws.aps,
    }


def _formats(page: IdentifyNamespace) -> tuple[LbaFormat, ...]:
    return page.lbafs[: page.nlbaf + page.nulbaf + 1]


def _formats_json(page: IdentifyNamespace, _: View) -> dict[str, object]:
    return {
        "lbafs": [
            {**lbaf.to_dict(), "in_use": int(index == page.format_index)}
            for index, lbaf in enumerate(_formats(page))
        ]
    }


def _format_lines(page: IdentifyNamespace, view: View) -> Iterator[str]:
    for index, lbaf in enumerate(_formats(page)):
        in_use = " (in use)" if index == page.format_index else ""
        if view.human:
            yield (
                f"LBA Format {index:2} : Metadata Size: {lbaf.ms:<3} bytes - Data Size: "
                f"{1 << lbaf.ds if lbaf.ds else 0} bytes - Relative Performance: "
                f"{hexadecimal(lbaf.rp)} {named(lbaf.rp.rp, RP.rp.names).capitalize()}{in_use}"
            )
        else:
            rp = hexadecimal(lbaf.rp)
            yield f"lbaf {index:2} : ms:{lbaf.ms:<3} lbads:{lbaf.ds:<2} rp:{rp}{in_use}"


def _format_count(_: object, view: View) -> int | None:
    page = view.namespace
    return None if page is None else page.nlbaf + page.nulbaf + 1


def _in_use(index: int, view: View) -> str:
    return " (in use)" if view.namespace and index == view.namespace.format_index else ""


def _extended_lines(page: IdentifyNamespaceNvm, view: View) -> Iterator[str]:
    for index, each in enumerate(page.elbafs[: _format_count(page, view)]):
        pif, sts, in_use = each.elbaf.pif, each.elbaf.sts, _in_use(index, view)
        if view.human:
            guard = named(pif, GuardFormat).removeprefix("GUARD_").replace("B", "b Guard")
            yield (
                f"Extended LBA Format {index:2} : Protection Information Format: "
                f"{guard}({pif}) - Storage Tag Size (MSB): {sts:<2}{in_use}"
            )
        else:
            # 2.3 calls it lbads; it is the storage tag's size.
            yield f"elbaf {index:2} : pif:{pif} sts:{sts:<2}{in_use}"


def _zone_lines(page: IdentifyNamespaceZns, view: View) -> Iterator[str]:
    for index, each in enumerate(page.lbafes[: _format_count(page, view)]):
        in_use = _in_use(index, view)
        if view.human:
            yield (
                f"LBA Format Extension {index:2} : Zone Size: {each.zsze:#x} LBAs - "
                f"Zone Descriptor Extension Size: {each.extension_size} bytes{in_use}"
            )
        else:
            yield f"lbafe {index:2}: zsze:{each.zsze:#x} zdes:{each.zdes}{in_use}"


_IDENTIFIERS: dict[int, str] = {
    IdentifierType.EUI64: "eui64",
    IdentifierType.NGUID: "nguid",
    IdentifierType.UUID: "uuid",
    IdentifierType.CSI: "csi",
}


def _identifiers(page: NamespaceDescriptorList) -> Iterator[tuple[int, str, str, Any]]:
    """Yield (byte, kind, value, header) of each descriptor of a kind that is known."""
    at = 0
    for each in page:
        nid, kind = bytes(each.entries), _IDENTIFIERS.get(each.header.nidt)
        if kind:
            value = hexadecimal(nid[0]) if kind == "csi" else nid.hex()
            if kind == "uuid" and len(nid) == 16:
                value = str(UUID(bytes=nid))
            yield at, kind, value, each.header
        at += each.size


def _identifiers_json(page: NamespaceDescriptorList, _: View) -> object:
    found = [
        {"loc": at, "nidt": header.nidt, "nidl": header.nidl, "type": kind, kind: value}
        for at, kind, value, header in _identifiers(page)
    ]
    return {"ns-descs": found} if found else {}


def _identifier_lines(page: NamespaceDescriptorList, _: View) -> Iterator[str]:
    return (f"{kind:<8}: {value}" for _, kind, value, _ in _identifiers(page))


def _combinations_json(page: IoCommandSets, _: View) -> object:
    return {
        f"I/O Command Set Combination[{index}]": int(each.iocsc) for index, each in enumerate(page)
    }


def _combination_lines(page: IoCommandSets, _: View) -> Iterator[str]:
    return (
        f"I/O Command Set Combination[{index}]:{int(each.iocsc):x}"
        for index, each in enumerate(page)
    )


def _optimal(page: IdentifyNamespace) -> Collection[str]:
    """NSFEAT.OPTPERF tells whether a device fills these in."""
    return () if page.nsfeat.optperf else ("npwg", "npwa", "npdg", "npda", "nows")


def _later(*names: str) -> dict[str, str | Json | None]:
    """Leave out of JSON what 2.3 does not print: mostly what came with later specifications."""
    return dict.fromkeys(names)


#: Fields of Identify Controller that came with Base 2.1.
CONTROLLER_2_1 = (
    *("bpcap", "nssl", "plsi", "crcap", "kpioc", "mptfawr", "tmpthha", "cqt", "oaqd", "rhiri"),
    *("hirt", "cmmrtd", "nmmrtd", "minmrtg", "maxmrtg", "trattr", "mcudmq", "mnsudmq", "mcmr"),
    *("nmcmr", "mcdqpc"),
)

IDENTIFY: dict[type, Shape] = {
    IdentifyController: Shape(
        heading="NVME Identify Controller:",
        width=10,
        keys={
            **{name: _padded(name) for name in ("sn", "mn", "fr")},
            "subnqn": _if_any("subnqn"),
            **_later("vs", "dctype", *CONTROLLER_2_1),
        },
        values={"ieee": lambda page: f"{page.ieee:06x}"},
        lines={"psds": _power_states},
        counts={"psds": lambda page, _: page.npss + 1},
        hexadecimal=("vid", "ssvid", "cntlid", "rtd3r", "rtd3e", "rrls"),
        decimal=("nvmsr", "vwci", "mec", "dsto", "anacap", "icsvscc", "nwpc", "ofcs"),
    ),
    PowerState: Shape(json=_power_state_json),
    IdentifyNamespace: Shape(
        heading="NVME Identify Namespace {nsid}:",
        width=8,
        keys={"lbafs": _formats_json, **_later("vs", "kpios", "kpiodaag")},
        lines={"lbafs": _format_lines},
        absent=_optimal,
        hexadecimal=("nsze", "ncap", "nuse"),
        decimal=("dlfeat", "nsattr"),
    ),
    IdentifyNamespaceIndependent: Shape(
        heading="NVME Identify Command Set Independent Namespace {nsid}:",
        width=8,
        keys=_later("kpios", "maxkt", "rgrpid"),
        decimal=("nsattr",),
    ),
    IdentifyControllerNvm: Shape(
        heading="NVMe Identify Controller NVM:",
        width=7,
        keys=_later("kpiocap", "wzdsl", "aocs", "ver", "lbamqf"),
    ),
    IdentifyNamespaceNvm: Shape(
        heading="NVMe NVM Identify Namespace {nsid}:",
        keys=_later("pifa", "npdgl", "nprg", "npra", "nors", "npdal", "lbapss", "tlbaag"),
        lines={"elbafs": _extended_lines},
        counts={"elbafs": _format_count},
        hexadecimal=("lbstm",),
    ),
    ExtendedLbaFormat: Shape(
        json=lambda each, _: {"sts": each.elbaf.sts, "pif": each.elbaf.pif},
    ),
    IdentifyControllerZns: Shape(heading="NVMe ZNS Identify Controller:", width=8),
    IdentifyNamespaceZns: Shape(
        heading="ZNS Command Set Identify Namespace:",
        width=8,
        keys={"lbafes": "lbafe", "vs": None},
        lines={"lbafes": _zone_lines},
        counts={"lbafes": _format_count},
        hexadecimal=("mar", "mor", "numzrwa"),
        decimal=("zoc", "ozcs", "zrwacap"),
    ),
    NamespaceList: Shape(entries="nsid_list", entry="nsid"),
    NamespaceDescriptorList: Shape(
        heading="NVME Namespace Identification Descriptors NS {nsid}:",
        json=_identifiers_json,
        text=_identifier_lines,
    ),
    ControllerList: Shape(
        keys={"numids": "num_ctrl"},
        labels={"numids": "num of ctrls present"},
        width=20,
        entries="ctrl_list",
        entry="ctrl_id",
    ),
    EnduranceGroupList: Shape(
        keys={"negids": "num_endgrp_id"},
        labels={"negids": "num of endurance group ids"},
        width=26,
        entries="endgrp_list",
        entry="endgrp_id",
    ),
    NvmSetList: Shape(
        heading="NVME Identify NVM Set List {nsid}:",
        width=8,
        keys={"numids": "nid"},
        entries="NVMSet",
    ),
    NvmSetAttributes: Shape(
        width=24,
        keys={
            "nsetid": "nvmset_id",
            "endgid": "endurance_group_id",
            "rr4kt": "random_4k_read_typical",
            "ows": "optimal_write_size",
            "tnvmsetcap": "total_nvmset_cap",
            "unvmsetcap": "unalloc_nvmset_cap",
        },
    ),
    DomainList: Shape(
        heading="NVMe Identify Domain List:",
        keys={"ndent": "num_dom_entries"},
        labels={"ndent": "Number of Domain Entries"},
        width=24,
        entries="domain_list",
    ),
    DomainAttributes: Shape(
        keys={
            "domid": "dom_id",
            "tdc": "dom_cap",
            "udc": "unalloc_dom_cap",
            "megdc": "max_egrp_dom_cap",
        },
    ),
    PrimaryControllerCapabilities: Shape(
        heading="NVME Identify Primary Controller Capabilities:",
        width=10,
        hexadecimal=("cntlid", "portid"),
    ),
    SecondaryControllerList: Shape(
        heading="Identify Secondary Controller List:",
        keys={"numids": "num"},
        labels={"numids": "NUMID"},
        entries="secondary-controllers",
    ),
    SecondaryController: Shape(
        keys={
            "scid": "secondary-controller-identifier",
            "pcid": "primary-controller-identifier",
            "scs": "secondary-controller-state",
            "vfn": "virtual-function-number",
            "nvq": "num-virtual-queues",
            "nvi": "num-virtual-interrupts",
        },
        labels={name: name.upper() for name in ("scid", "pcid", "scs", "vfn", "nvq", "nvi")},
        hexadecimal=("scid", "pcid", "vfn", "nvq", "nvi"),
    ),
    NamespaceGranularityList: Shape(
        heading="Identify Namespace Granularity List:",
        keys={"nga": "attributes", "nod": "num-descriptors"},
        labels={"nga": "ATTR", "nod": "NUMD"},
        entries="namespace-granularity-list",
    ),
    NamespaceGranularity: Shape(
        keys={
            "nszegran": "namespace-size-granularity",
            "ncapgran": "namespace-capacity-granularity",
        },
        labels={"nszegran": "NSG", "ncapgran": "NCG"},
        hexadecimal=("nszegran", "ncapgran"),
    ),
    UuidList: Shape(heading="NVME Identify UUID:", entries="UUID-list", first=1),
    UuidEntry: Shape(
        keys={"hdr": lambda each, _: {"association": each.hdr.idassoc}},
        labels={"hdr": "association", "uuid": "UUID"},
        values={"hdr": lambda each: f"{each.hdr.idassoc:#x}"},
    ),
    IoCommandSets: Shape(
        heading="NVMe Identify I/O Command Set:",
        json=_combinations_json,
        text=_combination_lines,
    ),
}
