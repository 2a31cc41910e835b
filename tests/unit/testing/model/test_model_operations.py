"""Firmware, self-test and sanitize of the model; and its commands of special kinds."""

from __future__ import annotations

import pytest
from refusals import refused

from pynvme_user import Controller, Namespace, NvmeError
from pynvme_user.spec.admin import Cns, SanitizeAction, SelfTestCode
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.events import IoCommandEvent
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.identify_lists import PrimaryControllerCapabilities, SecondaryControllerList
from pynvme_user.spec.logs import (
    FirmwareSlotLog,
    LbaStatusAction,
    LockdownContents,
    LockdownLog,
    LockdownLsp,
    LockdownScope,
    SanitizeLog,
    SanitizeOperationStatus,
    SelfTestLog,
    SelfTestOutcome,
)
from pynvme_user.spec.management import (
    CommitAction,
    FirmwareCommitCdw10,
    ManagementInterfaceCdw10,
    VirtualizationAction,
    VirtualizationResource,
)
from pynvme_user.spec.security import SecurityProtocol, SupportedProtocols
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing import SoftDevice
from pynvme_user.testing.model.operations import FIRMWARE_MAGIC

S, G = CommandSpecificStatus, GenericStatus

# --- firmware -------------------------------------------------------------------------------------


def image(revision: str, size: int = 10_000) -> bytes:
    return (FIRMWARE_MAGIC + revision.encode().ljust(8)).ljust(size, b"\1")


def test_firmware_becomes_active_with_a_reset(ctrl: Controller) -> None:
    assert ctrl.identify.fr == "1"
    ctrl.firmware_update(image("2.0"), 2)
    page = ctrl.log(FirmwareSlotLog)
    assert (page.afi.cafs, page.afi.nafs, page.frs1, page.frs2) == (1, 2, "1", "2.0")
    ctrl.reset()
    assert ctrl.log(FirmwareSlotLog).afi.cafs == 2
    assert ctrl.identify_page(Cns.CONTROLLER)[64:72] == b"2.0     "
    ctrl.firmware_commit(1, CommitAction.ACTIVATE_AT_RESET)
    ctrl.reset()
    assert ctrl.log(FirmwareSlotLog).afi.cafs == 1


def test_firmware_becomes_active_at_once(ctrl: Controller) -> None:
    with ctrl.events() as events:
        ctrl.firmware_update(image("now"), 3, CommitAction.REPLACE_AND_ACTIVATE_NOW)
        assert ctrl.log(FirmwareSlotLog).afi.cafs == 3
        event = events.wait(5)
        assert event is not None
        assert event.result.event == "FIRMWARE_ACTIVATION_STARTING"


def test_bad_firmware(ctrl: Controller) -> None:
    ctrl.firmware_download(b"no image".ljust(4096))
    with refused(S.INVALID_FIRMWARE_IMAGE):
        ctrl.firmware_commit(2)
    ctrl.firmware_download(image("x"), offset=4096)
    with refused(S.OVERLAPPING_RANGE):
        ctrl.firmware_download(image("x"), offset=8192)
    with refused(S.INVALID_FIRMWARE_IMAGE):  # whose begin is missing
        ctrl.firmware_commit(2)
    ctrl.firmware_download(image("x"))
    with refused(S.INVALID_FIRMWARE_SLOT):  # read-only
        ctrl.firmware_commit(1)
    with refused(S.INVALID_FIRMWARE_SLOT):
        ctrl.firmware_commit(7)
    with refused(G.INVALID_FIELD):
        ctrl.admin(AdminOpcode.FIRMWARE_COMMIT, cdw10=FirmwareCommitCdw10.build(fs=2, ca=7))
    with refused(G.INVALID_FIELD):
        ctrl.firmware_download(image("x"), offset=4)
    ctrl.reset()  # which forgets what was downloaded
    with refused(S.INVALID_FIRMWARE_IMAGE):
        ctrl.firmware_commit(2, CommitAction.REPLACE)
    with refused(S.INVALID_FIRMWARE_SLOT):
        ctrl.firmware_commit(2, CommitAction.ACTIVATE_AT_RESET)


# --- self-test ------------------------------------------------------------------------------------


def test_self_tests(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    assert device.model
    device.model.subsystem.times.short_self_test = 0.3
    ctrl.self_test()
    with refused(S.SELF_TEST_IN_PROGRESS):
        ctrl.self_test(SelfTestCode.EXTENDED)
    seen = list(ctrl.self_test_progress(0.01))
    assert seen == sorted(seen)
    assert len(seen) > 1
    ns.write_uncorrectable(77, 1)
    ctrl.self_test(SelfTestCode.EXTENDED)
    list(ctrl.self_test_progress(0.01))
    device.model.subsystem.times.short_self_test = 60
    ctrl.self_test(nsid=1)
    ctrl.self_test(SelfTestCode.ABORT)
    ctrl.self_test()
    ctrl.reset()
    found = ctrl.log(SelfTestLog).results
    assert [(each.dsts.dstr, each.dsts.dstc) for each in found[:5]] == [
        (SelfTestOutcome.ABORTED_BY_RESET, 1),
        (SelfTestOutcome.ABORTED_BY_COMMAND, 1),
        (SelfTestOutcome.SEGMENT_FAILED, 2),
        (SelfTestOutcome.NO_ERROR, 1),
        (SelfTestOutcome.NOT_USED, 0),
    ]
    assert (found[2].flba, found[2].nsid, found[2].vdinfo.flbav) == (77, 1, 1)
    with refused(G.INVALID_FIELD):
        ctrl.admin(AdminOpcode.DEVICE_SELF_TEST, cdw10=9)


# --- sanitize -------------------------------------------------------------------------------------


def test_sanitize(device: SoftDevice, ctrl: Controller, ns: Namespace) -> None:
    assert device.model
    device.model.subsystem.times.sanitize = 0.3
    ns.write(0, b"secret".ljust(512))
    with ctrl.events() as events:
        ctrl.sanitize(SanitizeAction.BLOCK_ERASE)
        for blocked in (
            lambda: ns.flush(),
            lambda: ctrl.format(1),
            lambda: ctrl.sanitize(SanitizeAction.CRYPTO_ERASE),
            lambda: ctrl.create_namespace(8),
        ):
            with refused(G.SANITIZE_IN_PROGRESS):
                blocked()
        seen = list(ctrl.sanitize_progress(0.05))
        assert seen == sorted(seen)
        assert len(seen) > 1
        event = events.wait(5)
        assert event is not None
        assert event.result.aei == IoCommandEvent.SANITIZE_COMPLETED
    assert not any(ctrl.namespaces[1].read(0, 1))
    log = ctrl.log(SanitizeLog)
    assert (log.sprog, log.sstat.sos, log.sstat.gde) == (
        0xFFFF,
        SanitizeOperationStatus.SANITIZED,
        1,
    )


def test_overwrite(ctrl: Controller, ns: Namespace) -> None:
    ctrl.sanitize(SanitizeAction.OVERWRITE, pattern=0x01020304, passes=2, invert=True)
    list(ctrl.sanitize_progress(0.02))
    assert ctrl.namespaces[1].read(2047, 1) == bytes.fromhex("fbfcfdfe") * 128
    assert ctrl.log(SanitizeLog).sstat.opc == 2


@pytest.mark.parametrize("unrestricted", [False, True])
def test_a_sanitize_that_fails(device: SoftDevice, ctrl: Controller, unrestricted: bool) -> None:
    assert device.model
    device.model.fail_next_sanitize()
    ctrl.sanitize(SanitizeAction.BLOCK_ERASE, unrestricted=unrestricted)
    with pytest.raises(NvmeError, match="the sanitize operation failed"):
        list(ctrl.sanitize_progress(0.02))
    with refused(G.SANITIZE_FAILED):
        ctrl.namespaces[1].flush()
    if unrestricted:
        ctrl.sanitize(SanitizeAction.EXIT_FAILURE_MODE)
    else:
        for options in ({"action": SanitizeAction.EXIT_FAILURE_MODE}, {"unrestricted": True}):
            with refused(G.SANITIZE_FAILED):
                ctrl.sanitize(**{"action": SanitizeAction.BLOCK_ERASE} | options)  # type: ignore[arg-type]
        ctrl.sanitize(SanitizeAction.BLOCK_ERASE)
        list(ctrl.sanitize_progress(0.02))
    ctrl.namespaces[1].flush()


def test_illegal_sanitizes(ctrl: Controller) -> None:
    for cdw10 in (0, 5, 6, 2 | 1 << 10):
        with refused(G.INVALID_FIELD):
            ctrl.admin(AdminOpcode.SANITIZE, cdw10=cdw10)


# --- security and lockdown ------------------------------------------------------------------------


def test_security(ctrl: Controller) -> None:
    listed = SupportedProtocols.from_bytes(ctrl.security_receive(0, 512))
    assert SecurityProtocol.TCG_1 in list(listed)
    ctrl.security_send(SecurityProtocol.TCG_1, b"hello TPer..", specific=0x1234)
    assert ctrl.security_receive(1, 16, specific=0x1234) == b"hello TPer..\0\0\0\0"
    assert ctrl.security_receive(1, 16, specific=1) == bytes(16)
    for protocol in (0, SecurityProtocol.ATA_SECURITY):
        with refused(G.INVALID_FIELD):
            ctrl.security_send(protocol, b"1234")
    with refused(G.INVALID_FIELD):
        ctrl.security_receive(SecurityProtocol.ATA_SECURITY, 16)


def test_lockdown_is_honoured(ctrl: Controller) -> None:
    ctrl.lockdown(AdminOpcode.FORMAT_NVM)
    with refused(G.PROHIBITED_BY_LOCKDOWN):
        ctrl.format(1)
    ctrl.lockdown(FeatureId.ARBITRATION, LockdownScope.FEATURES)
    with refused(G.PROHIBITED_BY_LOCKDOWN):
        ctrl.set_feature(FeatureId.ARBITRATION, 1)
    ctrl.set_feature(FeatureId.ERROR_RECOVERY, 1, nsid=1)
    contents = LockdownContents.PROHIBITED_ON_THE_ADMIN_QUEUE
    lsp = LockdownLsp.build(scp=LockdownScope.ADMIN_COMMANDS, cntts=contents)
    assert list(ctrl.log(LockdownLog, lsp=lsp)) == [AdminOpcode.FORMAT_NVM]
    assert AdminOpcode.SANITIZE in list(ctrl.log(LockdownLog))
    ctrl.lockdown(AdminOpcode.FORMAT_NVM, prohibit=False)
    ctrl.format(1)
    with refused(S.PROHIBITION_NOT_SUPPORTED):
        ctrl.lockdown(AdminOpcode.IDENTIFY)


# --- virtualization, NVMe-MI ----------------------------------------------------------------------


def test_secondary_controllers(ctrl: Controller) -> None:
    def secondary() -> list[tuple[int, int, int, int]]:
        page = SecondaryControllerList.from_bytes(ctrl.identify_page(Cns.SECONDARY_CONTROLLERS))
        return [(each.scid, each.scs.onl, each.nvq, each.nvi) for each in page]

    (first, *_), (second, *_) = secondary()
    assign, online = VirtualizationAction.SECONDARY_ASSIGN, VirtualizationAction.SECONDARY_ONLINE
    with refused(S.INVALID_SECONDARY_CONTROLLER_STATE):
        ctrl.virtualization_management(first, online)
    assert ctrl.virtualization_management(first, assign, count=5) == 5
    vi = VirtualizationResource.VI
    ctrl.virtualization_management(first, assign, resource=vi, count=2)
    with refused(S.INVALID_NUMBER_OF_CONTROLLER_RESOURCES):
        ctrl.virtualization_management(second, assign, count=4)
    ctrl.virtualization_management(first, online)
    assert secondary() == [(first, 1, 5, 2), (second, 0, 0, 0)]
    page = ctrl.identify_page(Cns.PRIMARY_CONTROLLER_CAPABILITIES)
    assert PrimaryControllerCapabilities.from_bytes(page).vqrfa == 5
    with refused(S.INVALID_SECONDARY_CONTROLLER_STATE):
        ctrl.virtualization_management(first, assign, count=1)
    ctrl.virtualization_management(first, VirtualizationAction.SECONDARY_OFFLINE)
    assert secondary()[0] == (first, 0, 0, 0)
    primary = VirtualizationAction.PRIMARY_FLEXIBLE_ALLOCATION
    assert ctrl.virtualization_management(ctrl.identify.cntlid, primary, count=3) == 3
    for cntlid, action, code in (
        (9, assign, S.INVALID_CONTROLLER_ID),
        (9, primary, S.INVALID_CONTROLLER_ID),
        (first, 3, G.INVALID_FIELD),
    ):
        with refused(code):
            ctrl.virtualization_management(cntlid, action)  # type: ignore[arg-type]
    with refused(S.INVALID_RESOURCE_ID):
        ctrl.virtualization_management(first, assign, resource=2)  # type: ignore[arg-type]


def test_management_in_band(ctrl: Controller) -> None:
    message = ManagementInterfaceCdw10.build(mt=4, nmimt=1)
    _, health = ctrl.management_receive(1, message=message)
    assert health[2] == 27  # degrees
    assert ctrl.management_send(3, message=message, dwords=(1, 2)) == 0
    with refused(G.INVALID_FIELD):
        ctrl.management_receive(1, message=ManagementInterfaceCdw10.build(mt=4))
    with refused(G.INVALID_FIELD):
        ctrl.management_send(1, message=message)
    ctrl.keep_alive()


def test_lba_status(ctrl: Controller, ns: Namespace) -> None:
    ns.write_uncorrectable(10, 2)
    ns.write_uncorrectable(20, 1)
    assert [(each.dslba, each.nlb + 1) for each in ctrl.lba_status(1)] == [(10, 2), (20, 1)]
    assert [each.dslba for each in ctrl.lba_status(1, 12, 9)] == [20]
    short = ctrl.lba_status(1, length=24)
    assert (len(short), short.header.cmpc) == (1, 1)
    ns.write(100, b"\1" * 2 * ns.block_size)
    ns.write(103, bytes(ns.block_size))
    allocated = ctrl.lba_status(1, 11, 100, action=LbaStatusAction.ALLOCATED)
    assert [(each.dslba, each.nlb + 1) for each in allocated] == [(11, 1), (20, 1), (100, 2)]
    with refused(G.LBA_OUT_OF_RANGE):
        ctrl.lba_status(1, 2048)
    with refused(G.INVALID_FIELD):
        ctrl.lba_status(1, action=0)  # type: ignore[arg-type]
