"""For mutants.py: ends a test that hangs, even in C, and tells which test was under way."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path

#: Longer than any test takes beside another run of tests.
SECONDS = 40
UNDER_WAY = "under_way"
_STDERR = os.dup(2)  # what pytest does not capture


def pytest_runtest_logstart(nodeid: str) -> None:
    Path(UNDER_WAY).write_text(nodeid, encoding="utf-8")
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=_STDERR)


def pytest_runtest_logfinish() -> None:
    faulthandler.cancel_dump_traceback_later()
