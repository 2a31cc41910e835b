"""nvme-cli's commands that are not here, and the raw command that each of them sends."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode

_PAGE = 4096
_ALL = "0xffffffff"


def _admin(opcode: AdminOpcode, options: str = "") -> str:
    return f"admin-passthru DEVICE --opcode {opcode:#04x} {options}".rstrip()


def _io(opcode: NvmOpcode, options: str = "") -> str:
    return f"io-passthru DEVICE --opcode {opcode:#04x} --namespace-id 1 {options}".rstrip()


def _identify(cns: Cns, options: str = "") -> str:
    return _admin(
        AdminOpcode.IDENTIFY, f"{options} --cdw10 {cns:#x} --data-len {_PAGE} --read".lstrip()
    )


def _log(lid: int, length: int, options: str = "") -> str:
    """Get Log Page: dword 10 has the page and its length in dwords, less one (Base 2.0, 5.16)."""
    cdw10 = (length // 4 - 1) << 16 | lid
    return _admin(
        AdminOpcode.GET_LOG_PAGE,
        f"{options} --cdw10 {cdw10:#010x} --data-len {length} --read".lstrip(),
    )


_NSID = "--namespace-id 1"
_SETS = "--cdw11 0x00010000"  # the NVM set or endurance group, in bits 31:16
_FROM = f"--data-len {_PAGE} --write --input-file FILE"

#: The command line for each; what follows DEVICE is to be changed as it is needed.
PASSTHRU = {
    "security-send": _admin(AdminOpcode.SECURITY_SEND, f"--cdw10 0 --cdw11 {_PAGE} {_FROM}"),
    "security-recv": _admin(
        AdminOpcode.SECURITY_RECEIVE, f"--cdw10 0 --cdw11 {_PAGE} --data-len {_PAGE} --read"
    ),
    "get-lba-status": _admin(
        AdminOpcode.GET_LBA_STATUS, f"{_NSID} --cdw12 0x3ff --data-len {_PAGE} --read"
    ),
    "capacity-mgmt": _admin(AdminOpcode.CAPACITY_MANAGEMENT, "--cdw10 0"),
    "lockdown": _admin(AdminOpcode.LOCKDOWN, "--cdw10 0"),
    "dir-receive": _admin(
        AdminOpcode.DIRECTIVE_RECEIVE, f"{_NSID} --cdw10 0x3ff --cdw11 1 --data-len {_PAGE} --read"
    ),
    "dir-send": _admin(AdminOpcode.DIRECTIVE_SEND, f"{_NSID} --cdw11 1 --cdw12 0"),
    "virt-mgmt": _admin(AdminOpcode.VIRTUALIZATION_MANAGEMENT, "--cdw10 0"),
    "nvme-mi-send": _admin(AdminOpcode.NVME_MI_SEND),
    "nvme-mi-recv": _admin(AdminOpcode.NVME_MI_RECEIVE, f"--data-len {_PAGE} --read"),
    "resv-register": _io(NvmOpcode.RESERVATION_REGISTER, "--data-len 16 --write --input-file FILE"),
    "resv-report": _io(
        NvmOpcode.RESERVATION_REPORT, f"--cdw10 0x3ff --cdw11 1 --data-len {_PAGE} --read"
    ),
    "resv-acquire": _io(NvmOpcode.RESERVATION_ACQUIRE, "--data-len 16 --write --input-file FILE"),
    "resv-release": _io(NvmOpcode.RESERVATION_RELEASE, "--data-len 8 --write --input-file FILE"),
    "dsm": _io(
        NvmOpcode.DATASET_MANAGEMENT, "--cdw10 0 --cdw11 4 --data-len 16 --write --input-file FILE"
    ),
    "copy": _io(NvmOpcode.COPY, "--cdw12 0 --data-len 32 --write --input-file FILE"),
    "write-uncor": _io(NvmOpcode.WRITE_UNCORRECTABLE, "--cdw10 0 --cdw12 0"),
    "verify": _io(NvmOpcode.VERIFY, "--cdw10 0 --cdw12 0"),
    "io-mgmt-recv": _io(
        NvmOpcode.IO_MANAGEMENT_RECEIVE, f"--cdw10 1 --cdw11 0x3ff --data-len {_PAGE} --read"
    ),
    "io-mgmt-send": _io(NvmOpcode.IO_MANAGEMENT_SEND, f"--cdw10 1 {_FROM}"),
    "zns": _io(NvmOpcode.ZONE_MANAGEMENT_RECEIVE, f"--cdw12 0x3ff --data-len {_PAGE} --read"),
}

_REGISTERS = "`nvme-user show-regs` prints them; in Python ctrl.registers reads and writes them"
_FABRICS = "it is about the kernel's NVMe over Fabrics, and no controller is driven over it here"
_KERNEL = "it is about what the kernel's driver knows; `nvme-user list` shows the controllers"
#: What takes the place of those that send no command of their own.
INSTEAD = {
    "ns-rescan": "namespaces are looked for each time that a controller is opened",
    "get-ns-id": _KERNEL,
    "list-subsys": _KERNEL,
    "show-topology": _KERNEL,
    **dict.fromkeys(("get-property", "set-property", "get-reg", "set-reg"), _REGISTERS),
    **dict.fromkeys(("discover", "connect", "connect-all", "disconnect"), _FABRICS),
    **dict.fromkeys(("disconnect-all", "config", "gen-hostnqn", "show-hostnqn", "dim"), _FABRICS),
    **dict.fromkeys(("gen-dhchap-key", "check-dhchap-key", "gen-tls-key"), _FABRICS),
    **dict.fromkeys(("check-tls-key", "tls-key"), _FABRICS),
    "rpmb": "Security Send and Receive carry it: `nvme-user security-send` says how they are sent",
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
