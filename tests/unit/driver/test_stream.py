"""Namespace.stream: a large read through a window of DMA memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pynvme_user as nvme
from pynvme_user.driver.geometry import Geometry
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.testing import SoftDevice, faults

SIZE = 2 << 20
BLOCK = 512
DATA = np.random.default_rng(17).integers(0, 256, SIZE, np.uint8).tobytes()


@pytest.fixture(scope="module")
def device() -> SoftDevice:
    return SoftDevice(f"?size={SIZE}&mdts=2&mqes=7&inline=1")


@pytest.fixture(scope="module")
def ns(device: SoftDevice) -> Iterator[nvme.Namespace]:
    with nvme.open(device) as ctrl:
        ctrl.namespaces[1].write(0, DATA)
        yield ctrl.namespaces[1]


@settings(max_examples=20)
@given(
    lba=st.integers(0, SIZE // BLOCK - 1),
    blocks=st.integers(1, 300),
    chunk=st.integers(1, 100),
    parts=st.integers(2, 5),
)
def test_every_range_and_window(
    ns: nvme.Namespace, lba: int, blocks: int, chunk: int, parts: int
) -> None:
    blocks = min(blocks, ns.block_count - lba)
    size = chunk * BLOCK
    got, lengths = bytearray(), []
    for part in ns.stream(lba, blocks, chunk=size, window=parts * size + 7):
        lengths.append(part.nbytes)
        got += part.tobytes()
        part[:] = 0  # the memory is the caller's until the next
    assert got == DATA[lba * BLOCK :][: blocks * BLOCK]
    assert set(lengths[:-1]) <= {size}
    assert lengths[-1] == (blocks * BLOCK - 1) % size + 1


def test_by_default_all_of_it_a_sixteenth_of_the_window_at_a_time(ns: nvme.Namespace) -> None:
    lengths = [part.nbytes for part in ns.stream(window=1 << 20)]
    assert lengths == [1 << 16] * 32
    assert b"".join(part.tobytes() for part in ns.stream(lba=5)) == DATA[5 * BLOCK :]
    assert isinstance(next(ns.stream()), nvme.DmaBuffer)


def test_a_window_that_is_there(ns: nvme.Namespace) -> None:
    window = ns.controller.alloc(16 * BLOCK + 5)[:-5].view("<u4")
    for part in ns.stream(3, 50, chunk=4 * BLOCK, window=window):
        assert np.shares_memory(part, window)
    got = b"".join(part.tobytes() for part in ns.stream(3, 50, chunk=4 * BLOCK, window=window))
    assert got == DATA[3 * BLOCK : 53 * BLOCK]
    with pytest.raises(TypeError, match=r"or a buffer from alloc\(\), not a bytearray"):
        ns.stream(window=bytearray(1 << 20))  # type: ignore[arg-type]
    with nvme.open("soft:?size=1M&inline=1") as other, pytest.raises(ValueError, match="buffer"):
        list(ns.stream(window=other.alloc(1 << 20)))


def test_what_is_read_ahead_waits_for_nobody(device: SoftDevice, ns: nvme.Namespace) -> None:
    """With one piece taken, the others of the window are read, and no more."""
    seen: list[int] = []

    def look(command: faults.Command) -> faults.Outcome:
        seen.append(command.sqe.cdw10)
        return faults.Outcome.EXECUTE

    with device.order(faults.answer(look), opc=NvmOpcode.READ):
        chunks = ns.stream(0, 64, chunk=4 * BLOCK, window=16 * BLOCK)
        next(chunks)
        assert seen == [0, 4, 8, 12]
        next(chunks)
        assert seen == [0, 4, 8, 12, 16]


def test_an_end_before_the_last_gives_all_back(ns: nvme.Namespace) -> None:
    gc.disable()
    try:
        for _ in range(ns.controller.max_queue_pairs + 1):
            for part in ns.stream(chunk=BLOCK, window=9 * BLOCK):
                assert part.tobytes() == DATA[:BLOCK]
                break
    finally:
        gc.enable()


def test_an_error_names_the_blocks_and_ends_it(device: SoftDevice, ns: nvme.Namespace) -> None:
    status = nvme.MediaStatus.UNRECOVERED_READ_ERROR
    with device.order(faults.status(status), lbas=range(70, 71)):
        chunks = ns.stream(0, 128, chunk=32 * BLOCK, window=64 * BLOCK)
        assert next(chunks).tobytes() == DATA[: 32 * BLOCK]
        with pytest.raises(nvme.NvmeStatusError, match="Read of 32 blocks from LBA 64 on") as error:
            list(chunks)
    assert error.value.status.code() is status
    assert list(chunks) == []
    assert next(ns.stream(70, 1)).tobytes() == DATA[70 * BLOCK :][:BLOCK]


@pytest.mark.parametrize(
    ("chunk", "window"), [(0, 1024), (100, 1024), (BLOCK, 1023), (-BLOCK, 4096), (None, BLOCK)]
)
def test_bad_windows(ns: nvme.Namespace, chunk: int | None, window: int) -> None:
    with pytest.raises(ValueError, match="a chunk is whole blocks of 512 bytes, and the window"):
        ns.stream(chunk=chunk, window=window)


def test_bad_ranges(ns: nvme.Namespace) -> None:
    for lba, blocks in ((0, ns.block_count + 1), (ns.block_count, None), (0, 0), (-1, 1)):
        with pytest.raises(ValueError, match="not all in namespace 1"):
            ns.stream(lba, blocks)


def test_a_namespace_with_metadata_is_read_piece_by_piece() -> None:
    with nvme.open("soft:?size=1M&commands=all&inline=1") as ctrl:
        formats = ctrl.namespaces[1].identify.lbafs
        ctrl.format(1, next(index for index, one in enumerate(formats) if one.ms))
        ns = ctrl.namespaces[1]
        assert ns.metadata_size
        size = ns.block_size
        ns.write(3, DATA[: 40 * size])
        chunks = ns.stream(3, 40, chunk=16 * size, window=32 * size)
        assert b"".join(part.tobytes() for part in chunks) == DATA[: 40 * size]


@given(
    lba=st.integers(0, 1000),
    blocks=st.integers(1, 500),
    most=st.integers(1, 64),
    boundary=st.integers(0, 100),
)
def test_a_cut_is_of_whole_runs(lba: int, blocks: int, most: int, boundary: int) -> None:
    geometry = Geometry(1, 9, 2000, 0, most, boundary)
    lbas, counts = (column.tolist() for column in geometry.cut(lba, blocks))
    assert all(0 < count <= most for count in counts)
    ends = [at + count for at, count in zip(lbas, counts, strict=True)]
    assert [lba, *ends] == [*lbas, lba + blocks]
    if boundary:
        assert all(
            at // boundary == (end - 1) // boundary for at, end in zip(lbas, ends, strict=True)
        )
