"""Readers of values that only one option has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from pynvme_user.bench.jobs import spdk, unsupported
from pynvme_user.bench.jobs import values as v
from pynvme_user.bench.jobs.terms import UNIFORM, Distribution, DistributionKind, JobError, Workload
from pynvme_user.host.numa import Placement
from pynvme_user.host.sysfs import PCI_ADDRESS


def workload(text: str) -> tuple[str, int]:
    """Read the workload's name and the number after a colon, 0 where there is none.

    The number is what sequential I/O leaves out, in bytes, or how many I/Os each random offset is
    for.
    """
    word, _, number = text.strip().partition(":")
    word = {"readwrite": "rw", "zone_append": "zone-append"}.get(word, word)
    if word not in get_args(Workload):
        raise JobError(f"{word!r} is none of {', '.join(get_args(Workload))}")
    value = v.integer(number) if number else 0
    if value < 0 and word.startswith("rand"):
        raise JobError(f"{number} I/Os for each random offset are none: give 1 or more")
    return word, value


_THETAS = {"zipf": 1.1, "pareto": 0.2}


def distribution(text: str) -> Distribution:
    """Read ``zipf:1.2``, ``zoned:60/10:40/90`` and so on."""
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?:[:=](.*))?", text)
    kinds = get_args(DistributionKind)
    if match is None or match[1] not in kinds:
        raise JobError(f"{text!r} is none of {', '.join(kinds)}, with its values after a colon")
    kind: DistributionKind = match[1]  # type: ignore[assignment]
    rest = match[2] or ""
    if kind == "random":
        return UNIFORM
    if kind in ("zoned", "zoned_abs"):
        extent = v.percent if kind == "zoned" else v.natural
        text = re.sub(rf",\s*{kind}[:=]", ",", rest)
        zones = v.by_direction(v.zones(extent))(text)
        if any(of is None for of in zones):
            raise JobError(f"{text!r} leaves a direction out: give its zones, or no comma")
        return Distribution(kind=kind, zones=tuple(of for of in zones if of is not None))
    numbers = v.numbers(rest)
    if not numbers and kind in _THETAS:
        numbers = (_THETAS[kind],)
    if not 1 <= len(numbers) <= 2:
        raise JobError(f"{text!r} needs a value, and may have a center: write for example {kind}:1")
    center = numbers[1] if len(numbers) == 2 else None
    return Distribution(kind=kind, theta=numbers[0], center=center)


def steady_state(text: str) -> tuple[str, bool, float, bool]:
    """Read ``iops:2%`` or ``bw_slope:0.1%``: metric, slope or not, limit, percent or not."""
    match = re.fullmatch(r"\s*(iops|bw|lat)(_slope)?\s*:\s*([^%]+)(%?)\s*", text)
    if match is None:
        raise JobError(f"{text!r} is no criterion: write for example iops:2%, bw_slope:0.1%")
    return match[1], match[2] is not None, v.number(match[3]), match[4] == "%"


def continue_on_error(text: str) -> frozenset[str]:
    """Read the kinds of errors after which a job goes on."""
    word = v.choice("none", "read", "write", "io", "verify", "all", _0="none", _1="all")(text)
    kinds = {"none": (), "io": ("read", "write"), "all": ("read", "write", "verify")}
    return frozenset(kinds.get(word, (word,)))


def ioengine(text: str) -> str:
    """Tell whether that engine of fio's keeps a ``queue`` or is ``sync``: one I/O at a time."""
    name = text.strip()
    unknown = "fio has no such engine"
    if name.startswith("external:") or "/" in name:
        # The file's name says what it is: /usr/lib/fio/fio-libaio.so, .../build/fio/spdk_nvme.
        path = name.removeprefix("external:")
        name = path.rpartition("/")[2].removesuffix(".so").removeprefix("fio-")
        name, unknown = "spdk" if "spdk" in path else name, unsupported.ENGINES["external"]
    if name in SYNCHRONOUS:
        return "sync"
    if name in QUEUED:
        return "queue"
    raise JobError(f"not supported: {unsupported.ENGINES.get(name.partition(':')[0], unknown)}")


SYNCHRONOUS = ("sync", "psync", "vsync", "pvsync", "pvsync2", "libzbc")
QUEUED = (
    *("libaio", "io_uring", "io_uring_cmd", "posixaio", "solarisaio", "windowsaio"),
    *("xnvme", "libblkio", "spdk", "spdk_nvme", "spdk_bdev"),
)


def memory_align(text: str) -> None:
    """Accept what a page boundary satisfies."""
    if (align := v.natural(text)) and 4096 % align:
        raise JobError(
            f"not supported: buffers begin at a page of 4096 bytes, which {align} does not divide"
        )


def memory(text: str) -> None:
    """Accept every kind of host memory."""
    if text.strip() == "cudamalloc":
        raise JobError("not supported: data buffers are in host memory")


_PATTERN = re.compile(
    r"""\s*(?:0[xX](?P<hex>[0-9a-fA-F]+?)(?=0[xX]|[^0-9a-fA-F]|$)
    |"(?P<text>[^"]*)"|'(?P<file>[^']*)'|(?P<offset>%o)|(?P<number>-?\d+?(?=0[xX]|\D|$)))""",
    re.VERBOSE,
)


def pattern(text: str) -> tuple[bytes, tuple[int, ...]]:
    """Read a data pattern: ``0xdeadbeef``, ``"abcd"``, ``-12``, ``'file'``, ``%o``, one by one.

    Decimal numbers are little-endian in as few bytes as they need. Returns the bytes and the
    places in them where eight bytes are for the block's offset (``%o``).
    """
    data = bytearray()
    offsets: list[int] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _PATTERN.match(text, position)
        if match is None:
            raise JobError(
                f"{text[position:]!r} is not a pattern: "
                f"write 0xdeadbeef, \"abcd\", -12, 'file' or %o"
            )
        position = match.end()
        if digits := match["hex"]:
            data += bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
        elif match["text"] is not None:
            data += match["text"].encode(errors="surrogateescape")
        elif match["file"] is not None:
            data += _content(match["file"])
        elif match["offset"]:
            offsets.append(len(data))
            data += bytes(8)
        else:
            value = int(match["number"])
            if not -(1 << 31) <= value < 1 << 31:
                raise JobError(f"{value} in a pattern has more than 32 bits: write it with 0x")
            length = 4 if value < 0 else max(1, (value.bit_length() + 7) // 8)
            data += (value & 0xFFFFFFFF).to_bytes(4, "little")[:length]
    if not data:
        raise JobError("a pattern has at least one byte")
    return bytes(data), tuple(offsets)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise JobError(f"the pattern's file {path!r}: {reason}") from None


_DEVICE = re.compile(
    # A PCI address, alone or after a scheme; options go up to the next name.
    rf"(?:(?:vfio|uio):)?{PCI_ADDRESS}(?:\?[^:]*)?(?=:|$)"
    r"|(?:qemu|soft|vfio-user):|/|" + spdk.NAME,
    re.IGNORECASE,
)


def filenames(text: str) -> tuple[str, ...]:
    r"""Read the devices of ``filename=``.

    A colon separates two of them only where the next one can be seen to begin: with ``qemu:``,
    ``soft:``, ``vfio-user:``, ``vfio:``, ``uio:``, a PCI address, a ``/``, or SPDK's ``trtype=``.
    As in fio, ``\:`` never does.
    """
    names = tuple(spdk.device(name)[0] for name in _filenames(text))
    if not names:
        raise JobError("filename= names no device")
    return names


def namespace_of(text: str) -> int | None:
    """Tell which namespace ``filename=`` names, where that is one as SPDK writes it."""
    found = {spdk.device(name)[1] for name in _filenames(text)}
    if len(found) > 1:
        raise JobError("it names several namespaces: give each a job of its own, with nsid=")
    return found.pop()


def _filenames(text: str) -> list[str]:
    text = text.strip()
    names: list[str] = []
    start = 0
    while start < len(text):
        here = _DEVICE.match(text, start)
        end = here.end() if here else start
        while end < len(text) and not (
            text[end] == ":" and text[end - 1] != "\\" and _DEVICE.match(text, end + 1)
        ):
            end += 1
        names.append(text[start:end].replace("\\:", ":"))
        start = end + 1
    return names


def nodes(text: str) -> frozenset[int]:
    """Read NUMA nodes, ``0-1`` or ``all``, which is as if there were no such option: none."""
    if text.strip() == "all":
        return frozenset()
    try:
        return v.cpus(text)
    except JobError:
        raise JobError(
            f"{text!r} is not a list of NUMA nodes: write for example 0 or 0-1, or all"
        ) from None


def memory_policy(text: str) -> Placement | None:
    """Read ``bind:0``, ``prefer:1``, ``interleave:0-1``; None for ``default`` and ``local``."""
    mode, colon, rest = text.strip().partition(":")
    if mode in ("default", "local"):
        if colon:
            raise JobError(f"{mode} takes no nodes: use bind, prefer or interleave")
        return None
    try:
        return Placement(mode, nodes(rest))  # type: ignore[arg-type]  # it looks
    except ValueError as error:
        raise JobError(str(error)) from None


#: Words of pi_chk.
PROTECTION_PARTS = ("GUARD", "REFTAG", "APPTAG")


def protection_checks(text: str) -> frozenset[str]:
    """Read which parts of protection information are checked; SPDK's job files join them by |."""
    found = frozenset(word.upper() for word in words(text.replace("|", ","))) - {"NONE"}
    if unknown := found - set(PROTECTION_PARTS):
        raise JobError(
            f"{min(unknown)} is no part of protection information: there are "
            + ", ".join(PROTECTION_PARTS)
        )
    return found


def words(text: str) -> tuple[str, ...]:
    """Read words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
