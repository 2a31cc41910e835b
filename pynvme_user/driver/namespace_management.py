"""Which namespaces there are, and which controllers have them (NVMe Base 2.1, 5.1.20, 5.1.21)."""

from __future__ import annotations

from collections.abc import Sequence

from pynvme_user.dma import PAGE
from pynvme_user.driver.features import Features
from pynvme_user.spec.commands import AdminOpcode, CommandSetId
from pynvme_user.spec.identify import DPS, FLBAS, NMIC
from pynvme_user.spec.identify_lists import ControllerList
from pynvme_user.spec.management import (
    NamespaceAttachmentCdw10,
    NamespaceAttachmentSelect,
    NamespaceCreate,
    NamespaceManagementCdw10,
    NamespaceManagementCdw11,
    NamespaceManagementSelect,
)

#: What a creation or a deletion may take where the caller does not say, in seconds.
_LONG = 120.0


class NamespaceManagement(Features):
    """Namespace Management and Namespace Attachment."""

    def create_namespace(
        self,
        blocks: int,
        lbaf: int = 0,
        *,
        capacity: int | None = None,
        shared: bool = False,
        extended: bool = False,
        protection: int = 0,
        protection_first: bool = False,
        csi: CommandSetId = CommandSetId.NVM,
        ana_group: int = 0,
        nvm_set: int = 0,
        endurance_group: int = 0,
        placement_handles: Sequence[int] = (),
        timeout: float = _LONG,
        force: bool = False,
    ) -> int:
        """Create a namespace of so many blocks; return its id. No controller has it yet.

        ``lbaf``, ``extended``, ``protection`` and ``protection_first`` as for :meth:`format`;
        ``capacity`` is how many blocks may be allocated at a time, by default all. ``shared`` lets
        several controllers have it. ``csi`` is its I/O command set. Groups and sets are the
        controller's choice where they are 0; ``placement_handles`` are the reclaim unit handles
        that it may write by (FDP). ``timeout`` is in seconds. Raises as :meth:`format`.
        """
        self.check_supported(AdminOpcode.NAMESPACE_MANAGEMENT, force)
        page = NamespaceCreate.build(
            nsze=blocks,
            ncap=blocks if capacity is None else capacity,
            flbas=FLBAS.build(fidxl=lbaf & 15, fidxu=lbaf >> 4, mtelba=extended),
            dps=DPS.build(pit=protection, pip=protection_first),
            nmic=NMIC.build(shrns=shared),
            anagrpid=ana_group,
            nvmsetid=nvm_set,
            endgid=endurance_group,
            nphndls=len(placement_handles),
            phndl=[*placement_handles, *[0] * (128 - len(placement_handles))],
        )
        done = self.admin(
            AdminOpcode.NAMESPACE_MANAGEMENT,
            buffer=bytearray(bytes(page)),
            cdw10=NamespaceManagementCdw10.build(sel=NamespaceManagementSelect.CREATE),
            cdw11=NamespaceManagementCdw11.build(csi=csi),
            timeout=timeout,
        )
        return done.result

    def delete_namespace(self, nsid: int, *, timeout: float = _LONG, force: bool = False) -> None:
        """Delete a namespace, or all with :data:`NSID_ALL`: **its data is lost**."""
        self.check_supported(AdminOpcode.NAMESPACE_MANAGEMENT, force)
        self.admin(
            AdminOpcode.NAMESPACE_MANAGEMENT,
            nsid=nsid,
            cdw10=NamespaceManagementCdw10.build(sel=NamespaceManagementSelect.DELETE),
            timeout=timeout,
        )

    def attach_namespace(
        self, nsid: int, controllers: Sequence[int] | None = None, *, force: bool = False
    ) -> None:
        """Attach a namespace to controllers, by their ids (CNTLID); by default to this one."""
        self._attach(NamespaceAttachmentSelect.ATTACH, nsid, controllers, force)

    def detach_namespace(
        self, nsid: int, controllers: Sequence[int] | None = None, *, force: bool = False
    ) -> None:
        """Detach a namespace from controllers, by default from this one; its data stays."""
        self._attach(NamespaceAttachmentSelect.DETACH, nsid, controllers, force)

    def _attach(
        self,
        select: NamespaceAttachmentSelect,
        nsid: int,
        controllers: Sequence[int] | None,
        force: bool,
    ) -> None:
        self.check_supported(AdminOpcode.NAMESPACE_ATTACHMENT, force)
        ids = [self.identify.cntlid] if controllers is None else list(controllers)
        listed = bytes(ControllerList.build(ids, numids=len(ids)))
        self.admin(
            AdminOpcode.NAMESPACE_ATTACHMENT,
            nsid=nsid,
            buffer=bytearray(listed.ljust(PAGE, b"\0")),
            cdw10=NamespaceAttachmentCdw10.build(sel=select),
        )
