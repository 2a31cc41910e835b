"""Queue entries and command dwords against numbers written out from the specification."""

import pytest

from pynvme_user.spec import commands, nvm
from pynvme_user.spec.commands import (
    CQE,
    SQE,
    AdminOpcode,
    CommandFlags,
    DataTransfer,
    Fuse,
    NvmOpcode,
    Psdt,
    SglDescriptor,
    SglIdentifier,
    SglType,
)
from pynvme_user.spec.fields import Register
from pynvme_user.spec.status import GenericStatus, Status

SQE_OFFSETS = {
    "opc": 0,
    "flags": 1,
    "cid": 2,
    "nsid": 4,
    "cdw2": 8,
    "cdw3": 12,
    "mptr": 16,
    "prp1": 24,
    "prp2": 32,
    "cdw10": 40,
    "cdw11": 44,
    "cdw12": 48,
    "cdw13": 52,
    "cdw14": 56,
    "cdw15": 60,
}
CQE_OFFSETS = {"dw0": 0, "dw1": 4, "sqhd": 8, "sqid": 10, "cid": 12, "phase_status": 14}


def test_queue_entry_layouts() -> None:
    assert (SQE.size, CQE.size, SglDescriptor.size, nvm.DatasetRange.size) == (64, 16, 16, 16)
    assert {field.name: field.offset for field in SQE.layout} == SQE_OFFSETS
    assert {field.name: field.offset for field in CQE.layout} == CQE_OFFSETS
    assert (nvm.DatasetRange.nlb.offset, nvm.DatasetRange.slba.offset) == (4, 8)


def test_completion_of_bytes() -> None:
    raw = bytes.fromhex("78563412 00000000 0500 0100 0700 0141")
    cqe = CQE.from_bytes(raw)
    assert (cqe.dw0, cqe.sqhd, cqe.sqid, cqe.cid, cqe.p) == (0x12345678, 5, 1, 7, 1)
    assert isinstance(cqe.status, Status)
    assert (cqe.status.sc, cqe.status.sct, cqe.status.m, cqe.status.dnr) == (0x80, 0, 1, 0)
    assert cqe.status == Status.from_dw3(int.from_bytes(raw[12:], "little"))
    assert not cqe.status.ok


@pytest.mark.parametrize("phase", [0, 1])
def test_the_phase_is_not_part_of_the_status(phase: int) -> None:
    sf = Status.of(GenericStatus.LBA_OUT_OF_RANGE, dnr=1)
    cqe = CQE.build(phase_status=commands.PhaseStatus.build(p=phase, sf=sf))
    assert cqe.p == phase
    assert cqe.status == sf


def test_sgl_in_place_of_prps() -> None:
    descriptor = SglDescriptor.build(
        addr=0x1122334455667788,
        length=0x99AABBCC,
        id=SglIdentifier.build(type=SglType.DATA_BLOCK),
    )
    sqe = SQE.build(opc=NvmOpcode.READ, flags=CommandFlags.build(fuse=Fuse.FIRST), nsid=1)
    with_sgl = sqe.with_sgl(descriptor)
    assert bytes(with_sgl)[24:40] == bytes.fromhex("8877665544332211 ccbbaa99 000000 00")
    assert with_sgl.sgl1 == descriptor
    assert with_sgl.flags.psdt == Psdt.SGL_MPTR_CONTIGUOUS
    assert with_sgl.flags.fuse == Fuse.FIRST
    assert with_sgl.replace(flags=sqe.flags, prp1=0, prp2=0) == sqe


def test_sgl_type_is_the_upper_half_of_the_last_byte() -> None:
    last = SglDescriptor.build(id=SglIdentifier.build(type=SglType.LAST_SEGMENT))
    assert bytes(last)[15] == 0x30


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (commands.CommandFlags.build(psdt=1, fuse=2), 0x42),
        (nvm.ReadCdw12.build(nlb=7, stc=1, prinfo=0xF, fua=1, lr=1), 0xFD000007),
        (nvm.WriteCdw12.build(nlb=7, dtype=2, fua=1), 0x40200007),
        (nvm.WriteZeroesCdw12.build(nlb=7, deac=1), 0x02000007),
        (nvm.ReadWriteCdw13.build(af=1, al=2, sr=1, incom=1, dspec=3), 0x000300E1),
        (nvm.ProtectionCdw15.build(lbat=1, lbatm=2), 0x00020001),
        (nvm.DatasetManagementCdw10.build(nr=255), 255),
        (nvm.DatasetManagementCdw11.build(ad=1), 4),
        (nvm.ContextAttributes.build(sr=1, sw=1, wp=1, cas=1), 0x01000700),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Register) else "",
)
def test_command_dword(register: Register, value: int) -> None:
    assert register == value


def test_opcodes() -> None:
    assert (AdminOpcode.IDENTIFY, AdminOpcode.SET_FEATURES) == (0x06, 0x09)
    assert (AdminOpcode.DOORBELL_BUFFER_CONFIG, AdminOpcode.FORMAT_NVM) == (0x7C, 0x80)
    assert (AdminOpcode.TRACK_SEND, AdminOpcode.TRACK_RECEIVE) == (0x3D, 0x3E)
    assert (AdminOpcode.MIGRATION_SEND, AdminOpcode.MIGRATION_RECEIVE) == (0x41, 0x42)
    assert (AdminOpcode.CONTROLLER_DATA_QUEUE, AdminOpcode.LOCKDOWN) == (0x45, 0x24)
    assert (AdminOpcode.DISCOVERY_INFORMATION_MANAGEMENT, AdminOpcode.FABRIC_ZONING_SEND) == (
        0x21,
        0x29,
    )
    assert (AdminOpcode.LOAD_PROGRAM, AdminOpcode.MEMORY_RANGE_SET_MANAGEMENT) == (0x85, 0x89)
    assert NvmOpcode.CANCEL == 0x18
    assert (NvmOpcode.FLUSH, NvmOpcode.WRITE, NvmOpcode.READ) == (0, 1, 2)
    assert (NvmOpcode.COMPARE, NvmOpcode.WRITE_ZEROES) == (5, 8)
    assert (NvmOpcode.DATASET_MANAGEMENT, NvmOpcode.ZONE_APPEND) == (9, 0x7D)


@pytest.mark.parametrize(
    ("opcode", "direction"),
    [
        (NvmOpcode.FLUSH, DataTransfer.NONE),
        (NvmOpcode.WRITE, DataTransfer.HOST_TO_CONTROLLER),
        (NvmOpcode.COMPARE, DataTransfer.HOST_TO_CONTROLLER),
        (NvmOpcode.READ, DataTransfer.CONTROLLER_TO_HOST),
        (AdminOpcode.IDENTIFY, DataTransfer.CONTROLLER_TO_HOST),
        (0xC3, DataTransfer.BIDIRECTIONAL),
    ],
)
def test_data_direction(opcode: int, direction: DataTransfer) -> None:
    assert DataTransfer.of(opcode) is direction
