"""Which commands and features the model has, and what they change."""

from __future__ import annotations

from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.features import FEATURES, FeatureId
from pynvme_user.spec.logs import CommandEffects, LockdownScope, SubmissionAndExecution

_PLAIN = CommandEffects.build(csupp=1)
_WRITES = CommandEffects.build(csupp=1, lbcc=1)
_INVENTORY = CommandEffects.build(csupp=1, nic=1, lbcc=1)

ADMIN_EFFECTS: dict[int, CommandEffects] = {
    **dict.fromkeys(
        (
            AdminOpcode.DELETE_IO_SQ,
            AdminOpcode.CREATE_IO_SQ,
            AdminOpcode.GET_LOG_PAGE,
            AdminOpcode.DELETE_IO_CQ,
            AdminOpcode.CREATE_IO_CQ,
            AdminOpcode.IDENTIFY,
            AdminOpcode.ABORT,
            AdminOpcode.SET_FEATURES,
            AdminOpcode.GET_FEATURES,
            AdminOpcode.ASYNC_EVENT_REQUEST,
            AdminOpcode.FIRMWARE_DOWNLOAD,
            AdminOpcode.DEVICE_SELF_TEST,
            AdminOpcode.KEEP_ALIVE,
            AdminOpcode.DIRECTIVE_SEND,
            AdminOpcode.DIRECTIVE_RECEIVE,
            AdminOpcode.VIRTUALIZATION_MANAGEMENT,
            AdminOpcode.NVME_MI_SEND,
            AdminOpcode.NVME_MI_RECEIVE,
            AdminOpcode.LOCKDOWN,
            AdminOpcode.SECURITY_SEND,
            AdminOpcode.SECURITY_RECEIVE,
            AdminOpcode.GET_LBA_STATUS,
        ),
        _PLAIN,
    ),
    AdminOpcode.FIRMWARE_COMMIT: CommandEffects.build(csupp=1, ccc=1),
    AdminOpcode.NAMESPACE_MANAGEMENT: _INVENTORY,
    AdminOpcode.NAMESPACE_ATTACHMENT: CommandEffects.build(csupp=1, nic=1),
    AdminOpcode.CAPACITY_MANAGEMENT: CommandEffects.build(csupp=1, nic=1, ncc=1),
    AdminOpcode.FORMAT_NVM: CommandEffects.build(
        csupp=1, lbcc=1, ncc=1, cse=SubmissionAndExecution.ALONE_IN_ITS_NAMESPACE
    ),
    AdminOpcode.SANITIZE: CommandEffects.build(
        csupp=1, lbcc=1, cse=SubmissionAndExecution.ALONE_IN_EVERY_NAMESPACE
    ),
}

NVM_EFFECTS: dict[int, CommandEffects] = {
    **dict.fromkeys(
        (
            NvmOpcode.FLUSH,
            NvmOpcode.READ,
            NvmOpcode.COMPARE,
            NvmOpcode.VERIFY,
            NvmOpcode.RESERVATION_REGISTER,
            NvmOpcode.RESERVATION_REPORT,
            NvmOpcode.RESERVATION_ACQUIRE,
            NvmOpcode.RESERVATION_RELEASE,
            NvmOpcode.CANCEL,
            NvmOpcode.IO_MANAGEMENT_RECEIVE,
            NvmOpcode.IO_MANAGEMENT_SEND,
        ),
        _PLAIN,
    ),
    **dict.fromkeys(
        (
            NvmOpcode.WRITE,
            NvmOpcode.WRITE_UNCORRECTABLE,
            NvmOpcode.WRITE_ZEROES,
            NvmOpcode.DATASET_MANAGEMENT,
            NvmOpcode.COPY,
        ),
        _WRITES,
    ),
}

ZONED_EFFECTS: dict[int, CommandEffects] = {
    **NVM_EFFECTS,
    NvmOpcode.ZONE_MANAGEMENT_SEND: _WRITES,
    NvmOpcode.ZONE_MANAGEMENT_RECEIVE: _PLAIN,
    NvmOpcode.ZONE_APPEND: _WRITES,
}

#: Of no use here, or declared without anything that could be set.
_LEFT_OUT = {
    FeatureId.KEY_VALUE_CONFIG,
    FeatureId.CONTROLLER_DATA_QUEUE,
    FeatureId.CONFIGURABLE_DEVICE_PERSONALITY,
    FeatureId.VOLTAGE_THRESHOLD,
    FeatureId.VOLTAGE_MEASUREMENT,
    FeatureId.RATE_LIMITING,
}
#: The features that can be got and set.
SUPPORTED: frozenset[FeatureId] = frozenset(set(FEATURES) - _LEFT_OUT)

#: Operations of the Management Interface Command Set that NVMe-MI Send and Receive take.
MANAGEMENT_COMMANDS = (0x00, 0x01, 0x03)

#: What Lockdown can prohibit, by scope.
LOCKABLE: dict[int, frozenset[int]] = {
    LockdownScope.ADMIN_COMMANDS: frozenset(
        {
            AdminOpcode.FIRMWARE_COMMIT,
            AdminOpcode.FIRMWARE_DOWNLOAD,
            AdminOpcode.FORMAT_NVM,
            AdminOpcode.SANITIZE,
            AdminOpcode.NAMESPACE_MANAGEMENT,
            AdminOpcode.NAMESPACE_ATTACHMENT,
            AdminOpcode.SECURITY_SEND,
            AdminOpcode.SECURITY_RECEIVE,
            AdminOpcode.SET_FEATURES,
        }
    ),
    LockdownScope.FEATURES: frozenset(map(int, SUPPORTED)),
}
