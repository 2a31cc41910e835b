"""Writes to what carries a partition table or file system want --force (and only those)."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pynvme_user.cli import signatures


def head(*parts: tuple[int, bytes]) -> bytes:
    """Random bytes with these in them."""
    content = bytearray(random.Random(3).randbytes(68 << 10))
    content[510:512] = bytes(2)
    for offset, part in parts:
        content[offset : offset + len(part)] = part
    return bytes(content)


MBR = head((446, bytes(64)), (446, b"\x80\x20\x21\x00\x83"), (510, b"\x55\xaa"))

CASES = [
    ("GPT", 512, head((512, b"EFI PART"))),
    ("GPT", 4096, head((4096, b"EFI PART"))),
    ("MBR", 512, MBR),
    ("ext4", 512, head((0x438, b"\x53\xef"), (0x418, b"\2\0\0\0"))),
    ("XFS", 512, head((0, b"XFSB"))),
    ("btrfs", 512, head((0x10040, b"_BHRfS_M"))),
    ("LVM", 512, head((512, b"LABELONE"))),
    ("swap", 512, head((4086, b"SWAPSPACE2"))),
    ("LUKS", 512, head((0, b"LUKS\xba\xbe\x00\x02"))),
    ("NTFS", 512, head((3, b"NTFS    "))),
    ("FAT", 512, head((82, b"FAT32   "))),
    ("RAID", 512, head((4096, b"\xfc\x4e\x2b\xa9"))),
]


@pytest.mark.parametrize(("name", "block", "content"), CASES)
def test_signatures(name: str, block: int, content: bytes) -> None:
    found = signatures.identify(content, block)
    assert found is not None
    assert name in found


def test_what_is_no_signature() -> None:
    assert signatures.identify(head(), 512) is None
    assert signatures.identify(bytes(68 << 10), 512) is None
    assert signatures.identify(b"", 512) is None
    # Two bytes alone, as any data may have them.
    assert signatures.identify(head((510, b"\x55\xaa")), 512) is None
    assert signatures.identify(head((0x438, b"\x53\xef")), 512) is None


@pytest.mark.parametrize("block", [512, 4096])
def test_write_is_refused(run: Any, fail: Any, tmp_path: Path, block: int) -> None:
    image = tmp_path / "disk.img"
    content = bytearray(1 << 20)
    content[block : block + 8] = b"EFI PART"
    image.write_bytes(content)
    device = f"qemu:disk.img?logical_block_size={block}"
    for command in (("write", device, "-s", 128), ("write-zeroes", device, "-s", 128)):
        said = fail(*command, input=b"\xff" * block)
        assert "carries a GPT partition table" in said
        assert "--force" in said
    assert image.read_bytes() == content
    run("write", device, "-s", 128, "--force", input=b"\xff" * block)
    assert image.read_bytes()[128 * block : 129 * block] == b"\xff" * block
    run("write-zeroes", device, "-s", 0, "-c", 15, "--force")
    run("write", device, input=b"\xff" * block)


@pytest.mark.parametrize("block", [4096, 8192, 65536, 131072, 1 << 20])
def test_all_that_may_carry_a_signature_is_read(
    run: Any, fail: Any, tmp_path: Path, block: int
) -> None:
    """Not what is left of it when it is divided by the length of a block."""
    image = tmp_path / "disk.img"
    content = bytearray(4 << 20)
    content[0x10040:0x10048] = b"_BHRfS_M"
    image.write_bytes(content)
    device = f"qemu:disk.img?logical_block_size={block}&mdts=0"
    assert "a btrfs file system" in fail("write", device, input=b"\xff" * block)
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
    """What moves no data needs no buffer for metadata; the guard reads past it."""
    image = tmp_path / "disk.img"
    content = bytearray(b"\x55" * (1 << 20))
    image.write_bytes(content)
    device = f"qemu:disk.img?{format}"
    run("write-zeroes", device, "-s", 1, "-c", 1)
    assert image.read_bytes()[512:1536] == bytes(1024)
    run("flush", device)
    content[:4] = b"XFSB"
    image.write_bytes(content)
    assert "an XFS file system" in fail("write-zeroes", device, "-s", 1)
    assert image.read_bytes() == content
    for command in (("read", device, "-c", 0), ("write", device, "--force")):
        assert "bytes of metadata in each block" in fail(*command, input=bytes(512))
    for way in ("read", "write"):
        done = run("bench", device, "--rw", way, "--number_ios", 1, "--force", code=2)
        assert b"bytes of metadata in each block" in done.stderr
    assert image.read_bytes() == content


@pytest.mark.parametrize("maker", ["mkfs.ext4", "mkswap", "sfdisk"])
def test_what_the_tools_make(fail: Any, tmp_path: Path, maker: str) -> None:
    program = shutil.which(maker, path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip(f"{maker} is not installed")
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(16 << 20))
    subprocess.run([program, str(image)], input=b",\n", capture_output=True, check=True)
    name = {"mkfs.ext4": "ext4", "mkswap": "swap space", "sfdisk": "MBR"}[maker]
    assert name in fail("write", "qemu:disk.img", input=bytes(512))


def test_a_small_namespace(run: Any) -> None:
    run("write", "qemu:disk.img?size=4096", input=b"x" * 4096)
