"""What belongs to this process alone: its descriptors, and the objects on devices that it opened.

A forked child inherits all of it and may use none of it (invariant 6). So in the child each
descriptor that was made here is closed, by close(2) alone, which takes nothing from the parent; and
each object that is registered here is told. A program that is started by exec, as by subprocess and
by multiprocessing's spawn and forkserver, inherits nothing: descriptors are close-on-exec.

Descriptors lie above 2: where standard input, output or error is closed, a device would get its
number, and with it what is printed.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import ParamSpec, Protocol

_P = ParamSpec("_P")


class Owned(Protocol):
    """An object that is told of a fork."""

    def forked(self, owner: int) -> None:
        """Refuse all use from now on, in a child of process ``owner``, which made this object.

        There is no other thread. Whatever lock another one held stays locked: make it anew.
        """


class Closed(Protocol):
    """An object that is closed at the interpreter's exit at the latest."""

    def close(self) -> None:
        """Give back what it has. Safe to call twice."""


#: Held while this process forks, and for what no fork may cut in two: making a descriptor here.
no_fork = threading.RLock()
_descriptors: set[int] = set()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_objects: weakref.WeakSet[Owned] = weakref.WeakSet()
_closed_at_exit: weakref.WeakSet[Closed] = weakref.WeakSet()
_pid = os.getpid()


class Undo(ExitStack):
    """What an opened device gives back, in an ExitStack that closes itself where its owner is lost.

    Ctrl-C may come when the owner is made and nobody holds it yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._pid:
            self.close()


def register(thing: Owned) -> None:
    """Tell an object of a fork, in the child, as long as it lives."""
    with no_fork:
        _objects.add(thing)


def close_at_exit(thing: Closed) -> None:
    """Close an object at the interpreter's exit, after the controllers, if it still lives then."""
    with no_fork:
        _closed_at_exit.add(thing)


def _close_what_is_left() -> None:
    with ExitStack() as each:  # whatever becomes of the others
        for thing in list(_closed_at_exit):
            each.callback(thing.close)


# What is registered first is called last: the driver registers its own later.
atexit.register(_close_what_is_left)


def descriptor(make: Callable[_P, int], *args: _P.args, **named: _P.kwargs) -> int:
    """Make a descriptor by a call such as ``os.open``. It is closed by :func:`close`.

    Raises as the call does.
    """
    with no_fork:
        return adopt(make(*args, **named))


def adopt(number: int) -> int:
    """Take a descriptor that came from elsewhere, such as another process; it may get a new number.

    It is closed by :func:`close`. Raises OSError, and it is closed then.
    """
    with no_fork:
        number = above_standard(number)
        _descriptors.add(number)
    return number


def close(number: int) -> None:
    """Close what :func:`descriptor` made."""
    with no_fork:
        _descriptors.discard(number)
        os.close(number)


def above_standard(number: int) -> int:
    """Move a descriptor above 2. Raises OSError where there are no more of them."""
    if number > 2:
        return number
    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(number)


def unix_socket() -> socket.socket:
    """Make a stream socket of the local machine, which is closed as any."""
    with no_fork:
        return _keep(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))


def unix_socket_pair() -> tuple[socket.socket, socket.socket]:
    """Make two of them, connected to each other."""
    with no_fork:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return _keep(ours), _keep(theirs)


def is_here() -> bool:
    """Whether this is the process that made what is registered: False in a child just forked, in
    which finalizers run before anything is told.
    """
    return os.getpid() == _pid


def _keep(made: socket.socket) -> socket.socket:
    if made.fileno() <= 2:
        made = socket.socket(fileno=above_standard(made.detach()))
    _sockets.add(made)
    return made


def _leave_to_parent() -> None:
    """Make a forked child own nothing. Waits for nothing, and raises nothing."""
    global _pid
    owner, _pid = _pid, os.getpid()
    # Detached: a socket that closes itself later would close whatever has its number by then.
    for number in [*_descriptors, *(kept.detach() for kept in list(_sockets))]:
        with suppress(OSError):
            os.close(number)
    _descriptors.clear()
    for thing in list(_objects):
        thing.forked(owner)
    _objects.clear()
    _closed_at_exit.clear()
    no_fork.release()


os.register_at_fork(
    before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=_leave_to_parent
)
