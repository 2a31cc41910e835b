"""Zones: what a zoned namespace has, and the commands about them (Zoned Namespaces 1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Unpack

from pynvme_user.dma import PAGE, BytesLike, as_bytes
from pynvme_user.driver.admin import AdminQueue, reachable
from pynvme_user.driver.completion import Completion, check
from pynvme_user.driver.geometry import Geometry
from pynvme_user.driver.metadata import AppendOptions
from pynvme_user.driver.nvm_commands import NvmCommands
from pynvme_user.driver.transfer import describe
from pynvme_user.errors import NotSupportedError, NvmeError
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, CommandSetId, NvmOpcode
from pynvme_user.spec.identify_zns import (
    IdentifyControllerZns,
    IdentifyNamespaceZns,
    LbaFormatExtension,
)
from pynvme_user.spec.zns import (
    ReportedZones,
    ZoneDescriptor,
    ZoneList,
    ZoneReceiveAction,
    ZoneReceiveCdw13,
    ZoneReport,
    ZoneSendAction,
    ZoneSendCdw13,
    ZoneSendResult,
    ZoneState,
)

#: Zones that a namespace may have here; the largest drives have a tenth of it.
MOST_ZONES = 1 << 20
#: Bytes of a report that one command brings.
_PIECE = 1 << 16
#: MAR and MOR where there is no limit.
_NO_LIMIT = 0xFFFFFFFF
#: States in which a zone has no write pointer.
_WITHOUT_POINTER = (ZoneState.FULL, ZoneState.READ_ONLY, ZoneState.OFFLINE)


class _Known(NamedTuple):
    """What Identify says of the zones of a namespace that has this geometry."""

    geometry: Geometry
    page: IdentifyNamespaceZns
    extension: LbaFormatExtension
    max_append: int  # blocks


class Zones:
    """The zones of a :class:`Namespace`, as ``ns.zones``: LBAs and lengths in blocks.

    Iterating over it asks the device for all zones: each is a
    :class:`~pynvme_user.spec.zns.ZoneDescriptor` with its first LBA (``zslba``), capacity
    (``zcap``), write pointer (``wp``) and state (``zs.zs``). Calls that name a zone take the LBA
    that it begins with.

    Every call may come from any thread, waits for the device and raises what :class:`Namespace`
    says of all: ValueError for what is no zone's first LBA, NvmeStatusError for what a zone's
    state forbids. It has for example the status ZNS_ZONE_IS_FULL, ZNS_TOO_MANY_OPEN_ZONES or
    ZNS_INVALID_ZONE_STATE_TRANSITION.
    """

    def __init__(self, ns: NvmCommands, commands: AdminQueue) -> None:
        self._ns = ns
        self._commands = commands
        self._known = self._identified()

    # --- sizes and limits -----------------------------------------------------------------------

    def _identified(self) -> _Known:
        ns, identify = self._ns, self._commands.identify
        with self._commands.unchanging_namespaces():
            geometry = ns.current()
            page = IdentifyNamespaceZns.from_bytes(
                identify(Cns.CSI_NAMESPACE, nsid=ns.nsid, csi=CommandSetId.ZONED)
            )
            extension = page.lbafes[ns.identify.format_index]
            if not 0 < extension.zsze <= geometry.block_count:
                raise NvmeError(
                    f"namespace {ns.nsid} of {ns.device.name} has {geometry.block_count} blocks "
                    f"in zones of {extension.zsze}, which cannot be: format it, or update the "
                    "controller's firmware"
                )
            limits = IdentifyControllerZns.from_bytes(
                identify(Cns.CSI_CONTROLLER, csi=CommandSetId.ZONED)
            )
        most = ns.device.max_transfer
        if limits.zasl:
            most = min(most, PAGE << ns.device.cap.mpsmin << limits.zasl)
        most = min(most >> geometry.block_shift, geometry.max_blocks)
        return _Known(geometry, page, extension, most)

    def _current(self) -> _Known:
        """Return what is known of them, identified again if it may have changed since."""
        if self._known.geometry is not self._ns.current():
            self._known = self._identified()
        return self._known

    @property
    def identify(self) -> IdentifyNamespaceZns:
        """What Identify says of the namespace's zones (4.1.5.1)."""
        return self._current().page

    @property
    def zone_blocks(self) -> int:
        """Blocks from the beginning of one zone to that of the next (ZSZE)."""
        return self._current().extension.zsze

    @property
    def count(self) -> int:
        """How many zones there are."""
        known = self._current()
        return -(-known.geometry.block_count // known.extension.zsze)

    @property
    def max_open(self) -> int | None:
        """Zones that may be open at a time (MOR); None for any number."""
        limit = self._current().page.mor
        return None if limit == _NO_LIMIT else limit + 1

    @property
    def max_active(self) -> int | None:
        """Zones that may be open or closed at a time (MAR); None for any number."""
        limit = self._current().page.mar
        return None if limit == _NO_LIMIT else limit + 1

    @property
    def max_append(self) -> int:
        """Blocks that one append carries (ZASL, or as any command)."""
        return self._current().max_append

    @property
    def extension_size(self) -> int:
        """Bytes of a zone descriptor extension (ZDES); 0 where zones have none."""
        return self._current().extension.extension_size

    # --- reports --------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[ZoneDescriptor]:
        for page in self._pages(0, ReportedZones.ALL, None, 0):
            yield from page

    def report(
        self,
        start: int = 0,
        state: ReportedZones = ReportedZones.ALL,
        count: int | None = None,
        *,
        extended: bool = False,
    ) -> ZoneList:
        """Return the zones from the one that has LBA ``start`` on (3.4.2.2.1).

        All of them, or those in a ``state``, up to ``count``; in as many commands as it takes. An
        ``extended`` report has each zone's descriptor extension in ``extensions``. Raises
        NvmeError where the device reports a zone that cannot be.
        """
        stride = ZoneDescriptor.size + self._extension_size() if extended else 0
        parts = [bytes(page)[64:] for page in self._pages(start, state, count, stride)]
        found = b"".join(parts)
        zones = len(found) // (stride or ZoneDescriptor.size)
        return ZoneList.from_bytes(bytes(ZoneReport.build(nzones=zones)) + found, stride=stride)

    def matching(self, start: int = 0, state: ReportedZones = ReportedZones.ALL) -> int:
        """How many zones, from the one that has LBA ``start`` on, are in a ``state`` (NZONES)."""
        known = self._current()
        known.geometry.check_range(start, 1)
        start -= start % known.extension.zsze
        return self._receive(start, state, 0, 0, partial=False).header.nzones

    def zone(self, lba: int) -> ZoneDescriptor:
        """Return the zone that has this LBA."""
        return self.report(lba, count=1)[0]

    def _pages(
        self, start: int, state: ReportedZones, count: int | None, stride: int
    ) -> Iterator[ZoneList]:
        """Ask for zones, piece by piece; ``stride`` is that of an extended report, else 0."""
        known = self._current()
        size, blocks = known.extension.zsze, known.geometry.block_count
        known.geometry.check_range(start, 1)
        if count is None and blocks // size > MOST_ZONES:
            raise self._impossible(f"more than {MOST_ZONES} zones, of {size} blocks each")
        step = stride or ZoneDescriptor.size
        room = max(1, (min(_PIECE, self._ns.device.max_transfer) - ZoneReport.size) // step)
        start -= start % size
        while start < blocks and count != 0:
            most = room if count is None else min(room, count)
            page = self._receive(start, state, most * step, stride)
            if not page.entries and state == ReportedZones.ALL:
                raise self._impossible(f"no zone at LBA {start}")
            for zone in page:
                start = size + self._check_zone(zone, start, state, known)
            if page.entries:
                yield page
            if len(page) < most and state != ReportedZones.ALL:
                return
            count = None if count is None else count - len(page)

    def _receive(
        self, start: int, state: ReportedZones, length: int, stride: int, *, partial: bool = True
    ) -> ZoneList:
        page = self._ns.device.alloc(ZoneReport.size + length)
        self._ns._run(
            NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
            buffer=page,
            lba=start,
            cdw12=page.nbytes // 4 - 1,
            cdw13=ZoneReceiveCdw13.build(
                zra=ZoneReceiveAction.EXTENDED_REPORT if stride else ZoneReceiveAction.REPORT,
                zrasf=state,
                partial=partial,
            ),
        )
        return ZoneList.from_bytes(page.tobytes(), stride=stride)

    def _check_zone(
        self, zone: ZoneDescriptor, start: int, state: ReportedZones, known: _Known
    ) -> int:
        """Return a reported zone's first LBA: ``start``, or past it where some are left out.

        Raises NvmeError where it cannot be such a zone.
        """
        size = known.extension.zsze
        if zone.zs.zs not in list(ZoneState):
            raise self._impossible(f"a zone in state {int(zone.zs.zs):#x} at LBA {start}")
        left_out = state != ReportedZones.ALL
        if left_out and start < zone.zslba < known.geometry.block_count and not zone.zslba % size:
            start = zone.zslba
        end = start + zone.zcap
        written = start if zone.zs.zs in _WITHOUT_POINTER else zone.wp
        if zone.zslba != start or zone.zcap > size or not start <= written <= end:
            raise self._impossible(
                f"a zone of {zone.zcap} blocks at LBA {zone.zslba} written up to {written}, "
                f"where one of up to {size} at LBA {start} belongs"
            )
        return start

    def _impossible(self, what: str) -> NvmeError:
        return NvmeError(
            f"namespace {self._ns.nsid} of {self._ns.device.name} reports {what}: reset the "
            "controller, or update its firmware"
        )

    # --- states ---------------------------------------------------------------------------------

    def open(
        self,
        lba: int | None = None,
        *,
        select_all: bool = False,
        zrwa: bool = False,
        force: bool = False,
    ) -> None:
        """Open a zone explicitly, or all closed ones (3.4.3.1.3).

        With ``zrwa`` an empty zone gets a random write area: writes to ZRWASZ blocks from the
        write pointer on may come in any order.
        """
        if zrwa and not force:
            self._check_zrwa()
        self._send(ZoneSendAction.OPEN, lba, select_all, zrwaa=zrwa)

    def close(self, lba: int | None = None, *, select_all: bool = False) -> None:
        """Close an open zone, or all open ones (3.4.3.1.1)."""
        self._send(ZoneSendAction.CLOSE, lba, select_all)

    def finish(self, lba: int | None = None, *, select_all: bool = False) -> None:
        """Let a zone be full as it is, or all open and closed ones (3.4.3.1.2)."""
        self._send(ZoneSendAction.FINISH, lba, select_all)

    def reset(self, lba: int | None = None, *, select_all: bool = False) -> bool:
        """Empty a zone, or all open, closed and full ones: their data is gone (3.4.3.1.4).

        Returns whether the zone has another capacity now (ZCAPC).
        """
        done = self._send(ZoneSendAction.RESET, lba, select_all)
        return bool(ZoneSendResult(done.result).zcapc)

    def offline(self, lba: int | None = None, *, select_all: bool = False) -> None:
        """Take a read-only zone, or all such, offline for good (3.4.3.1.5)."""
        self._send(ZoneSendAction.OFFLINE, lba, select_all)

    def _send(
        self,
        action: ZoneSendAction,
        lba: int | None,
        select_all: bool,
        *,
        zrwaa: bool = False,
        buffer: BytesLike | None = None,
    ) -> Completion:
        if (lba is None) != select_all:
            raise ValueError(
                "say which zone: give the LBA that it begins with, or select_all=True for all"
            )
        if lba is not None:
            self._check_start(lba)
        where = "all zones" if lba is None else f"the zone at LBA {lba}"
        name = action.name.replace("_", " ").title()
        return self._ns._run(
            NvmOpcode.ZONE_MANAGEMENT_SEND,
            f"{name} of {where} (namespace {self._ns.nsid})",
            buffer,
            lba=lba or 0,
            cdw13=ZoneSendCdw13.build(zsa=action, select_all=select_all, zrwaa=zrwaa),
        )

    def _check_start(self, lba: int) -> None:
        known = self._current()
        known.geometry.check_range(lba, 1)
        size = known.extension.zsze
        if past := lba % size:
            raise ValueError(
                f"LBA {lba} lies within a zone of {size} blocks: name the zone by the LBA that it "
                f"begins with, {lba - past}"
            )

    # --- extensions and random write areas ------------------------------------------------------

    def set_extension(
        self, lba: int, data: BytesLike, *, zrwa: bool = False, force: bool = False
    ) -> None:
        """Set the descriptor extension of an empty zone, which becomes closed (3.4.3.1.6).

        ``data`` has up to :attr:`extension_size` bytes; zeroes follow it. ``zrwa`` as for
        :meth:`open`.
        """
        size = self._extension_size()
        given = as_bytes(data)
        if given.nbytes > size:
            raise ValueError(
                f"a zone descriptor extension has up to {size} bytes here, not {given.nbytes}"
            )
        if zrwa and not force:
            self._check_zrwa()
        self._send(
            ZoneSendAction.SET_DESCRIPTOR_EXTENSION,
            lba,
            False,
            zrwaa=zrwa,
            buffer=bytearray(given.tobytes().ljust(size, b"\0")),
        )

    def flush(self, lba: int, *, force: bool = False) -> None:
        """Commit a zone's random write area up to this LBA, and with it (3.4.3.1.7).

        The LBA is the last of a multiple of the ZRWAFG blocks of :attr:`identify`. Raises
        NotSupportedError where the device commits them by itself alone, unless sent with
        ``force``.
        """
        if not force:
            self._check_zrwa()
            if not self.identify.zrwacap.expflushsup:
                raise self._unsupported("flushes of random write areas: ZRWACAP bit 0 is 0")
        self._ns.check_range(lba, 1)
        self._ns._run(
            NvmOpcode.ZONE_MANAGEMENT_SEND,
            f"Flush up to LBA {lba} (namespace {self._ns.nsid})",
            lba=lba,
            cdw13=ZoneSendCdw13.build(zsa=ZoneSendAction.FLUSH),
        )

    def _check_zrwa(self) -> None:
        if not self.identify.ozcs.zrwasup:
            raise self._unsupported("zone random write areas: OZCS bit 1 is 0")

    def _extension_size(self) -> int:
        size = self.extension_size
        if not size:
            raise self._unsupported("zone descriptor extensions: ZDES is 0")
        return size

    def _unsupported(self, what: str) -> NotSupportedError:
        ns = self._ns
        return NotSupportedError(f"namespace {ns.nsid} of {ns.device.name} does not support {what}")

    # --- data -----------------------------------------------------------------------------------

    def append(
        self,
        lba: int,
        data: BytesLike,
        *,
        fua: bool = False,
        **options: Unpack[AppendOptions],
    ) -> int:
        """Append whole blocks to a zone's data; return the LBA at which they lie (3.4.1).

        Any bytes-like of up to :attr:`max_append` blocks, ValueError beyond: one append goes to
        one place, several need not be neighbours. :meth:`append_pieces` takes any length;
        :meth:`QueuePair.submit_append` has many in flight.

        The keywords are :class:`AppendOptions`; metadata and data are apart in memory, as for
        :meth:`MetadataNamespace.write`.
        """
        ns, array = self._ns, as_bytes(data)
        shift = ns.geometry.block_shift
        blocks = array.nbytes >> shift
        if blocks << shift != array.nbytes:
            raise ValueError(f"{array.nbytes} bytes are not whole blocks of {1 << shift}")
        self._check_start(lba)
        self.check_append(blocks)
        if options or ns.geometry.metadata_size:
            done = ns._moves.append(lba, data, fua, options)
        else:
            memory, _ = reachable(ns.device, SQE.build(opc=NvmOpcode.ZONE_APPEND), data)
            assert memory is not None
            with ns._pool.acquired() as pair:
                pair.submit_append(ns, lba, blocks, memory, fua=fua)
                (done,) = pair.drain()
        check(done.status, describe(NvmOpcode.ZONE_APPEND, lba, blocks, ns.nsid), done.timed_out)
        return done.lba

    def append_pieces(
        self, lba: int, data: BytesLike, *, fua: bool = False
    ) -> list[tuple[int, int]]:
        """Append data of any length to a zone, piece after piece.

        Returns the ``(lba, blocks)`` of each in the data's order: neighbours, unless somebody else
        appends to the zone meanwhile. After an error those before it are there.
        """
        array = as_bytes(data)
        most = self.max_append << self._ns.geometry.block_shift
        places = []
        for offset in range(0, array.nbytes, most):
            piece = array[offset : offset + most]
            place = self.append(lba, piece, fua=fua)
            places.append((place, piece.nbytes >> self._ns.geometry.block_shift))
        return places

    def check_append(self, blocks: int) -> None:
        """Raise ValueError if one append does not carry so many blocks."""
        most = self.max_append
        if blocks > most:
            raise ValueError(
                f"one append carries up to {most} blocks, not {blocks}: append pieces, each of "
                "which has a place of its own, as append_pieces() does"
            )


def written_up_to(zone: ZoneDescriptor) -> int:
    """Return the LBA behind a zone's data, for a zone of any state.

    Of a full zone the end of its capacity; of one that is read-only or offline its beginning:
    there is no write pointer, and nothing says what can be read.
    """
    match zone.zs.zs:
        case ZoneState.FULL:
            return zone.zslba + zone.zcap
        case ZoneState.READ_ONLY | ZoneState.OFFLINE:
            return zone.zslba
    return zone.wp
