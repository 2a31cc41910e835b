"""The NVM commands that move no blocks of data: what is sent, in how many commands."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from soft_controller import OK, SoftController

import pynvme_user as nvme
from pynvme_user import (
    AdminOpcode,
    Controller,
    GenericStatus,
    MediaStatus,
    NvmeStatusError,
    NvmOpcode,
    Status,
)
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.nvm_commands import copy_commands
from pynvme_user.spec.commands import SQE, Fuse
from pynvme_user.spec.fdp import ReclaimUnitHandleDescriptor, ReclaimUnitHandleStatus
from pynvme_user.spec.identify import IdentifyNamespace, LbaFormat
from pynvme_user.spec.identify_controller import CTRATT, FUSES, OCFS, ONCS
from pynvme_user.spec.nvm import ContextAttributes, DatasetRange
from pynvme_user.spec.nvm_copy import CopyCdw12, CopyRange0
from pynvme_user.spec.reservations import (
    AcquireAction,
    ChangePtpl,
    ExtendedReservationStatus,
    RegisterAction,
    Registrant,
    ReleaseAction,
    ReservationStatus,
    ReservationType,
)


class Recorder:
    """Answers all I/O commands with a status, and keeps them with their data."""

    def __init__(self, soft: SoftController) -> None:
        self.soft = soft
        self.status = OK
        self.seen: list[tuple[SQE, bytes]] = []
        self.answer = b""  # what comes from the controller
        self.lengths: dict[int, Any] = {
            NvmOpcode.DATASET_MANAGEMENT: lambda sqe: 16 * (sqe.cdw10 + 1),
            NvmOpcode.COPY: lambda sqe: 32 * (sqe.cdw12 % 256 + 1),
            NvmOpcode.RESERVATION_REGISTER: lambda _: 16,
            NvmOpcode.RESERVATION_ACQUIRE: lambda _: 16,
            NvmOpcode.RESERVATION_RELEASE: lambda _: 8,
            NvmOpcode.IO_MANAGEMENT_SEND: lambda sqe: 2 * ((sqe.cdw10 >> 16) + 1),
            NvmOpcode.COMPARE: lambda sqe: 512 * (sqe.cdw12 % 65536 + 1),
            NvmOpcode.WRITE: lambda sqe: 512 * (sqe.cdw12 % 65536 + 1),
        }
        soft.io = self.io

    def io(self, sqe: SQE) -> Status:
        data = b""
        if sqe.opc in self.lengths:
            data = self.soft.data(sqe, self.lengths[sqe.opc](sqe))
        elif self.answer:
            self.soft.fill(sqe, self.answer)
        self.seen.append((sqe, data))
        return self.status

    def take(self) -> list[tuple[SQE, bytes]]:
        seen, self.seen = self.seen, []
        return seen

    def only(self) -> tuple[SQE, bytes]:
        (one,) = self.take()
        return one


@pytest.fixture
def recorder(soft: SoftController) -> Recorder:
    return Recorder(soft)


@pytest.fixture
def ns(recorder: Recorder, ctrl: Controller) -> nvme.Namespace:
    recorder.soft.blocks = 1 << 33
    recorder.soft.fields = {
        "oncs": ONCS((1 << 9) - 1),
        "fuses": FUSES.build(fcws=1),
        "ocfs": OCFS(0xF),
        "ctratt": CTRATT.build(fdps=1),
    }
    ctrl.reset()
    return ctrl.namespaces[1]


def test_verify_and_write_uncorrectable(ns: nvme.Namespace, recorder: Recorder) -> None:
    for call, opcode in (
        (ns.verify, NvmOpcode.VERIFY),
        (ns.write_uncorrectable, NvmOpcode.WRITE_UNCORRECTABLE),
    ):
        call(1 << 32, 65537)
        commands = [(c.opc, c.nsid, c.cdw10, c.cdw11, c.cdw12) for c, _ in recorder.take()]
        assert commands == [(opcode, 1, 0, 1, 65535), (opcode, 1, 65536, 1, 0)]
        with pytest.raises(ValueError, match="not all in namespace 1"):
            call((1 << 33) - 1, 2)
        recorder.status = Status.of(MediaStatus.UNRECOVERED_READ_ERROR)
        with pytest.raises(NvmeStatusError, match="of 3 blocks from LBA 7 on") as caught:
            call(7, 3)
        assert caught.value.status.code() is MediaStatus.UNRECOVERED_READ_ERROR
        recorder.status = OK
        recorder.take()


def test_dataset_management(ns: nvme.Namespace, recorder: Recorder) -> None:
    attributes = ContextAttributes.build(af=3, sr=1)
    ns.dataset_management([(5, 6), (100, 1)], read=True, attributes=attributes)
    command, data = recorder.only()
    assert (command.opc, command.cdw10, command.cdw11) == (NvmOpcode.DATASET_MANAGEMENT, 1, 1)
    ranges = [DatasetRange.from_bytes(data, at) for at in (0, 16)]
    assert [(one.slba, one.nlb, one.cattr) for one in ranges] == [
        (5, 6, attributes),
        (100, 1, attributes),
    ]
    ns.dataset_management([(0, 1)], write=True, deallocate=True)
    assert recorder.only()[0].cdw11 == 6
    ns.dataset_management([])
    assert recorder.take() == []


def test_copy(ns: nvme.Namespace, recorder: Recorder) -> None:
    page = ns.identify.replace(mssrl=8, mcl=12, msrc=1)
    ns.identify = page
    ns.copy(1 << 32, [(0, 10), (50, 5)], fua=True)
    made = []
    for command, data in recorder.take():
        cdw12 = CopyCdw12(command.cdw12)
        assert (command.opc, command.nsid, cdw12.desfmt, cdw12.fua) == (NvmOpcode.COPY, 1, 0, 1)
        parts = [CopyRange0.from_bytes(data, 32 * n) for n in range(cdw12.nr + 1)]
        made.append((command.cdw11 << 32 | command.cdw10, [(p.slba, p.nlb + 1) for p in parts]))
    assert made == [(1 << 32, [(0, 8), (8, 2)]), ((1 << 32) + 10, [(50, 5)])]
    with pytest.raises(ValueError, match="nothing to copy"):
        ns.copy(0, [])
    with pytest.raises(ValueError, match="not all in namespace 1"):
        ns.copy((1 << 33) - 1, [(0, 2)])
    with pytest.raises(ValueError, match="not all in namespace 1"):
        ns.copy(0, [((1 << 33) - 1, 2)])
    assert recorder.take() == []


def test_a_namespace_that_takes_no_copies(ns: nvme.Namespace, recorder: Recorder) -> None:
    for limits in ({"mssrl": 0, "mcl": 8}, {"mssrl": 8, "mcl": 0}):
        ns.identify = ns.identify.replace(**limits)
        with pytest.raises(nvme.NotSupportedError, match="Copy: its MSSRL or MCL is 0"):
            ns.copy(0, [(8, 1)])
    assert recorder.take() == []


def test_copy_between_namespaces(ns: nvme.Namespace, recorder: Recorder) -> None:
    ns.identify = ns.identify.replace(mssrl=8, mcl=12, msrc=1)
    ns.copy(0, [(4, 2)], source=ns)
    command, data = recorder.only()
    assert CopyCdw12(command.cdw12).desfmt == 2
    assert int.from_bytes(data[:4], "little") == 1  # the source's NSID
    with nvme.open("soft:?size=16M") as other, pytest.raises(ValueError, match="another contr"):
        ns.copy(0, [(0, 1)], source=other.namespaces[1])


@given(
    st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 200)), max_size=20),
    st.integers(0, 255),
    st.integers(0, 300),
    st.integers(0, 1000),
)
def test_ranges_are_divided_as_the_namespace_says(
    ranges: list[tuple[int, int]], msrc: int, mssrl: int, mcl: int
) -> None:
    page = IdentifyNamespace.build(msrc=msrc, mssrl=mssrl, mcl=mcl)
    made = list(copy_commands(ranges, page))
    for command in made:
        assert 1 <= len(command) <= msrc + 1
        assert all(1 <= blocks <= (mssrl or 65536) for _, blocks in command)
        assert sum(blocks for _, blocks in command) <= (mcl or 1 << 32)
    blocks = [lba + n for command in made for lba, count in command for n in range(count)]
    assert blocks == [lba + n for lba, count in ranges for n in range(count)]


def test_ranges_that_can_be_walked_once(ns: nvme.Namespace, recorder: Recorder) -> None:
    """A generator, as zip() is, does what a list does."""
    ns.identify = ns.identify.replace(mssrl=8, mcl=12, msrc=1)
    pairs = [(5, 2), (9, 1)]
    asked = []
    for ranges in (pairs, iter(pairs)):
        ns.deallocate(ranges)
        ns.copy(100, [*pairs] if ranges is pairs else iter(pairs))
        asked.append([(one.opc, one.cdw10, data) for one, data in recorder.take()])
    assert [opc for opc, _, _ in asked[0]] == [NvmOpcode.DATASET_MANAGEMENT, NvmOpcode.COPY]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(("wrong", "named"), [([0, 8], "0"), ([(0, 1), (1, 2, 3)], r"\(1, 2, 3\)")])
def test_ranges_that_are_none(ns: nvme.Namespace, wrong: Any, named: str) -> None:
    for call in (ns.deallocate, partial(ns.copy, 100)):
        with pytest.raises(ValueError, match=rf"pairs of an LBA .* \[\(0, 8\)\]: {named} is none"):
            call(wrong)


def test_compare_and_write(ns: nvme.Namespace, recorder: Recorder) -> None:
    ns.compare_and_write(9, b"a" * 1024, b"b" * 1024)
    (one, expected), (two, written) = recorder.take()
    assert (one.opc, one.flags.fuse, expected) == (NvmOpcode.COMPARE, Fuse.FIRST, b"a" * 1024)
    assert (two.opc, two.flags.fuse, written) == (NvmOpcode.WRITE, Fuse.SECOND, b"b" * 1024)
    assert (one.cdw10, one.cdw12) == (two.cdw10, two.cdw12) == (9, 1)
    for wrong, text in (
        ((b"a" * 512, b"b" * 1024), "of one length, not 512 and 1024 bytes"),
        ((b"a" * 5, b"b" * 5), "5 bytes are not whole blocks of 512"),
        ((bytes(1 << 20), bytes(1 << 20)), "one command carries up to 32 blocks, not 2048"),
    ):
        with pytest.raises(ValueError, match=text):
            ns.compare_and_write(0, *wrong)
    recorder.status = Status.of(MediaStatus.COMPARE_FAILURE)
    with pytest.raises(NvmeStatusError, match="fused Compare of 1 blocks from LBA 3 on"):
        ns.compare_and_write(3, bytes(512), bytes(512))


def test_a_format_before_the_fused_commands_are_sent(
    ns: nvme.Namespace,
    recorder: Recorder,
    ctrl: Controller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was made for blocks of 512 bytes is not sent to blocks of 4096."""
    formats: list[object] = []
    check = Geometry.check_blocks

    def late(geometry: Geometry, lba: int, blocks: int) -> None:
        check(geometry, lba, blocks)
        if not formats:
            recorder.soft.lbaf = LbaFormat.build(ds=12)
            formats.append(ctrl.admin(AdminOpcode.FORMAT_NVM, nsid=1))

    monkeypatch.setattr(Geometry, "check_blocks", late)
    with pytest.raises(nvme.NamespaceChangedError, match="its block size changed"):
        ns.compare_and_write(0, bytes(4096), bytes(4096))
    assert formats
    assert recorder.take() == []


def test_a_reservation(ns: nvme.Namespace, recorder: Recorder) -> None:
    ns.reservation_register(7, key=5, action=RegisterAction.REPLACE, persist=ChangePtpl.PERSIST)
    command, data = recorder.only()
    assert (command.opc, command.cdw10) == (NvmOpcode.RESERVATION_REGISTER, 3 << 30 | 2)
    assert data == bytes([5, *bytes(7), 7, *bytes(7)])
    kind = ReservationType.EXCLUSIVE_ACCESS
    ns.reservation_acquire(7, kind, action=AcquireAction.PREEMPT, preempt_key=9, ignore_key=True)
    command, data = recorder.only()
    assert (command.opc, command.cdw10) == (NvmOpcode.RESERVATION_ACQUIRE, 2 << 8 | 8 | 1)
    assert data == bytes([7, *bytes(7), 9, *bytes(7)])
    ns.reservation_release(7, kind, action=ReleaseAction.CLEAR)
    command, data = recorder.only()
    assert (command.opc, command.cdw10) == (NvmOpcode.RESERVATION_RELEASE, 2 << 8 | 1)
    assert data == bytes([7, *bytes(7)])


def test_a_reservation_report(ns: nvme.Namespace, recorder: Recorder) -> None:
    registrants = [Registrant.build(cntlid=n, rkey=n + 1) for n in range(300)]
    report = ReservationStatus.build(registrants, regstrnt=300, rtype=3)
    sizes = []

    def io(sqe: SQE) -> Status:
        sizes.append(4 * (sqe.cdw10 + 1))
        assert sqe.cdw11 == 0
        recorder.soft.fill(sqe, bytes(report)[: sizes[-1]])
        return OK

    recorder.soft.io = io
    assert ns.reservation_report() == report
    assert sizes == [4096, 8192]
    extended = ExtendedReservationStatus.build(regstrnt=0)
    recorder.soft.io = recorder.io
    recorder.answer = bytes(extended)
    assert ns.reservation_report(extended=True) == extended
    assert recorder.only()[0].cdw11 == 1


def test_placement(ns: nvme.Namespace, recorder: Recorder) -> None:
    status = ReclaimUnitHandleStatus.build(
        [ReclaimUnitHandleDescriptor.build(pid=n) for n in (1, 2)], nruhsd=2
    )
    recorder.answer = bytes(status)
    assert ns.reclaim_unit_handles() == status
    command, _ = recorder.only()
    assert (command.opc, command.cdw10) == (NvmOpcode.IO_MANAGEMENT_RECEIVE, 1)
    ns.update_reclaim_units([1, 0x203])
    command, data = recorder.only()
    assert (command.opc, command.cdw10, data) == (
        NvmOpcode.IO_MANAGEMENT_SEND,
        1 << 16 | 1,
        b"\1\0\3\2",
    )
    recorder.status = Status.of(GenericStatus.INVALID_FIELD)
    with pytest.raises(NvmeStatusError, match=r"Io Management Receive \(namespace 1\)"):
        ns.reclaim_unit_handles()


NOT_THERE = {
    "Verify": lambda ns, **force: ns.verify(0, 1, **force),
    "Write Uncorrectable": lambda ns, **force: ns.write_uncorrectable(0, 1, **force),
    "Dataset Management": lambda ns, **force: ns.dataset_management([(0, 1)], **force),
    "Copy": lambda ns, **force: ns.copy(0, [(1, 1)], **force),
    "fused commands": lambda ns, **force: ns.compare_and_write(0, bytes(512), bytes(512), **force),
    "Reservation Register": lambda ns, **force: ns.reservation_register(1, **force),
    "Reservation Acquire": lambda ns, **force: ns.reservation_acquire(1, 1, **force),
    "Reservation Release": lambda ns, **force: ns.reservation_release(1, **force),
    "Reservation Report": lambda ns, **force: ns.reservation_report(**force),
}


@pytest.mark.parametrize("what", NOT_THERE)
def test_what_the_controller_does_not_have_is_not_sent(
    ns: nvme.Namespace, recorder: Recorder, ctrl: Controller, what: str
) -> None:
    recorder.soft.fields = {}
    ctrl.reset()
    with pytest.raises(nvme.NotSupportedError, match=f"soft does not support {what}: "):
        NOT_THERE[what](ns)
    assert recorder.take() == []
    recorder.answer = bytes(64) if what == "Reservation Report" else b""
    NOT_THERE[what](ns, force=True)
    assert recorder.take()


def test_ranges_of_other_namespaces_that_the_controller_does_not_copy(
    ns: nvme.Namespace, recorder: Recorder, ctrl: Controller
) -> None:
    recorder.soft.fields["ocfs"] = OCFS(1)
    ctrl.reset()
    ns.current()
    ns.identify = ns.identify.replace(mssrl=8, mcl=8)
    with pytest.raises(nvme.NotSupportedError, match="Copy between namespaces: OCFS bit 2"):
        ns.copy(0, [(1, 1)], source=ns)
    ns.deallocate([(0, 1)])  # which is tried whatever ONCS says
