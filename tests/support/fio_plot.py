"""fio-plot, which draws what fio writes and has to draw what we write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_FIO_PLOT = shutil.which("fio-plot", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

needed = pytest.mark.skipif(_FIO_PLOT is None, reason="fio-plot is not installed")


def draw(folder: Path, *options: str) -> None:
    """Draw the files of a folder; fail unless a picture comes of it."""
    assert _FIO_PLOT is not None
    picture = folder / "plot.png"
    done = subprocess.run(
        [_FIO_PLOT, "-i", folder, "-o", picture, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
