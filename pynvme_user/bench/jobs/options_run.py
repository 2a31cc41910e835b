"""The options that say how a job's I/O is done, when, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from pynvme_user.bench.jobs import option as o
from pynvme_user.bench.jobs import readers as r
from pynvme_user.bench.jobs import unsupported
from pynvme_user.bench.jobs import values as v
from pynvme_user.bench.jobs.option import Option, given, ignored, option, section
from pynvme_user.bench.jobs.terms import (
    PERCENTILES,
    Mode,
    RateProcess,
    SteadyState,
    UnifiedReporting,
    VerifyMethod,
)
from pynvme_user.host.numa import Placement

#: Options of fio's engines that are not accepted: of no use without them.
_OF_OTHER_ENGINES = (
    "donorname inplace stat_type cuda_io gpu_dev_id gpu_dev_ids nfs_url namenode hdfsdirectory "
    "volume brick pool cont chunk_size object_class svc_client hostname port interface ttl nodelay "
    "protocol proto listen pingpong window_size mss clustername rbdname clientname conf busy_poll "
    "touch_objects verb bindname uri http_host http_user http_pass https http_mode http_s3_region "
    "http_s3_key http_s3_keyid http_s3_sse_customer_key http_s3_sse_customer_algorithm "
    "http_s3_storage_class http_swift_auth_token http_verbose serverip direct_write_to_pmem "
    "busy_wait_polling skip_bad cpuload cpuchunks cpumode exit_on_io_done program arguments "
    "grace_time std_redirect"
)


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Queue."""

    iodepth: int = option(
        v.natural, "Commands in flight per queue pair; default 1.", default=1, least=1, most=65535
    )
    ioengine = given(
        r.ioengine,
        "One engine: the driver. " + ", ".join(r.SYNCHRONOUS) + ": iodepth 1. "
        "Accepted: " + ", ".join(r.QUEUED) + ". Without ioengine, iodepth counts.",
        choices=(*r.SYNCHRONOUS, *r.QUEUED),
    )
    mode: Mode = option(
        v.choice(*get_args(Mode)),
        "How to wait: polled, hybrid or interrupt; default polled.",
        default="polled",
    )
    # 0: as many as there are
    iodepth_batch: int = option(
        v.natural,
        "Commands per doorbell, at most 64; default as many as are due.",
        "iodepth_batch_submit",
        default=0,
        member="submit_max",
    )
    iodepth_batch_complete_min: int = option(
        v.natural,
        "Wait for so many completions before submitting more; default 1.",
        "iodepth_batch_complete",
        default=1,
        member="reap_min",
    )
    # 0: as many as there are
    iodepth_batch_complete_max: int = option(
        v.natural, "Reap at most so many at once.", default=0, member="reap_max"
    )
    # 0: keep it full
    iodepth_low: int = option(
        v.natural,
        "Let the queue drain to so many before it is filled again.",
        default=0,
        member="depth_low",
    )
    serialize_overlap = given(
        v.boolean, "No two I/Os in flight on the same blocks: so with verify, always."
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("io_submit_mode", "offload is noted: with a rate, latency counts from arrival."),
        *(
            ignored(name, "Of an engine; nothing here depends on it.")
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
        *(
            ignored(name, "Of an engine that is refused by its name; without that of no use.")
            for name in _OF_OTHER_ENGINES.split()
        ),
    )


@dataclass(frozen=True, kw_only=True)
class CpuOptions:
    """CPUs."""

    # empty: any
    cpus_allowed: frozenset[int] = option(
        v.cpus, "CPUs of the job's threads: 0,5,8-15.", default=frozenset()
    )
    cpumask = given(v.mask, "The same as a bit mask.", key="cpus_allowed")
    cpus_allowed_policy = given(
        v.choice("shared", "split"),
        "split: one of the CPUs for each queue of the run, in turn; default shared.",
    )
    # empty: any
    numa_cpu_nodes: frozenset[int] = option(
        r.nodes, "The CPUs of these NUMA nodes, or all.", default=frozenset()
    )
    # None: near the CPUs
    numa_mem_policy: Placement | None = option(
        r.memory_policy,
        "Nodes of the queue and buffers: bind:0, prefer:1, interleave:0-1; default and "
        "local: near the job's CPUs where these are on one node, else near the device.",
        default=None,
        metavar="MODE:NODES",
    )
    nice: int = option(v.integer, "Nice value of the job's threads.", default=0)

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("clocksource", "The CPU's time-stamp counter.", bare=None),
        ignored("gtod_reduce", "Taking the time costs little here: all is measured."),
        ignored("gtod_cpu", "Taking the time costs little here."),
        ignored("disable_lat", "All latencies are measured."),
        ignored("disable_clat", "All latencies are measured."),
        ignored("disable_slat", "All latencies are measured."),
        ignored("disable_bw_measurement", "Bandwidth is measured.", "disable_bw"),
    )


@dataclass(frozen=True, kw_only=True)
class TimeOptions:
    """Time and rate."""

    runtime: float | None = option(o.seconds, "End after so long.", "timeout", default=None)
    time_based: bool = option(v.boolean, "Begin again until runtime is over.", default=False)
    ramp_time: float = option(
        o.seconds, "Do the I/O for so long before it is measured.", default=0.0
    )
    startdelay: tuple[float, float] = option(
        v.span(o.seconds), "Wait so long first; of a range, at random.", default=(0.0, 0.0)
    )
    # 0: it does not wait
    flow: int = option(
        v.natural,
        "Keep the I/O of the jobs with one flow_id in the proportion of their flows.",
        default=0,
    )
    flow_id: int = option(v.natural, "Which jobs' flows are one proportion; default 0.", default=0)
    flow_sleep: float = option(
        o.microseconds, "Look so often whether the others are level; in us.", default=0.0
    )
    thinktime: float = option(
        o.microseconds, "Pause after I/O; in us.", default=0.0, member="think_ticks"
    )
    thinktime_blocks: int = option(
        v.natural, "I/Os between two pauses; default 1.", default=1, least=1, most=0xFFFFFFFF
    )
    thinktime_iotime: float = option(
        o.seconds,
        "Time of I/O between two pauses, instead of thinktime_blocks; with it, whichever "
        "comes first.",
        default=0.0,
        member="think_every",
        of="thinktime",
    )
    rate_ignore_thinktime: bool = option(
        v.boolean,
        "Nothing arrives during a pause; default 0: what arrives then is due after it.",
        default=False,
        member="rates_pause",
        of="thinktime",
    )
    # 0: as fast as it goes
    rate: tuple[int, int, int] = option(
        o.sizes, "Bytes per second: read, write, trim.", default=(0, 0, 0)
    )
    rate_iops: tuple[int, int, int] = option(
        o.sizes, "I/Os per second: read, write, trim.", default=(0, 0, 0)
    )
    rate_process: RateProcess = option(
        v.choice(*get_args(RateProcess)),
        "How arrivals are spread: linear or poisson; default linear.",
        default="linear",
    )
    rate_min: tuple[int, int, int] = option(
        o.sizes, "The job fails below so many bytes per second.", "ratemin", default=(0, 0, 0)
    )
    rate_iops_min: tuple[int, int, int] = option(
        o.sizes, "The job fails below so many I/Os per second.", default=(0, 0, 0)
    )
    rate_cycle: float = option(
        o.milliseconds, "What rate_min averages over; in ms.", "ratecycle", default=1.0
    )
    # 0: none
    max_latency: tuple[float, float, float] = option(
        v.by_direction(o.microseconds), "A slower I/O fails the job.", default=(0.0, 0.0, 0.0)
    )
    latency_target: float | None = option(
        o.microseconds, "Find the depth that keeps below it; in us.", default=None
    )
    latency_window: float = option(
        o.microseconds, "How long each depth is tried; in us.", default=0.0
    )
    latency_percentile: float = option(
        v.number, "Share of I/Os below the target; default 100.", default=100.0
    )
    steadystate: SteadyState | None = option(
        r.steady_state,
        "End when iops, bw or lat (or iops_slope, ...) is steady: iops:2%.",
        "ss",
        default=None,
        choices=tuple(
            f"{what}{slope}:" for what in ("iops", "bw", "lat") for slope in ("", "_slope")
        ),
    )
    steadystate_duration = given(o.seconds, "How long it has to be steady.", "ss_dur")
    steadystate_ramp_time = given(o.seconds, "How long to wait before the first look.", "ss_ramp")
    # 0: there are none
    steadystate_rounds: int = option(
        v.natural,
        "End once the IOPS of so many rounds in a row are within 20 % of their average and "
        "their best line changes by at most 10 % of it, as SNIA's PTS has it; default 0.",
        default=0,
    )
    steadystate_round: float = option(
        o.seconds, "Length of each of the rounds; default 60 seconds.", default=60.0
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("thinktime_spin", "A pause always spins.", bare=None),
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Verification."""

    verify: VerifyMethod | None = option(
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
        "fio's; " + ", ".join(unsupported.CHECKSUMS) + " are done as crc32c, which is noted.",
        default=None,
    )
    do_verify: bool = option(
        v.boolean, "Read back and verify after the writes; default 1.", default=True
    )
    verify_only: bool = option(
        v.boolean, "Do not write: verify what an earlier run wrote.", default=False
    )
    verify_pattern: bytes = option(
        r.pattern, "As buffer_pattern; %o is the block's offset.", default=b""
    )
    # 0: the block
    verify_interval: int = option(
        v.natural, "Bytes with a header each; default the block.", default=0
    )
    verify_fatal: bool = option(v.boolean, "End at the first fault.", default=False)
    verify_backlog: int = option(
        v.natural, "Verify after so many writes; default 0: at the end.", default=0
    )
    verify_backlog_batch: int = option(
        v.natural,
        "Then verify so many writes, and what is left at the end; default 0: all of them.",
        default=0,
    )
    trim_percentage: int = option(
        v.percent, "Of the verified writes, how many are trimmed after trim_backlog.", default=0
    )
    trim_backlog: int = option(v.natural, "Trim after so many writes.", default=0)
    trim_backlog_batch: int = option(
        v.natural, "Then trim at most so many of those chosen; default trim_backlog.", default=0
    )
    trim_verify_zero: bool = option(
        v.boolean,
        "What was trimmed has to read as zeroes, also where the device does not say so.",
        default=False,
    )
    verify_state: str | None = option(
        o.text, "File of the write journal, which survives a crash.", default=None
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("verify_async", "The job's own thread verifies."),
        ignored("verify_async_cpus", "The job's own thread verifies."),
        ignored(
            "verify_dump", "1 has no effect: the results name each fault, and no file is written."
        ),
        ignored("verifysort", "As in fio, of no use any more."),
        ignored("verifysort_nr", "As in fio, of no use any more."),
        ignored("experimental_verify", "What was written is known without a log, always."),
        ignored("verify_state_save", "verify_state saves, where it is given."),
    )


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Results."""

    write_bw_log: str | None = option(
        o.text, "Prefix of the bandwidth log; default the job's name.", default=None, bare=""
    )
    write_lat_log: str | None = option(o.text, "Prefix of the latency logs.", default=None, bare="")
    write_iops_log: str | None = option(o.text, "Prefix of the IOPS log.", default=None, bare="")
    write_hist_log: str | None = option(
        o.text, "Prefix of the histogram log.", default=None, bare=""
    )
    per_job_logs: bool = option(v.boolean, "A log file for each queue; default 1.", default=True)
    log_avg_msec: int = option(
        v.natural, "Log averages over so many ms; default 0: each I/O.", default=0
    )
    log_max_value: bool = option(
        v.boolean, "Of those log the greatest value, not the average.", default=False
    )
    log_hist_msec: int = option(v.natural, "Log a histogram every so many ms.", default=0)
    log_hist_coarseness: int = option(
        v.natural, "0 to 6; each halves the buckets; default 0.", default=0, most=6
    )
    log_offset: bool = option(v.boolean, "Log the offset of each I/O, too.", default=False)
    log_unix_epoch: bool = option(v.boolean, "Log times since 1970.", default=False)
    bwavgtime: float = option(
        o.milliseconds, "Interval of bandwidth samples; in ms; default 500.", default=0.5
    )
    iopsavgtime: float = option(
        o.milliseconds, "Interval of IOPS samples; in ms; default 500.", default=0.5
    )
    percentile_list: tuple[float, ...] = option(
        v.numbers, "Percentiles to report: 50:99:99.9.", default=PERCENTILES
    )
    clat_percentiles: bool = option(
        v.boolean, "Percentiles of completion latency; default 1.", default=True
    )
    lat_percentiles: bool = option(
        v.boolean, "Percentiles of total latency; default 1.", default=True
    )
    slat_percentiles: bool = option(v.boolean, "Percentiles of submission latency.", default=False)
    unified_rw_reporting: UnifiedReporting = option(
        v.choice(*get_args(UnifiedReporting), _0="none", _1="mixed", _2="both"),
        "Directions as one: none, mixed or both; default none.",
        default="none",
        bare="mixed",
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("significant_figures", "The summary's numbers have 4 digits."),
        ignored("unit_base", "Bandwidths are in bytes."),
        ignored("log_compression", "Logs are kept in memory and written as text.", bare=None),
        ignored("log_compression_cpus", "Logs are kept in memory and written as text."),
        ignored("log_prio", "A log has the priority 0 for all."),
        ignored("log_entries", "Logs grow without a pause.", bare=None),
        ignored("disk_util", "No kernel block layer is there to count."),
        ignored("error_dump", "Failed I/O is always counted by its status."),
    )


SECTIONS = (
    section("Queue", QueueOptions),
    section("CPUs", CpuOptions),
    section("Time and rate", TimeOptions),
    section("Verification", VerifyOptions),
    section("Results", ResultOptions),
)
