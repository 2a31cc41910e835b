"""Values, options, and what a job makes of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.bench.jobs import values
from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.jobs.job import Job, clones
from pynvme_user.bench.jobs.job_file import command_line_jobs
from pynvme_user.bench.jobs.option import Option
from pynvme_user.bench.jobs.options import OPTIONS
from pynvme_user.bench.jobs.terms import BlockSizes, Distribution, JobError, Size, SteadyState
from pynvme_user.host.numa import Placement
from pynvme_user.workload.direction import Direction

READ, WRITE, TRIM = Direction


def job(**options: str | None) -> Job:
    """The job of a command line with these options."""
    given = {"filename": "qemu:", **options}
    (made,) = command_line_jobs(tuple(given.items())).jobs
    return made


def problem(**options: str | None) -> str:
    with pytest.raises(JobError) as caught:
        job(**options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("256k", (262144, 262144, 262144)),
        ("8k,32k", (8192, 32768, 32768)),
        ("8k,32k,", (8192, 32768, 4096)),
        (",8k", (4096, 8192, 8192)),
        (",8k,", (4096, 8192, 4096)),
        ("1k,2k,3k", (1024, 2048, 3072)),
    ],
)
def test_block_sizes_by_direction(text: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    # In a job file: on the command line the list is a sweep, which takes it apart before.
    assert tuple(each.low for each in job(rw="rw", bs=text).block_sizes) == sizes


def test_of_the_ways_to_give_block_sizes_bssplit_counts_first() -> None:
    made = job(bssplit="4k/10:64k/50:32k/40,8k", bsrange="1k-4k,2k-8k,", bs="512", ba=",,1m")
    assert made.block_sizes == (
        BlockSizes(low=4096, high=65536, split=((4096, 10), (65536, 50), (32768, 40))),
        BlockSizes(low=8192, high=8192, split=((8192, 100),)),
        BlockSizes(low=8192, high=8192, split=((8192, 100),), align=1 << 20),
    )
    assert made.block_sizes[READ].largest == 65536
    made = job(bsrange="4k-1k,2k-8k,", bs="512")
    assert [(each.low, each.high) for each in made.block_sizes] == [
        (1024, 4096),
        (2048, 8192),
        (512, 512),
    ]


def test_shares_that_are_left_out_are_filled_in() -> None:
    read = values.split(values.natural)
    assert read("4k/50:1k/:32k/") == ((4096, 50), (1024, 25), (32768, 25))
    assert read("1:2:3") == ((1, 33), (2, 33), (3, 34))
    assert job(bssplit="4k/50:8k/40").block_sizes[0].split == ((4096, 60), (8192, 40))
    assert job(bssplit="4k/20:8k/10:64k/20").block_sizes[0].split[-1] == (65536, 70)
    assert "has to add up to 100%" in problem(bssplit="4k/50:8k/60")
    assert "adds up to more than 100%" in problem(bssplit="4k/90:8k/20:1k")


def test_distributions() -> None:
    assert job(random_distribution="zipf:1.2:0.25").random_distribution == Distribution(
        kind="zipf", theta=1.2, center=0.25
    )
    assert job(random_distribution="zipf").random_distribution.theta == 1.1
    made = job(random_distribution="zoned:60/10:30/20:8/30:2/")
    assert made.random_distribution.zones == (((60, 10), (30, 20), (8, 30), (2, 40)),) * 3
    made = job(random_distribution="zoned_abs=60/20G:40/100G")
    assert made.random_distribution.zones == (((60, 20 << 30), (40, 100 << 30)),) * 3
    for several in ("zoned:50/20:50/,90/10:10/90", "zoned:50/20:50/,zoned:90/10:10/90"):
        made = job(random_distribution=several)
        reads, writes = ((50, 20), (50, 80)), ((90, 10), (10, 90))
        assert made.random_distribution.zones == (reads, writes, writes)
    made = job(random_distribution="zoned:50/50:50/50,40/50:60/50,30/50:70/50")
    assert [of[0][0] for of in made.random_distribution.zones] == [50, 40, 30]
    assert "leaves a direction out" in problem(random_distribution="zoned:60/10:40/,")
    assert "have to add up" in problem(random_distribution="zoned:60/10:40/,60/10:30/90")
    for wrong in ("zipf:1", "zipf:0", "pareto:1", "normal", "normal:200", "uniform", "zipf:2:3"):
        assert problem(random_distribution=wrong)
    assert "have to add up to 100%" in problem(random_distribution="zoned:50/50:40/50")


def test_several_filename_options_name_several_devices() -> None:
    given = (("filename", "/run/a"), ("iodepth", "2"), ("filename", "qemu:b"), ("iodepth", "3"))
    (made,) = command_line_jobs(given).jobs
    assert made.filenames == ("/run/a", "qemu:b")
    assert made.iodepth == 3
    assert ("filename", "/run/a:qemu:b") in made.given


@pytest.mark.parametrize(
    "option", {id(o): o for o in OPTIONS.values()}.values(), ids=lambda o: o.name
)
@given(
    text=st.one_of(
        st.text(),
        st.text("0123456789kmgtpib.%z:,/-+*^()x osuad", max_size=12),
        st.sampled_from(["9" * 5000, "nan", "inf", "-inf", "(1e999)", "(9^64^64)", "1e999", "\0"]),
    )
)
def test_whatever_is_written_either_reads_or_is_a_job_error(option: Option, text: str) -> None:
    with contextlib.suppress(JobError):
        assert command_line_jobs((("filename", "qemu:"), (option.name, text))).jobs


def test_cpu_lists() -> None:
    assert job(cpus_allowed="0,5,8-10").cpus_allowed == {0, 5, 8, 9, 10}
    assert job(cpumask="34").cpus_allowed == {1, 5}
    assert job(numa_cpu_nodes="0-1").numa_cpu_nodes == {0, 1}
    assert job(numa_cpu_nodes="all").numa_cpu_nodes == set()
    for wrong in ("", "a", "5-3", "0-99999999"):
        assert problem(cpus_allowed=wrong)
    assert "'x' is not a list of NUMA nodes" in problem(numa_cpu_nodes="x")


def test_memory_policies() -> None:
    for text, mode, nodes in (
        ("bind:0", "bind", {0}),
        (" bind:0,2-3", "bind", {0, 2, 3}),
        ("prefer:1", "prefer", {1}),
        ("interleave:0-1", "interleave", {0, 1}),
    ):
        assert job(numa_mem_policy=text).numa_mem_policy == Placement(mode, frozenset(nodes))
    assert job().numa_mem_policy is None
    later = command_line_jobs(
        (("filename", "qemu:"), ("numa_mem_policy", "bind:1"), ("numa_mem_policy", "local"))
    )
    assert later.jobs[0].numa_mem_policy is None
    for wrong, why in (
        ("bind", "not a list of NUMA nodes"),
        ("bind:all", "at least one"),
        ("prefer:0-1", "use bind or interleave"),
        ("local:0", "takes no nodes"),
        ("near:0", "prefer, bind, interleave, not 'near'"),
    ):
        assert why in problem(numa_mem_policy=wrong)


def test_defaults_are_fios() -> None:
    made = job()
    assert (made.rw, made.iodepth, made.numjobs, made.rwmixread) == ("read", 1, 1, 50)
    assert made.block_sizes == (BlockSizes(low=4096, high=4096),) * 3
    assert made.randrepeat
    assert not made.norandommap
    assert not made.time_based
    assert made.percentage_random == (100, 100, 100)
    assert made.runtime is None
    assert made.size is None
    assert made.offset == Size(bytes=0)
    assert made.do_verify
    assert made.verify is None
    assert made.thinktime_blocks == made.loops == 1
    assert made.percentile_list[:17] == (
        *(1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99),
    )


def test_workloads() -> None:
    assert job(rw="readwrite").rw == "rw"
    assert job(rw="randread:1").rw == "randread"
    assert job(rw="write:0").rw == "write"
    holed = job(rw="read:-8k")
    assert (holed.rw, holed.skip, holed.run) == ("read", -8192, 1)
    several = job(rw="randread:8", rw_sequencer="identical")
    assert (several.rw, several.skip, several.run) == ("randread", 0, 8)
    assert several.rw_sequencer == "identical"
    assert not several.random_map
    assert "none: give 1 or more" in problem(rw="randread:-8")
    assert job(rw="trimwrite").directions == {WRITE, TRIM}
    assert not job(rw="randread").destructive
    assert job(rw="trim").destructive
    assert job(rw="randwrite").random_map
    assert not job(rw="randwrite", norandommap="1").random_map
    assert not job(rw="randwrite", ba="8k").random_map
    assert not job(rw="randwrite", random_distribution="zipf").random_map
    assert "'randraed' is none of read, write" in problem(rw="randraed")


def test_strided_zones() -> None:
    zones = job(zonemode="strided", zonesize="256m", zoneskip="2g").zones
    assert zones is not None
    assert (zones.size, zones.range, zones.skip) == (256 << 20, 256 << 20, 2 << 30)
    assert not job(rw="randread", zonesize="1m").random_map  # a zonesize alone will do
    zones = job(zonesize="1m", zonerange="64k").zones
    assert zones is not None
    assert (zones.size, zones.range, zones.skip) == (1 << 20, 64 << 10, 0)
    assert job(zonemode="none", zonesize="1m").zones is None
    assert job(zonesize="0").zones is None
    assert "zonemode=strided needs zonesize=" in problem(zonemode="strided")
    assert "leave random_distribution out" in problem(zonesize="1m", random_distribution="zipf")
    assert "leaves out enough" in problem(zonesize="1m", rw="read:4k")


def test_what_is_not_quite_as_asked_for_is_noted() -> None:
    def notes(**options: str) -> str:
        given = {"filename": "qemu:", **options}
        return "\n".join(JobBuilder(given.items()).job("job")[1])

    assert notes() == ""
    assert "verify_dump=1 writes no files" in notes(verify="crc32c", verify_dump="1")
    assert notes(verify_dump="0") == ""
    said = notes(cmdprio_percentage="20", cmdprio_class="1")
    assert said.startswith("cmdprio_percentage, cmdprio_class: NVMe's commands all have the same")
    two = "qemu:a:qemu:b"
    assert "each has one I/O in flight" in notes(filename=two)
    assert notes(filename=two, iodepth="2") == ""


def test_a_job_on_several_devices_is_shared_out() -> None:
    """As fio does it: what is left over goes to the first."""
    parts = clones(
        [
            job(
                filename="qemu:a:qemu:b:qemu:c",
                numjobs="2",
                bs="4k",
                rw="randrw",
                iodepth="8",
                size="44k",
                io_size="64k",
                number_ios="10",
                rate_iops="100,50",
                iodepth_low="6",
                iodepth_batch="8",
            )
        ]
    )
    assert [part.filenames[0] for part in parts] == ["qemu:a", "qemu:b", "qemu:c"] * 2
    assert [(part.clone, part.share, part.shares) for part in parts] == [
        (clone, share, 3) for clone in (0, 1) for share in (0, 1, 2)
    ]
    first, second, third = parts[:3]
    of = [(part.iodepth, part.number_ios, part.rate_iops) for part in (first, second, third)]
    assert of == [(3, 4, (34, 17, 17)), (3, 3, (33, 17, 17)), (2, 3, (33, 16, 16))]
    sizes = [(part.size, part.io_size) for part in (first, second, third)]
    assert [(size.bytes >> 12, io.bytes >> 12) for size, io in sizes if size and io] == [
        *((4, 6), (4, 5), (3, 5))
    ]
    assert [(part.iodepth_low, part.iodepth_batch) for part in (first, third)] == [(3, 3), (2, 2)]
    percent = job(filename="qemu:a:qemu:b", size="50%")
    assert [part.size for part in clones([percent])] == [percent.size] * 2
    assert [part.iodepth for part in clones([percent])] == [1, 1]


def test_the_later_of_the_two_mixes_counts() -> None:
    assert job(rwmixread="70", rwmixwrite="60").rwmixread == 40
    assert job(rwmixwrite="60", rwmixread="70").rwmixread == 70
    assert job(rwmixwrite="100").rwmixread == 0


def test_flushes_and_fua() -> None:
    assert job(fdatasync="32").fsync == 32
    assert [job(sync=how).fua for how in ("1", "dsync", "none", "0")] == [True, True, False, False]
    assert job(fsync_on_close="1").end_fsync


def test_the_queue() -> None:
    made = job(iodepth="16", iodepth_batch="0", iodepth_batch_complete_min="32", iodepth_low="4")
    assert (made.iodepth_batch, made.iodepth_batch_complete_min, made.iodepth_low) == (16, 16, 4)
    assert job(iodepth="4", iodepth_batch_submit="9").iodepth_batch == 4
    assert job(iodepth="128", iodepth_batch="100").iodepth_batch == 64
    assert job(rw="write", serialize_overlap="1", verify="meta")
    assert "serialize_overlap= is not supported without verify=" in problem(serialize_overlap="1")
    assert "iodepth is at least 1" in problem(iodepth="0")
    assert "iodepth is at most 65535" in problem(iodepth="64k")


def test_engines_without_a_queue_have_one_io_in_flight() -> None:
    result = command_line_jobs((("filename", "qemu:"), ("ioengine", "psync"), ("iodepth", "8")))
    assert result.jobs[0].iodepth == 1
    assert result.notes == (
        "job 'bench': ioengine=psync has one I/O in flight, so iodepth=8 is taken as 1",
    )
    assert job(ioengine="libaio", iodepth="8").iodepth == 8
    assert "ioengine=null: not supported: it moves no data" in problem(ioengine="null")
    assert "fio has no such engine" in problem(ioengine="libaoi")


def test_what_is_done_in_another_way_is_noted() -> None:
    result = command_line_jobs(
        (
            *(("filename", "qemu:"), ("rw", "write"), ("verify", "md5"), ("direct", "0")),
            *(("iodepth", "128"), ("iodepth_batch", "128"), ("buffer_pattern", "1")),
        )
    )
    assert result.jobs[0].verify == "crc32c"
    assert result.notes == (
        "job 'bench': verify=md5 is done with crc32c in the driver's own headers",
        "job 'bench': buffer_pattern: what is verified has data of its own",
        "job 'bench': iodepth_batch=128 is taken as 64, the most for one doorbell",
        "job 'bench': there is no page cache: all I/O is direct",
    )
    quiet = (("filename", "qemu:"), ("rw", "write"), ("verify", "xxhash"), ("direct", "1"))
    assert command_line_jobs(quiet).notes == ()


def test_the_range() -> None:
    made = job(offset="10%", size="20%", bs="4k")
    assert made.region(1000 * 4096) == (100 * 4096, 200 * 4096)
    made = job(offset="33%", offset_align="1m")
    assert made.region(10 << 20) == (4 << 20, 6 << 20)  # rounded up
    (_, second) = clones([job(numjobs="2", offset="1m", offset_increment="2m", size="1m")])
    assert second.region(16 << 20) == (3 << 20, 1 << 20)
    assert job(size="32m").region(16 << 20) == (0, 16 << 20)  # ends with the namespace
    assert job(size="8m").amount(16 << 20) == 8 << 20
    # As fio 3.33: a percentage of io_size is of the range, one of size has whole blocks.
    assert job(io_size="50%", size="1m").amount(16 << 20) == 1 << 19
    assert job(io_size="50%", offset="4m").amount(16 << 20) == 6 << 20
    assert job(io_size="50%", filesize="1m").amount(16 << 20) == 1 << 19
    assert job(size="10%", bs="100k").region(32 << 20) == (0, 32 * 100 << 10)
    assert job(size="10%", bs="4k").region(32 << 20) == (0, 819 * 4096)
    assert job(size="100%", bs="100k").region(32 << 20) == (0, 32 << 20)
    assert job(io_size="5g", size="1m").amount(16 << 20) == 5 << 30
    made = job(filesize="4m", size="9m")
    assert (made.size, made.io_size) == (Size(bytes=4 << 20), Size(bytes=9 << 20))
    assert job(size="0").size is None
    with pytest.raises(JobError, match="has no room for a block of 4096 bytes"):
        job(offset="20m").region(16 << 20)


def test_steady_state() -> None:
    made = job(ss="bw_slope:0.1%", ss_dur="30s", ss_ramp="10")
    assert made.steadystate == SteadyState(
        metric="bw", slope=True, limit=0.1, percent=True, duration=30, ramp=10
    )
    default = job(steadystate_duration="5").steadystate
    assert default is not None
    assert (default.metric, default.slope, default.limit) == ("iops", True, 0.01)
    assert "needs steadystate_duration" in problem(steadystate="iops:2")


def test_times_and_rates() -> None:
    made = job(
        runtime="5m", time_based=None, thinktime="100", thinktime_spin="1ms", startdelay="10s-5s"
    )
    assert (made.runtime, made.time_based, made.startdelay) == (300, True, (5, 10))
    assert made.thinktime == 1e-4
    assert job(rate="1m,500k").rate == (1 << 20, 500 << 10, 500 << 10)
    assert job(rate=",500k").rate == (0, 500 << 10, 500 << 10)
    assert job(rate_iops="1000,,").rate_iops == (1000, 0, 0)
    assert job(latency_target="500", latency_window="5s").latency_target == 5e-4
    assert job(runtime="0").runtime is None
    assert "rate and rate_iops" in problem(rate="1m", rate_iops="100")
    assert "time_based needs a runtime" in problem(time_based="1")
    assert "needs a latency_window" in problem(latency_target="1ms")


def test_verification() -> None:
    made = job(rw="write", verify="pattern", verify_pattern="0xaa%o", verify_interval="512")
    assert (made.verify, made.verify_pattern, made.verify_pattern_offsets) == (
        "pattern",
        b"\xaa" + bytes(8),
        (1,),
    )
    assert job(rw="write", verify="crc32c-intel").verify == "crc32c"
    assert job(rw="write", verify="pattern_hdr", verify_pattern="1").verify == "pattern_hdr"
    assert job(verify="0").verify is None
    assert "verify_interval=5000 has to divide" in problem(
        rw="write", verify="meta", verify_interval="5000"
    )
    assert "verify=pattern needs a verify_pattern" in problem(rw="write", verify="pattern")
    assert "writes nothing that could be verified" in problem(rw="trim", verify="meta")
    assert "verify_only needs verify=" in problem(verify_only="1")
    assert not job(rw="write", verify="meta", verify_only=None).destructive


def test_logs_take_the_jobs_name() -> None:
    assert job(name="mine", write_bw_log=None).write_bw_log == "mine"
    assert job(write_lat_log="other").write_lat_log == "other"


def test_clones_have_numbers_seeds_and_cpus_of_their_own() -> None:
    two = job(numjobs="2", cpus_allowed="3,7", cpus_allowed_policy="split")
    assert [part.numjobs for part in clones([two])] == [2, 2]
    parts = clones([two, job(name="last")])
    assert [(part.name, part.clone, part.number) for part in parts] == [
        ("bench", 0, 1),
        ("bench", 1, 2),
        ("last", 0, 3),
    ]
    assert [part.cpus_allowed for part in parts] == [{3}, {7}, set()]
    assert len({part.seed for part in parts}) == 3
    assert [part.seed for part in clones([two])] == [part.seed for part in parts[:2]]
    assert clones([job(randseed="1")])[0].seed != parts[0].seed
    drawn = [clones([job(randrepeat="0")])[0].seed for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_each_device_of_each_clone_has_a_part() -> None:
    parts = clones([job(filename="qemu:a:qemu:b", numjobs="2")])
    assert [(part.number, part.clone, part.filenames) for part in parts] == [
        *((1, 0, ("qemu:a",)), (2, 0, ("qemu:b",))),
        *((3, 1, ("qemu:a",)), (4, 1, ("qemu:b",))),
    ]
    assert len({part.seed for part in parts}) == 4


def test_with_queues_all_devices_of_a_clone_have_one_thread() -> None:
    devices = "qemu:a:qemu:b:qemu:c"
    split = {"cpus_allowed": "3,7", "cpus_allowed_policy": "split"}
    for queues in ("1", "20"):
        several = job(filename=devices, numjobs="2", queues=queues, **split)
        assert several.one_thread
        parts = clones([several, job(queues="4", **split)])
        assert [part.number for part in parts] == [1, 2, 3, 4, 5, 6, 7]
        assert [part.thread for part in parts] == [1, 1, 1, 4, 4, 4, 7]
        assert [part.cpus_allowed for part in parts] == [{3}] * 3 + [{7}] * 3 + [{3}]
        assert sum(part.threads for part in parts) == pytest.approx(3)
        assert len({part.seed for part in parts}) == 7
    parts = clones([job(filename=devices, **split)])
    assert [part.thread for part in parts] == [1, 2, 3]
    assert [part.cpus_allowed for part in parts] == [{3}, {7}, {3}]
    assert "mode=interrupt sleeps" in problem(filename=devices, queues="1", mode="interrupt")
    assert job(filename="qemu:a", queues="1", mode="interrupt").mode == "interrupt"


def test_unknown_and_unsupported_options() -> None:
    assert problem(ioedpth="4") == "'ioedpth' is no option: did you mean iodepth or iodepth_low?"
    assert problem(exec_prerun="x").startswith("'exec_prerun' is not supported: a job file")
    assert problem(zzz="1") == "'zzz' is no option"
    assert problem(iodepth=None) == "iodepth needs a value: write iodepth=NUMBER"
    assert problem(direct="yes", time_based="2").startswith("time_based=2: '2' is neither 1 nor 0")
    assert job(trim_percentage="0", write_mode="write")
    assert job(thinktime_blocks_type="complete")
    for name, value in (
        *(("thinktime_blocks_type", "issue"), ("verify_offset", "8"), ("write_hint", "short")),
        *(("latency_run", "1"),),
        *(("bs_unaligned", None), ("bs_is_seq_rand", "1")),
    ):
        assert "not supported: " in problem(**{name: value})
    assert "'uid' is not supported" in problem(uid="0")  # 0 is a user
    assert job(kb_base="1024")
    assert "k is 1024 and kib is 1000" in problem(kb_base="1000")


def test_all_problems_are_told_at_once() -> None:
    assert problem(bs="4x", iodepth="a", zzz="1").splitlines() == [
        "bs=4x: '4x' is not a number: write for example 4096, 4k, 256m or 1g",
        "iodepth=a: 'a' is not a number: write for example 4096, 4k, 256m or 1g",
        "'zzz' is no option",
    ]


def test_size_is_never_ambiguous() -> None:
    assert str(Size(percent=3)) == "3%"
    assert str(Size(zones=3)) == "3z"
    assert str(Size(bytes=3)) == "3"


def test_keywords_are_the_machines() -> None:
    made = job(size="$pagesize", iodepth="4*$ncpus")
    assert made.iodepth == 4 * (os.cpu_count() or 1)


def test_the_order_of_several_devices_cannot_be_chosen() -> None:
    assert job(file_service_type="random:8").filenames == ("qemu:",)
    made = job(filename="qemu:a:qemu:b", file_service_type="roundrobin:4")
    assert len(made.filenames) == 2
    assert "each of several devices has a queue pair" in problem(
        filename="qemu:a:qemu:b", file_service_type="sequential"
    )
