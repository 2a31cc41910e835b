"""The options of a job: one table for job files, the command line and the documentation.

An option's reader turns its text into a value. Where the value is a field of :class:`Job` as it is,
the option has the field's name; the others are brought together by :mod:`pynvme_user.bench.draft`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

from pynvme_user.bench import readers as r
from pynvme_user.bench import unsupported
from pynvme_user.bench import values as v
from pynvme_user.bench.job import DedupeMode, JobError, Workload

Reader = Callable[[str, int], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: how it is read, and what it means here."""

    name: str
    read: Reader  # (text, kb_base) -> value
    help: str
    metavar: str
    key: str  # what the value is kept as: a field of Job, or what draft knows
    aliases: tuple[str, ...] = ()
    bare: str | None = None  # the text that it stands for without a value; None: it needs one
    effect: bool = True  # False: accepted, since nothing on a bare device depends on it


@dataclass(frozen=True, slots=True)
class Section:
    """Options of one subject."""

    title: str
    options: tuple[Option, ...] = field(default=())


def _option(
    name: str,
    read: Reader,
    help: str,
    *aliases: str,
    key: str = "",
    bare: str | None = None,
    metavar: str = "",
    effect: bool = True,
) -> Option:
    return Option(
        name=name,
        read=read,
        help=help,
        metavar=metavar or _METAVARS.get(read, "VALUE"),
        key=key or name.replace("-", "_"),
        aliases=aliases,
        bare="1" if read is v.boolean and bare is None else bare,
        effect=effect,
    )


def _nothing(name: str, help: str, *aliases: str, bare: str | None = "1") -> Option:
    return _option(name, _text, help, *aliases, key="", bare=bare, effect=False)


def _text(text: str, kb_base: int = 1024) -> str:
    return text


_sizes = v.by_direction(v.natural)
_ranges = v.by_direction(v.span(v.natural))
_splits = v.by_direction(v.split(v.natural))
_percents = v.by_direction(v.percent)
_seconds, _milliseconds = v.time(v.SECOND), v.time(v.MILLISECOND)
_microseconds = v.time(v.MICROSECOND)
_METAVARS: dict[Reader, str] = {
    _text: "TEXT",
    r.filenames: "DEVICE[:DEVICE...]",
    v.natural: "NUMBER",
    v.integer: "NUMBER",
    v.number: "NUMBER",
    v.boolean: "0|1",
    v.percent: "PERCENT",
    v.size: "SIZE",
    v.cpus: "CPUS",
    r.nodes: "NODES",
    _sizes: "SIZE[,WRITE][,TRIM]",
    _ranges: "LOW-HIGH[,WRITE][,TRIM]",
    _splits: "SIZE/PERCENT:...",
    _percents: "PERCENT[,WRITE][,TRIM]",
    _seconds: "TIME",
    _milliseconds: "TIME",
    _microseconds: "TIME",
}

SECTIONS = (
    Section(
        "Jobs",
        (
            _option("name", _text, "Name of the job, instead of its section's."),
            _option("description", _text, "Any text; it goes into the results."),
            _option(
                "numjobs", v.natural, "So many queue pairs, each with its own thread; default 1."
            ),
            _option("loops", v.natural, "Do the job's I/O so many times; default 1."),
            _option("stonewall", v.boolean, "Wait for all jobs above.", "wait_for_previous"),
            _option("wait_for", _text, "Wait for the job of that name, which stands above."),
            _option("new_group", v.boolean, "Begin a new reporting group."),
            _option("group_reporting", v.boolean, "Report the jobs of a reporting group as one."),
            _option("stats", v.boolean, "0 leaves the job out of the results."),
            _option("exitall", v.boolean, "The end of this job ends the others of exit_what."),
            _option(
                "exit_what",
                v.choice("group", "stonewall", "all"),
                "What exitall ends: group, stonewall or all; default group.",
            ),
            _option("exitall_on_error", v.boolean, "A failure of this job ends the others."),
            _option(
                "continue_on_error",
                r.continue_on_error,
                "Go on after errors of these kinds.",
                bare="all",
            ),
            _nothing("thread", "Jobs are threads here, always.", "threads"),
            _nothing("ioscheduler", "No kernel scheduler is in the way."),
            _nothing("prio", "No kernel scheduler is in the way."),
            _nothing("prioclass", "No kernel scheduler is in the way."),
            *(
                _nothing(name, "Noted: NVMe's commands have no priority of their own.", bare=None)
                for name in (
                    *("cmdprio", "cmdprio_percentage", "cmdprio_class", "cmdprio_bssplit"),
                    "cmdprio_hint",
                )
            ),
        ),
    ),
    Section(
        "Device and range",
        (
            _option(
                "filename",
                r.filenames,
                "Device names, as in the README; the job is shared out among several. A colon "
                "separates two only where the next one begins with qemu:, vfio-user:, vfio:, uio:, "
                "a PCI address or /; `\\:` never separates. --filename replaces every job's.",
                key="filenames",
            ),
            _option(
                "nsid", v.natural, "Namespace; default the first active one.", "xnvme_dev_nsid"
            ),
            _option(
                "size", v.size, "Length of the range, from offset; default to the namespace's end."
            ),
            _option(
                "io_size", v.size, "How much to move; default as much as the range.", "io_limit"
            ),
            _option(
                "filesize",
                v.span(v.natural),
                "Length of the range; size is then how much to move. One value, no range of them.",
            ),
            _option("offset", v.size, "Where the range begins; default 0.", "fileoffset"),
            _option(
                "offset_align", v.natural, "An offset in % is rounded up to it; default block size."
            ),
            _option("offset_increment", v.size, "Added to the offset for each further clone."),
            _option(
                "zonemode",
                v.choice("none", "strided", "zbd"),
                "none; strided: stay in a part of the range until zonesize bytes of it are moved, "
                "then leave zoneskip out; or zbd: write at a zoned namespace's write pointers and "
                "read below them; default none, with a zonesize strided.",
            ),
            _option(
                "zonesize", v.natural, "How much to move in a zone; with zbd that of the namespace."
            ),
            _option("zonerange", v.natural, "Length of a zone; default zonesize."),
            _option("zoneskip", v.natural, "What to leave out between two zones."),
            _option(
                "max_open_zones",
                v.natural,
                "With zbd: all writers together have so many zones begun; default what it allows.",
            ),
            _option("job_max_open_zones", v.natural, "With zbd: and each queue so many."),
            _option("read_beyond_wp", v.boolean, "With zbd: read where nothing is written, too."),
            _nothing("ignore_zone_limits", "The namespace's own limits are kept."),
            _nothing("directory", "The device is named by filename."),
            _nothing("filename_format", "The device is named by filename."),
            _nothing("unique_filename", "The device is named by filename."),
            _nothing("nrfiles", "As in fio, filename says how many.", "nr_files"),
            _nothing("openfiles", "All devices of a job are open."),
            _nothing("fill_device", "The range ends with the namespace, always.", "fill_fs"),
            _nothing("overwrite", "A namespace is always there."),
            _nothing("file_append", "As in fio, only for regular files."),
            _nothing("fallocate", "There is no file to make.", bare=None),
            _nothing("fadvise_hint", "There is no page cache.", bare=None),
            _nothing("create_serialize", "There is no file to make."),
            _nothing("create_fsync", "There is no file to make."),
            _nothing("create_on_open", "There is no file to make."),
            _nothing("allow_file_create", "There is no file to make."),
            _nothing("allow_mounted_write", "--force allows to write over a file system."),
            _nothing("unlink", "There is no file to remove."),
            _nothing("unlink_each_loop", "There is no file to remove."),
        ),
    ),
    Section(
        "Workload",
        (
            _option(
                "rw",
                r.workload,
                "One of "
                + ", ".join(get_args(Workload))
                + ", with a number of bytes to leave out after each I/O (read:8k, read:-8k), or of "
                "I/Os for each random offset (randread:8); default read.",
                "readwrite",
                metavar="WORKLOAD",
            ),
            _option("rwmixread", v.percent, "Share of reads in rw and randrw; default 50."),
            _option(
                "rwmixwrite", v.percent, "Share of writes; the later of this and rwmixread counts."
            ),
            _option("number_ios", v.natural, "End after so many I/Os."),
            _option(
                "fsync",
                v.natural,
                "A Flush after every so many writes, waited for; default 0: none.",
            ),
            _option("fdatasync", v.natural, "The same as fsync."),
            _option("end_fsync", v.boolean, "A Flush after the last write."),
            _option("fsync_on_close", v.boolean, "The same as end_fsync.", key="end_fsync"),
            _option(
                "rw_sequencer",
                v.choice("sequential", "identical"),
                "With rw=randread:N and the like: the N I/Os of a random offset follow each other, "
                "or all go there; default sequential.",
            ),
            _option("fua", v.boolean, "Force Unit Access in every write.", "writefua"),
            _option(
                "sync",
                v.choice("none", "sync", "dsync", _0="none", _1="sync"),
                "sync and dsync: Force Unit Access in every write; default none.",
            ),
            _nothing("direct", "Always so: there is no page cache. 0 is noted."),
            _nothing("buffered", "Never so: there is no page cache. 1 is noted."),
            _nothing("invalidate", "There is no page cache."),
        ),
    ),
    Section(
        "Block sizes",
        (
            _option("bs", _sizes, "Bytes per I/O: read, write, trim; default 4k.", "blocksize"),
            _option(
                "bsrange", _ranges, "Multiples of the lower one, at random.", "blocksize_range"
            ),
            _option(
                "bssplit", _splits, "Sizes with their shares; ones without share the rest evenly."
            ),
            _option("ba", _sizes, "Random offsets are multiples of it; no map.", "blockalign"),
        ),
    ),
    Section(
        "Random offsets",
        (
            _option("norandommap", v.boolean, "Blocks may come again before all came once."),
            _option(
                "random_distribution",
                r.distribution,
                "random, zipf:THETA, pareto:POWER, normal:DEVIATION%, each with :CENTER; "
                "zoned:ACCESS%/RANGE%:..., zoned_abs:ACCESS%/SIZE:...; default random.",
            ),
            _option(
                "percentage_random", _percents, "Share of the I/O that is random; default 100."
            ),
            _option("randrepeat", v.boolean, "The same offsets in every run; default 1."),
            _option("allrandrepeat", v.boolean, "As randrepeat; one seed leads all choices."),
            _option("randseed", v.natural, "What all random choices follow from."),
            _nothing("softrandommap", "The map takes a bit per block."),
            _nothing("random_generator", "One generator; with the map no block comes twice."),
        ),
    ),
    Section(
        "Data that is written",
        (
            _option("zero_buffers", v.boolean, "Zeros instead of random data."),
            _option("refill_buffers", v.boolean, "New data for every write."),
            _option("buffer_pattern", r.pattern, "0xdeadbeef, \"text\", -12, 'file', in a row."),
            _option(
                "buffer_compress_percentage",
                v.percent,
                "Share of zeros (or the pattern), and new data for every write; default 0.",
            ),
            _option(
                "buffer_compress_chunk",
                v.natural,
                "Chunk in which that share is held; default 512.",
            ),
            _option(
                "scramble_buffers",
                v.boolean,
                "Change 8 bytes of each 512 in every write; default 0, unlike in fio: each buffer "
                "has random data of its own.",
            ),
            _option(
                "dedupe_percentage",
                v.percent,
                "Share of the blocks (of the smallest bs) whose data was written before, and new "
                "data for the others; default 0.",
            ),
            _option(
                "dedupe_mode",
                v.choice(*get_args(DedupeMode)),
                "repeat: the data of the last new block; working_set: that of any of the job's "
                "first new blocks, as many as dedupe_working_set_percentage says; default repeat.",
            ),
            _option(
                "dedupe_working_set_percentage",
                v.percent,
                "Blocks in the working set, in percent of the range; default 5.",
            ),
            _option(
                "dedupe_global",
                v.boolean,
                "The working set is made of even parts of those of all queues of the run whose "
                "jobs have this option.",
            ),
            _option("mem", r.memory, "Buffers are pinned DMA memory.", "iomem", effect=False),
            _option(
                "iomem_align", r.memory_align, "Buffers begin at a page.", "mem_align", effect=False
            ),
            _nothing("hugepage-size", "Buffers are pinned DMA memory.", bare=None),
        ),
    ),
    Section(
        "Queue",
        (
            _option("iodepth", v.natural, "Commands in flight per queue pair; default 1."),
            _option(
                "ioengine",
                r.ioengine,
                "One engine: the driver. " + ", ".join(r.SYNCHRONOUS) + ": iodepth 1. "
                "Accepted: " + ", ".join(r.QUEUED) + ". Without ioengine, iodepth counts.",
            ),
            _option(
                "mode",
                v.choice("polled", "hybrid", "interrupt"),
                "How to wait: polled, hybrid or interrupt; default polled.",
            ),
            _option(
                "iodepth_batch",
                v.natural,
                "Commands per doorbell, at most 64; default as many as are due.",
                "iodepth_batch_submit",
            ),
            _option(
                "iodepth_batch_complete_min",
                v.natural,
                "Wait for so many completions before submitting more; default 1.",
                "iodepth_batch_complete",
            ),
            _option("iodepth_batch_complete_max", v.natural, "Reap at most so many at once."),
            _option(
                "iodepth_low",
                v.natural,
                "Let the queue drain to so many before it is filled again.",
            ),
            _option(
                "serialize_overlap",
                v.boolean,
                "No two I/Os in flight on the same blocks: so with verify, always.",
            ),
            _nothing(
                "io_submit_mode", "offload is noted: with a rate, latency counts from arrival."
            ),
            *(
                _nothing(name, "Of an engine; nothing here depends on it.")
                for name in (
                    *("hipri", "hipri_percentage", "fixedbufs", "registerfiles", "sqthread_poll"),
                    *("sqthread_poll_cpu", "nonvectored", "force_async", "userspace_reap"),
                    *("cmd_type", "nowait", "uncached", "xnvme_async", "xnvme_sync", "xnvme_admin"),
                    *("xnvme_mem", "xnvme_iovec", "libblkio_driver", "libblkio_path"),
                    *("libblkio_pre_connect_props", "libblkio_pre_start_props"),
                    *("libblkio_num_entries", "libblkio_queue_size", "libblkio_vectored"),
                    *("libblkio_write_zeroes_on_trim", "libblkio_wait_mode"),
                    "libblkio_force_enable_completion_eventfd",
                )
            ),
        ),
    ),
    Section(
        "CPUs",
        (
            _option("cpus_allowed", v.cpus, "CPUs of the job's threads: 0,5,8-15."),
            _option("cpumask", v.mask, "The same as a bit mask.", key="cpus_allowed"),
            _option(
                "cpus_allowed_policy",
                v.choice("shared", "split"),
                "split: one of the CPUs for each queue of the run, in turn; default shared.",
            ),
            _option("numa_cpu_nodes", r.nodes, "The CPUs of these NUMA nodes, or all."),
            _option(
                "numa_mem_policy",
                r.memory_policy,
                "Nodes of the queue and buffers: bind:0, prefer:1, interleave:0-1; default and "
                "local: near the job's CPUs where these are on one node, else near the device.",
                metavar="MODE:NODES",
            ),
            _option("nice", v.integer, "Nice value of the job's threads."),
            _nothing("clocksource", "The CPU's time-stamp counter.", bare=None),
            _nothing("gtod_reduce", "Taking the time costs little here: all is measured."),
            _nothing("gtod_cpu", "Taking the time costs little here."),
            _nothing("disable_lat", "All latencies are measured."),
            _nothing("disable_clat", "All latencies are measured."),
            _nothing("disable_slat", "All latencies are measured."),
            _nothing("disable_bw_measurement", "Bandwidth is measured.", "disable_bw"),
        ),
    ),
    Section(
        "Time and rate",
        (
            _option("runtime", _seconds, "End after so long.", "timeout"),
            _option("time_based", v.boolean, "Begin again until runtime is over."),
            _option("ramp_time", _seconds, "Do the I/O for so long before it is measured."),
            _option("startdelay", v.span(_seconds), "Wait so long first; of a range, at random."),
            _option(
                "flow",
                v.natural,
                "Keep the I/O of the jobs with one flow_id in the proportion of their flows.",
            ),
            _option("flow_id", v.natural, "Which jobs' flows are one proportion; default 0."),
            _option(
                "flow_sleep", _microseconds, "Look so often whether the others are level; in us."
            ),
            _option("thinktime", _microseconds, "Pause after I/O; in us."),
            _option("thinktime_blocks", v.natural, "I/Os between two pauses; default 1."),
            _nothing("thinktime_spin", "A pause always spins.", bare=None),
            _option("rate", _sizes, "Bytes per second: read, write, trim."),
            _option("rate_iops", _sizes, "I/Os per second: read, write, trim."),
            _option(
                "rate_process",
                v.choice("linear", "poisson"),
                "How arrivals are spread: linear or poisson; default linear.",
            ),
            _option("rate_min", _sizes, "The job fails below so many bytes per second.", "ratemin"),
            _option("rate_iops_min", _sizes, "The job fails below so many I/Os per second."),
            _option(
                "rate_cycle", _milliseconds, "What rate_min averages over; in ms.", "ratecycle"
            ),
            _option("max_latency", v.by_direction(_microseconds), "A slower I/O fails the job."),
            _option("latency_target", _microseconds, "Find the depth that keeps below it; in us."),
            _option("latency_window", _microseconds, "How long each depth is tried; in us."),
            _option("latency_percentile", v.number, "Share of I/Os below the target; default 100."),
            _option(
                "steadystate",
                r.steady_state,
                "End when iops, bw or lat (or iops_slope, ...) is steady: iops:2%.",
                "ss",
            ),
            _option("steadystate_duration", _seconds, "How long it has to be steady.", "ss_dur"),
            _option(
                "steadystate_ramp_time",
                _seconds,
                "How long to wait before the first look.",
                "ss_ramp",
            ),
        ),
    ),
    Section(
        "Verification",
        (
            _option(
                "verify",
                v.choice(
                    "0",
                    *unsupported.CHECKSUMS,
                    "crc32c",
                    "crc32c-intel",
                    "xxhash",
                    "pattern",
                    "pattern_hdr",
                    "meta",
                ),
                "crc32c, xxhash, pattern, pattern_hdr, meta. Headers are the driver's own, not "
                "fio's; "
                + ", ".join(unsupported.CHECKSUMS)
                + " are done as crc32c, which is noted.",
            ),
            _option("do_verify", v.boolean, "Read back and verify after the writes; default 1."),
            _option("verify_only", v.boolean, "Do not write: verify what an earlier run wrote."),
            _option("verify_pattern", r.pattern, "As buffer_pattern; %o is the block's offset."),
            _option("verify_interval", v.natural, "Bytes with a header each; default the block."),
            _option("verify_fatal", v.boolean, "End at the first fault."),
            _option(
                "verify_backlog", v.natural, "Verify after so many writes; default 0: at the end."
            ),
            _option("verify_state", _text, "File of the write journal, which survives a crash."),
            _nothing("verify_async", "The job's own thread verifies."),
            _nothing("verify_async_cpus", "The job's own thread verifies."),
            _nothing("verify_dump", "1 is noted: a fault is told in words, no file is written."),
            _nothing("verifysort", "As in fio, of no use any more."),
            _nothing("verifysort_nr", "As in fio, of no use any more."),
            _nothing("experimental_verify", "What was written is known without a log, always."),
            _nothing("verify_state_save", "verify_state saves, where it is given."),
        ),
    ),
    Section(
        "Results",
        (
            _option(
                "write_bw_log",
                _text,
                "Prefix of the bandwidth log; default the job's name.",
                bare="",
            ),
            _option("write_lat_log", _text, "Prefix of the latency logs.", bare=""),
            _option("write_iops_log", _text, "Prefix of the IOPS log.", bare=""),
            _option("write_hist_log", _text, "Prefix of the histogram log.", bare=""),
            _option("per_job_logs", v.boolean, "A log file for each queue; default 1."),
            _option(
                "log_avg_msec", v.natural, "Log averages over so many ms; default 0: each I/O."
            ),
            _option("log_hist_msec", v.natural, "Log a histogram every so many ms."),
            _option(
                "log_hist_coarseness", v.natural, "0 to 6; each halves the buckets; default 0."
            ),
            _option("log_offset", v.boolean, "Log the offset of each I/O, too."),
            _option("log_unix_epoch", v.boolean, "Log times since 1970."),
            _option(
                "bwavgtime", _milliseconds, "Interval of bandwidth samples; in ms; default 500."
            ),
            _option("iopsavgtime", _milliseconds, "Interval of IOPS samples; in ms; default 500."),
            _option("percentile_list", v.numbers, "Percentiles to report: 50:99:99.9."),
            _option("clat_percentiles", v.boolean, "Percentiles of completion latency; default 1."),
            _option("lat_percentiles", v.boolean, "Percentiles of total latency."),
            _option("slat_percentiles", v.boolean, "Percentiles of submission latency."),
            _option(
                "unified_rw_reporting",
                v.choice("none", "mixed", "both", _0="none", _1="mixed", _2="both"),
                "Directions as one: none, mixed or both; default none.",
                bare="mixed",
            ),
            _option(
                "significant_figures", v.natural, "Digits of the numbers in the summary; default 4."
            ),
            _option(
                "kb_base",
                r.kb_base,
                "1024: k is 1024, kib 1000. 1000: the other way; default 1024.",
            ),
            _option("unit_base", r.unit_base, "8: bytes, 1: bits, 0: as it fits; default 0."),
            _nothing("log_prio", "A log has the priority 0 for all."),
            _nothing("log_entries", "Logs grow without a pause.", bare=None),
            _nothing("disk_util", "No kernel block layer is there to count."),
            _nothing("error_dump", "Failed I/O is always counted by its status."),
        ),
    ),
)

OPTIONS = {
    name: option
    for section in SECTIONS
    for option in section.options
    for name in (option.name, *option.aliases)
}
"""Every option by each of its names."""


def find(name: str) -> Option:
    """Look an option up by its name or alias.

    Raises JobError if it is not supported, with the reason, or if nothing has that name.
    """
    option = OPTIONS.get(name)
    if option is not None:
        return option
    if reason := unsupported.OPTIONS.get(name):
        raise JobError(f"{name!r} is not supported: {reason}")
    near = difflib.get_close_matches(name, [*OPTIONS, *unsupported.OPTIONS], n=2)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    raise JobError(f"{name!r} is no option{hint}")
