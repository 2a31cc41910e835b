"""nvme-cli's commands that are not here, and the raw command that each of them sends."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pynvme_user.spec.commands import NvmOpcode

_PAGE = 4096


def _io(opcode: NvmOpcode, options: str = "") -> str:
    return f"io-passthru DEVICE --opcode {opcode:#04x} --namespace-id 1 {options}".rstrip()


#: The command line for each; what follows DEVICE is to be changed as it is needed.
PASSTHRU = {
    "zns": _io(NvmOpcode.ZONE_MANAGEMENT_RECEIVE, f"--cdw12 0x3ff --data-len {_PAGE} --read"),
}

_REGISTERS = "`nvme-user get-property` and `set-property` read and write registers by offset"
_FABRICS = "it is about the kernel's NVMe over Fabrics, and no controller is driven over it here"
_KERNEL = "it is about what the kernel's driver knows; `nvme-user list` shows the controllers"
#: What takes the place of those that send no command of their own.
INSTEAD = {
    "ns-rescan": "namespaces are looked for each time that a controller is opened",
    "get-ns-id": _KERNEL,
    "list-subsys": _KERNEL,
    "show-topology": _KERNEL,
    **dict.fromkeys(("get-reg", "set-reg"), _REGISTERS),
    **dict.fromkeys(("discover", "connect", "connect-all", "disconnect"), _FABRICS),
    **dict.fromkeys(("disconnect-all", "config", "gen-hostnqn", "show-hostnqn", "dim"), _FABRICS),
    **dict.fromkeys(("gen-dhchap-key", "check-dhchap-key", "gen-tls-key"), _FABRICS),
    **dict.fromkeys(("check-tls-key", "tls-key"), _FABRICS),
    "rpmb": "its frames go by `nvme-user security-send --secp 0xea` and `security-recv`",
    "fdp": "Get Log Page and I/O Management carry it: `nvme-user get-log` says how a log is read",
    "version": "write `nvme-user --version`",
    "help": "write `nvme-user --help`",
}


def missing(words: Sequence[str]) -> str | None:
    """Say what to do in place of a command of nvme-cli that is not here; None for no such one.

    ``words`` are the command and what follows it; the first argument is taken as the device.
    """
    name = words[0]
    if line := PASSTHRU.get(name):
        device = words[1] if len(words) > 1 and not words[1].startswith("-") else "DEVICE"
        line = line.replace("DEVICE", shlex.quote(device), 1)
        return f"nvme-cli's {name} is not here: `nvme-user {line}` sends such a command"
    if instead := INSTEAD.get(name):
        return f"nvme-cli's {name} is not here: {instead}"
    return None
