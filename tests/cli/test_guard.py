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
