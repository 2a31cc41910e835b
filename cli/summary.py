"""The page of ``identify``: controller and namespaces as a person wants to know them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pynvme_user.errors import NvmeStatusError
from pynvme_user.spec.bits import named
from pynvme_user.spec.identify import NamespaceIdentifiers
from pynvme_user.spec.identify_controller import ControllerType
from pynvme_user.spec.text import printable
from pynvme_user.units import format_size

if TYPE_CHECKING:
    from pynvme_user import Controller, Namespace
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
    namespaces: list[tuple[Namespace, NamespaceIdentifiers]]


def gather(controller: Controller) -> Found:
    """Read all that the page shows."""
    return Found(
        name=controller.name,
        identify=controller.identify,
        max_transfer=controller.max_transfer,
        max_queue_pairs=controller.max_queue_pairs,
        queue_entries=controller.registers.cap.mqes + 1,
        namespaces=[(ns, _identifiers(ns)) for ns in controller.namespaces.values()],
    )


def _identifiers(ns: Namespace) -> NamespaceIdentifiers:
    """Ask for the identifiers; before NVMe 1.3 only the namespace's page has them."""
    try:
        return ns.identifiers
    except NvmeStatusError:
        page = ns.identify
        return NamespaceIdentifiers(
            eui64=page.eui64 if any(page.eui64) else None,
            nguid=page.nguid if any(page.nguid) else None,
        )


def lines(found: Found) -> Iterator[str]:
    """Write the page as plain text."""
    facts = list(_facts(found))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        yield f"{name:<{width}}  {value}"
    yield ""
    rows = [_COLUMNS, *(_row(*known) for known in found.namespaces)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


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
    for known in found.namespaces:
        namespaces.add_row(*map(Text, _row(*known)))
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


def _row(ns: Namespace, known: NamespaceIdentifiers) -> tuple[str, ...]:
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
    return (
        str(ns.nsid),
        format_size(ns.block_count * ns.block_size),
        str(ns.block_count),
        f"{ns.block_size} B",
        f"{ns.metadata_size} B" if ns.metadata_size else "none",
        identifier,
    )
