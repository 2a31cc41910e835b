"""Protection information in memory: what is generated, and that each wrong bit is named."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user import GuardFormat, Protection, ProtectionError, ProtectionType
from pynvme_user.protection import crc16, crc32c, crc64
from pynvme_user.spec.protection import PROTECTION_INFO, STORAGE_TAG_SIZES

CRCS = {GuardFormat.GUARD_16B: crc16, GuardFormat.GUARD_32B: crc32c, GuardFormat.GUARD_64B: crc64}
TYPES = [ProtectionType.TYPE1, ProtectionType.TYPE2, ProtectionType.TYPE3]


@st.composite
def protections(draw: st.DrawFn) -> Protection:
    guard = draw(st.sampled_from(list(CRCS)))
    least, most = STORAGE_TAG_SIZES[guard]
    size = PROTECTION_INFO[guard].size
    return Protection(
        type=draw(st.sampled_from(TYPES)),
        guard=guard,
        block_size=draw(st.sampled_from([1, 64, 512, 520, 4096])),
        metadata_size=size + draw(st.sampled_from([0, 1, 8, 48, 112])),
        first=draw(st.booleans()),
        storage_tag_bits=draw(st.integers(least, most)),
    )


class Memory:
    """Blocks, apart or behind each other, that begin at any address, with bytes around them."""

    def __init__(self, kind: Protection, blocks: int, apart: bool, shift: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        each = kind.block_size + (0 if apart else kind.metadata_size)
        self.whole = rng.integers(0, 256, shift + blocks * each + 9, np.uint8)
        self.data = self.whole[shift : shift + blocks * each]
        self.metadata: np.ndarray | None = None
        if apart:
            self.rest = rng.integers(0, 256, shift + blocks * kind.metadata_size + 9, np.uint8)
            self.metadata = self.rest[shift : shift + blocks * kind.metadata_size]
        self.kind = kind

    def data_of(self, block: int) -> np.ndarray:
        size, extra = self.kind.block_size, self.kind.metadata_size
        at = block * (size if self.metadata is not None else size + extra)
        return self.data[at : at + size]

    def metadata_of(self, block: int) -> np.ndarray:
        size, extra = self.kind.block_size, self.kind.metadata_size
        if self.metadata is not None:
            return self.metadata[block * extra :][:extra]
        return self.data[block * (size + extra) + size :][:extra]


def tag(draw_from: int, bits: int) -> int:
    return draw_from & (1 << bits) - 1


WORDS = st.integers(0, (1 << 80) - 1)


@given(protections(), st.integers(0, 5), st.booleans(), st.integers(0, 9), WORDS, WORDS, st.data())
def test_what_is_generated(
    kind: Protection,
    blocks: int,
    apart: bool,
    shift: int,
    ref: int,
    storage: int,
    data: st.DataObject,
) -> None:
    memory = Memory(kind, blocks, apart, shift, ref & 0xFFFF)
    before = Memory(kind, blocks, apart, shift, ref & 0xFFFF)
    app = data.draw(st.integers(0, 0xFFFE))
    ref_tag = tag(ref, kind.tags.reference_bits)
    storage_tag = tag(storage, kind.tags.storage_bits)
    tags = {"ref_tag": ref_tag, "app_tag": app, "storage_tag": storage_tag}
    kind.generate(memory.data, memory.metadata, **tags)
    kind.check(memory.data, memory.metadata, **tags)
    for block in range(blocks):
        metadata, old = memory.metadata_of(block), before.metadata_of(block)
        raw = metadata[kind.offset : kind.offset + kind.size].tobytes()
        info = PROTECTION_INFO[kind.guard].from_bytes(raw)
        step = 0 if kind.type is ProtectionType.TYPE3 else block
        want = tag(ref_tag + step, kind.tags.reference_bits)
        assert kind.tags.split(info.tags) == (storage_tag, want)
        assert info.apptag == app
        covered = b"" if kind.first else metadata[: kind.offset].tobytes()
        assert info.guard == CRCS[kind.guard](memory.data_of(block).tobytes() + covered)
        old[kind.offset : kind.offset + kind.size] = np.frombuffer(raw, np.uint8)
    assert (memory.whole == before.whole).all()
    if apart:
        assert (memory.rest == before.rest).all()


@given(protections(), st.booleans(), st.integers(0, 9), WORDS, WORDS, st.data())
def test_each_wrong_bit_is_named(
    kind: Protection, apart: bool, shift: int, ref: int, storage: int, data: st.DataObject
) -> None:
    blocks = 3
    memory = Memory(kind, blocks, apart, shift, 1)
    app = data.draw(st.integers(0, 0xFFFE))
    tags = {
        "ref_tag": tag(ref, kind.tags.reference_bits),
        "app_tag": app,
        "storage_tag": tag(storage, kind.tags.storage_bits),
    }
    kind.generate(memory.data, memory.metadata, **tags)
    block = data.draw(st.integers(0, blocks - 1))
    where = data.draw(st.sampled_from(["data", "metadata", "guard", "app", "tags"]))
    info = PROTECTION_INFO[kind.guard]
    guard_size = info.apptag.offset
    metadata = memory.metadata_of(block)
    first, length = {
        "metadata": (0, kind.metadata_size - kind.size),
        "guard": (0, guard_size),
        "app": (guard_size, 2),
        "tags": (guard_size + 2, kind.size - guard_size - 2),
    }.get(where, (0, kind.block_size))
    if not length:
        return
    bit = data.draw(st.integers(0, 8 * length - 1))  # from the field's first, most significant, on
    place, mask = bit // 8, 0x80 >> bit % 8
    part = "guard"
    if where == "data":
        memory.data_of(block)[place] ^= mask
    elif where == "metadata":
        metadata[place if not kind.first else kind.size + place] ^= mask
        if kind.first:
            part = ""  # the guard is of the data alone
    else:
        metadata[kind.offset + first + place] ^= mask
        if where == "app":
            part = "application tag"
            if app ^ 1 << 15 - bit == 0xFFFF and kind.type is not ProtectionType.TYPE3:
                part = ""
        elif where == "tags":
            part = "storage tag" if bit < kind.tags.storage_bits else "reference tag"
    if not part:
        kind.check(memory.data, memory.metadata, **tags)
        return
    with pytest.raises(ProtectionError) as caught:
        kind.check(memory.data, memory.metadata, **tags)
    error = caught.value
    assert (error.block, error.part) == (block, part)
    assert error.expected != error.found
    assert f"the {part} of block {block} is {error.found:#x}" in str(error)
    assert pickle.loads(pickle.dumps(error)) == error
    # What is not asked for is not looked at.
    asked = {"guard": True} | tags | {"guard" if part == "guard" else _keyword(part): None}
    kind.check(memory.data, memory.metadata, **asked | {"guard": part != "guard"})


def _keyword(part: str) -> str:
    return {
        "application tag": "app_tag",
        "storage tag": "storage_tag",
        "reference tag": "ref_tag",
    }[part]


def made(
    type: ProtectionType, app_tag: int, ref_tag: int, guard: GuardFormat = GuardFormat.GUARD_16B
) -> tuple[Protection, np.ndarray, np.ndarray]:
    kind = Protection(
        type=type,
        block_size=512,
        metadata_size=16,
        guard=guard,
        storage_tag_bits=16 if guard is GuardFormat.GUARD_32B else 0,
    )
    data, metadata = np.zeros(512, np.uint8), np.zeros(16, np.uint8)
    kind.generate(data, metadata, ref_tag=ref_tag, app_tag=app_tag)
    data[100] = 1
    return kind, data, metadata


@pytest.mark.parametrize("guard", list(CRCS))
@pytest.mark.parametrize("type", TYPES)
def test_tags_that_switch_checks_off(type: ProtectionType, guard: GuardFormat) -> None:
    """Section 5.3.3: even what is wrong is none then."""
    ones = (
        1
        << Protection(
            type=type,
            block_size=512,
            metadata_size=16,
            guard=guard,
            storage_tag_bits=16 if guard is GuardFormat.GUARD_32B else 0,
        ).tags.reference_bits
    ) - 1
    for ref_tag in (5, ones):
        kind, data, metadata = made(type, 0xFFFF, ref_tag, guard)
        if type is ProtectionType.TYPE3 and ref_tag != ones:
            with pytest.raises(ProtectionError, match="the guard of block 0"):
                kind.check(data, metadata, ref_tag=6, app_tag=7)
        else:
            kind.check(data, metadata, ref_tag=6, app_tag=7)
        kind, data, metadata = made(type, 0xFFFE, ref_tag, guard)
        with pytest.raises(ProtectionError, match="the guard of block 0"):
            kind.check(data, metadata)


def test_masks_say_which_bits_are_checked() -> None:
    kind = Protection(
        type=ProtectionType.TYPE1,
        block_size=512,
        metadata_size=8,
        storage_tag_bits=8,
        storage_tag_mask=0xF0,
    )
    data, metadata = bytes(1024), bytearray(16)
    kind.generate(data, metadata, ref_tag=9, app_tag=0x1234, storage_tag=0xAB)
    kind.check(data, metadata, app_tag=0xFF34, app_tag_mask=0xFF, storage_tag=0xAC)
    with pytest.raises(ProtectionError) as caught:
        kind.check(data, metadata, app_tag=0xFF34, app_tag_mask=0x1FF)
    assert (caught.value.expected, caught.value.found) == (0xFF34, 0x1234)
    with pytest.raises(ProtectionError) as caught:
        kind.check(data, metadata, storage_tag=0xBB)
    assert (caught.value.part, caught.value.found) == ("storage tag", 0xAB)
    with pytest.raises(ProtectionError) as caught:
        kind.check(data, metadata, ref_tag=10)
    assert (caught.value.block, caught.value.expected, caught.value.found) == (0, 10, 9)


@pytest.mark.parametrize(("type", "tags"), [(1, [0xFFFFFFFF, 0, 1]), (3, [0xFFFFFFFF] * 3)])
def test_a_reference_tag_begins_again_at_0(type: int, tags: list[int]) -> None:
    kind = Protection(type=ProtectionType(type), block_size=512, metadata_size=8)
    metadata = bytearray(24)
    kind.generate(bytes(3 * 512), metadata, ref_tag=0xFFFFFFFF)
    assert [int.from_bytes(metadata[at + 4 : at + 8]) for at in (0, 8, 16)] == tags


def test_default_reference_tags() -> None:
    def of(type: int, bits: int = 0) -> Protection:
        return Protection(
            type=ProtectionType(type), block_size=512, metadata_size=8, storage_tag_bits=bits
        )

    lba = 0x1_2345_6789
    assert of(1).ref_tag_of(lba) == of(2).ref_tag_of(lba) == 0x23456789
    assert of(1, 24).ref_tag_of(lba) == 0x89
    assert of(1, 32).ref_tag_of(lba) == of(3).ref_tag_of(lba) == 0


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ({"type": 0}, "type 1, 2 or 3"),
        ({"type": 4}, "type 1, 2 or 3"),
        ({"metadata_size": 7}, "8 bytes of protection information do not fit in 7"),
        ({"guard": GuardFormat.GUARD_64B}, "16 bytes of protection information do not fit in 8"),
        ({"guard": GuardFormat.QUALIFIED}, "protection information format 3 is not defined"),
        ({"storage_tag_bits": 33}, "a storage tag of 33 bits: the format has 0 to 32"),
        ({"block_size": 0}, "8 bytes of metadata to 0 bytes of data"),
    ],
)
def test_formats_that_cannot_be(kind: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Protection(**{"type": ProtectionType.TYPE1, "block_size": 512, "metadata_size": 8} | kind)


def test_memory_that_is_not_whole_blocks() -> None:
    kind = Protection(type=ProtectionType.TYPE1, block_size=512, metadata_size=8)
    for call in (kind.generate, kind.check):
        for data, metadata in ((520, 8), (512, 16), (1024, 8), (0, 8)):
            with pytest.raises(ValueError, match="are not the same number of blocks, of 512 and 8"):
                call(bytearray(data), bytearray(metadata), ref_tag=0)
        with pytest.raises(ValueError, match="1024 bytes are not whole blocks of 512 bytes with 8"):
            call(bytearray(1024), ref_tag=0)
        with pytest.raises(TypeError, match="data is bytes, a bytearray"):
            call("text", bytearray(8), ref_tag=0)
        with pytest.raises(ValueError, match="the reference tag 0x100000000 does not fit in 32"):
            call(bytearray(512), bytearray(8), ref_tag=1 << 32)
        with pytest.raises(ValueError, match="the storage tag 0x1 does not fit in 0 bits"):
            call(bytearray(512), bytearray(8), ref_tag=0, storage_tag=1)
        for tag in (-1, 0x10000):
            with pytest.raises(ValueError, match=r"the application tag .* does not fit in 16 bits"):
                call(bytearray(512), bytearray(8), ref_tag=0, app_tag=tag)
        call(bytearray(), bytearray(), ref_tag=0)
    with pytest.raises(ValueError, match="the metadata is read-only"):
        kind.generate(bytes(512), bytes(8), ref_tag=0)
    with pytest.raises(ValueError, match="the metadata is read-only"):
        kind.generate(bytes(520), ref_tag=0)
    with pytest.raises(ValueError, match="mask 0x10000 does not fit"):
        kind.check(bytes(520), app_tag=0, app_tag_mask=0x10000)
    kind.check(bytes(512), b"\0\0" + bytes(6), ref_tag=0)  # the guard of zeroes is 0
