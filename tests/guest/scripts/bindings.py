"""Runs in a guest, as root: what uses a device, and taking it and giving it back.

Prints a JSON object for each case; test_binding.py says what has to be in it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

import forked_command

from pynvme_user.errors import NvmeError
from pynvme_user.host import binding, setup
from pynvme_user.host.holders import holders
from pynvme_user.host.pci import devices, watch_devices

DISK = "0000:00:04.0"
PLUGGED = "0000:01:00.0"
MOUNT = Path("/mnt/a disk")


def report(case: str, **values: object) -> None:
    print(json.dumps({"case": case, **values}), flush=True)


def sh(command: str, *, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


def cli(*arguments: str) -> dict[str, object]:
    """Run the command: forked, as each start of an interpreter takes a guest several seconds."""
    process = server.start(
        ["nvme-user", *arguments],
        env=os.environ,
        cwd=Path("/"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate()
    return {"status": process.returncode, "stdout": out.decode(), "stderr": err.decode()}


def driver(bdf: str = DISK) -> str | None:
    link = Path("/sys/bus/pci/devices", bdf, "driver")
    return link.readlink().name if link.exists() else None


def override(bdf: str = DISK) -> str:
    return Path("/sys/bus/pci/devices", bdf, "driver_override").read_text().strip()


def refusal(function: Callable[[], object]) -> str:
    try:
        function()
    except NvmeError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def hold(command: str) -> subprocess.Popen[str]:
    """Start a process, and wait until it has said that it holds what it is to hold."""
    process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    comm = Path(f"/proc/{process.pid}/comm")
    while command.endswith("exec sleep 1000") and comm.read_text() == "sh\n":
        time.sleep(0.01)  # it is `sh` until it has become what it executes
    return process


def used_in_every_way() -> None:
    """A file system and swap, each on device-mapper, and a process in the file system."""
    sh("dmsetup create left --table '0 262144 linear /dev/nvme0n1 0'")
    sh("dmsetup create right --table '0 262144 linear /dev/nvme0n1 262144'")
    sh("dmsetup mknodes; mkfs.ext4 -q /dev/mapper/left; mkswap /dev/mapper/right")
    MOUNT.mkdir(parents=True)
    sh(f"mount /dev/mapper/left '{MOUNT}'; swapon /dev/mapper/right")
    (MOUNT / "file").write_text("what was written")
    holder = hold(f"exec 3<'{MOUNT}/file'; echo held; exec sleep 1000")
    before = cli("bind", DISK)
    found = holders(DISK)
    report(
        "used",
        **before,
        holder=holder.pid,
        driver=driver(),
        override=override(),
        recorded=Path("/run/pynvme_user", f"{DISK}.json").exists(),
        content=(MOUNT / "file").read_text(),
        written=(MOUNT / "again").write_text("more"),
        swaps=Path("/proc/swaps").read_text(),
        listed=[str(item) for item in found],
        commands=[item.command for item in found],
    )
    left = []
    for item in found:
        sh(item.command)
        holder.poll()
        wait_for(lambda item=item: item not in holders(DISK))
        left.append(len(holders(DISK)))
    report("ended", left=left, exit=holder.wait(), bind=cli("bind", DISK), driver=driver())
    report("restored", restore=cli("restore", DISK), driver=driver(), override=override())
    wait_for(Path("/dev/nvme0n1").exists)


def used_elsewhere() -> None:
    """A mount in another namespace; a bare open; a loop device; a use that shows nowhere."""
    sh("mkfs.ext4 -qF /dev/nvme0n1; mkdir -p /mnt/hidden")
    away = hold("exec unshare -m sh -c 'mount /dev/nvme0n1 /mnt/hidden; echo held; sleep 1000'")
    error = refusal(lambda: binding.bind(DISK))
    [found] = holders(DISK)
    sh(found.command)
    report("namespace", error=error, command=found.command, pid=away.pid, left=holders(DISK))
    away.kill()
    away.wait()

    reader = hold("exec 3</dev/nvme0n1; echo held; exec sleep 1000")
    error = refusal(lambda: binding.bind(DISK))
    reader.kill()
    reader.wait()
    report("process", error=error, pid=reader.pid)

    sh("modprobe loop; losetup /dev/loop0 /dev/nvme0n1")
    error = refusal(lambda: binding.bind(DISK))
    [found] = holders(DISK)
    sh(found.command)
    report("loop", error=error, command=found.command, left=holders(DISK))

    # Claimed as a file system's second disk would be, by somebody whom the look does not find.
    claim = os.open("/dev/nvme0n1", os.O_RDONLY | os.O_EXCL)
    looks, binding.holders = binding.holders, lambda bdf: []
    error = refusal(lambda: binding.bind(DISK))
    binding.holders = looks
    os.close(claim)
    report("kernel", error=error, driver=driver())


def killed() -> None:
    """kill -9 of the process that bound it, at each step, and restore by another one."""
    sh("mount /dev/nvme0n1 /mnt/hidden; echo kept >/mnt/hidden/file; umount /mnt/hidden")

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for step in ("_unbind", "_give", "yield"):
        child = os.fork()
        if not child:
            if step != "yield":
                setattr(binding, step, die)
            with binding.bound(DISK):
                die()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        left = driver()
        done = cli("restore", DISK)
        wait_for(Path("/dev/nvme0n1").exists)
        sh("mount /dev/nvme0n1 /mnt/hidden")
        kept = Path("/mnt/hidden/file").read_text()
        sh("umount /mnt/hidden")
        report(
            "killed " + step,
            status=status == -signal.SIGKILL,
            left=left,
            restore=done,
            driver=driver(),
            override=override(),
            kept=kept,
            records=os.listdir("/run/pynvme_user"),
        )


def bound_and_back() -> None:
    error = refusal(lambda: binding.bind(DISK, "uio_pci_generic"))
    sh(binding.module_command("uio_pci_generic"))
    with binding.bound(DISK, "uio_pci_generic") as name:
        inside = driver()
    report("uio", error=error, name=name, inside=inside, after=driver())

    try:
        with binding.bound(DISK) as name:
            inside = driver()
            again = binding.bind(DISK)
            held = hold(f"exec 3<>{setup.group_node(DISK)}; echo held; exec sleep 1000")
            error = refusal(lambda: binding.restore(DISK))
            held.kill()
            held.wait()
            raise KeyError("out of the block")
    except KeyError:
        report(
            "vfio",
            name=name,
            inside=inside,
            again=again,
            error=error,
            pid=held.pid,
            after=driver(),
            override=override(),
        )

    taken = binding.unbind(DISK), driver(), binding.unbind(DISK)
    Path("/run/pynvme_user", f"{DISK}.json").unlink()
    report("no record", taken=taken, restored=binding.restore(DISK), driver=driver())

    error = refusal(lambda: binding.bind(DISK, "virtio-pci"))
    report("refused by the driver", error=error, driver=driver(), override=override())

    other = "0000:00:01.0"  # the console that prints this
    error = refusal(lambda: binding.unbind(other))
    report("other class", error=error, restored=binding.restore(other), driver=driver(other))
    report("gone", error=refusal(lambda: binding.bind("0000:00:0f.0")))

    os.seteuid(65534)
    error = refusal(lambda: binding.bind(DISK))
    os.seteuid(0)
    report("no root", error=error, driver=driver())


def events() -> None:
    """Bind, unplug and plug; the host does the plugging at these words."""
    seen = watch_devices(timeout=120)
    binding.bind(PLUGGED)
    listed = {item.address: (item.driver, item.serial, item.iommu_group) for item in devices()}
    report("listed", listed=listed, members=[item.group_members for item in devices()])
    print("unplug", flush=True)
    changes = []
    while ("remove", None) not in changes:
        event = next(seen)
        if event.address == PLUGGED:
            changes.append((event.action, event.driver))
    print("plug", flush=True)
    while ("bind", "nvme") not in changes:
        event = next(seen)
        if event.address == PLUGGED:
            changes.append((event.action, event.driver))
    report("events", changes=changes, driver=driver(PLUGGED), override=override(PLUGGED))
    report("restored after a removal", driver=binding.restore(PLUGGED))


def set_up() -> None:
    sh("rmmod uio_pci_generic; umount /dev/hugepages; echo 0 >/proc/sys/vm/nr_hugepages")
    arguments = ("setup", "--driver", "uio_pci_generic", "--hugepages", "20M")
    report("setup", first=cli(*arguments), second=cli(*arguments), total=setup.hugepage_total())
    binding.bind(DISK)
    given = cli("setup", DISK, "--user", "nobody", "--hugepages", "1")
    node = setup.group_node(DISK)
    assert node is not None
    report("given", **given, owner=node.owner(), total=setup.hugepage_total())
    wanted = 1 << 20
    got = setup.reserve_hugepages(wanted)
    Path("/proc/sys/vm/nr_hugepages").write_text("0")
    report("too many", fewer=10 < got < wanted)


if __name__ == "__main__":
    server = forked_command.Server()
    sh("modprobe -a vfio-pci vfio_iommu_type1 ext4 dm-mod")
    used_in_every_way()
    used_elsewhere()
    killed()
    bound_and_back()
    events()
    set_up()
