"""The options that say how a job's I/O is done, when, and what is told of it."""

from __future__ import annotations

from pynvme_user.bench.jobs import option as o
from pynvme_user.bench.jobs import readers as r
from pynvme_user.bench.jobs import unsupported
from pynvme_user.bench.jobs import values as v
from pynvme_user.bench.jobs.option import Section, nothing, option

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

SECTIONS = (
    Section(
        "Queue",
        (
            option("iodepth", v.natural, "Commands in flight per queue pair; default 1."),
            option(
                "ioengine",
                r.ioengine,
                "One engine: the driver. " + ", ".join(r.SYNCHRONOUS) + ": iodepth 1. "
                "Accepted: " + ", ".join(r.QUEUED) + ". Without ioengine, iodepth counts.",
                choices=(*r.SYNCHRONOUS, *r.QUEUED),
            ),
            option(
                "mode",
                v.choice("polled", "hybrid", "interrupt"),
                "How to wait: polled, hybrid or interrupt; default polled.",
            ),
            option(
                "iodepth_batch",
                v.natural,
                "Commands per doorbell, at most 64; default as many as are due.",
                "iodepth_batch_submit",
            ),
            option(
                "iodepth_batch_complete_min",
                v.natural,
                "Wait for so many completions before submitting more; default 1.",
                "iodepth_batch_complete",
            ),
            option("iodepth_batch_complete_max", v.natural, "Reap at most so many at once."),
            option(
                "iodepth_low",
                v.natural,
                "Let the queue drain to so many before it is filled again.",
            ),
            option(
                "serialize_overlap",
                v.boolean,
                "No two I/Os in flight on the same blocks: so with verify, always.",
            ),
            nothing(
                "io_submit_mode", "offload is noted: with a rate, latency counts from arrival."
            ),
            *(
                nothing(name, "Of an engine; nothing here depends on it.")
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
                nothing(name, "Of an engine that is refused by its name; without that of no use.")
                for name in _OF_OTHER_ENGINES.split()
            ),
        ),
    ),
    Section(
        "CPUs",
        (
            option("cpus_allowed", v.cpus, "CPUs of the job's threads: 0,5,8-15."),
            option("cpumask", v.mask, "The same as a bit mask.", key="cpus_allowed"),
            option(
                "cpus_allowed_policy",
                v.choice("shared", "split"),
                "split: one of the CPUs for each queue of the run, in turn; default shared.",
            ),
            option("numa_cpu_nodes", r.nodes, "The CPUs of these NUMA nodes, or all."),
            option(
                "numa_mem_policy",
                r.memory_policy,
                "Nodes of the queue and buffers: bind:0, prefer:1, interleave:0-1; default and "
                "local: near the job's CPUs where these are on one node, else near the device.",
                metavar="MODE:NODES",
            ),
            option("nice", v.integer, "Nice value of the job's threads."),
            nothing("clocksource", "The CPU's time-stamp counter.", bare=None),
            nothing("gtod_reduce", "Taking the time costs little here: all is measured."),
            nothing("gtod_cpu", "Taking the time costs little here."),
            nothing("disable_lat", "All latencies are measured."),
            nothing("disable_clat", "All latencies are measured."),
            nothing("disable_slat", "All latencies are measured."),
            nothing("disable_bw_measurement", "Bandwidth is measured.", "disable_bw"),
        ),
    ),
    Section(
        "Time and rate",
        (
            option("runtime", o.seconds, "End after so long.", "timeout"),
            option("time_based", v.boolean, "Begin again until runtime is over."),
            option("ramp_time", o.seconds, "Do the I/O for so long before it is measured."),
            option("startdelay", v.span(o.seconds), "Wait so long first; of a range, at random."),
            option(
                "flow",
                v.natural,
                "Keep the I/O of the jobs with one flow_id in the proportion of their flows.",
            ),
            option("flow_id", v.natural, "Which jobs' flows are one proportion; default 0."),
            option(
                "flow_sleep", o.microseconds, "Look so often whether the others are level; in us."
            ),
            option("thinktime", o.microseconds, "Pause after I/O; in us."),
            option("thinktime_blocks", v.natural, "I/Os between two pauses; default 1."),
            option(
                "thinktime_iotime",
                o.seconds,
                "Time of I/O between two pauses, instead of thinktime_blocks; with it, whichever "
                "comes first.",
            ),
            option(
                "rate_ignore_thinktime",
                v.boolean,
                "Nothing arrives during a pause; default 0: what arrives then is due after it.",
            ),
            nothing("thinktime_spin", "A pause always spins.", bare=None),
            option("rate", o.sizes, "Bytes per second: read, write, trim."),
            option("rate_iops", o.sizes, "I/Os per second: read, write, trim."),
            option(
                "rate_process",
                v.choice("linear", "poisson"),
                "How arrivals are spread: linear or poisson; default linear.",
            ),
            option("rate_min", o.sizes, "The job fails below so many bytes per second.", "ratemin"),
            option("rate_iops_min", o.sizes, "The job fails below so many I/Os per second."),
            option(
                "rate_cycle", o.milliseconds, "What rate_min averages over; in ms.", "ratecycle"
            ),
            option("max_latency", v.by_direction(o.microseconds), "A slower I/O fails the job."),
            option("latency_target", o.microseconds, "Find the depth that keeps below it; in us."),
            option("latency_window", o.microseconds, "How long each depth is tried; in us."),
            option("latency_percentile", v.number, "Share of I/Os below the target; default 100."),
            option(
                "steadystate",
                r.steady_state,
                "End when iops, bw or lat (or iops_slope, ...) is steady: iops:2%.",
                "ss",
                choices=tuple(
                    f"{what}{slope}:" for what in ("iops", "bw", "lat") for slope in ("", "_slope")
                ),
            ),
            option("steadystate_duration", o.seconds, "How long it has to be steady.", "ss_dur"),
            option(
                "steadystate_ramp_time",
                o.seconds,
                "How long to wait before the first look.",
                "ss_ramp",
            ),
            option(
                "steadystate_rounds",
                v.natural,
                "End once the IOPS of so many rounds in a row are within 20 % of their average and "
                "their best line changes by at most 10 % of it, as SNIA's PTS has it; default 0.",
            ),
            option(
                "steadystate_round", o.seconds, "Length of each of the rounds; default 60 seconds."
            ),
        ),
    ),
    Section(
        "Verification",
        (
            option(
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
            option("do_verify", v.boolean, "Read back and verify after the writes; default 1."),
            option("verify_only", v.boolean, "Do not write: verify what an earlier run wrote."),
            option("verify_pattern", r.pattern, "As buffer_pattern; %o is the block's offset."),
            option("verify_interval", v.natural, "Bytes with a header each; default the block."),
            option("verify_fatal", v.boolean, "End at the first fault."),
            option(
                "verify_backlog", v.natural, "Verify after so many writes; default 0: at the end."
            ),
            option(
                "verify_backlog_batch",
                v.natural,
                "Then verify so many writes, and what is left at the end; default 0: all of them.",
            ),
            option(
                "trim_percentage",
                v.percent,
                "Of the verified writes, how many are trimmed after trim_backlog.",
            ),
            option("trim_backlog", v.natural, "Trim after so many writes."),
            option(
                "trim_backlog_batch",
                v.natural,
                "Then trim at most so many of those chosen; default trim_backlog.",
            ),
            option(
                "trim_verify_zero",
                v.boolean,
                "What was trimmed has to read as zeroes, also where the device does not say so.",
            ),
            option("verify_state", o.text, "File of the write journal, which survives a crash."),
            nothing("verify_async", "The job's own thread verifies."),
            nothing("verify_async_cpus", "The job's own thread verifies."),
            nothing("verify_dump", "1 is noted: a fault is told in words, no file is written."),
            nothing("verifysort", "As in fio, of no use any more."),
            nothing("verifysort_nr", "As in fio, of no use any more."),
            nothing("experimental_verify", "What was written is known without a log, always."),
            nothing("verify_state_save", "verify_state saves, where it is given."),
        ),
    ),
    Section(
        "Results",
        (
            option(
                "write_bw_log",
                o.text,
                "Prefix of the bandwidth log; default the job's name.",
                bare="",
            ),
            option("write_lat_log", o.text, "Prefix of the latency logs.", bare=""),
            option("write_iops_log", o.text, "Prefix of the IOPS log.", bare=""),
            option("write_hist_log", o.text, "Prefix of the histogram log.", bare=""),
            option("per_job_logs", v.boolean, "A log file for each queue; default 1."),
            option("log_avg_msec", v.natural, "Log averages over so many ms; default 0: each I/O."),
            option("log_max_value", v.boolean, "Of those log the greatest value, not the average."),
            option("log_hist_msec", v.natural, "Log a histogram every so many ms."),
            option("log_hist_coarseness", v.natural, "0 to 6; each halves the buckets; default 0."),
            option("log_offset", v.boolean, "Log the offset of each I/O, too."),
            option("log_unix_epoch", v.boolean, "Log times since 1970."),
            option(
                "bwavgtime", o.milliseconds, "Interval of bandwidth samples; in ms; default 500."
            ),
            option("iopsavgtime", o.milliseconds, "Interval of IOPS samples; in ms; default 500."),
            option("percentile_list", v.numbers, "Percentiles to report: 50:99:99.9."),
            option("clat_percentiles", v.boolean, "Percentiles of completion latency; default 1."),
            option("lat_percentiles", v.boolean, "Percentiles of total latency; default 1."),
            option("slat_percentiles", v.boolean, "Percentiles of submission latency."),
            option(
                "unified_rw_reporting",
                v.choice("none", "mixed", "both", _0="none", _1="mixed", _2="both"),
                "Directions as one: none, mixed or both; default none.",
                bare="mixed",
            ),
            nothing("significant_figures", "The summary's numbers have 4 digits."),
            nothing("unit_base", "Bandwidths are in bytes."),
            nothing("log_compression", "Logs are kept in memory and written as text.", bare=None),
            nothing("log_compression_cpus", "Logs are kept in memory and written as text."),
            nothing("log_prio", "A log has the priority 0 for all."),
            nothing("log_entries", "Logs grow without a pause.", bare=None),
            nothing("disk_util", "No kernel block layer is there to count."),
            nothing("error_dump", "Failed I/O is always counted by its status."),
        ),
    ),
)
