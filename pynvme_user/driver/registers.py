"""The controller's registers, read and written by their names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pynvme_user import owned
from pynvme_user.driver.names import open_transport
from pynvme_user.errors import DeviceRemovedError
from pynvme_user.spec.fields import Register
from pynvme_user.spec.registers import REGISTERS, VS
from pynvme_user.transport.base import Properties

RegisterT = TypeVar("RegisterT", bound=Register)


class Registers:
    """The controller's properties (Base 2.0, section 3.1.3), read when they are asked for.

    ``registers.cap.mqes`` reads CAP and gives one field of it.
    """

    _types = {register.__name__.lower(): register for register in REGISTERS}

    def __init__(self, name: str, properties: Properties) -> None:
        self._name = name
        self._properties = properties
        #: Held while a register is accessed, and by whoever takes the mapping away.
        self.lock = threading.RLock()
        owned.register(self)

    def forked(self, owner: int) -> None:
        """Have a lock that nobody holds, in a child of process ``owner``."""
        self.lock = threading.RLock()

    def read(self, register: type[RegisterT]) -> RegisterT:
        """Read a register.

        Raises DeviceRemovedError if it reads all ones and so does VS, which never does.
        """
        with self.lock:
            value = self._properties.read(self._offset(register), register.width // 8)
            gone = value == (1 << register.width) - 1 and self._gone()
        if gone:
            raise DeviceRemovedError("the device is gone: its registers read all ones")
        return register(value)

    def _gone(self) -> bool:
        return self._properties.read(self._offset(VS), 4) == 0xFFFF_FFFF

    def write(self, register: Register) -> None:
        """Write a register."""
        with self.lock:
            self._properties.write(self._offset(type(register)), register.width // 8, int(register))

    @staticmethod
    def _offset(register: type[Register]) -> int:
        if register.offset is None:
            raise TypeError(f"{register.__name__} is no controller property")
        return register.offset

    def __getattr__(self, name: str) -> Any:
        try:
            register = self._types[name]
        except KeyError:
            raise AttributeError(f"there is no register {name}") from None
        return self.read(register)

    def __repr__(self) -> str:
        return f"<Registers of {self._name}>"  # none of which is read for it

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._types]

    def __iter__(self) -> Iterator[Register]:
        """Read every register, in the order of their offsets."""
        return (self.read(register) for register in REGISTERS)


@contextmanager
def open_registers(name: str) -> Iterator[Registers]:
    """Open a device for its registers alone, also where its controller does not come up.

    Nothing is written to them, and no command is sent. Raises DeviceNameError, DeviceAccessError,
    DeviceBusyError.
    """
    transport = open_transport(name)
    try:
        yield Registers(transport.name, transport.properties)
    finally:
        transport.close()
