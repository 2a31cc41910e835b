"""Writes to what carries somebody's data want --force (and only those)."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from disk_images import Parts, btrfs, gpt, luks, lvm, mbr, raid, swap, zfs

import pynvme_user as nvme
from pynvme_user.cli import signatures
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.guard import guard

MIB = 1 << 20
SIZE = 64 * MIB

CASES = [
    ("a partition table (gpt)", gpt(SIZE, 512, backup=False)),
    ("a partition table (gpt)", gpt(SIZE, 512, backup=True)),
    ("a partition table (gpt)", gpt(SIZE, 4096, backup=True)),
    ("a partition table (dos)", mbr()),
    ("a file system (btrfs)", btrfs()),
    ("a file system (zfs_member)", zfs(SIZE)),
    ("an encrypted volume (crypto_LUKS)", luks()),
    ("data (swap, labelled home)", swap(b"home")),
    ("a member of a RAID or volume group (LVM2_member)", lvm()),
    ("a member of a RAID or volume group (linux_raid_member, labelled host:0)", raid(SIZE)),
    ("an encrypted volume (crypto_LUKS) and a partition table (dos)", luks() | mbr()),
    (r"a file system (btrfs, labelled \x1b[2J\xff\u20ac)", btrfs(b"\x1b[2J\xff\xe2\x82\xac")),
]


@pytest.mark.parametrize(("said", "parts"), CASES)
def test_what_a_disk_carries(said: str, parts: Parts) -> None:
    assert signatures.identify(dict(parts), SIZE, 512) == said


def test_what_is_nobodys_data() -> None:
    assert signatures.identify({}, SIZE, 512) is None
    assert signatures.identify({}, 512, 512) is None
    for seed in range(20):
        page = random.Random(seed).randbytes(MIB)
        # Two bytes alone, as any data may have them.
        page = page[:510] + (b"\x55\xaa" if seed % 2 else b"\0\0") + page[512:]
        assert signatures.identify({0: page, SIZE - MIB: page}, SIZE, 512) is None


def test_a_namespace_of_any_size_takes_no_memory() -> None:
    """Beyond what is read of it; where a file ends, the end of the namespace is left out."""
    before = shared_memory()
    for size in (1 << 50, 1 << 63, 1 << 80):
        parts = luks() | {size - 4096: bytes(4096)}
        assert "LUKS" in str(signatures.identify(parts, size, 512))
    assert signatures.identify(raid(1 << 50), 1 << 50, 512) is not None
    assert shared_memory() - before < 4 * MIB


def shared_memory() -> int:
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(text.partition("Shmem:")[2].split()[0]) * 1024


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "_LIBRARY", "libblkid.so.none")
    with nvme.open("soft:?size=1M") as ctrl:
        with pytest.raises(Failure) as caught:
            guard(ctrl.namespaces[1], force=False)
        guard(ctrl.namespaces[1], force=True)
    assert str(caught.value) == (
        "what namespace 1 of soft:?size=1M carries cannot be looked at (libblkid.so.none is not "
        "there: install Debian's package libblkid1): add --force to write to it all the same"
    )


def test_what_cannot_be_probed() -> None:
    made = os.memfd_create("disk")
    os.truncate(made, SIZE)
    unreadable = os.open(f"/proc/self/fd/{made}", os.O_WRONLY)
    with pytest.raises(OSError, match="libblkid cannot probe it"):
        list(signatures._probe(signatures._blkid(), unreadable, 512))
    os.close(unreadable)
    os.close(made)


@pytest.mark.parametrize("block", [512, 4096])
def test_write_is_refused(run: Any, fail: Any, tmp_path: Path, block: int) -> None:
    image = tmp_path / "disk.img"
    content = written(image, MIB, gpt(MIB, block, backup=False))
    device = f"qemu:disk.img?logical_block_size={block}"
    for command in (("write", device, "-s", 128), ("write-zeroes", device, "-s", 128)):
        said = fail(*command, input=b"\xff" * block)
        assert "carries a partition table (gpt)" in said
        assert "--force" in said
    assert image.read_bytes() == content
    run("write", device, "-s", 128, "--force", input=b"\xff" * block)
    assert image.read_bytes()[128 * block : 129 * block] == b"\xff" * block
    run("write-zeroes", device, "-s", 0, "-c", MIB // block - 1, "--force")
    run("write", device, input=b"\xff" * block)


def written(image: Path, size: int, parts: Parts) -> bytearray:
    """Make an image of these parts."""
    content = bytearray(size)
    for at, part in parts.items():
        content[at : at + len(part)] = part
    image.write_bytes(content)
    return content


@pytest.mark.parametrize("block", [4096, 8192, 65536, 131072, 1 << 20])
@pytest.mark.parametrize("parts", [btrfs(), raid(4 * MIB)], ids=["head", "tail"])
def test_all_that_may_carry_a_signature_is_read(
    run: Any, fail: Any, tmp_path: Path, block: int, parts: Parts
) -> None:
    """Not what is left of it when it is divided by the length of a block."""
    image = tmp_path / "disk.img"
    content = written(image, 4 * MIB, parts)
    device = f"qemu:disk.img?logical_block_size={block}&mdts=0"
    assert "add --force" in fail("write", device, input=b"\xff" * block)
    assert image.read_bytes() == content
    image.write_bytes(bytes(4 << 20))
    run("write", device, input=b"\xff" * block)
    assert image.read_bytes()[:block] == b"\xff" * block


def test_blocks_that_no_command_carries_are_not_looked_at(run: Any, fail: Any) -> None:
    device = "qemu:?size=16M&logical_block_size=2M"
    said = fail("write-zeroes", device)
    assert "cannot be looked at" in said
    assert "--force" in said
    run("write-zeroes", device, "--force")
    assert "smaller blocks" in fail("write", device, "--force", input=b"\xff" * (2 << 20))


@pytest.mark.parametrize("format", ["ms=8", "ms=8&mset=1", "ms=64"])
def test_metadata(run: Any, fail: Any, tmp_path: Path, format: str) -> None:
    """The guard reads past it, for what moves no data and what does."""
    image = tmp_path / "disk.img"
    content = bytearray(b"\x55" * (1 << 20))
    image.write_bytes(content)
    device = f"qemu:disk.img?{format}"
    run("write-zeroes", device, "-s", 1, "-c", 1)
    assert image.read_bytes()[512:1536] == bytes(1024)
    run("flush", device)
    content[:8] = luks()[0]
    image.write_bytes(content)
    assert "an encrypted volume (crypto_LUKS)" in fail("write-zeroes", device, "-s", 1)
    assert image.read_bytes() == content
    assert "an encrypted volume" in fail("write", device, input=bytes(512))
    size = 8 * 520 if "mset=1" in format else 8 * 512
    run("bench", device, "--rw", "read", "--number_ios", 1, "--bs", size)
    assert image.read_bytes() == content


@pytest.mark.parametrize("format", ["ms=8", "ms=16&mset=1", "ms=64", "ms=4096&mset=1"])
def test_the_end_beside_metadata(fail: Any, tmp_path: Path, format: str) -> None:
    image = tmp_path / "disk.img"
    each = 512 + int(format.removeprefix("ms=").partition("&")[0])
    size = (16 * MIB // each) * 512  # the metadata of all blocks lie behind them
    content = written(image, 16 * MIB, raid(size))
    said = fail("write-zeroes", f"qemu:disk.img?{format}")
    assert "carries a member of a RAID or volume group (linux_raid_member, labelled host:0)" in said
    assert image.read_bytes() == content


MADE = {
    "mkfs.ext4": (("-L", "home"), b"", "a file system (ext4, labelled home)"),
    "mkswap": ((), b"", "data (swap)"),
    "sfdisk": ((), b",\n", "a partition table (dos)"),
    "sfdisk gpt": ((), b"label: gpt\n,\n", "a partition table (gpt)"),
}


@pytest.mark.parametrize("maker", MADE)
def test_what_the_tools_make(fail: Any, tmp_path: Path, maker: str) -> None:
    program = shutil.which(maker.split()[0], path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip(f"{maker} is not installed")
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(16 << 20))
    options, given, name = MADE[maker]
    subprocess.run([program, *options, str(image)], input=given, capture_output=True, check=True)
    if maker == "sfdisk gpt":  # its copy at the end alone
        with image.open("r+b") as disk:
            disk.write(bytes(34 * 512))
    assert f"carries {name}: add --force" in fail("write", "qemu:disk.img", input=bytes(512))


def test_a_small_namespace(run: Any) -> None:
    run("write", "qemu:disk.img?size=4096", input=b"x" * 4096)
