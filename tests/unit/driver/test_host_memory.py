"""The Host Memory Buffer: what a drive asks for, gets, and has back after a reset."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from soft_controller import OK, SoftController

import pynvme_user as nvme
from pynvme_user import AdminOpcode, Controller, ControllerWarning, DmaBuffer, DmaError, FeatureId
from pynvme_user.dma import DmaPool
from pynvme_user.spec.commands import SQE
from pynvme_user.spec.feature_data import HostMemoryDescriptor
from pynvme_user.spec.feature_dwords import HostMemoryBufferCdw11
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport

MIB = 1 << 20


@pytest.fixture
def given(soft: SoftController) -> list[tuple[SQE, list[HostMemoryDescriptor]]]:
    """What the device was given: the command, and the pieces that its list has."""
    found: list[tuple[SQE, list[HostMemoryDescriptor]]] = []

    def admin(sqe: SQE) -> Status:
        if sqe.opc == AdminOpcode.SET_FEATURES and sqe.cdw10 == FeatureId.HOST_MEMORY_BUFFER:
            raw = soft.host(sqe.cdw14 << 32 | sqe.cdw13, 16 * sqe.cdw15)
            pieces = [HostMemoryDescriptor.from_bytes(raw, at) for at in range(0, len(raw), 16)]
            found.append((sqe, pieces))
        return OK

    soft.admin = admin
    return found


Given = list[tuple[SQE, list[HostMemoryDescriptor]]]


def opened(soft: SoftController, most: int = 64 * MIB) -> Controller:
    return Controller(PcieTransport(soft, host_memory=most), ready_timeout=0.5)


def test_a_drive_that_asks_for_none(soft: SoftController, given: Given) -> None:
    with opened(soft):
        assert given == []


def test_it_gets_what_it_prefers(soft: SoftController, given: Given) -> None:
    soft.fields |= {"hmpre": 2048, "hmmin": 256}  # of 4 KiB: 8 MiB, 1 MiB
    with opened(soft) as ctrl:
        ((command, pieces),) = given
        assert HostMemoryBufferCdw11(command.cdw11) == HostMemoryBufferCdw11.build(ehm=1)
        assert (command.cdw12, command.cdw15) == (2048, 1)
        memory = soft.host(pieces[0].badd, pieces[0].bsize * 4096)
        assert not any(memory[:4096])
        memory[:5] = b"state"
        # A reset takes it, and the same memory is returned with what the device left in it.
        ctrl.reset()
        (_, again) = given
        assert HostMemoryBufferCdw11(again[0].cdw11) == HostMemoryBufferCdw11.build(ehm=1, mr=1)
        assert again[1] == pieces
        assert bytes(soft.host(pieces[0].badd, 5)) == b"state"


def test_no_more_than_may_be_given(soft: SoftController, given: Given) -> None:
    soft.fields |= {"hmpre": 1 << 20, "hmmin": 256}
    with opened(soft, 2 * MIB):
        ((command, _),) = given
        assert command.cdw12 == 512


def test_less_than_it_needs(soft: SoftController, given: Given) -> None:
    soft.fields |= {"hmpre": 2048, "hmmin": 1024}
    for most in (0, 2 * MIB):
        with (
            pytest.warns(ControllerWarning, match="needs 4 MiB .* with host_memory=4194304"),
            opened(soft, most),
        ):
            assert given == []
        soft = type(soft)()
        soft.fields |= {"hmpre": 2048, "hmmin": 1024}


def scarce(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Let no piece of memory be larger."""
    alloc = DmaPool.alloc

    def limited(pool: DmaPool, length: int, **options: object) -> DmaBuffer:
        if length > largest:
            raise DmaError("there is no such piece")
        return alloc(pool, length, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(DmaPool, "alloc", limited)


def test_in_pieces(soft: SoftController, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    soft.fields |= {"hmpre": 2048, "hmmin": 256, "hmminds": 128}
    scarce(monkeypatch, MIB)
    with opened(soft):
        ((command, pieces),) = given
        assert (command.cdw12, command.cdw15) == (2048, 8)
        assert [one.bsize for one in pieces] == [256] * 8


def test_as_many_pieces_as_it_takes(
    soft: SoftController, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft.fields |= {"hmpre": 2048, "hmmin": 256, "hmmaxd": 3}
    scarce(monkeypatch, MIB)
    with opened(soft):
        ((command, _),) = given
        assert (command.cdw12, command.cdw15) == (768, 3)


def test_pieces_that_are_too_small_for_it(
    soft: SoftController, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft.fields |= {"hmpre": 2048, "hmmin": 256, "hmminds": 1024}
    scarce(monkeypatch, MIB)
    with pytest.warns(ControllerWarning, match="needs 1 MiB"), opened(soft):
        assert given == []


def test_it_is_refused(soft: SoftController) -> None:
    soft.fields |= {"hmpre": 2048}
    refused = Status.of(GenericStatus.INVALID_FIELD)
    answer: Callable[[SQE], Status] = lambda sqe: (  # noqa: E731
        refused if sqe.cdw10 == FeatureId.HOST_MEMORY_BUFFER else OK
    )
    soft.admin = answer
    with pytest.warns(ControllerWarning, match="works without the host's memory"):
        ctrl = opened(soft)
    with ctrl:
        assert len(ctrl.namespaces[1].read(0, 1)) == 512


def test_what_is_no_number_of_bytes() -> None:
    for wrong in (-1, 1.5, "4k"):
        with pytest.raises(ValueError, match="host_memory is a number of bytes"):
            nvme.open("soft:", host_memory=wrong)  # type: ignore[arg-type]
