"""The features' dwords and data against numbers written out from the specification."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.spec import feature_data as data
from pynvme_user.spec import feature_dwords as dwords
from pynvme_user.spec.commands import CommandSetId
from pynvme_user.spec.features import (
    FEATURES,
    Feature,
    FeatureId,
    FeaturesCdw14,
    FeatureSelect,
    GetFeaturesCdw10,
    SetFeaturesCdw10,
    SupportedCapabilities,
)
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.lists import StructList

ADDRESS = data.EmbeddedManagementControllerAddress


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (SetFeaturesCdw10.build(fid=FeatureId.NUMBER_OF_QUEUES, sv=1), 0x80000007),
        (GetFeaturesCdw10.build(fid=6, sel=FeatureSelect.SUPPORTED), 0x0306),
        (FeaturesCdw14.build(uidx=0x7F), 0x7F),
        (SupportedCapabilities.build(svbl=1, chang=1), 0b101),
        (SupportedCapabilities.build(nsspec=1), 0b010),
        (dwords.ArbitrationCdw11.build(ab=7, lpw=1, mpw=2, hpw=3), 0x03020107),
        (dwords.PowerManagementCdw11.build(ps=31, wh=1), 0x3F),
        (dwords.LbaRangeTypeCdw11.build(num=63), 63),
        (
            dwords.TemperatureThresholdCdw11.build(tmpth=0x157, tmpsel=2, thsel=1, tmpthh=5),
            0x01520157,
        ),
        (dwords.ErrorRecoveryCdw11.build(tler=10, dulbe=1), 0x1000A),
        (dwords.VolatileWriteCacheCdw11.build(wce=1), 1),
        (dwords.NumberOfQueuesCdw11.build(nsqr=3, ncqr=4), 0x00040003),
        (dwords.NumberOfQueuesResult.build(nsqa=3, ncqa=4), 0x00040003),
        (dwords.InterruptCoalescingCdw11.build(thr=4, time=9), 0x0904),
        (dwords.InterruptVectorConfigCdw11.build(iv=3, cd=1), 0x10003),
        (dwords.WriteAtomicityCdw11.build(dn=1), 1),
        (dwords.AsyncEventConfigCdw11.build(shcw=0xFF), 0xFF),
        (dwords.AsyncEventConfigCdw11.build(nan=1, fan=1, tln=1, anacn=1), 0xF00),
        (dwords.AsyncEventConfigCdw11.build(plealcn=1, lsian=1, egealcn=1, nnsshdn=1), 0xF000),
        (dwords.AsyncEventConfigCdw11.build(tthry=1, rassn=1, rgrp0=1, ansan=1), 0xF0000),
        (dwords.AsyncEventConfigCdw11.build(zdcn=1), 1 << 27),
        (dwords.AsyncEventConfigCdw11.build(pmdrlpcn=1), 1 << 28),
        (dwords.AsyncEventConfigCdw11.build(adlpcn=1), 1 << 29),
        (dwords.AsyncEventConfigCdw11.build(hdlpcn=1), 1 << 30),
        (dwords.AsyncEventConfigCdw11.build(dlpcn=1), 1 << 31),
        (dwords.AutonomousPowerStateTransitionCdw11.build(apste=1), 1),
        (dwords.HostMemoryBufferCdw11.build(ehm=1, hmnare=1), 0b101),
        (dwords.HostMemoryBufferCdw11.build(mr=1), 0b10),
        (dwords.HostMemoryBufferResult.build(ehm=1, hmnar=1), 0b1001),
        (dwords.KeepAliveTimerCdw11.build(kato=0xFFFFFFFF), 0xFFFFFFFF),
        (dwords.HostControlledThermalManagementCdw11.build(tmt1=0x150, tmt2=0x155), 0x01500155),
        (dwords.NonOperationalPowerStateConfigCdw11.build(noppme=1), 1),
        (dwords.NvmSetCdw11.build(nvmsetid=0xFFFF), 0xFFFF),
        (dwords.ReadRecoveryLevelConfigCdw12.build(rrl=15), 15),
        (dwords.PredictableLatencyModeConfigCdw12.build(lpe=1), 1),
        (dwords.PredictableLatencyModeWindowCdw12.build(ws=7), 7),
        (dwords.LbaStatusInformationCdw11.build(lsiri=1, lsipi=2), 0x00020001),
        (dwords.SanitizeConfigCdw11.build(nodrm=1), 1),
        (dwords.EnduranceGroupEventConfigCdw11.build(endgid=2, egcw=0xFF), 0xFF0002),
        (dwords.IoCommandSetProfileCdw11.build(iocsci=0x1FF), 0x1FF),
        (dwords.SpinupControlCdw11.build(sce=1), 1),
        (dwords.SpinupControlResult.build(scs=1), 1),
        (dwords.PowerLossSignalingConfigCdw11.build(plsm=3), 3),
        (dwords.PerformanceCharacteristicsCdw11.build(attri=0xC0, rvspa=1), 0x1C0),
        (dwords.FlexibleDataPlacementCdw11.build(endgid=1), 1),
        (dwords.FlexibleDataPlacementCdw12.build(fdpe=1, fdpcidx=2), 0x0201),
        (dwords.FdpEventsCdw11.build(phndl=3, noet=255), 0xFF0003),
        (dwords.FdpEventsCdw12.build(fdpee=1), 1),
        (dwords.FdpEventsResult.build(nsfdpet=255), 255),
        (dwords.ControllerDataQueueCdw11.build(cdqid=4, etpt=1), 0x80000004),
        (dwords.PowerLimitCdw11.build(plv=0x1234, pls=2), 0x21234),
        (dwords.PowerThresholdCdw11.build(ptv=1, pts=3, pmts=15, ept=1), 0x80F30001),
        (dwords.PowerMeasurementCdw11.build(act=1, pmts=15, smt=60), 0x3C00F1),
        (dwords.GetHostMetadataCdw11.build(gdhm=1), 1),
        (dwords.SetHostMetadataCdw11.build(ea=dwords.ElementAction.ADD_MULTIPLE), 0x4000),
        (dwords.SoftwareProgressMarkerCdw11.build(pbslc=255), 255),
        (dwords.HostIdentifierCdw11.build(exhid=1), 1),
        (dwords.ReservationNotificationMaskCdw11.build(regpre=1, resrel=1, respre=1), 0b1110),
        (dwords.ReservationPersistenceCdw11.build(ptpl=1), 1),
        (dwords.NamespaceWriteProtectionConfigCdw11.build(wps=7), 7),
        (dwords.BootPartitionWriteProtectionConfigCdw11.build(bp0wps=1, bp1wps=3), 0x19),
        (data.LbaRangeAttributes.build(hlbar=1), 2),
        (data.PowerStateTransition.build(itps=4, itpt=100), 0x6420),
        (data.TimestampAttributes.build(sync=1, to=1), 0b11),
        (data.CopyDescriptorFormats.build(cdf2e=1, cdf3e=1, cdf4e=1), 0x1C),
        (data.PerformanceAttributeTypeBits.build(attrtyp=7), 7),
        (data.FdpEventAttributes.build(fdpee=1), 1),
        (data.MetadataElementBits.build(et=0x3F, er=0xF), 0xF3F),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Register) else "",
)
def test_feature_dword(register: Register, value: int) -> None:
    assert register == value


@pytest.mark.parametrize(
    ("kind", "size", "offsets"),
    [
        (data.LbaRangeType, 64, {"type": 0, "attrb": 1, "slba": 16, "nlb": 24, "guid": 32}),
        (data.LbaRanges, 4096, {"entry": 0}),
        (data.AutonomousPowerStateTransitions, 256, {"entry": 0}),
        (data.HostMemoryDescriptor, 16, {"badd": 0, "bsize": 8}),
        (
            data.HostMemoryBufferAttributes,
            4096,
            {"hsize": 0, "hmdlal": 4, "hmdlau": 8, "hmdlec": 12},
        ),
        (data.Timestamp, 8, {"tstmp": 0, "attr": 6}),
        (
            data.DeterministicThresholdConfig,
            512,
            {"ee": 0, "dtwinrt": 32, "dtwinwt": 40, "dtwintt": 48},
        ),
        (
            data.HostBehaviorSupport,
            512,
            {"acre": 0, "etdas": 1, "lbafee": 2, "hdisns": 3, "cdfe": 4},
        ),
        (data.StandardPerformanceAttribute, 4096, {"r4karl": 4}),
        (
            data.PerformanceAttributeIdentifierList,
            4096,
            {"attrtyp": 0, "msvspa": 1, "usvspa": 2, "pai": 16},
        ),
        (data.VendorPerformanceAttribute, 4096, {"paid": 0, "attrl": 30, "vs": 32}),
        (data.SupportedFdpEvent, 2, {"fdpet": 0, "fdpeta": 1}),
        (data.NamespaceAdminLabel, 256, {"nal": 0}),
        (data.ControllerDataQueuePointers, 512, {"hp": 0, "tpt": 4}),
        (ADDRESS, 512, {"emca": 4}),
        (data.HostManagementAgentAddress, 512, {"hmaa": 4}),
        (data.MetadataElementHeader, 4, {"kind": 0, "elen": 2}),
        (data.HostMetadataHeader, 2, {"nmed": 0}),
        (data.HostIdentifier, 8, {"hostid": 0}),
        (data.ExtendedHostIdentifier, 16, {"hostid": 0}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_feature_data_layout(kind: type[Struct], size: int, offsets: dict[str, int]) -> None:
    assert kind.size == size
    assert {field.name: field.offset for field in kind.layout if not field.reserved} == offsets


def test_every_feature_has_its_line() -> None:
    assert set(FEATURES) == set(FeatureId)
    assert len({feature.name for feature in FEATURES.values()}) == len(FEATURES)
    for feature in FEATURES.values():
        taken = feature.get_cdw11
        assert (taken is None) == (not feature.selectors)
        for selector in feature.selectors:
            assert taken is not None
            assert not vars(taken)[selector].reserved


def test_feature_ids() -> None:
    assert (FeatureId.ARBITRATION, FeatureId.HOST_MEMORY_BUFFER) == (0x01, 0x0D)
    assert (FeatureId.POWER_LOSS_SIGNALING_CONFIG, FeatureId.PERFORMANCE_CHARACTERISTICS) == (
        0x1B,
        0x1C,
    )
    assert (FeatureId.NAMESPACE_ADMIN_LABEL, FeatureId.KEY_VALUE_CONFIG) == (0x1F, 0x20)
    assert (FeatureId.CONTROLLER_DATA_QUEUE, FeatureId.POWER_LIMIT) == (0x21, 0x23)
    assert FeatureId.EMBEDDED_MANAGEMENT_CONTROLLER_ADDRESS == 0x78
    assert FeatureId.HOST_MANAGEMENT_AGENT_ADDRESS == 0x79
    assert (FeatureId.ENHANCED_CONTROLLER_METADATA, FeatureId.NAMESPACE_METADATA) == (0x7D, 0x7F)
    assert FeatureId.BOOT_PARTITION_WRITE_PROTECTION_CONFIG == 0x85


# Bytes that Get Features transfers, by feature and dword 11.
LENGTHS = {
    (FeatureId.ARBITRATION, 0): 0,
    (FeatureId.LBA_RANGE_TYPE, 0): 4096,
    (FeatureId.AUTONOMOUS_POWER_STATE_TRANSITION, 0): 256,
    (FeatureId.HOST_MEMORY_BUFFER, 0): 4096,
    (FeatureId.TIMESTAMP, 0): 8,
    (FeatureId.READ_RECOVERY_LEVEL_CONFIG, 1): 0,
    (FeatureId.PREDICTABLE_LATENCY_MODE_CONFIG, 1): 512,
    (FeatureId.HOST_BEHAVIOR_SUPPORT, 0): 512,
    (FeatureId.PERFORMANCE_CHARACTERISTICS, 0xC0): 4096,
    (FeatureId.PERFORMANCE_CHARACTERISTICS, 0xBF): 0,
    (FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS, 0): 510,
    (FeatureId.ENHANCED_CONTROLLER_METADATA, 0): 4096,
    (FeatureId.HOST_IDENTIFIER, 0): 8,
    (FeatureId.HOST_IDENTIFIER, 1): 16,
}


@pytest.mark.parametrize(("fid", "cdw11"), LENGTHS)
def test_length_of_a_features_data(fid: FeatureId, cdw11: int) -> None:
    assert FEATURES[fid].length_of(cdw11) == LENGTHS[fid, cdw11]


def test_data_by_a_selector() -> None:
    performance = FEATURES[FeatureId.PERFORMANCE_CHARACTERISTICS]
    assert performance.data_of(0) is data.StandardPerformanceAttribute
    assert performance.data_of(0xC0) is data.PerformanceAttributeIdentifierList
    assert performance.data_of(0xFF) is data.VendorPerformanceAttribute
    assert performance.set_data_of(0xC1) is data.VendorPerformanceAttribute
    host = FEATURES[FeatureId.HOST_IDENTIFIER]
    assert (host.set_data_of(0), host.set_data_of(1)) == (
        data.HostIdentifier,
        data.ExtendedHostIdentifier,
    )
    buffer = FEATURES[FeatureId.HOST_MEMORY_BUFFER]
    assert (buffer.data_of(), buffer.set_data_of()) == (data.HostMemoryBufferAttributes, None)
    events = FEATURES[FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS]
    assert events.set_data_of() is data.FdpEventTypes


def test_whose_a_feature_is() -> None:
    per_namespace = {fid for fid, feature in FEATURES.items() if feature.per_namespace}
    assert per_namespace == {
        FeatureId.LBA_RANGE_TYPE,
        FeatureId.ERROR_RECOVERY,
        FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS,
        FeatureId.NAMESPACE_ADMIN_LABEL,
        FeatureId.NAMESPACE_METADATA,
        FeatureId.RESERVATION_NOTIFICATION_MASK,
        FeatureId.RESERVATION_PERSISTENCE,
        FeatureId.NAMESPACE_WRITE_PROTECTION_CONFIG,
    }
    assert FEATURES[FeatureId.WRITE_ATOMICITY].csi == CommandSetId.NVM
    assert FEATURES[FeatureId.KEY_VALUE_CONFIG].csi == CommandSetId.KEY_VALUE


def test_host_metadata() -> None:
    name = data.MetadataElement.of(data.ControllerMetadataElement.OS_DRIVER_NAME, "pynvme_user")
    version = data.MetadataElement.of(data.ControllerMetadataElement.OS_DRIVER_VERSION, "1", er=2)
    page = data.HostMetadata.build([name, version], nmed=2)
    assert bytes(page) == b"\x02\0" + b"\x02\0\x0b\0pynvme_user" + b"\x03\x02\x01\x001"
    again = data.HostMetadata.from_bytes(bytes(page).ljust(4096, b"\0"))
    assert again == page
    assert [element.text for element in again] == ["pynvme_user", "1"]
    assert page.to_dict()["entries"][1] == {"et": 3, "er": 2, "value": "1"}
    assert page.dump()[-1] == "  type 0x3, revision 2: 1"
    escape = data.MetadataElement.from_bytes(b"\x01\0\x02\0\x1b\xff")
    assert escape.dump() == ["type 0x1, revision 0: \\x1b\\xff"]
    assert escape.to_dict()["value"] == "\x1b\ufffd"
    with pytest.raises(ValueError, match="elen"):
        data.MetadataElement.of(1, "x" * 65536)
    # A device that tells of more than it has gets no more than that.
    cut = data.HostMetadata.from_bytes(b"\x02\0\x01\0\xff\xff")
    assert cut.incomplete
    assert len(cut) == 0


def test_timestamp() -> None:
    raw = (1_700_000_000_000).to_bytes(6, "little") + b"\x02\0"
    stamp = data.Timestamp.from_bytes(raw)
    assert stamp.tstmp == 1_700_000_000_000
    assert (stamp.attr.to, stamp.attr.sync) == (data.TimestampOrigin.SET_BY_HOST, 0)


def kinds(feature: Feature) -> list[type[Struct] | type[StructList[object, object]]]:
    """Return every structure that a feature may transfer."""
    named = [feature.data, feature.set_data, *(kind for _, kind in feature.variants)]
    return [kind for kind in named if kind is not None]


@given(st.sampled_from(sorted(FEATURES)), st.binary(max_size=5000), st.integers(0, 2**32 - 1))
@example(FeatureId.ENHANCED_CONTROLLER_METADATA, b"\xff\0" + b"\x01\0\x01\0\xff" * 300, 0)
@example(FeatureId.HOST_IDENTIFIER, bytes(15), 1)
def test_no_bytes_are_refused_but_too_few(fid: FeatureId, raw: bytes, dword: int) -> None:
    feature = FEATURES[fid]
    for register in (feature.cdw11, feature.cdw12, feature.get_cdw11, feature.result):
        if register is not None:
            value = register(dword)
            assert all(line.isprintable() for line in value.dump())
    feature.length_of(dword)
    for kind in kinds(feature):
        least = kind.size if issubclass(kind, Struct) else kind.header_type.size
        if len(raw) < least:
            with pytest.raises(ValueError, match="the buffer has"):
                kind.from_bytes(raw)
        else:
            page = kind.from_bytes(raw)
            assert json.dumps(page.to_dict(), ensure_ascii=False).encode()
            assert all(line.isascii() and line.isprintable() for line in page.dump())
