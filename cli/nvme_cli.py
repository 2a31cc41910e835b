"""nvme-cli's commands: 3.x's spelling, and what takes the place of those that are not here."""

from __future__ import annotations

from collections.abc import Sequence

_REGISTERS = "`nvme-user get-property` and `set-property` read and write registers by offset"
_FABRICS = "it is about the kernel's NVMe over Fabrics, and no controller is driven over it here"
#: What takes the place of each. Those that send a command to the device are all here.
INSTEAD = {
    **dict.fromkeys(("get-reg", "set-reg"), _REGISTERS),
    **dict.fromkeys(("discover", "connect", "connect-all", "disconnect"), _FABRICS),
    **dict.fromkeys(("disconnect-all", "config", "gen-hostnqn", "show-hostnqn", "dim"), _FABRICS),
    **dict.fromkeys(("gen-dhchap-key", "check-dhchap-key", "gen-tls-key"), _FABRICS),
    **dict.fromkeys(("check-tls-key", "tls-key"), _FABRICS),
    "version": "write `nvme-user --version`",
    "help": "write `nvme-user --help`",
}


def missing(name: str) -> str | None:
    """Say what to do in place of a command of nvme-cli that is not here; None for no such one."""
    if instead := INSTEAD.get(name):
        return f"nvme-cli's {name} is not here: {instead}"
    return None


#: The commands that nvme-cli 3 spells in two words, by the first and the second.
_SPELLINGS = {
    "id": {
        **{name: f"id-{name}" for name in ("ctrl", "ns", "ns-granularity", "ns-lba-format")},
        **{name: f"id-{name}" for name in ("nvmset", "uuid", "iocs", "domain")},
        **{name: name for name in ("primary-ctrl-caps", "ns-descs")},
        "nvm-ctrl": "nvm-id-ctrl",
        "nvm-ns": "nvm-id-ns",
        "nvm-ns-lba-format": "nvm-id-ns-lba-format",
        "ns-list": "list-ns",
        "ctrl-list": "list-ctrl",
        "endgrp-list": "list-endgrp",
        "secondary-ctrl-list": "list-secondary",
        "ns-ind": "cmdset-ind-id-ns",
    },
    "log": {
        **{
            name: f"{name}-log"
            for name in (
                *("smart", "ana", "telemetry", "fw", "endurance", "effects", "error"),
                *("changed-ns-list", "changed-alloc-ns-list", "predictable-lat"),
                *("pred-lat-event-agg", "persistent-event", "endurance-event-agg", "lba-status"),
                *("resv-notif", "boot-part", "phy-rx-eom", "self-test", "fid-support-effects"),
                *("mi-cmd-support-effects", "media-unit-stat", "supported-cap-config"),
                *("mgmt-addr-list", "rotational-media-info", "dispersed-ns-participating-nss"),
                *("reachability-groups", "reachability-associations", "sanitize"),
            )
        },
        "supported-pages": "supported-log-pages",
    },
    "ns": {
        **{name: f"{name}-ns" for name in ("create", "delete", "attach", "detach")},
        "get-id": "get-ns-id",
    },
    "resv": {name: f"resv-{name}" for name in ("acquire", "register", "release", "report")},
    "fw": {
        **{name: f"fw-{name}" for name in ("download", "commit")},
        "activate": "fw-commit",
    },
    "dir": {name: f"dir-{name}" for name in ("receive", "send")},
    "security": {name: f"security-{name}" for name in ("recv", "send")},
    "io-mgmt": {name: f"io-mgmt-{name}" for name in ("recv", "send")},
    "nvme-mi": {name: f"nvme-mi-{name}" for name in ("recv", "send")},
}


def spellings() -> dict[tuple[str, str], str]:
    """Give the command of each that nvme-cli 3 spells in two words."""
    return {
        (group, word): command
        for group, words in _SPELLINGS.items()
        for word, command in words.items()
    }


def spelled(words: Sequence[str]) -> list[str] | None:
    """Give words with nvme-cli 3's two for a command as its one; None if they begin otherwise.

    Raises ValueError, with a sentence, where the first is of that kind and the second is wrong.
    """
    group, *rest = words
    if group not in _SPELLINGS:
        return None
    known = _SPELLINGS[group]
    if rest and rest[0] in known:
        return [known[rest[0]], *rest[1:]]
    which = f"no {group} {rest[0]!r}" if rest else f"{group} alone is no command"
    raise ValueError(f"{which}: after {group!r} comes one of {', '.join(sorted(known))}")
