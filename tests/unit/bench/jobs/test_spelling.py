"""How fio's options may be written on the command line."""

from __future__ import annotations

from collections.abc import Sequence

import click
import pytest

from pynvme_user.bench.jobs.readers import ioengine
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.cli.bench import bench
from pynvme_user.cli.fio_options import Pair, take

OWN = {name for parameter in bench.params for name in parameter.opts} & {
    *("--output", "--output-format", "-o", "--namespace-id", "-n", "--eta", "--eta-newline"),
    *("--readonly", "--report"),
}


def taken(*words: str) -> tuple[Sequence[Pair], Sequence[str]]:
    return take(click.Context(bench), words, OWN)


def test_one_dash_is_enough_for_a_long_name() -> None:
    pairs, left = taken(
        "-rw=randread", "-bs", "4k", "-time_based", "-n", "1", "-o", "json", "qemu:"
    )
    assert pairs == [("rw", "randread"), ("bs", "4k"), ("time_based", None)]
    assert left == ["-n", "1", "-o", "json", "qemu:"]
    assert taken("-output-format=json", "-ojson", "-n1") == (
        [],
        ["--output-format=json", "-ojson", "-n1"],
    )


def test_the_beginning_of_a_name_that_no_other_has_is_enough() -> None:
    pairs, _ = taken("--numjob=4", "--group_report", "-runt", "5", "--blocksize_r", "4k-8k")
    assert pairs == [
        *(("numjobs", "4"), ("group_reporting", None), ("runtime", "5")),
        ("blocksize_range", "4k-8k"),
    ]
    assert taken("--eta-newl=1", "--readonl", "--repor", "x.html")[1] == [
        *("--eta-newline=1", "--readonly", "--report", "x.html")
    ]
    # In full it is the option itself, whatever else begins so.
    assert taken("--rate", "1m", "--verify=crc32c", "--output=x") == (
        [("rate", "1m"), ("verify", "crc32c")],
        ["--output=x"],
    )
    assert taken("--nonsense=1", "--wherever") == ([], ["--nonsense=1", "--wherever"])


def test_the_beginning_of_several_names_says_which() -> None:
    with pytest.raises(
        click.UsageError, match=r"--iodep may be --iodepth, --iodepth-batch, .*: wr"
    ):
        taken("--iodep", "4")
    with pytest.raises(click.UsageError, match="-out may be --output, --output-format: write more"):
        taken("-out=x")
    # These are two names of one option.
    assert taken("--rate_cyc=5", "--ss_du=3") == (
        [("rate_cycle", "5"), ("ss_dur", "3")],
        [],
    )


@pytest.mark.parametrize(
    ("words", "pair"),
    [
        ("--thinktime_blocks_type complete", ("thinktime_blocks_type", "complete")),
        ("--file_service_type roundrobin", ("file_service_type", "roundrobin")),
        ("--write_hint none", ("write_hint", "none")),
        ("--io_submit_mode inline", ("io_submit_mode", "inline")),
        ("--xnvme_async thrpool", ("xnvme_async", "thrpool")),
        ("--hipri", ("hipri", None)),
        ("--thread", ("thread", None)),
        ("--thread 1", ("thread", "1")),
    ],
)
def test_an_option_without_effect_takes_its_value_and_no_target(
    words: str, pair: tuple[str, str | None]
) -> None:
    assert taken(*words.split(), "qemu:disk.img") == ([pair], ["qemu:disk.img"])


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("external:/opt/spdk/build/fio/spdk_nvme", "queue"),
        ("/opt/spdk/build/fio/spdk_bdev", "queue"),
        ("/usr/lib/fio/fio-libaio.so", "queue"),
        ("external:/usr/lib/x86_64-linux-gnu/fio/io_uring.so", "queue"),
        ("./psync.so", "sync"),
    ],
)
def test_an_engine_may_be_a_path(engine: str, kind: str) -> None:
    assert ioengine(engine) == kind


def test_an_engine_of_somebody_is_none_of_fios() -> None:
    with pytest.raises(JobError, match="of external engines only SPDK's do what the driver does"):
        ioengine("external:/opt/mine.so")
    with pytest.raises(JobError, match="files of a file system"):
        ioengine("/usr/lib/fio/mmap.so")
    with pytest.raises(JobError, match="fio has no such engine"):
        ioengine("libaoi")
