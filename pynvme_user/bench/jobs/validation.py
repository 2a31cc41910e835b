"""What a job has to be before it can be run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from pynvme_user.bench.jobs.job import OPTIONS, Job
from pynvme_user.bench.jobs.option import Option
from pynvme_user.bench.jobs.terms import (
    LARGEST_BATCH,
    MOST_PERCENTILES,
    Distribution,
    JobError,
    Workload,
)
from pynvme_user.native import tick_rate
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.pace import for_c, limit

_Need = Callable[[bool, str], None]
_BOUNDED = [
    option
    for option in OPTIONS
    if option.least is not None or option.most is not None or option.member
]


def validated(job: Job) -> Job:
    """Return the job itself if it can be run.

    Raises JobError, whose message names the option and the remedy.
    """

    def need(right: bool, problem: str) -> None:
        if not right:
            raise JobError(f"job {job.name!r}: {problem}")

    need(job.rw in get_args(Workload), f"rw={job.rw} is none of {', '.join(get_args(Workload))}")
    need(bool(job.filenames), "it has no device: give filename= or --filename")
    need(job.nsid is None or 0 < job.nsid < 0xFFFFFFFF, "nsid is from 1 to 4294967294")
    for option in _BOUNDED:
        if beyond := _beyond(option, getattr(job, option.key)):
            need(False, beyond)
    need(
        job.iodepth_batch <= min(job.iodepth, LARGEST_BATCH),
        f"iodepth_batch={job.iodepth_batch} is more than iodepth={job.iodepth}, or {LARGEST_BATCH}",
    )
    need(
        job.iodepth_batch_complete_min <= job.iodepth,
        f"iodepth_batch_complete_min={job.iodepth_batch_complete_min} is more than "
        f"iodepth={job.iodepth}",
    )
    need(job.iodepth_low <= job.iodepth, "iodepth_low is at most iodepth")
    _validate_replay(job, need)
    for direction in job.directions:
        _validate_direction(job, direction, need)
    _validate_distribution(job.random_distribution, need)
    if job.zbd:
        need(
            job.directions != {Direction.WRITE, Direction.TRIM},
            f"rw={job.rw} writes what it has trimmed in one I/O, which is a whole zone with "
            "zonemode=zbd: use rw=write, which resets a full zone, or rw=trim",
        )
        need(
            job.rw != "zone-append",
            "zonemode=zbd appends by itself where iodepth is more than 1: use rw=write",
        )
        need(not job.skip, "zonemode=zbd writes without gaps: give rw= without a number")
    if job.queues > 1:
        need(
            job.verify is None,
            "queues hand out I/Os in no fixed order, and verify reads back in that of the writes: "
            "use numjobs instead of queues",
        )
        need(not job.zbd, "zonemode=zbd writes one after another: use numjobs instead of queues")
    need(
        job.mode == "polled" or (job.queues == 1 and not job.one_thread),
        f"mode={job.mode} sleeps for one queue, and each of queues has its turn: leave it out",
    )
    if job.zones is not None:
        need(
            job.random_distribution.kind == "random",
            "zonemode=strided has random offsets of its own: leave random_distribution out",
        )
        need(not job.skip, "zonemode=strided leaves out enough: give rw= without a number")
    need(0 <= job.rwmixread <= 100, "rwmixread is a percentage, 0 to 100")
    for size, name in (
        (job.offset, "offset"),
        (job.offset_increment, "offset_increment"),
        (job.size, "size"),
    ):
        need(
            size is None or size.percent is None or 0 <= size.percent <= 100,
            f"{name} is at most 100%",
        )
    need(
        not job.time_based or bool(job.runtime),
        "time_based needs a runtime",
    )
    need(job.runtime is None or job.runtime > 0, "runtime is more than 0")
    need(
        not (any(job.rate) and any(job.rate_iops)),
        "rate and rate_iops are two ways to say the same: give one",
    )
    need(job.steadystate_rounds != 1, "steadystate_rounds is 2 or more: one is steady by itself")
    need(
        not job.steadystate_rounds or job.steadystate_round >= 0.1,
        "steadystate_round is at least 0.1 seconds",
    )
    need(
        job.latency_target is None or job.latency_window > 0,
        "latency_target needs a latency_window",
    )
    need(0 < job.latency_percentile <= 100, "latency_percentile is more than 0 and at most 100")
    need(
        0 < len(job.percentile_list) <= MOST_PERCENTILES,
        f"percentile_list has 1 to {MOST_PERCENTILES} percentiles",
    )
    need(
        all(0 < percentile <= 100 for percentile in job.percentile_list),
        "each of percentile_list is more than 0 and at most 100",
    )
    need(0 <= job.buffer_compress_percentage <= 100, "buffer_compress_percentage is at most 100")
    need(
        not job.dedupe_global or job.dedupe_mode == "working_set",
        "dedupe_global needs dedupe_mode=working_set",
    )
    need(
        not job.dedupe_percentage or job.verify is None,
        "dedupe_percentage makes equal blocks, and verify= gives each a header of its own: "
        "leave one out",
    )
    _validate_verify(job, need)
    need(
        not (job.zbd and job.verify_backlog_batch),
        "zonemode=zbd verifies all of a backlog: leave verify_backlog_batch out",
    )
    if job.rw == "zone-append":
        need(job.verify is None, "zone-append cannot be verified")
    return job


def _beyond(option: Option, value: Any) -> str | None:
    """Tell which bound a value is beyond: the option's, or what its member in C has room for."""
    why = option.why and f", {option.why}"
    if option.least is not None and value < option.least:
        return f"{option.name} is at least {option.least}{why}"
    if option.most is not None and value > option.most:
        return f"{option.name} is at most {option.most}{why}"
    if option.member and for_c(value) > (room := limit(option.member)):
        timed = isinstance(value, float)
        return f"{option.name} is at most {f'{room // tick_rate()} seconds' if timed else room}"
    return None


def _validate_replay(job: Job, need: _Need) -> None:
    align = job.replay_align
    need(align & (align - 1) == 0, f"replay_align={align} is no power of 2")
    if job.trace is None:
        return
    for option, wrong in (
        ("more than one device", len(job.filenames) > 1),
        ("queues", job.queues > 1),
        ("verify", job.verify is not None),
        ("zonemode", job.zbd or job.zones is not None),
        ("io_size", job.io_size is not None),
    ):
        need(not wrong, f"read_iolog does not go together with {option}: leave one of them out")
    need(
        job.replay_no_stall or not (any(job.rate) or any(job.rate_iops)),
        "a trace has its own times: leave rate out, or give replay_no_stall",
    )


def _validate_direction(job: Job, direction: Direction, need: _Need) -> None:
    name = direction.name.lower()
    sizes = job.block_sizes[direction]
    need(sizes.smallest > 0, f"the block size of {name} is more than 0")
    need(sizes.low <= sizes.high, f"the block sizes of {name} go from the smaller to the larger")
    percents = [percent for _, percent in sizes.split]
    need(not percents or sum(percents) == 100, f"bssplit of {name} has to add up to 100%")
    need(0 <= job.percentage_random[direction] <= 100, "percentage_random is 0 to 100")


def _validate_distribution(distribution: Distribution, need: _Need) -> None:
    zones = distribution.zones
    match distribution.kind:
        case "zipf":
            need(
                distribution.theta > 0 and distribution.theta != 1,
                "zipf's theta is more than 0 and not 1",
            )
        case "pareto":
            need(0 < distribution.theta < 1, "pareto's power is more than 0 and less than 1")
        case "normal":
            need(0 < distribution.theta < 100, "normal's deviation is more than 0%, less than 100%")
        case "zoned" | "zoned_abs":
            need(
                all(sum(access for access, _ in of) == 100 for of in zones),
                f"the accesses of {distribution.kind} have to add up to 100%",
            )
        case "random":
            pass
    if distribution.kind == "zoned":
        need(
            all(sum(size for _, size in of) == 100 for of in zones),
            "the sizes of zoned have to add up to 100%",
        )
    need(
        distribution.center is None or 0 <= distribution.center <= 1,
        "the center of a distribution is from 0 to 1",
    )


def _validate_verify(job: Job, need: _Need) -> None:
    trims = bool(job.trim_percentage)
    for option in ("trim_backlog", "trim_backlog_batch", "trim_verify_zero"):
        need(
            trims or not getattr(job, option),
            f"{option} is about what trim_percentage chooses: give that, too",
        )
    if trims:
        need(job.trim_backlog > 0, "trim_percentage needs trim_backlog: trim after so many writes")
        need(
            job.verify is not None and not job.verify_only and Direction.WRITE in job.directions,
            "trim_percentage trims some of what is written to be verified: give verify= and writes",
        )
        need(
            not job.zbd,
            "zonemode=zbd resets zones, which trim_percentage does not: leave one out",
        )
    if job.verify is None:
        need(not job.verify_only, "verify_only needs verify=")
        need(job.verify_state is None, "verify_state needs verify=")
        return
    need(
        Direction.WRITE in job.directions or job.directions == {Direction.READ},
        f"rw={job.rw} writes nothing that could be verified",
    )
    need(
        job.verify not in ("pattern", "pattern_hdr") or bool(job.verify_pattern),
        f"verify={job.verify} needs a verify_pattern",
    )
    need(
        not (job.verify_only and job.time_based),
        "verify_only ends when all is verified: leave time_based out",
    )
    for direction in job.directions:
        interval = job.verify_interval
        need(
            not interval or job.block_sizes[direction].smallest % interval == 0,
            f"verify_interval={interval} has to divide the block size",
        )
