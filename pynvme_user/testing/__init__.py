"""A software NVMe controller, in C: for tests and benchmarks of the driver, and of what uses it.

``nvme.open("soft:")`` is one in this process; what it does wrong is ordered of a
:class:`SoftDevice`: see :mod:`pynvme_user.testing.faults`. Fixtures for pytest are in
:mod:`pynvme_user.testing.plugin`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynvme_user.testing import faults
    from pynvme_user.testing.device import Counts, SoftDevice
    from pynvme_user.testing.faults import Command, Outcome, Rule

#: Where the names are. Whoever runs pytest imports this package, and may want none of it.
_HOMES = {
    "Command": "faults",
    "Counts": "device",
    "Outcome": "faults",
    "Rule": "faults",
    "SoftDevice": "device",
}

__all__ = ["Command", "Counts", "Outcome", "Rule", "SoftDevice", "faults"]

if not TYPE_CHECKING:  # which would believe that there is every name

    def __getattr__(name: str) -> Any:
        """Import a name when it is first asked for (PEP 562)."""
        if name == "faults":
            return import_module(f"{__name__}.faults")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
