"""Builds the two extensions (cffi, API mode): the C core as ``pynvme_user._ring_cffi``, and the
software controller as ``pynvme_user.testing._controller_cffi``, which the driver does not need.

The declarations that Python sees are cut out of the C headers themselves, between their
``cdef: begin`` and ``cdef: end`` marks, so that there is one place for each.
"""

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
HEADERS = (
    "_clock.h",
    "_ring.h",
    "_vector.h",
    "_metadata_vector.h",
    "_batch.h",
    "_single.h",
    "_crc.h",
    "_protection.h",
    "workload/_generator.h",
    "workload/_buffers.h",
    "workload/_checksum.h",
    "workload/_verify.h",
    "workload/_histogram.h",
    "workload/_bench_metadata.h",
    "workload/_bench.h",
    "workload/_bench_split.h",
    "workload/_bench_many.h",
    "workload/_overhead.h",
    "access/_qtest.h",
    "access/_bar.h",
)
SOURCES = (
    "_clock.c",
    "_ring.c",
    "_vector.c",
    "_metadata_vector.c",
    "_batch.c",
    "_single.c",
    "_crc.c",
    "_protection.c",
    "workload/_generator.c",
    "workload/_buffers.c",
    "workload/_checksum.c",
    "workload/_verify.c",
    "workload/_verify_fault.c",
    "workload/_histogram.c",
    "workload/_bench_metadata.c",
    "workload/_bench.c",
    "workload/_bench_due.c",
    "workload/_bench_counts.c",
    "workload/_bench_split.c",
    "workload/_bench_many.c",
    "workload/_overhead.c",
    "access/_qtest.c",
    "access/_bar.c",
)

CONTROLLER_HEADERS = ("testing/_controller.h",)
CONTROLLER_SOURCES = (
    "_clock.c",
    "testing/_controller.c",
    "testing/_admin.c",
    "testing/_data.c",
    "testing/_queues.c",
    "testing/_own_memory.c",
    "testing/_registers.c",
    "testing/_rules.c",
    "testing/_shadow.c",
    "testing/_storage.c",
)

#: Python's own flags may have a stack protector, which costs a transfer six instructions, and whose
#: place the sanitizers take in the tests.
FLAGS = ["-std=c11", "-O3", "-fno-stack-protector"]


def declarations(header: str) -> str:
    """Return the part of a header that cffi reads."""
    text = (HERE / header).read_text(encoding="utf-8")
    marked = re.search(r"/\* cdef: begin.*?\*/(.*)/\* cdef: end \*/", text, re.DOTALL)
    if marked is None:
        raise ValueError(f"{header} has no cdef marks")
    return marked.group(1)


def extension(name: str, headers: tuple[str, ...], sources: tuple[str, ...]) -> FFI:
    """Describe an extension made of these files of the package."""
    builder = FFI()
    for header in headers:
        builder.cdef(declarations(header))
    builder.set_source(
        f"pynvme_user.{name}",
        "".join(f'#include "{header}"\n' for header in headers),
        # Relative, as setuptools demands of a source that it copies into an sdist.
        sources=[f"pynvme_user/{source}" for source in sources],
        include_dirs=[str(HERE)],
        extra_compile_args=FLAGS,
    )
    return builder


ffibuilder = extension("_ring_cffi", HEADERS, SOURCES)
controller = extension("testing._controller_cffi", CONTROLLER_HEADERS, CONTROLLER_SOURCES)
# What it asks of rules in Python.
controller.cdef(
    'extern "Python" uint32_t testing_answer(void *context, struct controller_call *call);'
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
    controller.compile(verbose=True)
