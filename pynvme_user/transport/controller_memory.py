"""The Controller Memory Buffer: memory of the controller's own, in a BAR (Base 2.1, 8.2.1).

Submission queues and data that lie there are nearer to the controller than the host's memory: it
fetches them without a turn on the bus. Before NVMe 1.4 it is always there, at the BAR's address;
since then the host says at which address the controller takes it for its own (CMBMSC).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, TypeVar

from pynvme_user.access.base import Access, RegionIndex
from pynvme_user.dma import DeviceMemory, DmaBuffer, DmaPool
from pynvme_user.errors import NotSupportedError, NvmeError
from pynvme_user.spec.fields import Register
from pynvme_user.spec.registers import CAP, CMBLOC, CMBMSC, CMBSTS, CMBSZ

RegisterT = TypeVar("RegisterT", bound=Register)

#: What of a queue pair may lie there, by the names of CMBSZ's fields.
QUEUE_PARTS = {
    "sqs": "submission queues",
    "cqs": "completion queues",
    "lists": "PRP lists",
}
_NAME = "the Controller Memory Buffer"


class RegisterFile(Protocol):
    """The controller's registers, by their types."""

    def read(self, register: type[RegisterT]) -> RegisterT:
        """Read a register."""

    def write(self, register: Register) -> None:
        """Write a register."""


class ControllerMemoryBuffer:
    """The controller's own memory, from which :meth:`alloc` takes. Until the controller is closed.

    ``cmbloc`` and ``cmbsz`` are its registers: ``cmbsz.rds`` and ``cmbsz.wds`` say whether data of
    reads and of writes may lie there, ``cmbsz.sqs`` whether submission queues may. What lies there
    is undefined at first, and after a reset. The device reaches it at ``iova``.
    """

    def __init__(self, access: Access, memory: DmaPool, registers: RegisterFile) -> None:
        #: Whether it is where registers say; else it always has its BAR's address.
        self._placed = bool(registers.read(CAP).cmbs)
        if self._placed:
            registers.write(CMBMSC.build(cre=1))
        self.cmbsz, self.cmbloc = registers.read(CMBSZ), registers.read(CMBLOC)
        if not self.cmbsz.sz:
            raise NotSupportedError(
                f"{access.name} has no Controller Memory Buffer (CAP.CMBS, CMBSZ): use buffers "
                "from Controller.alloc()"
            )
        unit = 12 + 4 * self.cmbsz.szu
        index, offset = RegionIndex(self.cmbloc.bir), self.cmbloc.ofst << unit
        region = access.map_bar(index, offset, self.cmbsz.sz << unit)
        self.iova = region.iova
        self.nbytes = region.length
        self._memory = memory
        self._name = access.name
        self.enable(registers)
        own = DeviceMemory(
            _NAME, bool(self.cmbsz.rds), bool(self.cmbsz.wds), bool(self.cmbloc.cdmmms)
        )
        self._extents = memory.add(region, own)

    @property
    def free(self) -> int:
        """Bytes that nobody has, perhaps not in one piece."""
        return sum(length for _, length in self._extents.free)

    def alloc(self, length: int) -> DmaBuffer:
        """Allocate ``length`` bytes, page-aligned, with whatever they hold; a buffer as any other.

        A command whose data may not lie there (CMBSZ.RDS, WDS) is refused with a DmaError. Raises
        DmaError where there is no room.
        """
        return self._memory.alloc(length, zero=False, within=self._extents)

    def check(self, parts: Collection[str]) -> None:
        """Raise NotSupportedError where those parts of a queue pair may not lie there."""
        for part in parts:
            if part in QUEUE_PARTS and not getattr(self.cmbsz, part):
                raise NotSupportedError(
                    f"{self._name} lets no {QUEUE_PARTS[part]} lie in {_NAME} (CMBSZ."
                    f"{part.upper()} is 0): leave them out of cmb"
                )
        if "lists" in parts and "sqs" not in parts and not self.cmbloc.cdpcils:
            raise NotSupportedError(
                f"{self._name} wants the submission queue in {_NAME} where PRP lists lie there "
                '(CMBLOC.CDPCILS is 0): add "sqs" to cmb'
            )

    def enable(self, registers: RegisterFile) -> None:
        """Tell the controller at which address it is; for each enable. Raises NvmeError."""
        if not self._placed:
            return
        registers.write(CMBMSC.build(cre=1, cmse=1, cba=self.iova >> 12))
        if registers.read(CMBSTS).cbai:
            registers.write(CMBMSC(0))
            raise NvmeError(
                f"{self._name} does not take {self.iova:#x} as the address of {_NAME} "
                "(CMBSTS.CBAI): use buffers from Controller.alloc()"
            )


def forget_memory_buffer(registers: RegisterFile) -> None:
    """Let no address lead to it; which whoever had the controller before may have left so."""
    if registers.read(CAP).cmbs and int(registers.read(CMBMSC)):
        registers.write(CMBMSC(0))
