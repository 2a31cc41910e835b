"""nvme-cli's names and shapes, by structure.

They are those of nvme-cli 2.3, Debian bookworm's. Where it differs from what comes after it, and
where both of them differ from what is here, for all structures alike:

- Numbers of 128 bits are strings in 2.3 and numbers from 2.4 on. Here no number is ever a string.
- 2.3 prints numbers of 32 bits that are 2^31 or more as negative ones. Here they are what they are.
- The keys stand in the page's order. Later versions add keys: ``lbafs[].in_use`` is here, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

from pynvme_user.cli.nvme_json_logs import LOGS
from pynvme_user.cli.shape import Json, Shape, View, hexadecimal
from pynvme_user.spec.bits import named
from pynvme_user.spec.identify import RP, IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import IdentifyController, PowerScale, PowerState

#: The controller's properties that 2.3 does not know.
PROPERTIES_LEFT_OUT = ("cmbebs", "cmbswtp", "nssd")

_NOTHING = Shape()


def shape_of(kind: type) -> Shape:
    """Give how nvme-cli shows a structure; one that it does not know is shown by its fields."""
    return shapes().get(kind, _NOTHING)


@cache
def shapes() -> Mapping[type, Shape]:
    """Give the shape of every structure that has one."""
    return {**_IDENTIFY, **LOGS}


# --- functions for what is more than a name ----------------------------------------------------


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


def _optimal(page: IdentifyNamespace) -> Collection[str]:
    """NSFEAT.OPTPERF tells whether a device fills these in."""
    return () if page.nsfeat.optperf else ("npwg", "npwa", "npdg", "npda", "nows")


# --- Identify ----------------------------------------------------------------------------------

_IDENTIFY: dict[type, Shape] = {
    IdentifyController: Shape(
        heading="NVME Identify Controller:",
        width=10,
        keys={
            **{name: _padded(name) for name in ("sn", "mn", "fr")},
            "subnqn": _if_any("subnqn"),
            "vs": None,
            "dctype": None,
        },
        values={"ieee": lambda page: f"{page.ieee:06x}"},
        lines={"psds": _power_states},
        counts={"psds": lambda page: page.npss + 1},
        hexadecimal=("vid", "ssvid", "cntlid", "rtd3r", "rtd3e", "rrls"),
        decimal=("nvmsr", "vwci", "mec", "dsto", "anacap", "icsvscc", "nwpc", "ofcs"),
    ),
    PowerState: Shape(json=_power_state_json),
    IdentifyNamespace: Shape(
        heading="NVME Identify Namespace {nsid}:",
        width=8,
        keys={"lbafs": _formats_json, "vs": None},
        lines={"lbafs": _format_lines},
        absent=_optimal,
        hexadecimal=("nsze", "ncap", "nuse"),
        decimal=("dlfeat", "nsattr"),
    ),
}
