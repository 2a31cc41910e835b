"""What a job's buffers hold before the first write."""

from __future__ import annotations

import numpy as np

from pynvme_user.bench.job import Job
from pynvme_user.dma import DmaBuffer

#: Random data is made once for so many bytes and repeated: making it is slower than any device.
_TILE = 1 << 20


def fill(buffer: DmaBuffer, job: Job) -> None:
    """Fill a buffer with what the job writes: random bytes, a pattern or zeroes.

    With ``buffer_compress_percentage`` the end of each chunk is the pattern, or zeroes, so that a
    compressing device finds that share.
    """
    if job.zero_buffers:
        return
    tile = min(_TILE, buffer.nbytes)
    pattern = np.frombuffer(job.buffer_pattern, np.uint8)
    share = job.buffer_compress_percentage
    if len(pattern) and not share:
        data = np.resize(pattern, tile)
    else:
        data = np.random.default_rng(job.seed).integers(0, 256, tile, np.uint8)
    if share:
        chunk = min(job.buffer_compress_chunk or job.largest_block, tile)
        dull = chunk * share // 100
        filler = np.resize(pattern, dull) if len(pattern) else np.zeros(dull, np.uint8)
        for end in range(chunk, tile + 1, chunk):
            data[end - dull : end] = filler
    for start in range(0, buffer.nbytes, tile):
        piece = buffer[start : start + tile]
        piece[:] = data[: len(piece)]
