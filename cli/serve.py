"""``serve``: a device for other programs; ``serve nbd`` by nbdkit, which has to be installed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import click

from pynvme_user.cli.device import device_command, namespace_option
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.plugin import Plugin

PLUGIN = Path(__file__).with_name("nbdkit_plugin.py")
_PACKAGES = "apt-get install nbdkit nbdkit-plugin-python"
#: Where Debian had nbdkit before it was in /usr/bin.
_MORE_PATH = "/usr/sbin:/usr/local/sbin"


@device_command("nbd", "nvme-user serve nbd 'qemu:disk.img?size=1G' --socket /tmp/disk.sock")
@namespace_option
@click.option(
    "--socket",
    type=click.Path(),
    metavar="PATH",
    help="The Unix socket to make; by default one in a folder of its own.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Listen on this TCP port instead.")
@click.option(
    "--address",
    metavar="IP",
    default="127.0.0.1",
    show_default=True,
    help="With --port, where: 0.0.0.0 lets everyone in, there is no password.",
)
@click.option("--read-only", is_flag=True, help="Let nobody write.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Requests of a connection that run at once.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Let clients write even where there is a partition table or file system.",
)
@click.option("--dry-run", "-w", is_flag=True, help="Print nbdkit's command, and do not run it.")
def nbd(
    device: str,
    namespace_id: int | None,
    socket: str | None,
    port: int | None,
    address: str,
    read_only: bool,
    threads: int,
    force: bool,
    dry_run: bool,
) -> None:
    """Serve a namespace over NBD, up to ctrl-C, and print its URI.

    By nbdkit, which has to be installed. For qemu-img, fio, libnbd's tools and the kernel's client.
    """
    if socket is not None and port is not None:
        raise click.UsageError("--socket and --port exclude each other")
    options: dict[str, Any] = click.get_current_context().obj
    parameters = {
        "device": device,
        "site": ":".join(_site(_nbdkit())),
        "namespace": namespace_id,
        "read_only": read_only and "true",
        "force": force and "true",
        "timeout": options["timeout"],
        "plain_cids": options["plain_cids"] and "true",
    }
    with _place(socket, port, address) as (listen, uri):
        command = [_nbdkit(), "--foreground", "--exit-with-parent", *listen]
        command += [f"--threads={threads}", "python", str(PLUGIN)]
        command += [f"{name}={value}" for name, value in parameters.items() if value]
        if dry_run:
            print(shlex.join(command))
            return
        _run(command, uri)


@contextmanager
def _place(socket: str | None, port: int | None, address: str) -> Iterator[tuple[list[str], str]]:
    """Give nbdkit's options that say where it listens, and the URI of that place."""
    if port is not None:
        host = f"[{address}]" if ":" in address else address
        yield [f"--ipaddr={address}", f"--port={port}"], f"nbd://{host}:{port}"
    elif socket is not None:
        path = Path(socket).absolute()
        if os.path.lexists(path):
            raise Failure(f"{socket} exists: name another, or remove it if nobody serves there")
        try:
            yield [f"--unix={path}"], _unix(path)
        finally:
            path.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory(prefix="nvme-user-") as folder:
            path = Path(folder) / "nbd"
            yield [f"--unix={path}"], _unix(path)


def _unix(path: Path) -> str:
    return f"nbd+unix:///?socket={quote(str(path))}"


def _nbdkit() -> str:
    found = shutil.which("nbdkit", path=f"{os.environ.get('PATH', os.defpath)}:{_MORE_PATH}")
    if found is None:
        raise Failure(f"nbdkit, which serves, is not installed: {_PACKAGES}")
    return found


def _site(nbdkit: str) -> list[str]:
    """Return the folders in which this Python has its packages, for that of nbdkit.

    None where that is another version: its own may have them.
    """
    told = subprocess.run(
        [nbdkit, "--dump-plugin", "python"], capture_output=True, text=True, check=False
    )
    values = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    if "python_version" not in values:
        raise Failure(f"nbdkit has no plugin for Python: {_PACKAGES}")
    version = values["python_version"].split(".")[:2]
    if version != [str(number) for number in sys.version_info[:2]]:
        return []
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def _run(command: list[str], uri: str) -> None:
    """Run nbdkit up to its end; print the URI once it has the device open."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as status:
        try:
            process = subprocess.Popen(
                [*command, f"status={writing}"],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        assert process.stderr is not None
        log = _Log(process.stderr)
        try:
            said = status.read()
            outcome = json.loads(said) if said else None
            if outcome is None or "error" in outcome:
                process.wait()
                log.join()
                raise _failure(outcome, log)
            log.show()
            print(uri, flush=True)
            code = process.wait()
        except BaseException:
            # Ctrl-C goes to nbdkit, too, and SIGTERM may not: it ends in order by either.
            process.terminate()
            process.wait()
            raise
        log.join()
    if code:
        raise Failure(f"nbdkit ended with exit code {code}")


def _failure(outcome: dict[str, Any] | None, log: _Log) -> Exception:
    if outcome is None:
        why = log.last or "it said nothing"
        return Failure(f"nbdkit did not start: {why.removeprefix('nbdkit: ')}")
    return _Refused(outcome["error"], outcome["code"])


class _Refused(click.ClickException):
    """The plugin did not open the device; its sentence is whole."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.exit_code = code  # type: ignore[misc] # of which click has one for the class


class _Log(threading.Thread):
    """Reads what nbdkit writes: kept until it is known whether it started, then shown."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept: list[str] = []
        self._shown = False
        self._lock = threading.Lock()
        self.start()

    @property
    def last(self) -> str:
        """The last line so far."""
        return self._kept[-1].strip() if self._kept else ""

    def run(self) -> None:
        """Read up to nbdkit's end."""
        for line in self._stream:
            with self._lock:
                self._kept = [*self._kept[-20:], line]
                if self._shown:
                    print(line, end="", file=sys.stderr, flush=True)

    def show(self) -> None:
        """Show what was kept, and from now on each line."""
        with self._lock:
            self._shown = True
            print(*self._kept, sep="", end="", file=sys.stderr, flush=True)


serve = Plugin("serve", "Serve a device to other programs.", (nbd,))
