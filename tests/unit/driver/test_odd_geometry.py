"""Formats, sizes and limits that are legal and rare, in every combination; and some not legal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import disk_images
import numpy as np
import pytest
from disk_images import Parts
from hypothesis import example, given
from hypothesis import strategies as st
from soft_controller import OK, SoftController

from pynvme_user import Controller
from pynvme_user.cli import signatures
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.pipeline import Request, pipeline
from pynvme_user.driver.nvm_commands import dataset_commands
from pynvme_user.errors import NvmeError
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.identify import (
    IdentifyController,
    IdentifyControllerNvm,
    IdentifyNamespace,
    LbaFormat,
)
from pynvme_user.spec.nvm import DatasetRange
from pynvme_user.spec.registers import CAP, VS
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport

MIB = 1 << 20
COUNTS = st.sampled_from([0, 1, 2, 1000, (1 << 32) + 5, (1 << 63) + 1, (1 << 64) - 1])


class Disk:
    """What of a namespace was written, by LBA, and which commands came."""

    def __init__(
        self,
        *,
        shift: int = 9,
        blocks: int = 1000,
        mdts: int = 2,
        metadata: int = 0,
        limits: IdentifyControllerNvm | None = None,
    ) -> None:
        self.shift = shift
        self.written: dict[int, bytes] = {}
        self.commands: list[SQE] = []
        self.ranges: list[list[DatasetRange]] = []
        self.limits = limits
        self.soft = soft = SoftController()
        soft.blocks, soft.lbaf = blocks, LbaFormat.build(ds=shift, ms=metadata)
        base = IdentifyController.from_bytes(soft._page(SQE.build(cdw10=Cns.CONTROLLER)))
        self.controller = base.replace(mdts=mdts)
        soft.identify, soft.io, soft.admin = self.identify, self.io, self.admin

    def admin(self, sqe: SQE) -> Status:
        asks = sqe.opc == 6 and sqe.cdw10 & 0xFF == Cns.CSI_CONTROLLER
        return Status.of(GenericStatus.INVALID_FIELD) if asks and self.limits is None else OK

    def identify(self, sqe: SQE) -> bytes | None:
        match sqe.cdw10 & 0xFF:
            case Cns.CONTROLLER:
                return bytes(self.controller)
            case Cns.CSI_CONTROLLER:
                return bytes(self.limits or b"")
        return None

    def io(self, sqe: SQE) -> Status:
        lba, blocks = sqe.cdw10 | sqe.cdw11 << 32, (sqe.cdw12 & 0xFFFF) + 1
        self.commands.append(sqe)
        match sqe.opc:
            case NvmOpcode.READ:
                data = b"".join(
                    self.written.get(n, bytes(1 << self.shift)) for n in range(lba, lba + blocks)
                )
                self.soft.fill(sqe, data)
            case NvmOpcode.WRITE:
                data = self.soft.data(sqe, blocks << self.shift)
                for n in range(blocks):
                    self.written[lba + n] = data[n << self.shift : n + 1 << self.shift]
            case NvmOpcode.DATASET_MANAGEMENT:
                data = self.soft.data(sqe, 16 * (sqe.cdw10 + 1))
                self.ranges.append(
                    [DatasetRange.from_bytes(data, at) for at in range(0, len(data), 16)]
                )
        return OK


@contextmanager
def opened(disk: Disk) -> Iterator[Controller]:
    with Controller(PcieTransport(disk.soft)) as ctrl:
        yield ctrl


@given(st.integers(0, 255), COUNTS, st.integers(0, 12), st.sampled_from([0, 8]))
@example(shift=27, blocks=4, mdts=0, metadata=0)
@example(shift=21, blocks=4, mdts=0, metadata=0)
@example(shift=22, blocks=4, mdts=0, metadata=0)
@example(shift=13, blocks=4, mdts=1, metadata=0)
@example(shift=14, blocks=4, mdts=1, metadata=0)
@example(shift=17, blocks=4, mdts=0, metadata=0)
@example(shift=9, blocks=0, mdts=0, metadata=0)
@example(shift=9, blocks=(1 << 64) - 1, mdts=0, metadata=0)
@example(shift=12, blocks=4, mdts=2, metadata=8)
def test_each_format_is_served_or_refused(
    shift: int, blocks: int, mdts: int, metadata: int
) -> None:
    disk = Disk(shift=shift, blocks=blocks, mdts=mdts, metadata=metadata)
    with opened(disk) as ctrl:
        if not 9 <= shift <= 27:
            with pytest.raises(NvmeError, match=rf"2\*\*{shift} bytes"):
                ctrl.namespaces[1]
            return
        ns = ctrl.namespaces[1]
        if not blocks or 1 << shift > ctrl.max_transfer:
            why = (
                "which has no blocks"
                if not blocks
                else "more than one command of this controller carries"
            )
            data = np.zeros(1 << min(shift, 23), np.uint8)
            with pytest.raises(ValueError, match=why):
                ns.read(0, 1)
            if shift <= 23:
                for own in (data, ctrl.alloc(data.nbytes)):
                    for call in (ns.write, ns.read_into, ns.write_from, ns.compare):
                        with pytest.raises(ValueError, match=why):
                            call(0, own)
            with ctrl.queue_pair(2) as pair, pytest.raises(ValueError, match=why):
                pair.submit_read(ns, 0, 1, ctrl.alloc(4096))
            with ctrl.queue_pair(2) as pair, pytest.raises(ValueError, match=why):
                pair.read_many(ns, [0], 1, ctrl.alloc(4096))
            if not blocks:
                assert signatures.find(ns) is None
            if 1 << shift > ctrl.max_transfer:
                with (
                    pytest.raises(Failure, match="format the namespace with smaller"),
                    pipeline(ctrl, ns, Request(NvmOpcode.READ, 0)),
                ):
                    pass
            assert not disk.commands
        else:
            last = blocks - 1
            data = np.random.default_rng(shift).integers(0, 256, 1 << shift, np.uint8)
            ns.write(last, data)
            assert ns.read(last, 1) == data.tobytes()
            most = min(blocks, 3, (4 * MIB >> shift) + 1)
            many = np.tile(data, most)
            own = ctrl.alloc(many.nbytes)
            own[:] = many
            ns.write(blocks - most, own)
            own[:] = 0
            ns.read_into(blocks - most, own)
            assert (own == many).all()
            assert signatures.find(ns) is None or blocks < 1000
        ns.flush()
        if blocks:
            ns.write_zeroes(blocks - 1, 1)
            ns.deallocate([(blocks - 1, 1)])
            assert disk.ranges[-1] == [DatasetRange.build(slba=blocks - 1, nlb=1)]


# --- the guard --------------------------------------------------------------------------------

#: What lies at the beginning, a little behind, and at the end.
MADE: list[Callable[[int], Parts]] = [
    lambda size: disk_images.luks(),
    lambda size: disk_images.btrfs(),
    disk_images.raid,
]


@given(st.integers(9, 21), st.sampled_from(MADE), st.integers(0, 2))
@example(shift=9, make=disk_images.raid, mdts=1)
@example(shift=17, make=disk_images.raid, mdts=0)
@example(shift=21, make=disk_images.raid, mdts=0)
def test_every_signature_is_found_on_blocks_of_any_length(
    shift: int, make: Callable[[int], Parts], mdts: int
) -> None:
    size = 8 * MIB
    disk = Disk(shift=shift, blocks=size >> shift, mdts=mdts if shift < 13 else 0)
    image = bytearray(size)
    for at, part in make(size).items():
        image[at : at + len(part)] = part
    for lba in range(size >> shift):
        disk.written[lba] = bytes(image[lba << shift : lba + 1 << shift])
    with opened(disk) as ctrl:
        assert signatures.find(ctrl.namespaces[1]) is not None


@pytest.mark.parametrize("shift", [9, 12, 16, 17, 20])
@pytest.mark.parametrize("backup", [False, True])
def test_a_partition_table_is_found_on_blocks_of_any_length(shift: int, backup: bool) -> None:
    size = 8 * MIB
    disk = Disk(shift=shift, blocks=size >> shift, mdts=0)
    for at, part in disk_images.gpt(size, 1 << shift, backup=backup).items():
        for done in range(0, len(part), 1 << shift):
            disk.written[at + done >> shift] = part[done : done + (1 << shift)].ljust(
                1 << shift, b"\0"
            )
    with opened(disk) as ctrl:
        assert signatures.find(ctrl.namespaces[1]) == "a partition table (gpt)"


# --- commands that move no data ---------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 1 << 63), st.integers(1, 300)), max_size=40),
    st.integers(0, 255),
    st.sampled_from([0, 1, 7, 100, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 5, 64, 1000, (1 << 64) - 1]),
)
def test_ranges_are_divided_as_the_limits_say(
    ranges: list[tuple[int, int]], dmrl: int, dmrsl: int, dmsl: int
) -> None:
    limits = IdentifyControllerNvm.build(dmrl=dmrl, dmrsl=dmrsl, dmsl=dmsl)
    made = list(dataset_commands(ranges, limits))
    for command in made:
        assert 1 <= len(command) <= (dmrl or 256)
        assert all(1 <= blocks <= (dmrsl or 0xFFFFFFFF) for _, blocks in command)
        assert sum(blocks for _, blocks in command) <= (dmsl or 1 << 64)
    pieces = (one for command in made for one in command)
    for lba, blocks in ranges:
        at = lba
        while at < lba + blocks:
            first, count = next(pieces)
            assert first == at
            at += count
        assert at == lba + blocks
    assert next(pieces, None) is None


def test_a_range_of_two_to_the_32_and_more_is_divided() -> None:
    blocks = (1 << 33) + 5
    disk = Disk(blocks=blocks)
    with opened(disk) as ctrl:
        ns = ctrl.namespaces[1]
        ns.deallocate([(0, blocks)])
        (command,) = disk.ranges
        assert [(one.slba, one.nlb) for one in command] == [
            (0, 0xFFFFFFFF),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (2 * 0xFFFFFFFF, 7),
        ]
        with ctrl.queue_pair(2) as pair, pytest.raises(ValueError, match=r"use Namespace\.deall"):
            pair.submit_deallocate(ns, [(0, 1 << 32)])


def test_nothing_is_sent_where_one_range_is_wrong() -> None:
    disk = Disk()
    with opened(disk) as ctrl:
        wrong = [(0, 1)] * 300 + [(1000, 1)]
        with pytest.raises(ValueError, match="not all in namespace"):
            ctrl.namespaces[1].deallocate(wrong)
        assert disk.ranges == []
        ctrl.namespaces[1].deallocate([])
        assert disk.ranges == []


@pytest.mark.parametrize(("wzsl", "each"), [(0, 65536), (1, 16), (30, 65536), (255, 65536)])
def test_write_zeroes_keeps_to_its_limit(wzsl: int, each: int) -> None:
    disk = Disk(blocks=1 << 20, limits=IdentifyControllerNvm.build(wzsl=wzsl))
    with opened(disk) as ctrl:
        ctrl.namespaces[1].write_zeroes(3, 2 * each + 1)
        sent = [(sqe.cdw10, sqe.cdw12 + 1) for sqe in disk.commands]
    assert sent == [(3, each), (3 + each, each), (3 + 2 * each, 1)]


def test_write_zeroes_of_blocks_above_its_limit_is_the_devices_to_refuse() -> None:
    disk = Disk(shift=20, limits=IdentifyControllerNvm.build(wzsl=1))
    with opened(disk) as ctrl:
        ctrl.namespaces[1].write_zeroes(0, 2)
    assert [sqe.cdw12 for sqe in disk.commands] == [0, 0]


@pytest.mark.parametrize("version", [VS.build(mjr=1, mnr=0), VS.build(mjr=1, mnr=3)])
def test_limits_are_not_asked_for_where_there_are_none(version: VS) -> None:
    disk = Disk(limits=IdentifyControllerNvm.build(dmrl=1, wzsl=1))
    disk.soft.version = version
    with opened(disk) as ctrl:
        ctrl.namespaces[1].deallocate([(0, 1), (2, 1)])
    assert len(disk.ranges) == 1


# --- not legal --------------------------------------------------------------------------------


def test_queues_of_one_entry_are_no_queues() -> None:
    soft = SoftController()
    soft.cap = CAP.build(mqes=0, to=1, css=1)
    with pytest.raises(NvmeError, match=r"CAP\.MQES is 0"):
        Controller(PcieTransport(soft))
    assert soft.log[-1] == "closed"


def test_registers_that_read_as_zero() -> None:
    soft = SoftController()
    soft.cap = CAP(0)
    with pytest.raises(
        NvmeError, match=r"virtual function that is offline .*Controller\.bring_online"
    ):
        Controller(PcieTransport(soft))
    assert soft.log[-1] == "closed"


def test_queues_of_two_entries_are_enough() -> None:
    disk = Disk()
    disk.soft.cap = CAP.build(mqes=1, to=1, css=1)
    with opened(disk) as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(0, bytes(range(256)) * 64)
        assert ns.read(0, 32) == bytes(range(256)) * 64


def test_namespace_page_of_ones() -> None:
    disk = Disk()
    disk.soft.identify = lambda sqe: (
        bytes(IdentifyNamespace.from_bytes(b"\xff" * 4096)) if not sqe.cdw10 & 0xFF else None
    )
    with opened(disk) as ctrl, pytest.raises(NvmeError, match=r"2\*\*255 bytes"):
        ctrl.namespaces[1]
