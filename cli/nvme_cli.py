"""nvme-cli's commands that are not here, and what takes their place."""

from __future__ import annotations

_REGISTERS = "`nvme-user get-property` and `set-property` read and write registers by offset"
_FABRICS = "it is about the kernel's NVMe over Fabrics, and no controller is driven over it here"
_KERNEL = "it is about what the kernel's driver knows; `nvme-user list` shows the controllers"
#: What takes the place of each. Those that send a command to the device are all here.
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
    "version": "write `nvme-user --version`",
    "help": "write `nvme-user --help`",
}


def missing(name: str) -> str | None:
    """Say what to do in place of a command of nvme-cli that is not here; None for no such one."""
    if instead := INSTEAD.get(name):
        return f"nvme-cli's {name} is not here: {instead}"
    return None
