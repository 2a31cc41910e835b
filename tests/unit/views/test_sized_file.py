"""A file whose size changes, in a region: what is kept of it, and when the power fails."""

from __future__ import annotations

import errno
import io
import random
from collections.abc import Iterator

import pytest
from volatile_cache import VolatileCache

import pynvme_user as nvme
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.testing import SoftDevice, faults
from pynvme_user.views.sized_file import HEAD, SizedFile

SIZE = 1 << 20


@pytest.fixture(params=[512, 4096])
def ns(request: pytest.FixtureRequest) -> Iterator[nvme.Namespace]:
    with nvme.open(f"soft:?size=4M&logical_block_size={request.param}&inline=1") as ctrl:
        yield ctrl.namespaces[1]


def opened(ns: nvme.Namespace, **options: bool) -> SizedFile:
    return SizedFile(ns.byte_range(SIZE, SIZE), "a file", **options)


def test_as_a_file_in_memory(ns: nvme.Namespace) -> None:
    """The same random steps on a BytesIO give the same, each time; so does opening it again."""
    rng = random.Random(3)
    ns.write(0, b"\xee" * (4 << 20))  # what is new is zeroes, whatever was there
    ours, theirs = opened(ns, erase=True), io.BytesIO()
    for _ in range(400):
        at = rng.choice([0, 511, 512, 4096, rng.randrange(SIZE // 2)])
        match rng.randrange(5):
            case 0 | 1:
                data = rng.randbytes(rng.choice([0, 1, 24, 512, 4096, 4097, 20_000]))
                theirs.seek(0, io.SEEK_END)
                if data:
                    theirs.write(bytes(max(at - theirs.tell(), 0)))
                theirs.seek(at)
                theirs.write(data)
                ours.write(at, data)
            case 2:
                theirs.truncate(at)
                theirs.seek(0, io.SEEK_END)
                theirs.write(bytes(max(at - theirs.tell(), 0)))
                ours.truncate(at)
            case 3:
                ours.sync()
            case 4:
                ours.sync()
                ours = opened(ns)
        assert ours.size == len(theirs.getvalue())
        count = rng.randrange(30_000)
        assert ours.read(at, count) == theirs.getvalue()[at : at + count]
    assert ours.read(0, SIZE) == theirs.getvalue()
    # Nothing else was written.
    assert set(ns.read(0, SIZE // ns.block_size)) == {0xEE}
    assert set(ns.read(2 * SIZE // ns.block_size, SIZE // ns.block_size)) == {0xEE}


@pytest.mark.parametrize("seed", range(8))
def test_what_was_synced_survives_a_loss_of_power(ns: nvme.Namespace, seed: int) -> None:
    """And what was not is not in it: no byte that lies behind its end from before, either."""
    rng = random.Random(seed)
    ns.write(SIZE // ns.block_size, bytes(HEAD) + b"old".ljust(512) * 1024)
    content = b""
    for _ in range(25):
        cache = VolatileCache(ns)
        file = SizedFile(cache.byte_range(SIZE, SIZE), "a file")
        assert file.size == len(content)
        assert file.read(0, SIZE) == content
        file.write(rng.randrange(20_000), rng.randbytes(rng.randrange(1, 9000)))
        file.sync()
        content = file.read(0, SIZE)
        for _ in range(rng.randrange(6)):
            file.write(len(content) + rng.randrange(9000), b"not synced")
        if rng.randrange(3) == 0:  # durable at once
            content = content[: rng.randrange(len(content))]
            file.truncate(len(content))
            file.write(len(content) + rng.randrange(9000), b"not synced")
        cache.fail(rng)


def test_one_slot_is_enough(ns: nvme.Namespace) -> None:
    """Even of a device that tears a block: the last durable size is never overwritten."""
    first = SIZE // ns.block_size
    file = opened(ns)
    file.truncate(1000)
    file.sync()
    for size in (2000, 3000, 500, 4000):
        last, before = file.size, ns.read(first, 2)
        file.truncate(size)
        file.sync()
        assert opened(ns).size == size
        after = ns.read(first, 2)
        [changed] = [n for n in (0, 1) if not same(before, after, n, ns.block_size)]
        slot = after[changed * ns.block_size :][: ns.block_size]
        ns.write(first + changed, slot[:20].ljust(ns.block_size, b"\xff"))
        assert opened(ns).size == last
        ns.write(first + changed, slot)


def same(one: bytearray, other: bytearray, number: int, size: int) -> bool:
    part = slice(number * size, (number + 1) * size)
    return one[part] == other[part]


def test_more_than_there_is_room_for(ns: nvme.Namespace) -> None:
    file = opened(ns)
    room = SIZE - HEAD
    assert (file.capacity, file.head, file.offset) == (room, HEAD, SIZE + HEAD)
    file.write(room - 3, b"abc")
    text = rf"a file has room for {room} bytes, not {room + 1}:"
    for call in (lambda: file.write(room - 2, b"abc"), lambda: file.truncate(room + 1)):
        with pytest.raises(OSError, match=text) as error:
            call()
        assert error.value.errno == errno.ENOSPC
    assert file.size == room
    assert file.read(room - 3, 10) == b"abc"
    assert file.read(room + 5, 10) == b""


def test_other_data_is_not_overwritten(ns: nvme.Namespace) -> None:
    first = SIZE // ns.block_size
    for at in (0, 1080, 65_600, HEAD - 1):  # where file systems have their signatures, for example
        data = bytearray(HEAD)
        data[at] = 1
        ns.write(first, data)
        with pytest.raises(nvme.NvmeError, match="a file has other data, or its head is damaged:"):
            opened(ns)
        assert ns.read(first, HEAD // ns.block_size) == data
    assert opened(ns, erase=True).size == 0
    assert opened(ns).size == 0


def test_a_region_that_cannot_be_one(ns: nvme.Namespace) -> None:
    for offset, size in ((7, SIZE), (0, HEAD), (0, HEAD + ns.block_size - 1)):
        with pytest.raises(ValueError, match=r"a file needs .* bytes or more, from the beginning"):
            SizedFile(ns.byte_range(offset, size), "a file")
    # In a smaller one than before, what is behind its end is not read: it is damaged.
    file = opened(ns)
    file.write(SIZE - HEAD - 1, b"x")
    file.sync()
    with pytest.raises(nvme.NvmeError, match="its head is damaged"):
        SizedFile(ns.byte_range(SIZE, SIZE - ns.block_size), "a file")


def test_an_error_of_the_device_leaves_the_end() -> None:
    device = SoftDevice("?size=2M&inline=1")
    with nvme.open(device) as ctrl:
        file = SizedFile(ctrl.namespaces[1].byte_range(), "a file")
        file.write(0, b"x" * 5000)
        file.sync()
        for nth in (1, 2):  # of the zeroes, of the data
            with (
                device.order(faults.status(0x280), opc=NvmOpcode.WRITE, nth=nth),
                pytest.raises(nvme.NvmeStatusError, match="Write Fault"),
            ):
                file.write(5120, b"y" * 512)
            assert file.size == 5000
        file.write(5120, b"y" * 512)
        for opcode, nth in ((NvmOpcode.FLUSH, 1), (NvmOpcode.WRITE, 1)):
            with (
                device.order(faults.status(0x280), opc=opcode, nth=nth),
                pytest.raises(nvme.NvmeStatusError),
            ):
                file.sync()
            assert SizedFile(ctrl.namespaces[1].byte_range(), "a file").size == 5000
        file.sync()
        with (
            device.order(faults.status(0x280), opc=NvmOpcode.WRITE),
            pytest.raises(nvme.NvmeStatusError),
        ):
            file.truncate(7)
        assert file.size == 5632
        assert SizedFile(ctrl.namespaces[1].byte_range(), "a file").size == 5632
