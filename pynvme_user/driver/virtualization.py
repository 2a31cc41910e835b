"""Virtualization enhancements: secondary controllers, such as virtual functions, and what they have
of the primary controller's resources (Base 2.1, 8.2.6).
"""

from __future__ import annotations

from pynvme_user.driver.administration import Administration
from pynvme_user.errors import NvmeError
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.identify_lists import (
    PrimaryControllerCapabilities,
    SecondaryController,
    SecondaryControllerList,
)
from pynvme_user.spec.management import (
    VirtualizationAction,
    VirtualizationManagementCdw10,
    VirtualizationManagementCdw11,
    VirtualizationManagementResult,
    VirtualizationResource,
)

#: As many as one Secondary Controller List has.
_MOST = 127


class Virtualization(Administration):
    """What a primary controller does for its secondary controllers."""

    def virtualization_management(
        self,
        cntlid: int,
        action: VirtualizationAction,
        *,
        resource: VirtualizationResource = VirtualizationResource.VQ,
        count: int = 0,
        force: bool = False,
    ) -> int:
        """Give a secondary controller resources, or bring it online or offline (5.2.6).

        ``cntlid`` is its controller id. Returns how many resources it was given.
        """
        self.check_supported(AdminOpcode.VIRTUALIZATION_MANAGEMENT, force)
        done = self.admin(
            AdminOpcode.VIRTUALIZATION_MANAGEMENT,
            cdw10=VirtualizationManagementCdw10.build(act=action, rt=resource, cntlid=cntlid),
            cdw11=VirtualizationManagementCdw11.build(nr=count),
        )
        return VirtualizationManagementResult(done.result).nrm

    def primary_capabilities(self) -> PrimaryControllerCapabilities:
        """Read how many queue pairs and interrupt vectors it has to give (CNS 14h)."""
        page = self.identify_page(Cns.PRIMARY_CONTROLLER_CAPABILITIES, cntid=self.identify.cntlid)
        return PrimaryControllerCapabilities.from_bytes(page)

    def secondary_controllers(self) -> list[SecondaryController]:
        """Read which secondary controllers there are, and what each has (CNS 15h)."""
        found: list[SecondaryController] = []
        first = 0
        while first <= 0xFFFF:
            page = self.identify_page(Cns.SECONDARY_CONTROLLERS, cntid=first)
            entries = [e for e in SecondaryControllerList.from_bytes(page) if e.scid >= first]
            found += entries
            if len(entries) < _MOST:
                break
            first = max(entry.scid for entry in entries) + 1
        return found

    def bring_online(
        self,
        cntlid: int,
        *,
        queues: int | None = None,
        interrupts: int | None = None,
        force: bool = False,
    ) -> SecondaryController:
        """Bring a secondary controller online with that many queue pairs, the admin queue's
        included, and interrupt vectors; return what it has then.

        By default as many as one may have of what is left (VQFRSM, VIFRSM). A virtual function has
        to be enabled before, else the controller refuses. One that is online is taken offline
        first. ``force`` is for a controller that does not say that it has Virtualization
        Management, such as QEMU's. Raises NvmeError where there is no such controller, and as
        :meth:`admin`.
        """
        self._secondary(cntlid)
        self.take_offline(cntlid, force=force)
        told = self.primary_capabilities()
        if queues is None:
            queues = min(told.vqfrsm, told.vqfrt - told.vqrfa)
        if interrupts is None:
            interrupts = min(told.vifrsm, told.vifrt - told.virfa)
        if told.crt.vqrs:
            self._assign(cntlid, VirtualizationResource.VQ, queues, force)
        if told.crt.virs:
            self._assign(cntlid, VirtualizationResource.VI, interrupts, force)
        self.virtualization_management(cntlid, VirtualizationAction.SECONDARY_ONLINE, force=force)
        return self._secondary(cntlid)

    def take_offline(self, cntlid: int, *, force: bool = False) -> None:
        """Take a secondary controller offline, and its resources back. As :meth:`bring_online`."""
        action = VirtualizationAction.SECONDARY_OFFLINE
        self.virtualization_management(cntlid, action, force=force)
        for resource in VirtualizationResource:
            self._assign(cntlid, resource, 0, force)

    def _assign(
        self, cntlid: int, resource: VirtualizationResource, count: int, force: bool
    ) -> None:
        action = VirtualizationAction.SECONDARY_ASSIGN
        self.virtualization_management(cntlid, action, resource=resource, count=count, force=force)

    def _secondary(self, cntlid: int) -> SecondaryController:
        entries = {entry.scid: entry for entry in self.secondary_controllers()}
        if cntlid not in entries:
            known = ", ".join(map(str, entries)) or "none"
            raise NvmeError(
                f"{self._device.name} has no secondary controller {cntlid}: there are {known}"
            )
        return entries[cntlid]
