"""Commands other than plain reads and writes; what is refused here and what the device refuses."""

from __future__ import annotations

import numpy as np
import pytest
from workload import REFUSALS, Model, pattern

from pynvme_user import Controller, Namespace, NvmeStatusError
from pynvme_user.spec.admin import Cns, IdentifyCdw10
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.features import FeatureId, SetFeaturesCdw10
from pynvme_user.spec.identify import IdentifyController
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, MediaStatus, Status


@pytest.fixture(scope="module")
def model(ns: Namespace) -> Model:
    return Model(ns, 1 << 20)


def supported(bit: int, what: str) -> None:
    if not bit:
        pytest.skip(f"the controller has no {what} (Identify Controller, ONCS)")


# --- commands without data ----------------------------------------------------------------------


def test_flush(ns: Namespace) -> None:
    ns.write(0, bytes(ns.block_size))
    ns.flush()
    ns.flush()


@pytest.mark.parametrize("deallocate", [False, True])
def test_write_zeroes(ns: Namespace, model: Model, deallocate: bool) -> None:
    supported(ns.controller.identify.oncs.nvmwzsv, "Write Zeroes")
    lba, blocks = model.extent(0.3, 0.4)
    try:
        ns.write_zeroes(lba, blocks, deallocate=deallocate)
    except NvmeStatusError:
        # QEMU does it without saying so; who does not say so may refuse it.
        if not deallocate or ns.identify.dlfeat.wzds:
            raise
        return
    model.part(lba, blocks)[:] = 0
    model.check()
    model.data[:] = pattern(2, len(model.data))
    ns.write(model.first, model.data)


def test_write_zeroes_of_more_than_one_command_takes(ns: Namespace, model: Model) -> None:
    """65536 blocks are the most of one command; one more than that twice needs three."""
    supported(ns.controller.identify.oncs.nvmwzsv, "Write Zeroes")
    blocks = min(2 * 65536 + 1, ns.block_count - 2)
    marks = pattern(5, ns.block_size).tobytes()
    looked_at = {lba for lba in (0, 1, 65536, 65537, blocks, blocks + 1) if lba <= blocks + 1}
    for lba in looked_at:
        ns.write(lba, marks)
    ns.write_zeroes(1, blocks)
    zeroes = bytes(ns.block_size)
    for lba in looked_at:
        assert ns.read(lba, 1) == (marks if lba in (0, blocks + 1) else zeroes)
    ns.write(model.first, model.data)  # which may have been among them


def test_compare(controller: Controller, ns: Namespace, model: Model) -> None:
    supported(controller.identify.oncs.nvmcmps, "Compare")
    lba, blocks = model.extent(0.1, 0.5)
    same = model.part(lba, blocks).copy()
    ns.compare(lba, same)
    for at in (0, len(same) // 2 + 1, len(same) - 1):
        other = controller.alloc(len(same))
        other[:] = same
        other[at] ^= 1
        for form in (other, other.tobytes()):
            with pytest.raises(NvmeStatusError, match="Compare Failure") as caught:
                ns.compare(lba, form)
            assert caught.value.status.code() == MediaStatus.COMPARE_FAILURE
            assert (caught.value.sct, caught.value.sc) == (2, 0x85)
    ns.compare(lba, same)


@pytest.mark.parametrize("count", [1, 3, 256, 257])
def test_deallocate(ns: Namespace, model: Model, count: int) -> None:
    """What was not named keeps its data; what was reads as the namespace says (DLFEAT)."""
    supported(ns.controller.identify.oncs.nvmdsmsv, "Dataset Management")
    count = min(count, model.blocks // 2)
    extents = [(model.first + 2 * n, 1) for n in range(count)]
    ns.deallocate(extents)
    assert ns.identify.nsze == ns.block_count
    reads = {0: None, 1: 0, 2: 0xFF}[int(ns.identify.dlfeat) & 7]
    for lba, blocks in extents:
        part = model.part(lba, blocks)
        # A device may ignore the hint: then the block still has what was written.
        data = ns.read(lba, blocks)
        if reads is not None and data != part.tobytes():
            assert data == bytes([reads]) * len(data)
        part[:] = np.frombuffer(data, np.uint8)
    model.check()
    model.data[:] = pattern(4, len(model.data))
    ns.write(model.first, model.data)


def test_nothing_to_deallocate(ns: Namespace) -> None:
    ns.deallocate([])


# --- refused before anything is submitted -------------------------------------------------------


def traffic(ctrl: Controller) -> tuple[int, int]:
    """Commands that the pool's queue pair has seen."""
    with ctrl.pool.acquired() as pair:
        return pair._ring.completed, pair.doorbell_writes


def test_ranges_and_sizes(controller: Controller, ns: Namespace) -> None:
    last, block = ns.block_count, ns.block_size
    before = traffic(controller)
    data = bytes(block)
    for lba, blocks in (
        (-1, 1),
        (-1, 2),
        (last, 1),
        (last - 1, 2),
        (0, last + 1),
        (0, 0),
        (0, -1),
        (1 << 64, 1),
        ((1 << 64) - 1, 1),
        (last + 1, -1),
    ):
        with pytest.raises(ValueError, match="are not all in namespace"):
            ns.read(lba, blocks)
        with pytest.raises(ValueError, match="are not all in namespace"):
            ns.write_zeroes(lba, blocks)
        with pytest.raises(ValueError, match="are not all in namespace"):
            ns.deallocate([(0, 1), (lba, blocks)])
    for call in (ns.write, ns.write_from, ns.compare):
        with pytest.raises(ValueError, match="are not all in namespace"):
            call(last, data)
        with pytest.raises(ValueError, match="are not all in namespace"):
            call(0, b"")
        for length in (1, block - 1, block + 1):
            with pytest.raises(ValueError, match="not whole blocks"):
                call(0, bytes(length))
    with pytest.raises(ValueError, match="not whole blocks"):
        ns.read_into(0, bytearray(block + 1))
    with pytest.raises(ValueError, match="read-only"):
        ns.read_into(0, data)
    with pytest.raises(ValueError, match="has gaps"):
        ns.write(0, np.zeros((block, 2), np.uint8)[:, 0])
    with pytest.raises((TypeError, ValueError)):
        ns.write(0, "text" * block)
    assert traffic(controller) == before


def test_a_buffer_with_gaps_that_the_device_reaches(controller: Controller, ns: Namespace) -> None:
    before = traffic(controller)
    with pytest.raises(ValueError, match="has gaps"):
        ns.write(0, controller.alloc(2 * ns.block_size)[::2])
    assert traffic(controller) == before


def test_raw_commands_and_their_buffers(controller: Controller) -> None:
    before = traffic(controller)
    with pytest.raises(ValueError, match="one command carries up to"):
        controller.admin(AdminOpcode.IDENTIFY, buffer=bytearray(controller.max_transfer + 1))
    with pytest.raises(ValueError, match="give a writable buffer"):
        controller.admin(AdminOpcode.IDENTIFY, buffer=bytes(4096))
    with pytest.raises(ValueError, match="give a writable buffer"):
        controller.io(NvmOpcode.READ, nsid=1, buffer=bytes(4096))
    for field in ({"cdw10": 1 << 32}, {"nsid": -1}, {"cdw15": -1}):
        with pytest.raises(ValueError, match="SQE"):
            controller.admin(AdminOpcode.IDENTIFY, **field)
    assert traffic(controller) == before


# --- raw commands -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytearray", "array", "odd", "dma"])
def test_raw_identify(controller: Controller, kind: str) -> None:
    page: bytearray | np.ndarray = bytearray(4096)
    if kind == "array":
        page = np.zeros(4096, np.uint8)
    elif kind == "odd":
        page = np.zeros(4099, np.uint8)[3:]
    elif kind == "dma":
        page = controller.alloc(4096)
    done = controller.admin(
        AdminOpcode.IDENTIFY, cdw10=IdentifyCdw10.build(cns=Cns.CONTROLLER), buffer=page
    )
    assert done.status.ok
    assert 0 < done.latency_ns < 60e9
    assert IdentifyController.from_bytes(page) == controller.identify


def test_raw_feature_result(controller: Controller) -> None:
    done = controller.admin(
        AdminOpcode.GET_FEATURES, cdw10=SetFeaturesCdw10.build(fid=FeatureId.NUMBER_OF_QUEUES)
    )
    assert min(done.result & 0xFFFF, done.result >> 16) + 1 >= controller.max_queue_pairs


def test_raw_read_and_write(controller: Controller, ns: Namespace) -> None:
    data = pattern(11, 2 * ns.block_size)
    controller.io(NvmOpcode.WRITE, nsid=ns.nsid, cdw10=5, cdw12=1, buffer=data.tobytes())
    for buffer in (bytearray(len(data)), controller.alloc(len(data))):
        controller.io(NvmOpcode.READ, nsid=ns.nsid, cdw10=5, cdw12=1, buffer=buffer)
        assert bytes(buffer) == data.tobytes()
    assert ns.read(5, 2) == data.tobytes()
    controller.io(NvmOpcode.FLUSH, nsid=ns.nsid)


# --- what the device refuses --------------------------------------------------------------------


def test_invalid_opcode(controller: Controller, ns: Namespace) -> None:
    for call in (controller.admin, controller.io):
        with pytest.raises(NvmeStatusError, match="opcode 0xff") as caught:
            call(0xFF, nsid=ns.nsid)
        error = caught.value
        assert error.status.code() in REFUSALS[GenericStatus.INVALID_OPCODE]
        assert (error.name, error.sct, error.sc) == (
            error.status.code().name,
            0,
            error.status.code().value,
        )
        assert error.dnr == ("tried again" not in str(error))
        assert error.more is bool(error.status.m)


def test_invalid_namespace(controller: Controller, ns: Namespace) -> None:
    missing = 0xFFFFFFF0
    for call, opcode in (
        (controller.io, NvmOpcode.READ),
        (controller.io, NvmOpcode.WRITE),
        (controller.admin, AdminOpcode.IDENTIFY),
    ):
        with pytest.raises(NvmeStatusError) as caught:
            call(opcode, nsid=missing, buffer=bytearray(4096))
        assert caught.value.status.code() in REFUSALS[GenericStatus.INVALID_NAMESPACE_OR_FORMAT]
    ns.read(0, 1)


def test_lba_out_of_range(controller: Controller, ns: Namespace) -> None:
    """Raw commands are the user's own: the device judges them, and says so."""
    end = ns.block_count
    with pytest.raises(NvmeStatusError) as caught:
        controller.io(
            NvmOpcode.READ,
            nsid=ns.nsid,
            cdw10=end & 0xFFFFFFFF,
            cdw11=end >> 32,
            buffer=bytearray(ns.block_size),
        )
    assert caught.value.status.code() == GenericStatus.LBA_OUT_OF_RANGE
    assert "LBA Out of Range" in str(caught.value)


def test_command_specific_status(controller: Controller) -> None:
    """A status of type 1, of which code 0 is a failure, too: deleting a queue that is not there.

    QEMU answers with code 0, where the specification has 1 (Base 2.0, section 5.6).
    """
    with pytest.raises(NvmeStatusError) as caught:
        controller.admin(AdminOpcode.DELETE_IO_CQ, cdw10=0xFFF0)
    assert caught.value.status.code() in (
        CommandSpecificStatus.COMPLETION_QUEUE_INVALID,
        CommandSpecificStatus.INVALID_QUEUE_IDENTIFIER,
    )


def test_a_failed_command_is_no_success(controller: Controller, ns: Namespace) -> None:
    """The buffer of a failed read is the user's again, and the next command is its own."""
    buffer = controller.alloc(4096)
    for _ in range(3):
        with pytest.raises(NvmeStatusError):
            controller.io(NvmOpcode.READ, nsid=0xFFFFFFF0, buffer=buffer)
        ns.read_into(0, controller.alloc(ns.block_size))


# --- abort --------------------------------------------------------------------------------------


def test_abort_of_what_is_not_there(controller: Controller) -> None:
    """Dword 0, bit 0 set means *not* aborted (Base 2.0, figure 143)."""
    with controller.queue_pair(1) as qp:
        assert controller.abort(qp.qid, 0) is False
    assert controller.abort(0xFFF0, 0) is False
    assert Status.of(GenericStatus.ABORTED_BY_REQUEST) == 7


# --- data of admin commands ---------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 4, 2048])
def test_an_admin_command_with_as_much_data_as_one_carries(
    controller: Controller, qemu: None, offset: int
) -> None:
    """A log is longer than its page: what is beyond its end is the device's to say."""
    length = controller.max_transfer
    whole = controller.alloc(length + 8192)
    whole.fill(0xC5)
    buffer = whole[4096 + offset :][:length]
    dwords = length // 4 - 1
    firmware = {"opcode": AdminOpcode.GET_LOG_PAGE, "nsid": 0xFFFFFFFF}
    controller.admin(
        **firmware, cdw10=3 | (dwords & 0xFFFF) << 16, cdw11=dwords >> 16, buffer=buffer
    )
    small = bytearray(512)
    controller.admin(**firmware, cdw10=3 | 127 << 16, buffer=small)
    assert bytes(buffer[:512]) == small
    assert small[8:16].strip()  # the revision in slot 1
    assert (whole[: 4096 + offset] == 0xC5).all()
    assert (whole[4096 + offset + length :] == 0xC5).all()
