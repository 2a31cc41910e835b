"""The device name ``soft:``: its options."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from pynvme_user.errors import DeviceNameError
from pynvme_user.spec.registers import PMRCAP
from pynvme_user.testing.core import FAULTS, USES, Options, lib
from pynvme_user.testing.pages import PAGE
from pynvme_user.units import parse_size

_OWN_MEMORY_MOST = 1 << 30
_HANDLES = 128  # reclaim unit handles, at most
#: As QEMU's NVMe has them, where it does.
_DEFAULTS = Options(queues=64, mdts=7)


@dataclass(frozen=True)
class Settings:
    """What a device name asks for."""

    path: str = ""
    null: bool = False
    size: int | None = None
    core: Options = _DEFAULTS
    vectors: int = 65
    inline: bool = False
    spin: bool = False
    interrupts: bool = False
    commands: str = "plain"
    capacity: int | None = None
    zones: int = 0
    fdp: bool = False
    nruh: int = 8
    nrg: int = 1
    runs: int = 96 << 20
    ruhs: tuple[int, ...] = ()
    cmb: int = 0
    cmb_uses: int = sum(USES.values())
    legacy_cmb: bool = False
    pmr: int = 0
    pmrdev: str = ""
    pmrcap: int = int(PMRCAP.build(rds=1, wds=1, cmss=1, pmrwbm=2, pmrto=2))


#: Values of faults where none is given.
FAULT_VALUES = {"torn": 1, "misdirected": 8, "status": 0x281}


def parse_slow(text: str) -> tuple[float, int]:
    """Read ``US:N``. Raises ValueError."""
    us, every = text.split(":")
    return _time(us), _count(every)


def parse_fault(text: str) -> tuple[str, int, int]:
    """Read ``KIND:N[:VALUE]``. Raises ValueError."""
    kind, every, *value = text.split(":")
    if kind not in FAULTS or len(value) > 1:
        raise ValueError
    return kind, _count(every), int(value[0], 0) if value else FAULT_VALUES.get(kind, 0)


def _time(text: str) -> float:
    time = float(text)
    if not 0 <= time <= 60e6:
        raise ValueError
    return time


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise ValueError
    return int(text)


def _between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return parse


def _block_size(text: str) -> int:
    if text not in ("512", "1024", "2048", "4096"):
        raise ValueError
    return int(text)


def _size(text: str) -> int:
    size = parse_size(text)
    if not 0 < size < 1 << 46:
        raise ValueError
    return size


def parse_own_memory(text: str) -> int:
    """Read the size of memory of the controller's own. Raises ValueError."""
    size = parse_size(text)
    if not 0 < size <= _OWN_MEMORY_MOST or size % PAGE:
        raise ValueError
    return size


def _reclaim_unit(text: str) -> int:
    size = parse_size(text)
    if not 0 < size < 1 << 46 or size % PAGE:
        raise ValueError
    return size


def _handles(text: str) -> tuple[int, ...]:
    """Read ``0;2-4``. Raises ValueError."""
    found: list[int] = []
    for piece in text.split(";"):
        first, _, last = piece.partition("-")
        found += range(int(first), int(last or first) + 1)
    if not found or len(set(found)) < len(found) or not 0 <= min(found) <= max(found) < _HANDLES:
        raise ValueError
    return tuple(found)


def _uses(text: str) -> int:
    return sum(USES[name] for name in set(text.split(",")))


def _path(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _pmrcap(text: str) -> int:
    return int(PMRCAP(int(text, 0)).replace(bir=0))


def _switch(text: str) -> bool:
    return {"0": False, "off": False, "1": True, "on": True}[text]


def _word(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return parse


#: Options of a device name: how each is read, and what it has to be. Those that QEMU's NVMe has,
#: too, have its names.
_OPTIONS: dict[str, tuple[Callable[[str], object], str]] = {
    "size": (_size, "a size, for example 256M, up to 64T"),
    "driver": (_word("file", "null-co"), "file, or null-co: no storage behind it"),
    "logical_block_size": (_block_size, "512, 1024, 2048 or 4096"),
    "mdts": (_between(0, 16), "0, which is no limit, to 16: the largest transfer is 4 KiB << mdts"),
    "mqes": (_between(1, 0xFFFF), "1 to 65535"),
    "max_ioqpairs": (_between(1, lib.CONTROLLER_QUEUES - 1), "1 to 511"),
    "msix_qsize": (_between(1, 256), "1 to 256"),
    "dstrd": (_between(0, 10), "0 to 10"),
    "delay": (_time, "us that each I/O command takes, up to a minute"),
    "slow": (parse_slow, "US:N, what each N-th I/O command takes"),
    "in_turn": (_switch, "0 or 1"),
    "shadow": (_switch, "0 or 1: whether it has shadow doorbells"),
    "fault": (parse_fault, f"KIND:N[:VALUE], of the kinds {', '.join(list(FAULTS)[1:])}"),
    "inline": (_switch, "0 or 1"),
    "spin": (_switch, "0 or 1"),
    "interrupts": (_word("msix"), "msix"),
    "commands": (_word("plain", "all"), "plain, or all: those that a model in Python does, too"),
    "capacity": (_size, "a size, for example 1G: what namespaces can be made of"),
    "zoned.zone_size": (_size, "a size, for example 1M: namespace 1 consists of zones"),
    "subsys.fdp": (_switch, "0 or 1: whether Flexible Data Placement is enabled at first"),
    "subsys.fdp.nruh": (_between(1, _HANDLES), f"1 to {_HANDLES} reclaim unit handles"),
    "subsys.fdp.nrg": (_between(1, 64), "1 to 64 reclaim groups"),
    "subsys.fdp.runs": (_reclaim_unit, "the size of a reclaim unit, for example 1M, whole pages"),
    "fdp.ruhs": (
        _handles,
        "the reclaim unit handles of namespace 1, each once, for example 0;2-4",
    ),
    "cmb": (
        parse_own_memory,
        "the size of the Controller Memory Buffer, 4K to 1G, whole pages",
    ),
    "cmb.uses": (_uses, f"what may lie in it, of {','.join(USES)}"),
    "legacy-cmb": (_switch, "0 or 1: it is always there, as before NVMe 1.4"),
    "pmr": (parse_own_memory, "the size of the Persistent Memory Region, 4K to 1G, whole pages"),
    "pmrdev": (_path, "the file that keeps the Persistent Memory Region"),
    "pmrcap": (_pmrcap, "what the register PMRCAP says of it, a number"),
}
_CORE = {
    "logical_block_size": "block_size",
    "max_ioqpairs": "queues",
    **{name: name for name in ("mdts", "mqes", "dstrd", "delay", "slow")},
    **{name: name for name in ("in_turn", "shadow", "fault")},
}
_REST = {
    "size": "size",
    "msix_qsize": "vectors",
    "inline": "inline",
    "spin": "spin",
    "commands": "commands",
    "capacity": "capacity",
    "zoned.zone_size": "zones",
    "subsys.fdp": "fdp",
    "subsys.fdp.nruh": "nruh",
    "subsys.fdp.nrg": "nrg",
    "subsys.fdp.runs": "runs",
    "fdp.ruhs": "ruhs",
    "cmb": "cmb",
    "cmb.uses": "cmb_uses",
    "legacy-cmb": "legacy_cmb",
    "pmr": "pmr",
    "pmrdev": "pmrdev",
    "pmrcap": "pmrcap",
}


def parse_settings(text: str) -> Settings:
    """Read what follows ``soft:``, for example ``disk.img?size=1G``. Raises DeviceNameError."""
    name = f"soft:{text}"
    path, _, query = text.partition("?")
    try:
        # A plus sign is one: this is no form of a web page.
        pairs = parse_qsl(
            query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query)
        )
    except ValueError:
        raise DeviceNameError(f"{name!r}: write options as ?name=value&name=value") from None
    found: dict[str, object] = {}
    for key, value in pairs:
        if key not in _OPTIONS:
            raise DeviceNameError(f"{name!r}: {key} is not an option: {', '.join(_OPTIONS)} are")
        parse, what = _OPTIONS[key]
        try:
            found[key] = parse(value)
        except (ValueError, KeyError):
            raise DeviceNameError(f"{name!r}: {key} is {what}, not {value!r}") from None
    core = {_CORE[key]: value for key, value in found.items() if key in _CORE}
    rest = {_REST[key]: value for key, value in found.items() if key in _REST}
    settings = Settings(
        path,
        found.get("driver") == "null-co",
        core=replace(_DEFAULTS, **core),  # type: ignore[arg-type]
        interrupts="interrupts" in found,
        **rest,  # type: ignore[arg-type]
    )
    if settings.null and path:
        raise DeviceNameError(f"{name!r}: driver=null-co has no storage: leave out the file")
    if settings.inline and settings.spin:
        raise DeviceNameError(f"{name!r}: inline=1 has no thread that could spin: leave out one")
    if settings.commands == "all" and settings.null:
        raise DeviceNameError(f"{name!r}: commands=all has storage: leave out driver=null-co")
    if settings.core.shadow and (settings.core.dstrd or settings.commands == "all"):
        raise DeviceNameError(
            f"{name!r}: shadow=1 goes with neither dstrd nor commands=all: leave out one"
        )
    if not settings.cmb and ("cmb.uses" in found or settings.legacy_cmb):
        raise DeviceNameError(f"{name!r}: cmb.uses and legacy-cmb go with cmb: add its size")
    if "pmrcap" in found and not (settings.pmr or settings.pmrdev):
        raise DeviceNameError(f"{name!r}: pmrcap goes with pmr or pmrdev: add one")
    if settings.commands != "all" and (settings.capacity or settings.zones):
        raise DeviceNameError(f"{name!r}: capacity and zones go with commands=all: add it")
    _check_placement(name, settings, found)
    return settings


def _check_placement(name: str, settings: Settings, found: dict[str, object]) -> None:
    given = [key for key in found if "fdp" in key]
    if given and settings.commands != "all":
        raise DeviceNameError(f"{name!r}: {given[0]} goes with commands=all: add it")
    if settings.fdp and settings.zones:
        raise DeviceNameError(
            f"{name!r}: no zones go with subsys.fdp: leave out one of zoned.zone_size and it"
        )
    if settings.ruhs and not settings.fdp:
        raise DeviceNameError(f"{name!r}: fdp.ruhs goes with subsys.fdp=on: add it")
    if settings.ruhs and max(settings.ruhs) >= settings.nruh:
        raise DeviceNameError(
            f"{name!r}: there are {settings.nruh} reclaim unit handles, and fdp.ruhs names "
            f"{max(settings.ruhs)}: give a larger subsys.fdp.nruh"
        )
