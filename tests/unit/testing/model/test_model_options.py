"""Hints, appends and fused commands with metadata: the driver on the model, end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import PRINFO, Controller, MetadataNamespace
from pynvme_user.spec.directives import (
    DirectiveType,
    EnableDirectiveCdw12,
    IdentifySend,
    StreamsReceive,
    StreamsStatus,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, MediaStatus

DATA = bytes(range(256)) * 4
ZONED = "soft:?size=1M&commands=all&zoned.zone_size=64k"


@pytest.fixture
def zoned() -> Iterator[Controller]:
    with nvme.open(ZONED) as ctrl:
        yield ctrl


def formatted(
    ctrl: Controller, size: int, metadata: int, *, extended: bool = False, protection: int = 0
) -> MetadataNamespace:
    page = ctrl.namespaces[1].identify
    index = next(n for n, f in enumerate(page.lbafs) if (f.ds, f.ms) == (size, metadata))
    ctrl.format(1, index, extended=extended, protection=protection)
    ns = ctrl.namespaces[1]
    assert isinstance(ns, MetadataNamespace)
    return ns


def test_a_stream_of_writes() -> None:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        ns = ctrl.namespaces[1]
        ctrl.directive_send(
            DirectiveType.IDENTIFY,
            IdentifySend.ENABLE_DIRECTIVE,
            nsid=1,
            cdw12=EnableDirectiveCdw12.build(endir=1, dtype=DirectiveType.STREAMS),
        )
        with refused(GenericStatus.INVALID_FIELD):
            ns.write(0, DATA, placement=5)
        ns.write(0, DATA, stream=5, limited_retry=True, dsm=1)
        assert ns.read(0, 2, limited_retry=True, dsm=0x40) == DATA
        ns.compare(0, DATA, limited_retry=True)
        with ctrl.queue_pair() as pair:
            buffer = ctrl.alloc(512)
            pair.submit_write(ns, 8, 1, buffer, stream=9)
            (done,) = pair.drain()
            assert done.status.ok
            pair.write_many(ns, [9, 10], 1, ctrl.alloc(1024), stream=11).check()
        _, page = ctrl.directive_receive(DirectiveType.STREAMS, StreamsReceive.GET_STATUS, nsid=1)
        assert [int(each) for each in StreamsStatus.from_bytes(page)] == [5, 9, 11]


def test_more_than_one_command_carries() -> None:
    data = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8)
    with nvme.open("soft:?size=2M&commands=all&mdts=3") as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(0, data, dsm=1)
        assert ns.read(0, 2048, dsm=1) == data.tobytes()
        ns.compare(0, data, limited_retry=True)
        with pytest.raises(ValueError, match="namespace 1 has no metadata: leave out"):
            ns.write(0, bytes(512), metadata=bytes(8))  # type: ignore[call-arg]


@pytest.mark.parametrize("extended", [False, True])
def test_an_append_with_metadata(zoned: Controller, extended: bool) -> None:
    ns = formatted(zoned, 9, 8, extended=extended)
    metadata = bytes(range(16))
    assert ns.zones.append(128, DATA, metadata=metadata) == 128
    assert ns.zones.append(128, DATA, limited_retry=True) == 130
    found = bytearray(32)
    assert ns.read(128, 4, metadata=found) == DATA + DATA
    assert found == metadata + bytes(16)
    with pytest.raises(ValueError, match="2 blocks have 16 bytes of metadata here, 8 each, not 8"):
        ns.zones.append(128, DATA, metadata=bytes(8))
    if not extended:
        with pytest.raises(ValueError, match="one command carries up to 64 blocks, not 65"):
            ns.zones.append(128, bytes(65 * 512), metadata=bytes(65 * 8))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_reference_tags_follow_what_is_appended(zoned: Controller, kind: int, given: bool) -> None:
    ns = formatted(zoned, 9, 8, protection=kind)
    assert ns.protection is not None
    metadata = None
    if given:
        metadata = bytearray(16)
        ns.protection.generate(DATA, metadata, ref_tag=ns.protection.ref_tag_of(128))
    for lba in (128, 130):
        assert ns.zones.append(128, DATA, metadata=metadata) == lba
    # Only those of type 1 are the LBA's, and of type 2 those of the zone's first block.
    assert ns.read(128, 2) == DATA
    assert ns.read(130, 2, ref_tag=128 if kind == 2 else None) == DATA
    if kind == 2:
        assert ns.zones.append(128, DATA, metadata=metadata, piremap=True) == 132
        assert ns.read(132, 2) == DATA
    else:
        with refused(CommandSpecificStatus.INVALID_PROTECTION_INFO):
            ns.zones.append(128, DATA, metadata=metadata, piremap=kind == 3)


def test_an_append_of_a_queue_pair(zoned: Controller) -> None:
    ns = formatted(zoned, 9, 8, protection=1)
    buffer, metadata = zoned.alloc(1024), zoned.alloc(16)
    buffer[:] = np.frombuffer(DATA, np.uint8)
    with zoned.queue_pair() as pair:
        pair.submit_append(ns, 0, 2, buffer, app_tag=7, prinfo=PRINFO.build(pract=1))
        (done,) = pair.drain()
        assert (done.status.ok, done.lba) == (True, 0)
    assert ns.read(0, 2, app_tag=7, metadata=metadata) == DATA
    with refused(MediaStatus.APPLICATION_TAG_CHECK_ERROR):
        ns.read(0, 2, app_tag=8)


@pytest.mark.parametrize("extended", [False, True])
def test_compare_and_write_with_metadata(extended: bool) -> None:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        ns = formatted(ctrl, 9, 8, extended=extended)
        old, new = bytes(range(16)), bytes(range(16, 32))
        ns.write(4, DATA, metadata=old)
        for metadata in (new, None):
            with refused(MediaStatus.COMPARE_FAILURE):
                ns.compare_and_write(4, DATA, DATA[::-1], expected_metadata=metadata)
        ns.compare_and_write(4, DATA, DATA[::-1], expected_metadata=old, metadata=new)
        found = bytearray(16)
        assert ns.read(4, 2, metadata=found) == DATA[::-1]
        assert found == new
        with pytest.raises(ValueError, match="2 blocks have 16 bytes of metadata here"):
            ns.compare_and_write(4, DATA, DATA, metadata=bytes(4))


def test_compare_and_write_of_what_is_protected() -> None:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        ns = formatted(ctrl, 12, 64, protection=1)
        data = DATA * 4
        ns.write(4, data)
        ns.compare_and_write(4, data, data[::-1])
        assert ns.read(4, 1, app_tag=0) == data[::-1]
