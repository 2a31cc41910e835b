"""What the loops in C count and note, as numpy reads it: each declared in its C header alone."""

from __future__ import annotations

from pynvme_user.native import dtype_of, lib

#: Buckets of a histogram; each power of two of nanoseconds has ``1 << BUCKET_BITS``.
BUCKETS: int = lib.NVME_BUCKETS
BUCKET_BITS: int = lib.NVME_BUCKET_BITS
#: Where a Flush's results are; the others are by fio's direction: read, write, trim.
FLUSH: int = lib.NVME_BENCH_FLUSH

#: Latencies in nanoseconds. ``min`` is 2**64 - 1 while there is none.
HISTOGRAM_DTYPE = dtype_of("struct nvme_histogram")
#: What one direction came to.
RESULT_DTYPE = dtype_of("struct nvme_bench_result")
#: An I/O of a list.
IO_DTYPE = dtype_of("struct nvme_io")
#: An I/O of the log, times in nanoseconds.
RECORD_DTYPE = dtype_of("struct nvme_bench_record")
#: An I/O in the order of submission; ``at`` in ticks.
ISSUED_DTYPE = dtype_of("struct nvme_bench_issued")
#: The latencies that results and the log have, in their order.
LATENCIES = tuple(
    name for name in RESULT_DTYPE.names or () if RESULT_DTYPE[name] == HISTOGRAM_DTYPE
)
