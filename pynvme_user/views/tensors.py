"""Tensors in safetensors' layout: eight bytes, a header in JSON, and data.

The header is whoever's wrote the file: nothing in it is believed before it is checked.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pynvme_user.dma import DmaBuffer, as_bytes
from pynvme_user.errors import TensorFileError
from pynvme_user.spec.text import printable
from pynvme_user.views.storage import ByteRange
from pynvme_user.views.window import PARTS, WINDOW, Layout

#: Elements by their name in the header; those that numpy does not know are whole numbers of their
#: size, for a view of them as what they are.
DTYPES = {
    name: np.dtype(kind)
    for name, kind in {
        "BOOL": "?",
        "U8": "u1",
        "I8": "i1",
        "F8_E4M3": "u1",
        "F8_E5M2": "u1",
        "F8_E8M0": "u1",
        "U16": "<u2",
        "I16": "<i2",
        "F16": "<f2",
        "BF16": "<u2",
        "U32": "<u4",
        "I32": "<i4",
        "F32": "<f4",
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
        "C64": "<c8",
    }.items()
}
#: Bytes of a header at most, as in safetensors itself.
_MOST = 100_000_000
_LENGTH = 8
_METADATA = "__metadata__"
#: What every numpy can have.
_AXES = 32

#: See :func:`read_ahead`.
Reader = Callable[[Iterable[tuple[int, int]], Layout], Iterator[DmaBuffer]]


class TensorInfo(NamedTuple):
    """What the header says of a tensor: its data are bytes ``start`` to ``end`` of the file.

    ``format`` is the name of its elements there, such as "BF16"; ``dtype`` is numpy's, of whole
    numbers without a sign (uint8, uint16) where numpy has none.
    """

    format: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


class _Span(NamedTuple):
    """Neighbouring tensors: the blocks that have them, from ``first`` up to ``end``."""

    first: int
    end: int
    names: list[str]


class Header(NamedTuple):
    """What is before the data; the tensors in the order of their data."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def header_length(head: bytes, size: int) -> int:
    """Return the length of the header of a file of so many bytes, from its first eight."""
    if size < _LENGTH:
        raise TensorFileError(f"there are no tensors in {size} bytes: a file has 8 bytes or more")
    length = int.from_bytes(head, "little")
    if length > min(_MOST, size - _LENGTH):
        raise TensorFileError(
            f"the header has {length} bytes, of at most {min(_MOST, size - _LENGTH)}: is a file "
            "in safetensors' layout at this place, whole?"
        )
    return length


def parse_header(text: bytes, size: int) -> Header:
    """Check the header of a file of so many bytes. Raises TensorFileError for one that is wrong."""
    try:
        found = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "it is too deep" if isinstance(error, RecursionError) else _shown(str(error))
        raise TensorFileError(f"the header is not JSON in UTF-8: {why}") from None
    if not isinstance(found, dict):
        raise TensorFileError(f"the header is a JSON object, not {_shown(found)}")
    metadata = found.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise TensorFileError(f"{_METADATA} has text for text, not {_shown(metadata)}")
    data = _LENGTH + len(text)
    tensors = {name: _tensor(name, entry, data) for name, entry in found.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: item[1][-2:]))
    at = data
    for name, info in tensors.items():
        if info.start != at:
            what = "overlap those before" if info.start < at else "leave a gap behind those before"
            raise _wrong(
                name, f"its data {what}: they begin at {info.start - data}, not {at - data}"
            )
        at = info.end
        if at > size:
            raise _wrong(name, f"its data end at byte {at} of a file of {size} bytes")
    return Header(tensors, metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _tensor(name: str, entry: Any, data: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _wrong(name, f"it has dtype, shape and data_offsets, not {_shown(entry)}")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise _wrong(name, f"its dtype is one of {', '.join(DTYPES)}, not {_shown(kind)}")
    if not _are_sizes(shape) or len(shape) > _AXES:
        raise _wrong(name, f"its shape is up to {_AXES} whole numbers, not {_shown(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise _wrong(name, f"its data_offsets are two whole numbers, not {_shown(offsets)}")
    dtype = DTYPES[kind]
    # Also where an axis of 0 makes it none: numpy multiplies the others.
    if math.prod(axis or 1 for axis in shape) * dtype.itemsize > sys.maxsize:
        raise _wrong(name, f"no memory holds the shape {_shown(shape)}")
    size, length = math.prod(shape) * dtype.itemsize, offsets[1] - offsets[0]
    if size != length:
        raise _wrong(name, f"{kind} of the shape {_shown(shape)} have {size} bytes, not {length}")
    return TensorInfo(kind, dtype, tuple(shape), data + offsets[0], data + offsets[1])


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(
        type(one) is int and 0 <= one <= sys.maxsize for one in found
    )


def _wrong(name: str, what: str) -> TensorFileError:
    return TensorFileError(f"tensor {_shown(name)}: {what}")


def _shown(found: Any) -> str:
    """Write what is in a header, or its beginning."""
    text = printable(found if isinstance(found, str) else repr(found))
    return text if len(text) <= 100 else f"{text[:100]}..."


class TensorFile(Mapping[str, TensorInfo]):
    """Tensors that lie in a namespace, in safetensors' layout; made by
    :meth:`Namespace.as_tensors`.

    A mapping of names, in the order of the data, to what the header says of each. The data are
    read without a copy, each tensor as a numpy array over the memory that the device wrote to.
    """

    def __init__(
        self, bytes_: ByteRange, alloc: Callable[[int], DmaBuffer], reader: Reader
    ) -> None:
        self._bytes = bytes_
        self._alloc = alloc
        self._reader = reader
        head = np.zeros(_LENGTH, np.uint8)
        if bytes_.size >= _LENGTH:
            bytes_.read_into(0, head)
        text = np.empty(header_length(head.tobytes(), bytes_.size), np.uint8)
        if text.nbytes:
            bytes_.read_into(_LENGTH, text)
        header = parse_header(text.tobytes(), bytes_.size)
        self._tensors = header.tensors
        #: The text that the file has beside its tensors.
        self.metadata: Mapping[str, str] = MappingProxyType(header.metadata)

    def __getitem__(self, name: str) -> TensorInfo:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def room(self, *names: str) -> int:
        """Tell how many bytes :meth:`read` of these tensors, or of all, needs: whole blocks."""
        return sum(span.end - span.first for span in self._spans(names)) * self._block_size

    def read(self, *names: str, out: npt.NDArray[Any] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Read these tensors, or all, and give them by name: arrays over one buffer of DMA memory.

        ``out`` is a buffer to read into, of :meth:`room` bytes or more. Neighbours are read at
        once. Raises KeyError for a name that there is not, ValueError for a smaller ``out``; and as
        :meth:`Namespace.read_into`.
        """
        spans, room = self._spans(names), self.room(*names)
        if out is None:
            memory = self._alloc(max(room, 1))
            memory.page_lock()
            out = memory
        elif out.nbytes < room:
            raise ValueError(f"these tensors need a buffer of {room} bytes, not {out.nbytes}")
        out = as_bytes(out)
        found: dict[str, npt.NDArray[Any]] = {}
        at = 0
        for span in spans:
            part = out[at : at + (span.end - span.first) * self._block_size]
            if part.nbytes:
                self._bytes.ns.read_into(span.first, part)
            found |= self._arrays(span, part)
            at += part.nbytes
        return {name: found[name] for name in names or self}

    def stream(self, *names: str, window: int = WINDOW) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Give these tensors, or all, one after the other, in the order of their data.

        ``window`` bytes of DMA memory are filled before they are asked for, at the speed of
        :meth:`Namespace.stream`. An array is valid until the next is asked for. Raises ValueError
        for a window that has not room for the largest tensor twice; else as :meth:`read`.
        """
        size = self._block_size
        each = [self._spans([name])[0] for name in {*names} or self]
        most = max((span.end - span.first for span in each), default=0)
        most = max(most, window // PARTS // size, 1)
        spans = self._spans(names, most)
        parts = min(window // (most * size), len(spans))
        if parts < min(2, len(spans)):
            raise ValueError(
                f"a window of {window} bytes has not room for the largest tensor twice: give "
                f"window={2 * most * size}, or read()"
            )
        return self._streamed(spans, Layout(most, max(parts, 1)))

    def _streamed(
        self, spans: list[_Span], window: Layout
    ) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        full = [span for span in spans if span.first < span.end]
        for span in spans:
            if span.first == span.end:  # of tensors that have no elements
                yield from self._arrays(span, np.empty(0, np.uint8)).items()
        pieces = ((span.first, span.end - span.first) for span in full)
        for span, part in zip(full, self._reader(pieces, window), strict=True):
            yield from self._arrays(span, part).items()

    @property
    def _block_size(self) -> int:
        return self._bytes.ns.block_size

    def _spans(self, names: Iterable[str], most: int = sys.maxsize) -> list[_Span]:
        """Put tensors together that share a block or adjoin, up to so many blocks."""
        size, offset = self._block_size, self._bytes.offset
        spans: list[_Span] = []
        for name, info in sorted(
            ((name, self[name]) for name in {*names} or self), key=lambda item: item[1][-2:]
        ):
            first = (offset + info.start) // size
            end = -(-(offset + info.end) // size) if info.end > info.start else first
            last = spans[-1] if spans else None
            if last and last.first <= first <= last.end and max(end, last.end) - last.first <= most:
                spans[-1] = last._replace(end=max(end, last.end), names=[*last.names, name])
            else:
                spans.append(_Span(first, end, [name]))
        return spans

    def _arrays(self, span: _Span, memory: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """View the tensors of a span in the memory that it was read into."""
        start = span.first * self._block_size - self._bytes.offset
        found = {}
        for name in span.names:
            info = self[name]
            data = memory.view(np.ndarray)[info.start - start :][: info.end - info.start]
            found[name] = data.view(info.dtype).reshape(info.shape)
        return found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} tensors>"
