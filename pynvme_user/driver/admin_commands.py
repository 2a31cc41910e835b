"""Admin commands as users send them: raw ones here, what is made of them in the modules above."""

from __future__ import annotations

from typing import Unpack

from pynvme_user.dma import BytesLike
from pynvme_user.driver.admin import AdminQueue, AdminRequest, CommandFields, reachable
from pynvme_user.driver.completion import Completion
from pynvme_user.driver.device import Device
from pynvme_user.errors import NotSupportedError
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.identify_controller import IdentifyController
from pynvme_user.spec.support import unsupported_admin


class AdminCommands:
    """What a :class:`Controller` does by its admin queue. Thread-safe."""

    _device: Device
    _commands: AdminQueue

    @property
    def identify(self) -> IdentifyController:
        """What it says of itself, as of the last reset (Base 2.0, Identify CNS 01h)."""
        return self._device.identify

    @property
    def name(self) -> str:
        """The device's name."""
        return self._device.name

    @property
    def max_transfer(self) -> int:
        """Bytes that one command carries."""
        return self._device.max_transfer

    def admin(
        self,
        opcode: int,
        *,
        buffer: BytesLike | None = None,
        timeout: float | None = None,
        **fields: Unpack[CommandFields],
    ) -> Completion:
        """Run an admin command and wait for it.

        ``fields`` are the command's own (``nsid``, ``cdw10``, ...), 0 where not given. ``buffer``
        is any bytes-like of up to :attr:`max_transfer` bytes, writable where the command's data
        comes from the controller. Raises NvmeStatusError for an error status, NvmeTimeoutError
        once the command was given up, DeviceRemovedError.
        """
        device = self._device
        if not device.usable:
            device.check_open()
        command = SQE.build(opc=opcode, **fields)
        memory, copy_back = reachable(device, command, buffer)
        done = self._commands.run(command, memory, timeout)
        copy_back()
        return done

    def admin_async(
        self,
        opcode: int,
        *,
        buffer: BytesLike | None = None,
        timeout: float | None = None,
        **fields: Unpack[CommandFields],
    ) -> AdminRequest:
        """Submit an admin command and return at once; as :meth:`admin`.

        Any number may be under way: the queue has 63, and this waits where it is full. ``timeout``
        is what this command may take, in seconds, before it is aborted; ``math.inf`` suits an
        Asynchronous Event Request, which may never end. Data from the controller is in ``buffer``
        once the request has ended.
        """
        self._device.check_open()
        command = SQE.build(opc=opcode, **fields)
        memory, copy_back = reachable(self._device, command, buffer)
        return self._commands.submit(command, memory, timeout, lambda _: copy_back())

    def abort(self, sqid: int, cid: int) -> bool:
        """Ask for a command's abort (Base 2.0, section 5.1).

        True if the controller says that it aborted it; its completion, with the status
        ABORTED_BY_REQUEST, still comes on its queue pair. False if it did not, or did not answer
        and was reset.
        """
        return self._commands.abort(sqid, cid)

    def check_supported(self, opcode: int, force: bool = False) -> None:
        """Raise NotSupportedError if the controller says that it has no such admin command.

        Identify's optional commands tell (OACS and others), and the Commands Supported and Effects
        log where there is one. ``force`` lets it pass.
        """
        if force:
            return
        if missing := unsupported_admin(self.identify, opcode):
            name = AdminOpcode(opcode).name.replace("_", " ").title()
            raise NotSupportedError(f"{self.name} does not support {name}: {missing}")
