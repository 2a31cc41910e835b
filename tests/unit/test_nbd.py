"""What a block service asks of a namespace: bytes at any offset, zeroes, what is allocated."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import Controller, NvmOpcode
from pynvme_user.nbd import MAX_REQUEST, Export, error_number, open_device
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, MediaStatus, Status
from pynvme_user.testing import SoftDevice, faults
from pynvme_user.testing.faults import Outcome

MIB = 1 << 20


@pytest.fixture
def soft() -> SoftDevice:
    return SoftDevice("?size=4M&commands=all")


@pytest.fixture
def ctrl(soft: SoftDevice) -> Iterator[Controller]:
    with nvme.open(soft) as ctrl:
        yield ctrl


@pytest.fixture
def export(ctrl: Controller) -> Export:
    return Export(ctrl.namespaces[1])


def read(export: Export, at: int, count: int) -> bytes:
    data = bytearray(count)
    export.read_into(at, data)
    return bytes(data)


def test_zeroes_beside_what_they_do_not_cover(export: Export) -> None:
    """At any place and length; whole blocks without moving data."""
    rng = np.random.default_rng(3)
    model = bytearray(rng.bytes(20_000))
    export.write_from(0, model)
    for _ in range(200):
        at, count = int(rng.integers(19_000)), int(rng.choice([1, 511, 512, 513, 1000]))
        if rng.integers(3):
            export.zero(at, count, may_trim=bool(rng.integers(2)))
            model[at : at + count] = bytes(count)
        else:
            data = rng.bytes(count)
            export.write_from(at, data)
            model[at : at + count] = data
    assert read(export, 0, len(model)) == model


def test_which_commands_zeroes_are(soft: SoftDevice, export: Export) -> None:
    with (
        soft.order(faults.none(), opc=NvmOpcode.WRITE_ZEROES) as zeroes,
        soft.order(faults.none(), opc=NvmOpcode.WRITE) as writes,
    ):
        export.zero(0, 8192)
        assert (zeroes.seen, writes.seen) == (1, 0)
        export.zero(100, 1024)
        assert (zeroes.seen, writes.seen) == (2, 2)
        export.zero(700, 100)
        assert (zeroes.seen, writes.seen) == (2, 3)


def test_part_of_a_block_beside_zeroes_of_the_whole(soft: SoftDevice, export: Export) -> None:
    """What a write reads before it changes its part is not undone by zeroes, nor undoes them."""
    export.write_from(0, b"\1" * 512)
    reading = threading.Event()
    go_on = threading.Event()

    def wait(_: faults.Command) -> Outcome:
        reading.set()
        go_on.wait()
        return Outcome.EXECUTE

    with soft.order(faults.answer(wait), opc=NvmOpcode.READ, times=1):
        writer = threading.Thread(target=export.write_from, args=[0, b"\2" * 100])
        writer.start()
        reading.wait()
        zeroer = threading.Thread(target=export.zero, args=[0, 512])
        zeroer.start()
        go_on.set()
        writer.join()
        zeroer.join()
    assert read(export, 0, 512) == bytes(512)


def test_trim_takes_whole_blocks_alone(soft: SoftDevice, export: Export) -> None:
    export.write_from(0, b"\1" * 4096)
    with (
        soft.order(faults.none(), opc=NvmOpcode.DATASET_MANAGEMENT) as trims,
        soft.order(faults.none(), opc=NvmOpcode.FLUSH) as flushes,
    ):
        export.trim(511, 1026)
        assert read(export, 0, 4096) == b"\1" * 512 + bytes(1024) + b"\1" * 2560
        export.trim(1, 1000, fua=True)
        assert (trims.seen, flushes.seen) == (1, 1)
        export.flush()
        assert flushes.seen == 2


def test_durable_writes(soft: SoftDevice, export: Export) -> None:
    """FUA goes with each command, those for parts of blocks, too."""
    fua: list[int] = []

    def note(command: faults.Command) -> Outcome:
        fua.append(command.sqe.cdw12 >> 30 & 1)
        return Outcome.EXECUTE

    with soft.order(faults.answer(note)):
        export.write_from(0, bytes(1024), fua=True)
        export.write_from(5, bytes(1024), fua=True)
        export.zero(512, 512, fua=True)
        assert fua == [1, 0, 1, 1, 0, 1, 1]
        fua.clear()
        export.write_from(0, bytes(512))
        export.zero(512, 512)
        assert fua == [0, 0]


def test_fast_zeroes(ctrl: Controller, export: Export) -> None:
    export.zero(0, 512, may_trim=True, fast=True)
    with pytest.raises(nvme.NotSupportedError) as caught:
        export.zero(0, 512, fast=True)
    assert error_number(caught.value) == errno.EOPNOTSUPP


# --- what is allocated --------------------------------------------------------------------------


def test_extents_of_more_than_one_answer(export: Export) -> None:
    """A page of descriptors has 255; ranges that one command asks about have 65535 blocks."""
    for lba in range(0, 800, 2):
        export.write_from(lba * 512, b"\1")
    found = [*export.extents(100, 4 * MIB - 100)]
    assert found[0] == (100, 412, True)
    assert len(found) == 800
    assert found[1:-1] == [(lba * 512, 512, lba % 2 == 0) for lba in range(1, 799)]
    assert found[-1] == (799 * 512, 4 * MIB - 799 * 512, False)
    assert [*export.extents(512, 3 * MIB, one=True)] == found[1:511]


def test_extents_of_more_blocks_than_a_range_has() -> None:
    with nvme.open("soft:?size=48M&commands=all") as ctrl:
        export = Export(ctrl.namespaces[1], read_only=True)
        first = 0xFFFF * 512
        assert [*export.extents(0, 48 * MIB)] == [
            (0, first, False),
            (first, 48 * MIB - first, False),
        ]


def test_what_is_not_certain_is_allocated(soft: SoftDevice, ctrl: Controller) -> None:
    whole = [(0, 4 * MIB, True)]
    export = Export(ctrl.namespaces[1])
    assert export.reports_allocation
    with soft.order(
        faults.status(GenericStatus.INTERNAL_ERROR), opc=AdminOpcode.GET_LBA_STATUS, admin=True
    ):
        assert [*export.extents(0, 4 * MIB)] == whole
        other = Export(ctrl.namespaces[1])
    assert not other.reports_allocation
    assert [*other.extents(0, 4 * MIB)] == whole

    def no_indication(command: faults.Command) -> Status:
        return command.fill(bytes(4096))

    with soft.order(faults.answer(no_indication), opc=AdminOpcode.GET_LBA_STATUS, admin=True):
        assert [*export.extents(0, 4 * MIB)] == whole


def test_a_plain_device_says_nothing() -> None:
    with nvme.open("soft:?size=1M") as ctrl:
        export = Export(ctrl.namespaces[1])
        assert not export.reports_allocation
        assert [*export.extents(5, 1000)] == [(5, 1000, True)]


# --- what it says of itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "sizes"),
    [
        (9, (512, 4096, MAX_REQUEST)),
        (12, (4096, 4096, MAX_REQUEST)),
        (16, (1 << 16, 1 << 16, MAX_REQUEST)),
        (17, (1, 1 << 17, MAX_REQUEST)),
        (27, (1, 1 << 25, MAX_REQUEST)),
    ],
)
def test_block_sizes(export: Export, shift: int, sizes: tuple[int, int, int]) -> None:
    export.ns.geometry.block_shift = shift
    assert export.block_sizes == sizes


@pytest.mark.parametrize(
    ("granularity", "preferred"), [(64, 32768), (24, 4096), (1 << 20, 4096), (1, 4096)]
)
def test_the_preferred_size_is_what_the_device_likes(
    export: Export, granularity: int, preferred: int
) -> None:
    export.ns.geometry.granularity = granularity
    assert export.block_sizes[1] == preferred


def test_zones_are_not_written_anywhere() -> None:
    with nvme.open("soft:?size=4M&commands=all&zoned.zone_size=1M") as ctrl:
        with pytest.raises(nvme.NotSupportedError, match=r"is zoned, .* --read-only"):
            Export(ctrl.namespaces[1])
        assert not Export(ctrl.namespaces[1], read_only=True).can_trim


def test_waits_sleep_where_there_are_interrupts() -> None:
    with open_device("soft:?size=1M") as ctrl, ctrl.queue_pair() as pair:
        assert pair.fileno() >= 0
        assert read(Export(ctrl.namespaces[1]), 0, 5) == bytes(5)


# --- errors ---------------------------------------------------------------------------------------


def test_numbers_of_errors() -> None:
    def refused(code: GenericStatus | MediaStatus | CommandSpecificStatus) -> int:
        return error_number(nvme.NvmeStatusError(Status.of(code), "Write"))

    assert refused(GenericStatus.CAPACITY_EXCEEDED) == errno.ENOSPC
    assert refused(GenericStatus.NAMESPACE_WRITE_PROTECTED) == errno.EPERM
    assert refused(GenericStatus.INTERNAL_ERROR) == errno.EIO
    assert refused(MediaStatus.UNRECOVERED_READ_ERROR) == errno.EIO
    assert error_number(nvme.NvmeTimeoutError("")) == errno.EIO
    assert error_number(nvme.DeviceRemovedError("")) == errno.ESHUTDOWN
    assert error_number(nvme.ClosedError("")) == errno.ESHUTDOWN
    assert error_number(nvme.DeviceNameError("")) == errno.EIO
    assert error_number(ValueError()) == errno.EINVAL
    assert error_number(MemoryError()) == errno.EIO


def test_errors_of_the_device(soft: SoftDevice, export: Export) -> None:
    with soft.order(faults.gone()), pytest.raises(nvme.DeviceRemovedError) as caught:
        export.read_into(0, bytearray(512))
    assert error_number(caught.value) == errno.ESHUTDOWN
