"""Tensors in safetensors' layout on a device, and headers that cannot be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pynvme_user as nvme
from pynvme_user.views.tensors import DTYPES, header_length, parse_header

SIZE = 1 << 20


@pytest.fixture(scope="module")
def ns() -> Iterator[nvme.Namespace]:
    with nvme.open(f"soft:?size={SIZE}&mdts=2&inline=1") as ctrl:
        yield ctrl.namespaces[1]


def header(entries: dict[str, Any]) -> bytes:
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % 8)


def file_of(tensors: dict[str, tuple[str, Any]], metadata: dict[str, str] | None = None) -> bytes:
    """A file: names with the format and the array of each."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (kind, array) in tensors.items():
        end = len(data) + array.nbytes
        entries[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = header(entries)
    return len(text).to_bytes(8, "little") + text + data


def put(ns: nvme.Namespace, file: bytes, offset: int = 0) -> None:
    with ns.open("r+b", offset=offset) as out:
        out.write(file)


ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        arrays.arrays(DTYPES[kind], arrays.array_shapes(min_dims=0, min_side=0, max_side=60)),
    )
)


@settings(max_examples=15)
@given(
    tensors=st.dictionaries(st.text(max_size=9), ARRAYS, max_size=6),
    offset=st.integers(0, 1000) | st.just(4096),
)
def test_what_was_written_is_read(
    ns: nvme.Namespace, tensors: dict[str, tuple[str, Any]], offset: int
) -> None:
    file = file_of(tensors, {"format": "np"})
    if offset + len(file) > SIZE:
        return
    put(ns, file, offset)
    found = ns.as_tensors(offset, len(file))
    assert found.metadata == {"format": "np"}
    assert found.keys() == tensors.keys()
    for name, info in found.items():
        kind, array = tensors[name]
        assert (info.format, info.dtype, info.shape) == (kind, array.dtype, array.shape)
    read = found.read()
    assert list(read) == list(found)
    streamed = {name: array.copy() for name, array in found.stream(window=SIZE)}
    assert list(map(len, (read, streamed))) == [len(tensors)] * 2
    for name, (_, array) in tensors.items():
        for other in (read[name], streamed[name], found.read(name)[name]):
            assert (other.dtype, other.shape) == (array.dtype, array.shape)
            assert other.tobytes() == array.tobytes()


@pytest.fixture
def weights(ns: nvme.Namespace) -> nvme.TensorFile:
    rng = np.random.default_rng(3)
    tensors = {f"w{n}": ("F32", rng.random((n + 1, 500), np.float32)) for n in range(8)}
    tensors["b"] = ("BF16", np.arange(7, dtype="<u2"))
    put(ns, file_of(tensors), 512)
    return ns.as_tensors(512)


def test_some_of_them_into_memory_that_is_there(
    ns: nvme.Namespace, weights: nvme.TensorFile
) -> None:
    out = ns.controller.alloc(weights.room("w7", "w1"))
    read = weights.read("w7", "w1", out=out)
    assert list(read) == ["w7", "w1"]
    assert read["w7"].shape == (8, 500)
    assert all(np.shares_memory(array, out) for array in read.values())
    assert np.array_equal(read["w7"], weights.read()["w7"])
    assert weights.room("w1") < weights.room("w7") < weights.room() < SIZE
    with pytest.raises(ValueError, match=f"need a buffer of {len(out)} bytes, not 512"):
        weights.read("w7", "w1", out=out[:512])
    with pytest.raises(KeyError, match="nothing"):
        weights.read("nothing")
    other = np.empty(len(out), np.uint8)  # which the device does not reach: through a copy
    assert np.array_equal(weights.read("w1", out=other)["w1"], read["w1"])


def test_a_stream_has_the_window_and_no_more(weights: nvme.TensorFile) -> None:
    names = [name for name, _ in weights.stream("w5", "b", "w0", window=1 << 16)]
    assert names == ["w0", "w5", "b"]
    arrays_of = {name: array.copy() for name, array in weights.stream(window=34 << 10)}
    assert all(np.array_equal(arrays_of[name], array) for name, array in weights.read().items())
    with pytest.raises(ValueError, match=r"largest tensor twice: give window=3\d{4}, or read"):
        weights.stream(window=30 << 10)
    with pytest.raises(KeyError, match="nothing"):
        weights.stream("w1", "nothing")


def test_an_array_keeps_the_memory(weights: nvme.TensorFile) -> None:
    before = weights.read("w3")["w3"].copy()
    array = weights.read("w3")["w3"]
    for _ in range(9):
        weights.read()
    assert np.array_equal(array, before)


# --- headers that cannot be ---------------------------------------------------------------------

ONE = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
GOOD = {"a": ONE, "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]}}


def parsed(entries: Any, size: int = 10_000) -> Any:
    return parse_header(entries if isinstance(entries, bytes) else header(entries), size)


def test_a_good_one() -> None:
    tensors, metadata = parsed({"__metadata__": {"by": "hand"}, **GOOD})
    assert metadata == {"by": "hand"}
    assert [info.shape for info in tensors.values()] == [(4,), (2, 3)]
    assert tensors["b"].end - tensors["a"].start == 28
    assert parsed({}).tensors == {}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (b"", "not JSON in UTF-8"),
        (b"{", "not JSON in UTF-8"),
        (b"\xff{}", "not JSON in UTF-8"),
        (b'{"a": 1, "a": 1}', "a name is there twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[" * 100_000, "too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON in UTF-8"),
        ([], "is a JSON object"),
        (3, "is a JSON object"),
        ({"__metadata__": 3}, "text for text"),
        ({"__metadata__": {"a": 3}}, "text for text"),
        ({"a": 3}, "tensor a: it has dtype, shape and data_offsets"),
        ({"a": {}}, "it has dtype, shape and data_offsets"),
        ({"a": ONE | {"more": 1}}, "it has dtype, shape and data_offsets"),
        ({"a": ONE | {"dtype": "F128"}}, "its dtype is one of BOOL"),
        ({"a": ONE | {"dtype": ["U8"]}}, "its dtype is one of BOOL"),
        ({"a": ONE | {"shape": 4}}, "its shape is up to 32 whole numbers"),
        ({"a": ONE | {"shape": [True]}}, "its shape is up to 32 whole numbers"),
        ({"a": ONE | {"shape": [4.0]}}, "its shape is up to 32 whole numbers"),
        ({"a": ONE | {"shape": [-4]}}, "its shape is up to 32 whole numbers"),
        ({"a": ONE | {"shape": [1] * 32 + [4]}}, "its shape is up to 32 whole numbers"),
        ({"a": ONE | {"shape": [10**400]}}, "its shape is up to 32 whole numbers"),
        ({"a": ONE | {"shape": [2**40, 2**40]}}, "no memory holds the shape"),
        ({"a": ONE | {"shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}}, "no memory holds"),
        ({"a": ONE | {"data_offsets": [0]}}, "its data_offsets are two whole numbers"),
        ({"a": ONE | {"data_offsets": [-4, 0]}}, "its data_offsets are two whole numbers"),
        ({"a": ONE | {"data_offsets": [0, 10**400]}}, "its data_offsets are two whole numbers"),
        ({"a": ONE | {"data_offsets": [4, 0]}}, r"U8 of the shape \[4\] have 4 bytes, not -4"),
        ({"a": ONE | {"shape": [5]}}, r"U8 of the shape \[5\] have 5 bytes, not 4"),
        ({"a": ONE, "b": ONE}, "its data overlap those before: they begin at 0, not 4"),
        ({"a": ONE | {"data_offsets": [1, 5]}}, "its data leave a gap behind those before"),
        ({"a": ONE | {"shape": [2**60], "data_offsets": [0, 2**60]}}, "of a file of 10000 bytes"),
        ({"\x1b[2J\ud800": 3}, r"tensor \\x1b\[2J\\ud800: it has"),
    ],
)
def test_bad_ones(entries: Any, why: str) -> None:
    with pytest.raises(nvme.TensorFileError, match=why) as error:
        parsed(entries)
    assert len(str(error.value)) < 500


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*DTYPES, "dtype", "shape", "data_offsets"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["dtype", "shape", "data_offsets"]), inner
        )
    ),
    max_leaves=20,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(sorted(DTYPES)) | JSON,
        "shape": st.lists(st.integers(-1, 2**65), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(0, 2**65) | st.integers(0, 99), max_size=3) | JSON,
    }
)


@given(
    st.binary(max_size=200)
    | (st.dictionaries(st.text(max_size=3), ENTRY | JSON) | JSON).map(
        lambda entries: json.dumps(entries).encode("utf-8", "surrogatepass")
    ),
    st.integers(0, 500) | st.integers(0, 2**64),
)
@example(header(GOOD), 10_000)
def test_hostile_headers_are_right_or_one_error(text: bytes, size: int) -> None:
    tensors, said = {}, "nothing"
    try:
        tensors = parse_header(text, size).tensors
    except nvme.TensorFileError as error:
        said = str(error)
    assert len(said) < 500
    assert said.isprintable()
    at = 8 + len(text)
    for info in tensors.values():
        assert info.start == at
        assert info.end - info.start == math.prod(info.shape) * info.dtype.itemsize
        at = info.end
        if at - info.start < 1 << 20:
            np.empty(at - info.start, np.uint8).view(info.dtype).reshape(info.shape)
    assert not tensors or at <= size


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1, 100_000_001])
def test_lengths_of_the_header(ns: nvme.Namespace, length: int) -> None:
    ns.write(0, length.to_bytes(8, "little").ljust(ns.block_size, b"\0"))
    with pytest.raises(nvme.TensorFileError):
        ns.as_tensors()
    with pytest.raises(nvme.TensorFileError, match="there are no tensors in 7 bytes"):
        ns.as_tensors(0, 7)


def test_a_header_is_read_up_to_safetensors_own_limit() -> None:
    most = 100_000_000
    assert header_length(most.to_bytes(8, "little"), most + 8) == most
    for length, size in ((most + 1, 1 << 40), (1000, 1007)):
        with pytest.raises(nvme.TensorFileError, match=r"the header has .* bytes, of at most"):
            header_length(length.to_bytes(8, "little"), size)


def test_what_is_beyond_the_namespace(ns: nvme.Namespace) -> None:
    with pytest.raises(ValueError, match="not all in the namespace"):
        ns.as_tensors(SIZE - 4, 8)
