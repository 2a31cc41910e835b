"""The page of ``identify``: controller and namespaces as a person wants to know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pynvme_user.errors import (
    ControllerFatalError,
    DeviceRemovedError,
    NvmeError,
    NvmeStatusError,
)
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.bits import named
from pynvme_user.spec.identify import IdentifyNamespace, NamespaceIdentifiers
from pynvme_user.spec.identify_controller import ControllerType
from pynvme_user.spec.text import printable
from pynvme_user.tables import aligned
from pynvme_user.units import format_size

if TYPE_CHECKING:
    from pynvme_user import Controller
    from pynvme_user.spec.bits import Register
    from pynvme_user.spec.identify import IdentifyController

_KELVIN = 273
_COLUMNS = ("Namespace", "Size", "Blocks", "Block size", "Metadata", "Identifier")


@dataclass(frozen=True)
class Found:
    """What was read from the device, for use after it is closed."""

    name: str
    identify: IdentifyController
    max_transfer: int
    max_queue_pairs: int
    queue_entries: int
    namespaces: list[FoundNamespace]


@dataclass
class FoundNamespace:
    """What could be read of a namespace, and what stood in the way of the rest.

    Without an ``nsid`` it stands for all that the list of namespaces did not tell.
    """

    nsid: int | None
    page: IdentifyNamespace | None = None
    identifiers: NamespaceIdentifiers = field(default_factory=NamespaceIdentifiers)
    block_size: int | None = None
    error: str | None = None


def gather(controller: Controller) -> Found:
    """Read all that the page shows. Raises only what ends the controller, too."""
    return Found(
        name=controller.name,
        identify=controller.identify,
        max_transfer=controller.max_transfer,
        max_queue_pairs=controller.max_queue_pairs,
        queue_entries=controller.registers.cap.mqes + 1,
        namespaces=list(_namespaces(controller)),
    )


def _namespaces(controller: Controller) -> Iterator[FoundNamespace]:
    found = FoundNamespace(None)
    with _noting(found):
        for nsid in controller.namespaces.found():
            yield _namespace(controller, nsid)
    if found.error:
        yield found


def _namespace(controller: Controller, nsid: int) -> FoundNamespace:
    from pynvme_user.driver.namespace import block_shift_of

    found = FoundNamespace(nsid)
    with _noting(found):
        raw = controller.identify_page(Cns.NAMESPACE, nsid=nsid)
        page = found.page = IdentifyNamespace.from_bytes(raw)
        found.identifiers = _identifiers(controller, nsid, page)
        found.error = found.identifiers.fault
        found.block_size = 1 << block_shift_of(page, nsid)
    return found


@contextmanager
def _noting(found: FoundNamespace) -> Iterator[None]:
    """Keep an error as one of this namespace, unless it is one of the whole controller."""
    try:
        yield
    except (ControllerFatalError, DeviceRemovedError):
        raise
    except NvmeError as error:
        found.error = str(error)


def _identifiers(
    controller: Controller, nsid: int, page: IdentifyNamespace
) -> NamespaceIdentifiers:
    """Ask for the identifiers; before NVMe 1.3 only the namespace's page has them."""
    try:
        raw = controller.identify_page(Cns.NAMESPACE_DESCRIPTORS, nsid=nsid)
    except NvmeStatusError:
        return NamespaceIdentifiers(
            eui64=page.eui64 if any(page.eui64) else None,
            nguid=page.nguid if any(page.nguid) else None,
        )
    return NamespaceIdentifiers.from_bytes(raw)


def lines(found: Found) -> Iterator[str]:
    """Write the page as plain text."""
    yield from aligned(list(_facts(found)), "<<")
    yield ""
    yield from aligned([_COLUMNS, *map(_row, found.namespaces)], "<" * len(_COLUMNS))


def render(found: Found) -> None:
    """Write the page to a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="cyan", no_wrap=True)
    for name, value in _facts(found):
        facts.add_row(Text(name), Text(value))
    console.print(facts)
    namespaces = Table(*_COLUMNS, header_style="cyan")
    for namespace in found.namespaces:
        namespaces.add_row(*map(Text, _row(namespace)))
    console.print(namespaces)


def _facts(found: Found) -> Iterator[tuple[str, str]]:
    page = found.identify
    yield "Device", found.name
    yield "Model", f"{printable(page.mn)} ({page.vid:04x}:{page.ssvid:04x})"
    yield "Serial number", printable(page.sn)
    yield "Firmware", printable(page.fr)
    yield "NVMe version", f"{page.ver.mjr}.{page.ver.mnr}.{page.ver.ter}"
    kind = named(page.cntrltype, ControllerType).lower().replace("_", " ") or "reserved"
    yield "Controller", f"id {page.cntlid}, type {kind}"
    if page.subnqn:
        yield "Subsystem", printable(page.subnqn)
    if page.tnvmcap:
        unallocated = format_size(page.unvmcap)
        yield "Capacity", f"{format_size(page.tnvmcap)}, {unallocated} of it unallocated"
    yield "Largest transfer", f"{format_size(found.max_transfer)} in one command"
    yield (
        "Queues",
        (f"{found.max_queue_pairs} I/O queue pairs of up to {found.queue_entries} entries"),
    )
    yield "Write cache", "volatile: flush to make writes durable" if page.vwc.vwcp else "none"
    if page.wctemp:
        yield (
            "Temperature",
            f"warning at {_celsius(page.wctemp)}, critical at "
            + (_celsius(page.cctemp) if page.cctemp else "an unknown point"),
        )
    yield "Admin commands", _supported(page.oacs)
    yield "I/O commands", _supported(page.oncs)


def _supported(register: Register) -> str:
    """Name the bits that are set, without the word that they all end with."""
    names = [text.removesuffix(" Supported") for _, value, text in register.fields() if value]
    return ", ".join(names) or "none but the mandatory ones"


def _celsius(kelvin: int) -> str:
    return f"{kelvin - _KELVIN} °C"


def _row(found: FoundNamespace) -> tuple[str, ...]:
    known = found.identifiers
    identifier = next(
        (
            f"{kind} {value}"
            for kind, value in (
                ("UUID", known.uuid),
                ("NGUID", known.nguid.hex() if known.nguid else None),
                ("EUI64", known.eui64.hex() if known.eui64 else None),
            )
            if value
        ),
        "none",
    )
    if found.error:
        identifier = f"error: {found.error}"
    nsid = "-" if found.nsid is None else str(found.nsid)
    page, size = found.page, found.block_size
    if page is None:
        return (nsid, *["-"] * 4, identifier)
    return (
        nsid,
        "-" if size is None else format_size(page.nsze * size),
        str(page.nsze),
        "-" if size is None else f"{size} B",
        f"{page.lbaf.ms} B" if page.lbaf.ms else "none",
        identifier,
    )
