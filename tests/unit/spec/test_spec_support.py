"""What Identify Controller and the effects log tell of optional commands, pages and features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pynvme_user.spec import support
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.identify_controller import CTRATT, LPA, OACS, ONCS, IdentifyController
from pynvme_user.spec.identify_nvm import IdentifyControllerNvm
from pynvme_user.spec.nvm_copy import CopyFormat
from pynvme_user.spec.registers import VS

NOTHING = IdentifyController.build(ver=VS.build(mjr=1, mnr=4))
NOTHING_2_1 = IdentifyController.build(ver=VS.build(mjr=2, mnr=1))
EVERYTHING = IdentifyController.from_bytes(b"\xff" * IdentifyController.size)


@dataclass
class Effects:
    """Entries of the Commands Supported and Effects log."""

    acs: list[int] = field(default_factory=lambda: [0] * 256)
    iocs: list[int] = field(default_factory=lambda: [0] * 256)


@pytest.mark.parametrize(
    ("opcode", "set_by", "clause"),
    [
        (0x80, {"oacs": 0x002}, "OACS bit 1 (Format NVM Supported) is 0"),
        (0x10, {"oacs": 0x004}, "OACS bit 2 (Firmware Commit and Image Download Supported) is 0"),
        (0x11, {"oacs": 0x004}, "OACS bit 2 (Firmware Commit and Image Download Supported) is 0"),
        (0x0D, {"oacs": 0x008}, "OACS bit 3 (Namespace Management and Attachment Supported) is 0"),
        (0x15, {"oacs": 0x008}, "OACS bit 3 (Namespace Management and Attachment Supported) is 0"),
        (0x14, {"oacs": 0x010}, "OACS bit 4 (Device Self-test Supported) is 0"),
        (0x19, {"oacs": 0x020}, "OACS bit 5 (Directives Supported) is 0"),
        (0x1A, {"oacs": 0x020}, "OACS bit 5 (Directives Supported) is 0"),
        (0x1D, {"oacs": 0x040}, "OACS bit 6 (NVMe-MI Send and Receive Supported) is 0"),
        (0x1E, {"oacs": 0x040}, "OACS bit 6 (NVMe-MI Send and Receive Supported) is 0"),
        (0x1C, {"oacs": 0x080}, "OACS bit 7 (Virtualization Management Supported) is 0"),
        (0x7C, {"oacs": 0x100}, "OACS bit 8 (Doorbell Buffer Config Supported) is 0"),
        (0x86, {"oacs": 0x200}, "OACS bit 9 (Get LBA Status Supported) is 0"),
        (0x24, {"oacs": 0x400}, "OACS bit 10 (Command and Feature Lockdown Supported) is 0"),
        (0x81, {"oacs": 0x001}, "OACS bit 0 (Security Send and Receive Supported) is 0"),
        (0x82, {"oacs": 0x001}, "OACS bit 0 (Security Send and Receive Supported) is 0"),
        (0x84, {"sanicap": 2}, "SANICAP (Sanitize Capabilities) is 0"),
        (0x18, {"kas": 1}, "KAS (Keep Alive Support (100 ms units)) is 0"),
        (
            0x20,
            {"ctratt": 0x1000},
            "CTRATT bit 11 (Fixed Capacity Management) is 0 and "
            "CTRATT bit 12 (Variable Capacity Management) is 0",
        ),
        (0x20, {"ctratt": 0x800}, None),
        (0x41, {"oacs": 0x800}, "OACS bit 11 (Host Managed Live Migration Supported) is 0"),
        (0x42, {"oacs": 0x800}, "OACS bit 11 (Host Managed Live Migration Supported) is 0"),
        (0x3D, {"oacs": 0x800}, "OACS bit 11 (Host Managed Live Migration Supported) is 0"),
        (0x3E, {"oacs": 0x800}, "OACS bit 11 (Host Managed Live Migration Supported) is 0"),
        (0x45, {"oacs": 0x800}, "OACS bit 11 (Host Managed Live Migration Supported) is 0"),
    ],
)
def test_admin_commands(opcode: int, set_by: dict[str, Any], clause: str | None) -> None:
    if clause is not None:
        assert support.unsupported_admin(NOTHING_2_1, opcode) == clause
    assert support.unsupported_admin(NOTHING_2_1.replace(**set_by), opcode) is None
    assert support.unsupported_admin(EVERYTHING, opcode) is None


@pytest.mark.parametrize(
    ("opcode", "set_by", "clause"),
    [
        (0x05, {"oncs": 0x001}, "ONCS bit 0 (Compare Supported) is 0"),
        (0x04, {"oncs": 0x002}, "ONCS bit 1 (Write Uncorrectable Supported) is 0"),
        (0x09, {"oncs": 0x004}, "ONCS bit 2 (Dataset Management Supported) is 0"),
        (0x08, {"oncs": 0x008}, "ONCS bit 3 (Write Zeroes Supported) is 0"),
        (0x0D, {"oncs": 0x020}, "ONCS bit 5 (Reservations Supported) is 0"),
        (0x0E, {"oncs": 0x020}, "ONCS bit 5 (Reservations Supported) is 0"),
        (0x11, {"oncs": 0x020}, "ONCS bit 5 (Reservations Supported) is 0"),
        (0x15, {"oncs": 0x020}, "ONCS bit 5 (Reservations Supported) is 0"),
        (0x0C, {"oncs": 0x080}, "ONCS bit 7 (Verify Supported) is 0"),
        (0x19, {"oncs": 0x100}, "ONCS bit 8 (Copy Supported) is 0"),
        (0x12, {"ctratt": 1 << 19}, "CTRATT bit 19 (Flexible Data Placement Supported) is 0"),
        (0x1D, {"ctratt": 1 << 19}, "CTRATT bit 19 (Flexible Data Placement Supported) is 0"),
    ],
)
def test_io_commands(opcode: int, set_by: dict[str, int], clause: str) -> None:
    assert support.unsupported_io(NOTHING, opcode) == clause
    assert support.unsupported_io(NOTHING.replace(**set_by), opcode) is None
    assert support.unsupported_io(EVERYTHING, opcode) is None


@pytest.mark.parametrize(
    ("opcode", "limit"),
    [
        (NvmOpcode.WRITE_UNCORRECTABLE, "wusl"),
        (NvmOpcode.WRITE_ZEROES, "wzsl"),
        (NvmOpcode.DATASET_MANAGEMENT, "dmrl"),
        (NvmOpcode.DATASET_MANAGEMENT, "dmrsl"),
        (NvmOpcode.DATASET_MANAGEMENT, "dmsl"),
    ],
)
def test_from_2_0_on_a_size_limit_tells_of_support_too(opcode: NvmOpcode, limit: str) -> None:
    none, some = IdentifyControllerNvm.build(), IdentifyControllerNvm.build(**{limit: 1})
    assert support.unsupported_io(NOTHING_2_1, opcode) is None  # not known without the limits
    assert support.unsupported_io(NOTHING_2_1, opcode, limits=some) is None
    assert "is 0" in (support.unsupported_io(NOTHING_2_1, opcode, limits=none) or "")
    # Before 2.0 there were no limits.
    assert "is 0" in (support.unsupported_io(NOTHING, opcode, limits=some) or "")


def test_the_log_knows_better() -> None:
    effects = Effects()
    effects.acs[0x84] = effects.iocs[NvmOpcode.COPY] = 0x20001
    assert support.unsupported_admin(NOTHING, AdminOpcode.SANITIZE, effects) is None
    assert support.unsupported_io(NOTHING, NvmOpcode.COPY, effects) is None
    effects.acs[0x84] = effects.iocs[NvmOpcode.COPY] = 0x20000
    why = "its Commands Supported and Effects log does not list opcode {:02X}h"
    assert support.unsupported_admin(EVERYTHING, AdminOpcode.SANITIZE, effects) == why.format(0x84)
    assert support.unsupported_io(EVERYTHING, NvmOpcode.COPY, effects) == why.format(0x19)


@pytest.mark.parametrize("opcode", [0x00, 0x06, 0x08, 0x0C, 0xC0, 0xFF])
def test_of_other_commands_nothing_is_known(opcode: int) -> None:
    assert support.unsupported_admin(NOTHING, opcode) is None


@pytest.mark.parametrize("opcode", [0x00, 0x01, 0x02, 0x18, 0x79, 0x7D, 0xC0])
def test_of_other_io_commands_nothing_is_known(opcode: int) -> None:
    assert support.unsupported_io(NOTHING, opcode) is None


def test_live_migration_is_not_told_of_before_2_1() -> None:
    assert support.unsupported_admin(NOTHING, AdminOpcode.MIGRATION_SEND) is None
    assert support.unsupported_admin(IdentifyController.build(), AdminOpcode.MIGRATION_SEND)


def test_fused_and_copy_formats() -> None:
    assert support.unsupported_fused(NOTHING) == (
        "FUSES bit 0 (Fused Compare and Write Supported) is 0"
    )
    assert support.unsupported_fused(NOTHING.replace(fuses=1)) is None
    formats = NOTHING.replace(ocfs=0b01001)
    assert support.unsupported_copy_format(formats, CopyFormat.CROSS_NAMESPACE_16B) is None
    assert support.unsupported_copy_format(formats, CopyFormat.SAME_NAMESPACE_16B) == (
        "OCFS bit 1 (Copy Descriptor Format 1h Supported) is 0"
    )


@pytest.mark.parametrize(
    ("lids", "set_by"),
    [
        ((0x00, 0x12, 0x13), {"lpa": LPA.build(mlps=1)}),
        ((0x05,), {"lpa": LPA.build(cses=1)}),
        ((0x06,), {"oacs": OACS.build(dsts=1)}),
        ((0x07, 0x08), {"lpa": LPA.build(ts=1)}),
        ((0x09, 0x0F), {"ctratt": CTRATT.build(egs=1)}),
        ((0x0A, 0x0B), {"ctratt": CTRATT.build(plm=1)}),
        ((0x0C,), {"cmic": 8}),
        ((0x0D,), {"lpa": LPA.build(pes=1)}),
        ((0x11,), {"ctratt": CTRATT.build(vcm=1)}),
        ((0x14,), {"oacs": OACS.build(cfls=1)}),
        ((0x20, 0x21, 0x22, 0x23), {"ctratt": CTRATT.build(fdps=1)}),
        ((0x80,), {"oncs": ONCS.build(reservs=1)}),
        ((0x81,), {"sanicap": 1}),
    ],
)
def test_log_pages(lids: tuple[int, ...], set_by: dict[str, int]) -> None:
    for lid in lids:
        assert "is 0" in (support.unsupported_log(NOTHING, lid) or "")
        assert support.unsupported_log(NOTHING.replace(**set_by), lid) is None
    told = {lid for lid in range(256) if support.unsupported_log(NOTHING, lid)}
    after = {lid for lid in range(256) if support.unsupported_log(NOTHING.replace(**set_by), lid)}
    assert told - after == set(lids)


@pytest.mark.parametrize(
    ("fids", "set_by"),
    [
        ((FeatureId.VOLATILE_WRITE_CACHE,), {"vwc": 1}),
        ((FeatureId.AUTONOMOUS_POWER_STATE_TRANSITION,), {"apsta": 1}),
        ((FeatureId.HOST_MEMORY_BUFFER,), {"hmpre": 1}),
        ((FeatureId.TIMESTAMP,), {"oncs": ONCS.build(tss=1)}),
        ((FeatureId.KEEP_ALIVE_TIMER,), {"kas": 1}),
        ((FeatureId.HOST_CONTROLLED_THERMAL_MANAGEMENT,), {"hctma": 1}),
        ((FeatureId.READ_RECOVERY_LEVEL_CONFIG,), {"ctratt": CTRATT.build(rrlvls=1)}),
        ((0x13, 0x14), {"ctratt": CTRATT.build(plm=1)}),
        ((0x15,), {"oacs": OACS.build(glss=1)}),
        ((FeatureId.SANITIZE_CONFIG,), {"sanicap": 1}),
        ((FeatureId.ENDURANCE_GROUP_EVENT_CONFIG,), {"ctratt": CTRATT.build(egs=1)}),
        ((0x1D, 0x1E), {"ctratt": CTRATT.build(fdps=1)}),
        ((0x82, 0x83), {"oncs": ONCS.build(reservs=1)}),
        ((FeatureId.NAMESPACE_WRITE_PROTECTION_CONFIG,), {"nwpc": 1}),
    ],
)
def test_features(fids: tuple[int, ...], set_by: dict[str, int]) -> None:
    told = {fid for fid in range(256) if support.unsupported_feature(NOTHING, fid)}
    have = NOTHING.replace(**set_by)
    assert told - {fid for fid in range(256) if support.unsupported_feature(have, fid)} == set(fids)
