"""The namespaces that a run works on: opened once, described for the results, looked at first."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results import health
from pynvme_user.bench.results.result import Device
from pynvme_user.bench.run.metadata import Carried, carried
from pynvme_user.driver.controller import Controller
from pynvme_user.driver.controller import open as open_controller
from pynvme_user.driver.namespace import MetadataNamespace, Namespace
from pynvme_user.errors import NvmeError, NvmeStatusError
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.logs import LogId, SmartLog
from pynvme_user.workload.verify_state import NamespaceIdentity

#: How long a wait spins in each mode before it sleeps for an interrupt, in seconds.
SPIN = {"polled": math.inf, "hybrid": 50e-6, "interrupt": 0.0}
_ACCESSES = ("vfio-user", "vfio", "uio", "qemu", "soft")
_SAMPLES = 256
_ALL_NAMESPACES = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One namespace, and what the results say of it."""

    controller: Controller
    ns: Namespace
    device: Device
    zone_blocks: int  # 0: not zoned
    most_open: int  # zones that may be open at a time; 0: any number
    append_blocks: int  # that a Zone Append carries; 0: not zoned
    deallocated: int  # what deallocated blocks read as: DLFEAT bits 2:0
    carried: Carried | None = None  # what a job's I/O carries besides data: see of()

    def of(self, job: Job) -> Target:
        """Tell what it is to a job: how its blocks are moved. Raises JobError."""
        return replace(self, carried=carried(job, self.ns.current(), self.device.name))

    @property
    def block_bytes(self) -> int:
        """Bytes of a block as the job counts them: as they lie in the memory of its data."""
        return self.ns.block_size if self.carried is None else self.carried.block_bytes

    @property
    def command_blocks(self) -> int:
        """Blocks that one read or write carries."""
        if self.carried is not None:
            return self.carried.command_blocks
        return self.controller.max_transfer >> self.ns.block_shift

    @property
    def capacity(self) -> int:
        """Bytes of all blocks."""
        return self.ns.block_count * self.block_bytes

    @property
    def zone_bytes(self) -> int:
        """Bytes of a zone; 0: not zoned."""
        return self.zone_blocks * self.block_bytes

    @property
    def identity(self) -> NamespaceIdentity:
        """Which namespace it is, for a state file."""
        ns = self.ns
        return NamespaceIdentity(
            device=self.device.name,
            nsid=ns.nsid,
            serial=self.device.serial,
            nguid=_hexadecimal(ns.identify.nguid),
            eui64=_hexadecimal(ns.identify.eui64),
        )

    def blank_share(self, offset: int, length: int) -> float:
        """Estimate how much of a range reads as zeroes: the share of 256 blocks of it, by chance.

        Never written, or deallocated: a device answers such reads without its medium.
        """
        ns = self.ns
        first, blocks = offset // self.block_bytes, length // self.block_bytes
        lbas = first + np.random.default_rng(blocks).integers(0, blocks, min(_SAMPLES, blocks))
        if isinstance(ns, MetadataNamespace):
            return float(np.mean([_is_blank(ns, int(lba)) for lba in lbas]))
        buffer = self.controller.alloc(len(lbas) << ns.block_shift)
        with self.controller.pool.acquired() as pair:
            done = pair.read_many(ns, lbas, 1, buffer)
        data = buffer.reshape(len(lbas), -1)
        blank = ~data.any(axis=1) & (done.status & 0x7FF == 0)
        return float(blank.mean())


class Targets:
    """The open devices of a run. A context manager: closes them."""

    def __init__(self) -> None:
        self._controllers: dict[str, Controller] = {}
        self._targets: dict[tuple[str, int | None], Target] = {}
        self._close = ExitStack()

    def get(self, name: str, nsid: int | None) -> Target:
        """Return a device's namespace, opened and identified the first time.

        Raises JobError for a namespace that is not active, and what opening raises.
        """
        key = name, nsid
        if key not in self._targets:
            if name not in self._controllers:
                self._controllers[name] = self._close.enter_context(open_controller(name))
            self._targets[key] = _identify(self._controllers[name], nsid)
        return self._targets[key]

    def of(self, job: Job) -> list[Target]:
        """Return the targets of a job, in the order of its file names."""
        return [self.get(name, job.nsid) for name in job.filenames]

    def warnings(self) -> list[str]:
        """Say what makes figures of these devices less than they seem."""
        found = []
        for name, controller in self._controllers.items():
            target = next(t for t in self._targets.values() if t.controller is controller)
            if target.device.emulated:
                found.append(
                    f"{name} is an emulated device: its figures say more about the emulation than "
                    "about any drive"
                )
            log = _smart_log(controller)
            if log is not None and (hot := health.throttles(log, controller.identify.wctemp)):
                found.append(f"{name} {hot}")
        return found

    def health(self) -> dict[str, SmartLog | None]:
        """Read the SMART log of each device, by its name."""
        return {name: _smart_log(controller) for name, controller in self._controllers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._close.close()


def _smart_log(controller: Controller) -> SmartLog | None:
    """Read the controller's SMART log; None where it has none, or is gone."""
    try:
        page = controller.alloc(SmartLog.size)
        controller.admin(
            AdminOpcode.GET_LOG_PAGE,
            nsid=_ALL_NAMESPACES,
            cdw10=LogId.SMART | (page.nbytes // 4 - 1) << 16,
            buffer=page,
        )
    except NvmeError:
        return None
    return SmartLog.from_bytes(page.tobytes())


def _identify(controller: Controller, nsid: int | None) -> Target:
    namespaces = controller.namespaces
    if nsid is None:
        if not namespaces.ids:
            raise JobError(f"{controller.name} has no active namespace: create or attach one")
        nsid = namespaces.ids[0]
    if nsid not in namespaces.ids:
        active = ", ".join(map(str, namespaces.ids)) or "none"
        raise JobError(f"namespace {nsid} of {controller.name} is not active; active are: {active}")
    ns = namespaces[nsid]
    identify = controller.identify
    kind = next((kind for kind in _ACCESSES if controller.name.startswith(f"{kind}:")), "vfio")
    zone_blocks, most_open = _zones(ns)
    device = Device(
        name=controller.name,
        nsid=nsid,
        access=kind,
        block_size=ns.block_size,
        blocks=ns.block_count,
        model=identify.mn.rstrip("\0"),
        serial=identify.sn.rstrip("\0"),
        firmware=identify.fr.rstrip("\0"),
        emulated=kind in ("qemu", "soft", "vfio-user") or "QEMU" in identify.mn,
    )
    return Target(
        controller,
        ns,
        device,
        zone_blocks,
        most_open,
        append_blocks=ns.zones.max_append if zone_blocks else 0,
        deallocated=int(ns.identify.dlfeat) & 7,
    )


def _is_blank(ns: MetadataNamespace, lba: int) -> bool:
    """Whether a block reads as zeroes, whatever its protection information."""
    try:
        return not any(ns.read(lba, 1, prinfo=0))
    except NvmeStatusError:
        return False


def _zones(ns: Namespace) -> tuple[int, int]:
    """Blocks of a zone of a zoned namespace, else 0, and how many may be open; 0: no limit."""
    if not ns.zoned:
        return 0, 0
    limits = ns.zones.max_active, ns.zones.max_open
    return ns.zones.zone_blocks, min((limit for limit in limits if limit), default=0)


def _hexadecimal(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value).replace("-", "")
    return "" if not text.strip("0") else text
