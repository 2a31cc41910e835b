"""QEMU's NVMe controller in a child process, without a guest: the embedded default.

The machine never runs: its CPUs stay stopped. Its RAM is an anonymous memfd that this process
maps too, so that queues and buffers are shared memory, and its devices are reached through the
qtest socket, one end of a socket pair. Nothing appears in the file system but the disk images
that the user named.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from pynvme_user import owned
from pynvme_user.errors import DeviceAccessError, DeviceNameError
from pynvme_user.qemu import program
from pynvme_user.spec.text import printable
from pynvme_user.units import parse_size

#: q35 keeps RAM below this address in one piece; what is more begins at 4 GiB.
LOW_RAM_LIMIT = 0x8000_0000
DEFAULT_RAM = LOW_RAM_LIMIT
DEFAULT_DISK = 1 << 30
#: Where the first controller sits on the root bus; each further one in the next slot.
DEVICE = 4
MOST_CONTROLLERS = 16
_MOST_VIRTUAL_FUNCTIONS = 127  # of QEMU's, and of one Secondary Controller List

_STOP_SECONDS = 10.0

#: Properties of QEMU's nvme-ns and of its block devices; every other one is nvme's.
_NAMESPACE_PROPERTIES = frozenset(
    [
        *("detached", "shared", "uuid", "eui64", "eui64-default", "nguid", "csi"),
        *("ms", "mset", "pi", "pil", "pif", "mssrl", "mcl", "msrc", "fdp.ruhs"),
        *("zoned", "zoned.zone_size", "zoned.zone_capacity", "zoned.cross_read"),
        *("zoned.max_active", "zoned.max_open", "zoned.descr_ext_size"),
        *("zoned.numzrwa", "zoned.zrwas", "zoned.zrwafg"),
        *("atomic.nawun", "atomic.nawupf", "atomic.nabspf"),
        *("logical_block_size", "physical_block_size", "min_io_size", "opt_io_size"),
        *("discard_granularity", "write-cache", "share-rw"),
    ]
)
#: What ties the machine's parts together, in QEMU's ``nvme`` and ``nvme-ns``: not the user's.
_OWN_PROPERTIES = frozenset(["id", "addr", "bus", "drive", "nsid", "subsys"])
#: Options of a block driver that name a file or lock it, at any depth (``image.filename``): another
#: file than the device name's would be used without a claim.
_OWN_OPTIONS = frozenset(["driver", "filename", "locking", "node-name", "path", "size"])
_NESTED = frozenset(["filename", "locking", "node-name"])

#: What drivers, formats and options are called; a comma or "=" would begin another option.
_WORD = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAMESPACE = re.compile(r"ns([0-9]+)")
_MOST_NAMESPACES = 256  # QEMU's NVME_MAX_NAMESPACES


@dataclass
class Disk:
    """One namespace. Without a path it is a temporary disk, in memory.

    ``options`` are those of the block driver, named as in QEMU's ``-blockdev``.
    """

    path: str = ""
    size: int | None = None
    format: str = "raw"
    driver: str = "file"
    options: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    controller: int = 0  # which has it, where it is not shared

    @property
    def is_temporary(self) -> bool:
        """Whether it is in memory, and gone with QEMU."""
        return self.driver == "file" and not self.path


@dataclass
class Machine:
    """What a ``qemu:`` device name asks for. ``disks`` maps a namespace id to its disk.

    Where there are properties for it, or several controllers, these are in an NVM subsystem of
    QEMU's. ``numvfs`` is how many virtual functions are enabled.
    """

    disks: dict[int, Disk]
    ram: int = DEFAULT_RAM
    properties: dict[str, str] = field(default_factory=dict)
    subsystem: dict[str, str] = field(default_factory=dict)
    pmr: int | None = None  # the size of the Persistent Memory Region; None: that of its file
    pmrdev: str = ""  # its file
    controllers: int = 1
    numvfs: int = 0

    @property
    def functions(self) -> int:
        """How many controllers can be opened, virtual functions included."""
        return self.controllers + self.numvfs


def parse_machine(text: str) -> Machine:
    """Parse what follows ``qemu:``, for example ``disk.img?size=1G&ns2=&ns2.zoned=on``.

    Values take %-escapes, the path before the first ``?`` is taken as it is. Raises
    DeviceNameError for what does not parse.
    """
    name = f"qemu:{text}"
    path, _, query = text.partition("?")
    machine = Machine({1: Disk(path)})
    key = ""
    try:
        _check_text(text)
        for key, value in _pairs(query):
            _take(machine, key, value)
        key = "controllers"
        _check_controllers(machine)
    except ValueError as error:
        about = f": {key}: {error}" if key else f" does not parse: {error}"
        raise DeviceNameError(f"{name!r}{about}") from None
    return machine


def _check_controllers(machine: Machine) -> None:
    for nsid, disk in machine.disks.items():
        if disk.controller >= machine.controllers:
            raise ValueError(
                f"namespace {nsid} is of controller {disk.controller}: give controllers="
                f"{disk.controller + 1} or more"
            )
    if machine.numvfs and machine.controllers > 1:
        raise ValueError("sriov_numvfs goes with one controller: leave controllers out")


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        # A plus sign is one: this is no form of a web page.
        return parse_qsl(
            query.replace("+", "%2B"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="surrogateescape",
        )
    except ValueError:
        raise ValueError("write options as ?name=value&name=value") from None


def _check_text(text: str) -> None:
    """Raise ValueError for what the kernel takes neither as a path nor as an argument."""
    try:
        if b"\0" not in _encode(text):
            return
    except UnicodeEncodeError:
        pass
    raise ValueError("NUL and lone surrogates are no part of a name")


def _take(machine: Machine, key: str, value: str) -> None:
    """Put an option where it belongs. Raises ValueError."""
    _check_text(value)
    if not _WORD.fullmatch(key):
        raise ValueError("options have names of letters, digits, '.', '-' and '_'")
    head, dot, rest = key.partition(".")
    namespace = _NAMESPACE.fullmatch(head)
    if namespace is None:
        _set_option(machine, machine.disks[1], key, value)
        return
    number = namespace[1].lstrip("0")
    if not number or len(number) > 3 or int(number) > _MOST_NAMESPACES:
        raise ValueError(f"namespaces are ns1 to ns{_MOST_NAMESPACES}")
    disk = machine.disks.setdefault(int(number), Disk())
    if dot:
        _set_option(machine, disk, rest, value)
    else:
        disk.path = value


def _set_option(machine: Machine, disk: Disk, key: str, value: str) -> None:
    match key:
        case "size":
            disk.size = _size(value)
        case "format":
            disk.format = _word(value)
        case "driver":
            disk.driver = _word(value)
        case "memory":
            machine.ram = _size(value)
        case "pmr":
            machine.pmr = _size(value)
            if machine.pmr & (machine.pmr - 1) or machine.pmr < 4096:
                raise ValueError("QEMU's is a power of two, 4K or more: give for example 16M")
        case "pmrdev":
            machine.pmrdev = value
        case "controllers":
            machine.controllers = _count(value, 1, MOST_CONTROLLERS)
        case "controller":
            disk.controller = _count(value, 0, MOST_CONTROLLERS - 1)
        case "sriov_numvfs":
            machine.numvfs = _count(value, 0, _MOST_VIRTUAL_FUNCTIONS)
        case _ if key.startswith("driver."):
            option = key.removeprefix("driver.")
            if option in _OWN_OPTIONS or option.rpartition(".")[2] in _NESTED:
                raise ValueError(
                    "the driver sets this itself: name a file behind qemu: or as ns2=FILE, "
                    "its size as size="
                )
            disk.options[option] = value
        case _ if key.startswith("subsys."):
            option = key.removeprefix("subsys.")
            if option == "id":
                raise ValueError("the driver sets this itself: name it by subsys.nqn")
            machine.subsystem[option] = value
        case _ if key in _NAMESPACE_PROPERTIES:
            disk.properties[key] = value
        case _ if key in _OWN_PROPERTIES:
            raise ValueError("the driver sets this itself: leave it out (ns5= is namespace 5)")
        case _:
            machine.properties[key] = value


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise ValueError(f"{value!r} is not a name of QEMU's, such as raw or null-co")
    return value


def _count(value: str, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,4}", value) or not least <= int(value) <= most:
        raise ValueError(f"{value!r} is not a number from {least} to {most}")
    return int(value)


def _size(value: str) -> int:
    size = parse_size(value)
    if not 0 < size < 1 << 63:
        raise ValueError(f"{value!r} is not a size from 1 byte to 8 EiB")
    return size


def _option(name: str, properties: dict[str, str]) -> str:
    """Write a QEMU option; a comma in a value is doubled."""
    return ",".join([name, *(f"{k}={v.replace(',', ',,')}" for k, v in properties.items())])


def command_line(
    machine: Machine, *, memory: int, qtest: int, temporary: Mapping[int, int], pmr: str = ""
) -> list[str]:
    """Write QEMU's arguments.

    ``memory``, ``qtest`` and ``temporary`` are descriptors that QEMU inherits: of the machine's
    RAM, of its socket, and of the temporary disks, by namespace id. ``pmr`` is the file of the
    Persistent Memory Region.
    """
    ram = machine.ram
    backend = f"memory-backend-file,id=ram0,size={ram},share=on"
    arguments = [
        *("-M", "q35,memory-backend=ram0,usb=off,sata=off,smbus=off"),
        *("-m", f"{ram >> 20}M"),
        *("-accel", "tcg,tb-size=1"),  # the CPUs never run: no translation buffer
        *("-S", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-chardev", f"socket,id=qtest,fd={qtest}"),
        *("-qtest", "chardev:qtest", "-qtest-log", "none"),
        *("-object", f"{backend},mem-path=/proc/self/fd/{memory}"),
    ]
    disks = sorted(machine.disks.items())
    for nsid, disk in disks:
        arguments += _disk_arguments(nsid, disk, temporary.get(nsid))
    common = dict(machine.properties)
    if machine.subsystem or machine.functions > 1:
        arguments += ["-device", _option("nvme-subsys", {"id": "subsys0"} | machine.subsystem)]
        common["subsys"] = "subsys0"
    first: dict[str, str] = {}
    if pmr:
        region = {"id": "pmr0", "size": str(machine.pmr), "share": "on", "mem-path": pmr}
        arguments += ["-object", _option("memory-backend-file", region)]
        first["pmrdev"] = "pmr0"
    for number in range(machine.controllers):
        place = {
            "id": f"nvme{number}",
            "serial": "pynvme-user",
            "addr": f"{DEVICE + number:x}.0",
        }
        properties = place | common | (first if number == 0 else {})
        arguments += ["-device", _option("nvme", properties)]
    for nsid, disk in disks:
        namespace = {"bus": f"nvme{disk.controller}", "drive": f"disk{nsid}", "nsid": str(nsid)}
        block = disk.properties.get("logical_block_size")
        if block:  # QEMU refuses logical blocks larger than physical ones, which are 512 bytes
            namespace["physical_block_size"] = block
        arguments += ["-device", _option("nvme-ns", namespace | disk.properties)]
    return arguments


def _disk_arguments(nsid: int, disk: Disk, temporary: int | None) -> list[str]:
    node = {"node-name": f"file{nsid}", "discard": "unmap"}
    if disk.driver in ("null-co", "null-aio"):
        # Without read-zeroes a read leaves the buffer as it was.
        node |= {"size": str(disk.size or DEFAULT_DISK), "read-zeroes": "on"}
    elif disk.path:
        node["filename"] = disk.path
    elif temporary is not None:
        node |= {"filename": f"/proc/self/fd/{temporary}", "locking": "off"}
    image = {"node-name": f"disk{nsid}", "file": f"file{nsid}", "discard": "unmap"}
    return [
        *("-blockdev", _option(disk.driver, node | disk.options)),
        *("-blockdev", _option(disk.format, image)),
    ]


def _encode(argument: str) -> bytes:
    return argument.encode(errors="surrogateescape")


def _memfd(name: str, owner: ExitStack, length: int = 0) -> int:
    """Make anonymous memory, whose descriptor ``owner`` closes."""
    descriptor = owned.descriptor(os.memfd_create, name)
    owner.callback(owned.close, descriptor)
    os.ftruncate(descriptor, length)
    return descriptor


class _Process:
    """QEMU's process, which the thread that started it keeps."""

    def __init__(self) -> None:
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self, arguments: list[str], inherited: list[int], output: int) -> None:
        """Start QEMU from a thread that lives as long as QEMU does.

        PR_SET_PDEATHSIG, which setpriv sets, fires when the *thread* that forked ends. The thread
        ends only with QEMU or with this process, by whatever signal.
        """
        started = threading.Event()
        failed: list[OSError] = []

        def keep() -> None:
            try:
                # A child forked meanwhile would hold Popen's pipe, for whose end Popen waits.
                with owned.no_fork:
                    self.popen = process = subprocess.Popen(
                        # Bytes of the user's own, whatever the locale's encoding is.
                        [b"setpriv", b"--pdeathsig", b"KILL", *map(_encode, arguments)],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        pass_fds=inherited,
                        # ctrl-C is for this process, which ends QEMU once the device is quiet.
                        start_new_session=True,
                    )
            except OSError as error:
                failed.append(error)
                return
            finally:
                started.set()
            process.wait()

        try:
            threading.Thread(target=keep, name="qemu-keeper", daemon=True).start()
            started.wait()
        except RuntimeError as error:
            raise DeviceAccessError(f"QEMU cannot be started: {error}") from error
        except BaseException:
            # After ctrl-C: the descriptors that QEMU inherits are closed next.
            started.wait(_STOP_SECONDS)
            raise
        if failed:
            raise DeviceAccessError(
                f"QEMU cannot be started: {failed[0]}; setpriv is in the package util-linux"
            )

    def wait(self, seconds: float) -> bool:
        """Wait for its end; tell whether it came."""
        if self.popen is None:
            return True
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """End it, by force where it does not."""
        if self.popen is None or self.popen.poll() is not None:
            return
        self.popen.send_signal(signal.SIGTERM)
        try:
            ended = self.wait(_STOP_SECONDS)
        except BaseException:
            ended = False  # by ctrl-C again: at once
            raise
        finally:
            if not ended:
                self.popen.kill()
                self.wait(_STOP_SECONDS)


class Emulator:
    """A running QEMU. It ends with :meth:`close`, this object, this process, or by itself.

    ``memory`` is the descriptor of the machine's RAM, ``qtest`` the connected socket, ``pmr`` the
    descriptor of a Persistent Memory Region that has no file of the user's. Raises
    DeviceAccessError if QEMU cannot be started.
    """

    def __init__(self, machine: Machine) -> None:
        qemu = program.find()
        if qemu is None:
            raise DeviceAccessError(
                f"{program.PROGRAM} is not installed, which qemu: devices need: "
                "run 'sudo apt-get install qemu-system-x86'"
            )
        self.ram = machine.ram
        self.pmr = -1
        self._name = os.path.basename(qemu)
        self._process = _Process()
        owned.register(self)
        with owned.Undo() as ours, owned.Undo() as handed_over:
            self._stderr = _memfd("qemu-stderr", ours)
            self.memory = _memfd("qemu-ram", ours, machine.ram)
            self.qtest, theirs = owned.unix_socket_pair()
            ours.callback(self.qtest.close)
            handed_over.callback(theirs.close)
            temporary = {
                nsid: _memfd("qemu-disk", handed_over, disk.size or DEFAULT_DISK)
                for nsid, disk in machine.disks.items()
                if disk.is_temporary
            }
            inherited = [self.memory, theirs.fileno(), *temporary.values()]
            pmr = machine.pmrdev
            if machine.pmr and not pmr:
                self.pmr = _memfd("qemu-pmr", ours, machine.pmr)
                inherited.append(self.pmr)
                pmr = f"/proc/self/fd/{self.pmr}"
            arguments = command_line(
                machine, memory=self.memory, qtest=theirs.fileno(), temporary=temporary, pmr=pmr
            )
            ours.callback(self._process.end)
            self._process.start([qemu, *arguments], inherited, self._stderr)
            self._release = ours.pop_all()
        owned.close_at_exit(self)

    def forked(self, owner: int) -> None:
        """Leave QEMU to process ``owner``, in a child of it."""
        # As if it had ended: or the object, when it is deleted, would wait for it and warn.
        if self._process.popen is not None:
            self._process.popen.returncode = 0

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._process.popen.pid if self._process.popen else 0

    def alive(self) -> bool:
        """Tell whether QEMU still runs."""
        return self._process.popen is not None and self._process.popen.poll() is None

    def said(self) -> str:
        """Return what QEMU wrote to its standard error, printable, without its own name."""
        size = os.fstat(self._stderr).st_size
        text = os.pread(self._stderr, size, 0).decode(errors="surrogateescape")
        return "\n".join(map(printable, text.strip().splitlines())).replace(f"{self._name}: ", "")

    def wait(self, seconds: float) -> bool:
        """Wait for QEMU's end; tell whether it came."""
        return self._process.wait(seconds)

    def close(self) -> None:
        """End QEMU, which writes out what its disks have cached. Safe to call twice."""
        self._release.close()
