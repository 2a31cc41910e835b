"""That nothing keeps a device open which ``nvme://`` opened."""

from __future__ import annotations

import gc
import time

from pynvme_user.filesystem import _controllers


def await_all_closed() -> None:
    """Fail unless all are closed soon: threads of pyarrow's and DuckDB's let go of a file a moment
    after the call that read it.
    """
    deadline = time.monotonic() + 60
    while _controllers._open:
        assert time.monotonic() < deadline, [*_controllers._open]
        gc.collect()
        time.sleep(0.001)
