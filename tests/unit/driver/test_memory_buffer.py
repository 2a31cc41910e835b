"""The Controller Memory Buffer: queues and data in memory of the controller's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from soft_controller import SoftController

import pynvme_user as nvme
from pynvme_user import (
    ClosedError,
    Controller,
    DeviceNameError,
    DmaBuffer,
    DmaError,
    NotSupportedError,
    NvmeError,
    NvmeStatusError,
)
from pynvme_user.access.base import DmaRegion, RegionIndex
from pynvme_user.dma import DeviceMemory, DmaPool
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.registers import CMBLOC, CMBMSC, CMBSZ
from pynvme_user.testing import SoftDevice
from pynvme_user.transport.pcie import PcieTransport

MIB = 1 << 20
SIZE = 4 * MIB


@pytest.fixture
def ctrl() -> Iterator[Controller]:
    with nvme.open("soft:?size=64M&cmb=4M") as ctrl:
        yield ctrl


def in_cmb(ctrl: Controller, buffer: DmaBuffer) -> bool:
    at = buffer.iova - ctrl.cmb.iova
    return at >= 0 and at + buffer.nbytes <= ctrl.cmb.nbytes


# --- what it is -----------------------------------------------------------------------------------


def test_what_the_registers_say(ctrl: Controller) -> None:
    assert ctrl.cap.cmbs
    assert int(ctrl.registers.cmbsz) == 0  # until the host asks
    cmb = ctrl.cmb
    assert (cmb.nbytes, cmb.free) == (SIZE, SIZE)
    assert cmb.cmbsz == ctrl.registers.cmbsz
    assert cmb.cmbsz == CMBSZ.build(sqs=1, cqs=1, lists=1, rds=1, wds=1, sz=SIZE >> 12)
    assert cmb.cmbloc.bir == RegionIndex.BAR2
    assert ctrl.registers.cmbmsc == CMBMSC.build(cre=1, cmse=1, cba=cmb.iova >> 12)
    assert ctrl.cmb is cmb


def test_none_is_there() -> None:
    with nvme.open("soft:") as ctrl:
        for use in (lambda: ctrl.cmb, lambda: ctrl.queue_pair(cmb=True)):
            with pytest.raises(NotSupportedError, match="no Controller Memory Buffer"):
                use()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("soft:?cmb=5000", "4K to 1G, whole pages"),
        ("soft:?cmb=2G", "4K to 1G"),
        ("soft:?cmb=4M&cmb.uses=data", "of sqs,cqs,lists,rds,wds"),
        ("soft:?cmb.uses=rds", "go with cmb: add its size"),
        ("soft:?legacy-cmb=on", "go with cmb: add its size"),
    ],
)
def test_a_name_that_is_none(name: str, text: str) -> None:
    with pytest.raises(DeviceNameError, match=text):
        nvme.open(name)


# --- data -----------------------------------------------------------------------------------------


def test_data_of_every_way(ctrl: Controller, rng: np.random.Generator) -> None:
    ns, cmb = ctrl.namespaces[1], ctrl.cmb
    source, target = cmb.alloc(64 << 10), cmb.alloc(64 << 10)
    assert all(in_cmb(ctrl, buffer) for buffer in (source, target))
    assert target.iova == source.iova + source.nbytes
    source[:] = rng.integers(0, 256, source.nbytes, np.uint8)
    ns.write_from(8, source)
    ns.read_into(8, target)
    assert np.array_equal(source, target)
    ns.compare(8, source)
    # A slice; a plain array over the same memory; what the host's memory says.
    ns.read_into(9, target[:512])
    assert np.array_equal(target[:512], source[512:1024])
    ns.read_into(10, target.array[512:1024])
    assert np.array_equal(target[512:1024], source[1024:1536])
    assert ns.read(8, 128) == bytes(source)
    with ctrl.queue_pair(16) as qp:
        qp.submit_read(ns, 8, 8, target[4096:8192])
        qp.ring()
        assert [done.status.ok for done in qp.drain()] == [True]
        assert np.array_equal(target[4096:8192], source[:4096])
        lbas = 8 + 16 * np.arange(8)
        qp.read_many(ns, lbas, 16, target).check()
        assert np.array_equal(source, target)
    ctrl.admin(0x06, nsid=1, buffer=target[:4096])
    assert bytes(target[:4096]) == ctrl.identify_page(0, nsid=1)


def test_room_is_given_back(ctrl: Controller) -> None:
    cmb = ctrl.cmb
    first, rest = cmb.alloc(1), cmb.alloc(SIZE - 4096)
    assert cmb.free == 0
    with pytest.raises(DmaError, match="no 4 KiB left in one piece, of 4 MiB: release buffers"):
        cmb.alloc(4096)
    part = rest[4096:]
    del rest
    assert cmb.free == 0  # it is looked at
    del part, first
    assert cmb.free == SIZE
    # The pool's own memory is no part of it, nor the other way round.
    assert not in_cmb(ctrl, ctrl.alloc(4096))


def test_after_the_end(ctrl: Controller) -> None:
    buffer = ctrl.cmb.alloc(4096)
    cmb = ctrl.cmb
    buffer[:] = 5
    ctrl.close()
    assert bytes(buffer) == bytes([5]) * 4096
    for use in (lambda: cmb.alloc(1), lambda: ctrl.cmb):
        with pytest.raises(ClosedError):
            use()


def test_another_controller_s_is_copied(ctrl: Controller) -> None:
    buffer = ctrl.cmb.alloc(512)
    buffer[:] = 3
    with nvme.open("soft:?size=1M&cmb=1M&cmb.uses=sqs") as other:
        other.namespaces[1].write_from(0, buffer)
        assert other.namespaces[1].read(0, 1) == bytes(buffer)


# --- queues ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmb", "where"),
    [
        (False, (False, False, False)),
        (True, (True, False, False)),
        (("cqs",), (False, True, False)),
        (["lists", "sqs"], (True, False, True)),
        (("sqs", "cqs", "lists"), (True, True, True)),
    ],
)
def test_queues(ctrl: Controller, cmb: Any, where: tuple[bool, ...]) -> None:
    ns, data = ctrl.namespaces[1], ctrl.alloc(MIB)
    free = ctrl.cmb.free
    with ctrl.queue_pair(4, sgl=False, cmb=cmb) as qp:
        queue = qp.queue
        assert tuple(in_cmb(ctrl, part) for part in (queue.sq, queue.cq, queue.prp_lists)) == where
        for turn in range(2):
            data[:] = turn + 1
            qp.write_many(ns, 128 * np.arange(16), 128, data).check()
            data[:] = 0
            qp.read_many(ns, 128 * np.arange(16), 128, data).check()
            assert np.all(data == turn + 1)
            ctrl.reset()
    assert ctrl.cmb.free == free


def test_it_is_found_again_after_a_reset_of_the_function(ctrl: Controller) -> None:
    ns, cmb = ctrl.namespaces[1], ctrl.cmb
    with ctrl.queue_pair(4, cmb=True) as qp:
        ctrl.transport.reset()  # which forgets CMBMSC
        assert int(ctrl.registers.cmbmsc) == 0
        ctrl.reset()
        assert ctrl.registers.cmbmsc.cba == cmb.iova >> 12
        qp.submit_read(ns, 0, 1, cmb.alloc(512))
        qp.ring()
        assert qp.drain()[0].status.ok


@pytest.mark.parametrize("cmb", ["sqs", ("sq",), ("sqs", "data")])
def test_no_part_of_a_queue_pair(ctrl: Controller, cmb: Any) -> None:
    with pytest.raises(ValueError, match="cmb is True, for the submission queue, or some of sqs"):
        ctrl.queue_pair(cmb=cmb)


def test_no_room_for_a_queue(ctrl: Controller) -> None:
    kept = ctrl.cmb.alloc(SIZE)
    with pytest.raises(DmaError, match="left in one piece"):
        ctrl.queue_pair(cmb=True)
    del kept
    ctrl.queue_pair(cmb=True).close()


# --- what may not lie there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uses", "cmb", "text"),
    [
        ("cqs,lists", True, "no submission queues lie in .*CMBSZ.SQS is 0"),
        ("sqs,lists", ("sqs", "cqs"), "no completion queues lie in .*CMBSZ.CQS is 0"),
        ("sqs,cqs", ("sqs", "lists"), "no PRP lists lie in .*CMBSZ.LISTS is 0"),
    ],
)
def test_queues_that_are_refused(uses: str, cmb: Any, text: str) -> None:
    with nvme.open(f"soft:?size=1M&cmb=1M&cmb.uses={uses}") as ctrl:
        with pytest.raises(NotSupportedError, match=text):
            ctrl.queue_pair(cmb=cmb)
        ctrl.queue_pair().close()


def test_lists_beside_a_queue_elsewhere() -> None:
    """Which is refused where the controller wants both in the same place."""

    class Device(SoftDevice):
        def __init__(self) -> None:
            super().__init__("?size=1M&cmb=1M")
            self._bar0, self.registers = self.registers, self
            self.size = self._bar0.size

        def read(self, offset: int, width: int) -> int:
            value = self._bar0.read(offset, width)
            return value & ~CMBLOC.cdpcils.mask if offset == CMBLOC.offset else value

        def write(self, offset: int, width: int, value: int) -> None:
            self._bar0.write(offset, width, value)

    with nvme.open(Device()) as ctrl:
        with pytest.raises(NotSupportedError, match=r"CMBLOC.CDPCILS is 0\): add \"sqs\" to cmb"):
            ctrl.queue_pair(cmb=("lists",))
        ctrl.queue_pair(cmb=("lists", "sqs")).close()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("uses", "reads", "text"),
    [
        ("sqs,wds", True, r"no commands bring data into the Controller .* \(RDS is 0\)"),
        ("sqs,rds", False, r"no commands take data from the Controller .* \(WDS is 0\)"),
    ],
)
def test_data_that_is_refused(uses: str, reads: bool, text: str, plain: bool) -> None:
    device = SoftDevice(f"?size=1M&cmb=1M&cmb.uses={uses}")
    with nvme.open(device) as ctrl:
        ns, buffer = ctrl.namespaces[1], ctrl.cmb.alloc(4096)
        array = buffer.array if plain else buffer
        bad, good = (ns.read_into, ns.write_from) if reads else (ns.write_from, ns.read_into)
        with ctrl.queue_pair(4) as qp:
            submit = qp.submit_read if reads else qp.submit_write
            many = qp.read_many if reads else qp.write_many
            opc = NvmOpcode.READ if reads else NvmOpcode.WRITE
            raw = SQE.build(opc=opc, nsid=1, cdw12=7)
            admin = 0x06 if reads else 0x11  # Identify, or Firmware Image Download
            for use in (
                lambda: bad(0, array),
                lambda: submit(ns, 0, 8, array),
                lambda: many(ns, [0], 8, array),
                lambda: qp.submit(raw, array),
                lambda: ctrl.io(opc, nsid=1, cdw12=7, buffer=array),
                lambda: ctrl.admin(admin, nsid=1, buffer=array),
            ):
                with pytest.raises(DmaError, match=text):
                    use()
            assert device.counts().reads + device.counts().writes == 0
            # Twice: what is known of a buffer from the first time lets nothing else through.
            for _ in range(2):
                good(0, array)
            with pytest.raises(DmaError, match=text):
                bad(0, array)


def test_the_controller_itself_refuses_what_may_not_lie_there() -> None:
    """The driver's checks are not what the software controller relies on."""
    with nvme.open("soft:?size=1M&cmb=1M&cmb.uses=wds") as ctrl:
        buffer = ctrl.cmb.alloc(4096)
        with pytest.raises(NvmeStatusError, match="Invalid Use of Controller Memory Buffer"):
            ctrl.io(NvmOpcode.READ, nsid=1, prp1=buffer.iova)
        for opcode in (0x05, 0x01):  # Create I/O Completion Queue, Submission Queue
            if opcode == 0x01:
                own = ctrl.alloc(4096)
                ctrl.admin(0x05, prp1=own.iova, cdw10=15 << 16 | 9, cdw11=1)
            with pytest.raises(NvmeStatusError, match="Invalid Use of Controller Memory Buffer"):
                ctrl.admin(opcode, prp1=buffer.iova, cdw10=15 << 16 | 9, cdw11=9 << 16 | 1)


def test_data_and_metadata_apart() -> None:
    """Of one command they lie both there, or neither, unless the controller says otherwise."""
    own, mixing = (DeviceMemory("it", True, True, mixed) for mixed in (False, True))
    device = SoftDevice("?size=1M")
    pool = DmaPool(device)
    first, second = (device.allocate_dma(8192) for _ in range(2))
    apart = pool.add(first, own)
    free = pool.add(second, mixing)
    host = pool.alloc(4096)
    there = pool.alloc(4096, within=apart)
    anywhere = pool.alloc(4096, within=free)
    for data, metadata in ((there, host), (host, there), (there.array, host.array)):
        with pytest.raises(DmaError, match=r"both lie in it, or neither \(CDMMMS is 0\)"):
            pool.check_together(data, metadata)
    for data, metadata in ((there, there), (host, host), (anywhere, host), (host, anywhere)):
        pool.check_together(data, metadata)
    device.close()


# --- where it is for the controller ---------------------------------------------------------------


def test_an_address_that_the_controller_does_not_take() -> None:
    class Device(SoftDevice):
        def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
            region = super().map_bar(index, offset, length)
            other = self.allocate_dma(4096)
            return DmaRegion(region.address, region.length, other.iova, region.owner)

    with nvme.open(Device("?size=1M&cmb=1M")) as ctrl:
        for use in (lambda: ctrl.cmb, lambda: ctrl.queue_pair(cmb=True)):
            with pytest.raises(NvmeError, match=r"does not take 0x.* \(CMBSTS.CBAI\)"):
                use()
        assert int(ctrl.registers.cmbmsc) == 0
        ctrl.namespaces[1].read(0, 1)


def test_what_the_last_user_left_is_forgotten() -> None:
    """Else memory of ours that has that address would be the controller's for it."""
    device = SoftDevice("?size=1M&cmb=1M")
    device.registers.write(CMBMSC.offset or 0, 8, 0x7000_0000_0003)
    assert device.registers.read(CMBSZ.offset or 0, 4)
    with nvme.open(device) as ctrl:
        assert int(ctrl.registers.cmbmsc) == 0


def test_before_nvme_1_4_it_is_always_there() -> None:
    with nvme.open("soft:?size=1M&cmb=1M&legacy-cmb=on") as ctrl:
        assert not ctrl.cap.cmbs
        ns, buffer = ctrl.namespaces[1], ctrl.cmb.alloc(4096)
        buffer[:] = 9
        with ctrl.queue_pair(4, cmb=True) as qp:
            assert in_cmb(ctrl, qp.queue.sq)
            qp.submit_write(ns, 0, 8, buffer)
            qp.ring()
            assert qp.drain()[0].status.ok
        assert ns.read(0, 8) == bytes(buffer)
        assert int(ctrl.registers.cmbmsc) == 0


def test_a_place_beyond_the_bar(soft: SoftController) -> None:
    """What a register says is no reason to map what is not there."""
    soft.cap = soft.cap.replace(cmbs=1)
    with Controller(PcieTransport(soft), ready_timeout=0.5) as ctrl:
        soft.forced = {
            CMBSZ.offset or 0: CMBSZ.build(sz=1),
            CMBLOC.offset or 0: CMBLOC.build(bir=5),
        }
        with pytest.raises(NvmeError, match="no memory in BAR5 that can be mapped"):
            _ = ctrl.cmb
