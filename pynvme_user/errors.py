"""Every exception of the driver. The root is :class:`NvmeError`; each message names the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynvme_user.spec.status import Status


class NvmeError(Exception):
    """Root of everything this package raises for a device, a transfer or its set-up.

    Each can be pickled and copied, and equals its copy.
    """

    def __reduce__(self) -> tuple[object, ...]:
        # Not by a call of the class: what its __init__ takes are not the args that are kept.
        return _remake, (type(self), self.args, self.__dict__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NvmeError) or type(other) is not type(self):
            return NotImplemented
        return (self.args, self.__dict__) == (other.args, other.__dict__)

    def __hash__(self) -> int:
        return hash((type(self), self.args))


def _remake(kind: type[NvmeError], args: tuple[object, ...], state: dict[str, Any]) -> NvmeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class DeviceNameError(NvmeError, ValueError):
    """The device name does not parse: a mistake in the call, not in the device."""


class DeviceAccessError(NvmeError):
    """The device is not there or cannot be opened; the message says what would mend it."""


class DeviceBusyError(NvmeError):
    """Another user has the device.

    ``holder`` is the process id that holds it, or ``None`` where the kernel does not tell.
    """

    def __init__(self, message: str, holder: int | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class ClosedError(NvmeError):
    """The controller or the queue pair is closed, or was closed while the call ran.

    Of a command that had been submitted by then the message says "outcome unknown": its DMA has
    stopped, but whether the device executed it cannot be told.
    """


class ForkedError(NvmeError):
    """A forked child used what its parent opened. ``owner`` is the process id of who did."""

    def __init__(self, device: str, owner: int) -> None:
        super().__init__(device, owner)
        self.device = device
        self.owner = owner

    def __str__(self) -> str:
        return f"{self.device} was opened by process {self.owner}: open it here"


class NamespaceChangedError(NvmeError):
    """The namespace is not what it was when it was identified, or may not be any more.

    Raised by a Namespace of another format, or not active any more, for good; and by a vector or
    a benchmark that a command came across which may change namespaces, such as Format NVM.
    """


class NotSupportedError(NvmeError):
    """The controller says that it has no such command: nothing was sent. ``force`` sends it."""


class PartitionTableError(NvmeError):
    """A GUID Partition Table is damaged, and so is its backup, or what it says cannot be."""


class TensorFileError(NvmeError):
    """The header of a file of tensors is damaged, or what it says cannot be."""


class DmaError(NvmeError):
    """DMA memory could not be had or mapped, or an address is not mapped for its whole length."""


class DeviceRemovedError(NvmeError):
    """The device is gone: a register read all ones, or the process that emulates it ended."""


class ControllerFatalError(NvmeError):
    """CSTS.CFS is set, or the controller broke the protocol (an unknown CID, a wrong queue)."""


class ControllerWarning(UserWarning):
    """The controller refused, or did not end, what can be done without; the text says what."""


class UnsafeAccessWarning(UserWarning):
    """The device is used without an IOMMU; the text says what that risks. Given once."""


class QueueFullError(NvmeError):
    """As many commands as the queue pair's depth are outstanding: poll before submitting more."""


class ProtectionError(NvmeError):
    """Protection information in memory that is not as expected: :meth:`Protection.check`.

    ``block`` counts from the first block that was checked, ``part`` is what differs ("guard",
    "application tag", "storage tag" or "reference tag"), ``expected`` and ``found`` its values.
    """

    def __init__(self, block: int, part: str, expected: int, found: int) -> None:
        super().__init__(
            f"the {part} of block {block} is {found:#x} in place of {expected:#x}: the data or its "
            "protection information changed on the way, or belongs elsewhere; read it again"
        )
        self.block = block
        self.part = part
        self.expected = expected
        self.found = found


class RpmbError(NvmeError):
    """A Replay Protected Memory Block target did not do it, or its answer is not to be trusted.

    ``result`` is its operation status (NVMe Base 2.0, 8.18), such as 2 for an authentication
    failure; None where the answer is not to be trusted. ``expired``: it cannot be written any more.
    """

    def __init__(self, message: str, result: int | None = None, expired: bool = False) -> None:
        super().__init__(message)
        self.result = result
        self.expired = expired


class NvmeTimeoutError(NvmeError, TimeoutError):
    """A wait passed its deadline. Raised for a command only once its DMA is provably stopped."""


class NvmeStatusError(NvmeError):
    """A command completed with an error status (NVMe Base 2.0, section 3.3.3.2.1).

    ``status`` is the whole status field; ``sct``, ``sc``, ``dnr`` and ``more`` are its parts.
    ``command`` names the command, e.g. ``"Read (opcode 0x02, nsid 1)"``; ``reason`` is what this
    driver knows of it besides.
    """

    def __init__(self, status: Status, command: str, reason: str = "") -> None:
        what = f"{command} failed: {status.text} (status {int(status):#06x})"
        hint = "" if status.dnr else "; it may succeed if it is tried again"
        super().__init__(f"{what}: {reason}{hint}" if reason else f"{what}{hint}")
        self.status = status
        self.command = command
        self.reason = reason

    @property
    def sct(self) -> int:
        """Status code type."""
        return self.status.sct

    @property
    def sc(self) -> int:
        """Status code."""
        return self.status.sc

    @property
    def name(self) -> str:
        """Symbolic name of the status."""
        return self.status.name

    @property
    def dnr(self) -> bool:
        """Do Not Retry: the same command would fail again."""
        return bool(self.status.dnr)

    @property
    def more(self) -> bool:
        """More information is in the Error Information log page."""
        return bool(self.status.m)
