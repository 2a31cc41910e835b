"""Replay Protected Memory Blocks (NVMe Base 2.0, 8.18): what is written is signed, and counted."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from typing import Any, Protocol

from pynvme_user.dma import BytesLike, as_bytes
from pynvme_user.errors import RpmbError
from pynvme_user.spec.identify_controller import RPMBS, IdentifyController
from pynvme_user.spec.security import (
    RPMB_SECTOR,
    RPMB_SIGNED_FROM,
    RPMB_SPSP,
    RPMB_STATUS_TEXT,
    RpmbDeviceConfigurationBlock,
    RpmbFrame,
    RpmbFrameHeader,
    RpmbMessage,
    RpmbOperationStatus,
    SecurityProtocol,
)

KEY_BYTES = 32
_NONCE_BYTES = 16
_UNIT = 128 << 10  # of RPMBS.TOTSZ
_MOST = 0xFFFFFFFF  # of an address
_REMEDIES = {
    RpmbOperationStatus.AUTHENTICATION_FAILURE: "give the key that the target was programmed with",
    RpmbOperationStatus.COUNTER_FAILURE: "somebody else wrote in between: try it again",
    RpmbOperationStatus.KEY_NOT_PROGRAMMED: "program one first",
}


class SecurityCommands(Protocol):
    """What a target is reached by: a Controller."""

    @property
    def name(self) -> str:
        """The device's."""

    @property
    def max_transfer(self) -> int:
        """Bytes that one command carries."""

    @property
    def identify(self) -> IdentifyController:
        """What the controller says of itself."""

    def security_send(
        self,
        protocol: int,
        data: BytesLike,
        *,
        specific: int = 0,
        nvme_specific: int = 0,
        force: bool = False,
    ) -> None:
        """Send a frame."""

    def security_receive(
        self,
        protocol: int,
        length: int,
        *,
        specific: int = 0,
        nvme_specific: int = 0,
        force: bool = False,
    ) -> bytes:
        """Receive one."""


class Rpmb:
    """A Replay Protected Memory Block target, made by :meth:`Controller.rpmb`.

    It is read and written in sectors of 512 bytes. Each call raises RpmbError where the target
    refuses it or where the answer is not the target's, and as :meth:`Controller.admin`.
    """

    def __init__(
        self,
        controller: SecurityCommands,
        target: int,
        key: BytesLike | None,
        lock: threading.Lock,
        force: bool,
    ) -> None:
        self._controller = controller
        self._key = None if key is None else checked_key(key)
        self._lock = lock  # for the commands of one operation belong together
        self._force = force
        #: Its number.
        self.target = target

    @property
    def _says(self) -> RPMBS:
        return self._controller.identify.rpmbs

    @property
    def sectors(self) -> int:
        """Sectors that it has."""
        return (self._says.totsz + 1) * _UNIT // RPMB_SECTOR

    @property
    def access_sectors(self) -> int:
        """Sectors that one operation reads or writes: all of them or none."""
        room = (self._controller.max_transfer - RpmbFrameHeader.size) // RPMB_SECTOR
        return max(1, min(self._says.accsz + 1, room))

    def program_key(self, key: BytesLike) -> None:
        """Give the target its key of 32 bytes: once and for ever. This object uses it, too."""
        signing = checked_key(key)
        request = self._frame(RpmbMessage.AUTHENTICATION_KEY_PROGRAM, mac=signing)
        with self._lock:
            self._answer(request, "programming the key", deferred=True, signed=False)
        self._key = signing

    def counter(self) -> int:
        """Read the write counter: how often the target was written."""
        with self._lock:
            return self._counter()

    def read(self, address: int = 0, sectors: int = 1) -> bytes:
        """Read sectors from sector ``address`` on; with a key, what comes is verified."""
        _check_range(address, sectors)
        data = bytearray()
        with self._lock:
            while sectors:
                count = min(sectors, self.access_sectors)
                request = self._frame(
                    RpmbMessage.AUTHENTICATED_DATA_READ,
                    nonce=secrets.token_bytes(_NONCE_BYTES),
                    addr=address,
                    scount=count,
                )
                answer = self._answer(request, "the authenticated data read", sectors=count)
                data += bytes(answer.entries)
                address += count
                sectors -= count
        return bytes(data)

    def write(self, data: BytesLike, address: int = 0) -> None:
        """Write whole sectors from sector ``address`` on, :attr:`access_sectors` at a time."""
        view = as_bytes(data)
        count, rest = divmod(view.nbytes, RPMB_SECTOR)
        if rest:
            raise ValueError(
                f"{view.nbytes} bytes are not whole sectors of {RPMB_SECTOR}: fill them up"
            )
        _check_range(address, count)
        self._need_key()
        with self._lock:
            counter = self._counter()
            step = self.access_sectors
            for at in range(0, count, step):
                piece = view[at * RPMB_SECTOR : (at + step) * RPMB_SECTOR].tobytes()
                request = self._frame(
                    RpmbMessage.AUTHENTICATED_DATA_WRITE,
                    piece,
                    addr=address + at,
                    scount=len(piece) // RPMB_SECTOR,
                    wcount=counter,
                )
                counter = self._written(request, "the authenticated data write")

    def configuration(self) -> RpmbDeviceConfigurationBlock:
        """Read the Device Configuration Block, which target 0 has for all."""
        with self._lock:
            return self._configuration()[0]

    def set_configuration(self, block: RpmbDeviceConfigurationBlock) -> None:
        """Write the Device Configuration Block.

        Boot Partition Protection stays enabled for ever once it is.
        """
        self._need_key()
        with self._lock:
            _, counter = self._configuration()
            request = self._frame(
                RpmbMessage.DEVICE_CONFIGURATION_BLOCK_WRITE,
                bytes(block),
                scount=1,
                wcount=counter,
            )
            self._written(request, "the Device Configuration Block write")

    # --- what they consist of -----------------------------------------------------------------

    def _need_key(self) -> None:
        if self._key is None:
            raise ValueError("writing needs the key of the target: give it to rpmb(key=)")

    def _frame(self, message: RpmbMessage, data: bytes = b"", **fields: Any) -> RpmbFrame:
        return RpmbFrame.build(data, message=message, target=self.target, **fields)

    def _mac(self, frame: bytes) -> bytes:
        assert self._key is not None
        return hmac.digest(self._key, frame[RPMB_SIGNED_FROM:], hashlib.sha256)

    def _counter(self) -> int:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        request = self._frame(RpmbMessage.READ_WRITE_COUNTER, nonce=nonce)
        return self._answer(request, "reading the write counter").header.wcount

    def _configuration(self) -> tuple[RpmbDeviceConfigurationBlock, int]:
        request = self._frame(
            RpmbMessage.DEVICE_CONFIGURATION_BLOCK_READ,
            nonce=secrets.token_bytes(_NONCE_BYTES),
            scount=1,
        )
        answer = self._answer(request, "the Device Configuration Block read", sectors=1)
        block = RpmbDeviceConfigurationBlock.from_bytes(bytes(answer.entries))
        return block, answer.header.wcount

    def _written(self, request: RpmbFrame, what: str) -> int:
        """Sign and send what writes; return the write counter that follows."""
        header = request.header.replace(mac=self._mac(bytes(request)))
        signed = RpmbFrame.from_bytes(bytes(header) + bytes(request.entries))
        counter: int = self._answer(signed, what, deferred=True).header.wcount
        if counter != header.wcount + 1:
            raise self._false(what, f"counts {counter} writes in place of {header.wcount + 1}")
        return counter

    def _answer(
        self,
        request: RpmbFrame,
        what: str,
        *,
        sectors: int = 0,
        deferred: bool = False,
        signed: bool = True,
    ) -> RpmbFrame:
        """Send a frame; return the answer once it is known for the target's own.

        ``deferred``: the result is to be asked for. Not ``signed``: the answer has no MAC.
        """
        self._send(request)
        if deferred:
            self._send(self._frame(RpmbMessage.READ_RESULT))
        raw = self._controller.security_receive(
            SecurityProtocol.NVME,
            RpmbFrameHeader.size + sectors * RPMB_SECTOR,
            specific=RPMB_SPSP,
            nvme_specific=self.target,
            force=self._force,
        )
        answer = RpmbFrame.from_bytes(raw)
        header = answer.header
        expected = int(request.header.message) << 8
        if int(header.message) != expected:
            message = int(header.message)
            raise self._false(what, f"is message {message:04x}h in place of {expected:04x}h")
        if header.result.status:
            raise self._refused(what, int(header.result.status), bool(header.result.wce))
        if bytes(header.nonce) != bytes(request.header.nonce):
            raise self._false(what, "has another nonce")
        if not signed:
            return answer
        if header.target != self.target:
            raise self._false(what, f"is of target {header.target}")
        if self._key and not hmac.compare_digest(bytes(header.mac), self._mac(raw)):
            raise self._false(what, "is not signed with the key that was given")
        return answer

    def _send(self, frame: RpmbFrame) -> None:
        self._controller.security_send(
            SecurityProtocol.NVME,
            bytes(frame),
            specific=RPMB_SPSP,
            nvme_specific=self.target,
            force=self._force,
        )

    @property
    def _name(self) -> str:
        return f"RPMB target {self.target} of {self._controller.name}"

    def _refused(self, what: str, status: int, expired: bool) -> RpmbError:
        text = RPMB_STATUS_TEXT.get(status, f"operation status {status:02x}h")
        remedy = _REMEDIES.get(RpmbOperationStatus(status)) if status in RPMB_STATUS_TEXT else None
        if status == RpmbOperationStatus.ADDRESS_FAILURE:
            remedy = f"the target has {self.sectors} sectors"
        parts = [f"{self._name}: {what} failed: {text}"]
        parts += ["the write counter has expired: it is read-only for good"] * expired
        parts += [remedy] if remedy else []
        return RpmbError("; ".join(parts), status, expired)

    def _false(self, what: str, how: str) -> RpmbError:
        return RpmbError(
            f"{self._name}: the answer to {what} {how}: it is not to be trusted; check the key, "
            "and what else uses the target"
        )


def checked_key(key: BytesLike) -> bytes:
    """Give a key's bytes. Raises ValueError for another length."""
    found = as_bytes(key).tobytes()
    if len(found) != KEY_BYTES:
        raise ValueError(f"a key of HMAC SHA-256 has {KEY_BYTES} bytes, not {len(found)}")
    return found


def unsupported(identify: IdentifyController, target: int) -> str | None:
    """Return why the controller has no such target; None if it has it."""
    says = identify.rpmbs
    if not says.nrpmbu:
        return "RPMBS bits 2:0 (Number of RPMB Units) are 0"
    if target >= says.nrpmbu:
        return f"RPMBS bits 2:0 (Number of RPMB Units) are {says.nrpmbu}, counted from target 0"
    if says.autm:
        return f"RPMBS bits 5:3 (Authentication Method) are {says.autm}, not 0, HMAC SHA-256"
    return None


def _check_range(address: int, sectors: int) -> None:
    if address < 0 or sectors < 1 or address + sectors > _MOST:
        raise ValueError(
            f"{sectors} sectors from {address} on: give an address and a count of sectors, which "
            "have 32 bits, and at least one sector"
        )
