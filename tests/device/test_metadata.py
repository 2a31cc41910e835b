"""Namespaces with metadata and protection information, on QEMU's controller: every way of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from metadata_formats import Format

import pynvme_user as nvme
from pynvme_user import (
    PRINFO,
    Controller,
    GuardFormat,
    MediaStatus,
    MetadataNamespace,
    NvmeStatusError,
    ProtectionError,
    ProtectionType,
)

pytestmark = pytest.mark.usefixtures("qemu")


FORMATS = [
    *(
        Format(b, ms, mset)
        for b, ms in ((512, 8), (512, 64), (4096, 8), (4096, 64))
        for mset in (0, 1)
    ),
    *(
        Format(b, ms, mset, pi)
        for b, ms in ((512, 8), (4096, 8), (4096, 64))
        for mset in (0, 1)
        for pi in (1, 2, 3)
    ),
    *(Format(512, 16, mset, 1, 1) for mset in (0, 1)),
    *(Format(4096, 64, mset, pi, 1) for mset in (0, 1) for pi in (1, 3)),
    *(Format(512, 16, mset, pi, 0, 2) for mset in (0, 1) for pi in (1, 2, 3)),
    *(Format(4096, 64, mset, 1, pil, 2) for mset in (0, 1) for pil in (0, 1)),
]
PLAIN = [nsid for nsid, format in enumerate(FORMATS, 1) if not format.pi]
PROTECTED = [nsid for nsid, format in enumerate(FORMATS, 1) if format.pi]
LBA = 77


def name_of(nsid: int) -> str:
    return str(FORMATS[nsid - 1])


@pytest.fixture(scope="module")
def ctrl(qemu: None) -> Iterator[Controller]:
    options = "&".join(format.options(nsid) for nsid, format in enumerate(FORMATS, 1))
    with nvme.open(f"qemu:?{options}") as ctrl:
        yield ctrl


def taken(ctrl: Controller, nsid: int) -> MetadataNamespace:
    ns = ctrl.namespaces[nsid]
    assert isinstance(ns, MetadataNamespace)
    return ns


@pytest.fixture(params=range(1, len(FORMATS) + 1), ids=name_of)
def ns(ctrl: Controller, request: pytest.FixtureRequest) -> MetadataNamespace:
    return taken(ctrl, request.param)


@pytest.fixture(params=PROTECTED, ids=name_of)
def protected(ctrl: Controller, request: pytest.FixtureRequest) -> MetadataNamespace:
    return taken(ctrl, request.param)


class Blocks:
    """Random data, and metadata whose protection information, if there is any, is sound."""

    def __init__(
        self, ns: MetadataNamespace, lba: int, blocks: int, seed: int = 1, **tags: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.data = rng.integers(0, 256, blocks * ns.block_size, np.uint8)
        self.metadata = rng.integers(0, 256, blocks * ns.metadata_size, np.uint8)
        if ns.protection is not None:
            ns.protection.generate(
                self.data,
                self.metadata,
                **{"ref_tag": ns.protection.ref_tag_of(lba)} | tags,
            )


KINDS: dict[str, Callable[[Controller, int], np.ndarray]] = {
    "bytes": lambda ctrl, length: np.zeros(length, np.uint8),
    "reached": lambda ctrl, length: ctrl.alloc(length),
    "reached, between dwords": lambda ctrl, length: ctrl.alloc(length + 1)[1:],
}


def status_of(call: Callable[[], object]) -> Any:
    with pytest.raises(NvmeStatusError) as caught:
        call()
    return caught.value.status.code()


# --- what it is --------------------------------------------------------------------------------


def test_what_a_namespace_tells(ctrl: Controller) -> None:
    for nsid, format in enumerate(FORMATS, 1):
        ns = taken(ctrl, nsid)
        assert (ns.block_size, ns.metadata_size) == (format.block, format.ms)
        assert ns.geometry.extended == bool(format.mset)
        each = format.block + (format.ms if format.mset else 0)
        assert ns.max_blocks == min(ctrl.max_transfer // each, 65536)
        kind = ns.protection
        assert (kind is not None) == bool(format.pi)
        if kind is not None:
            assert kind.type is ProtectionType(format.pi)
            assert kind.guard is GuardFormat(format.pif)
            assert kind.first == bool(format.pil)
            assert (kind.block_size, kind.metadata_size) == (format.block, format.ms)
            assert (kind.offset, kind.size) == (
                0 if format.pil else format.ms - kind.size,
                16 if format.pif else 8,
            )
    with nvme.open("qemu:?size=16M") as plain:
        assert type(plain.namespaces[1]) is nvme.Namespace
        assert plain.namespaces[1].protection is None


# --- data and metadata of any length, from any memory --------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_read_after_write(ns: MetadataNamespace, kind: str) -> None:
    """Each kind of memory once for the data and once for the metadata of each format.

    Which go together turns from one format to the next: each pair comes with each type and with
    either place of the metadata.
    """
    ctrl = ns.controller
    kinds = [*KINDS]
    metadata_kind = kinds[(kinds.index(kind) + ns.nsid // 3) % len(kinds)]
    for seed, blocks in enumerate((1, 3, 65, ns.max_blocks + 5, 2 * ns.max_blocks)):
        want = Blocks(ns, LBA, blocks, seed)
        data = KINDS[kind](ctrl, want.data.nbytes)
        metadata = KINDS[metadata_kind](ctrl, want.metadata.nbytes)
        data[:], metadata[:] = want.data, want.metadata
        ns.write(LBA, data, metadata=metadata)
        assert (data == want.data).all()
        assert (metadata == want.metadata).all()
        ns.compare(LBA, data, metadata=metadata)
        data[:], metadata[:] = 0xEE, 0xEE
        ns.read_into(LBA, data, metadata=metadata)
        assert (data == want.data).all()
        assert (metadata == want.metadata).all()
        assert ns.read(LBA, blocks) == want.data.tobytes()
        data[:] = 0xEE
        ns.read_into(LBA, data)
        assert (data == want.data).all()


def test_compare_tells_what_differs(ns: MetadataNamespace) -> None:
    want = Blocks(ns, LBA, 70)
    ns.write(LBA, want.data, metadata=want.metadata)
    other = Blocks(ns, LBA, 70, 2)
    call = lambda: ns.compare(LBA, other.data, metadata=other.metadata)  # noqa: E731
    assert status_of(call) is MediaStatus.COMPARE_FAILURE
    kind = ns.protection
    wrong = want.metadata.copy()
    at = 69 * ns.metadata_size
    if kind is not None and kind.is_alone:
        return
    wrong[at + (kind.size if kind is not None and kind.first else 0)] ^= 1
    if kind is not None:
        kind.generate(want.data, wrong, ref_tag=kind.ref_tag_of(LBA))
    call = lambda: ns.compare(LBA, want.data, metadata=wrong)  # noqa: E731
    assert status_of(call) is MediaStatus.COMPARE_FAILURE


@pytest.mark.parametrize("kind", KINDS)
def test_without_metadata(ns: MetadataNamespace, kind: str) -> None:
    """Zeroes are written, and protection information that belongs to the data."""
    old = Blocks(ns, LBA, 130, 9)
    ns.write(LBA, old.data, metadata=old.metadata)
    for blocks in (1, 130, ns.max_blocks + 1):
        want = Blocks(ns, LBA, blocks, blocks)
        data = KINDS[kind](ns.controller, want.data.nbytes)
        data[:] = want.data
        ns.write_from(LBA, data)
        ns.compare(LBA, data)
        found = np.full(want.metadata.nbytes, 0xEE, np.uint8)
        assert ns.read(LBA, blocks, metadata=found) == want.data.tobytes()
        rows = found.reshape(blocks, -1)
        if ns.protection is not None:
            tag = ns.protection.ref_tag_of(LBA)
            ns.protection.check(data, found, ref_tag=tag, app_tag=0)
            rows[:, ns.protection.offset : ns.protection.offset + ns.protection.size] = 0
        assert not rows.any()


def test_blocks_that_were_never_written_are_read(ns: MetadataNamespace) -> None:
    last = ns.block_count - 1
    assert not any(ns.read(np.uint64(last), np.uint8(1)))  # type: ignore[arg-type]


def test_zeroes(ns: MetadataNamespace) -> None:
    want = Blocks(ns, LBA, 64)
    ns.write(LBA, want.data, metadata=want.metadata)
    ns.write_zeroes(LBA + 1, 2)
    found = np.full(want.metadata.nbytes, 0xEE, np.uint8)
    kind = ns.protection
    # QEMU inserts a 64-bit guard of 0, which is not that of zeroes.
    checks = {"prinfo": 0} if kind is not None and kind.guard is GuardFormat.GUARD_64B else {}
    data = np.frombuffer(ns.read(LBA, 64, metadata=found, **checks), np.uint8)
    assert not data[ns.block_size : 3 * ns.block_size].any()
    assert (data[3 * ns.block_size :] == want.data[3 * ns.block_size :]).all()
    size = ns.metadata_size
    assert (found[3 * size :] == want.metadata[3 * size :]).all()
    assert (found[:size] == want.metadata[:size]).all()


def test_mistakes(ns: MetadataNamespace) -> None:
    size, extra = ns.block_size, ns.metadata_size
    for metadata in (bytes(extra - 1), bytes(2 * extra), b""):
        with pytest.raises(ValueError, match=f"1 blocks have {extra} bytes of metadata here"):
            ns.write(0, bytes(size), metadata=metadata)
    with pytest.raises(ValueError, match="are not whole blocks"):
        ns.write(0, bytes(size + 1), metadata=bytes(extra))
    with pytest.raises(ValueError, match="read-only"):
        ns.read(0, 1, metadata=bytes(extra))
    with pytest.raises(ValueError, match="read-only"):
        ns.read_into(0, bytes(size), metadata=bytearray(extra))
    with pytest.raises(ValueError, match="are not all in namespace"):
        ns.read(ns.block_count, 1, metadata=bytearray(extra))
    with pytest.raises(TypeError, match="reftag is no keyword of a read or write: there are fua"):
        ns.read(0, 1, reftag=1)  # type: ignore[call-arg]
    if ns.protection is None:
        for field in ("prinfo", "ref_tag", "app_tag", "storage_tag"):
            with pytest.raises(ValueError, match=f"no protection information: leave out {field}"):
                ns.read(0, 1, **{field: 1})  # type: ignore[misc]
        return
    with pytest.raises(ValueError, match="the application tag 0x10000 does not fit"):
        ns.read(0, 1, app_tag=0x10000)
    with pytest.raises(ValueError, match="the PRINFO 0x10 does not fit in 4 bits"):
        ns.read(0, 1, prinfo=16)
    with pytest.raises(ValueError, match="the storage tag 0x1 does not fit in 0 bits"):
        ns.read(0, 1, storage_tag=1)
    with pytest.raises(ValueError, match="the reference tag -0x1 does not fit"):
        ns.read(0, 1, ref_tag=-1)
    if ns.protection.is_alone:
        with pytest.raises(ValueError, match="nothing but protection information: leave out"):
            ns.write(0, bytes(size), metadata=bytes(extra), prinfo=PRINFO.build(pract=1))


# --- protection information: inserted, stripped, checked ------------------------------------------


def test_inserted_by_the_controller(protected: MetadataNamespace) -> None:
    """PRACT on a write, found by a read without it; and on a read, of what was made here."""
    ns, kind = protected, protected.protection
    assert kind is not None
    want = Blocks(ns, LBA, 9)
    tags = {"app_tag": 0x1234, "ref_tag": kind.ref_tag_of(LBA)}
    given = {} if kind.is_alone else {"metadata": np.full(want.metadata.nbytes, 0x5A, np.uint8)}
    ns.write(LBA, want.data, prinfo=PRINFO.build(pract=1), **tags, **given)
    found = np.zeros(want.metadata.nbytes, np.uint8)
    assert ns.read(LBA, 9, metadata=found, **tags) == want.data.tobytes()
    kind.check(want.data, found, **tags)
    rows = found.reshape(9, -1)
    assert (np.delete(rows, range(kind.offset, kind.offset + kind.size), 1) == 0x5A).all()
    pract = PRINFO.build(pract=1, grdchk=1, atchk=1, rtchk=kind.type is not ProtectionType.TYPE3)
    assert ns.read(LBA, 9, prinfo=pract, **tags) == want.data.tobytes()
    wrong = tags | {"app_tag": 0x1235}
    call = lambda: ns.read(LBA, 9, prinfo=pract, **wrong)  # noqa: E731
    assert status_of(call) is MediaStatus.APPLICATION_TAG_CHECK_ERROR
    ns.read(LBA, 9, prinfo=pract, **wrong, app_tag_mask=0xFFF0)


FAULTS = {
    "data": ("guard", MediaStatus.GUARD_CHECK_ERROR),
    "guard": ("guard", MediaStatus.GUARD_CHECK_ERROR),
    "application tag": (
        "application tag",
        MediaStatus.APPLICATION_TAG_CHECK_ERROR,
    ),
    "reference tag": ("reference tag", MediaStatus.REFERENCE_TAG_CHECK_ERROR),
}


@pytest.mark.parametrize("where", FAULTS)
def test_a_wrong_bit_is_told_as_what_it_is(protected: MetadataNamespace, where: str) -> None:
    """By the device, on its medium and on the way to it, and by a check in memory."""
    ns, kind = protected, protected.protection
    assert kind is not None
    part, status = FAULTS[where]
    blocks, bad = 5, 3
    tags = {"app_tag": 0x00A5, "ref_tag": kind.ref_tag_of(LBA)}
    want = Blocks(ns, LBA, blocks, **tags)
    ns.write(LBA, want.data, metadata=want.metadata, **tags)
    guard = kind.size - 6 if kind.size == 8 else 8
    at = bad * ns.metadata_size + kind.offset
    if where == "data":
        want.data[bad * ns.block_size + 100] ^= 0x10
    else:
        behind = {"guard": 0, "application tag": guard, "reference tag": guard + 2}[where]
        want.metadata[at + behind + 1] ^= 0x10
    with pytest.raises(ProtectionError) as caught:
        kind.check(want.data, want.metadata, **tags)
    assert (caught.value.block, caught.value.part) == (bad, part)
    # Type 3 has no reference tag to check: QEMU refuses to.
    checked = not (kind.type is ProtectionType.TYPE3 and where == "reference tag")
    write = lambda **more: ns.write(LBA, want.data, metadata=want.metadata, **tags, **more)  # noqa: E731
    if checked:
        assert status_of(write) is status
        ns.read(LBA, blocks, **tags)
    write(prinfo=0)
    found = np.zeros(want.metadata.nbytes, np.uint8)
    reads: list[Callable[[], object]] = [
        lambda: ns.read(LBA, blocks, **tags),
        lambda: ns.read(LBA, blocks, metadata=found, **tags),
    ]
    for read in reads:
        if checked:
            assert status_of(read) is status
        else:
            read()
    data = ns.read(LBA, blocks, metadata=found, prinfo=0)
    assert data == want.data.tobytes()
    assert (found == want.metadata).all()
    with pytest.raises(ProtectionError) as caught:
        kind.check(data, found, **tags)
    assert (caught.value.block, caught.value.part) == (bad, part)
    assert ns.read(LBA, blocks, prinfo=0) == want.data.tobytes()


def test_an_escape_is_not_checked(protected: MetadataNamespace) -> None:
    ns, kind = protected, protected.protection
    assert kind is not None
    ones = (1 << kind.tags.reference_bits) - 1
    ref_tag = ones if kind.type is ProtectionType.TYPE3 else kind.ref_tag_of(LBA)
    want = Blocks(ns, LBA, 1, app_tag=0xFFFF, ref_tag=ref_tag)
    want.data[0] ^= 1
    ns.write(LBA, want.data, metadata=want.metadata, prinfo=0)
    assert ns.read(LBA, 1, app_tag=5) == want.data.tobytes()
    kind.check(want.data, want.metadata, ref_tag=ref_tag, app_tag=5)


def test_reference_tags_of_type_2_are_the_callers(ctrl: Controller) -> None:
    for nsid in PROTECTED:
        ns = taken(ctrl, nsid)
        kind = ns.protection
        assert kind is not None
        blocks = ns.max_blocks + 3
        ref_tag = (1 << kind.tags.reference_bits) - 2 * blocks  # QEMU's does not begin again at 0
        want = Blocks(ns, LBA, blocks, ref_tag=ref_tag)
        call = lambda: ns.write(LBA, want.data, metadata=want.metadata, ref_tag=ref_tag)  # noqa: B023, E731
        if kind.type is ProtectionType.TYPE1:
            with pytest.raises(NvmeStatusError, match="Invalid Protection Information"):
                call()
            continue
        call()
        assert ns.read(LBA, blocks, ref_tag=ref_tag) == want.data.tobytes()
        ns.write(LBA, want.data, ref_tag=ref_tag)  # inserted or generated
        found = bytearray(want.metadata.nbytes)
        ns.read(LBA, blocks, ref_tag=ref_tag, metadata=found)
        kind.check(want.data, found, ref_tag=ref_tag)


# --- queue pairs --------------------------------------------------------------------------------


def joined(ns: MetadataNamespace, blocks: Blocks) -> tuple[np.ndarray, np.ndarray | None]:
    """Data and metadata as a queue pair takes them, in DMA memory."""
    ctrl, count = ns.controller, len(blocks.data) // ns.block_size
    if not ns.geometry.extended:
        data, metadata = ctrl.alloc(blocks.data.nbytes), ctrl.alloc(blocks.metadata.nbytes)
        data[:], metadata[:] = blocks.data, blocks.metadata
        return data, metadata
    both = ctrl.alloc(blocks.data.nbytes + blocks.metadata.nbytes)
    rows = both.array.reshape(count, -1)
    rows[:, : ns.block_size] = blocks.data.reshape(count, -1)
    rows[:, ns.block_size :] = blocks.metadata.reshape(count, -1)
    return both, None


def test_commands_of_a_queue_pair(ns: MetadataNamespace) -> None:
    ctrl, blocks = ns.controller, 4
    want = Blocks(ns, LBA, blocks)
    data, metadata = joined(ns, want)
    options = {} if metadata is None else {"metadata": metadata}
    with ctrl.queue_pair(4) as pair:
        lba, count = np.uint64(LBA), np.int32(blocks)
        pair.submit_write(ns, lba, count, data, **options)  # type: ignore[arg-type]
        assert [done.status.ok for done in pair.drain()] == [True]
        pair.submit_compare(ns, LBA, blocks, data, **options)
        assert [done.status.ok for done in pair.drain()] == [True]
        before = data.tobytes(), b"" if metadata is None else metadata.tobytes()
        data[:] = 0
        if metadata is not None:
            metadata[:] = 0
        pair.submit_read(ns, LBA, blocks, data, **options)
        assert [done.status.ok for done in pair.drain()] == [True]
        assert (data.tobytes(), b"" if metadata is None else metadata.tobytes()) == before
        kind = ns.protection
        only = ctrl.alloc(blocks * ns.block_size)
        if kind is not None and kind.is_alone:
            # By default where there is no metadata to be joined; by prinfo everywhere.
            checks = PRINFO.build(pract=1, grdchk=1)
            pair.submit_read(ns, LBA, blocks, only, prinfo=checks)
            assert [done.status.ok for done in pair.drain()] == [True]
            assert (only == want.data).all()
            if metadata is not None:
                only[:] = 0
                pair.submit_read(ns, LBA, blocks, only)
                assert [done.status.ok for done in pair.drain()] == [True]
                assert (only == want.data).all()
        elif metadata is not None:
            with pytest.raises(ValueError, match="which lie in memory of their own: give it as"):
                pair.submit_read(ns, LBA, blocks, only)
        _mistakes_of_a_queue_pair(pair, ns, data, metadata)


def _mistakes_of_a_queue_pair(
    pair: nvme.QueuePair, ns: MetadataNamespace, data: np.ndarray, metadata: np.ndarray | None
) -> None:
    options = {} if metadata is None else {"metadata": metadata}
    for wrong in (data[:-4], ns.controller.alloc(data.nbytes + 4)):
        with pytest.raises(ValueError, match=r"4 blocks with .* bytes of data each need a buffer"):
            pair.submit_read(ns, LBA, 4, wrong, **options)
    with pytest.raises(ValueError, match="are not all in namespace"):
        pair.submit_read(ns, ns.block_count, 4, data, **options)
    most = ns.max_blocks + 1
    big = ns.controller.alloc(most * (data.nbytes // 4))
    more = {} if metadata is None else {"metadata": ns.controller.alloc(most * ns.metadata_size)}
    with pytest.raises(ValueError, match=f"up to {most - 1} blocks here, not {most}"):
        pair.submit_read(ns, 0, most, big, **more)
    if metadata is None:
        with pytest.raises(ValueError, match="follows the data of each block: give one buffer"):
            pair.submit_read(ns, LBA, 4, data, metadata=data)
        return
    with pytest.raises(ValueError, match=r"4 blocks with .* bytes of metadata each need a buffer"):
        pair.submit_read(ns, LBA, 4, data, metadata=metadata[:-4])
    with pytest.raises(ValueError, match="the metadata does not start at a multiple of 4"):
        pair.submit_read(ns, LBA, 4, data, metadata=ns.controller.alloc(1 << 16)[1:])
    with pytest.raises(ValueError, match="the device does not reach this buffer"):
        pair.submit_read(ns, LBA, 4, data, metadata=np.zeros(metadata.nbytes, np.uint8))


def test_vectors(ns: MetadataNamespace) -> None:
    ctrl, blocks, count = ns.controller, 4, 100
    rng = np.random.default_rng(3)
    lbas = rng.permutation(1000)[:count] * blocks
    parts = [Blocks(ns, int(lba), blocks, int(lba)) for lba in lbas]
    whole = Blocks(ns, 0, count * blocks)
    whole.data[:] = np.concatenate([part.data for part in parts])
    whole.metadata[:] = np.concatenate([part.metadata for part in parts])
    data, metadata = joined(ns, whole)
    options = {} if metadata is None else {"metadata": metadata}
    with ctrl.queue_pair(8) as pair:
        done = pair.write_many(ns, lbas, blocks, data, **options).check()
        assert (done.status == 0).all()
        assert (done.latency_ns > 0).all()
        for lba, part in zip(lbas, parts, strict=True):
            found = bytearray(part.metadata.nbytes)
            assert ns.read(int(lba), blocks, metadata=found) == part.data.tobytes()
            assert found == part.metadata.tobytes()
        before = data.tobytes(), b"" if metadata is None else metadata.tobytes()
        data[:] = 0
        if metadata is not None:
            metadata[:] = 0
        pair.read_many(ns, lbas, blocks, data, **options).check()
        assert (data.tobytes(), b"" if metadata is None else metadata.tobytes()) == before
        each = data.nbytes // count
        some = {} if metadata is None else {"metadata": metadata[: 8 * blocks * ns.metadata_size]}
        pair.read_many(ns, lbas, blocks, data[: 8 * each], recycle=True, **some).check()
        assert not pair.outstanding
        assert len(pair.read_many(ns, [], blocks, data, **options).status) == 0
        with pytest.raises(ValueError, match="bytes of data each need a buffer of"):
            pair.read_many(ns, lbas, blocks, data[:-4], **options)
        with pytest.raises(ValueError, match="are not all in namespace"):
            pair.read_many(ns, [ns.block_count - 1], blocks, data, **options)
        with pytest.raises(ValueError, match="one command carries up to"):
            pair.read_many(ns, [0], ns.max_blocks + 1, data, **options)
        if metadata is not None:
            with pytest.raises(ValueError, match="bytes of metadata each need a buffer of"):
                pair.read_many(ns, lbas, blocks, data, metadata=metadata[:-4])
        if ns.protection is not None:
            _a_vector_tells_faults(pair, ns, lbas, blocks, data, options)


def _a_vector_tells_faults(
    pair: nvme.QueuePair,
    ns: MetadataNamespace,
    lbas: np.ndarray,
    blocks: int,
    data: np.ndarray,
    options: dict[str, Any],
) -> None:
    """Each I/O is judged on its own; with type 2 another first reference tag moves all."""
    kind = ns.protection
    assert kind is not None
    bad = int(lbas[7])
    one = Blocks(ns, bad, 1)
    one.data[5] ^= 1
    ns.write(bad, one.data, metadata=one.metadata, prinfo=0)
    done = pair.read_many(ns, lbas, blocks, data, **options)
    assert list(done.failed) == [7]
    with pytest.raises(NvmeStatusError) as caught:
        done.check()
    assert caught.value.status.code() is MediaStatus.GUARD_CHECK_ERROR
    assert pair.read_many(ns, lbas, blocks, data, prinfo=0, **options).failures == 0
    if kind.type is ProtectionType.TYPE2:
        tag = int(lbas[0]) + 1
        done = pair.read_many(ns, lbas, blocks, data, ref_tag=tag, **options)
        assert done.failures == len(lbas)


def test_keywords_of_a_namespace_without_metadata() -> None:
    with nvme.open("qemu:?size=16M") as ctrl, ctrl.queue_pair(2) as pair:
        ns, data = ctrl.namespaces[1], ctrl.alloc(512)
        with pytest.raises(ValueError, match="namespace 1 has no metadata: leave out metadata"):
            pair.submit_read(ns, 0, 1, data, metadata=data)
        with pytest.raises(ValueError, match="namespace 1 has no metadata: leave out metadata"):
            pair.read_many(ns, [0], 1, data, metadata=data)
        with pytest.raises(ValueError, match="has no protection information: leave out prinfo"):
            pair.submit_write(ns, 0, 1, data, prinfo=1)
        with pytest.raises(ValueError, match="namespace 1 has no metadata: leave out metadata"):
            ns.read(0, 1, metadata=data)
        with pytest.raises(ValueError, match="namespace 1 has no metadata: leave out metadata"):
            ns.write(0, data, metadata=data)
        assert pair.submit_read(ns, 0, 1, data, metadata=None) is not None
        assert [done.status.ok for done in pair.drain()] == [True]


@pytest.mark.parametrize("format", [Format(512, 8, 0, 1), Format(512, 8, 1, 1)], ids=str)
def test_sgls(format: Format) -> None:
    """The data's pointer is an SGL's descriptor; that of the metadata stays an address."""
    with nvme.open(f"qemu:?{format.options(1)}") as ctrl, ctrl.queue_pair(4, sgl=True) as pair:
        ns = taken(ctrl, 1)
        want = Blocks(ns, 0, 64)
        data, metadata = joined(ns, want)
        options = {} if metadata is None else {"metadata": metadata}
        pair.submit_write(ns, 0, 64, data, **options)
        assert [done.status.ok for done in pair.drain()] == [True]
        found = bytearray(want.metadata.nbytes)
        assert ns.read(0, 64, metadata=found) == want.data.tobytes()
        assert found == want.metadata.tobytes()
