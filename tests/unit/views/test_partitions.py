"""Partition tables: sfdisk's are read, and of those that lie nothing is believed."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gpt
import numpy as np
import pytest

from pynvme_user import PartitionTableError
from pynvme_user.views.partitions import read_partitions

BLOCKS = 2048
SFDISK = shutil.which("sfdisk", path="/usr/sbin:/sbin:/usr/bin:/bin")


class Disk:
    """A namespace in memory, which refuses what is not on it."""

    def __init__(self, data: bytearray, block_size: int = 512) -> None:
        self.data = data
        self.block_size = block_size

    @property
    def block_count(self) -> int:
        return len(self.data) // self.block_size

    def read_into(self, lba: int, buffer: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        start = lba * self.block_size
        assert buffer.nbytes % self.block_size == 0
        assert buffer.nbytes
        assert 0 <= start <= start + buffer.nbytes <= len(self.data)
        buffer[:] = np.frombuffer(self.data, np.uint8)[start : start + buffer.nbytes]

    def write_from(self, lba: int, buffer: Any) -> None:
        raise AssertionError("a table is read only")

    def flush(self) -> None:
        raise AssertionError("a table is read only")


def made(table: list[bytes], block_size: int = 512, /, **fields: Any) -> Disk:
    data = bytearray(BLOCKS * block_size)
    gpt.write(data, block_size, table, **fields)
    return Disk(data, block_size)


TWO = [gpt.entry("one", 100, 199), gpt.entry("zwei ß 二", 200, 200)]


@pytest.mark.skipif(SFDISK is None, reason="sfdisk is not installed: ./bootstrap guest")
def test_of_sfdisk(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(8 << 20))
    script = 'label: gpt\nstart=2048, size=100, name="one"\nstart=4096, size=3, name="zwei ß"\n'
    assert SFDISK
    subprocess.run([SFDISK, "-q", image], input=script.encode(), check=True, timeout=60)
    data = bytearray(image.read_bytes())
    found = read_partitions(Disk(data))
    assert [(one.number, one.name, one.offset, one.size) for one in found] == [
        (1, "one", 2048 * 512, 100 * 512),
        (2, "zwei ß", 4096 * 512, 3 * 512),
    ]
    assert {one.type for one in found} == {gpt.TYPE}
    assert len({one.id for one in found}) == 2
    data[512:1024] = bytes(512)  # its backup says the same
    assert read_partitions(Disk(data)) == found


@pytest.mark.parametrize("block_size", [512, 4096])
@pytest.mark.parametrize("entry_size", [128, 256, 512])
def test_block_and_entry_sizes(block_size: int, entry_size: int) -> None:
    entries = [gpt.entry("one", 200, 299, entry_size), bytes(entry_size)]
    entries.append(gpt.entry(b"x\0" * 36, 300, 300, entry_size))
    found = read_partitions(made(entries, block_size, entry_size=entry_size))
    assert [(one.number, one.name, one.offset, one.size) for one in found] == [
        (1, "one", 200 * block_size, 100 * block_size),
        (3, "x" * 36, 300 * block_size, block_size),
    ]


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 100])
def test_no_table(blocks: int) -> None:
    assert read_partitions(Disk(bytearray(blocks * 512))) == []


def test_what_is_no_longer_announced() -> None:
    disk = made(TWO)
    disk.data[450] = 0x83  # partitioned anew, as a PC's disk
    assert read_partitions(disk) == []


@pytest.mark.parametrize("at", [512, 512 + 20, 512 + 91, 1024, 1024 + 127 * 128])
def test_the_backup_takes_the_place_of_a_damaged_table(at: int) -> None:
    disk = made(TWO)
    whole = read_partitions(disk)
    assert [one.name for one in whole] == ["one", "zwei ß 二"]
    disk.data[at] ^= 0xFF
    assert read_partitions(disk) == whole
    disk.data[-512:] = bytes(512)
    with pytest.raises(PartitionTableError, match=r"damaged .*backup .*block 2047 has none.*anew"):
        read_partitions(disk)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": 91}, "91 bytes"),
        ({"size": 513}, "513 bytes"),
        ({"size": 0xFFFFFFFF}, "4294967295 bytes"),
        ({"own": 7}, "is that of block 7"),
        ({"crc": 1}, "checksum of its header"),
        ({"entries_crc": 1}, "checksum of its entries"),
        ({"entry_size": 0}, " 0 bytes"),
        ({"entry_size": 127}, "127 bytes"),
        ({"entry_size": 129}, "129 bytes"),
        ({"count": 0xFFFFFFFF}, "more than there can be"),
        ({"count": 32768}, "cannot be in block"),
        ({"entries": 0}, "in block 0"),
        ({"entries": 1}, "in block 1"),
        ({"entries": BLOCKS - 1}, "in block 2047"),
        ({"entries": (1 << 64) - 1}, "in block 18446744073709551615"),
        ({"first_usable": 1}, "blocks 1 to"),
        ({"last_usable": BLOCKS}, "to 2048 of 2048"),
    ],
)
def test_a_header_that_cannot_be(fields: dict[str, int], says: str) -> None:
    with pytest.raises(PartitionTableError, match=says):
        read_partitions(made(TWO, **fields))


@pytest.mark.parametrize(
    ("first", "last"), [(33, 40), (1, 1), (50, 49), (2014, 2015), (50, (1 << 64) - 1)]
)
def test_a_partition_that_cannot_be(first: int, last: int) -> None:
    with pytest.raises(PartitionTableError, match=f"partition 2 goes from block {first} to {last}"):
        read_partitions(made([TWO[0], gpt.entry("bad", first, last)]))


def test_partitions_that_share_blocks() -> None:
    with pytest.raises(PartitionTableError, match="partitions 2 and 1 have blocks in common"):
        read_partitions(made([gpt.entry("b", 150, 160), gpt.entry("a", 100, 150)]))


def test_names_that_are_no_text() -> None:
    found = read_partitions(made([gpt.entry(b"\x00\xd8a\0", 100, 100), gpt.entry(b"", 101, 101)]))
    assert [one.name for one in found] == ["\ufffda", ""]


def test_no_entries() -> None:
    assert read_partitions(made([], count=0)) == []


def test_bytes_at_random() -> None:
    """Whatever is in header and entries, with right checksums: partitions, or our error."""
    rng = random.Random(17)
    outcomes = set()
    for _ in range(3000):
        fields = {
            name: rng.choice([rng.getrandbits(bits), rng.randrange(300)])
            for name, bits in (
                ("size", 32),
                ("own", 64),
                ("first_usable", 64),
                ("last_usable", 64),
                ("entries", 64),
                ("entry_size", 32),
            )
            if rng.random() < 0.15
        }
        count = rng.choice([gpt.ENTRIES, rng.getrandbits(32), rng.randrange(200)])
        entries = [
            gpt.entry(rng.randbytes(72), rng.randrange(2100), rng.randrange(2100))
            for _ in range(rng.randrange(3))
        ]
        try:
            for one in read_partitions(made(entries, count=count, **fields)):
                assert 0 < one.offset < one.offset + one.size < BLOCKS * 512
            outcomes.add("read")
        except PartitionTableError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
