"""The I/O commands of the model on plain blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from refusals import refused

from pynvme_user import Controller, Namespace
from pynvme_user.spec.cancel import CancelAction, CancelCdw10, CancelCdw11, CancelResult
from pynvme_user.spec.commands import NSID_ALL, SQE, CommandFlags, Fuse, NvmOpcode
from pynvme_user.spec.feature_data import CopyDescriptorFormats, HostBehaviorSupport
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.nvm_copy import COPY_RANGES, CopyCdw12, CopyFormat
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, MediaStatus
from pynvme_user.testing import Command, Outcome, SoftDevice, faults

S, G, M = CommandSpecificStatus, GenericStatus, MediaStatus


def test_what_c_does_the_model_is_not_asked(
    device: SoftDevice, ctrl: Controller, ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    assert device.model
    answer = device.model.ctrl.core.model

    def counted(call: Any) -> int:
        if call.qid:
            asked.append(1)
        return answer(call)

    monkeypatch.setattr(device.model.ctrl.core, "model", counted)
    ns.write(0, b"c" * 4096)
    ns.read(0, 8)
    ns.compare(0, b"c" * 512)
    ns.flush()
    ns.deallocate([(0, 1)])
    assert not asked
    ns.verify(0, 1)
    assert asked


def test_rules_come_before_the_model(device: SoftDevice, ns: Namespace) -> None:
    seen: list[Command] = []

    def look(command: Command) -> Outcome:
        seen.append(command)
        return Outcome.EXECUTE

    with device.order(faults.status(M.WRITE_FAULT), opc=NvmOpcode.VERIFY, times=1) as rule:
        with refused(M.WRITE_FAULT):
            ns.verify(0, 1)
        assert rule.acted == 1
        ns.verify(0, 1)
    with device.order(faults.answer(look), opc=NvmOpcode.VERIFY):
        ns.verify(0, 1)
    assert len(seen) == 1


def test_write_uncorrectable(ctrl: Controller, ns: Namespace) -> None:
    ns.write(8, b"d" * 4096)
    ns.write_uncorrectable(10, 2)
    ns.read(8, 2)
    for read in (
        lambda: ns.read(8, 8),
        lambda: ns.verify(11, 1),
        lambda: ns.compare(10, bytes(512)),
        lambda: ns.copy(100, [(9, 2)]),
    ):
        with refused(M.UNRECOVERED_READ_ERROR):
            read()
    ns.write_zeroes(10, 1)
    assert not any(ns.read(10, 1))
    ns.deallocate([(11, 1)])
    assert ns.read(9, 3) == b"d" * 512 + bytes(1024)
    for method in (ns.verify, ns.write_uncorrectable):
        with pytest.raises(ValueError, match="2048"):
            method(2040, 9)
    with refused(G.LBA_OUT_OF_RANGE):
        ctrl.io(NvmOpcode.VERIFY, nsid=1, cdw10=2047, cdw12=1)


# --- copy -----------------------------------------------------------------------------------------


def copy(ctrl: Controller, form: CopyFormat, ranges: list[tuple[int, int]], lba: int) -> None:
    fields = {"snsid": 1} if form >= CopyFormat.CROSS_NAMESPACE_8B else {}
    raw = b"".join(
        bytes(COPY_RANGES[form].build(slba=first, nlb=blocks - 1, **fields))
        for first, blocks in ranges
    )
    ctrl.io(
        NvmOpcode.COPY,
        nsid=1,
        buffer=bytearray(raw),
        cdw10=lba,
        cdw12=CopyCdw12.build(nr=len(ranges) - 1, desfmt=form),
    )


@pytest.mark.parametrize("form", list(COPY_RANGES))
def test_copy_in_every_format(ctrl: Controller, ns: Namespace, form: CopyFormat) -> None:
    for lba in range(8):
        ns.write(lba, bytes([lba + 1]) * 512)
    if form >= CopyFormat.CROSS_NAMESPACE_8B:
        with refused(G.INVALID_FIELD):
            copy(ctrl, form, [(0, 1)], 100)
        formats = CopyDescriptorFormats.build(cdf2e=1, cdf3e=1)
        behavior = HostBehaviorSupport.build(cdfe=formats)
        ctrl.set_feature(FeatureId.HOST_BEHAVIOR_SUPPORT, data=behavior)
    copy(ctrl, form, [(6, 2), (0, 3), (7, 1)], 100)
    assert list(ns.read(100, 6)[::512]) == [7, 8, 1, 2, 3, 8]


def test_copy_between_namespaces(ctrl: Controller, ns: Namespace) -> None:
    behavior = HostBehaviorSupport.build(cdfe=CopyDescriptorFormats.build(cdf2e=1))
    ctrl.set_feature(FeatureId.HOST_BEHAVIOR_SUPPORT, data=behavior)
    ctrl.attach_namespace(ctrl.create_namespace(64))
    ctrl.attach_namespace(ctrl.create_namespace(64, 1))
    ns.write(5, b"s" * 512)
    ctrl.namespaces[2].copy(60, [(5, 1)], source=ns)
    assert ctrl.namespaces[2].read(60, 1) == b"s" * 512
    with refused(S.INCOMPATIBLE_NAMESPACE_OR_FORMAT):
        ctrl.namespaces[3].copy(0, [(5, 1)], source=ns)


def test_copies_that_fail(ctrl: Controller, ns: Namespace) -> None:
    one = CopyFormat.SAME_NAMESPACE_8B
    with refused(S.OVERLAPPING_IO_RANGE):
        copy(ctrl, one, [(0, 8)], 4)
    with refused(S.COMMAND_SIZE_LIMIT_EXCEEDED):
        copy(ctrl, one, [(0, 1025)], 1023)
    with refused(S.COMMAND_SIZE_LIMIT_EXCEEDED):
        copy(ctrl, one, [(n, 1) for n in range(129)], 1024)
    with refused(G.LBA_OUT_OF_RANGE):
        copy(ctrl, one, [(2047, 2)], 0)
    with refused(G.LBA_OUT_OF_RANGE):
        copy(ctrl, one, [(0, 2)], 2047)
    with refused(G.INVALID_FIELD):
        ctrl.io(NvmOpcode.COPY, nsid=1, buffer=bytearray(32), cdw12=CopyCdw12.build(desfmt=4))
    # What failed is named.
    ns.write_uncorrectable(9, 1)
    with ctrl.queue_pair(4) as qp:
        raw = b"".join(bytes(COPY_RANGES[one].build(slba=lba)) for lba in (8, 9))
        memory = ctrl.alloc(4096)
        memory[: len(raw)] = bytearray(raw)
        qp.submit(SQE.build(opc=NvmOpcode.COPY, nsid=1, cdw10=100, cdw12=1), memory[: len(raw)])
        (done,) = qp.drain()
    assert (done.status.code(), done.result) == (M.UNRECOVERED_READ_ERROR, 1)


# --- fused ----------------------------------------------------------------------------------------


def test_compare_and_write(ns: Namespace) -> None:
    ns.write(0, b"a" * 1024)
    ns.compare_and_write(0, b"a" * 1024, b"b" * 1024)
    assert ns.read(0, 2) == b"b" * 1024
    with refused(M.COMPARE_FAILURE):
        ns.compare_and_write(0, b"a" * 1024, b"c" * 1024)
    assert ns.read(0, 2) == b"b" * 1024


def test_fused_commands_that_do_not_fit(ctrl: Controller, ns: Namespace) -> None:
    memory = ctrl.alloc(4096)

    def ends(*commands: tuple[int, int, int]) -> list[object]:
        with ctrl.queue_pair(8) as qp:
            cids = [
                qp.submit(
                    SQE.build(opc=opcode, nsid=1, cdw10=lba, flags=CommandFlags.build(fuse=fuse)),
                    memory[:512],
                )
                for opcode, fuse, lba in commands
            ]
            done = {each.cid: each.status.code() for each in qp.drain()}
        return [done[cid] for cid in cids]

    compare, write = NvmOpcode.COMPARE, NvmOpcode.WRITE
    missing, failed = G.ABORTED_MISSING_FUSED, G.ABORTED_FAILED_FUSED
    assert ends((compare, Fuse.FIRST, 0)) == [missing]
    assert ends((write, Fuse.SECOND, 0)) == [missing]
    assert ends((compare, Fuse.FIRST, 0), (write, Fuse.NORMAL, 0)) == [missing, G.SUCCESS]
    assert ends((compare, Fuse.FIRST, 0), (write, Fuse.SECOND, 1)) == [G.INVALID_FIELD, failed]
    assert ends((write, Fuse.FIRST, 0), (write, Fuse.SECOND, 0)) == [G.INVALID_FIELD, failed]
    assert ends((compare, 3, 0)) == [G.INVALID_FIELD]


# --- cancel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", list(CancelAction))
def test_cancel(device: SoftDevice, ctrl: Controller, action: CancelAction) -> None:
    with ctrl.queue_pair(8) as qp, device.order(faults.keep(), opc=NvmOpcode.READ):
        memory = ctrl.alloc(4096)
        read = SQE.build(opc=NvmOpcode.READ, nsid=1)
        kept = [qp.submit(read, memory[:512]) for _ in range(2)]
        while len(device.kept) < 2:
            qp.poll()
        single = action == CancelAction.SINGLE
        cids = [cid for cid, (_, sqe) in zip(kept, device.kept, strict=True)]
        target = device.kept[0][1].cid if single else 0xFFFF
        cancel = qp.submit(
            SQE.build(
                opc=NvmOpcode.CANCEL,
                nsid=NSID_ALL,
                cdw10=CancelCdw10.build(sqid=qp.qid, cid=target),
                cdw11=CancelCdw11.build(acode=action),
            )
        )
        found = {}
        while len(found) < (2 if single else 3):
            found |= {done.cid: done for done in qp.poll()}
        assert CancelResult(found[cancel].result).cmda == (1 if single else 2)
        assert found[cids[0]].status.code() == G.ABORTED_BY_REQUEST
        device.release()
        qp.drain()


def test_illegal_cancels(ctrl: Controller) -> None:
    with ctrl.queue_pair(4) as qp:
        wrong: list[Callable[[], SQE]] = [
            lambda: SQE.build(opc=NvmOpcode.CANCEL, nsid=NSID_ALL, cdw10=qp.qid + 1),
            lambda: SQE.build(opc=NvmOpcode.CANCEL, nsid=NSID_ALL, cdw10=qp.qid, cdw11=2),
            lambda: SQE.build(opc=NvmOpcode.CANCEL, nsid=NSID_ALL, cdw10=qp.qid, cdw11=1),
        ]
        for make in wrong:
            qp.submit(make())
            (done,) = qp.drain()
            assert done.status.code() == G.INVALID_FIELD
