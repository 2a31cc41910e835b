"""The options that say which I/O a job does, where, and with what data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from pynvme_user.bench.jobs import errnos
from pynvme_user.bench.jobs import option as o
from pynvme_user.bench.jobs import readers as r
from pynvme_user.bench.jobs import values as v
from pynvme_user.bench.jobs.option import Option, given, ignored, option, section
from pynvme_user.bench.jobs.terms import (
    UNIFORM,
    ContinueOnError,
    DedupeMode,
    Distribution,
    ExitWhat,
    Sequencer,
    Size,
    Workload,
)


@dataclass(frozen=True, kw_only=True)
class JobsOptions:
    """Jobs."""

    name: str = option(o.text, "Name of the job, instead of its section's.", default="bench")
    description: str = option(o.text, "Any text; it goes into the results.", default="")
    numjobs: int = option(
        v.natural,
        "So many times the job, each with a queue pair and thread of its own; default 1.",
        default=1,
        least=1,
        most=65535,
        why="the queues that a controller can have",
    )
    queues: int = option(
        v.natural,
        "Not fio's: so many queue pairs on each device, all in one thread, each of iodepth; rates "
        "and I/Os are the job's. Default 1, with a thread for each device.",
        default=1,
        least=1,
    )
    loops: int = option(
        v.natural, "Move so many times size or io_size; default 1.", default=1, least=1
    )
    stonewall = given(v.boolean, "Wait for all jobs above.", "wait_for_previous")
    wait_for: str | None = option(
        o.text, "Wait for the job of that name, which stands above.", default=None
    )
    new_group = given(v.boolean, "Begin a new reporting group.")
    group_reporting: bool = option(
        v.boolean, "Report the jobs of a reporting group as one.", default=False
    )
    stats: bool = option(v.boolean, "0 leaves the job out of the results.", default=True)
    exitall: bool = option(
        v.boolean, "The end of this job ends the others of exit_what.", default=False
    )
    exit_what: ExitWhat = option(
        v.choice(*get_args(ExitWhat)),
        "What exitall ends: group, stonewall or all; default group.",
        default="group",
    )
    exitall_on_error: bool = option(
        v.boolean, "A failure of this job ends the others.", default=False
    )
    continue_on_error: frozenset[ContinueOnError] = option(
        r.continue_on_error,
        "Go on after errors of these kinds.",
        default=frozenset(),
        bare="all",
        choices=("none", "read", "write", "io", "verify", "all"),
    )
    ignore_error: tuple[frozenset[int] | None, ...] = option(
        errnos.ignored,
        "In place of continue_on_error, for each of reads, writes and verification that "
        "has a list: errors to go on after, as Linux's names or numbers; the NVMe status "
        "counts as what Linux makes of it.",
        default=(None, None, None),
        metavar="READ,WRITE,VERIFY",
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("thread", "Jobs are threads here, always.", "threads"),
        *(
            ignored(name, "No kernel block layer is there to share the I/O out by cgroups.")
            for name in ("cgroup", "cgroup_weight", "cgroup_nodelete")
        ),
        ignored("flow_watermark", "As in fio, without a meaning any more."),
        ignored("ioscheduler", "No kernel scheduler is in the way."),
        ignored("prio", "No kernel scheduler is in the way."),
        ignored("prioclass", "No kernel scheduler is in the way."),
        *(
            ignored(name, "Noted: NVMe's commands have no priority of their own.", bare=None)
            for name in (
                *("cmdprio", "cmdprio_percentage", "cmdprio_class", "cmdprio_bssplit"),
                "cmdprio_hint",
            )
        ),
    )


@dataclass(frozen=True, kw_only=True)
class RangeOptions:
    """Device and range."""

    filenames: tuple[str, ...] = option(
        r.filenames,
        "Device names, as in the README; the job is shared out among several. A colon "
        "separates two only where the next one begins with qemu:, soft:, vfio-user:, "
        "vfio:, uio:, a PCI address or /; `\\:` never separates. SPDK's names will do: "
        "`trtype=PCIe traddr=0000.01.00.0 ns=1` is 0000:01:00.0 with nsid=1. --filename "
        "replaces every job's.",
        default=(),
        name="filename",
    )
    nsid: int | None = option(
        v.natural, "Namespace; default the first active one.", "xnvme_dev_nsid", default=None
    )
    size: Size | None = option(
        v.size,
        "Length of the range, from offset; default to the namespace's end. Sequential I/O "
        "of one bs begins in it, and the last one may end beyond it, as in fio.",
        default=None,
    )
    io_size: Size | None = option(
        v.size,
        "How much to move, a percentage being of the range; default as much as it has.",
        "io_limit",
        default=None,
    )
    filesize = given(
        v.span(v.natural),
        "Length of the range; size is then how much to move. One value, no range of them.",
    )
    offset: Size = option(
        v.size, "Where the range begins; default 0.", "fileoffset", default=Size(bytes=0)
    )
    offset_align: int = option(
        v.natural, "An offset in % is rounded up to it; default block size.", default=0
    )
    offset_increment: Size = option(
        v.size, "Added to the offset for each further clone.", default=Size(bytes=0)
    )
    zonemode = given(
        v.choice("none", "strided", "zbd"),
        "none; strided: stay in a part of the range until zonesize bytes of it are moved, "
        "then leave zoneskip out, and begin anew at the range's end, until size is moved; "
        "or zbd: write at a zoned namespace's write pointers and "
        "read below them; default none, with a zonesize strided.",
    )
    zonesize = given(v.natural, "How much to move in a zone; with zbd that of the namespace.")
    zonerange = given(v.natural, "Length of a zone; default zonesize.")
    zoneskip = given(v.natural, "What to leave out between two zones.")
    max_open_zones: int = option(
        v.natural,
        "With zbd: all writers together have so many zones begun; default what it allows.",
        default=0,
    )
    job_max_open_zones: int = option(v.natural, "With zbd: and each queue so many.", default=0)
    read_beyond_wp: bool = option(
        v.boolean, "With zbd: read where nothing is written, too.", default=False
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("ignore_zone_limits", "The namespace's own limits are kept."),
        ignored("directory", "The device is named by filename."),
        ignored("filename_format", "The device is named by filename."),
        ignored("unique_filename", "The device is named by filename."),
        ignored("nrfiles", "As in fio, filename says how many.", "nr_files"),
        ignored("openfiles", "All devices of a job are open."),
        ignored(
            "file_service_type",
            "Of one device there is nothing to choose; with several, all but roundrobin is "
            "refused: each has a queue pair of its own.",
        ),
        ignored("fill_device", "The range ends with the namespace, always.", "fill_fs"),
        ignored("overwrite", "A namespace is always there."),
        ignored("file_append", "As in fio, only for regular files."),
        ignored("fallocate", "There is no file to make.", bare=None),
        ignored("fadvise_hint", "There is no page cache.", bare=None),
        ignored("create_serialize", "There is no file to make."),
        ignored("create_fsync", "There is no file to make."),
        ignored("create_on_open", "There is no file to make."),
        ignored("allow_file_create", "There is no file to make."),
        ignored("allow_mounted_write", "--force allows to write over a file system."),
        ignored("unlink", "There is no file to remove."),
        ignored("unlink_each_loop", "There is no file to remove."),
    )


@dataclass(frozen=True, kw_only=True)
class WorkloadOptions:
    """Workload."""

    rw: Workload = option(
        r.workload,
        "One of "
        + ", ".join(get_args(Workload))
        + ", with a number of bytes to leave out after each I/O (read:8k, read:-8k), or of "
        "I/Os for each random offset (randread:8); default read.",
        "readwrite",
        default="read",
        metavar="WORKLOAD",
        choices=get_args(Workload),
    )
    rwmixread: int = option(v.percent, "Share of reads in rw and randrw; default 50.", default=50)
    rwmixwrite = given(v.percent, "Share of writes; the later of this and rwmixread counts.")
    number_ios: int | None = option(v.natural, "End after so many I/Os.", default=None)
    fsync: int = option(
        v.natural,
        "A Flush after every so many writes, waited for; default 0: none.",
        default=0,
        member="flush_every",
    )
    fdatasync = given(v.natural, "The same as fsync.")
    end_fsync: bool = option(v.boolean, "A Flush after the last write.", default=False)
    fsync_on_close = given(v.boolean, "The same as end_fsync.", key="end_fsync")
    rw_sequencer: Sequencer = option(
        v.choice(*get_args(Sequencer)),
        "With rw=randread:N and the like: the N I/Os of a random offset follow each other, "
        "or all go there; default sequential.",
        default="sequential",
    )
    fua: bool = option(v.boolean, "Force Unit Access in every write.", "writefua", default=False)
    sync = given(
        v.choice("none", "sync", "dsync", _0="none", _1="sync"),
        "sync and dsync: Force Unit Access in every write; default none.",
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("direct", "Always so: there is no page cache. 0 is noted."),
        ignored("buffered", "Never so: there is no page cache. 1 is noted."),
        ignored("invalidate", "There is no page cache."),
        ignored("pre_read", "There is no page cache to read into."),
        ignored("sync_file_range", "There is no page cache to write out.", bare=None),
        ignored("rwmixcycle", "As in fio, without a meaning any more."),
        ignored("deac", "Of write zeroes, which write_mode= refuses."),
    )


@dataclass(frozen=True, kw_only=True)
class MetadataOptions:
    """Metadata and protection information."""

    md_per_io_size: int = option(
        v.natural,
        "Bytes of metadata memory for an I/O, where metadata lies apart from the data: what the "
        "largest has at the least. Default 0: as much as that.",
        default=0,
    )
    pi_act: bool = option(
        v.boolean,
        "1: the controller inserts protection information into what is written, and strips it of "
        "what is read; metadata that is nothing else is not moved. 0: it is generated for writes "
        "and checked in reads here; a fault counts as an I/O with the status that the controller "
        "would give it. Default 1. Where metadata that is moved follows the data of each block, a "
        "block has both to bs, offset, size and the results.",
        default=True,
    )
    pi_chk: frozenset[str] = option(
        r.protection_checks,
        "What of it is checked, by the controller and, with pi_act=0, here: GUARD, REFTAG, APPTAG; "
        "default none. All of it is written, whatever is checked; the reference tag is the LBA.",
        default=frozenset(),
        metavar="PART[,PART...]",
        choices=r.PROTECTION_PARTS,
    )
    apptag: int = option(
        v.natural,
        "Application tag; default 0x1234. Blocks with 0xffff are not checked.",
        default=0x1234,
        most=0xFFFF,
        why="all of its 16 bits",
    )
    apptag_mask: int = option(
        v.natural,
        "Bits of the application tag that are checked; default 0xffff.",
        default=0xFFFF,
        most=0xFFFF,
        why="all of its 16 bits",
    )


@dataclass(frozen=True, kw_only=True)
class TraceOptions:
    """Traces."""

    read_iolog: str | None = option(
        o.text,
        "Do the I/O of this trace, instead of what rw= and the like say: fio's log of "
        "version 2 or 3, or what blkparse prints. Offsets count from offset=, and begin "
        "anew at the end of size=.",
        default=None,
        metavar="FILE",
    )
    replay_no_stall: bool = option(
        v.boolean, "As fast as it goes, not at the trace's times.", default=False
    )
    replay_time_scale: int = option(
        v.natural, "Percent of the trace's speed; default 100.", default=100, least=1
    )
    replay_scale: int = option(
        v.natural, "Divide the trace's offsets by it; default 1.", default=1, least=1
    )
    replay_align: int = option(
        v.natural, "Round its offsets down to multiples; a power of 2.", default=0
    )
    replay_skip: frozenset[int] = option(
        r.words,
        "Leave out read, write, trim or sync; of fio's logs, too.",
        default=frozenset(),
        metavar="KIND[,KIND...]",
    )
    replay_redirect = given(
        r.filenames, "The device, as filename: a trace is replayed on that, whatever it names."
    )
    write_iolog: str | None = option(
        o.text,
        "Write what is issued to this file, as fio's log of version 3; of several queues "
        "each to FILE.N, by its number in the run.",
        default=None,
        metavar="FILE",
    )

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("read_iolog_chunked", "A trace is read in pieces, always."),
    )


@dataclass(frozen=True, kw_only=True)
class BlockSizeOptions:
    """Block sizes."""

    bs = given(o.sizes, "Bytes per I/O: read, write, trim; default 4k.", "blocksize")
    bsrange = given(o.ranges, "Multiples of the lower one, at random.", "blocksize_range")
    bssplit = given(
        o.splits,
        "Sizes with their shares; ones without share the rest evenly, and where all have "
        "one, the largest gets the rest.",
    )
    ba = given(o.sizes, "Random offsets are multiples of it; no map.", "blockalign")


@dataclass(frozen=True, kw_only=True)
class RandomOptions:
    """Random offsets."""

    norandommap: bool = option(
        v.boolean, "Blocks may come again before all came once.", default=False
    )
    random_distribution: Distribution = option(
        r.distribution,
        "random, zipf:THETA, pareto:POWER, normal:DEVIATION%, each with :CENTER; "
        "zoned:ACCESS%/RANGE%:..., zoned_abs:ACCESS%/SIZE:..., both also by "
        "direction with commas; default random.",
        default=UNIFORM,
        choices=("random", "zipf:", "pareto:", "normal:", "zoned:", "zoned_abs:"),
    )
    percentage_random: tuple[int, int, int] = option(
        o.percents, "Share of the I/O that is random; default 100.", default=(100, 100, 100)
    )
    randrepeat: bool = option(v.boolean, "The same offsets in every run; default 1.", default=True)
    allrandrepeat: bool = option(
        v.boolean, "As randrepeat; one seed leads all choices.", default=False
    )
    randseed: int | None = option(v.natural, "What all random choices follow from.", default=None)

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored("softrandommap", "The map takes a bit per block."),
        ignored("random_generator", "One generator; with the map no block comes twice."),
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Data that is written."""

    zero_buffers: bool = option(v.boolean, "Zeros instead of random data.", default=False)
    refill_buffers: bool = option(v.boolean, "New data for every write.", default=False)
    # empty: random data
    buffer_pattern: bytes = option(
        r.pattern, "0xdeadbeef, \"text\", -12, 'file', in a row.", default=b""
    )
    buffer_compress_percentage: int = option(
        v.percent,
        "Share of zeros (or the pattern), and new data for every write; default 0.",
        default=0,
    )
    # 0: the block
    buffer_compress_chunk: int = option(
        v.natural, "Chunk in which that share is held; default 512.", default=512
    )
    scramble_buffers: bool = option(
        v.boolean,
        "Change 8 bytes of each 512 in every write; default 0, unlike in fio: each buffer "
        "has random data of its own.",
        default=False,
    )
    dedupe_percentage: int = option(
        v.percent,
        "Share of the blocks (of the smallest bs) whose data was written before, and new "
        "data for the others; default 0.",
        default=0,
    )
    dedupe_mode: DedupeMode = option(
        v.choice(*get_args(DedupeMode)),
        "repeat: the data of the last new block; working_set: that of any of the job's "
        "first new blocks, as many as dedupe_working_set_percentage says; default repeat.",
        default="repeat",
    )
    dedupe_working_set_percentage: int = option(
        v.percent, "Blocks in the working set, in percent of the range; default 5.", default=5
    )
    dedupe_global: bool = option(
        v.boolean,
        "The working set is made of even parts of those of all queues of the run whose "
        "jobs have this option.",
        default=False,
    )
    mem = given(r.memory, "Buffers are pinned DMA memory.", "iomem", effect=False)
    iomem_align = given(r.memory_align, "Buffers begin at a page.", "mem_align", effect=False)

    accepted: ClassVar[tuple[Option, ...]] = (
        ignored(
            "lockmem",
            "There is no page cache that less memory would make smaller; buffers are pinned.",
            bare=None,
        ),
        ignored("hugepage-size", "Buffers are pinned DMA memory.", bare=None),
    )


SECTIONS = (
    section("Jobs", JobsOptions),
    section("Device and range", RangeOptions),
    section("Workload", WorkloadOptions),
    section("Metadata and protection information", MetadataOptions),
    section("Traces", TraceOptions),
    section("Block sizes", BlockSizeOptions),
    section("Random offsets", RandomOptions),
    section("Data that is written", DataOptions),
)
