"""A Replay Protected Memory Block target (NVMe Base 2.0, 8.18)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from pynvme_user.spec.security import (
    RPMB_SECTOR,
    RPMB_SIGNED_FROM,
    RpmbFrame,
    RpmbFrameHeader,
    RpmbMessage,
    RpmbOperationStatus,
    RpmbResult,
)

SIZE = 128 << 10
#: Sectors of one access.
ACCESS = 4
_SECTORS = SIZE // RPMB_SECTOR
_LAST_COUNT = 0xFFFFFFFF
_M, _S = RpmbMessage, RpmbOperationStatus
_WRITES = (_M.AUTHENTICATED_DATA_WRITE, _M.DEVICE_CONFIGURATION_BLOCK_WRITE)


@dataclass
class Rpmb:
    """The target's contents, and the answer that Security Receive fetches."""

    key: bytes | None = None
    counter: int = 0
    data: bytearray = field(default_factory=lambda: bytearray(SIZE))
    configuration: bytes = bytes(RPMB_SECTOR)
    answer: bytes = b""
    #: Of what was programmed or written, until its result is asked for.
    result: bytes = b""

    def take(self, raw: bytes) -> None:
        """Do what a frame asks for."""
        frame = RpmbFrame.from_bytes(raw)
        message = int(frame.header.message)
        self.answer = b""
        if message == _M.READ_RESULT:
            self.answer, self.result = self.result, b""
        elif message == _M.AUTHENTICATION_KEY_PROGRAM:
            self.result = self._program(frame.header)
        elif message in _WRITES:
            self.result = self._signed(frame.header, self._write(frame, raw))
        else:
            status, data = self._read(frame.header)
            self.answer = self._signed(frame.header, status, data)

    def _program(self, header: RpmbFrameHeader) -> bytes:
        status = _S.SUCCESSFUL if self.key is None else _S.GENERAL_FAILURE
        if self.key is None:
            self.key = bytes(header.mac)
        answer = RpmbFrameHeader.build(
            message=int(header.message) << 8, result=RpmbResult.build(status=status)
        )
        return bytes(answer)

    def _write(self, frame: RpmbFrame, raw: bytes) -> RpmbOperationStatus:
        header, data = frame.header, bytes(frame.entries)
        configures = header.message == _M.DEVICE_CONFIGURATION_BLOCK_WRITE
        if self.key is None:
            return _S.KEY_NOT_PROGRAMMED
        if self.counter == _LAST_COUNT:
            return _S.WRITE_FAILURE
        if not configures and not _fits(header):
            return _S.ADDRESS_FAILURE
        if not hmac.compare_digest(bytes(header.mac), self._mac(raw)):
            return _S.AUTHENTICATION_FAILURE
        if header.wcount != self.counter:
            return _S.COUNTER_FAILURE
        if len(data) != header.scount * RPMB_SECTOR:
            return _S.GENERAL_FAILURE
        if configures:
            if self.configuration[0] & 1 and not data[0] & 1:
                return _S.INVALID_DEVICE_CONFIGURATION_BLOCK  # it is enabled for good
            self.configuration = data
        else:
            at = header.addr * RPMB_SECTOR
            self.data[at : at + len(data)] = data
        self.counter += 1
        return _S.SUCCESSFUL

    def _read(self, header: RpmbFrameHeader) -> tuple[RpmbOperationStatus, bytes]:
        if self.key is None:
            return _S.KEY_NOT_PROGRAMMED, b""
        match header.message:
            case _M.READ_WRITE_COUNTER:
                return _S.SUCCESSFUL, b""
            case _M.DEVICE_CONFIGURATION_BLOCK_READ:
                return _S.SUCCESSFUL, self.configuration
            case _M.AUTHENTICATED_DATA_READ if _fits(header):
                at = header.addr * RPMB_SECTOR
                return _S.SUCCESSFUL, bytes(self.data[at : at + header.scount * RPMB_SECTOR])
            case _M.AUTHENTICATED_DATA_READ:
                return _S.ADDRESS_FAILURE, b""
        return _S.GENERAL_FAILURE, b""

    def _signed(
        self, header: RpmbFrameHeader, status: RpmbOperationStatus, data: bytes = b""
    ) -> bytes:
        answer = RpmbFrameHeader.build(
            target=header.target,
            nonce=header.nonce,
            wcount=self.counter,
            addr=header.addr,
            scount=header.scount,
            result=RpmbResult.build(status=status, wce=self.counter == _LAST_COUNT),
            message=(int(header.message) << 8) & 0xFFFF,
        )
        if self.key is not None:
            answer = answer.replace(mac=self._mac(bytes(answer) + data))
        return bytes(answer) + data

    def _mac(self, raw: bytes) -> bytes:
        return hmac.digest(self.key or b"", raw[RPMB_SIGNED_FROM:], hashlib.sha256)


def _fits(header: RpmbFrameHeader) -> bool:
    return 0 < header.scount <= ACCESS and header.addr + header.scount <= _SECTORS
