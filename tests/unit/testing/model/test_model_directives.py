"""Directives of the model: streams, what writes say of them, and their resources."""

from __future__ import annotations

import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller, Namespace, NotSupportedError
from pynvme_user.spec.commands import NSID_ALL, NvmOpcode
from pynvme_user.spec.directives import (
    DirectiveParameters,
    DirectiveType,
    EnableDirectiveCdw12,
    IdentifyReceive,
    IdentifySend,
    StreamsParameters,
    StreamsReceive,
    StreamsSend,
    StreamsStatus,
)
from pynvme_user.spec.feature_dwords import (
    NamespaceWriteProtectionConfigCdw11,
    WriteProtectionState,
)
from pynvme_user.spec.features import FeatureId
from pynvme_user.spec.nvm import ReadWriteCdw13, WriteCdw12
from pynvme_user.spec.nvm_copy import CopyCdw12
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus
from pynvme_user.testing import SoftDevice

G, S = GenericStatus, CommandSpecificStatus
BLOCK = bytes(512)


class Streams:
    """The Streams directive of a controller."""

    def __init__(self, ctrl: Controller) -> None:
        self.ctrl = ctrl

    def enable(self, value: int = 1, nsid: int = 1, dtype: int = DirectiveType.STREAMS) -> None:
        cdw12 = EnableDirectiveCdw12.build(endir=value, dtype=dtype)
        self.ctrl.directive_send(0, IdentifySend.ENABLE_DIRECTIVE, nsid=nsid, cdw12=cdw12)

    def parameters(self, nsid: int = 1) -> StreamsParameters:
        operation = StreamsReceive.RETURN_PARAMETERS
        _, raw = self.ctrl.directive_receive(DirectiveType.STREAMS, operation, 32, nsid=nsid)
        return StreamsParameters.from_bytes(raw)

    def open(self, nsid: int = 1) -> list[int]:
        operation = StreamsReceive.GET_STATUS
        _, raw = self.ctrl.directive_receive(DirectiveType.STREAMS, operation, nsid=nsid)
        return list(StreamsStatus.from_bytes(raw))

    def allocate(self, count: int, nsid: int = 1) -> int:
        operation = StreamsReceive.ALLOCATE_RESOURCES
        result, _ = self.ctrl.directive_receive(
            DirectiveType.STREAMS, operation, 0, nsid=nsid, cdw12=count
        )
        return result

    def release(self, stream: int | None = None, nsid: int = 1) -> None:
        operation = (
            StreamsSend.RELEASE_RESOURCES if stream is None else StreamsSend.RELEASE_IDENTIFIER
        )
        self.ctrl.directive_send(DirectiveType.STREAMS, operation, nsid=nsid, specific=stream or 0)


@pytest.fixture
def streams(ctrl: Controller) -> Streams:
    return Streams(ctrl)


def parameters(ctrl: Controller) -> DirectiveParameters:
    _, raw = ctrl.directive_receive(0, IdentifyReceive.RETURN_PARAMETERS, nsid=1)
    return DirectiveParameters.from_bytes(raw)


def test_writes_open_streams(ctrl: Controller, ns: Namespace, streams: Streams) -> None:
    found = parameters(ctrl)
    assert (found.supported.sdir, found.enabled.sdir, found.persistent.sdir) == (1, 0, 0)
    ns.write(0, BLOCK, stream=3)  # no directive is enabled: the field is ignored
    streams.enable()
    assert parameters(ctrl).enabled.sdir
    assert streams.open() == []
    ns.write(0, BLOCK, stream=9)
    ns.write(0, BLOCK, stream=5)
    ns.write(0, BLOCK, stream=9)
    ns.write(0, BLOCK, stream=0)  # as one without a stream
    ns.write(0, BLOCK)
    assert ns.read(0, 1) == BLOCK
    assert streams.open() == [5, 9]
    assert (streams.parameters().nso, streams.parameters().nsso) == (2, 2)
    streams.release(5)
    streams.release(5)  # one that is not open is no error
    assert streams.open() == [9]
    with refused(G.INVALID_FIELD):
        ns.write(0, BLOCK, placement=1)
    assert streams.open() == [9]


def test_every_command_that_writes_names_a_directive(
    ctrl: Controller, ns: Namespace, streams: Streams
) -> None:
    streams.enable()
    dspec = ReadWriteCdw13.build(dspec=7)
    placed = WriteCdw12.build(dtype=DirectiveType.DATA_PLACEMENT)
    for opcode in (NvmOpcode.WRITE, NvmOpcode.WRITE_ZEROES, NvmOpcode.WRITE_UNCORRECTABLE):
        data = bytearray(512) if opcode == NvmOpcode.WRITE else None
        with refused(G.INVALID_FIELD):
            ctrl.io(opcode, nsid=1, buffer=data, cdw12=placed, cdw13=dspec)
    ranges = bytearray(32)
    with refused(G.INVALID_FIELD):
        cdw12 = CopyCdw12.build(dtype=DirectiveType.DATA_PLACEMENT)
        ctrl.io(NvmOpcode.COPY, nsid=1, buffer=ranges, cdw10=8, cdw12=cdw12, cdw13=dspec)
    cdw12 = CopyCdw12.build(dtype=DirectiveType.STREAMS)
    ctrl.io(NvmOpcode.COPY, nsid=1, buffer=ranges, cdw10=8, cdw12=cdw12, cdw13=dspec)
    assert streams.open() == [7]


def test_resources_of_a_namespace(ctrl: Controller, ns: Namespace, streams: Streams) -> None:
    streams.enable()
    assert streams.allocate(4) == 4
    found = streams.parameters()
    assert (found.msl, found.nssa, found.nsa, found.nssc.ssid) == (16, 12, 4, 1)
    with refused(G.INVALID_FIELD):  # it has some
        streams.allocate(2)
    for stream in (11, 12, 13, 14, 15):
        ns.write(0, BLOCK, stream=stream)
    assert streams.open() == [12, 13, 14, 15]  # the oldest made room
    assert streams.open(NSID_ALL) == []  # of those that share
    assert (streams.parameters().nso, streams.parameters().nsso) == (4, 0)
    streams.release()
    assert (streams.open(), streams.parameters().nsa) == ([], 0)
    ns.write(0, BLOCK, stream=1)
    streams.release()  # nothing is allocated: nothing is done
    assert streams.open() == [1]


def test_resources_that_are_shared(ctrl: Controller, ns: Namespace, streams: Streams) -> None:
    other = ctrl.create_namespace(64)
    ctrl.attach_namespace(other)
    streams.enable(nsid=NSID_ALL)
    for stream in range(1, 11):
        ns.write(0, BLOCK, stream=stream)
        ctrl.namespaces[other].write(0, BLOCK, stream=stream)
    assert len(streams.open()) + len(streams.open(other)) == 16
    assert 10 in streams.open()
    assert streams.open(other)[-1] == 10
    whole = streams.parameters(NSID_ALL)
    assert (whole.nsso, whole.nsa, whole.nso) == (16, 0, 0)
    assert streams.open(NSID_ALL) == sorted({*streams.open(), *streams.open(other)})

    assert streams.allocate(14, other) == 14
    assert len(streams.open()) == 2
    assert streams.allocate(14) == 2
    third = ctrl.create_namespace(64)
    ctrl.attach_namespace(third)
    streams.enable(nsid=third)
    with refused(S.STREAM_RESOURCE_ALLOCATION_FAILED):
        streams.allocate(1, third)
    ctrl.namespaces[third].write(0, BLOCK, stream=1)  # none is left: as one without a stream
    assert streams.open(third) == []


def test_what_ends_streams(ctrl: Controller, streams: Streams) -> None:
    def write() -> None:
        ctrl.namespaces[1].write(0, BLOCK, stream=2)
        assert streams.open() == [2]

    streams.enable()
    write()
    ctrl.format(1)
    assert streams.open() == []
    streams.allocate(3)
    write()
    fid = FeatureId.NAMESPACE_WRITE_PROTECTION_CONFIG
    for state in (WriteProtectionState.WRITE_PROTECT, WriteProtectionState.NONE):
        ctrl.set_feature(fid, NamespaceWriteProtectionConfigCdw11.build(wps=state), nsid=1)
    assert (streams.open(), streams.parameters().nsa) == ([], 0)
    write()
    streams.enable(0)
    streams.enable(1)
    assert streams.open() == []
    write()
    ctrl.reset()
    assert not parameters(ctrl).enabled.sdir
    streams.enable()
    assert streams.open() == []


def test_a_reset_beside_another_controller(device: SoftDevice) -> None:
    other = SoftDevice("?commands=all", subsystem=device.model.subsystem)
    with nvme.open(device) as ctrl, nvme.open(other) as second:
        nsid = ctrl.create_namespace(64, shared=True)
        ctrl.attach_namespace(nsid, [0, 1])
        Streams(ctrl).enable(nsid=nsid)
        ctrl.namespaces[nsid].write(0, BLOCK, stream=4)
        ctrl.reset()
        assert Streams(second).open(nsid) == [4]


def test_illegal_directives(ctrl: Controller, streams: Streams) -> None:
    for refuse in (  # it is disabled
        streams.parameters,
        streams.open,
        streams.release,
        lambda: streams.release(1),
        lambda: streams.allocate(1),
        lambda: streams.parameters(NSID_ALL),
    ):
        with refused(G.INVALID_FIELD):
            refuse()
    for dtype in (DirectiveType.IDENTIFY, DirectiveType.VENDOR_SPECIFIC, 3):
        with refused(G.INVALID_FIELD):
            streams.enable(dtype=dtype)
    streams.enable()
    with refused(S.STREAM_RESOURCE_ALLOCATION_FAILED):
        streams.allocate(0)
    with refused(G.INVALID_FIELD):
        streams.release(1, NSID_ALL)
    with refused(G.INVALID_FIELD):
        ctrl.directive_receive(0, IdentifyReceive.RETURN_PARAMETERS, nsid=NSID_ALL)
    for directive, operation in ((0, 9), (1, 9), (2, 1), (15, 1)):
        with refused(G.INVALID_FIELD):
            ctrl.directive_receive(directive, operation, nsid=1)
        with refused(G.INVALID_FIELD):
            ctrl.directive_send(directive, operation, nsid=1)


def test_a_directive_without_the_model() -> None:
    """It has none, says so, and ignores what a write names."""
    with nvme.open("soft:?size=1M") as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(0, b"s" * 512, stream=4)
        assert ns.read(0, 1) == b"s" * 512
        with pytest.raises(NotSupportedError):
            ctrl.directive_receive(0, IdentifyReceive.RETURN_PARAMETERS, nsid=1)
