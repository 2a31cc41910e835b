"""How a transfer is divided: at boundary and granularity of the namespace; and bounce buffers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from soft_controller import OK, SoftController

import pynvme_user as nvme
from pynvme_user import Controller, NvmeStatusError
from pynvme_user.dma import SPARE
from pynvme_user.driver.geometry import Geometry
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.identify import NSFEAT, IdentifyNamespace, LbaFormat
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport

MOST = 32  # blocks: MDTS of the soft controller is 16 KiB


@given(
    most=st.integers(1, 300),
    boundary=st.integers(0, 1000),
    granularity=st.integers(1, 64),
    lba=st.integers(0, 5000),
    blocks=st.integers(1, 5000),
    reads=st.booleans(),
)
def test_pieces_cover_it_once(
    most: int, boundary: int, granularity: int, lba: int, blocks: int, reads: bool
) -> None:
    geometry = Geometry(1, 9, 1 << 20, 0, most, boundary, granularity)
    starts: list[int] = []
    at = lba
    while at < lba + blocks:
        run, step = geometry.run(at, lba + blocks - at, reads=reads)
        assert 1 <= run <= lba + blocks - at
        assert 1 <= step <= most
        starts += range(at, at + run, step)
        at += run
    assert at == lba + blocks
    ends = [*starts[1:], at]
    for start, end in zip(starts, ends, strict=True):
        assert 0 < end - start <= most
        if boundary:
            assert start // boundary == (end - 1) // boundary, "a piece crosses the boundary"
    if not boundary and not reads and 1 < granularity <= most < blocks:
        assert all(start % granularity == 0 for start in starts[1:])
    if not boundary and blocks <= most:
        assert starts == [lba], "what one command carries is not divided"
    windows = (lba + blocks - 1) // boundary - lba // boundary + 1 if boundary else 1
    least = most if boundary or reads or granularity > most else most - most % granularity
    assert len(starts) <= -(-blocks // least) + windows + 1, "of more pieces than that takes"


class Disk:
    """The soft controller with memory behind its namespace, which notes what it is sent."""

    def __init__(self, **fields: object) -> None:
        self.soft = SoftController()
        self.data = bytearray(self.soft.blocks << 9)
        self.sent: list[tuple[int, int]] = []
        self.fields = fields
        self.soft.io = self.io
        self.soft.identify = self.identify

    def identify(self, sqe: SQE) -> bytes | None:
        if sqe.cdw10 & 0xFF != Cns.NAMESPACE or sqe.nsid != 1:
            return None
        blocks = self.soft.blocks
        page = IdentifyNamespace.build(
            nsze=blocks, ncap=blocks, lbafs=[LbaFormat.build(ds=9)], **self.fields
        )
        return bytes(page)

    def io(self, sqe: SQE) -> Status:
        lba, blocks = sqe.cdw10, (sqe.cdw12 & 0xFFFF) + 1
        self.sent.append((lba, blocks))
        where = slice(lba << 9, lba + blocks << 9)
        if sqe.opc == NvmOpcode.READ:
            self.soft.fill(sqe, bytes(self.data[where]))
        elif sqe.opc == NvmOpcode.WRITE:
            self.data[where] = self.soft.data(sqe, blocks << 9)
        elif self.soft.data(sqe, blocks << 9) != self.data[where]:
            return Status.of(GenericStatus.INVALID_FIELD)
        return OK


@pytest.mark.parametrize("memory", ["dma", "bytes", "odd"])
@pytest.mark.parametrize("boundary", [0, 8, 24, 48])
@pytest.mark.parametrize(("lba", "blocks"), [(0, 8), (5, 8), (3, 100), (7, 1), (40, 64)])
def test_data_across_boundaries(memory: str, boundary: int, lba: int, blocks: int) -> None:
    disk = Disk(noiob=boundary)
    rng = np.random.default_rng(1)
    want = rng.integers(0, 256, blocks << 9, np.uint8)
    with Controller(PcieTransport(disk.soft)) as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(lba, want)
        assert disk.data[lba << 9 : lba + blocks << 9] == want.tobytes()
        disk.sent.clear()
        buffer = ctrl.alloc((blocks << 9) + 4)
        got = {
            "dma": buffer[: blocks << 9],
            "bytes": np.zeros(blocks << 9, np.uint8),
            "odd": buffer[1 : (blocks << 9) + 1],
        }[memory]
        ns.read_into(lba, got)
        assert bytes(got) == want.tobytes() == bytes(ns.read(lba, blocks))
        ns.compare(lba, got)
        got[-1] ^= 1
        with pytest.raises(NvmeStatusError, match="Compare of"):
            ns.compare(lba, got)
    assert sum(count for _, count in disk.sent) == 4 * blocks
    if boundary:
        assert all(at // boundary == (at + count - 1) // boundary for at, count in disk.sent)
    elif blocks <= MOST:
        assert disk.sent == [(lba, blocks)] * 4


def test_writes_are_cut_at_multiples_of_the_granularity() -> None:
    optimal = NSFEAT.build(optperf=1)
    disk = Disk(nsfeat=optimal, npwg=11, npwa=5)
    with Controller(PcieTransport(disk.soft)) as ctrl:
        ctrl.namespaces[1].write_from(5, ctrl.alloc(60 << 9))
        assert disk.sent == [(5, 19), (24, 24), (48, 17)]
        disk.sent.clear()
        ctrl.namespaces[1].read_into(5, ctrl.alloc(60 << 9))
        assert disk.sent == [(5, 32), (37, 28)]


def test_bounce_buffers_are_used_again(soft: SoftController, ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    places: set[int] = set()
    soft.io = lambda sqe: places.add(sqe.prp1) or OK  # type: ignore[func-returns-value]
    for lba in range(20):
        ns.read(lba, 1 + lba % 8)
        ns.write(lba, bytes(512))
    assert len(places) == 1
    assert len(ctrl.dma._spares) == 1
    ns.write(0, bytes(SPARE + 512))  # which is too long for it
    assert len(ctrl.dma._spares) == 1
    ctrl.close()
    assert not ctrl.dma._spares


def test_one_that_the_device_may_still_reach_is_not(
    soft: SoftController, ctrl: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error whose command has no known end, the next call has other memory."""
    ns = ctrl.namespaces[1]
    ns.read(0, 1)
    (spare,) = ctrl.dma._spares

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pynvme_user.driver.pool.transfer_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ns.read(0, 1)
    assert spare not in ctrl.dma._spares
    ns.read(0, 1)
    assert spare not in ctrl.dma._spares


def test_an_error_gives_it_back(soft: SoftController, ctrl: Controller) -> None:
    ns = ctrl.namespaces[1]
    soft.io = lambda _: Status.of(GenericStatus.INVALID_FIELD)
    with pytest.raises(NvmeStatusError, match="Read of 2 blocks from LBA 3 on"):
        ns.read(3, 2)
    assert len(ctrl.dma._spares) == 1
    with pytest.raises(ValueError, match="not all in namespace"):
        ns.read(soft.blocks, 1)
    with pytest.raises(nvme.NvmeStatusError):
        ns.write(0, bytes(512))
