"""Logging: loggers by module, silent unless the program or NVME_USER_LOG asks for them.

``NVME_USER_LOG=debug`` (or info, warning, error) shows them on stderr. Transitions are logged,
from a command that is overdue to a device that is gone; no I/O is.
"""

from __future__ import annotations

import logging
import os
import warnings

VARIABLE = "NVME_USER_LOG"
_LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"


def level(text: str) -> int:
    """Return the level of that name. Raises ValueError for what is none."""
    if text not in _LEVELS:
        raise ValueError(f"{VARIABLE} is one of {', '.join(_LEVELS)}, not {text!r}")
    number: int = getattr(logging, text.upper())
    return number


def _begin() -> None:
    root = logging.getLogger("pynvme_user")
    root.addHandler(logging.NullHandler())  # else warnings would be printed unasked
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    try:
        root.setLevel(level(wanted))
    except ValueError as error:
        warnings.warn(str(error), stacklevel=1)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT, "%H:%M:%S"))
    root.addHandler(handler)


_begin()
logger = logging.getLogger
