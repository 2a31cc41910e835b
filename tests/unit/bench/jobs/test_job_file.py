"""fio's job files, as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fio_reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.bench.jobs.job_file import Jobs, command_line_jobs, read_job_files, substitute
from pynvme_user.bench.jobs.options import OPTIONS
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.workload.direction import Direction

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "job.fio") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def read(path: Path, *overrides: tuple[str, str | None]) -> Jobs:
    return read_job_files([path], (("filename", "qemu:"), *overrides), environment={"DEPTH": "7"})


def test_what_the_command_line_replaces_need_not_be_right(tmp_path: Path) -> None:
    path = tmp_path / "a.fio"
    path.write_text("[global]\nioengine=null\nblocksize=3x\n[a]\nrw=randread\n")
    with pytest.raises(JobError, match=r"line 2: .*\n.*line 3: "):
        read_job_files([path], (("filename", "qemu:"),))
    overrides = (("filename", "qemu:"), ("ioengine", "libaio"), ("bs", "8k"))
    (job,) = read_job_files([path], overrides).jobs
    assert job.block_sizes[0].low == 8192


def test_sections_globals_and_comments(write: Write) -> None:
    path = write(
        """; a comment
        # another
[global]
bs = 8k
\trw=randread   ; with a comment

[first]
iodepth=4 # four
[global]
iodepth=16
bs=16k
[second]
time_based
runtime=10
[first]
bs=512
"""
    )
    jobs = read(path).jobs
    assert [job.name for job in jobs] == ["first", "second", "first"]
    assert [job.iodepth for job in jobs] == [4, 16, 16]
    assert [job.block_sizes[Direction.READ].low for job in jobs] == [8192, 16384, 512]
    assert {job.rw for job in jobs} == {"randread"}
    assert jobs[1].time_based
    assert not jobs[2].time_based
    assert [job.group for job in jobs] == [0, 0, 0]
    assert jobs[0].given == (
        ("bs", "8k"),
        ("rw", "randread"),
        ("iodepth", "4"),
        ("filename", "qemu:"),
    )


def test_sections_keep_their_names_beside_one_in_global(write: Write) -> None:
    jobs = read(write("[global]\nname=fio-rand-read\n[a]\n[b]\nname=c\nwrite_bw_log\n")).jobs
    assert [job.name for job in jobs] == ["a", "c"]
    assert jobs[1].write_bw_log == "c"


def test_a_byte_order_mark_is_no_part_of_the_file(write: Write) -> None:
    jobs = read(write("\ufeff[global]\nbs=8k\n[a]\n")).jobs
    assert [(job.name, job.block_sizes[0].low) for job in jobs] == [("a", 8192)]


def test_the_time_of_many_sections_is_in_proportion_to_their_number(write: Write) -> None:
    path = write("[global]\nbs=4k\n" + "".join(f"[{n}]\niodepth=4\n" for n in range(20_000)))
    before = time.process_time()
    jobs = read(path).jobs
    assert time.process_time() - before < 3
    assert [job.name for job in jobs] == [str(n) for n in range(20_000)]


def test_groups(write: Write) -> None:
    path = write(
        "[a]\nstonewall\n[b]\nnew_group\n[c]\nwait_for_previous\n[d]\nwait_for=c\n[e]\nstonewall=0\n"
    )
    jobs = read(path).jobs
    assert [job.group for job in jobs] == [0, 0, 1, 1, 1]
    assert [job.reporting_group for job in jobs] == [0, 1, 2, 2, 2]
    assert jobs[3].wait_for == "c"


def test_a_stonewall_in_global_is_one_before_each_job(write: Write) -> None:
    assert [job.group for job in read(write("[global]\nstonewall\n[a]\n[b]\n[c]\n")).jobs] == [
        0,
        1,
        2,
    ]


def test_several_files_run_one_after_another(write: Write) -> None:
    paths = [write("[global]\nbs=8k\n[a]\n[b]\n", "1.fio"), write("[c]\n", "2.fio")]
    jobs = read_job_files(paths, (("filename", "qemu:"),)).jobs
    assert [(job.name, job.group) for job in jobs] == [("a", 0), ("b", 0), ("c", 1)]
    assert [job.block_sizes[0].low for job in jobs] == [8192, 8192, 4096]


def test_sections_can_be_chosen(write: Write) -> None:
    path = write("[global]\nbs=8k\n[a]\n[b]\nnonsense=1\n")
    (job,) = read_job_files([path], (("filename", "qemu:"),), sections=["a"]).jobs
    assert (job.name, job.block_sizes[0].low) == ("a", 8192)
    with pytest.raises(JobError, match="there is no section z"):
        read_job_files([path], (("filename", "qemu:"),), sections=["a", "z"])


def test_the_command_line_counts_for_every_job(write: Write) -> None:
    path = write("[global]\nfilename=/dev/sda\nruntime=60\n[a]\niodepth=2\n[b]\n")
    jobs = read(path, ("iodepth", "8"), ("runtime", "1")).jobs
    assert [(job.filenames, job.iodepth, job.runtime) for job in jobs] == [(("qemu:",), 8, 1)] * 2


def test_what_is_wrong_on_the_command_line_is_told_once(write: Write) -> None:
    path = write("[a]\n[b]\nbs=x\n")
    with pytest.raises(JobError) as caught:
        read(path, ("iodepth", "many"))
    first, second = str(caught.value).splitlines()
    assert first.startswith("iodepth=many: ")
    assert second.startswith(f"{path} line 3: bs=x: ")


def test_several_devices_from_the_command_line(write: Write) -> None:
    jobs = read(write("[a]\nfilename=/dev/sda\n[b]\n"), ("filename", "/run/x")).jobs
    assert [job.filenames for job in jobs] == [("qemu:", "/run/x")] * 2


def test_environment_and_keywords(write: Write) -> None:
    (job,) = read(write("[a]\niodepth=${DEPTH}\nbuffer_pattern=0x0${NOTHING}1\n")).jobs
    assert (job.iodepth, job.buffer_pattern) == (7, b"\1")
    page = substitute("$pagesize")
    assert int(page) >= 4096
    assert int(substitute("2*$pagesize")) == 2 * int(page)
    assert substitute("$mb_memory").isdecimal()
    assert substitute("log-$ncpus") == f"log-{substitute('$ncpus')}"
    assert substitute("4*2") == "4*2"  # no keyword, so nothing is computed


def test_include(write: Write, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write("thread=1\ninclude deeper.fio\n", "more/outer.fio")
    write("iodepth=9\n", "more/deeper.fio")
    (job,) = read(write("[a]\ninclude more/outer.fio\nbs=8k\n")).jobs
    assert (job.iodepth, job.block_sizes[0].low) == (9, 8192)


def test_include_goes_wrong(write: Write) -> None:
    with pytest.raises(JobError, match=r"job\.fio line 1: an included file has no \[sections\]"):
        read(write("[a]\ninclude job.fio\n"))
    write("include circle.fio\n", "circle.fio")
    with pytest.raises(JobError, match="files include each other without an end"):
        read(write("[a]\ninclude circle.fio\n"))
    with pytest.raises(JobError, match=r"job\.fio line 2: .*none\.fio: No such file"):
        read(write("[a]\ninclude none.fio\n"))
    write("\nnonsense\n", "inner.fio")
    with pytest.raises(JobError, match=r"inner\.fio line 2: 'nonsense' is no option"):
        read(write("[a]\ninclude inner.fio\n"))


def test_problems_name_file_and_line(write: Write) -> None:
    path = write(
        "[global]\nexec_prerun=x\n[a]\n\nbs=4x\niodept=1\nioengine=null\ntime_based=maybe\n[b]\nbs=\n"
    )
    with pytest.raises(JobError) as caught:
        read(path)
    assert [line.removeprefix(str(path)) for line in str(caught.value).splitlines()] == [
        " line 2: 'exec_prerun' is not supported: a job file starts no programs: start them "
        "around the benchmark",
        " line 5: bs=4x: '4x' is not a number: write for example 4096, 4k, 256m or 1g",
        " line 6: 'iodept' is no option: did you mean iodepth or iodepth_low?",
        " line 7: ioengine=null: not supported: it moves no data (for a device that does nothing, "
        "use qemu:?driver=null-co)",
        " line 8: time_based=maybe: 'maybe' is neither 1 nor 0",
        " line 10: bs needs a value: write bs=SIZE[,WRITE][,TRIM]",
    ]


def test_options_that_do_not_go_together_name_the_section(write: Write) -> None:
    path = write("[a]\n[b]\nrate=1m\nrate_iops=5\n[c]\nwait_for=x\n")
    with pytest.raises(JobError) as caught:
        read(path)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{path} line 2: job 'b': rate and rate_iops")
    assert second == f"{path} line 5: job 'c': wait_for=x has to name one job above it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bs=4k\n[a]\n", "line 1: 'bs=4k' stands before the first"),
        ("[a\n", r"line 1: '\[a' is no section: write \[name\]"),
        ("[global]\nbs=4k\n", "there is no job"),
        ("", "there is no job"),
        ("[a]\nfilename=qemu:\nwrite_bw_log=a\0b\n", r"line 3: 'write_bw_log=a\\x00b' has a NUL"),
        ("[a\0b]\nfilename=qemu:\n", r"line 1: '\[a\\x00b\]' has a NUL"),
        ("[a]\ninclude /dev/zero\n", "/dev/zero is no job file: it has more than 16 MiB"),
        ("[a]\nbs=" + "(" * 4_000 + "\n", "is not an expression"),
    ],
    ids=lambda text: text[:20],
)
def test_files_that_are_none(write: Write, text: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        read(write(text))


_VALUES = [
    *("", "nan", "inf", "1e999", "9" * 5000, "-1", "0x", "a\udcff", "1:2:3", "1,2,3,", "4k-2k"),
    *("4k/100:8k/100:", "1000%", "${", "$ncpus/0", "$ncpus^99999999", "zipf:nan", "normal:inf"),
    *("zoned:50/5:50/", "5-1", "0-99999999999", "2**99999", "((1", '0xdead"x"', "%o" * 100),
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(OPTIONS)),
            st.sampled_from(_VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_options_are_jobs_or_refused(options: list[tuple[str, str]]) -> None:
    with suppress(JobError):
        command_line_jobs((("filename", "qemu:"), ("rw", "randrw"), *options))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"none\.fio: No such file"):
        read(tmp_path / "none.fio")


def examples() -> list[Path]:
    return sorted(fio_reference.EXAMPLES.glob("*.fio"))


def test_fios_examples() -> None:
    """All parse, or name what is not supported; nothing else may be wrong with them."""
    if not examples():
        pytest.skip("fio-examples is not installed: run ./bootstrap fio")
    results = {path.name: fio_reference.example(path) for path in examples()}
    assert len(results) > 80
    running = [name for name, result in results.items() if result.startswith("runs")]
    assert len(running) >= 25
    for name, result in results.items():
        assert result.startswith(("runs", "not supported: ")), (name, result)
        for engine_for_devices in ("libaio", "io_uring", "psync"):
            assert f"ioengine={engine_for_devices}`" not in result
