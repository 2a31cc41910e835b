"""Migration's commands against numbers written out from the specification."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.spec import migration
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.migration import (
    CompletionQueueState,
    ControllerState,
    ControllerStateHeader,
    NvmeControllerStateHeader,
    SubmissionQueueState,
)


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (migration.ControllerDataQueueCdw10.build(sel=1), 1),
        (migration.ControllerDataQueueCdw10.build(qt=0xC0), 0x00C00000),
        (migration.CreateDataQueueCdw11.build(pc=1, cntlid=3), 0x00030001),
        (migration.DeleteDataQueueCdw11.build(cdqid=4), 4),
        (migration.CreateDataQueueResult.build(cdqid=4), 4),
        (migration.TrackSendCdw10.build(sel=1, mos=1), 0x00010001),
        (migration.LogUserDataChangesMos.build(lact=1), 1),
        (migration.TrackMemoryChangesMos.build(tact=1), 1),
        (migration.LogUserDataChangesCdw11.build(cdqid=0xFFFF), 0xFFFF),
        (migration.TrackMemoryChangesCdw11.build(cntlid=0xFFFF), 0xFFFF),
        (migration.TrackReceiveCdw10.build(sel=0), 0),
        (migration.MigrationSendCdw10.build(sel=2, seqind=3), 0x00030002),
        (migration.SuspendCdw11.build(cntlid=5, stype=1, dudmq=1), 0x80010005),
        (migration.ResumeCdw11.build(cntlid=5), 5),
        (migration.SetControllerStateCdw11.build(cntlid=5, csvi=1, csuuidi=2), 0x02010005),
        (migration.MigrationCdw14.build(uidx=0x7F), 0x7F),
        (migration.MigrationReceiveCdw10.build(csvi=1), 0x00010000),
        (migration.GetControllerStateCdw11.build(cntlid=5, csuuidi=1, csuidxp=2), 0x02010005),
        (migration.GetControllerStateResult.build(csup=1), 1),
        (migration.ControllerStateAttributes.build(csup=1), 1),
        (migration.SubmissionQueueAttributes.build(iosqpc=1, iosqprio=2), 5),
        (migration.CompletionQueueAttributes.build(iocqpc=1, iocqien=1, s0pt=1, iocqiv=2), 0x20007),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Register) else "",
)
def test_migration_dword(register: Register, value: int) -> None:
    assert register == value


@pytest.mark.parametrize(
    ("kind", "size", "offsets"),
    [
        (ControllerStateHeader, 48, {"ver": 0, "csattr": 2, "nvmecss": 16, "vss": 32}),
        (NvmeControllerStateHeader, 8, {"ver": 0, "niosq": 2, "niocq": 4}),
        (
            SubmissionQueueState,
            24,
            {
                "iosqprp1": 0,
                "iosqqsize": 8,
                "iosqqid": 10,
                "iosqcqid": 12,
                "iosqa": 14,
                "iosqhp": 16,
                "iosqtp": 18,
            },
        ),
        (
            CompletionQueueState,
            24,
            {
                "iocqprp1": 0,
                "iocqqsize": 8,
                "iocqqid": 10,
                "iocqhp": 12,
                "iocqtp": 14,
                "iocqa": 16,
            },
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_layout_of_a_controllers_state(
    kind: type[Struct], size: int, offsets: dict[str, int]
) -> None:
    assert kind.size == size
    assert {field.name: field.offset for field in kind.layout if not field.reserved} == offsets


STATE = b"".join(
    [
        bytes(ControllerStateHeader.build(nvmecss=(8 + 3 * 24) // 4, vss=1)),
        bytes(NvmeControllerStateHeader.build(niosq=2, niocq=1)),
        bytes(SubmissionQueueState.build(iosqqid=1)),
        bytes(SubmissionQueueState.build(iosqqid=2)),
        bytes(CompletionQueueState.build(iocqqid=3)),
        b"vend",
    ]
)


def test_a_controllers_state() -> None:
    state = ControllerState.from_bytes(STATE + b"more")
    assert [queue.iosqqid for queue in state.submission_queues] == [1, 2]
    assert [queue.iocqqid for queue in state.completion_queues] == [3]
    assert (state.vendor, state.incomplete) == (b"vend", False)
    assert state.to_dict()["vendor"] == "76656e64"
    assert "I/O completion queue [0]" in state.dump()


@pytest.mark.parametrize("length", range(48, len(STATE)))
def test_a_state_that_is_cut_off(length: int) -> None:
    state = ControllerState.from_bytes(STATE[:length])
    assert state.incomplete
    assert len(state.submission_queues) == min(2, max(0, length - 56) // 24)


def test_a_state_without_queues() -> None:
    state = ControllerState.from_bytes(bytes(48))
    assert (state.nvme, state.incomplete, state.vendor) == (None, False, b"")
    with pytest.raises(ValueError, match="takes 48 bytes, the buffer has 47"):
        ControllerState.from_bytes(bytes(47))


@given(st.binary(min_size=48, max_size=500))
@example(b"\xff" * 500)
@example(bytes(16) + b"\x40" + bytes(31) + b"\xff" * 300)
def test_no_bytes_are_refused_but_too_few(raw: bytes) -> None:
    state = ControllerState.from_bytes(raw)
    assert json.dumps(state.to_dict())
    assert all(line.isascii() for line in state.dump())
