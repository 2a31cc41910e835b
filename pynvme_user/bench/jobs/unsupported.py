"""What fio has and the benchmark does not, each with its reason."""

from __future__ import annotations

CHECKSUMS = (
    *("md5", "crc64", "crc32", "crc16", "crc7", "sha512", "sha256", "sha1"),
    *("sha3-224", "sha3-256", "sha3-384", "sha3-512"),
)
"""Methods of fio's `verify` that are done as crc32c: the headers are the driver's own."""

_FILES = "files of a file system; the benchmark runs on a bare device"
_NETWORK = "the network; the benchmark runs on a bare device"
_MEMORY = "memory and not an NVMe namespace"
_CPU = "it moves no data (for a device that does nothing, use qemu:?driver=null-co)"
ENGINES = {
    name: f"the engine is for {reason}" if reason is not _CPU else reason
    for reason, names in {
        _FILES: "mmap splice falloc ftruncate e4defrag filecreate filestat filedelete dircreate "
        "dirstat dirdelete libcufile libhipfile libnfs nfs ime_psync ime_psyncv ime_aio libhdfs "
        "gfapi gfapi_async dfs",
        _NETWORK: "net netsplice rdma http rbd rados libiscsi nbd librpma_apm_client "
        "librpma_apm_server librpma_gpspm_client librpma_gpspm_server",
        _MEMORY: "dev-dax pmemblk libpmem",
        "SCSI's commands, such as VERIFY and WRITE SAME in fio's examples, which an NVMe namespace "
        "does not take": "sg",
        "MTD flash": "mtd",
        _CPU: "null cpuio exec cpp_null",
    }.items()
    for name in names.split()
}
ENGINES["external"] = "of external engines only SPDK's do what the driver does"
"""fio's engines that are not accepted, and why."""

GROUPS = (
    (
        "traces are not merged: give each a job of its own",
        "merge_blktrace_file merge_blktrace_scalars merge_blktrace_iters",
    ),
    ("a job file starts no programs: start them around the benchmark", "exec_prerun exec_postrun"),
    ("there are no files, only devices", "opendir lockfile create_only"),
    ("the whole benchmark runs as one user", "uid gid"),
    (
        "a size is a multiple of bsrange's lower end, the same for sequential and random I/O",
        "bs_unaligned blocksize_unaligned bs_is_seq_rand",
    ),
    (
        "a pause comes after so many completed I/Os, thinktime_blocks",
        "thinktime_blocks_type",
    ),
    ("once the depth for latency_target is found, it stays", "latency_run"),
    (
        "the header stands at the interval's start",
        "verify_offset",
    ),
    ("a write has no life-time hint", "write_hint"),
    ("there are no barriers in NVMe: use fsync or fua", "write_barrier"),
    ("atomic writes are not asked for: NVMe makes small ones atomic by itself", "atomic"),
    ("the write journal has its own option: use verify_state", "verify_state_load"),
    ("errors are counted by their NVMe status", "block_error_percentiles"),
    ("k is 1024 and kib is 1000", "kb_base"),
    (
        "zones are as long as the namespace has them, and are reset when they are full",
        "zonecapacity zone_reset_threshold zone_reset_frequency",
    ),
    (
        "logs are written as text, with times from the job's start or from 1970",
        "log_store_compressed log_alternate_epoch log_alternate_epoch_clock_id log_window_value",
    ),
    ("write the jobs out", "profile"),
    ("it is percentage_random now", "percentage_sequential"),
    ("reads are sent without Force Unit Access", "readfua"),
    ("use rw=write: other commands are not measured", "write_mode sg_write_mode"),
    (
        "placement and streams are not sent, and a trim has one range",
        "fdp fdp_pli fdp_pli_select dataplacement plids dp_scheme stream_id verify_mode num_range",
    ),
)
"""(reason, names) of the options that are not supported."""

OPTIONS = {name: reason for reason, names in GROUPS for name in names.split()}
"""The reason by the option's name."""

_OFF = {
    **dict.fromkeys(("write_mode", "sg_write_mode"), ("write",)),
    "thinktime_blocks_type": ("complete",),
    "kb_base": ("1024",),
    **dict.fromkeys(("uid", "gid"), ()),
}


def is_off(name: str, text: str) -> bool:
    """Tell whether that value of an unsupported option is the one without an effect."""
    return name in OPTIONS and text.strip() in _OFF.get(name, ("0", "none"))
