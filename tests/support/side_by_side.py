"""What nvme-cli and nvme-user are asked side by side, and where their answers may differ.

Each difference has its reason: in `DIFFERS` where it is any command's, and else beside the command.
The way to a key is written as ``lbafs.*.in_use``. What nvme-cli 2.3 gets wrong, numbers of 128 bits
as text and those of 32 bits as negative ones, `nvme_cli.mended` mends. The device's name differs,
as it is nvme0 to the one and vfio:0000:00:04.0 to the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from nvme_cli import mended

NO_REASONS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Case:
    """One command on both; ``words`` are its name and options.

    The controller's place is {}, without it behind the name; {disk}n1 is a namespace's disk.
    ``theirs`` and ``ours`` are options that one alone needs, ``node`` is the namespace whose disk
    nvme-cli is given, 0 for the controller.

    ``differs`` gives the reason for each key that differs, ``changes`` for each that may, ``exits``
    for exit codes that differ, ``order`` for lists whose order does. Of a ``text`` command nvme-cli
    has no JSON: lines are compared without their spaces, and the patterns are of lines.
    ``kernel``: ours is asked under the kernel's driver, too.
    """

    words: str
    differs: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)
    exits: str = ""
    order: str = ""
    theirs: str = ""
    ours: str = ""
    node: int = 0
    text: bool = False
    kernel: bool = False

    def __str__(self) -> str:
        more = [f"disk {self.node}"] * bool(self.node) + ["text"] * self.text
        return " ".join([self.words, *more])


@dataclass(frozen=True)
class Answer:
    """What a program said of a case, and its exit code."""

    exit: int
    output: str
    errors: str


def text(words: str, differs: Mapping[str, str] = NO_REASONS, **more: Any) -> Case:
    return Case(words, differs, text=True, **more)


#: Keys that differ in any command.
DIFFERS = {
    "lbafs.*.in_use": "nvme-cli has it from 2.5 on",
    "configs.*.ruhs.*": "2.3 leaves out the reclaim unit handles",
    "zone_list.*.attrs_info": "later versions have it; 2.3 writes it over attrs",
}
USAGE = "wrong usage is exit code 2 here, as of any program, and 1 in nvme-cli"
COUNTS = "the device counts on"
COUNTERS = dict.fromkeys(
    (
        *("data_units_*", "host_*_commands", "controller_busy_time", "power_*", "unsafe_shutdowns"),
        *("num_err_log_entries", "temperature*", "*_time"),
    ),
    COUNTS,
)
ZONED = 2  # the namespace
IDENTIFY = [
    Case("id-ctrl"),
    Case("id-ns -n 1"),
    Case("id-ns -n 2"),
    Case("id-ns -n 1 -H"),
    Case("id-ns-granularity"),
    Case("id-ns-lba-format -i 0"),
    Case("list-ns"),
    Case("list-ns --all"),
    Case("list-ns -n 2"),
    Case("list-ctrl"),
    Case("list-ctrl -n 1"),
    Case("nvm-id-ctrl"),
    Case("nvm-id-ns -n 1"),
    Case("nvm-id-ns-lba-format -i 0"),
    Case("primary-ctrl-caps"),
    Case("list-secondary"),
    Case("cmdset-ind-id-ns -n 1"),
    Case("ns-descs -n 1"),
    Case("ns-descs -n 2"),
    Case("id-nvmset"),
    Case("id-uuid"),
    Case("id-domain"),
    Case("list-endgrp"),
    text("id-iocs"),
]
#: I/O management, which newer QEMUs have.
UNKNOWN = dict.fromkeys(("*.IOCS_18 (*", "*.IOCS_29 (*"), "2.3 does not know the command")
LOGS = [
    Case("supported-log-pages"),
    Case("smart-log", changes=COUNTERS),
    Case("smart-log -n 1", changes=COUNTERS),
    Case("error-log"),
    Case("error-log -e 2"),
    Case("fw-log"),
    Case("changed-ns-list-log"),
    Case("effects-log", changes=UNKNOWN),
    Case("effects-log -c 2", changes=UNKNOWN),
    Case("self-test-log"),
    Case("endurance-log -g 1"),
    Case("predictable-lat-log -i 1"),
    Case("pred-lat-event-agg-log", theirs="-e 1"),
    Case("ana-log"),
    Case("persistent-event-log -a 0", theirs="-l 512"),
    Case("endurance-event-agg-log", theirs="-e 1"),
    Case("lba-status-log"),
    Case("resv-notif-log"),
    Case("boot-part-log -f /tmp/boot"),
    Case("media-unit-stat-log"),
    Case("supported-cap-config-log"),
    Case("fid-support-effects-log"),
    Case("mi-cmd-support-effects-log"),
    Case("sanitize-log"),
    text("telemetry-log -o /tmp/telemetry"),
    text("get-log -i 1 -l 64"),
    text("get-log -i 3 -l 512"),
    text("get-log -i 5 -l 64 -o 16 -y 2"),
]
SPECIFIED = "the name is the specification's"
NAMES = {
    "get-feature:0x0b(Async*": SPECIFIED,
    "get-feature:0x16(HostBehavior*": SPECIFIED,
}
CLOCK = {"0000:*": "the timestamp's data: it counts, and begins anew at a reset"}
WORDS = "-H is for people, and has words of our own"
LOWEST = "named no namespace, a feature of namespaces is asked of the lowest one"
#: Those that the device has, and some that it does not have.
FIDS = (1, 2, 4, 6, 7, 8, 9, 0xA, 0xB, 0xE, 0x16, 0x19, 3, 0xC, 0x10, 0x81)
FEATURES = [
    *(
        text(
            f"get-feature -f {fid:#x}",
            {name: why for name, why in NAMES.items() if f":{fid:#04x}(" in name},
            changes=CLOCK if fid == 0xE else {},
        )
        for fid in FIDS
    ),
    text("get-feature -f 4 -H", {"Threshold*": WORDS, "Temp*": WORDS, "[[]*": WORDS}),
    text("get-feature -f 4 -s 1"),
    text("get-feature -f 4 -s 2"),
    text("get-feature -f 4 -s 3"),
    text("get-feature -f 5", exits=LOWEST),
    text("get-feature -f 5 -n 1"),
    text("get-feature -f 0xe -b", changes={"*": CLOCK["0000:*"]}),
]
FABRICS = "nvme-cli's get-property is a command of NVMe over Fabrics alone; here it reads any"
EXIT = "2.3 has the exit code 1 though it shows them"
REGISTERS = [
    Case(
        "show-regs",
        dict.fromkeys(("aqa", "asq", "acq"), "where the admin queue lies is each driver's"),
        exits=EXIT,
    ),
    text("show-regs -H", {"*": WORDS}),
    text("get-property -o 0x14", exits=FABRICS),
]
SUBSYSTEM = "0.Subsystems.0"
OPENED = "no other controller than this one is opened"
TOLD = "the controller says so of itself"
NAMESPACES = [
    Case("resv-report -n 1", node=1),
    Case("get-lba-status -n 1 -s 0 -m 64 -a 0x11 -l 8"),
    text("dir-receive -n 1 -D 0 -O 1 -H", changes={"*": WORDS}),
    text("security-recv -p 0 -s 0 -x 256 -t 256"),
    Case("zns id-ctrl"),
    Case(f"zns id-ns -n {ZONED}"),
    Case("zns id-ns -n 1"),
    Case(f"zns report-zones -n {ZONED}", node=ZONED),
    Case(
        f"zns report-zones -n {ZONED} -s 0x800 -d 2 -p",
        {"nr_zones": "of a partial report it is the number of zones in it; 2.3 has that of all"},
        node=ZONED,
    ),
    Case(f"zns report-zones -n {ZONED} -e -S 1", node=ZONED),
    Case(f"zns changed-zone-list -n {ZONED}"),
    text(
        f"zns zone-mgmt-recv -n {ZONED} -l 128 -z 0",
        dict.fromkeys(("nr_zones:*", "SLBA:*"), "what the device gave is shown, too"),
        node=ZONED,
    ),
    Case("fdp configs -e 1", ours="--force"),  # newer QEMUs tell it without FDP, too
    Case("fdp usage -e 1"),
    Case("fdp stats -e 1"),
    Case("fdp events -e 1"),
    Case("fdp status -n 1", node=1),
]
ASCENDING = "numbers ascend here; 2.3 has the order of what it found, backwards"
MACHINE = [
    Case("list", {"Devices.*": "here it is controllers, whatever driver has them"}, kernel=True),
    *(
        Case(f"{words}{device}", kernel=True, text=as_text, order=ASCENDING)
        for words in ("list-subsys", "show-topology")
        for device in ("", " {disk}n1")
        for as_text in (False, True)
    ),
    Case("show-topology -r ctrl", kernel=True, text=True, order=ASCENDING),
    Case("get-ns-id {disk}n2", kernel=True, text=True),
    Case("get-ns-id {}", kernel=True, text=True),
    Case("ns-rescan {}", kernel=True, text=True),
    Case(
        "list-subsys {}",
        {
            f"{SUBSYSTEM}.Name": "it is the device's",
            f"{SUBSYSTEM}.Paths.1.*": OPENED,
            f"{SUBSYSTEM}.Paths.0.ANAState": "the kernel's word for a controller without ANA",
            **dict.fromkeys((f"{SUBSYSTEM}.C*", f"{SUBSYSTEM}.Controllers.*"), TOLD),
        },
        node=1,
    ),
    Case(
        "show-topology {}",
        {
            f"{SUBSYSTEM}.Name": "it is the device's",
            f"{SUBSYSTEM}.Namespaces.*": f"{OPENED}: the form is the one without multipath",
        },
        node=1,
    ),
]
ERRORS = [
    # No such log page, feature, namespace, register, block, command.
    text("get-log -i 0x7f -l 64"),
    text("get-feature -f 0x99"),
    Case("id-ns -n 9"),
    Case("id-ns -n 0xfffffffe"),
    Case("ns-descs -n 9"),
    Case("smart-log -n 9"),
    Case("list-ns -n 0xffffffff"),
    text("get-feature -f 5 -n 9"),
    text("get-property -o 0x9999", exits=USAGE),
    text("read -n 1 -s 0xffffffffff -c 0 -z 512", node=1),
    text("admin-passthru -o 0xf0"),
    text("io-passthru -o 0x7f -n 1", node=1),
    # No such option, value, command, device.
    Case("id-ctrl --no-such-option", exits=USAGE),
    Case("id-ns -n word", exits=USAGE),
    text("no-such-command", exits=USAGE),
]
CASES = [*IDENTIFY, *LOGS, *FEATURES, *REGISTERS, *NAMESPACES, *MACHINE, *ERRORS]


def commands(cases: list[Case]) -> list[dict[str, Any]]:
    """Give what the guest's script takes."""
    return [
        {
            "id": str(case),
            "theirs": _with_device(f"{case.words} {case.theirs}", case, f"{{disk}}n{case.node}"),
            "ours": _with_device(f"{case.words} {case.ours}", case, "{}"),
            "kernel": case.kernel,
        }
        for case in cases
    ]


def _with_device(words: str, case: Case, disk: str) -> list[str]:
    device = disk if case.node else "{}"
    name, *options = words.split()
    names = [name, options.pop(0)] if name in ("zns", "fdp") else [name]
    if "{}" in options:
        options[options.index("{}")] = device
    elif not case.kernel:
        options.insert(0, device)
    return [*names, *options, *([] if case.text else ["-o", "json"])]


# --- comparing ---------------------------------------------------------------------------------


def unexplained(case: Case, theirs: Answer, ours: Answer) -> list[str]:
    """What differs without a reason, and the reasons without a difference."""
    found = []
    if (theirs.exit != ours.exit) != bool(case.exits):
        found.append(f"exit codes: {theirs.exit} and {ours.exit}")
    statuses = _status(theirs.errors), _status(ours.errors)
    if None not in statuses and statuses[0] != statuses[1]:
        found.append(f"statuses: {statuses}")
    if (theirs.exit and ours.exit) or not (theirs.output and ours.output):
        return found
    reasons = {*DIFFERS, *case.changes, *case.differs}
    used = set()
    for way, what in _differences(case, theirs.output, ours.output).items():
        of = {pattern for pattern in reasons if fnmatchcase(way, pattern)}
        found += [] if of else [f"{way}: {what}"]
        used |= of
    return found + [f"nothing differs in {each}" for each in case.differs if each not in used]


def _status(errors: str) -> int | None:
    """Give the status in an error that has one."""
    match = re.search(r"\((?:status )?(0x[0-9a-f]+)\)", errors)
    return int(match[1], 16) if match else None


def _differences(case: Case, theirs: str, ours: str) -> Mapping[str, object]:
    if case.text:
        return _lines(theirs, ours)
    one, other = _parsed(theirs), _parsed(ours)
    if case.order:
        one, other = _ordered(one), _ordered(other)
    return _keys(mended(one, other), other)


def _ordered(tree: Any) -> Any:
    """Give the tree with each list in an order of its own."""
    if isinstance(tree, dict):
        return {key: _ordered(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return sorted(map(_ordered, tree), key=lambda each: json.dumps(each, sort_keys=True))
    return tree


def _keys(theirs: Any, ours: Any) -> dict[str, tuple[Any, Any]]:
    """Find the keys whose values differ; None is for what is not there."""
    one, other = dict(leaves(theirs)), dict(leaves(ours))
    return {
        way: (one.get(way), other.get(way))
        for way in dict.fromkeys([*one, *other])
        if one.get(way) != other.get(way) or (way in one) != (way in other)
    }


def _lines(theirs: str, ours: str) -> dict[str, str]:
    """Find the lines that only one of them has."""
    one, other = (
        ["".join(line.split()) for line in text.splitlines() if line.split()]
        for text in (theirs, ours)
    )
    found = {line: "theirs alone" for line in one if line not in other}
    return found | {line: "ours alone" for line in other if line not in one}


def _parsed(output: str) -> Any:
    """Give the JSON of an output, before which 2.3 may write other lines; None for none."""
    begin = re.search(r"^[{\[]", output, re.MULTILINE)
    return json.loads(output[begin.start() :], strict=False) if begin else None


def leaves(tree: Any, way: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with the way to it; a list's element by its number, what is empty as it is."""
    if not isinstance(tree, dict | list) or not tree:
        yield way, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(value, f"{way}.{key}" if way else str(key))
