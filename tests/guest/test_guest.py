"""The guest itself: what goes in and comes out, and what a lost one looks like."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.errors import GuestLostError, GuestSetupError, GuestTimeoutError
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest


def shell(script: str) -> list[str]:
    return ["sh", "-ec", script]


def test_devices_and_hot_plug() -> None:
    """One guest with an IOMMU: its NVMe under the kernel's driver, VFIO, a removal, a return."""
    script = """
        cd /sys/bus/pci/devices
        readlink 0000:00:04.0/driver | grep -q '/nvme$'
        head -c 1048576 /dev/nvme0n1 | cmp - /dev/zero -n 1048576
        test "$(cat /sys/block/nvme0n2/queue/logical_block_size)" = 4096
        modprobe -a vfio-pci vfio_iommu_type1
        test -c /dev/vfio/vfio
        test -n "$(readlink 0000:00:04.0/iommu_group)"
        test "$(readlink 0000:00:04.0/iommu_group)" != "$(readlink 0000:01:00.0/iommu_group)"
        mount | grep -q '^devpts on /dev/pts '
        grep -q 'HugePages_Free: *32$' /proc/meminfo
        echo "plugged: $(cat 0000:01:00.0/nvme/nvme*/serial)"
        while [ -e 0000:01:00.0 ]; do sleep 0.1; done
        echo unplugged
        until grep -q live 0000:01:00.0/nvme/nvme*/state 2>/dev/null; do sleep 0.1; done
        echo 'plugged again'
    """
    pieces: list[bytes] = []
    disks = [
        NvmeDisk(size=1 << 24, namespaces=({}, {"logical_block_size": "4096"})),
        NvmeDisk(size=1 << 24, hotplug=True),
    ]
    with Guest(
        shell(script), nvme=disks, hugepages=32, timeout=900, on_output=pieces.append
    ) as guest:
        assert [disk.address for disk in guest.disks] == ["0000:00:04.0", "0000:01:00.0"]
        guest.wait_output("plugged: guest-nvme1", 600)
        guest.unplug("nvme1")
        guest.wait_output("unplugged", 600)
        guest.plug("nvme1")
        result = guest.wait()
    assert result.returncode == 0, result.output
    assert result.output.endswith("unplugged\nplugged again\n")
    assert b"".join(pieces).decode() == result.output
    assert 0 < result.boot_seconds < result.seconds


def test_a_failing_command_without_iommu(tmp_path: Path) -> None:
    """Its status and output come back, and what it wrote to a share and to an image."""
    image = tmp_path / "image"
    image.write_bytes(b"from the host".ljust(1 << 20, b"\0"))
    unwritten = tmp_path / "unwritten"
    share = tmp_path / "share"
    share.mkdir()
    script = f"""
        modprobe uio_pci_generic
        test ! -e /sys/bus/pci/devices/0000:00:04.0/iommu_group
        head -c 13 /dev/nvme0n1
        echo " seen" | dd of=/dev/nvme0n1 bs=512 seek=8 conv=sync,fsync status=none
        echo in the guest > {unwritten}
        echo "kept by $USER" > {share}/kept
        seq 100000
        echo to stderr >&2
        sleep 1000 &
        exit 144
    """
    disks = [NvmeDisk(image=image)]
    result = Guest(shell(script), iommu=False, nvme=disks, share=share, timeout=900).run()
    numbers = "".join(f"{number}\n" for number in range(1, 100001))
    assert result.output == "from the host" + numbers + "to stderr\n"
    assert result.returncode == 144
    assert (share / "kept").read_text() == "kept by root\n"
    assert not unwritten.exists()
    assert image.read_bytes()[4096:4102] == b" seen\n"


def test_the_command_line_and_another_user() -> None:
    """The command's status and output are those of ``python -m pynvme_user.qemu.guest``."""
    arguments = ["--user", "nobody", "--nvme", "size=16M,logical_block_size=4096", "--"]
    script = "id -un; cat /sys/block/nvme0n1/queue/hw_sector_size; test -r /dev/nvme0n1"
    done = subprocess.run(
        [sys.executable, "-m", "pynvme_user.qemu.guest", *arguments, "sh", "-c", script],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "nobody\n4096\n", "")


def test_a_shell_on_a_terminal() -> None:
    """It has the terminal's size, ctrl-C reaches the guest, and `exit STATUS` comes back."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-m", "pynvme_user.qemu.guest", "--shell"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        read_until(ours, b"# ")
        os.write(ours, b"stty size; sleep 1000 || echo interrupted\r")
        assert b"40 100" in read_until(ours, b"100\r")
        interrupt_until(ours, b"# ")
        os.write(ours, b"exit 5\r")
        assert process.wait(120) == 5
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_a_panic_is_a_lost_guest() -> None:
    guest = Guest(shell("echo before; echo c > /proc/sysrq-trigger; sleep 60"), timeout=900)
    with pytest.raises(GuestLostError, match="while its command ran") as lost:
        guest.run()
    assert not isinstance(lost.value, GuestTimeoutError)
    assert "sysrq triggered crash" in lost.value.console
    assert lost.value.output == "before\n"


def test_a_power_off_is_no_success() -> None:
    """A guest that ends in order, but without the command's status."""
    with pytest.raises(GuestLostError, match="while its command ran"):
        Guest(shell("echo o > /proc/sysrq-trigger; sleep 60"), nvme=(), timeout=900).run()


def test_the_deadline_kills_the_guest() -> None:
    begin = time.monotonic()
    with pytest.raises(GuestTimeoutError, match="deadline of 1 s"):
        Guest(["true"], timeout=1).run()
    assert time.monotonic() - begin < 60


@pytest.mark.kills
def test_qemu_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """And leaves no socket, disk or other file: all of them are inherited descriptors."""
    script = """
import sys, time
from pynvme_user.qemu.guest.guest import Guest
guest = Guest(["sleep", "60"])
guest.start()
print(guest.qmp.execute("query-status")["running"], guest.process_id, flush=True)
time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert child.stdout is not None
    running, qemu = child.stdout.readline().split()
    assert running == "True"
    assert "qemu-system" in Path(f"/proc/{qemu}/cmdline").read_text()
    child.kill()
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 60
    while _alive(qemu):
        assert time.monotonic() < deadline, f"QEMU (process {qemu}) outlived its parent"
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_setup_errors_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(GuestSetupError, match=r"did not start.*no-such-device"):
        Guest(["true"], devices=["no-such-device"]).run()
    with pytest.raises(GuestSetupError, match="no user nobody-of-this-name"):
        Guest(["true"], user="nobody-of-this-name").run()
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(GuestSetupError, match=r"nobody may not read .*: put it where nobody can"):
        Guest(["true"], user="nobody", cwd=private).run()


@pytest.mark.parametrize(
    ("spec", "message"), [("size=1X", "not a size"), ("fast", "not NAME=VALUE")]
)
def test_a_bad_disk_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NvmeDisk.parse(spec)


def read_until(terminal: int, wanted: bytes, timeout: float = 300.0) -> bytes:
    deadline = time.monotonic() + timeout
    text = b""
    while wanted not in text:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} did not come: {text!r}"
        text += os.read(terminal, 4096)
    return text


def interrupt_until(terminal: int, wanted: bytes) -> None:
    """Press ctrl-C until that comes: one before the command has begun ends nothing."""
    for _ in range(30):
        os.write(terminal, b"\x03")
        with suppress(AssertionError):
            read_until(terminal, wanted, 2.0)
            return
    pytest.fail(f"{wanted!r} did not come")


def _alive(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
