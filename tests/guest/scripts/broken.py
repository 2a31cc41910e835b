"""Runs in a guest, as root: breaks one thing after the other and asks ``nvme-user doctor``.

The command of each blocker is run as it is printed, and the doctor asked again. Prints a JSON
object for each case; test_doctor.py says what has to be in it. The argument names the scenario.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pynvme_user.doctor import examine

DISK = "0000:00:04.0"
SHARED = "0000:00:05.0"  # its IOMMU group has another controller, and a virtio device
USER = "nobody"
#: Programs that stand in for those that a guest does not have.
STAND_INS = Path("/run/stand-ins")


def report(case: str, **values: object) -> None:
    print(json.dumps({"case": case, **values}), flush=True)


def run(script: str, user: str | None = None) -> str:
    """Run a script in a shell of root's, or of a user who may use sudo; return its output."""
    command = ["sh", "-c", script]
    if user is not None:
        entry = pwd.getpwnam(user)
        ids = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        command = ["setpriv", *ids, *command]
    env = {**os.environ, "PATH": f"{STAND_INS}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.stderr:
        print(done.stderr, flush=True)
    return done.stdout


def verdict(device: dict[str, Any]) -> dict[str, Any]:
    """Shorten what the doctor says of one device to what failed."""
    failed = [check for check in device["checks"] if not check["passed"]]
    return {
        "usable": device["usable"],
        "blockers": [check["name"] for check in failed if check["blocks"]],
        "failed": failed,
    }


def printed(output: str) -> dict[str, Any]:
    """Read what ``nvme-user doctor --json`` printed."""
    [device] = json.loads(output)["devices"]
    return verdict(device)


def doctor(device: str = DISK) -> dict[str, Any]:
    """Ask without a new process for it, which takes its time in a guest."""
    examined = examine(device)
    checks = [asdict(check) for check in examined.checks]
    return verdict({"usable": examined.usable, "checks": checks})


def mend(case: str, name: str, device: str = DISK) -> None:
    """Ask, run the command of that check, ask again; a process takes a moment to end."""
    before = doctor(device)
    [check, *_] = [check for check in before["failed"] if check["name"] == name]
    output = run(check["command"])
    deadline = time.monotonic() + 30
    while len((after := doctor(device))["failed"]) == len(before["failed"]):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    report(case, before=before, check=check, output=output, after=after)


def install(name: str, script: str) -> None:
    STAND_INS.mkdir(exist_ok=True)
    (STAND_INS / name).write_text(f"#!/bin/sh\n{script}\n")
    (STAND_INS / name).chmod(0o755)


def install_sudo() -> None:
    """What sudo does for a user who needs no password: the command as root, on root's PATH."""
    helper = Path("/run/become-root")
    shutil.copy(str(shutil.which("setpriv")), helper)
    helper.chmod(0o4755)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    install(
        "sudo",
        f'exec {helper} --reuid=0 --regid=0 --clear-groups -- env PATH="{path}" "$@"',
    )
    # So that another user's interpreter finds itself.
    for program in (Path(sys.executable), Path(sys.executable).resolve()):
        for folder in program.parents:
            folder.chmod(folder.stat().st_mode | 0o111)


def hold(device: str) -> subprocess.Popen[str]:
    """Start a process that has the device open."""
    script = f"""
import sys, pynvme_user
with pynvme_user.open({device!r}):
    print("open", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def with_iommu() -> None:
    mend("modules", "modules")
    run("modprobe ext4; mkfs.ext4 -qF /dev/nvme0n1; mkdir /mnt/disk; mount /dev/nvme0n1 /mnt/disk")
    mend("mounted", "users")
    report("umounted", mounted=os.path.ismount("/mnt/disk"))
    mend("driver", "driver")

    holder = hold(DISK)
    report("text", text=run(f"nvme-user doctor {DISK}; echo status $?"), pid=holder.pid)
    report("json", said=printed(run(f"nvme-user doctor --json {DISK}")), found=doctor())
    mend("held", "users")
    report("ended", status=holder.wait(30))

    Path("/proc/sys/vm/nr_hugepages").write_text("0")
    mend("hugepages", "hugepages")
    run(f"nvme-user restore {DISK}")
    as_a_user()
    if shutil.which("fuser"):
        held_by_root()

    run(f"modprobe uio_pci_generic; nvme-user bind {DISK} --driver uio_pci_generic")
    mend("translated", "iommu", f"uio:{DISK}")
    report("no longer uio", **doctor())

    mend("group: driver", "driver", SHARED)
    mend("group: NVMe", "group", SHARED)
    mend("group: other", "group", SHARED)


def as_a_user() -> None:
    """All in one shell of a user who may not even open the node, and has little locked memory."""
    install_sudo()
    install(
        "command-of",
        f"""exec {sys.executable} -c '
import json, sys
[device] = json.load(open("/tmp/answer"))["devices"]
print(next(c["command"] for c in device["checks"] if c["name"] == sys.argv[1]))' "$1" """,
    )
    output = run(
        f"""
        ask() {{ nvme-user doctor {DISK} --json >/tmp/answer; cat /tmp/answer; echo ----; }}
        ulimit -l 64
        ask
        eval "$(command-of driver)" >&2
        sudo chown root /dev/vfio/*
        ask
        eval "$(command-of node)"
        ask
        eval "$(command-of memlock)"
        ask
        nvme-user id-ctrl {DISK} -o json
        """,
        user=USER,
    )
    first, unowned, unlocked, mended, page = output.split("----\n")
    report(
        "user",
        first=printed(first),
        unowned=printed(unowned),
        unlocked=printed(unlocked),
        mended=printed(mended),
        serial=json.loads(page)["sn"],
    )


def held_by_root() -> None:
    """A user asks, whose group root has open: whose process it is does not show."""
    [node] = [path for path in Path("/dev/vfio").iterdir() if path.name != "vfio"]
    with node.open("r+b", buffering=0) as group:
        holder = subprocess.Popen(["sleep", "1000"], stdin=group)
    os.seteuid(pwd.getpwnam(USER).pw_uid)
    before = doctor()
    os.seteuid(0)
    run(before["failed"][0]["command"])
    status = holder.wait(10)
    os.seteuid(pwd.getpwnam(USER).pw_uid)
    after = doctor()
    os.seteuid(0)
    report("held by root", before=before, status=status, after=after, node=str(node))


def without_iommu() -> None:
    install("update-grub", "echo updated")
    install("reboot", "echo rebooted")
    before = doctor()
    output = run(before["failed"][0]["command"])
    report("iommu", before=before, output=output)
    line = run(". /etc/default/grub; echo $GRUB_CMDLINE_LINUX_DEFAULT")
    report("kernel line", line=line.strip())

    uio = f"uio:{DISK}"
    mend("uio: modules", "modules", uio)
    mend("uio: driver", "driver", uio)
    mend("uio: hugepages", "hugepages", uio)
    holder = hold(uio)
    report("uio: pid", pid=holder.pid)
    mend("uio: held", "users", uio)
    holder.wait(30)


def rebooted() -> None:
    report("rebooted", **doctor())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
