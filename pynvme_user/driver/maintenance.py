"""What changes a whole device: format, sanitize, self-test, firmware (NVMe Base 2.0, 5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum

from pynvme_user.dma import BytesLike, as_bytes
from pynvme_user.driver.features import Features
from pynvme_user.errors import NvmeError, NvmeStatusError
from pynvme_user.spec.admin import (
    DeviceSelfTestCdw10,
    FormatCdw10,
    SanitizeAction,
    SanitizeCdw10,
    SecureErase,
    SelfTestCode,
)
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode
from pynvme_user.spec.logs import SanitizeLog, SanitizeOperationStatus, SelfTestLog
from pynvme_user.spec.management import (
    CommitAction,
    FirmwareCommitCdw10,
    FirmwareDownloadCdw10,
    FirmwareDownloadCdw11,
)
from pynvme_user.spec.status import CommandSpecificStatus

#: What a Format, and a firmware commit, may take where the caller does not say, in seconds.
_LONG = 600.0
#: How often what goes on in the background is asked for, in seconds.
_PAUSE_SECONDS = 0.5
#: Firmware is moved in pieces of this size, or of the controller's granularity if that is larger.
_PIECE = 4096
_GRANULE = 4096  # what FWUG counts


class Activation(Enum):
    """What has to happen before firmware that was committed runs."""

    NOTHING = "nothing: it is active, or was only stored"
    CONTROLLER_RESET = "a Controller Level Reset"
    SUBSYSTEM_RESET = "an NVM Subsystem Reset"
    CONVENTIONAL_RESET = "a conventional reset of the PCI function"


#: Statuses of a commit that was done all the same (Base 2.0, 5.12.1).
_ACTIVATIONS = {
    CommandSpecificStatus.FIRMWARE_NEEDS_CONTROLLER_RESET: Activation.CONTROLLER_RESET,
    CommandSpecificStatus.FIRMWARE_NEEDS_SUBSYSTEM_RESET: Activation.SUBSYSTEM_RESET,
    CommandSpecificStatus.FIRMWARE_NEEDS_CONVENTIONAL_RESET: Activation.CONVENTIONAL_RESET,
}


class Maintenance(Features):
    """Format NVM, Sanitize, Device Self-test, Firmware Image Download and Commit."""

    # --- Format NVM ---------------------------------------------------------------------------

    def format(
        self,
        nsid: int,
        lbaf: int = 0,
        *,
        extended: bool = False,
        protection: int = 0,
        protection_first: bool = False,
        erase: SecureErase = SecureErase.NONE,
        timeout: float = _LONG,
        force: bool = False,
    ) -> None:
        """Format a namespace, or all with :data:`NSID_ALL`: **its data is lost** (5.14).

        ``lbaf`` is the index of one of its formats (``identify.lbafs``). With metadata,
        ``extended`` puts it at each block's end, else it lies in a buffer of its own;
        ``protection`` is the type of protection information (0: none, 1 to 3), and
        ``protection_first`` puts that before the rest of the metadata. ``timeout`` is in seconds.
        Namespaces that were taken before have to be taken anew where the format is another.

        Raises as :meth:`admin`; NotSupportedError where the controller says that it has no such
        command, unless it is sent with ``force``.
        """
        self.check_supported(AdminOpcode.FORMAT_NVM, force)
        cdw10 = FormatCdw10.build(
            lbafl=lbaf & 15,
            lbafu=lbaf >> 4,
            mset=extended,
            pi=protection,
            pil=protection_first,
            ses=erase,
        )
        self.admin(AdminOpcode.FORMAT_NVM, nsid=nsid, cdw10=cdw10, timeout=timeout)

    # --- Sanitize -----------------------------------------------------------------------------

    def sanitize(
        self,
        action: SanitizeAction,
        *,
        passes: int = 1,
        pattern: int = 0,
        invert: bool = False,
        unrestricted: bool = False,
        no_deallocate: bool = False,
        force: bool = False,
    ) -> None:
        """Begin to sanitize the NVM subsystem: **all data of all namespaces is lost** (5.24).

        It goes on in the background, through resets and power cycles: :meth:`sanitize_progress`.
        ``passes`` (1 to 16) of ``pattern`` (32 bits) are an overwrite's, ``invert`` inverts it in
        between. ``unrestricted`` lets a failed one be left without one that succeeds. With
        ``no_deallocate`` blocks stay allocated. Raises as :meth:`format`.
        """
        self.check_supported(AdminOpcode.SANITIZE, force)
        if not 1 <= passes <= 16:
            raise ValueError(f"an overwrite has 1 to 16 passes, not {passes}")
        cdw10 = SanitizeCdw10.build(
            sanact=action,
            ause=unrestricted,
            owpass=passes & 15,
            oipbp=invert,
            ndas=no_deallocate,
        )
        self.admin(AdminOpcode.SANITIZE, cdw10=cdw10, cdw11=pattern, timeout=_LONG)

    def sanitize_progress(self, pause: float = _PAUSE_SECONDS) -> Iterator[float]:
        """Yield how much of the sanitize operation is done, from 0 to 1, until it has ended.

        It is asked for every ``pause`` seconds. Raises NvmeError where it failed.
        """
        while True:
            log = self.log(SanitizeLog, retain_event=True, force=True)
            match log.sstat.sos:
                case SanitizeOperationStatus.SANITIZING:
                    yield log.sprog / 0x10000
                    time.sleep(pause)
                case SanitizeOperationStatus.FAILED:
                    raise NvmeError(
                        f"{self._device.name}: the sanitize operation failed: begin it again, or "
                        "leave the failure by sanitize(SanitizeAction.EXIT_FAILURE_MODE), which "
                        "the controller takes where it was begun with unrestricted=True"
                    )
                case _:
                    yield 1.0
                    return

    # --- Device Self-test ---------------------------------------------------------------------

    def self_test(
        self,
        code: SelfTestCode = SelfTestCode.SHORT,
        nsid: int = NSID_ALL,
        *,
        parameter: int = 0,
        force: bool = False,
    ) -> None:
        """Begin a self-test of the controller and of all namespaces, of one, or with 0 of none.

        It goes on in the background: :meth:`self_test_progress`. ``SelfTestCode.ABORT`` ends one
        (5.9). ``parameter`` is for the vendor's own. Raises as :meth:`format`.
        """
        self.check_supported(AdminOpcode.DEVICE_SELF_TEST, force)
        cdw10 = DeviceSelfTestCdw10.build(stc=code)
        self.admin(AdminOpcode.DEVICE_SELF_TEST, nsid=nsid, cdw10=cdw10, cdw15=parameter)

    def self_test_progress(self, pause: float = _PAUSE_SECONDS) -> Iterator[float]:
        """Yield how much of the self-test is done, from 0 to 1, until it has ended.

        ``log(SelfTestLog).results[0]`` has then what came of it.
        """
        while True:
            log = self.log(SelfTestLog, force=True)
            if not log.cdsto.cdstos:
                yield 1.0
                return
            yield log.cdstc.cdstcs / 100
            time.sleep(pause)

    # --- firmware -----------------------------------------------------------------------------

    def firmware_download(
        self,
        image: BytesLike,
        *,
        offset: int = 0,
        piece: int | None = None,
        ignore_overlap: bool = False,
        progress: Callable[[int, int], object] | None = None,
        force: bool = False,
    ) -> None:
        """Move a firmware image, or a part of one, into the controller (5.1.9).

        In pieces of ``piece`` bytes, by default of what the controller asks for (FWUG), or 4 KiB.
        ``offset`` is where in the image it begins; all are multiples of 4. ``progress`` is called
        with the bytes moved so far, and all there are. With ``ignore_overlap`` it goes on where the
        controller says that a piece overlaps another. Raises as :meth:`format`.
        """
        self.check_supported(AdminOpcode.FIRMWARE_DOWNLOAD, force)
        data = as_bytes(image)
        if piece is None:
            fwug = self.identify.fwug
            piece = fwug * _GRANULE if 0 < fwug < 0xFF else _PIECE
            piece = max(4, min(piece, self.max_transfer))
        if not data.nbytes or any(number % 4 for number in (data.nbytes, offset, piece)):
            raise ValueError(
                f"firmware is moved by multiples of 4 bytes, not {data.nbytes} from {offset} on in "
                f"pieces of {piece}: pad the image"
            )
        for at in range(0, data.nbytes, piece):
            part = data[at : at + piece]
            try:
                self.admin(
                    AdminOpcode.FIRMWARE_DOWNLOAD,
                    buffer=part,
                    cdw10=FirmwareDownloadCdw10.build(numd=part.nbytes // 4 - 1),
                    cdw11=FirmwareDownloadCdw11.build(ofst=(offset + at) // 4),
                )
            except NvmeStatusError as error:
                overlaps = error.status.code() is CommandSpecificStatus.OVERLAPPING_RANGE
                if not (ignore_overlap and overlaps):
                    raise
            if progress is not None:
                progress(at + part.nbytes, data.nbytes)

    def firmware_commit(
        self,
        slot: int = 0,
        action: CommitAction = CommitAction.REPLACE_AND_ACTIVATE_AT_RESET,
        *,
        boot_partition: int = 0,
        timeout: float = _LONG,
        force: bool = False,
    ) -> Activation:
        """Put the downloaded image into a slot (0: the controller chooses), or activate a slot's.

        Returns what has to happen before it runs (5.1.8). ``timeout`` is in seconds. Raises as
        :meth:`format`.
        """
        self.check_supported(AdminOpcode.FIRMWARE_COMMIT, force)
        cdw10 = FirmwareCommitCdw10.build(fs=slot, ca=action, bpid=boot_partition)
        try:
            self.admin(AdminOpcode.FIRMWARE_COMMIT, cdw10=cdw10, timeout=timeout)
        except NvmeStatusError as error:
            code = error.status.code()
            if isinstance(code, CommandSpecificStatus) and code in _ACTIVATIONS:
                return _ACTIVATIONS[code]
            raise
        if action == CommitAction.REPLACE_AND_ACTIVATE_AT_RESET or (
            action == CommitAction.ACTIVATE_AT_RESET
        ):
            return Activation.CONTROLLER_RESET
        return Activation.NOTHING

    def firmware_update(
        self,
        image: BytesLike,
        slot: int = 0,
        action: CommitAction = CommitAction.REPLACE_AND_ACTIVATE_AT_RESET,
        *,
        progress: Callable[[int, int], object] | None = None,
        force: bool = False,
    ) -> Activation:
        """Download a firmware image and commit it: both of the above."""
        self.firmware_download(image, progress=progress, force=force)
        return self.firmware_commit(slot, action, force=force)
