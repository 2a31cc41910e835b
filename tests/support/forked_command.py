"""The command ``nvme-user`` in a process of its own that is forked, with all modules imported.

To import them takes many times what most commands do. One server, which does nothing but that and
fork, is started for all tests; a child of it has the descriptors, the environment and the folder
that it is given, runs the program's main(), and ends as an interpreter does.

What Python looks at when it starts is as the server found it: `needs_its_own` tells which
environments a forked command does not do for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

#: The process id, then how it ended, as waitpid() tells it.
NUMBER = struct.Struct("i")
ENCODING = ("LANG", "LC_", "PYTHON")  # the beginnings of what Python's start depends on
MAX_REQUEST = 1 << 18


def needs_its_own(environment: Mapping[str, str]) -> bool:
    """Whether an environment differs from this process's in what an interpreter's start reads."""

    def read(names: Mapping[str, str]) -> dict[str, str]:
        return {name: names[name] for name in names if name.startswith(ENCODING)}

    return read(environment) != read(os.environ | {"LC_ALL": "C.UTF-8"})


class Forked(subprocess.Popen[bytes]):
    """One command: what `subprocess.Popen` is of a process that it started."""

    def __init__(
        self,
        server: Server,
        words: list[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: int | IO[Any],
        stdout: int | IO[Any],
        stderr: int | IO[Any],
    ) -> None:
        self.args = words
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        with contextlib.ExitStack() as theirs:
            ends = [
                self._end(theirs, given, mode)
                for given, mode in ((stdin, "wb"), (stdout, "rb"), (stderr, "rb"))
            ]
            self.stdin, self.stdout, self.stderr = (ours for _, ours in ends)
            self._status, status = os.pipe()
            theirs.callback(os.close, status)
            server.ask(
                {"words": words, "environment": dict(env), "folder": str(cwd)},
                [*(descriptor for descriptor, _ in ends), status],
            )
        self.pid = self._number()
        # What the inherited communicate() and wait() look at.
        self._child_created = True
        self._communication_started = False
        self._input = None
        self._sigint_wait_secs = 0.25
        self.text_mode = False
        self.encoding = self.errors = None

    @staticmethod
    def _end(theirs: contextlib.ExitStack, given: int | IO[Any], mode: str) -> tuple[int, Any]:
        """The command's end of one of its standard streams, and ours if that is a pipe."""
        if given == subprocess.DEVNULL:
            descriptor = os.open(os.devnull, os.O_RDWR)
            theirs.callback(os.close, descriptor)
            return descriptor, None
        if given == subprocess.PIPE:
            read, write = os.pipe()
            here, there = (write, read) if mode == "wb" else (read, write)
            theirs.callback(os.close, there)
            return there, open(here, mode)
        return (given if isinstance(given, int) else given.fileno()), None

    def _number(self) -> int:
        data = os.read(self._status, NUMBER.size)
        if not data:
            raise ChildProcessError("the server of forked commands ended")
        (number,) = NUMBER.unpack(data)
        return int(number)

    def _wait(self, timeout: float | None) -> int:
        with self._waiting:
            if self.returncode is None:
                poll = select.poll()
                poll.register(self._status, select.POLLIN)
                if not poll.poll(None if timeout is None else max(0, timeout) * 1000):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                self.returncode = os.waitstatus_to_exitcode(self._number())
                os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._wait(0)
        return None

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        return self.poll()


class Server:
    """The process that imports the command once, and forks."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )

    def ask(self, request: dict[str, Any], descriptors: list[int]) -> None:
        socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)

    def start(self, words: list[str], **options: Any) -> Forked:
        return Forked(self, words, **options)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


# --- in the server --------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    """Return in each child that is to run the command; end when nobody asks any more."""
    children: dict[int, tuple[int, int]] = {}  # by its pidfd: its process id, its status's pipe
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    selector.unregister(key.fileobj)
                    end(key.fd, *children.pop(key.fd))
                    continue
                asked, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, 4)
                if not asked:
                    os._exit(0)
                child = os.fork()
                if not child:
                    selector.close()
                    requests.close()
                    for other, (_, status) in children.items():
                        os.close(other)
                        os.close(status)
                    become(json.loads(asked), descriptors)
                    return
                *standard, status = descriptors
                for descriptor in standard:
                    os.close(descriptor)
                os.write(status, NUMBER.pack(child))
                pidfd = os.pidfd_open(child)
                children[pidfd] = child, status
                selector.register(pidfd, selectors.EVENT_READ)


def end(pidfd: int, child: int, status: int) -> None:
    """Tell how a child ended."""
    os.close(pidfd)
    with contextlib.suppress(BrokenPipeError):  # nobody asks
        os.write(status, NUMBER.pack(os.waitpid(child, 0)[1]))
    os.close(status)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take the streams, the environment, the folder and the arguments of the command."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115 - it is the process's own
            number,
            "w" if number else "r",
            buffering=1 if number == 2 or os.isatty(number) else -1,
            encoding=before.encoding,
            errors=before.errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["words"]


def run() -> NoReturn:
    # It is the tests, or a command, that are interrupted: one that has just begun keeps it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    requests = socket.socket(fileno=int(sys.argv[1]))
    import numpy  # noqa: F401

    import pynvme_user.access.qtest
    import pynvme_user.driver.controller
    import pynvme_user.testing.device  # noqa: F401
    from pynvme_user.cli import group  # noqa: F401
    from pynvme_user.cli.main import main

    serve(requests)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.exit(main())


if __name__ == "__main__":
    run()
