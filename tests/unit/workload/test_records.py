"""The structures that C writes and numpy reads: declared once, in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynvme_user import ring
from pynvme_user.native import dtype_of, ffi
from pynvme_user.workload import generator, records

STRUCTURES = {
    "struct nvme_histogram": records.HISTOGRAM_DTYPE,
    "struct nvme_bench_result": records.RESULT_DTYPE,
    "struct nvme_io": records.IO_DTYPE,
    "struct nvme_bench_record": records.RECORD_DTYPE,
    "struct nvme_bench_issued": records.ISSUED_DTYPE,
    "struct nvme_bin": generator.BIN_DTYPE,
    "struct nvme_tracker": ring._TRACKER_DTYPE,
    "struct nvme_completion": ring.COMPLETION_DTYPE,
}


def written(target: Any, count: int = 0) -> Any:
    """Write another number into each place of a C structure; return them as Python has them."""
    if isinstance(target, int):
        return count
    ctype = ffi.typeof(target)
    if ctype.kind == "array":
        for index in range(len(target)):
            target[index] = index + count
        return [index + count for index in range(len(target))]
    values = {}
    for name, member in ctype.fields:
        count += 7
        values[name] = written(getattr(target, name), count)
        if member.type.kind == "primitive":
            setattr(target, name, count)
    return values


def read(value: Any) -> Any:
    if isinstance(value, np.void):
        return {name: read(value[name]) for name in value.dtype.names or ()}
    return value.tolist()


@pytest.mark.parametrize("ctype", STRUCTURES)
def test_numpy_reads_what_c_writes(ctype: str) -> None:
    dtype = STRUCTURES[ctype]
    one = ffi.new(f"{ctype} *")
    values = written(one[0])
    assert values
    (found,) = np.frombuffer(bytes(ffi.buffer(one)), dtype)
    assert read(found) == values
    # What numpy writes into an array of its own is the same structure.
    assert found.tobytes() == bytes(ffi.buffer(one))
    assert dtype.itemsize == ffi.sizeof(ctype)


def test_a_pointer_is_nothing_for_numpy() -> None:
    with pytest.raises(TypeError, match=r"struct nvme_generator \* is nothing"):
        dtype_of("struct nvme_bench")


def test_signs_are_those_of_c() -> None:
    assert dtype_of("int16_t[3]") == np.dtype(("i2", 3))
    assert dtype_of("uint16_t") == np.dtype("u2")
