"""The benchmark on namespaces with metadata: QEMU's, and those of the software controller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
from bench_rig import READ, WRITE, job
from metadata_formats import Format

import pynvme_user as nvme
from pynvme_user import PRINFO, Controller, MediaStatus, MetadataNamespace, ProtectionType
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult, RunResult
from pynvme_user.bench.run import engine
from pynvme_user.spec.zns import ZoneState
from pynvme_user.testing import SoftDevice

BLOCKS, IO_BLOCKS = 96, 8
ALL = "GUARD,REFTAG,APPTAG"
APP_TAG = 0x1234


FORMATS = [
    *(Format(512, ms, mset) for ms in (8, 64) for mset in (0, 1)),
    *(Format(512, 8, mset, pi) for mset in (0, 1) for pi in (1, 2, 3)),
    *(Format(4096, 64, mset, pi, pil) for mset in (0, 1) for pi, pil in ((1, 0), (2, 1), (3, 0))),
    *(Format(512, 16, mset, 1, 0, 2) for mset in (0, 1)),
]
PROTECTED = [nsid for nsid, format in enumerate(FORMATS, 1) if format.pi]
PLAIN = [nsid for nsid, format in enumerate(FORMATS, 1) if not format.pi]


def name_of(nsid: int) -> str:
    return str(FORMATS[nsid - 1])


@pytest.fixture(scope="module")
def emulated(qemu: None) -> Iterator[Controller]:
    options = "&".join(format.options(nsid) for nsid, format in enumerate(FORMATS, 1))
    with nvme.open(f"qemu:?{options}") as ctrl:
        yield ctrl


@pytest.fixture
def soft(qemu: None) -> Iterator[Controller]:
    with nvme.open(SoftDevice("?size=8M&commands=all&inline=1")) as ctrl:
        yield ctrl


class Bench:
    """Jobs on an open controller, which stays open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def run(self, ctrl: Controller, *jobs: dict[str, object]) -> RunResult:
        """Run jobs one after another, each with a name of its own."""
        self._monkeypatch.setattr(
            "pynvme_user.bench.run.target.open_controller", lambda _: nullcontext(ctrl)
        )
        made = [job("soft:", f"job{n}", group=n, **options) for n, options in enumerate(jobs)]
        return engine.run(made)

    def one(self, ctrl: Controller, **options: object) -> JobResult:
        return self.run(ctrl, options).jobs[0]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def unit(ns: MetadataNamespace, *, pi_act: bool) -> int:
    """Bytes of a block to a job: with its metadata, where that is moved behind the data."""
    alone = pi_act and ns.protection is not None and ns.protection.is_alone
    extended = bool(ns.identify.flbas.mtelba)
    return ns.block_size + (ns.metadata_size if extended and not alone else 0)


def taken(ctrl: Controller, nsid: int) -> MetadataNamespace:
    ns = ctrl.namespaces[nsid]
    assert isinstance(ns, MetadataNamespace)
    return ns


def checks(ns: MetadataNamespace) -> str:
    """What can be checked: of type 3 no reference tag."""
    assert ns.protection is not None
    return ALL if ns.protection.type is not ProtectionType.TYPE3 else "GUARD,APPTAG"


def stored(ns: MetadataNamespace, lba: int, blocks: int) -> tuple[bytearray, bytearray]:
    """Data and metadata as they are, checked by nobody."""
    metadata = bytearray(blocks * ns.metadata_size)
    return ns.read(lba, blocks, metadata=metadata, prinfo=PRINFO(0)), metadata


def check_stored(ns: MetadataNamespace, first: int, blocks: int) -> None:
    """See that protection information is that of the data, the tag and the place."""
    data, metadata = stored(ns, first, blocks)
    assert any(data)
    assert ns.protection is not None
    ns.protection.check(data, metadata, ref_tag=ns.protection.ref_tag_of(first), app_tag=APP_TAG)


def write_and_read(bench: Bench, ctrl: Controller, nsid: int, **options: object) -> None:
    ns = taken(ctrl, nsid)
    each = unit(ns, pi_act=bool(options["pi_act"]))
    common = {
        "nsid": nsid,
        "bs": IO_BLOCKS * each,
        "size": BLOCKS * each,
        "offset": 3 * each,
        "iodepth": 4,
        **options,
    }
    wrote, read, mixed = bench.run(
        ctrl,
        {"rw": "randwrite", **common},
        {"rw": "randread", **common},
        {"rw": "randrw", **common},
    ).jobs
    for result in (wrote, read, mixed):
        assert (result.errors, result.failure) == ({}, ""), result
    assert wrote.directions[WRITE].ios == read.directions[READ].ios == BLOCKS // IO_BLOCKS
    assert wrote.directions[WRITE].bytes == read.directions[READ].bytes == BLOCKS * each


@pytest.mark.parametrize("pi_act", [1, 0])
@pytest.mark.parametrize("nsid", PROTECTED, ids=name_of)
def test_protected(emulated: Controller, bench: Bench, nsid: int, pi_act: int) -> None:
    """Inserted and stripped by the controller, or made and checked by the benchmark."""
    ns = taken(emulated, nsid)
    write_and_read(bench, emulated, nsid, pi_act=pi_act, pi_chk=checks(ns))
    check_stored(ns, 3, BLOCKS)


@pytest.mark.parametrize("nsid", PLAIN, ids=name_of)
def test_metadata_that_protects_nothing(emulated: Controller, bench: Bench, nsid: int) -> None:
    write_and_read(bench, emulated, nsid, pi_act=1)


#: Formats of the model: 512+8, 4096+64, 4096+16 with guards of 32 and 64 bits; their types.
SOFT = [
    (index, extended, pit)
    for index, types in ((2, (0, 1, 2, 3)), (4, (1,)), (5, (1,)), (6, (1, 3)))
    for extended in (False, True)
    for pit in types
]


@pytest.mark.parametrize("pi_act", [1, 0])
@pytest.mark.parametrize(("index", "extended", "pit"), SOFT)
def test_on_the_software_controller(
    soft: Controller, bench: Bench, index: int, extended: bool, pit: int, pi_act: int
) -> None:
    """Guards of 16, 32 and 64 bits, and a storage tag."""
    soft.format(1, index, extended=extended, protection=pit)
    ns = taken(soft, 1)
    write_and_read(bench, soft, 1, pi_act=pi_act, pi_chk=checks(ns) if pit else "none")
    if pit:
        check_stored(ns, 3, BLOCKS)


@pytest.mark.parametrize("part", ["guard", "application tag", "reference tag"])
@pytest.mark.parametrize("pi_act", [1, 0])
@pytest.mark.parametrize("extended", [False, True], ids=["apart", "interleaved"])
def test_a_wrong_part_is_told_as_what_it_is(
    soft: Controller, bench: Bench, extended: bool, pi_act: int, part: str
) -> None:
    soft.format(1, 2, extended=extended, protection=1)
    ns = taken(soft, 1)
    each = unit(ns, pi_act=bool(pi_act))
    common = {
        "bs": each,
        "size": 16 * each,
        "pi_act": pi_act,
        "pi_chk": ALL,
        "apptag": 0x42,
        "apptag_mask": 0xFF,
        "continue_on_error": "all",
    }
    assert bench.one(soft, rw="write", **common).errors == {}
    data, metadata = stored(ns, 5, 1)
    assert metadata[2:4] == b"\0\x42"
    byte, status = {
        "guard": (0, MediaStatus.GUARD_CHECK_ERROR),
        "application tag": (3, MediaStatus.APPLICATION_TAG_CHECK_ERROR),
        "reference tag": (7, MediaStatus.REFERENCE_TAG_CHECK_ERROR),
    }[part]
    metadata[2] ^= 0x80  # of the application tag, but outside of its mask
    metadata[byte] ^= 1
    ns.write(5, data, metadata=metadata, prinfo=PRINFO(0))
    result = bench.one(soft, rw="read", **common)
    assert result.errors == {0x200 | status.value: 1}
    assert result.directions[READ].ios == 15
    unchecked = bench.one(soft, rw="read", **(common | {"pi_chk": "none"}))
    assert unchecked.errors == {}


def test_a_fault_that_only_the_host_sees(
    soft: Controller, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that changes on its way: the controller's own check comes before that."""
    soft.format(1, 2, protection=1)
    ns = taken(soft, 1)
    common = {"bs": 512, "size": "8k", "pi_act": 0, "pi_chk": "GUARD"}
    assert bench.one(soft, rw="write", **common).errors == {}
    data, metadata = stored(ns, 5, 1)
    data[7] ^= 1
    ns.write(5, data, metadata=metadata, prinfo=PRINFO(0))
    monkeypatch.setattr(
        "pynvme_user.bench.run.metadata.Carried.command",
        lambda carried, opcode, fua: bytes(
            nvme.SQE.build(opc=opcode, nsid=1)  # without what asks the controller to check
        ),
    )
    done = bench.run(soft, {"rw": "read", **common, "continue_on_error": "all"})
    assert done.jobs[0].errors == {0x282: 1}
    (told,) = [text for text in done.warnings if "LBA 5" in text]
    assert "whose guard is 0x" in told


@pytest.mark.parametrize("extended", [False, True], ids=["apart", "interleaved"])
def test_ios_of_several_commands(soft: Controller, bench: Bench, extended: bool) -> None:
    soft.format(1, 4, extended=extended, protection=1)
    ns = taken(soft, 1)
    each = unit(ns, pi_act=False)
    blocks = 2 * ns.max_blocks + 3
    common = {"bs": blocks * each, "number_ios": 2, "pi_act": 0, "pi_chk": ALL, "iodepth": 2}
    wrote, read = bench.run(soft, {"rw": "write", **common}, {"rw": "read", **common}).jobs
    assert (wrote.errors, read.errors) == ({}, {})
    assert read.directions[READ].bytes == 2 * blocks * each
    check_stored(ns, 0, 2 * blocks)


def test_verified_data_with_protection(soft: Controller, bench: Bench) -> None:
    soft.format(1, 2, protection=1)
    result = bench.one(soft, rw="randwrite", size="64k", pi_act=0, pi_chk=ALL, verify="crc32c")
    assert (result.errors, result.failure) == ({}, "")
    assert result.verify is not None
    assert (result.verify.blocks, result.verify.faulty) == (128, 0)


def test_several_queues(soft: Controller, bench: Bench) -> None:
    soft.format(1, 2, extended=True, protection=1)
    common = {"bs": 520 * 4, "size": 520 * 64, "pi_act": 0, "pi_chk": ALL, "queues": 3}
    wrote, read = bench.run(soft, {"rw": "write", **common}, {"rw": "read", **common}).jobs
    assert (wrote.errors, read.errors) == ({}, {})


def test_trims(soft: Controller, bench: Bench) -> None:
    soft.format(1, 2)
    bench.one(soft, rw="write", size="64k")
    result = bench.one(soft, rw="trim", size="64k")
    assert (result.errors, result.directions[2].ios) == ({}, 16)
    assert not any(soft.namespaces[1].read(0, 128))


@pytest.mark.parametrize(
    ("index", "extended", "pit", "options", "why"),
    [
        (2, True, 1, {"pi_act": 0}, "give 4160 for 4096 in bs or offset"),
        (2, True, 1, {"pi_act": 0, "bs": 1000}, "change bs or offset"),
        (2, True, 0, {"rw": "trim"}, "512 of data and 8 of metadata behind it"),
        (2, False, 1, {"pi_act": 0, "md_per_io_size": 63}, "md_per_io_size is at least 64"),
        (4, False, 1, {"bs": "8k", "md_per_io_size": 64}, "md_per_io_size is at least 128"),
        (2, True, 1, {"pi_act": 0, "bs": 520, "verify": "crc32c", "rw": "write"}, "leave verify"),
    ],
)
def test_what_does_not_fit(
    soft: Controller,
    bench: Bench,
    index: int,
    extended: bool,
    pit: int,
    options: dict[str, object],
    why: str,
) -> None:
    soft.format(1, index, extended=extended, protection=pit)
    with pytest.raises(JobError, match=why):
        bench.one(soft, **{"rw": "read", "number_ios": 1, **options})


@pytest.mark.parametrize("size", [0, 64, "1m"])
def test_memory_for_metadata(soft: Controller, bench: Bench, size: object) -> None:
    """As much as is needed, or more."""
    soft.format(1, 2, protection=1)
    common = {"pi_act": 0, "pi_chk": ALL, "size": "64k", "md_per_io_size": size}
    wrote, read = bench.run(soft, {"rw": "write", **common}, {"rw": "read", **common}).jobs
    assert (wrote.errors, read.errors) == ({}, {})


def test_options_mean_nothing_without_metadata(soft: Controller, bench: Bench) -> None:
    given = {"pi_act": 0, "pi_chk": ALL, "md_per_io_size": 1, "apptag": 7}
    assert bench.one(soft, rw="write", size="64k", **given).errors == {}


def test_what_a_read_finds_blank(soft: Controller, bench: Bench) -> None:
    soft.format(1, 2, protection=1)
    done = bench.run(soft, {"rw": "read", "size": "64k"})
    assert any("zeroes" in text for text in done.warnings)
    rng = np.random.default_rng(1)
    soft.namespaces[1].write(0, rng.bytes(1 << 16))
    done = bench.run(soft, {"rw": "read", "size": "64k"})
    assert not any("zeroes" in text for text in done.warnings)


# --- zones ----------------------------------------------------------------------------------------

ZONE_BLOCKS = 512


@pytest.fixture
def zoned(qemu: None) -> Iterator[Controller]:
    name = f"?size=1M&commands=all&inline=1&zoned.zone_size={ZONE_BLOCKS * 512}"
    with nvme.open(SoftDevice(name)) as ctrl:
        yield ctrl


@pytest.mark.parametrize("extended", [False, True], ids=["apart", "interleaved"])
@pytest.mark.parametrize(
    "options",
    [{"rw": "zone-append"}, {"rw": "write", "zonemode": "zbd"}],
    ids=lambda options: options["rw"],
)
@pytest.mark.parametrize("index", [2, 4, 6], ids=["512+8", "4096+64", "4096+16"])
def test_zones_are_appended_to(
    zoned: Controller, bench: Bench, index: int, options: dict[str, object], extended: bool
) -> None:
    """Each append carries its metadata, and the next is behind it: zones are full at the end."""
    zoned.format(1, index, extended=extended)
    ns = taken(zoned, 1)
    each, blocks = unit(ns, pi_act=True), ns.block_count
    common = {"bs": IO_BLOCKS * each, "size": blocks * each, "iodepth": 8}
    wrote, read = bench.run(zoned, {**common, **options}, {"rw": "read", **common}).jobs
    for result in (wrote, read):
        assert (result.errors, result.failure) == ({}, ""), result
    assert wrote.directions[WRITE].ios == read.directions[READ].ios == blocks // IO_BLOCKS
    assert zoned.transport.access.counts().writes == 0  # each was an append
    assert all(zone.zs.zs == ZoneState.FULL for zone in ns.zones.report())
    data, metadata = stored(ns, 0, blocks)
    assert all(any(data[at : at + ns.block_size]) for at in range(0, len(data), ns.block_size))
    size = ns.metadata_size
    assert all(any(metadata[at : at + size]) for at in range(0, len(metadata), size))


@pytest.mark.parametrize("pit", [1, 2, 3])
def test_protected_zones_are_written_one_by_one(zoned: Controller, bench: Bench, pit: int) -> None:
    """Reference tags do not say where an append will write; a write at the pointer has them."""
    zoned.format(1, 2, protection=pit)
    ns = taken(zoned, 1)
    common = {"bs": IO_BLOCKS * 512, "size": "256k", "pi_chk": checks(ns), "apptag": APP_TAG}
    append = {"rw": "write", "zonemode": "zbd", "iodepth": 2, **common}
    for refused in (append, {**append, "rw": "zone-append", "zonemode": "none"}):
        with pytest.raises(JobError, match="do not say where a Zone Append will write"):
            bench.one(zoned, **refused)
    for pi_act in (1, 0):
        write = {"rw": "write", "zonemode": "zbd", "pi_act": pi_act, **common}
        read = {"rw": "read", "pi_act": pi_act, **common}
        wrote, back = bench.run(zoned, write, read).jobs
        assert (wrote.errors, wrote.failure, back.errors) == ({}, "", {}), wrote
        check_stored(ns, 0, ZONE_BLOCKS)
        ns.zones.reset(select_all=True)
