"""Get and Set Features of the model."""

from __future__ import annotations

import time

import pytest
from refusals import refused

from pynvme_user import Controller, Namespace
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode
from pynvme_user.spec.feature_data import (
    ExtendedHostIdentifier,
    HostBehaviorSupport,
    HostIdentifier,
    HostMemoryBufferAttributes,
    HostMetadata,
    LbaRanges,
    MetadataElement,
    NamespaceAdminLabel,
    Timestamp,
)
from pynvme_user.spec.feature_dwords import (
    ArbitrationCdw11,
    ElementAction,
    HostIdentifierCdw11,
    HostMemoryBufferCdw11,
    InterruptVectorConfigCdw11,
    NamespaceWriteProtectionConfigCdw11,
    ReadRecoveryLevelConfigCdw12,
    SetHostMetadataCdw11,
    TemperatureThresholdCdw11,
    WriteProtectionState,
)
from pynvme_user.spec.features import (
    FEATURES,
    FeatureId,
    FeatureSelect,
    SetFeaturesCdw10,
    SupportedCapabilities,
)
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.model.effects import SUPPORTED
from pynvme_user.testing.model.state import WARNING_TEMPERATURE

F = FeatureId
OF_A_SET = (
    F.READ_RECOVERY_LEVEL_CONFIG,
    F.PREDICTABLE_LATENCY_MODE_CONFIG,
    F.PREDICTABLE_LATENCY_MODE_WINDOW,
    F.FLEXIBLE_DATA_PLACEMENT,
    F.ENDURANCE_GROUP_EVENT_CONFIG,
)


#: Without data placement it is refused: test_model_placement.py.
PLACED = {F.FLEXIBLE_DATA_PLACEMENT_EVENTS}


@pytest.mark.parametrize("fid", sorted(SUPPORTED - PLACED), ids=lambda fid: fid.name)
def test_every_feature_has_its_values(ctrl: Controller, fid: FeatureId) -> None:
    nsid = 1 if FEATURES[fid].per_namespace else 0
    cdw11 = 1 if fid in OF_A_SET else 0
    can = SupportedCapabilities(ctrl.feature(fid, select=FeatureSelect.SUPPORTED).result)
    assert can.nsspec == bool(FEATURES[fid].per_namespace)
    default = ctrl.feature(fid, select=FeatureSelect.DEFAULT, nsid=nsid, cdw11=cdw11)
    saved = ctrl.feature(fid, select=FeatureSelect.SAVED, nsid=nsid, cdw11=cdw11)
    assert len(default.raw) == FEATURES[fid].length_of(cdw11)
    if fid != F.TIMESTAMP:
        assert (default.result, default.raw) == (saved.result, saved.raw)
    if not can.svbl:
        with refused(CommandSpecificStatus.FEATURE_NOT_SAVEABLE):
            ctrl.admin(AdminOpcode.SET_FEATURES, cdw10=SetFeaturesCdw10.build(fid=fid, sv=1))
    if not can.chang:
        with refused(CommandSpecificStatus.FEATURE_NOT_CHANGEABLE):
            ctrl.admin(AdminOpcode.SET_FEATURES, cdw10=SetFeaturesCdw10.build(fid=fid))


@pytest.mark.parametrize("fid", [0, F.KEY_VALUE_CONFIG, F.RATE_LIMITING, 0x77, 0x86, 0xFF])
def test_what_is_no_feature(ctrl: Controller, fid: int) -> None:
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.admin(AdminOpcode.GET_FEATURES, cdw10=fid)
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.admin(AdminOpcode.SET_FEATURES, cdw10=fid)


def test_current_saved_and_default(ctrl: Controller) -> None:
    def values() -> list[int]:
        chosen = (FeatureSelect.CURRENT, FeatureSelect.DEFAULT, FeatureSelect.SAVED)
        return [ctrl.feature(F.ARBITRATION, select=select).result for select in chosen]

    one, other = ArbitrationCdw11.build(ab=3), ArbitrationCdw11.build(ab=7, hpw=9)
    assert values() == [0, 0, 0]
    ctrl.set_feature(F.ARBITRATION, one, save=True)
    ctrl.set_feature(F.ARBITRATION, other)
    assert values() == [other, 0, one]
    ctrl.reset()
    assert values() == [one, 0, one]
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.admin(AdminOpcode.GET_FEATURES, cdw10=F.ARBITRATION | 4 << 8)


def test_a_feature_of_a_namespace(ctrl: Controller) -> None:
    ctrl.attach_namespace(ctrl.create_namespace(8))
    ctrl.set_feature(F.ERROR_RECOVERY, 7, nsid=1)
    ctrl.set_feature(F.ERROR_RECOVERY, 9, nsid=2)
    assert [ctrl.feature(F.ERROR_RECOVERY, nsid=nsid).result for nsid in (1, 2)] == [7, 9]
    ctrl.set_feature(F.ERROR_RECOVERY, 5, nsid=NSID_ALL)
    assert [ctrl.feature(F.ERROR_RECOVERY, nsid=nsid).result for nsid in (1, 2)] == [5, 5]
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.set_feature(F.ERROR_RECOVERY, 5, nsid=3)
    with refused(GenericStatus.INVALID_NAMESPACE_OR_FORMAT):
        ctrl.feature(F.ERROR_RECOVERY, nsid=100)
    with refused(CommandSpecificStatus.FEATURE_NOT_NAMESPACE_SPECIFIC):
        ctrl.set_feature(F.ARBITRATION, 5, nsid=1)


def test_a_value_for_each_selector(ctrl: Controller) -> None:
    vector = InterruptVectorConfigCdw11.build(iv=2, cd=1)
    ctrl.set_feature(F.INTERRUPT_VECTOR_CONFIG, vector)
    assert ctrl.feature(F.INTERRUPT_VECTOR_CONFIG, cdw11=2).result == vector
    assert ctrl.feature(F.INTERRUPT_VECTOR_CONFIG, cdw11=1).result == 1
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.set_feature(F.INTERRUPT_VECTOR_CONFIG, 60_000)
    over = ctrl.feature(F.TEMPERATURE_THRESHOLD).result
    assert over == WARNING_TEMPERATURE
    under = TemperatureThresholdCdw11.build(thsel=1)
    assert ctrl.feature(F.TEMPERATURE_THRESHOLD, cdw11=under).result == 0
    ctrl.set_feature(F.TEMPERATURE_THRESHOLD, under.replace(tmpth=280))
    assert ctrl.feature(F.TEMPERATURE_THRESHOLD, cdw11=under).value.tmpth == 280  # type: ignore[union-attr]
    assert ctrl.feature(F.TEMPERATURE_THRESHOLD).result == over


def test_features_of_an_nvm_set(ctrl: Controller) -> None:
    level = ReadRecoveryLevelConfigCdw12.build(rrl=15)
    ctrl.set_feature(F.READ_RECOVERY_LEVEL_CONFIG, 1, cdw12=level)
    assert ctrl.feature(F.READ_RECOVERY_LEVEL_CONFIG, cdw11=1).result == level
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.feature(F.READ_RECOVERY_LEVEL_CONFIG, cdw11=2)


@pytest.mark.parametrize(
    ("fid", "value"),
    [
        (F.POWER_MANAGEMENT, 31),
        (F.POWER_MANAGEMENT, 7 << 5),
        (F.TEMPERATURE_THRESHOLD, 9 << 16),
        (F.TEMPERATURE_THRESHOLD, 2 << 20),
        (F.POWER_LOSS_SIGNALING_CONFIG, 3),
    ],
)
def test_illegal_values(ctrl: Controller, fid: FeatureId, value: int) -> None:
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.set_feature(fid, value)


def test_the_timestamp_runs(ctrl: Controller) -> None:
    ctrl.set_feature(F.TIMESTAMP, data=Timestamp.build(tstmp=1_000_000))
    time.sleep(0.02)
    first = Timestamp.from_bytes(ctrl.feature(F.TIMESTAMP).raw)
    assert 1_000_015 <= first.tstmp < 1_060_000
    assert first.attr.to == 1
    ctrl.reset()
    assert Timestamp.from_bytes(ctrl.feature(F.TIMESTAMP).raw).tstmp >= first.tstmp


def test_the_host_identifier(ctrl: Controller) -> None:
    wide = HostIdentifierCdw11.build(exhid=1)
    number = 0x1234 << 64 | 0x5678
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.set_feature(F.HOST_IDENTIFIER, wide, data=ExtendedHostIdentifier.build())
    ctrl.set_feature(F.HOST_IDENTIFIER, wide, data=ExtendedHostIdentifier.build(hostid=number))
    assert ctrl.feature(F.HOST_IDENTIFIER, cdw11=wide).data == ExtendedHostIdentifier.build(
        hostid=number
    )
    assert ctrl.feature(F.HOST_IDENTIFIER).data == HostIdentifier.build(hostid=0x5678)
    with refused(GenericStatus.COMMAND_SEQUENCE_ERROR):
        ctrl.set_feature(F.HOST_IDENTIFIER, data=HostIdentifier.build(hostid=1))
    ctrl.reset()
    ctrl.set_feature(F.HOST_IDENTIFIER, data=HostIdentifier.build(hostid=1))


def test_data(ctrl: Controller) -> None:
    label = NamespaceAdminLabel.build(nal="the first")
    ctrl.set_feature(F.NAMESPACE_ADMIN_LABEL, data=label, nsid=1)
    behavior = HostBehaviorSupport.build(acre=1, etdas=1)
    ctrl.set_feature(F.HOST_BEHAVIOR_SUPPORT, data=behavior)
    ranges = LbaRanges.from_bytes(bytes(range(64)).ljust(4096, b"\0"))
    ctrl.set_feature(F.LBA_RANGE_TYPE, data=ranges, nsid=1)
    assert ctrl.feature(F.NAMESPACE_ADMIN_LABEL, nsid=1).data == label
    assert ctrl.feature(F.HOST_BEHAVIOR_SUPPORT).data == behavior
    assert ctrl.feature(F.LBA_RANGE_TYPE, nsid=1).data == ranges
    with refused(GenericStatus.INVALID_FIELD):
        ctrl.set_feature(F.HOST_BEHAVIOR_SUPPORT, data=behavior.replace(acre=2))
    ctrl.reset()
    assert ctrl.feature(F.NAMESPACE_ADMIN_LABEL, nsid=1).data == label
    assert ctrl.feature(F.HOST_BEHAVIOR_SUPPORT).data == HostBehaviorSupport.build()


def test_the_host_memory_buffer(ctrl: Controller) -> None:
    ctrl.set_feature(
        F.HOST_MEMORY_BUFFER, HostMemoryBufferCdw11.build(ehm=1), cdw12=8, cdw13=0x1000, cdw15=2
    )
    value = ctrl.feature(F.HOST_MEMORY_BUFFER)
    assert value.result == 1
    assert value.data == HostMemoryBufferAttributes.build(hsize=8, hmdlal=0x1000, hmdlec=2)


def test_host_metadata(ctrl: Controller) -> None:
    def set_to(*elements: MetadataElement, action: ElementAction) -> None:
        page = bytes(HostMetadata.build(elements, nmed=len(elements))).ljust(4096, b"\0")
        value = SetHostMetadataCdw11.build(ea=action)
        ctrl.set_feature(F.CONTROLLER_METADATA, value, data=bytearray(page))

    def texts() -> list[str]:
        page = HostMetadata.from_bytes(ctrl.feature(F.CONTROLLER_METADATA).raw)
        return [element.text for element in page]

    add, several = ElementAction.ADD_OR_REPLACE, ElementAction.ADD_MULTIPLE
    set_to(MetadataElement.of(1, "one"), MetadataElement.of(2, "two"), action=add)
    set_to(MetadataElement.of(1, "another"), action=add)
    assert texts() == ["two", "another"]
    set_to(MetadataElement.of(2, "more"), action=several)
    assert texts() == ["two", "another", "more"]
    set_to(MetadataElement.of(2, ""), action=ElementAction.DELETE)
    assert texts() == ["another"]
    with refused(GenericStatus.INVALID_FIELD):
        set_to(MetadataElement.of(2, "x" * 4090), MetadataElement.of(3, ""), action=add)
    assert texts() == ["another"]


# --- write protection -----------------------------------------------------------------------------


def protect(ctrl: Controller, state: WriteProtectionState) -> None:
    value = NamespaceWriteProtectionConfigCdw11.build(wps=state)
    ctrl.set_feature(F.NAMESPACE_WRITE_PROTECTION_CONFIG, value, nsid=1)


def test_write_protection_is_honoured(ctrl: Controller, ns: Namespace) -> None:
    ns.write(0, b"w" * 512)
    protect(ctrl, WriteProtectionState.WRITE_PROTECT)
    writes = (
        lambda: ns.write(0, bytes(512)),
        lambda: ns.write_zeroes(0, 1),
        lambda: ns.deallocate([(0, 1)]),
        lambda: ns.write_uncorrectable(0, 1),
        lambda: ns.copy(8, [(0, 1)]),
        lambda: ctrl.format(1),
        lambda: ctrl.delete_namespace(1),
    )
    for write in writes:
        with refused(GenericStatus.NAMESPACE_WRITE_PROTECTED):
            write()
    assert ns.read(0, 1) == b"w" * 512
    ns.compare(0, b"w" * 512)
    ns.verify(0, 1)
    assert ctrl.namespaces[1].current()
    ctrl.reset()
    assert ctrl.feature(F.NAMESPACE_WRITE_PROTECTION_CONFIG, nsid=1).result == 1
    protect(ctrl, WriteProtectionState.NONE)
    ns.write(0, bytes(512))


def test_permanent_write_protection_stays(ctrl: Controller) -> None:
    protect(ctrl, WriteProtectionState.PERMANENT)
    protect(ctrl, WriteProtectionState.PERMANENT)
    with refused(CommandSpecificStatus.FEATURE_NOT_CHANGEABLE):
        protect(ctrl, WriteProtectionState.NONE)
