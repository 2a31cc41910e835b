"""Reservations: which hosts may use a namespace (NVMe Base 2.1, 8.1.22)."""

from __future__ import annotations

from pynvme_user.driver.nvm_commands import NvmCommands
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.reservations import (
    AcquireAction,
    ChangePtpl,
    ExtendedReservationStatus,
    RegisterAction,
    ReleaseAction,
    ReservationAcquireCdw10,
    ReservationAcquireKeys,
    ReservationRegisterCdw10,
    ReservationRegisterKeys,
    ReservationReleaseCdw10,
    ReservationReleaseKeys,
    ReservationReportCdw11,
    ReservationStatus,
    ReservationType,
)

_PAGE = 4096


class Reservations(NvmCommands):
    """The four reservation commands of a namespace.

    A host is known by its Host Identifier, a feature of the controller; keys are 64-bit numbers of
    its own choice. Where another host's reservation forbids a command, NvmeStatusError has the
    status RESERVATION_CONFLICT.
    """

    def reservation_register(
        self,
        new_key: int,
        *,
        key: int = 0,
        action: RegisterAction = RegisterAction.REGISTER,
        persist: ChangePtpl = ChangePtpl.NO_CHANGE,
        ignore_key: bool = False,
        force: bool = False,
    ) -> None:
        """Register, replace or take back this host's key (7.6).

        ``key`` is the one that is registered so far; ``ignore_key`` does without. ``persist``
        says whether registrations and reservations outlast a loss of power.
        """
        self.check_supported(NvmOpcode.RESERVATION_REGISTER, force)
        self._run(
            NvmOpcode.RESERVATION_REGISTER,
            buffer=bytearray(bytes(ReservationRegisterKeys.build(crkey=key, nrkey=new_key))),
            cdw10=ReservationRegisterCdw10.build(rrega=action, iekey=ignore_key, cptpl=persist),
        )

    def reservation_acquire(
        self,
        key: int,
        kind: ReservationType,
        *,
        action: AcquireAction = AcquireAction.ACQUIRE,
        preempt_key: int = 0,
        ignore_key: bool = False,
        force: bool = False,
    ) -> None:
        """Acquire the reservation, or take it from the host of ``preempt_key`` (7.5)."""
        self.check_supported(NvmOpcode.RESERVATION_ACQUIRE, force)
        self._run(
            NvmOpcode.RESERVATION_ACQUIRE,
            buffer=bytearray(bytes(ReservationAcquireKeys.build(crkey=key, prkey=preempt_key))),
            cdw10=ReservationAcquireCdw10.build(racqa=action, iekey=ignore_key, rtype=kind),
        )

    def reservation_release(
        self,
        key: int,
        kind: ReservationType = ReservationType.NONE,
        *,
        action: ReleaseAction = ReleaseAction.RELEASE,
        ignore_key: bool = False,
        force: bool = False,
    ) -> None:
        """Release the reservation, which is of that kind, or clear all there is (7.7)."""
        self.check_supported(NvmOpcode.RESERVATION_RELEASE, force)
        self._run(
            NvmOpcode.RESERVATION_RELEASE,
            buffer=bytearray(bytes(ReservationReleaseKeys.build(crkey=key))),
            cdw10=ReservationReleaseCdw10.build(rrela=action, iekey=ignore_key, rtype=kind),
        )

    def reservation_report(
        self, *, extended: bool | None = None, force: bool = False
    ) -> ReservationStatus | ExtendedReservationStatus:
        """Return who is registered, and who holds the reservation (7.8).

        ``extended`` is the form for host identifiers of 128 bits; by default the one that the
        controller's CTRATT.HIDS names.
        """
        self.check_supported(NvmOpcode.RESERVATION_REPORT, force)
        if extended is None:
            extended = bool(self.device.identify.ctratt.hids)
        kind = ExtendedReservationStatus if extended else ReservationStatus
        size = _PAGE
        while True:
            page = bytearray(size)
            self._run(
                NvmOpcode.RESERVATION_REPORT,
                buffer=page,
                cdw10=size // 4 - 1,
                cdw11=ReservationReportCdw11.build(eds=extended),
            )
            found = kind.from_bytes(page)
            if not found.incomplete or size >= self.device.max_transfer:
                return found
            size = min(2 * size, self.device.max_transfer)
