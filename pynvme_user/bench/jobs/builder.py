"""From the options that were given to a job: what fio does once it has read them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from pynvme_user.bench.jobs import unsupported
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.options import find
from pynvme_user.bench.jobs.readers import namespace_of
from pynvme_user.bench.jobs.terms import (
    LARGEST_BATCH,
    BlockSizes,
    JobError,
    Size,
    SteadyState,
    Workload,
    Zones,
)
from pynvme_user.bench.jobs.validation import validated
from pynvme_user.workload.direction import Direction

_LONGEST = 4096  # characters of a value, as in fio
_CONTENTS = ("zero_buffers", "buffer_pattern", "buffer_compress_percentage", "scramble_buffers")
_GENERATED = ("rw", "rwmixread", "rwmixwrite", "bs", "bsrange", "bssplit", "ba")
_FIELDS = {field.name for field in dataclasses.fields(Job)}


class JobBuilder:
    """Options in the order in which they were given; the later of two counts."""

    def __init__(self, options: Iterable[tuple[str, str | None]] = ()) -> None:
        # By key, so that aliases replace each other.
        self._given: dict[str, tuple[str, str]] = {}
        self._shared: set[str] = set()  # keys
        self._values: dict[str, Any] = {}
        for name, text in options:
            self.set(name, text)

    def copy(self) -> JobBuilder:
        """Make another one with the same options."""
        other = JobBuilder()
        other._given = self._given.copy()
        other._shared = self._shared.copy()
        other._values = self._values.copy()
        return other

    def set(self, name: str, text: str | None, *, more: bool = False, shared: bool = False) -> None:
        """Give an option; `text` is None where it stands without a value.

        With `more` a list of devices gets longer instead of being replaced. `shared` says that it
        is not the job's own. Raises JobError if it is unknown, not supported, or cannot be read.
        """
        if text is not None and unsupported.is_off(name, text):
            return
        option = find(name)
        if not text:
            if option.bare is None:
                raise JobError(f"{name} needs a value: write {name}={option.metavar}")
            text = option.bare
        if len(text) > _LONGEST:
            raise JobError(f"{name} has more than {_LONGEST} characters")
        try:
            value = option.read(text)
            nsid = namespace_of(text) if option.key == "filenames" else None
        except JobError as error:
            raise JobError(f"{name}={text}: {error}") from None
        if nsid is not None:
            self.set("nsid", str(nsid), shared=shared)
        if more:
            value = self._values[option.key] + value
            text = f"{self._given[option.key][1]}:{text}"
        # Of rwmixread and rwmixwrite the later counts, so the order matters.
        self._values.pop(option.key, None)
        self._values[option.key] = value
        self._given.pop(option.key, None)
        self._given[option.key] = (option.name, text)
        self._shared.discard(option.key)
        if shared:
            self._shared.add(option.key)

    def set_default(self, name: str, text: str) -> None:
        """Give an option that was not given; not the job's own."""
        if find(name).key not in self._values:
            self.set(name, text, shared=True)

    def begins_group(self) -> bool:
        """Whether the job waits for all those above it."""
        return bool(self._values.get("stonewall"))

    def begins_reporting_group(self) -> bool:
        """Whether the job begins a new reporting group."""
        return self.begins_group() or bool(self._values.get("new_group"))

    def job(self, name: str, group: int = 0, reporting_group: int = 0) -> tuple[Job, list[str]]:
        """Make the job, and notes on what is not quite what was asked for.

        Raises JobError, which names the options that do not go together.
        """
        values = {key: value for key, value in self._values.items() if key in _FIELDS}
        values.setdefault("name", name)
        for key, made in (
            *_order(self._values).items(),
            *_mix(self._values).items(),
            *_sizes(self._values).items(),
            *_range(self._values).items(),
            *_flushes(self._values).items(),
            *_queue(self._values).items(),
            *_times(self._values).items(),
            *_data(self._values).items(),
            *_replay(self._values).items(),
        ):
            values[key] = made
        for log in ("write_bw_log", "write_lat_log", "write_iops_log", "write_hist_log"):
            if log in values:
                values[log] = values[log] or values["name"]
        job = Job(
            **values,
            group=group,
            reporting_group=reporting_group,
            given=tuple(self._given.values()),
            shared=tuple(pair for key, pair in self._given.items() if key in self._shared),
        )
        self._check_service()
        return validated(job), list(self._notes())

    def _check_service(self) -> None:
        """Refuse an order of several devices, of which each goes at its own pace."""
        how = dict(self._given.values()).get("file_service_type", "roundrobin")
        if len(self._values.get("filenames", ())) > 1 and how.partition(":")[0] != "roundrobin":
            raise JobError(
                f"file_service_type={how} is not supported: each of several devices has a queue "
                "pair of its own, as if it were roundrobin"
            )

    def _notes(self) -> Iterable[str]:
        given = dict(self._given.values())
        depth = _queue(self._values)["iodepth"]
        if self._values.get("ioengine") == "sync" and self._values.get("iodepth", 1) > 1:
            yield (
                f"ioengine={given['ioengine']} has one I/O in flight, so iodepth={given['iodepth']}"
                " is taken as 1"
            )
        if given.get("verify") in unsupported.CHECKSUMS:
            yield f"verify={given['verify']} is done with crc32c in the driver's own headers"
        own = [name for name in _CONTENTS if self._values.get(name)]
        if own and self._values.get("verify", "0") != "0":
            yield f"{', '.join(own)}: what is verified has data of its own"
        batch = self._values.get("iodepth_batch", 1)
        if min(batch or depth, depth) > LARGEST_BATCH:
            yield f"iodepth_batch={batch} is taken as {LARGEST_BATCH}, the most for one doorbell"
        if given.get("direct") == "0" or given.get("buffered") == "1":
            yield "there is no page cache: all I/O is direct"
        if given.get("verify_dump", "0") != "0":
            yield "verify_dump=1 writes no files: what a block holds is told in words"
        if prioritized := [name for name in given if name.startswith("cmdprio")]:
            yield f"{', '.join(prioritized)}: NVMe's commands all have the same priority"
        devices = len(self._values.get("filenames", ()))
        if depth < devices:
            yield f"iodepth={depth} is less than its {devices} devices: each has one I/O in flight"
        if self._values.get("read_iolog"):
            unused = [name for name in _GENERATED if name in self._values]
            if unused:
                yield f"read_iolog= says what to do: {', '.join(unused)} without effect"
        if given.get("io_submit_mode") == "offload":
            yield ("the job's thread submits itself; with a rate, latency counts from the arrival")


def _order(given: dict[str, Any]) -> dict[str, Any]:
    """Tell what the number behind rw= means, and bring the zones together."""
    made: dict[str, Any] = {}
    if "rw" in given:
        made["rw"], number = given["rw"]
        if made["rw"].startswith("rand"):
            made["run"] = max(1, number)
        else:
            made["skip"] = number
    mode = given.get("zonemode", "strided" if given.get("zonesize") else "none")
    if mode == "zbd":
        made |= {"zbd": True, "zone_bytes": given.get("zonesize", 0)}
    if mode == "strided":
        if not (size := given.get("zonesize")):
            raise JobError("zonemode=strided needs zonesize=, which says how much to move in each")
        made["zones"] = Zones(
            size=size, range=given.get("zonerange") or size, skip=given.get("zoneskip", 0)
        )
    return made


def _mix(given: dict[str, Any]) -> dict[str, Any]:
    mixes = [key for key in given if key in ("rwmixread", "rwmixwrite")]
    if mixes and mixes[-1] == "rwmixwrite":
        return {"rwmixread": 100 - given["rwmixwrite"]}
    return {}


def _sizes(given: dict[str, Any]) -> dict[str, Any]:
    """Bring the sizes together: bssplit counts before bsrange, that before bs."""
    found = []
    for direction in Direction:

        def of(key: str, direction: Direction = direction) -> Any:
            return given.get(key, (None, None, None))[direction]

        align = of("ba") or 0
        if split := of("bssplit"):
            sizes = [size for size, _ in split]
            found.append(BlockSizes(low=min(sizes), high=max(sizes), split=split, align=align))
        else:
            low, high = of("bsrange") or (of("bs"),) * 2
            if low is None:
                low = high = BlockSizes().low
            found.append(BlockSizes(low=low, high=high, align=align))
    return {"block_sizes": tuple(found)}


def _range(given: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "filesize" in given:
        low, high = given["filesize"]
        if low != high:
            raise JobError("filesize= with a range is for files: give one value")
        made["size"] = Size(bytes=low)
        if "size" in given and "io_size" not in given:
            made["io_size"] = given["size"]
    for key in ("number_ios", "size", "io_size"):  # 0: not given
        if given.get(key) in (0, Size(bytes=0)):
            made[key] = None
    return made


def _replay(given: dict[str, Any]) -> dict[str, Any]:
    """Read what a trace comes to, and which device it is replayed on."""
    made: dict[str, Any] = {}
    if redirect := given.get("replay_redirect"):
        if given.get("filenames", redirect) != redirect:
            raise JobError(
                "replay_redirect= and filename= both name the device that a trace is replayed on, "
                "whatever device it names: leave one out"
            )
        made["filenames"] = redirect
    if path := given.get("read_iolog"):
        from pynvme_user.bench.jobs import iolog

        try:
            made["replay_skip"] = iolog.skipped(given.get("replay_skip", ()))
        except JobError as error:
            raise JobError(f"replay_skip={','.join(given['replay_skip'])}: {error}") from None
        trace = iolog.trace(path, made["replay_skip"])
        made["trace"] = trace
        made |= {"rw": _workload_of(trace.directions), "run": 1, "skip": 0}
        made["block_sizes"] = tuple(
            BlockSizes(low=least, high=most) if most else BlockSizes()
            for least, most in trace.sizes
        )
    else:
        made["read_iolog"], made["replay_skip"] = None, frozenset()
    return made


def _workload_of(directions: frozenset[Direction]) -> Workload:
    """Name what has I/O of these directions, or the nearest to it."""
    match sorted(directions):
        case [Direction.READ]:
            return "read"
        case [Direction.WRITE]:
            return "write"
        case [Direction.TRIM]:
            return "trim"
        case [Direction.WRITE, Direction.TRIM]:
            return "trimwrite"
    return "rw"


def _flushes(given: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if given.get("fdatasync"):
        made["fsync"] = given.get("fsync") or given["fdatasync"]
    if given.get("sync", "none") != "none":
        made["fua"] = True
    return made


def _queue(given: dict[str, Any]) -> dict[str, Any]:
    depth = 1 if given.get("ioengine") == "sync" else given.get("iodepth", 1)
    made: dict[str, Any] = {"iodepth": depth}
    if "iodepth_batch" in given:  # 0: the whole depth
        made["iodepth_batch"] = min(given["iodepth_batch"] or depth, depth, LARGEST_BATCH)
    least = min(given.get("iodepth_batch_complete_min", 1), depth)
    made["iodepth_batch_complete_min"] = least
    if most := given.get("iodepth_batch_complete_max", 0):
        made["iodepth_batch_complete_max"] = max(most, least)
    if given.get("iodepth_low", 0) >= depth:
        made["iodepth_low"] = 0
    made["cpus_split"] = given.get("cpus_allowed_policy") == "split"
    return made


def _times(given: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if given.get("runtime") == 0:
        made["runtime"] = None
    if given.get("latency_target") == 0:
        made["latency_target"] = None
    for key in ("rate", "rate_iops", "rate_min", "rate_iops_min", "max_latency"):
        if key in given:
            made[key] = tuple(value or 0 for value in given[key])
    if "percentage_random" in given:
        made["percentage_random"] = tuple(
            100 if value is None else value for value in given["percentage_random"]
        )
    made["steadystate"] = None
    if given.get("steadystate_duration"):
        metric, slope, limit, percent = given.get("steadystate", ("iops", True, 0.01, True))
        made["steadystate"] = SteadyState(
            metric=metric,
            slope=slope,
            limit=limit,
            percent=percent,
            duration=given["steadystate_duration"],
            ramp=given.get("steadystate_ramp_time", 0.0),
        )
    elif "steadystate" in given:
        raise JobError("steadystate= needs steadystate_duration=")
    return made


def _data(given: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "buffer_pattern" in given:
        made["buffer_pattern"], places = given["buffer_pattern"]
        if places:
            raise JobError("buffer_pattern= does not take %o: use verify_pattern=")
    again, dull = given.get("dedupe_percentage", 0), given.get("buffer_compress_percentage", 0)
    if again or 0 < dull < 100:
        made["refill_buffers"] = True
    if again or dull:
        made["zero_buffers"] = False
    if "verify_pattern" in given:
        made["verify_pattern"], made["verify_pattern_offsets"] = given["verify_pattern"]
    if "verify" in given:
        method = {"0": None, "crc32c-intel": "crc32c"}.get(given["verify"], given["verify"])
        made["verify"] = "crc32c" if method in unsupported.CHECKSUMS else method
    if given.get("serialize_overlap") and not made.get("verify"):
        raise JobError(
            "serialize_overlap= is not supported without verify=, which always does it: leave it "
            "out, or take a workload with the random map, whose I/Os do not overlap"
        )
    return made
