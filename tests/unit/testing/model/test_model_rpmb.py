"""A Replay Protected Memory Block: the driver's side of it, on the model's target."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pynvme_user import Controller, NotSupportedError, NvmeStatusError, Rpmb, RpmbError
from pynvme_user.spec.identify_controller import RPMBS
from pynvme_user.spec.security import (
    RPMB_STATUS_TEXT,
    BootPartitionLock,
    BootPartitionProtectionEnable,
    RpmbDeviceConfigurationBlock,
    RpmbFrameHeader,
    RpmbMessage,
    RpmbOperationStatus,
    RpmbResult,
)
from pynvme_user.testing import SoftDevice
from pynvme_user.testing.model.rpmb import ACCESS, SIZE
from pynvme_user.testing.model.rpmb import Rpmb as Target

S = RpmbOperationStatus
KEY = bytes(range(32))
OTHER_KEY = bytes(32)
SECTORS = SIZE // 512


@pytest.fixture
def target(device: SoftDevice) -> Target:
    assert device.model is not None
    return device.model.ctrl.rpmb


@pytest.fixture
def rpmb(ctrl: Controller) -> Rpmb:
    """The target, with its key programmed."""
    made = ctrl.rpmb()
    made.program_key(KEY)
    return made


def fails(status: S, do: Callable[[], object]) -> str:
    with pytest.raises(RpmbError) as caught:
        do()
    assert caught.value.result == status
    assert RPMB_STATUS_TEXT[status] in str(caught.value)
    return str(caught.value)


def block(enabled: int, locked: int = 0) -> RpmbDeviceConfigurationBlock:
    return RpmbDeviceConfigurationBlock.build(
        bppe=BootPartitionProtectionEnable.build(bppe=enabled),
        bpl=BootPartitionLock(locked),
    )


def test_what_is_written_is_read(ctrl: Controller, rpmb: Rpmb, target: Target) -> None:
    assert (rpmb.sectors, rpmb.access_sectors) == (SECTORS, ACCESS)
    assert rpmb.counter() == 0
    assert rpmb.read(0, SECTORS) == bytes(SIZE)
    data = bytes(n % 251 for n in range((2 * ACCESS + 1) * 512))
    rpmb.write(data, SECTORS - 2 * ACCESS - 1)
    assert rpmb.counter() == 3  # accesses
    assert rpmb.read(SECTORS - 2 * ACCESS - 1, 2 * ACCESS + 1) == data
    assert target.data == bytes(SIZE - len(data)) + data
    assert ctrl.rpmb(key=KEY).read(SECTORS - 1) == data[-512:]
    assert ctrl.rpmb().read(SECTORS - 1) == data[-512:]  # not verified


def test_it_outlasts_a_reset(ctrl: Controller, rpmb: Rpmb) -> None:
    rpmb.write(b"x" * 512, 7)
    ctrl.reset()
    assert rpmb.read(7) == b"x" * 512


def test_a_key_is_programmed_once(ctrl: Controller, rpmb: Rpmb, target: Target) -> None:
    fails(S.GENERAL_FAILURE, lambda: ctrl.rpmb().program_key(OTHER_KEY))
    assert target.key == KEY
    rpmb.write(bytes(512))


def test_without_a_key(ctrl: Controller) -> None:
    bare = ctrl.rpmb(key=KEY)
    for do in (bare.counter, bare.read, lambda: bare.write(bytes(512)), bare.configuration):
        assert fails(S.KEY_NOT_PROGRAMMED, do).endswith("; program one first")
    fails(S.KEY_NOT_PROGRAMMED, lambda: bare.set_configuration(block(0)))


def test_a_wrong_key(ctrl: Controller, rpmb: Rpmb, target: Target) -> None:
    wrong = ctrl.rpmb(key=OTHER_KEY)
    for do in (wrong.counter, wrong.read, wrong.configuration, lambda: wrong.write(bytes(512))):
        with pytest.raises(RpmbError, match="is not signed with the key that was given") as caught:
            do()
        assert caught.value.result is None
    assert target.counter == 0


def test_a_wrong_signature_is_refused(rpmb: Rpmb, target: Target) -> None:
    """By the device, too, of which the driver's own look at the counter is no part."""

    class Changing(Target):
        def take(self, raw: bytes) -> None:
            """What is on the way to the target is changed."""
            super().take(raw[:-1] + b"!" if len(raw) > 256 else raw)

    target.__class__ = Changing
    said = fails(S.AUTHENTICATION_FAILURE, lambda: rpmb.write(bytes(512)))
    assert said.endswith("; give the key that the target was programmed with")
    assert (target.counter, target.data[511]) == (0, 0)


def test_a_write_cannot_be_replayed(rpmb: Rpmb, target: Target) -> None:
    sent = []

    class Listening(Target):
        def take(self, raw: bytes) -> None:
            """What comes is taken down."""
            sent.append(raw)
            super().take(raw)

    target.__class__ = Listening
    rpmb.write(b"1" * 512)
    (written,) = [raw for raw in sent if len(raw) > 256]
    rpmb.write(b"2" * 512)
    target.take(written)
    target.take(bytes(RpmbFrameHeader.build(message=RpmbMessage.READ_RESULT)))
    assert RpmbFrameHeader.from_bytes(target.answer).result.status == S.COUNTER_FAILURE
    assert rpmb.read() == b"2" * 512
    assert rpmb.counter() == 2


def test_somebody_else_writes_in_between(rpmb: Rpmb, target: Target) -> None:
    class Busy(Target):
        def take(self, raw: bytes) -> None:
            """Another host is faster."""
            if len(raw) > 256:
                self.counter += 1
            super().take(raw)

    target.__class__ = Busy
    assert "try it again" in fails(S.COUNTER_FAILURE, lambda: rpmb.write(bytes(512)))


def test_beyond_the_end(rpmb: Rpmb) -> None:
    for do in (
        lambda: rpmb.read(SECTORS),
        lambda: rpmb.read(SECTORS - 1, 2),
        lambda: rpmb.write(bytes(512), SECTORS),
    ):
        assert fails(S.ADDRESS_FAILURE, do).endswith(f"; the target has {SECTORS} sectors")


def test_a_counter_that_has_expired(rpmb: Rpmb, target: Target) -> None:
    target.counter = 0xFFFFFFFF
    with pytest.raises(RpmbError, match="it is read-only for good") as caught:
        rpmb.write(bytes(512))
    assert (caught.value.result, caught.value.expired) == (S.WRITE_FAILURE, True)
    assert rpmb.read() == bytes(512)
    assert rpmb.counter() == 0xFFFFFFFF


def test_the_device_configuration_block(rpmb: Rpmb) -> None:
    assert bytes(rpmb.configuration()) == bytes(512)
    rpmb.set_configuration(block(1, 2))
    assert rpmb.configuration() == block(1, 2)
    assert rpmb.counter() == 1
    fails(S.INVALID_DEVICE_CONFIGURATION_BLOCK, lambda: rpmb.set_configuration(block(0)))
    rpmb.set_configuration(block(1))
    assert rpmb.configuration() == block(1)


#: A field of an answer that somebody changed, and what is said of it.
CHANGED = {
    "message": ({"message": RpmbMessage.READ_RESULT}, "is message 0005h in place of 0400h"),
    "nonce": ({"nonce": bytes(16)}, "has another nonce"),
    "target": ({"target": 3}, "is of target 3"),
    "count": ({"wcount": 9}, "is not signed with the key that was given"),
    "status": ({"result": RpmbResult.build(status=0x3F)}, "failed: operation status 3fh"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_an_answer_is_not_trusted(rpmb: Rpmb, target: Target, name: str) -> None:
    fields, said = CHANGED[name]

    class Lying(Target):
        def take(self, raw: bytes) -> None:
            """Answers are changed on their way."""
            super().take(raw)
            header = RpmbFrameHeader.from_bytes(self.answer)
            self.answer = bytes(header.replace(**fields)) + self.answer[256:]

    target.__class__ = Lying
    with pytest.raises(RpmbError, match=said):
        rpmb.read()


def test_a_write_that_counts_wrong(rpmb: Rpmb, target: Target) -> None:
    class Jumping(Target):
        def _write(self, frame: object, raw: bytes) -> RpmbOperationStatus:
            status = super()._write(frame, raw)  # type: ignore[arg-type]
            self.counter += 1
            return status

    target.__class__ = Jumping
    with pytest.raises(RpmbError, match="counts 2 writes in place of 1"):
        rpmb.write(bytes(512))


def test_no_answer_and_no_request(ctrl: Controller, target: Target) -> None:
    target.__class__ = type("Silent", (Target,), {"take": lambda self, raw: None})
    with pytest.raises(RpmbError, match="is message 0000h in place of 0200h"):
        ctrl.rpmb().counter()
    target.__class__ = Target
    target.key = KEY
    ctrl.security_send(0xEA, bytes(RpmbFrameHeader.build(message=0x77)), specific=1)
    answer = RpmbFrameHeader.from_bytes(ctrl.security_receive(0xEA, 256, specific=1))
    assert answer.result.status == S.GENERAL_FAILURE
    for frame, number in ((bytes(255), 0), (bytes(256), 1), (bytes(223) + b"\1" + bytes(32), 1)):
        with pytest.raises(NvmeStatusError, match="Invalid Field"):
            ctrl.security_send(0xEA, frame, specific=1, nvme_specific=number)
    with pytest.raises(NvmeStatusError, match="Invalid Field"):
        ctrl.security_receive(0xEA, 256, specific=1, nvme_specific=1)


def test_what_the_controller_does_not_have(ctrl: Controller, device: SoftDevice) -> None:
    with pytest.raises(NotSupportedError, match=r"no RPMB target 1: RPMBS bits 2:0 .* are 1"):
        ctrl.rpmb(1)
    with pytest.raises(NvmeStatusError, match="Invalid Field"):
        ctrl.rpmb(1, force=True).counter()
    page = ctrl.identify
    for says, why in (
        (RPMBS(0), "Number of RPMB Units"),
        (RPMBS.build(nrpmbu=1, autm=1), r"Authentication Method\) are 1"),
    ):
        device.set_identify(1, bytes(page.replace(rpmbs=says)))
        assert device.model is not None
        ctrl._device.identify = page.replace(rpmbs=says)
        with pytest.raises(NotSupportedError, match=why):
            ctrl.rpmb()
        assert ctrl.rpmb(force=True).sectors == SECTORS
    ctrl._device.identify = page.replace(oacs=0)
    with pytest.raises(NotSupportedError, match="does not support Security Send"):
        ctrl.rpmb()


def test_bad_calls(ctrl: Controller) -> None:
    for number in (-1, 256):
        with pytest.raises(ValueError, match=f"a number from 0 to 6, not {number}"):
            ctrl.rpmb(number)
    with pytest.raises(ValueError, match="has 32 bytes, not 31"):
        ctrl.rpmb(key=bytes(31))
    with pytest.raises(ValueError, match="has 32 bytes, not 0"):
        ctrl.rpmb().program_key(b"")
    for do in (
        lambda: ctrl.rpmb().write(bytes(512)),
        lambda: ctrl.rpmb().set_configuration(block(0)),
    ):
        with pytest.raises(ValueError, match=r"needs the key .* rpmb\(key=\)"):
            do()
    rpmb = ctrl.rpmb(key=KEY)
    with pytest.raises(ValueError, match="513 bytes are not whole sectors"):
        rpmb.write(bytes(513))
    for address, sectors in ((-1, 1), (0, 0), (0xFFFFFFFF, 1)):
        with pytest.raises(ValueError, match=f"{sectors} sectors from {address} on"):
            rpmb.read(address, sectors)
    with pytest.raises(ValueError, match="0 sectors from 0 on"):
        rpmb.write(b"")
