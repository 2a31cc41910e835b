"""What a part of a run is made of: checks against its namespace, its sequence, its commands."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.issued import IssuedLog
from pynvme_user.bench.run.target import Target
from pynvme_user.bench.run.zoned import Arrivals, ZonedPlan, ZoneMap
from pynvme_user.driver.nvm_commands import MAX_RANGE_BLOCKS
from pynvme_user.host.numa import cpus_of, format_list
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import DatasetManagementCdw11, WriteCdw12
from pynvme_user.spec.zns import ZoneSendAction, ZoneSendCdw13
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.pace import Pace, Rate
from pynvme_user.workload.records import FLUSH

#: C counts the bytes of an I/O in 32 bits.
_LARGEST_IO = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Depths:
    """What is outstanding at most: I/Os, and their commands on the queue pair."""

    ios: int
    commands: int  # fewer than the I/Os may take where the controller has no room for them all
    command_blocks: int  # that a command carries, where an I/O may be more; 0: each I/O is one
    notes: tuple[str, ...]  # what the results have to say of it


def depths(job: Job, target: Target) -> Depths:
    """Tell how deep the job's queue is."""
    room = target.controller.cap.mqes
    ios = min(job.iodepth, room)
    notes = []
    if ios < job.iodepth:
        notes.append(
            f"wants iodepth={job.iodepth}, more than {target.device.name} has room for: it ran "
            f"with {ios}"
        )
    blocks = target.command_blocks
    largest = _largest_moved(job)
    if largest <= blocks * target.block_bytes:
        return Depths(ios, ios, 0, tuple(notes))
    wanted = ios * -(-(largest // target.block_bytes) // blocks)
    if wanted > room:
        notes.append(
            f"has {ios} I/Os of {largest} bytes outstanding, which are {wanted} commands, and a "
            f"queue of {target.device.name} has room for {room}: the others waited for theirs"
        )
    return Depths(ios, min(wanted, room), blocks, tuple(notes))


def _largest_moved(job: Job) -> int:
    """Bytes of the largest read or write."""
    moved = job.directions - {Direction.TRIM}
    return max((job.block_sizes[way].largest for way in moved), default=0)


def check_sizes(job: Job, target: Target, offset: int, length: int) -> None:
    """See that the namespace can do I/O of the job's sizes in its range. Raises JobError."""
    ns = target.ns
    block_size = target.block_bytes
    sizes = [offset]
    for direction in job.directions:
        of = job.block_sizes[direction]
        sizes += [of.low, of.high, *(size for size, _ in of.split)]
    what = "bs or offset"
    if job.skip or job.zones:
        what = "bs, offset, the number in rw= or the zones"
        sizes.append(abs(job.skip))
    if job.zones is not None:
        sizes += [job.zones.size, job.zones.range, job.zones.skip]
    for size in sizes:
        if size % block_size:
            raise JobError(
                f"job {job.name!r}: {size} bytes are not whole blocks of {block_size}, "
                f"{_whose_blocks(target)}: {_remedy(target, size, what)}"
            )
    if job.zones is not None and min(job.zones.range, length) < job.largest_block:
        raise JobError(
            f"job {job.name!r}: a zone of {min(job.zones.range, length)} bytes holds no "
            f"block of {job.largest_block}: give more zonerange or size"
        )
    if (Direction.TRIM in job.directions or job.trim_percentage) and not job.zbd:
        most = min(ns.limits.dmrsl or MAX_RANGE_BLOCKS, ns.limits.dmsl or MAX_RANGE_BLOCKS)
        kind = Direction.WRITE if job.trim_percentage else Direction.TRIM
        trimmed = job.block_sizes[kind].largest
        if trimmed // block_size > most:
            raise JobError(
                f"job {job.name!r}: {target.device.name} deallocates up to {most * block_size} "
                f"bytes in one range, not {trimmed}: use a smaller bs"
            )
    if _largest_moved(job) > _LARGEST_IO:
        raise JobError(
            f"job {job.name!r}: an I/O has less than 4 GiB, not {job.largest_block} bytes: use a "
            "smaller bs"
        )
    if job.directions != {Direction.TRIM} and not target.command_blocks:
        raise JobError(
            f"job {job.name!r}: {target.device.name} takes up to {target.controller.max_transfer} "
            f"bytes in one command, less than one of its blocks of {block_size}: format it with "
            "smaller ones, or use rw=trim"
        )
    if job.rw == "zone-append" and not target.zone_blocks:
        raise JobError(f"job {job.name!r}: {target.device.name} is not zoned: use rw=write")
    if target.zone_blocks and appends(job) and job.destructive and ns.protection is not None:
        raise JobError(
            f"job {job.name!r}: {target.device.name} has protection information, whose reference "
            "tags do not say where a Zone Append will write: use rw=write and iodepth=1"
        )
    most = target.append_blocks * block_size
    written = job.block_sizes[Direction.WRITE].largest if Direction.WRITE in job.directions else 0
    if target.zone_blocks and appends(job) and written > most:
        other = "" if job.rw == "zone-append" else ", or iodepth=1, which writes without appending"
        raise JobError(
            f"job {job.name!r}: {target.device.name} takes up to {most} bytes in one Zone Append, "
            f"which cannot be split, not {written}: use a smaller "
            f"bs{other}"
        )


def _whose_blocks(target: Target) -> str:
    """Say why blocks have the length that they have."""
    data = target.ns.block_size
    if target.block_bytes == data:
        return f"which {target.device.name} has"
    return (
        f"{data} of data and {target.block_bytes - data} of metadata behind it, which "
        f"{target.device.name} has"
    )


def _remedy(target: Target, size: int, what: str) -> str:
    """Say what to give in place of a length: as many blocks with their metadata."""
    data = target.ns.block_size
    if target.block_bytes == data or size % data:
        return f"change {what}"
    return f"give {size // data * target.block_bytes} for {size} in {what}"


def check_zones(job: Job, target: Target, zone_bytes: int) -> None:
    """See that the namespace has zones of the length that the job says. Raises JobError."""
    name = target.device.name
    if not zone_bytes:
        raise JobError(
            f"job {job.name!r}: {name} has no zones: leave zonemode out, or name a zoned "
            "namespace by nsid"
        )
    if job.zone_bytes not in (0, zone_bytes):
        raise JobError(
            f"job {job.name!r}: the zones of {name} have {zone_bytes} bytes, not "
            f"zonesize={job.zone_bytes}: leave it out"
        )
    if Direction.TRIM in job.directions:
        sizes = job.block_sizes[Direction.TRIM]
        if (sizes.smallest, sizes.largest) != (zone_bytes, zone_bytes):
            raise JobError(
                f"job {job.name!r}: rw={job.rw} with zonemode=zbd resets whole zones: give "
                f"bs={zone_bytes}, the length of those of {name}"
            )


def zoned_plan(
    job: Job,
    target: Target,
    offset: int,
    length: int,
    zones: ZoneMap,
    writers: int,
    made: Generator,
) -> ZonedPlan:
    """Make what the job does with the zones of its range from its I/Os, which are ``made``.

    ``writers`` jobs share what may be open. Raises JobError.
    """
    size = target.block_bytes
    capacity = min((zone.end - zone.start for zone in zones.zones), default=0)
    moves = job.directions != {Direction.TRIM}
    if moves and job.largest_block > capacity * size:
        raise JobError(
            f"job {job.name!r}: a zone holds {capacity * size} bytes, not a block of "
            f"{job.largest_block}: use a smaller bs"
        )
    shared = [most // writers for most in (job.max_open_zones, target.most_open) if most]
    limits = [max(1, most) for most in (*shared, job.job_max_open_zones) if most or shared]
    return ZonedPlan(
        zones,
        made,
        number=job.number,
        first_lba=offset // size,
        blocks=length // size,
        most_open=min(limits, default=len(zones.zones)),
        random=job.random,
        beyond=job.read_beyond_wp,
        fresh=job.verify is not None and job.destructive,
        most_writes=job.verify_backlog,
        most_trims=job.iodepth,
        arrivals=_arrivals(job) if made.is_mixed else None,
    )


def _arrivals(job: Job) -> Arrivals | None:
    """Tell how reads and writes follow each other, where both have a rate."""
    rates = []
    for direction in (Direction.READ, Direction.WRITE):
        in_bytes = job.rate[direction] / job.block_sizes[direction].mean
        rates.append(min(filter(None, (job.rate_iops[direction], in_bytes)), default=0))
    return Arrivals(*rates) if all(rates) else None


def pin(job: Job) -> None:
    """Set this thread's CPUs and niceness, before its memory is touched: it is local then.

    Raises JobError.
    """
    cpus = _cpus(job)
    if cpus:
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:
            raise JobError(
                f"job {job.name!r} cannot run on cpus_allowed={format_list(cpus)}: {error.strerror}"
            ) from None
    if job.nice:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), job.nice)
        except OSError as error:
            raise JobError(
                f"job {job.name!r} cannot have nice={job.nice}: {error.strerror}"
            ) from None


def _cpus(job: Job) -> frozenset[int]:
    """Tell the CPUs that the job is to run on; none where it may run on any."""
    found = job.cpus_allowed
    if job.numa_cpu_nodes:
        of = {node: cpus_of(node) for node in job.numa_cpu_nodes}
        without = format_list(node for node, cpus in of.items() if not cpus)
        found = frozenset().union(*of.values())
        if job.cpus_allowed:
            found &= job.cpus_allowed
        if without or not found:
            nodes = format_list(job.numa_cpu_nodes)
            why = f"{without} has no CPUs" if without else "cpus_allowed has none of theirs"
            raise JobError(
                f"job {job.name!r} cannot run on numa_cpu_nodes={nodes}: {why} "
                "(`numactl --hardware` shows which has)"
            )
    return found


def generator(
    job: Job, target: Target, offset: int, length: int, *, reads: bool = False
) -> Generator:
    """Make the job's sequence of I/Os, the same each time; ``reads`` reads what it writes."""
    zone_bytes = target.zone_bytes
    amount = None
    if job.io_size is not None:
        amount = job.amount(target.capacity, zone_size=zone_bytes)
    rw = {"zone-append": "write"}.get(job.rw, job.rw)
    if reads:
        rw = "randread" if job.random else "read"
    sizes = job.block_sizes
    if reads:
        sizes = (sizes[Direction.WRITE],) * 3
    return Generator(
        rw=rw,
        block_sizes=sizes,
        block_size=target.block_bytes,
        size=length,
        offset=offset,
        io_size=amount,
        number_ios=job.number_ios,
        loops=job.loops,
        time_based=job.time_based,
        rwmixread=job.rwmixread,
        norandommap=job.norandommap,
        percentage_random=job.percentage_random,
        distribution=job.random_distribution,
        seed=job.seed,
        skip=job.skip,
        run=job.run,
        run_identical=job.rw_sequencer == "identical",
        zones=job.zones,
        room=None if job.zbd else target.capacity - offset,
    )


def pace(job: Job, target: Target, queue: int = 0) -> Pace:
    """Tell what the job does besides keeping its queue full, of several the one of this number."""
    # As in fio, the time alone counts where the number is not given.
    by_time = bool(job.thinktime_iotime) and "thinktime_blocks" not in dict(job.given)
    # As in fio, verification alone goes as fast as it can.
    rates = [(0, 0)] * 3 if job.verify_only else zip(job.rate_iops, job.rate, strict=True)
    return Pace(
        members=job.members,
        think_ios=0 if by_time else job.thinktime_blocks,
        zone_blocks=target.zone_blocks if appends(job) else 0,
        zone_trims=job.zbd,
        rates=tuple(  # type: ignore[arg-type]  # three, as the job's are
            Rate(ios=ios / job.queues, blocks=moved / target.block_bytes / job.queues)
            for ios, moved in rates
        ),
        poisson=job.rate_process == "poisson",
        seed=job.seed + queue,
    )


def appends(job: Job) -> bool:
    """Tell whether zones are written by Zone Append: commands of a queue may overtake each other.

    Where data goes is then the device's to say, which verification has to know before.
    """
    return job.rw == "zone-append" or (job.zbd and job.iodepth > 1 and job.verify is None)


def commands(job: Job, target: Target) -> dict[int, bytes]:
    """Make the commands of each direction, without what each I/O adds."""
    nsid, carried = target.ns.nsid, target.carried
    fua = WriteCdw12.fua.mask if job.fua else 0
    write = NvmOpcode.ZONE_APPEND if appends(job) else NvmOpcode.WRITE
    trim = SQE.build(
        opc=NvmOpcode.DATASET_MANAGEMENT, nsid=nsid, cdw11=DatasetManagementCdw11.build(ad=1)
    )
    if job.zbd:
        reset = ZoneSendCdw13.build(zsa=ZoneSendAction.RESET)
        trim = SQE.build(opc=NvmOpcode.ZONE_MANAGEMENT_SEND, nsid=nsid, cdw13=reset)
    made = {
        Direction.READ: SQE.build(opc=NvmOpcode.READ, nsid=nsid),
        Direction.WRITE: SQE.build(opc=write, nsid=nsid, cdw12=fua),
        Direction.TRIM: trim,
        FLUSH: SQE.build(opc=NvmOpcode.FLUSH, nsid=nsid),
    }
    encoded = {int(direction): bytes(command) for direction, command in made.items()}
    if carried is not None:
        encoded[Direction.READ] = carried.command(NvmOpcode.READ, fua=False)
        encoded[Direction.WRITE] = carried.command(write, fua=job.fua)
    return encoded


def issued_log(job: Job, target: Target) -> IssuedLog | None:
    """Make the log that the job wants, if it does (write_iolog)."""
    if job.write_iolog is None:
        return None
    return IssuedLog(job.write_iolog, target.device.name, block_bytes=target.block_bytes)
