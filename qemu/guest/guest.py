"""A QEMU guest that runs one command on the host's root and the project's tree.

The guest has a kernel of its own, with VFIO, UIO and the nvme driver, QEMU's NVMe controllers and
an emulated Intel IOMMU. Its root is the host's, read over 9p, under an overlay in memory: what the
command writes is gone afterwards, except in ``share``. Needs no root and no KVM.

    result = Guest(["python3", "-m", "pytest", "tests/device"], iommu=True).run()

    with Guest(["sleep", "60"], nvme=[NvmeDisk(hotplug=True)]) as guest:
        guest.unplug("nvme0")
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType

from pynvme_user.errors import DeviceAccessError
from pynvme_user.qemu.program import PROGRAM, find
from pynvme_user.units import parse_size

from . import initramfs
from .devices import NvmeDisk, PlacedDisk, place
from .errors import GuestLostError, GuestSetupError, GuestTimeoutError
from .kernel import Kernel, cache_dir, find_busybox, find_kernel
from .permissions import Reader
from .qmp import Qmp

_KVM_DEADLINE = 20.0  # a nested guest may hang in its firmware; one that works needs 2 s
_CONSOLE_KEPT = 8192
_ENVIRONMENT = ("LANG", "LC_ALL", "PYTHONPATH", "TERM", "VIRTUAL_ENV")


@dataclass(frozen=True)
class GuestResult:
    """What the command in a guest came to.

    ``returncode`` and ``output`` (both streams, as text) are the command's, ``console`` the end
    of the kernel's messages. ``seconds`` runs from QEMU's start to its end, ``boot_seconds`` to
    the command's start. ``accel`` is "kvm" or "tcg".
    """

    returncode: int
    output: str
    console: str
    seconds: float
    boot_seconds: float
    accel: str


@dataclass
class Guest:
    """One boot of a guest, for one command; a context manager that starts it and ends it.

    - ``iommu``: an emulated Intel IOMMU with interrupt remapping, 48 bits wide.
    - ``nvme``: the controllers; `place` says at which addresses.
    - ``devices``: further values for QEMU's ``-device``, ``properties`` for its ``-global``.
    - ``kernel_args`` for the kernel's command line; ``modules`` to load before the command.
    - ``memory``: as QEMU's ``-m``; ``hugepages``: how many of 2 MiB are reserved.
    - ``numa_nodes``: among which memory and ``cpus`` are divided; there are as many CPUs or more.
    - ``timeout``: seconds from QEMU's start to its killing; None for no deadline.
    - ``user``: a name from the host's /etc/passwd to run the command as; root otherwise.
    - ``cwd``: the command's directory, this process's own by default. ``env``: variables for it
      beyond PATH, HOME, and those of language, terminal and Python environment.
    - ``share``: a directory that the guest can write, at the same path there.
    - ``on_output``: called with each piece (bytes) of the command's output, from another thread.
    - ``accel``: "kvm", "tcg", or "auto" for KVM where a trial shows that it works.
    - ``interactive``: the command gets this process's terminal instead, and nothing is captured.
    """

    command: Sequence[str]
    _: KW_ONLY
    iommu: bool = True
    nvme: Sequence[NvmeDisk] = (NvmeDisk(),)
    devices: Sequence[str] = ()
    properties: Sequence[str] = ()
    kernel_args: Sequence[str] = ()
    modules: Sequence[str] = ("nvme",)
    memory: str = "2G"
    cpus: int = 1
    numa_nodes: int = 1
    hugepages: int = 64
    timeout: float | None = 600.0
    user: str | None = None
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    share: Path | None = None
    on_output: Callable[[bytes], object] | None = None
    accel: str = "auto"
    interactive: bool = False
    kernel: Kernel | None = None

    def __post_init__(self) -> None:
        self.disks: list[PlacedDisk] = []
        self._output = bytearray()
        self._console = bytearray()
        self._status = bytearray()
        self._stderr = bytearray()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._qemu = ""
        self._timed_out = False
        self._ended = False
        self._begin = self._started = self._end = 0.0
        self._qmp: Qmp | None = None
        self._qmp_socket: socket.socket | None = None

    def run(self) -> GuestResult:
        """Start the guest and wait for its end; a command that fails is no exception.

        Raises GuestSetupError when it cannot start, GuestTimeoutError at the deadline, and
        GuestLostError when it ends otherwise than by the command's end.
        """
        with self:
            return self.wait()

    def start(self) -> None:
        """Start QEMU, and return while the guest boots. Raises GuestSetupError."""
        if self._thread is not None:
            raise RuntimeError("a Guest starts once: make another one")
        self._qemu = _find_qemu()
        self._check_readable()
        if self.accel == "auto":
            self.accel = "kvm" if kvm_works() else "tcg"
        if self.kernel is None:
            self.kernel = find_kernel()
        with contextlib.ExitStack() as inherited:
            arguments, files, channels = self._prepare(self.kernel, inherited)
            spawned = threading.Event()
            self._thread = threading.Thread(
                target=self._serve, args=(arguments, files, channels, spawned), daemon=True
            )
            self._thread.start()
            spawned.wait()
        if self._failure is not None:
            raise self._failure

    def wait(self) -> GuestResult:
        """Wait for the guest's end, and judge it; raises as `run` does."""
        if self._thread is None:
            raise RuntimeError("the Guest was not started")
        self._thread.join()
        return self._judge()

    def wait_output(self, text: str, timeout: float = 60.0) -> None:
        """Wait until the command has printed `text`; raises as `run` does when it never does."""
        wanted = text.encode()
        with self._changed:
            self._changed.wait_for(lambda: wanted in self._output or self._ended, timeout)
            if wanted in self._output:
                return
            ended = self._ended
        if ended:
            result = self._judge()
            raise GuestLostError(
                f"the command ended with status {result.returncode} before it printed {text!r}",
                console=result.console,
                output=result.output,
            )
        raise self._lost(GuestTimeoutError, f"the guest did not print {text!r} in {timeout:g} s")

    @property
    def qmp(self) -> Qmp:
        """QEMU's control connection, for the thread that uses this guest."""
        if self._qmp is None:
            if self._qmp_socket is None:
                raise RuntimeError("the Guest was not started")
            self._qmp = Qmp(self._qmp_socket)
        return self._qmp

    @property
    def process_id(self) -> int:
        """QEMU's process id."""
        if self._process is None:
            raise RuntimeError("the Guest was not started")
        return self._process.pid

    def unplug(self, disk: str, timeout: float = 30.0) -> None:
        """Ask the guest to give up a hot-pluggable `disk` ("nvme0"), and wait until it has.

        Raises QmpError when the disk is not there, and when the guest keeps it for `timeout`
        seconds: a driver that has it in use may.
        """
        self.qmp.execute("device_del", id=disk)
        self.qmp.wait_event("DEVICE_DELETED", timeout, device=disk)

    def plug(self, disk: str) -> None:
        """Add a `disk` that was unplugged again, at its old address and with its data."""
        device = next(placed.device for placed in self.disks if placed.id == disk)
        self.qmp.execute("device_add", **device)

    def close(self) -> None:
        """Kill QEMU where it still runs; the guest's memory and disks in memory are gone."""
        if self._process is not None:
            self._process.kill()
        if self._thread is not None:
            self._thread.join()
        if self._qmp_socket is not None:
            self._qmp_socket.close()

    def __enter__(self) -> Guest:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(
        self, kernel: Kernel, inherited: contextlib.ExitStack
    ) -> tuple[list[str], list[int], dict[socket.socket, bytearray]]:
        """Make QEMU's command line, the descriptors in it, and what to read into which buffer."""
        files: list[int] = []
        channels: dict[socket.socket, bytearray] = {}

        def channel(name: str) -> tuple[str, socket.socket]:
            ours, theirs = socket.socketpair()
            inherited.push(theirs)
            files.append(theirs.fileno())
            return f"socket,id={name},fd={theirs.fileno()}", ours

        machine = ["-M", "q35,kernel-irqchip=split", "-cpu", "max", "-smp", str(self.cpus)]
        machine += ["-accel", "kvm" if self.accel == "kvm" else "tcg,thread=multi"]
        machine += ["-m", self.memory, "-nodefaults", "-display", "none", "-no-reboot"]
        if self.numa_nodes > 1:
            machine += self._numa_arguments()
        for value in self.properties:
            machine += ["-global", value]
        machine += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        if self.iommu:
            machine += ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]

        chardev, self._qmp_socket = channel("qmp")
        machine += ["-chardev", chardev, "-mon", "chardev=qmp,mode=control"]
        chardev, ours = channel("console")
        channels[ours] = self._console
        machine += ["-chardev", chardev, "-serial", "chardev:console"]
        # In the first slot it is virtio0, and its ports are /dev/vport0p*.
        machine += ["-device", "virtio-serial-pci,addr=0x1"]
        chardev, ours = channel("status")
        channels[ours] = self._status
        machine += ["-chardev", chardev, "-device", "virtserialport,chardev=status,nr=2"]
        if self.interactive:
            machine += ["-chardev", "stdio,id=output,signal=off"]
            machine += ["-device", "virtconsole,chardev=output,nr=0"]
        else:
            chardev, ours = channel("output")
            channels[ours] = self._output
            machine += ["-chardev", chardev, "-device", "virtserialport,chardev=output,nr=1"]

        machine += [
            "-fsdev",
            "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        ]
        machine += ["-device", "virtio-9p-pci,fsdev=root,mount_tag=root,addr=0x2"]
        if self.share is not None:
            path = str(self.share.resolve(strict=True)).replace(",", ",,")
            machine += ["-fsdev", f"local,id=share,path={path},security_model=none,multidevs=remap"]
            machine += ["-device", "virtio-9p-pci,fsdev=share,mount_tag=share,addr=0x3"]
        for device in self.devices:
            machine += ["-device", device]

        self.disks = place(self.nvme)
        for disk in self.disks:
            machine += disk.arguments
            for memory in disk.files:
                files.append(memory)
                inherited.callback(os.close, memory)

        archive = initramfs.build(
            kernel,
            find_busybox(),
            {"settings": self._settings(kernel), "command": self._script()},
        )
        memory = os.memfd_create("initramfs")
        inherited.callback(os.close, memory)
        files.append(memory)
        with open(memory, "wb", closefd=False) as file:
            file.write(archive)
        machine += ["-kernel", str(kernel.image), "-initrd", f"/proc/self/fd/{memory}"]
        machine += ["-append", " ".join(self._kernel_line())]
        return [self._qemu, *machine], files, channels

    def _numa_arguments(self) -> list[str]:
        if self.cpus < self.numa_nodes:
            raise GuestSetupError(f"{self.numa_nodes} NUMA nodes need as many CPUs: set cpus")
        megabytes, rest = divmod(parse_size(self.memory) >> 20, self.numa_nodes)
        if rest:
            raise GuestSetupError(f"{self.memory} of memory cannot be divided by NUMA nodes")
        arguments = []
        for node in range(self.numa_nodes):
            name = f"node{node}"
            cpus = "".join(f",cpus={cpu}" for cpu in range(node, self.cpus, self.numa_nodes))
            arguments += ["-object", f"memory-backend-ram,id={name},size={megabytes}M"]
            arguments += ["-numa", f"node,nodeid={node},memdev={name}{cpus}"]
        return arguments

    def _kernel_line(self) -> list[str]:
        # A panic or an oops ends the guest at once (-no-reboot), instead of hanging it.
        line = ["console=ttyS0", "quiet", "panic=-1", "oops=panic", "mitigations=off"]
        # Else it panics where no timer interrupt comes in a moment, as on a busy machine.
        line.append("no_timer_check")
        line.append("intel_iommu=on" if self.iommu else "intel_iommu=off")
        line.append(f"hugepages={self.hugepages}")
        return [*line, *self.kernel_args]

    def _settings(self, kernel: Kernel) -> str:
        """Write what init reads: assignments of the shell."""
        size = os.terminal_size((0, 0))
        if self.interactive and sys.stdin.isatty():
            size = os.get_terminal_size(sys.stdin.fileno())
        values = {
            "KERNEL": kernel.version,
            "MODULES": str(kernel.modules),
            "LOAD": " ".join(self.modules),
            "SHARE": str(self.share.resolve()) if self.share is not None else "",
            "INTERACTIVE": "1" if self.interactive else "",
            "ROWS": str(size.lines) if size.lines else "",
            "COLUMNS": str(size.columns),
        }
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())

    def _script(self) -> str:
        """Write the shell script that becomes the command."""
        user = pwd.getpwnam(self.user) if self.user else None
        env = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        env["PATH"] = _search_path()
        env["HOME"] = user.pw_dir if user else "/root"
        env["USER"] = user.pw_name if user else "root"
        env.update(self.env)
        command = ["env", "-i", *(f"{name}={value}" for name, value in env.items())]
        if user:
            command += ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            command += ["--init-groups", "--"]
        command += self.command
        return f"cd {shlex.quote(str(self._directory()))} || exit 126\nexec {shlex.join(command)}\n"

    def _directory(self) -> Path:
        return (self.cwd or Path.cwd()).resolve()

    def _check_readable(self) -> None:
        """Refuse a command that the guest's user, or QEMU's, could not read."""
        paths = [self._directory()]
        program = self.command[0]
        if "/" not in program:
            program = shutil.which(program, path=_search_path()) or program
        if "/" in program:
            # The link's target first: a virtual environment's python is often elsewhere.
            path = self._directory() / program
            paths += [path.resolve(), path]
        Reader.myself().check(paths)
        if self.user:
            Reader.named(self.user).check(paths)

    def _serve(
        self,
        arguments: Sequence[str],
        files: Sequence[int],
        channels: Mapping[socket.socket, bytearray],
        spawned: threading.Event,
    ) -> None:
        """Start QEMU, read all that it says, reap it: the thread of one guest.

        It starts QEMU itself because the kernel sends the parent-death signal when the *thread*
        that forked ends: this one lives exactly as long as QEMU does.
        """
        self._begin = time.monotonic()
        try:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *arguments],
                stdin=None if self.interactive else subprocess.DEVNULL,
                stdout=None if self.interactive else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=files,
                # A ctrl-C is for us, who end QEMU in order; a terminal's guest gets it as a byte.
                process_group=None if self.interactive else 0,
            )
        except OSError as error:
            self._failure = GuestSetupError(f"cannot start {self._qemu} by setpriv: {error}")
            return
        finally:
            spawned.set()
        try:
            self._read(self._process, channels)
        except BaseException as error:
            self._failure = error
        finally:
            self._process.kill()
            self._process.wait()
            self._end = time.monotonic()
            for sock in channels:
                sock.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read(
        self, process: subprocess.Popen[bytes], channels: Mapping[socket.socket, bytearray]
    ) -> None:
        """Read until QEMU has closed everything; kill it at the deadline."""
        assert process.stderr is not None
        deadline = self._begin + self.timeout if self.timeout is not None else None
        with selectors.DefaultSelector() as selector, process.stderr as stderr:
            selector.register(stderr, selectors.EVENT_READ, self._stderr)
            for sock, buffer in channels.items():
                selector.register(sock, selectors.EVENT_READ, buffer)
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    self._timed_out = True
                    process.kill()
                    deadline = left = None
                for key, _ in selector.select(left):
                    try:
                        data = os.read(key.fd, 65536)
                    except ConnectionResetError:  # QEMU left something of ours unread
                        data = b""
                    if data:
                        self._take(key.data, data)
                    else:
                        selector.unregister(key.fileobj)
        process.wait()

    def _take(self, buffer: bytearray, data: bytes) -> None:
        with self._changed:
            buffer += data
            if buffer is self._console:
                del buffer[:-_CONSOLE_KEPT]
            if buffer is self._status and not self._started and b"started" in buffer:
                self._started = time.monotonic()
            self._changed.notify_all()
        if buffer is self._output and self.on_output is not None:
            self.on_output(data)

    def _judge(self) -> GuestResult:
        """Judge a guest that has ended by two witnesses: init's word and QEMU's exit status."""
        assert self._process is not None
        if self._failure is not None:
            raise self._failure
        if self._timed_out:
            raise self._lost(
                GuestTimeoutError, f"the guest was killed at its deadline of {self.timeout:g} s"
            )
        code = self._process.returncode
        word = re.search(rb"^exit (\d+)$", self._status, re.MULTILINE)
        if word is not None:
            status = int(word[1])
            if code == 2 * (min(status, 111) + 16) + 1:
                return GuestResult(
                    returncode=status,
                    output=self._output.decode(errors="replace"),
                    console=self._console_text(),
                    seconds=self._end - self._begin,
                    boot_seconds=self._started - self._begin,
                    accel=self.accel,
                )
        reason = self._stderr.decode(errors="replace").strip()
        if code == 1 and not self._status and reason:
            raise GuestSetupError(f"{self._qemu} did not start: {reason}")
        detail = f": {reason}" if reason else ""
        when = "while its command ran" if self._started else "before its command started"
        raise self._lost(
            GuestLostError, f"the guest was lost {when} (QEMU's exit status {code}){detail}"
        )

    def _lost(self, kind: type[GuestLostError], message: str) -> GuestLostError:
        with self._changed:
            console = self._console_text()
            panic = re.search(r"^.*(BUG:|Oops|Kernel panic)", console, re.MULTILINE)
            return kind(
                message,
                console=console[panic.start() if panic else -2000 :],
                output=self._output.decode(errors="replace"),
            )

    def _console_text(self) -> str:
        return self._console.decode(errors="replace").replace("\r", "")


def _find_qemu() -> str:
    try:
        found = find()
    except DeviceAccessError as error:
        raise GuestSetupError(str(error)) from error
    if found is None:
        raise GuestSetupError(f"there is no {PROGRAM}: sudo apt-get install qemu-system-x86")
    return found


@functools.cache
def kvm_works() -> bool:
    """Whether a guest boots under KVM: tried once for each boot of the host and kept in the cache.

    That /dev/kvm can be opened says little: a nested guest may hang in its firmware.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    outcome = cache_dir() / "kvm"
    with contextlib.suppress(OSError, ValueError):
        known, works = outcome.read_text().split()
        if known == boot:
            return works == "works"
    trial = Guest(["true"], accel="kvm", nvme=(), modules=(), cwd=Path("/"), timeout=_KVM_DEADLINE)
    try:
        works = "works" if trial.run().returncode == 0 else "fails"
    except GuestLostError:
        works = "fails"
    except GuestSetupError as error:
        if "did not start" not in str(error):
            raise
        works = "fails"
    outcome.write_text(f"{boot} {works}\n")
    return works == "works"


def _search_path() -> str:
    """PATH in the guest: this interpreter's environment first, and root's directories too."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return f"{Path(sys.executable).parent}:{path}:/usr/local/sbin:/usr/sbin:/sbin"
