"""Get and Set Features: every feature by its declaration, and what some of them do besides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pynvme_user.spec.bits import Register
from pynvme_user.spec.commands import NSID_ALL, SQE
from pynvme_user.spec.events import AsyncEventType, HealthEvent
from pynvme_user.spec.feature_data import (
    ExtendedHostIdentifier,
    HostBehaviorSupport,
    HostIdentifier,
    HostMemoryBufferAttributes,
    HostMetadata,
    MetadataElement,
    Timestamp,
    TimestampAttributes,
)
from pynvme_user.spec.feature_dwords import (
    AsyncEventConfigCdw11,
    ElementAction,
    FdpEventsCdw11,
    HostIdentifierCdw11,
    InterruptVectorConfigCdw11,
    NamespaceWriteProtectionConfigCdw11,
    PowerManagementCdw11,
    SetHostMetadataCdw11,
    TemperatureThresholdCdw11,
    ThresholdTemperature,
    ThresholdType,
    WriteProtectionState,
)
from pynvme_user.spec.features import (
    FEATURES,
    Feature,
    FeatureId,
    FeatureSelect,
    GetFeaturesCdw10,
    SetFeaturesCdw10,
    SupportedCapabilities,
)
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.logs import LogId, TimestampOrigin
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing.faults import Command, Outcome
from pynvme_user.testing.model import directives, placement
from pynvme_user.testing.model.effects import SUPPORTED
from pynvme_user.testing.model.state import (
    WARNING_TEMPERATURE,
    Controller,
    receive,
    require,
    send,
)

F = FeatureId
POWER_STATES = 3


@dataclass(frozen=True)
class Traits:
    """What the controller makes of a feature."""

    default: int = 0
    saveable: bool = False
    changeable: bool = True
    #: It keeps its value over a reset without being saved.
    lasts: bool = False


_TRAITS: dict[FeatureId, Traits] = {
    F.ARBITRATION: Traits(saveable=True),
    F.POWER_MANAGEMENT: Traits(saveable=True),
    F.ERROR_RECOVERY: Traits(saveable=True),
    F.LBA_RANGE_TYPE: Traits(saveable=True),
    F.VOLATILE_WRITE_CACHE: Traits(1),
    F.WRITE_ATOMICITY: Traits(saveable=True),
    F.ASYNC_EVENT_CONFIG: Traits(saveable=True),
    F.AUTONOMOUS_POWER_STATE_TRANSITION: Traits(saveable=True),
    F.TIMESTAMP: Traits(lasts=True),
    F.HOST_CONTROLLED_THERMAL_MANAGEMENT: Traits(saveable=True),
    F.READ_RECOVERY_LEVEL_CONFIG: Traits(4, saveable=True),
    F.PREDICTABLE_LATENCY_MODE_WINDOW: Traits(2),
    F.SANITIZE_CONFIG: Traits(saveable=True),
    F.IO_COMMAND_SET_PROFILE: Traits(changeable=False),
    F.SPINUP_CONTROL: Traits(saveable=True),
    F.FLEXIBLE_DATA_PLACEMENT: Traits(saveable=True, lasts=True),
    F.FLEXIBLE_DATA_PLACEMENT_EVENTS: Traits(saveable=True, lasts=True),
    F.NAMESPACE_ADMIN_LABEL: Traits(lasts=True),
    F.ENHANCED_CONTROLLER_METADATA: Traits(),
    F.NAMESPACE_METADATA: Traits(lasts=True),
    F.CONTROLLER_METADATA: Traits(lasts=True),
    F.EMBEDDED_MANAGEMENT_CONTROLLER_ADDRESS: Traits(lasts=True),
    F.HOST_MANAGEMENT_AGENT_ADDRESS: Traits(lasts=True),
    F.SOFTWARE_PROGRESS_MARKER: Traits(saveable=True),
    F.RESERVATION_PERSISTENCE: Traits(lasts=True),
    F.NAMESPACE_WRITE_PROTECTION_CONFIG: Traits(lasts=True),
    F.BOOT_PARTITION_WRITE_PROTECTION_CONFIG: Traits(0o22, lasts=True),
}
#: Selectors of Get Features that do not choose between values.
_NO_CHOICE = ("noet", "gdhm")


def _traits(fid: FeatureId) -> Traits:
    return _TRAITS.get(fid, Traits())


def _key(feature: Feature, fid: int, nsid: int, cdw11: int) -> tuple[int, ...]:
    """Return which of a feature's values a command is about."""
    chosen = [name for name in feature.selectors if name not in _NO_CHOICE]
    own = nsid if feature.per_namespace else 0
    if feature.get_cdw11 is None:
        return fid, own
    dword = feature.get_cdw11(cdw11)
    return fid, own, *(getattr(dword, name) for name in chosen)


def _default(fid: FeatureId, feature: Feature, cdw11: int) -> tuple[int, bytes]:
    value = _traits(fid).default
    if fid == F.TEMPERATURE_THRESHOLD:
        dword = TemperatureThresholdCdw11(cdw11)
        is_over = dword.thsel == ThresholdType.OVER
        value = WARNING_TEMPERATURE if is_over and not dword.tmpsel else 0xFFFF * is_over
    elif fid == F.INTERRUPT_VECTOR_CONFIG:
        value = InterruptVectorConfigCdw11(cdw11).replace(cd=0)
    kind = feature.data_of(cdw11)
    data = bytes(kind.build()) if kind is not None and issubclass(kind, Struct) else b""
    return value, data


def value_of(ctrl: Controller, fid: FeatureId, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
    """Return a feature's current dword and data."""
    feature = FEATURES[fid]
    key = _key(feature, fid, nsid, cdw11)
    return ctrl.current.get(key) or ctrl.saved.get(key) or _default(fid, feature, cdw11)


def _check_values(kind: type[Register] | None, dword: int) -> None:
    """End a command with a value that has no name, where all values have one."""
    if kind is None:
        return
    for bits in kind.layout:
        value = bits.__get__(kind(dword), kind)
        if bits.names is not None:
            require(any(value == member for member in bits.names))


def _check_element(feature: Feature, ctrl: Controller, cdw11: int) -> None:
    """End a command for an NVM Set or an Endurance Group that is not there."""
    if "nvmsetid" in feature.selectors:
        require(cdw11 & 0xFFFF in ctrl.subsystem.nvm_sets)
    if "endgid" in feature.selectors and feature.get_cdw11 is not None:
        require(getattr(feature.get_cdw11(cdw11), "endgid") in ctrl.subsystem.endurance_groups)  # noqa: B009


def _find(ctrl: Controller, fid: int) -> tuple[FeatureId, Feature]:
    require(fid in SUPPORTED)
    return F(fid), FEATURES[F(fid)]


def _check_namespace(ctrl: Controller, feature: Feature, nsid: int) -> None:
    if not feature.per_namespace:
        require(nsid in (0, NSID_ALL), CommandSpecificStatus.FEATURE_NOT_NAMESPACE_SPECIFIC)
        return
    ctrl.namespace(nsid)


# --- Get Features ---------------------------------------------------------------------------------


def get_features(ctrl: Controller, command: Command) -> Outcome | None:
    """Execute Get Features (Base 2.1, 5.1.11)."""
    sqe = command.sqe
    cdw10 = GetFeaturesCdw10(sqe.cdw10)
    fid, feature = _find(ctrl, cdw10.fid)
    traits = _traits(fid)
    require(cdw10.sel <= FeatureSelect.SUPPORTED)
    if cdw10.sel == FeatureSelect.SUPPORTED:
        command.dw0 = SupportedCapabilities.build(
            svbl=traits.saveable, nsspec=bool(feature.per_namespace), chang=traits.changeable
        )
        return None
    if fid == F.NUMBER_OF_QUEUES:
        return Outcome.EXECUTE
    if feature.per_namespace:
        ctrl.namespace(sqe.nsid)
    _check_element(feature, ctrl, sqe.cdw11)
    key = _key(feature, fid, sqe.nsid, sqe.cdw11)
    value = _default(fid, feature, sqe.cdw11)
    if cdw10.sel == FeatureSelect.SAVED:
        value = ctrl.saved.get(key, value)
    elif cdw10.sel == FeatureSelect.CURRENT:
        value = value_of(ctrl, fid, sqe.nsid, sqe.cdw11)
    dword, data = value
    if fid in _GETTERS:
        dword, data = _GETTERS[fid](ctrl, sqe, dword, data)
    if data or feature.length_of(sqe.cdw11):
        send(command, data.ljust(feature.length_of(sqe.cdw11), b"\0"))
    command.dw0 = dword
    return None


Getter = Callable[[Controller, SQE, int, bytes], tuple[int, bytes]]


def _get_timestamp(ctrl: Controller, sqe: SQE, dword: int, data: bytes) -> tuple[int, bytes]:
    origin = TimestampOrigin(1 if ctrl.time_set else 0)
    attributes = TimestampAttributes.build(to=origin)
    return 0, bytes(Timestamp.build(tstmp=ctrl.milliseconds() & (1 << 48) - 1, attr=attributes))


def _get_host_identifier(ctrl: Controller, sqe: SQE, dword: int, data: bytes) -> tuple[int, bytes]:
    if HostIdentifierCdw11(sqe.cdw11).exhid:
        return dword, ctrl.host_id
    return dword, ctrl.host_id[: HostIdentifier.size]


def _get_protection(ctrl: Controller, sqe: SQE, dword: int, data: bytes) -> tuple[int, bytes]:
    return ctrl.namespace(sqe.nsid).protection, b""


_GETTERS: dict[FeatureId, Getter] = {
    F.TIMESTAMP: _get_timestamp,
    F.HOST_IDENTIFIER: _get_host_identifier,
    F.FLEXIBLE_DATA_PLACEMENT: placement.get_enabled,
    F.FLEXIBLE_DATA_PLACEMENT_EVENTS: placement.get_events,
    F.NAMESPACE_WRITE_PROTECTION_CONFIG: _get_protection,
}


# --- Set Features ---------------------------------------------------------------------------------


def set_features(ctrl: Controller, command: Command) -> Outcome | None:
    """Execute Set Features (Base 2.1, 5.1.25)."""
    sqe = command.sqe
    cdw10 = SetFeaturesCdw10(sqe.cdw10)
    fid, feature = _find(ctrl, cdw10.fid)
    traits = _traits(fid)
    require(traits.saveable or not cdw10.sv, CommandSpecificStatus.FEATURE_NOT_SAVEABLE)
    require(traits.changeable, CommandSpecificStatus.FEATURE_NOT_CHANGEABLE)
    if fid == F.NUMBER_OF_QUEUES:
        return Outcome.EXECUTE
    ids = [0]
    if feature.per_namespace and sqe.nsid == NSID_ALL:
        ids = [ns.nsid for ns in ctrl.addressed(NSID_ALL)]
    elif feature.per_namespace or sqe.nsid:
        _check_namespace(ctrl, feature, sqe.nsid)
        ids = [sqe.nsid]
    _check_values(feature.cdw11, sqe.cdw11)
    _check_values(feature.cdw12, sqe.cdw12)
    _check_element(feature, ctrl, sqe.cdw11)
    data = receive(command, _set_length(fid, feature, sqe.cdw11))
    value = sqe.cdw12 if feature.cdw12 is not None else sqe.cdw11
    for nsid in ids:
        own = value, data
        if fid in _SETTERS:
            own = _SETTERS[fid](ctrl, sqe, nsid, data) or own
        key = _key(feature, fid, nsid, sqe.cdw11)
        ctrl.current[key] = own
        if cdw10.sv:
            ctrl.saved[key] = own
    if fid == F.TEMPERATURE_THRESHOLD:
        check_temperature(ctrl)
    return None


def _set_length(fid: FeatureId, feature: Feature, cdw11: int) -> int:
    if fid == F.FLEXIBLE_DATA_PLACEMENT_EVENTS:
        return FdpEventsCdw11(cdw11).noet
    kind = feature.set_data_of(cdw11)
    if kind is None:
        return 0
    return kind.size if issubclass(kind, Struct) else feature.room


Setter = Callable[[Controller, SQE, int, bytes], tuple[int, bytes] | None]


def _set_power(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    require(PowerManagementCdw11(sqe.cdw11).ps < POWER_STATES)


def _set_vector(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    require(InterruptVectorConfigCdw11(sqe.cdw11).iv <= ctrl.queues)


def _set_timestamp(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    ctrl.time_set = Timestamp.from_bytes(data).tstmp, time.monotonic()


def _set_host_identifier(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    require(any(data))
    require(
        ctrl.host_id in (bytes(16), data.ljust(16, b"\0")), GenericStatus.COMMAND_SEQUENCE_ERROR
    )
    ctrl.host_id = data.ljust(ExtendedHostIdentifier.size, b"\0")


def _set_host_memory(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> tuple[int, bytes]:
    page = HostMemoryBufferAttributes.build(
        hsize=sqe.cdw12, hmdlal=sqe.cdw13, hmdlau=sqe.cdw14, hmdlec=sqe.cdw15
    )
    return sqe.cdw11, bytes(page)


def _set_behavior(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    page = HostBehaviorSupport.from_bytes(data)
    require(max(page.acre, page.etdas, page.lbafee, page.hdisns) <= 1)


def _set_metadata(fid: FeatureId) -> Setter:
    def change(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> tuple[int, bytes]:
        before = HostMetadata.from_bytes(value_of(ctrl, fid, nsid)[1].ljust(4096, b"\0"))
        given = HostMetadata.from_bytes(data)
        require(not given.incomplete)
        action = SetHostMetadataCdw11(sqe.cdw11).ea
        types = {element.header.kind.et for element in given}
        kept: list[MetadataElement] = list(before)
        if action != ElementAction.ADD_MULTIPLE:
            kept = [element for element in before if element.header.kind.et not in types]
        if action != ElementAction.DELETE:
            kept += given
        page = HostMetadata.build(kept, nmed=len(kept))
        require(page.size <= 4096)
        return 0, bytes(page)

    return change


def _set_protection(ctrl: Controller, sqe: SQE, nsid: int, data: bytes) -> None:
    ns = ctrl.namespace(nsid)
    state = WriteProtectionState(NamespaceWriteProtectionConfigCdw11(sqe.cdw11).wps)
    lasting = (WriteProtectionState.UNTIL_POWER_CYCLE, WriteProtectionState.PERMANENT)
    require(
        ns.protection not in lasting or state == ns.protection,
        CommandSpecificStatus.FEATURE_NOT_CHANGEABLE,
    )
    ns.protection = state
    if state:
        directives.release(ns)


_SETTERS: dict[FeatureId, Setter] = {
    F.POWER_MANAGEMENT: _set_power,
    F.INTERRUPT_VECTOR_CONFIG: _set_vector,
    F.TIMESTAMP: _set_timestamp,
    F.HOST_IDENTIFIER: _set_host_identifier,
    F.HOST_MEMORY_BUFFER: _set_host_memory,
    F.HOST_BEHAVIOR_SUPPORT: _set_behavior,
    F.FLEXIBLE_DATA_PLACEMENT: placement.set_enabled,
    F.FLEXIBLE_DATA_PLACEMENT_EVENTS: placement.set_events,
    F.NAMESPACE_WRITE_PROTECTION_CONFIG: _set_protection,
    **{
        fid: _set_metadata(fid)
        for fid in (F.ENHANCED_CONTROLLER_METADATA, F.CONTROLLER_METADATA, F.NAMESPACE_METADATA)
    },
}


# --- what follows from them -----------------------------------------------------------------------


def reset(ctrl: Controller) -> None:
    """Take the saved or the default values, but of what lasts (a controller level reset)."""
    ctrl.current = {key: value for key, value in ctrl.current.items() if _traits(F(key[0])).lasts}
    ctrl.host_id = bytes(16)


def check_temperature(ctrl: Controller) -> None:
    """Report a temperature that is beyond a threshold, once each time (5.1.25.1.3)."""
    over = TemperatureThresholdCdw11.build(tmpsel=ThresholdTemperature.COMPOSITE)
    under = over.replace(thsel=ThresholdType.UNDER)
    high = value_of(ctrl, F.TEMPERATURE_THRESHOLD, cdw11=over)[0]
    low = value_of(ctrl, F.TEMPERATURE_THRESHOLD, cdw11=under)[0]
    beyond = (
        ctrl.temperature >= TemperatureThresholdCdw11(high).tmpth
        or ctrl.temperature <= TemperatureThresholdCdw11(low).tmpth
    )
    enabled = AsyncEventConfigCdw11(value_of(ctrl, F.ASYNC_EVENT_CONFIG)[0]).shcw >> 1 & 1
    if beyond and enabled and not ctrl.warned:
        ctrl.report(AsyncEventType.SMART_HEALTH, HealthEvent.TEMPERATURE_THRESHOLD, LogId.SMART)
    ctrl.warned = beyond and bool(enabled)
