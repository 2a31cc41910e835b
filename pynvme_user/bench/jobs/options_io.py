"""The options that say which I/O a job does, where, and with what data."""

from __future__ import annotations

from typing import get_args

from pynvme_user.bench.jobs import errnos
from pynvme_user.bench.jobs import option as o
from pynvme_user.bench.jobs import readers as r
from pynvme_user.bench.jobs import values as v
from pynvme_user.bench.jobs.job import DedupeMode, Workload
from pynvme_user.bench.jobs.option import Section, nothing, option

SECTIONS = (
    Section(
        "Jobs",
        (
            option("name", o.text, "Name of the job, instead of its section's."),
            option("description", o.text, "Any text; it goes into the results."),
            option(
                "numjobs", v.natural, "So many queue pairs, each with its own thread; default 1."
            ),
            option(
                "queues",
                v.natural,
                "Not fio's: so many queue pairs in the one thread, each of iodepth; rates and I/Os "
                "are the job's; default 1.",
            ),
            option("loops", v.natural, "Move so many times size or io_size; default 1."),
            option("stonewall", v.boolean, "Wait for all jobs above.", "wait_for_previous"),
            option("wait_for", o.text, "Wait for the job of that name, which stands above."),
            option("new_group", v.boolean, "Begin a new reporting group."),
            option("group_reporting", v.boolean, "Report the jobs of a reporting group as one."),
            option("stats", v.boolean, "0 leaves the job out of the results."),
            option("exitall", v.boolean, "The end of this job ends the others of exit_what."),
            option(
                "exit_what",
                v.choice("group", "stonewall", "all"),
                "What exitall ends: group, stonewall or all; default group.",
            ),
            option("exitall_on_error", v.boolean, "A failure of this job ends the others."),
            option(
                "continue_on_error",
                r.continue_on_error,
                "Go on after errors of these kinds.",
                bare="all",
                choices=("none", "read", "write", "io", "verify", "all"),
            ),
            option(
                "ignore_error",
                errnos.ignored,
                "In place of continue_on_error, for each of reads, writes and verification that "
                "has a list: errors to go on after, as Linux's names or numbers; the NVMe status "
                "counts as what Linux makes of it.",
                metavar="READ,WRITE,VERIFY",
            ),
            nothing("thread", "Jobs are threads here, always.", "threads"),
            *(
                nothing(name, "No kernel block layer is there to share the I/O out by cgroups.")
                for name in ("cgroup", "cgroup_weight", "cgroup_nodelete")
            ),
            nothing("flow_watermark", "As in fio, without a meaning any more."),
            nothing("ioscheduler", "No kernel scheduler is in the way."),
            nothing("prio", "No kernel scheduler is in the way."),
            nothing("prioclass", "No kernel scheduler is in the way."),
            *(
                nothing(name, "Noted: NVMe's commands have no priority of their own.", bare=None)
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
            option(
                "filename",
                r.filenames,
                "Device names, as in the README; the job is shared out among several. A colon "
                "separates two only where the next one begins with qemu:, soft:, vfio-user:, "
                "vfio:, uio:, a PCI address or /; `\\:` never separates. SPDK's names will do: "
                "`trtype=PCIe traddr=0000.01.00.0 ns=1` is 0000:01:00.0 with nsid=1. --filename "
                "replaces every job's.",
                key="filenames",
            ),
            option("nsid", v.natural, "Namespace; default the first active one.", "xnvme_dev_nsid"),
            option(
                "size",
                v.size,
                "Length of the range, from offset; default to the namespace's end. Sequential I/O "
                "of one bs begins in it, and the last one may end beyond it, as in fio.",
            ),
            option(
                "io_size",
                v.size,
                "How much to move, a percentage being of the range; default as much as it has.",
                "io_limit",
            ),
            option(
                "filesize",
                v.span(v.natural),
                "Length of the range; size is then how much to move. One value, no range of them.",
            ),
            option("offset", v.size, "Where the range begins; default 0.", "fileoffset"),
            option(
                "offset_align", v.natural, "An offset in % is rounded up to it; default block size."
            ),
            option("offset_increment", v.size, "Added to the offset for each further clone."),
            option(
                "zonemode",
                v.choice("none", "strided", "zbd"),
                "none; strided: stay in a part of the range until zonesize bytes of it are moved, "
                "then leave zoneskip out, and begin anew at the range's end, until size is moved; "
                "or zbd: write at a zoned namespace's write pointers and "
                "read below them; default none, with a zonesize strided.",
            ),
            option(
                "zonesize", v.natural, "How much to move in a zone; with zbd that of the namespace."
            ),
            option("zonerange", v.natural, "Length of a zone; default zonesize."),
            option("zoneskip", v.natural, "What to leave out between two zones."),
            option(
                "max_open_zones",
                v.natural,
                "With zbd: all writers together have so many zones begun; default what it allows.",
            ),
            option("job_max_open_zones", v.natural, "With zbd: and each queue so many."),
            option("read_beyond_wp", v.boolean, "With zbd: read where nothing is written, too."),
            nothing("ignore_zone_limits", "The namespace's own limits are kept."),
            nothing("directory", "The device is named by filename."),
            nothing("filename_format", "The device is named by filename."),
            nothing("unique_filename", "The device is named by filename."),
            nothing("nrfiles", "As in fio, filename says how many.", "nr_files"),
            nothing("openfiles", "All devices of a job are open."),
            nothing(
                "file_service_type",
                "Of one device there is nothing to choose; with several, all but roundrobin is "
                "refused: each has a queue pair of its own.",
            ),
            nothing("fill_device", "The range ends with the namespace, always.", "fill_fs"),
            nothing("overwrite", "A namespace is always there."),
            nothing("file_append", "As in fio, only for regular files."),
            nothing("fallocate", "There is no file to make.", bare=None),
            nothing("fadvise_hint", "There is no page cache.", bare=None),
            nothing("create_serialize", "There is no file to make."),
            nothing("create_fsync", "There is no file to make."),
            nothing("create_on_open", "There is no file to make."),
            nothing("allow_file_create", "There is no file to make."),
            nothing("allow_mounted_write", "--force allows to write over a file system."),
            nothing("unlink", "There is no file to remove."),
            nothing("unlink_each_loop", "There is no file to remove."),
        ),
    ),
    Section(
        "Workload",
        (
            option(
                "rw",
                r.workload,
                "One of "
                + ", ".join(get_args(Workload))
                + ", with a number of bytes to leave out after each I/O (read:8k, read:-8k), or of "
                "I/Os for each random offset (randread:8); default read.",
                "readwrite",
                metavar="WORKLOAD",
                choices=get_args(Workload),
            ),
            option("rwmixread", v.percent, "Share of reads in rw and randrw; default 50."),
            option(
                "rwmixwrite", v.percent, "Share of writes; the later of this and rwmixread counts."
            ),
            option("number_ios", v.natural, "End after so many I/Os."),
            option(
                "fsync",
                v.natural,
                "A Flush after every so many writes, waited for; default 0: none.",
            ),
            option("fdatasync", v.natural, "The same as fsync."),
            option("end_fsync", v.boolean, "A Flush after the last write."),
            option("fsync_on_close", v.boolean, "The same as end_fsync.", key="end_fsync"),
            option(
                "rw_sequencer",
                v.choice("sequential", "identical"),
                "With rw=randread:N and the like: the N I/Os of a random offset follow each other, "
                "or all go there; default sequential.",
            ),
            option("fua", v.boolean, "Force Unit Access in every write.", "writefua"),
            option(
                "sync",
                v.choice("none", "sync", "dsync", _0="none", _1="sync"),
                "sync and dsync: Force Unit Access in every write; default none.",
            ),
            nothing("direct", "Always so: there is no page cache. 0 is noted."),
            nothing("buffered", "Never so: there is no page cache. 1 is noted."),
            nothing("invalidate", "There is no page cache."),
            nothing("pre_read", "There is no page cache to read into."),
            nothing("sync_file_range", "There is no page cache to write out.", bare=None),
            nothing("rwmixcycle", "As in fio, without a meaning any more."),
            *(
                nothing(
                    name,
                    "Of namespaces with metadata, on which reads and writes are refused.",
                )
                for name in ("md_per_io_size", "pi_act", "pi_chk", "apptag", "apptag_mask")
            ),
            nothing("deac", "Of write zeroes, which write_mode= refuses."),
        ),
    ),
    Section(
        "Traces",
        (
            option(
                "read_iolog",
                o.text,
                "Do the I/O of this trace, instead of what rw= and the like say: fio's log of "
                "version 2 or 3, or what blkparse prints. Offsets count from offset=, and begin "
                "anew at the end of size=.",
                metavar="FILE",
            ),
            option("replay_no_stall", v.boolean, "As fast as it goes, not at the trace's times."),
            option("replay_time_scale", v.natural, "Percent of the trace's speed; default 100."),
            option("replay_scale", v.natural, "Divide the trace's offsets by it; default 1."),
            option("replay_align", v.natural, "Round its offsets down to multiples; a power of 2."),
            option(
                "replay_skip",
                r.words,
                "Leave out read, write, trim or sync; of fio's logs, too.",
                metavar="KIND[,KIND...]",
            ),
            option(
                "replay_redirect",
                r.filenames,
                "The device, as filename: a trace is replayed on that, whatever it names.",
            ),
            nothing("read_iolog_chunked", "A trace is read in pieces, always."),
            option(
                "write_iolog",
                o.text,
                "Write what is issued to this file, as fio's log of version 3; of several queues "
                "each to FILE.N, by its number in the run.",
                metavar="FILE",
            ),
        ),
    ),
    Section(
        "Block sizes",
        (
            option("bs", o.sizes, "Bytes per I/O: read, write, trim; default 4k.", "blocksize"),
            option(
                "bsrange", o.ranges, "Multiples of the lower one, at random.", "blocksize_range"
            ),
            option(
                "bssplit",
                o.splits,
                "Sizes with their shares; ones without share the rest evenly, and where all have "
                "one, the largest gets the rest.",
            ),
            option("ba", o.sizes, "Random offsets are multiples of it; no map.", "blockalign"),
        ),
    ),
    Section(
        "Random offsets",
        (
            option("norandommap", v.boolean, "Blocks may come again before all came once."),
            option(
                "random_distribution",
                r.distribution,
                "random, zipf:THETA, pareto:POWER, normal:DEVIATION%, each with :CENTER; "
                "zoned:ACCESS%/RANGE%:..., zoned_abs:ACCESS%/SIZE:..., both also by "
                "direction with commas; default random.",
                choices=("random", "zipf:", "pareto:", "normal:", "zoned:", "zoned_abs:"),
            ),
            option(
                "percentage_random", o.percents, "Share of the I/O that is random; default 100."
            ),
            option("randrepeat", v.boolean, "The same offsets in every run; default 1."),
            option("allrandrepeat", v.boolean, "As randrepeat; one seed leads all choices."),
            option("randseed", v.natural, "What all random choices follow from."),
            nothing("softrandommap", "The map takes a bit per block."),
            nothing("random_generator", "One generator; with the map no block comes twice."),
        ),
    ),
    Section(
        "Data that is written",
        (
            option("zero_buffers", v.boolean, "Zeros instead of random data."),
            option("refill_buffers", v.boolean, "New data for every write."),
            option("buffer_pattern", r.pattern, "0xdeadbeef, \"text\", -12, 'file', in a row."),
            option(
                "buffer_compress_percentage",
                v.percent,
                "Share of zeros (or the pattern), and new data for every write; default 0.",
            ),
            option(
                "buffer_compress_chunk",
                v.natural,
                "Chunk in which that share is held; default 512.",
            ),
            option(
                "scramble_buffers",
                v.boolean,
                "Change 8 bytes of each 512 in every write; default 0, unlike in fio: each buffer "
                "has random data of its own.",
            ),
            option(
                "dedupe_percentage",
                v.percent,
                "Share of the blocks (of the smallest bs) whose data was written before, and new "
                "data for the others; default 0.",
            ),
            option(
                "dedupe_mode",
                v.choice(*get_args(DedupeMode)),
                "repeat: the data of the last new block; working_set: that of any of the job's "
                "first new blocks, as many as dedupe_working_set_percentage says; default repeat.",
            ),
            option(
                "dedupe_working_set_percentage",
                v.percent,
                "Blocks in the working set, in percent of the range; default 5.",
            ),
            option(
                "dedupe_global",
                v.boolean,
                "The working set is made of even parts of those of all queues of the run whose "
                "jobs have this option.",
            ),
            option("mem", r.memory, "Buffers are pinned DMA memory.", "iomem", effect=False),
            option(
                "iomem_align", r.memory_align, "Buffers begin at a page.", "mem_align", effect=False
            ),
            nothing(
                "lockmem",
                "There is no page cache that less memory would make smaller; buffers are pinned.",
                bare=None,
            ),
            nothing("hugepage-size", "Buffers are pinned DMA memory.", bare=None),
        ),
    ),
)
