"""The pages that a controller tells of itself by: Identify data structures and log pages."""

from __future__ import annotations

from typing import Any, TypeVar

from pynvme_user.driver.admin_commands import AdminCommands
from pynvme_user.errors import NotSupportedError, NvmeError
from pynvme_user.spec.admin import GetLogPageCdw10, GetLogPageCdw11, GetLogPageCdw14
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode
from pynvme_user.spec.fields import Struct
from pynvme_user.spec.identify_pages import identify_page
from pynvme_user.spec.lists import StructList
from pynvme_user.spec.logs import ErrorLog, ErrorLogEntry, LogId, SmartLog, log_id_of
from pynvme_user.spec.support import unsupported_log

PageT = TypeVar("PageT", bound="Struct | StructList[Any, Any]")

#: What one Get Log Page asks for: devices have been seen that fail with more.
_CHUNK = 4096
#: What NUMD can say where the controller has 12 bits of it (LPA.LPEDS is 0), in bytes.
_SHORT = 1 << 14
#: A page whose length the device tells is read up to here.
MOST = 1 << 28
#: What is read first of a page whose length is not known.
_FIRST = 4096


class Pages(AdminCommands):
    """Identify and Get Log Page."""

    # --- Identify -----------------------------------------------------------------------------

    def identify_page(
        self,
        cns: int,
        *,
        nsid: int = 0,
        cntid: int = 0,
        cnssid: int = 0,
        csi: int = 0,
        uuid_index: int = 0,
    ) -> bytes:
        """Return the 4096 bytes of an Identify data structure (Base 2.0, section 5.17).

        ``cntid`` is a controller id; ``cnssid`` is the id of an NVM set, an endurance group or a
        domain, or the index of a format: what ``cns`` takes.
        """
        return self._commands.identify(
            cns, nsid=nsid, cntid=cntid, cnssid=cnssid, csi=csi, uuid_index=uuid_index
        )

    def identify_data(
        self,
        cns: int,
        *,
        nsid: int = 0,
        cntid: int = 0,
        cnssid: int = 0,
        csi: int = 0,
        uuid_index: int = 0,
    ) -> Struct | StructList[Any, Any]:
        """Return an Identify data structure, decoded; as :meth:`identify_page`.

        Raises ValueError for one whose layout the specification does not tell.
        """
        page = identify_page(cns, csi)
        if page is None:
            raise ValueError(
                f"Identify CNS {cns:02x}h of command set {csi} has no layout here: use "
                "identify_page()"
            )
        raw = self.identify_page(
            cns, nsid=nsid, cntid=cntid, cnssid=cnssid, csi=csi, uuid_index=uuid_index
        )
        return page.structure.from_bytes(raw)

    # --- Get Log Page -------------------------------------------------------------------------

    def log_page(
        self,
        lid: int,
        length: int,
        *,
        offset: int = 0,
        nsid: int = NSID_ALL,
        lsp: int = 0,
        lsi: int = 0,
        csi: int = 0,
        uuid_index: int = 0,
        index_offset: bool = False,
        retain_event: bool = False,
        chunk: int = _CHUNK,
    ) -> bytes:
        """Return ``length`` bytes of a log page from byte ``offset`` on (Base 2.0, section 5.16).

        Both are multiples of 4. As many commands are sent as pieces of ``chunk`` bytes make.
        ``lsp`` and ``lsi`` are the page's own parameters, ``csi`` the command set that it is of.
        With ``index_offset`` the offset counts the page's entries, where the controller can.
        An event that the page tells of can come again once it was read, but for ``retain_event``;
        only the last of the commands lets it.

        Raises ValueError for a length or an offset that cannot be, NvmeError for one that the
        controller cannot do (LPA.LPEDS), and as :meth:`admin`.
        """
        if length < 4 or length % 4 or offset < 0 or (offset % 4 and not index_offset):
            raise ValueError(
                f"a log page is read by multiples of 4 bytes, not {length} bytes from {offset} on"
            )
        chunk = min(chunk, self.max_transfer)
        if chunk < 4 or chunk % 4:
            raise ValueError(f"chunk is a multiple of 4 bytes, not {chunk}")
        if not self.identify.lpa.lpeds:
            most = min(_SHORT, self.max_transfer)
            if offset or length > most:
                raise NvmeError(
                    f"{self._device.name} reads log pages from their beginning alone, up to "
                    f"{most} bytes (LPA.LPEDS is 0): read no more of it"
                )
            chunk = length  # whose rest could not be read
        if index_offset and length > chunk:
            raise ValueError(f"with index_offset one command reads all: up to {chunk} bytes")
        data = bytearray()
        piece = self._device.alloc(min(length, chunk))
        while len(data) < length:
            count = min(length - len(data), chunk)
            at = offset if index_offset else offset + len(data)
            last = len(data) + count == length
            dwords = count // 4 - 1
            self.admin(
                AdminOpcode.GET_LOG_PAGE,
                nsid=nsid,
                buffer=piece[:count],
                cdw10=GetLogPageCdw10.build(
                    lid=lid, lsp=lsp, rae=retain_event or not last, numdl=dwords & 0xFFFF
                ),
                cdw11=GetLogPageCdw11.build(numdu=dwords >> 16, lsi=lsi),
                cdw12=at & 0xFFFFFFFF,
                cdw13=at >> 32,
                cdw14=GetLogPageCdw14.build(uidx=uuid_index, ot=index_offset, csi=csi),
            )
            data += piece[:count].tobytes()
        return bytes(data)

    def log(
        self,
        structure: type[PageT],
        *,
        lid: int | None = None,
        nsid: int = NSID_ALL,
        lsp: int = 0,
        lsi: int = 0,
        csi: int = 0,
        retain_event: bool = False,
        force: bool = False,
    ) -> PageT:
        """Read a log page and decode it: ``log(SmartLog).ctemp`` (Base 2.0, section 5.16).

        ``structure`` is one of :mod:`pynvme_user.spec.logs`; ``lid`` is needed for another one
        alone. ``lsi`` is the id of an endurance group, an NVM set or a domain, where the page is of
        such a one. A page of no fixed size is read as far as its header says, up to 256 MiB.

        Raises NotSupportedError where the controller says that it has no such page, unless it is
        read with ``force``; and as :meth:`log_page`.
        """
        if lid is None:
            lid = log_id_of(structure)  # type: ignore[arg-type] # a type of the union is in it
        if not force and (missing := unsupported_log(self.identify, lid)):
            raise NotSupportedError(f"{self._device.name} has no log page {lid:02x}h: {missing}")

        def read(length: int) -> bytes:
            return self.log_page(
                lid, length, nsid=nsid, lsp=lsp, lsi=lsi, csi=csi, retain_event=retain_event
            )

        if issubclass(structure, Struct):
            return structure.from_bytes(read(structure.size + -structure.size % 4))
        size = max(_FIRST, structure.header_type.size)
        while True:
            # Whole each time: what changes in between would not fit together.
            page = structure.from_bytes(read(size))
            total = getattr(page, "total_length", 2 * size if page.incomplete else 0)
            if total <= size or size >= MOST or not self._can_read(total):
                return page
            size = min(total + -total % 4, MOST)

    def _can_read(self, length: int) -> bool:
        return bool(self.identify.lpa.lpeds) or length <= min(_SHORT, self.max_transfer)

    def smart(self, nsid: int = NSID_ALL) -> SmartLog:
        """Read the SMART / Health Information log, of the controller or of one namespace."""
        return self.log(SmartLog, nsid=nsid)

    def errors(self) -> list[ErrorLogEntry]:
        """Read the Error Information log: the newest error first; empty where there was none."""
        length = ErrorLogEntry.size * (self.identify.elpe + 1)
        if not self._can_read(length):
            length = min(_SHORT, self.max_transfer)
        page = ErrorLog.from_bytes(self.log_page(LogId.ERROR, length))
        return [entry for entry in page if entry.ecnt]
