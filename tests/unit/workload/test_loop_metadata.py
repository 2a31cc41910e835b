"""The benchmark's loop on blocks with metadata: what commands carry, what is made and judged."""

from __future__ import annotations

import numpy as np
import pytest
from generator_rig import BLOCK, Sizes, generator
from ring_rig import DATA_IOVA, PIECE, Rig, data_buffer, joined
from workload_rig import SECOND, SLICE, total, workload

from pynvme_user import Protection, ProtectionError, ProtectionType
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.status import MediaStatus
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Contents, Workload
from pynvme_user.workload.metadata import Metadata

BLOCKS, DEPTH, MS = 4, 2, 16
FOUR = Sizes(BLOCKS * BLOCK, BLOCKS * BLOCK)
OFFSET = PIECE // 2
APP_TAG = 0x1234
#: Dwords 12 and 15 of a template stay as they are.
PRINFO, TAGS = 0b0111 << 26, 0xFFFF_1234
READ, WRITE = 0, 1
COMMANDS = {
    direction: bytes(SQE.build(opc=opcode, nsid=1, cdw12=PRINFO, cdw15=TAGS, cdw14=0))
    for direction, opcode in ((READ, NvmOpcode.READ), (WRITE, NvmOpcode.WRITE))
}


def protection(type: int = 1) -> Protection:
    return Protection(type=ProtectionType(type), block_size=BLOCK, metadata_size=MS)


def metadata(*, apart: bool, protected: Protection | None = None, bits: int = 32) -> Metadata:
    return Metadata(
        block_bytes=BLOCK if apart else BLOCK + MS,
        metadata_bytes=MS if apart else 0,
        offset=OFFSET if apart else 0,
        ref_tag_bits=bits,
        protection=protected,
        guard=True,
        ref_tag=protected is not None and protected.type is not ProtectionType.TYPE3,
        app_tag=APP_TAG,
        app_tag_mask=0xFFFF,
    )


def made(rig: Rig, rw: str, carried: Metadata, **options: object) -> Workload:
    gen = generator(rw, FOUR, size=12 * BLOCK, offset=7 * BLOCK)
    given = {"commands": COMMANDS, "metadata": carried, **options}
    return workload(gen, rig, None, **given)


class Memory:
    """Data and metadata of a command, where the test's memory has them."""

    def __init__(self, buffer: np.ndarray, at: int, carried: Metadata) -> None:
        rows = np.asarray(buffer)[at:]
        if carried.metadata_bytes:
            self.data = rows[: BLOCKS * BLOCK]
            self.metadata = rows[OFFSET : OFFSET + BLOCKS * MS]
        else:
            whole = rows[: BLOCKS * (BLOCK + MS)].reshape(BLOCKS, -1)
            self.data, self.metadata = whole[:, :BLOCK], whole[:, BLOCK:]

    def check(self, protected: Protection, lba: int) -> None:
        protected.check(self.data.tobytes(), self.metadata.tobytes(), ref_tag=lba, app_tag=APP_TAG)


def lba_of(sqe: SQE) -> int:
    return sqe.cdw11 << 32 | sqe.cdw10


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "interleaved"])
@pytest.mark.parametrize("bits", [32, 48, 64, 8, 0])
def test_what_a_command_carries(apart: bool, bits: int) -> None:
    carried = metadata(apart=apart, bits=bits)
    rig = Rig(depth=DEPTH)
    high = 0x1_2345_6789_ABCD
    gen = generator("read", FOUR, size=8 * BLOCK, offset=high * BLOCK)
    work = workload(gen, rig, None, commands=COMMANDS, metadata=carried)
    assert not work.run(rig.ring, SLICE)
    for number, sqe in enumerate(rig.take()):
        lba = high + number * BLOCKS
        place = DATA_IOVA + rig.index(sqe.cid) * PIECE
        assert lba_of(sqe) == lba
        tag = lba & (1 << bits) - 1
        assert (sqe.cdw14, sqe.cdw3) == (tag & 0xFFFFFFFF, tag >> 32)
        assert (sqe.cdw12, sqe.cdw15) == (PRINFO | BLOCKS - 1, TAGS)
        assert sqe.mptr == (place + OFFSET if apart else 0)
        length = BLOCKS * (BLOCK if apart else BLOCK + MS)
        assert joined(rig.data(sqe, length)) == (place, length)
        rig.complete(sqe.cid)
    assert work.run(rig.ring, SECOND)


@pytest.mark.parametrize("refilled", [False, True])
@pytest.mark.parametrize("type", [1, 2, 3])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "interleaved"])
def test_what_is_written_is_protected(apart: bool, type: int, refilled: bool) -> None:
    protected = protection(type)
    carried = metadata(apart=apart, protected=protected, bits=32 if type < 3 else 0)
    rig, buffer = Rig(depth=DEPTH), data_buffer(DEPTH)
    rng = np.random.default_rng(type)
    buffer[:] = rng.integers(0, 256, buffer.nbytes, np.uint8)
    contents = Contents(seed=1, unit=BLOCK, chunk=BLOCK) if refilled else None
    work = made(rig, "write", carried, buffer=buffer, contents=contents)
    ended, ios = False, 0
    while not ended:
        ended = work.run(rig.ring, SLICE)
        for sqe in rig.take():
            at = rig.index(sqe.cid) * PIECE
            Memory(buffer, at, carried).check(protected, lba_of(sqe) if type < 3 else 0)
            rig.complete(sqe.cid)
            ios += 1
    assert (ios, total(work, "ios"), work.errors) == (3, 3, {})


WRONG = {
    "guard": (0, MediaStatus.GUARD_CHECK_ERROR),
    "application tag": (2, MediaStatus.APPLICATION_TAG_CHECK_ERROR),
    "reference tag": (4, MediaStatus.REFERENCE_TAG_CHECK_ERROR),
}


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("part", WRONG)
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "interleaved"])
def test_what_is_read_is_judged(apart: bool, part: str, split: bool) -> None:
    """A block whose tuple is wrong, though the device says that all went well."""
    protected = protection()
    carried = metadata(apart=apart, protected=protected)
    rig, buffer = Rig(depth=DEPTH), data_buffer(DEPTH)
    options = {"depth": DEPTH, "command_blocks": 3} if split else {}
    gen = generator("read", FOUR, size=12 * BLOCK, offset=7 * BLOCK)
    work = workload(
        gen, rig, **{"commands": COMMANDS, "metadata": carried, "buffer": buffer, **options}
    )
    byte, status = WRONG[part]
    ended, count = False, 0
    while not ended:
        ended = work.run(rig.ring, SLICE)
        for sqe in rig.take():
            first = (lba_of(sqe) - 7) // BLOCKS * BLOCKS + 7
            length = (sqe.cdw12 & 0xFFFF) + 1
            place = rig.data(sqe, length * carried.block_bytes)[0][0] - DATA_IOVA
            memory = Memory(buffer, place // PIECE * PIECE, carried)
            data, tuples = np.zeros((BLOCKS, BLOCK), np.uint8), np.zeros((BLOCKS, MS), np.uint8)
            protected.generate(data.reshape(-1), tuples.reshape(-1), ref_tag=first, app_tag=APP_TAG)
            if first == 7 + BLOCKS:
                tuples[2, MS - 8 + byte] ^= 1
            memory.data[...] = data.reshape(memory.data.shape)
            memory.metadata[...] = tuples.reshape(memory.metadata.shape)
            rig.complete(sqe.cid)
            count += 1
    assert count == (6 if split else 3)
    assert work.errors == {status.value | 0x200: 1}
    assert (total(work, "ios"), total(work, "failed")) == (2, 1)
    fault = work.protection_fault
    assert fault is not None
    lba, error = fault
    assert isinstance(error, ProtectionError)
    assert (lba, error.part, error.block) == (7 + BLOCKS + 2, part, 2)


def test_a_status_of_the_device_comes_first() -> None:
    """What was not read is not judged."""
    rig = Rig(depth=DEPTH)
    work = made(rig, "read", metadata(apart=True, protected=protection()))
    work.run(rig.ring, SLICE)
    rig.complete_all(lambda _: 0x281)
    work.stop()
    assert work.run(rig.ring, SECOND)
    assert (work.errors, work.protection_fault) == ({0x281: 2}, None)


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "interleaved"])
def test_commands_of_a_split_io(apart: bool) -> None:
    protected = protection()
    carried = metadata(apart=apart, protected=protected)
    rig, buffer = Rig(depth=4), data_buffer(1)
    gen = generator("write", FOUR, size=4 * BLOCK, offset=7 * BLOCK)
    work = workload(
        gen, rig, 1, commands=COMMANDS, metadata=carried, buffer=buffer, command_blocks=3
    )
    assert not work.run(rig.ring, SLICE)
    first, second = rig.take()
    assert [(lba_of(sqe), sqe.cdw14, sqe.cdw12 & 0xFFFF) for sqe in (first, second)] == [
        (7, 7, 2),
        (10, 10, 0),
    ]
    if apart:
        assert (first.mptr, second.mptr) == (DATA_IOVA + OFFSET, DATA_IOVA + OFFSET + 3 * MS)
    assert rig.data(second, carried.block_bytes)[0][0] == DATA_IOVA + 3 * carried.block_bytes
    Memory(buffer, 0, carried).check(protected, 7)
    rig.complete(first.cid)
    rig.complete(second.cid)
    assert work.run(rig.ring, SECOND)
    assert total(work, "ios") == 1


def test_a_log_counts_blocks_with_their_metadata() -> None:
    rig = Rig(depth=DEPTH)
    work = made(rig, "read", metadata(apart=False), records=8)
    while not work.run(rig.ring, SLICE):
        rig.complete_all()
    each = BLOCKS * (BLOCK + MS)
    records = work.take_records()
    assert records["bytes"].tolist() == [each] * 3
    first = 7 * (BLOCK + MS)
    assert sorted(records["offset"].tolist()) == [first, first + each, first + 2 * each]


def test_a_group_tells_the_fault_of_any() -> None:
    protected = protection()
    rigs = [Rig(depth=DEPTH) for _ in range(2)]
    works = [made(rig, "read", metadata(apart=True, protected=protected)) for rig in rigs]
    group = WorkloadGroup(works, blocks=BLOCKS)
    assert group.protection_fault is None
    works[1].run(rigs[1].ring, SLICE)
    rigs[1].complete_all()  # with zeroes, whose guard is 0 and application tag is not
    works[1].stop()
    assert works[1].run(rigs[1].ring, SECOND)
    fault = group.protection_fault
    assert fault is not None
    assert fault[1].part == "application tag"
