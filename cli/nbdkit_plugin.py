"""nbdkit's plugin: ``nbdkit python nbdkit_plugin.py device=NAME``. `nvme-user serve nbd` runs it.

nbdkit embeds an interpreter of its own, which runs this file. What else it needs is imported once
the parameters are known: ``site=`` names folders of packages, as of a virtual environment. The
device is opened after nbdkit's fork, since a forked child has nothing of its parent's.
"""

from __future__ import annotations

import errno
import json
import os
import site
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import nbdkit

if TYPE_CHECKING:
    from pynvme_user.nbd import Export

API_VERSION = 2

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PARAMETERS = {
    "device": "the device's name",
    "namespace": "its namespace, where it has several",
    "read_only": "true: nothing is written",
    "force": "true: write also to what carries a partition table or file system",
    "timeout": "seconds that one command may take",
    "plain_cids": "true: as nvme-user's --plain-cids",
    "site": "folders of Python packages, with colons between them",
    "status": "the descriptor to which the result of the opening is written",
}
_given: dict[str, str] = {}
_export: Export | None = None
_opened = ExitStack()

# The sentence of an error is what its reader can use.
sys.tracebacklimit = 0


class Failed(Exception):
    """What nbdkit prints, and tells its client."""


def dump_plugin() -> None:
    """Print what the parameters are."""
    for name, meaning in _PARAMETERS.items():
        print(f"{name}={meaning}")


def config(key: str, value: str) -> None:
    """Take a parameter."""
    if key not in _PARAMETERS:
        raise Failed(f"there is no parameter {key}: {', '.join(_PARAMETERS)}")
    _given[key] = value


def config_complete() -> None:
    """Look whether they make sense, and whether the package is there for this Python."""
    for folder in _given.get("site", "").split(":"):
        if folder:
            site.addsitedir(folder)
    try:
        import pynvme_user.cli.errors
        import pynvme_user.nbd  # noqa: F401
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        _fail(
            f"nbdkit runs Python {version}, which cannot import pynvme_user ({error}): install it "
            f"in a virtual environment of Python {version} (python{version} -m venv ENV; "
            "ENV/bin/pip install pynvme_user) and run ENV/bin/nvme-user serve nbd, or name that "
            "environment's site-packages by site="
        )
    if "device" not in _given:
        _fail("no device: add device=NAME, for example device=qemu:disk.img?size=1G")


def thread_model() -> int:
    """Take requests of all connections at once."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def after_fork() -> None:
    """Open the device."""
    import warnings

    from pynvme_user.cli.errors import describe

    warnings.showwarning = _show_warning
    try:
        _open()
    except Exception as error:
        _opened.close()
        sentence, code = describe(error)
        if "status" not in _given:
            raise Failed(sentence) from None
        _tell({"error": sentence, "code": code})
        nbdkit.shutdown()
    else:
        if "status" in _given:
            _tell({})


def cleanup() -> None:
    """Close the device, after the last connection's end."""
    global _export
    _export = None
    _opened.close()


def _open() -> None:
    global _export
    from pynvme_user.cli.device import namespace
    from pynvme_user.cli.errors import Failure
    from pynvme_user.cli.guard import guard
    from pynvme_user.nbd import Export, open_device

    read_only = _true("read_only")
    timeout, plain_cids = float(_given.get("timeout", 30)), _true("plain_cids")
    controller = _opened.enter_context(
        open_device(_given["device"], timeout=timeout, plain_cids=plain_cids)
    )
    nsid = _given.get("namespace")
    ns = namespace(controller, None if nsid is None else int(nsid))
    made = Export(ns, read_only=read_only)
    if not read_only:
        try:
            guard(ns, _true("force"), "export it for writing")
        except Failure as error:
            error.add_note("--read-only exports it as it is")
            raise
    _export = made


def _true(name: str) -> bool:
    return _given.get(name, "") in ("1", "true", "yes", "on")


def _tell(outcome: dict[str, Any]) -> None:
    with os.fdopen(int(_given["status"]), "w") as file:
        json.dump(outcome, file)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"nvme-user: warning: {message}", file=sys.stderr, flush=True)


def _fail(sentence: str) -> NoReturn:
    if "status" in _given:
        _tell({"error": sentence, "code": 1})
    raise Failed(sentence)


# --- a connection ---------------------------------------------------------------------------------


def open(readonly: bool) -> Export:
    """Begin a connection: all have the same export."""
    if _export is None:
        raise Failed("the device is not open")
    return _export


def get_size(h: Export) -> int:
    """Return its size in bytes."""
    return h.size


def block_size(h: Export) -> tuple[int, int, int]:
    """Return the least, the preferred and the greatest length of a request."""
    return h.block_sizes


def is_rotational(h: Export) -> bool:
    """Tell that nothing turns."""
    return False


def can_multi_conn(h: Export) -> bool:
    """Tell that a flush covers the writes of all connections: they share one controller."""
    return True


def can_write(h: Export) -> bool:
    """Tell whether it may be written."""
    return not h.read_only


def can_flush(h: Export) -> bool:
    """Tell that it can be flushed."""
    return True


def can_fua(h: Export) -> int:
    """Tell that each request may ask to be durable."""
    return int(nbdkit.FUA_NATIVE)


def can_trim(h: Export) -> bool:
    """Tell whether the controller deallocates."""
    return h.can_trim


def can_zero(h: Export) -> bool:
    """Tell whether the controller writes zeroes by itself; else nbdkit writes them."""
    return h.can_zero


def can_fast_zero(h: Export) -> bool:
    """Tell that who asks for zeroes that cost less than writing them is answered at once."""
    return True


def can_extents(h: Export) -> bool:
    """Tell whether the controller says what is allocated; else all of it counts as such."""
    return h.reports_allocation


def _answered(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let the client have an errno that NBD knows, and nbdkit's log the sentence."""

    @wraps(call)
    def answered(*args: _P.args, **named: _P.kwargs) -> _T:
        try:
            return call(*args, **named)
        except Exception as error:
            from pynvme_user.nbd import error_number

            number = error_number(error)
            nbdkit.set_error(number)
            if number == errno.EOPNOTSUPP:
                raise  # nbdkit's to hear: it does without
            raise Failed(str(error)) from None

    return answered


@_answered
def pread(h: Export, buf: memoryview, offset: int, flags: int) -> None:
    """Fill a buffer."""
    h.read_into(offset, buf)


@_answered
def pwrite(h: Export, buf: memoryview, offset: int, flags: int) -> None:
    """Write a buffer."""
    h.write_from(offset, buf, fua=bool(flags & nbdkit.FLAG_FUA))


@_answered
def flush(h: Export, flags: int) -> None:
    """Make all writes durable that were acknowledged, of all connections."""
    h.flush()


@_answered
def trim(h: Export, count: int, offset: int, flags: int) -> None:
    """Deallocate."""
    h.trim(offset, count, fua=bool(flags & nbdkit.FLAG_FUA))


@_answered
def zero(h: Export, count: int, offset: int, flags: int) -> None:
    """Write zeroes."""
    h.zero(
        offset,
        count,
        may_trim=bool(flags & nbdkit.FLAG_MAY_TRIM),
        fua=bool(flags & nbdkit.FLAG_FUA),
        fast=bool(flags & nbdkit.FLAG_FAST_ZERO),
    )


@_answered
def extents(h: Export, count: int, offset: int, flags: int) -> Iterator[tuple[int, int, int]]:
    """Say what is allocated; what is not reads as zeroes where the device says so."""
    free = nbdkit.EXTENT_HOLE | (nbdkit.EXTENT_ZERO if h.deallocated_is_zero else 0)
    found = [*h.extents(offset, count, one=bool(flags & nbdkit.FLAG_REQ_ONE))]
    return iter([(at, length, 0 if allocated else free) for at, length, allocated in found])
