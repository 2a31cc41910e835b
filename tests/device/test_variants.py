"""The ways of a transfer on QEMU controllers of other properties, chosen in the device name."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload import KINDS, Memory, Model, pattern

import pynvme_user as nvme
from pynvme_user import Controller, NvmeStatusError
from pynvme_user.spec.status import MediaStatus


@pytest.fixture(scope="module")
def model(variant: Controller) -> Model:
    return Model(variant.namespaces[1], 4 << 20)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 1000), st.integers(1, 300), st.sampled_from(KINDS)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1 << 32),
)
def test_read_after_write(model: Model, steps: list[tuple[int, int, str]], seed: int) -> None:
    ns = model.ns
    for number, (at, size, kind) in enumerate(steps):
        lba, blocks = model.extent(at / 1001, size / 300)
        want = model.part(lba, blocks)
        memory = Memory(ns.controller, kind, len(want), number)
        ns.read_into(lba, memory.user)
        assert np.array_equal(memory.bytes, want)
        memory.bytes[:] = want[:] = pattern(seed + number, len(want))
        ns.write(lba, memory.user)
        memory.check()
    model.check()


@pytest.mark.parametrize("sgl", [False, True])
def test_vectors_and_single_commands(model: Model, sgl: bool) -> None:
    ctrl, ns = model.ns.controller, model.ns
    most = min(ctrl.max_transfer, 256 << 10) >> ns.block_shift
    buffer = ctrl.alloc(40 * most << ns.block_shift)
    pair = ctrl.queue_pair(5, sgl=sgl)
    with pair as qp:
        for blocks in {1, 2, most - 1, most} - {0}:
            lbas = model.first + np.arange(min(40, model.blocks // blocks)) * blocks
            for _ in range(3):
                qp.write_many(ns, lbas, blocks, buffer).check()
                qp.read_many(ns, lbas, blocks, buffer).check()
            qp.submit_read(ns, int(lbas[-1]), blocks, buffer[4:][: blocks << ns.block_shift])
            assert all(done.status.ok for done in qp.drain())
    model.data[:] = pattern(3, len(model.data))
    ns.write(model.first, model.data)
    model.check()


def test_doorbells_of_the_variant(variant: Controller, request: pytest.FixtureRequest) -> None:
    """With shadow doorbells the tail stands in memory, and the device writes its event index there;
    without them each batch writes its register.

    The completion queue has room for more than these, so that its register is left alone.
    """
    ns = variant.namespaces[1]
    with variant.queue_pair(8) as qp:
        for _ in range(50):
            qp.submit_flush(ns)
            qp.drain()
        if request.node.callspec.id == "no shadow doorbells":
            assert variant.transport.shadow is None
            assert qp.doorbell_writes == 50
        else:
            assert variant.transport.shadow is not None
            tail, event_index = (
                int(page.view(np.uint32)[2 * qp.qid]) for page in variant.transport.shadow
            )
            assert tail == 50
            # A thread of the software controller's that does not sleep does not ask again.
            assert (0 if variant.name.startswith("soft:") else 1) <= event_index <= 50
            assert 0 < qp.doorbell_writes <= 50


def test_limits_of_the_variant(variant: Controller, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    ns = variant.namespaces[1]
    wanted = {
        "4096-byte blocks": (4096, 512 << 10, 64),
        "MDTS of 16 KiB": (512, 16 << 10, 64),
        "no MDTS": (512, 2 << 20, 64),
        "one queue pair": (512, 512 << 10, 1),
        "no shadow doorbells": (512, 512 << 10, 64),
    }[name]
    assert (ns.block_size, variant.max_transfer, variant.max_queue_pairs) == wanted
    assert ns.block_count * ns.block_size == 256 << 20


def test_the_only_queue_pair(qemu: None) -> None:
    """Single calls and the user's queue pair share what the controller grants; nobody hangs."""
    with nvme.open("qemu:?size=16M&max_ioqpairs=1", timeout=0.3) as ctrl:
        ns = ctrl.namespaces[1]
        refused = pytest.raises(nvme.QueueFullError, match=r"close one that queue_pair\(\) made")
        for _ in range(2):
            with ctrl.queue_pair(4), refused:
                ns.read(0, 1)
            ns.write(0, b"a" * 512)
            assert ns.read(0, 1) == b"a" * 512


def test_many_namespaces(qemu: None) -> None:
    """Each has its own blocks, size and identifiers; ids with holes between them."""
    ids = {1: 512, 2: 4096, 7: 512, 200: 4096}
    uuids = {nsid: uuid.UUID(int=nsid) for nsid in ids}
    query = "&".join(
        f"ns{nsid}.size={16 + nsid}M&ns{nsid}.logical_block_size={block}"
        f"&ns{nsid}.uuid={uuids[nsid]}&ns{nsid}.eui64={0x1000 + nsid}"
        for nsid, block in ids.items()
    )
    with nvme.open(f"qemu:?{query}") as ctrl:
        assert list(ctrl.namespaces) == list(ids)
        assert dict(ctrl.namespaces).keys() == ids.keys()
        for nsid, block in ids.items():
            ns = ctrl.namespaces[nsid]
            assert ns.block_size == block
            assert ns.block_count * block == (16 + nsid) << 20
            assert ns.identifiers.uuid == uuids[nsid]
            assert ns.identifiers.eui64 == (0x1000 + nsid).to_bytes(8, "big")
            ns.write(ns.block_count - 1, bytes([nsid]) * block)
        for nsid, block in ids.items():
            ns = ctrl.namespaces[nsid]
            assert ns.read(ns.block_count - 1, 1) == bytes([nsid]) * block
        with pytest.raises(KeyError, match="active are: 1, 2, 7, 200"):
            _ = ctrl.namespaces[3]


def test_more_memory_than_the_machine_has(qemu: None) -> None:
    with nvme.open("qemu:?size=16M&memory=32M") as ctrl:
        with pytest.raises(nvme.DmaError, match="no 64 MiB of memory left"):
            ctrl.alloc(64 << 20)
        ns = ctrl.namespaces[1]
        data = bytes(8 << 20)
        ns.write(0, data)
        assert ns.read(0, ns.block_count) == bytes(16 << 20)


def test_memory_above_4_gib(qemu: None) -> None:
    """IOVAs of more than 32 bits, all the way down to the device."""
    with nvme.open("qemu:?size=64M&memory=4G") as ctrl:
        ns = ctrl.namespaces[1]
        # Not zeroed: that would take seconds.
        low = ctrl.dma.alloc(0x8000_0000 - (8 << 20), zero=False)
        high = ctrl.alloc(48 << 20)
        assert low.iova < 1 << 32 <= high.iova
        high[:] = np.resize(pattern(1, 1 << 20), len(high))
        ns.write(0, high)
        assert ns.read(0, 98304) == high.tobytes()
        high.fill(0)
        ns.read_into(0, high)
        assert np.array_equal(high[-(1 << 20) :], pattern(1, 1 << 20))


# --- failures of the medium, injected by QEMU's blkdebug ----------------------------------------

FAULTY = (
    "qemu:?driver=blkdebug&driver.image.driver=null-co&driver.image.size=16777216"
    "&driver.image.read-zeroes=on"
    "&driver.inject-error.0.event=read_aio&driver.inject-error.0.sector=1000"
    "&driver.inject-error.1.event=write_aio&driver.inject-error.1.sector=2000"
)


def test_one_bad_block(qemu: None) -> None:
    """Each completion is judged alone: the bad block fails, nothing beside it does."""
    with nvme.open(FAULTY) as ctrl, ctrl.queue_pair(32) as qp:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(100 * 512)
        lbas = np.arange(950, 1050)
        result = qp.read_many(ns, lbas, 1, buffer)
        assert result.failed.tolist() == [50]
        code = MediaStatus.UNRECOVERED_READ_ERROR
        with pytest.raises(NvmeStatusError, match="I/O 50 failed: Unrecovered Read") as caught:
            result.check()
        assert caught.value.status.code() == code
        assert not qp.write_many(ns, lbas, 1, buffer).failed.size

        cids = [qp.submit_read(ns, int(lba), 1, buffer[:512]) for lba in lbas[45:60]]
        done = {c.cid: c.status for c in qp.drain()}
        assert [done[cid].ok for cid in cids] == [n != 5 for n in range(15)]
        assert done[cids[5]].code() == code


def test_one_bad_block_in_a_long_transfer(qemu: None) -> None:
    """The error names the piece; bounced and direct transfers alike; the next call is clean."""
    with nvme.open(FAULTY) as ctrl:
        ns = ctrl.namespaces[1]
        for buffer in (ctrl.alloc(8 << 20), bytearray(8 << 20)):
            with pytest.raises(NvmeStatusError, match="Unrecovered Read Error"):
                ns.read_into(0, buffer)
            with pytest.raises(NvmeStatusError, match="Write Fault"):
                ns.write(0, buffer)
            ns.read_into(4096, buffer)
        assert ns.read(999, 1) == bytes(512)
        assert ns.read(1001, 1) == bytes(512)


# --- images -------------------------------------------------------------------------------------


def test_the_image_holds_the_bytes(qemu: None, tmp_path: Path) -> None:
    path = tmp_path / "a disk, with=odd name.img"
    data = pattern(5, 3 << 20).tobytes()
    with nvme.open(f"qemu:{path}?size=16M") as ctrl:
        ctrl.namespaces[1].write(8, data)
    assert path.stat().st_size == 16 << 20
    assert path.read_bytes()[4096 : 4096 + len(data)] == data
    with nvme.open(f"qemu:{path}") as ctrl:
        assert ctrl.namespaces[1].read(8, len(data) // 512) == data
