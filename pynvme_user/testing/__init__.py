"""A software NVMe controller, in C: for tests and benchmarks of the driver, and of what uses it.

``nvme.open("soft:")`` is one in this process; what it does wrong is ordered of a
:class:`SoftDevice`: see :mod:`pynvme_user.testing.faults`.
"""

from pynvme_user.testing import faults
from pynvme_user.testing.device import Counts, SoftDevice
from pynvme_user.testing.faults import Command, Outcome, Rule

__all__ = ["Command", "Counts", "Outcome", "Rule", "SoftDevice", "faults"]
