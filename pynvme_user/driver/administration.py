"""Security, directives, capacity, lockdown, management in band, telemetry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from pynvme_user.dma import PAGE, BytesLike, as_bytes
from pynvme_user.driver.features import Features
from pynvme_user.driver.rpmb import Rpmb, unsupported
from pynvme_user.errors import NotSupportedError
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode
from pynvme_user.spec.directives import DirectiveCdw11
from pynvme_user.spec.logs import (
    LbaStatusAction,
    LockdownScope,
    LogId,
    TelemetryControllerHeader,
    TelemetryHostHeader,
    TelemetryHostLsp,
    telemetry_length,
)
from pynvme_user.spec.management import (
    CapacityManagementCdw10,
    CapacityManagementResult,
    CapacityOperation,
    GetLbaStatusCdw13,
    LbaStatusList,
    LockdownCdw10,
    LockdownInterface,
)
from pynvme_user.spec.security import SecurityCdw10

#: Telemetry is written to its file in pieces of this size.
_PIECE = 1 << 20


class Writer(Protocol):
    """A binary file that is open to be written."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""


class Administration(Features):
    """Admin commands of special kinds of controllers.

    Each raises NotSupportedError where the controller says that it has no such command, unless it
    is sent with ``force``; and as :meth:`admin`.
    """

    _rpmb_lock: threading.Lock

    # --- security -----------------------------------------------------------------------------

    def security_send(
        self,
        protocol: int,
        data: BytesLike,
        *,
        specific: int = 0,
        nvme_specific: int = 0,
        nsid: int = 0,
        force: bool = False,
    ) -> None:
        """Send data of a security protocol, such as TCG's (5.1.24).

        ``specific`` is the protocol's own field (SPSP, 16 bits), ``nvme_specific`` NSSF: with the
        protocol EAh the target of a Replay Protected Memory Block.
        """
        self.check_supported(AdminOpcode.SECURITY_SEND, force)
        array = as_bytes(data)
        self.admin(
            AdminOpcode.SECURITY_SEND,
            nsid=nsid,
            buffer=array if array.nbytes else None,
            cdw10=_security(protocol, specific, nvme_specific),
            cdw11=array.nbytes,
        )

    def security_receive(
        self,
        protocol: int,
        length: int,
        *,
        specific: int = 0,
        nvme_specific: int = 0,
        nsid: int = 0,
        force: bool = False,
    ) -> bytes:
        """Receive up to ``length`` bytes of a security protocol (5.1.23); the rest is zeroes."""
        self.check_supported(AdminOpcode.SECURITY_RECEIVE, force)
        buffer = self._device.alloc(length)
        self.admin(
            AdminOpcode.SECURITY_RECEIVE,
            nsid=nsid,
            buffer=buffer,
            cdw10=_security(protocol, specific, nvme_specific),
            cdw11=length,
        )
        return buffer.tobytes()

    def rpmb(self, target: int = 0, key: BytesLike | None = None, *, force: bool = False) -> Rpmb:
        """Reach a Replay Protected Memory Block, by its target's number (Base 2.0, 8.18).

        ``key`` is the target's, of 32 bytes: it is needed to write, and verifies what is read.
        Raises NotSupportedError where Identify Controller (RPMBS) says that there is no such
        target, or that it is signed otherwise than by HMAC SHA-256.
        """
        if not 0 <= target <= 0xFF:
            raise ValueError(f"an RPMB target is a number from 0 to 6, not {target}")
        self.check_supported(AdminOpcode.SECURITY_SEND, force)
        missing = None if force else unsupported(self.identify, target)
        if missing:
            raise NotSupportedError(f"{self.name} has no RPMB target {target}: {missing}")
        return Rpmb(self, target, key, self._rpmb_lock, force)

    # --- directives ---------------------------------------------------------------------------

    def directive_send(
        self,
        directive: int,
        operation: int,
        data: BytesLike | None = None,
        *,
        nsid: int = NSID_ALL,
        specific: int = 0,
        cdw12: int = 0,
        force: bool = False,
    ) -> int:
        """Send an operation of a directive (5.1.7); return dword 0 of the completion.

        ``specific`` is DSPEC: of streams the stream's id.
        """
        self.check_supported(AdminOpcode.DIRECTIVE_SEND, force)
        length = 0 if data is None else as_bytes(data).nbytes
        return self.admin(
            AdminOpcode.DIRECTIVE_SEND,
            nsid=nsid,
            buffer=data if length else None,
            cdw10=max(length // 4 - 1, 0),
            cdw11=DirectiveCdw11.build(doper=operation, dtype=directive, dspec=specific),
            cdw12=cdw12,
        ).result

    def directive_receive(
        self,
        directive: int,
        operation: int,
        length: int = PAGE,
        *,
        nsid: int = NSID_ALL,
        specific: int = 0,
        cdw12: int = 0,
        force: bool = False,
    ) -> tuple[int, bytes]:
        """Receive what an operation of a directive brings (5.1.6): dword 0, and the data.

        With a ``length`` of 0 there is no data, as of Allocate Resources of streams.
        """
        self.check_supported(AdminOpcode.DIRECTIVE_RECEIVE, force)
        buffer = self._device.alloc(length) if length else None
        done = self.admin(
            AdminOpcode.DIRECTIVE_RECEIVE,
            nsid=nsid,
            buffer=buffer,
            cdw10=max(length // 4 - 1, 0),
            cdw11=DirectiveCdw11.build(doper=operation, dtype=directive, dspec=specific),
            cdw12=cdw12,
        )
        return done.result, b"" if buffer is None else buffer.tobytes()

    # --- controllers and capacity -------------------------------------------------------------

    def capacity_management(
        self,
        operation: CapacityOperation,
        element: int = 0,
        *,
        capacity: int = 0,
        force: bool = False,
    ) -> int:
        """Create or delete an endurance group or an NVM set, or select a configuration (5.1.3).

        ``element`` is its id, or the group that an NVM set is created in; ``capacity`` is in bytes.
        Returns the id of what was created.
        """
        self.check_supported(AdminOpcode.CAPACITY_MANAGEMENT, force)
        done = self.admin(
            AdminOpcode.CAPACITY_MANAGEMENT,
            cdw10=CapacityManagementCdw10.build(oper=operation, elid=element),
            cdw11=capacity & 0xFFFFFFFF,
            cdw12=capacity >> 32,
        )
        return CapacityManagementResult(done.result).celid

    def lockdown(
        self,
        what: int,
        scope: LockdownScope = LockdownScope.ADMIN_COMMANDS,
        *,
        prohibit: bool = True,
        interface: LockdownInterface = LockdownInterface.ADMIN_QUEUE,
        uuid_index: int = 0,
        force: bool = False,
    ) -> None:
        """Prohibit an opcode or a feature, ``what``, up to the next power cycle; or allow it
        (5.1.15).
        """
        self.check_supported(AdminOpcode.LOCKDOWN, force)
        self.admin(
            AdminOpcode.LOCKDOWN,
            cdw10=LockdownCdw10.build(scp=scope, prhbt=prohibit, ifc=interface, ofi=what),
            cdw14=uuid_index,
        )

    def lba_status(
        self,
        nsid: int,
        lba: int = 0,
        blocks: int = 0,
        *,
        action: LbaStatusAction = LbaStatusAction.TRACKED,
        length: int = PAGE,
        timeout: float | None = None,
        force: bool = False,
    ) -> LbaStatusList:
        """Ask which of these blocks may not be readable, or are allocated (NVM Command Set 4.2.1).

        ``blocks`` 0 is all to the namespace's end; ``length`` is the bytes of the answer;
        ``timeout`` is in seconds, by default as of every command.
        """
        self.check_supported(AdminOpcode.GET_LBA_STATUS, force)
        buffer = self._device.alloc(length)
        self.admin(
            AdminOpcode.GET_LBA_STATUS,
            nsid=nsid,
            buffer=buffer,
            cdw10=lba & 0xFFFFFFFF,
            cdw11=lba >> 32,
            cdw12=length // 4 - 1,
            cdw13=GetLbaStatusCdw13.build(rl=blocks, atype=action),
            timeout=timeout,
        )
        return LbaStatusList.from_bytes(buffer.tobytes())

    def keep_alive(self) -> None:
        """Tell the controller that this host is alive (5.1.14)."""
        self.admin(AdminOpcode.KEEP_ALIVE)

    # --- NVMe-MI in band ----------------------------------------------------------------------

    def management_send(
        self,
        opcode: int,
        data: BytesLike | None = None,
        *,
        message: int = 0,
        dwords: tuple[int, int] = (0, 0),
        nsid: int = 0,
        force: bool = False,
    ) -> int:
        """Send a request of the NVMe Management Interface (5.1.19); return dword 0."""
        self.check_supported(AdminOpcode.NVME_MI_SEND, force)
        return self.admin(
            AdminOpcode.NVME_MI_SEND,
            nsid=nsid,
            buffer=data,
            cdw10=message,
            cdw11=opcode,
            cdw12=dwords[0],
            cdw13=dwords[1],
        ).result

    def management_receive(
        self,
        opcode: int,
        length: int = PAGE,
        *,
        message: int = 0,
        dwords: tuple[int, int] = (0, 0),
        nsid: int = 0,
        force: bool = False,
    ) -> tuple[int, bytes]:
        """Receive what a request of the Management Interface brings (5.1.18): dword 0, the data."""
        self.check_supported(AdminOpcode.NVME_MI_RECEIVE, force)
        buffer = self._device.alloc(length) if length else None
        done = self.admin(
            AdminOpcode.NVME_MI_RECEIVE,
            nsid=nsid,
            buffer=buffer,
            cdw10=message,
            cdw11=opcode,
            cdw12=dwords[0],
            cdw13=dwords[1],
        )
        return done.result, b"" if buffer is None else buffer.tobytes()

    # --- telemetry ----------------------------------------------------------------------------

    def telemetry(
        self,
        file: Writer,
        *,
        area: int = 3,
        controller_initiated: bool = False,
        create: bool = True,
        progress: Callable[[int, int], object] | None = None,
        force: bool = False,
    ) -> int:
        """Write a telemetry log to a binary file, up to data area 1 to 4; return its bytes.

        The host-initiated one, made anew unless ``create`` is False, or the controller-initiated
        one that there is (5.1.12.1.8 and 9). ``progress`` is called with the bytes written so far,
        and all there are. Raises ValueError for another area; NotSupportedError.
        """
        lid = LogId.TELEMETRY_CONTROLLER if controller_initiated else LogId.TELEMETRY_HOST
        kind: type[TelemetryControllerHeader] | type[TelemetryHostHeader] = (
            TelemetryControllerHeader if controller_initiated else TelemetryHostHeader
        )
        lsp = TelemetryHostLsp.build(cthid=create and not controller_initiated)
        header = self.log(kind, lid=lid, lsp=lsp, retain_event=True, force=force)
        total = telemetry_length(header, area)
        file.write(bytes(header))
        done = kind.size
        while done < total:
            if progress is not None:
                progress(done, total)
            length = min(_PIECE, total - done)
            file.write(self.log_page(lid, length, offset=done, retain_event=True))
            done += length
        if controller_initiated:
            self.log_page(lid, kind.size)  # which lets the next be announced
        if progress is not None:
            progress(done, total)
        return total


def _security(protocol: int, specific: int, nvme_specific: int) -> SecurityCdw10:
    return SecurityCdw10.build(
        secp=protocol, spsp1=specific >> 8, spsp0=specific & 0xFF, nssf=nvme_specific
    )
