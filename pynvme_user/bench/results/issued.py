"""What a job issued, written as fio's log of version 3 (write_iolog)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pynvme_user.native import tick_rate
from pynvme_user.workload.direction import DIRECTION_NAMES
from pynvme_user.workload.records import FLUSH, ISSUED_DTYPE

#: Bytes that stay in memory; above that, an unnamed file beside the log takes them.
_IN_MEMORY = 64 << 20
#: I/Os that are written as text at once.
_PIECE = 1 << 16
_ACTIONS = np.array([*DIRECTION_NAMES, "sync"])
_US = 1_000_000


class IssuedLog:
    """The I/Os of a job in the order of submission: collected while it runs, then written."""

    def __init__(self, path: str, device: str, *, block_bytes: int) -> None:
        self.path = path
        # No word of fio's log has a blank in it.
        self._name = "".join(device.split())
        self._block_bytes, self._rate = block_bytes, tick_rate()
        self._began: int | None = None
        folder = Path(path).parent
        self._spool = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115
        self._error: OSError | None = None

    def add(self, issued: npt.NDArray[np.void]) -> None:
        """Append I/Os (ISSUED_DTYPE). :meth:`write` raises the OSError of an append that failed."""
        if not len(issued) or self._error is not None:
            return
        if self._began is None:
            self._began = int(issued["at"][0])
        try:
            self._spool.write(issued.tobytes())
        except OSError as error:
            self._error = error

    def write(self) -> None:
        """Write the log. Raises OSError with its name."""
        try:
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(f"fio version 3 iolog\n0 {self._name} add\n0 {self._name} open\n")
                last = 0
                self._spool.seek(0)
                while piece := self._spool.read(_PIECE * ISSUED_DTYPE.itemsize):
                    part = np.frombuffer(piece, ISSUED_DTYPE, len(piece) // ISSUED_DTYPE.itemsize)
                    times = (part["at"] - np.uint64(self._began or 0)) * (_US / self._rate)
                    last = int(times[-1])
                    file.writelines(self._lines(part, times.astype(np.uint64)))
                file.write(f"{last} {self._name} close\n")
            if self._error is not None:
                raise self._error
        except OSError as error:
            error.filename = self.path
            raise
        finally:
            self._spool.close()

    def _lines(self, part: npt.NDArray[np.void], times: npt.NDArray[np.uint64]) -> list[str]:
        size = np.uint64(self._block_bytes)
        ios = part["io"]
        offsets = np.where(ios["direction"] == FLUSH, 0, ios["lba"] * size)
        return [
            f"{time} {self._name} {action} {offset} {length}\n"
            for time, action, offset, length in zip(
                times.tolist(),
                _ACTIONS[ios["direction"]].tolist(),
                offsets.tolist(),
                (ios["blocks"].astype(np.uint64) * size).tolist(),
                strict=True,
            )
        ]
