"""The table of options: whole, explained, documented, and fio's."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import fio_reference
import pytest
from generator_rig import generator
from ring_rig import Rig
from workload_rig import workload

from pynvme_user.bench.jobs import unsupported
from pynvme_user.bench.jobs.job import OPTIONS as DECLARED
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.job_file import command_line_jobs
from pynvme_user.bench.jobs.option import Option
from pynvme_user.bench.jobs.options import OPTIONS, SECTIONS, find
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.native import ffi, tick_rate
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.pace import Pace, for_c, limit

READ, WRITE, TRIM = Direction
ROOT = Path(__file__).parents[4]


def test_every_option_is_explained_once() -> None:
    names = [name for each in SECTIONS for o in each.options for name in (o.name, *o.aliases)]
    assert len(names) == len(set(names)) == len(OPTIONS)
    assert not set(names) & set(unsupported.OPTIONS)
    for option in OPTIONS.values():
        assert option.help.endswith("."), option.name
        assert option.metavar, option.name
    for group, names_ in unsupported.GROUPS:
        assert group
        assert names_.split()


def test_what_changes_io_data_or_figures_is_refused_and_the_rest_is_not() -> None:
    """Options of engines, caches and fio's own bookkeeping say nothing about the device."""
    assert len(unsupported.OPTIONS) < 70
    assert not set(unsupported.OPTIONS) & {"cgroup", "hostname", "pre_read", "pi_chk"}
    assert {"bs_unaligned", "readfua", "exec_prerun", "num_range", "uid"} <= set(
        unsupported.OPTIONS
    )


def test_every_field_of_a_job_can_be_reached() -> None:
    fields = {field.name for field in dataclasses.fields(Job)}
    reached = {option.key for option in OPTIONS.values() if option.effect}
    made_elsewhere = {
        *("given", "group", "reporting_group", "clone", "number", "seed", "share", "shares"),
        *("skip", "run", "zones", "zbd", "zone_bytes"),
        *("block_sizes", "trace", "cpus_split", "verify_pattern_offsets", "point", "shared"),
    }
    assert fields - reached == made_elsewhere


def test_a_job_s_fields_have_what_is_declared_for_them() -> None:
    fields = {field.name: field for field in dataclasses.fields(Job)}
    for option in DECLARED:
        assert OPTIONS[option.name] == option
        default = fields[option.key].default
        assert option.least is None or option.least <= default, option.name
        assert option.most is None or default <= option.most, option.name


def test_what_goes_to_c_has_a_member_there_for_itself() -> None:
    members = [option.member for option in DECLARED if option.member]
    assert len(set(members)) == len(members) >= 8
    there = dict(ffi.typeof("struct nvme_bench").fields)
    for member in members:
        assert there[member].type.kind == "primitive"
        assert limit(member) in (2**32 - 1, 2**64 - 1)


@pytest.mark.parametrize("name", ["thinktime", "rate_ignore_thinktime"])
def test_an_option_of_the_loop_stands_in_three_files(name: str) -> None:
    """And in its test: so CONTRIBUTING promises, for those that no other option depends on."""
    word = re.compile(rf"\b({name}|{OPTIONS[name].member})\b")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("pynvme_user", "cli")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".c", ".h")
        and not path.stem.endswith("_cffi")  # is built of the others
        and word.search(path.read_text(encoding="utf-8"))
    }
    jobs, workload = "pynvme_user/bench/jobs", "pynvme_user/workload"
    declared = {f"{jobs}/options_io.py", f"{jobs}/options_run.py"} & found
    loops = {path for path in found if path.startswith(f"{workload}/_bench") and path[-2:] == ".c"}
    assert len(declared) == len(loops) == 1
    assert found == declared | {f"{workload}/_bench.h"} | loops


@pytest.mark.parametrize("option", [o for o in DECLARED if o.member], ids=lambda o: o.name)
def test_what_is_given_is_in_c(option: Option) -> None:
    """From its text to the loop's struct, but for defaults, which are 0 there."""
    field = next(field for field in dataclasses.fields(Job) if field.name == option.key)
    options = {"filename": "qemu:", "iodepth": "8", option.name: "1" if not field.default else "3"}
    if option.of:
        (alone,) = command_line_jobs(tuple(options.items())).jobs
        assert not alone.members, "it would be throttled for nothing"
        options[option.of] = "1"
    (made,) = command_line_jobs(tuple(options.items())).jobs
    value = getattr(made, option.key)
    assert made.members[option.member] == value
    others = {OPTIONS[option.of].member} if option.of else set()
    assert set(made.members) == {option.member} | others
    work = workload(generator(), Rig(depth=8), pace=Pace(members=made.members))
    assert getattr(work._bench, option.member) == for_c(value) > 0
    assert work._bench.throttled
    (without,) = command_line_jobs((("filename", "qemu:"),)).jobs
    assert not without.members
    work = workload(generator(), Rig(depth=8), pace=Pace(members=without.members))
    assert getattr(work._bench, option.member) == work._bench.throttled == 0


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("iodepth", "0", "iodepth is at least 1"),
        ("numjobs", "64k", "numjobs is at most 65535, the queues that a controller can have"),
        ("log_hist_coarseness", "7", "log_hist_coarseness is at most 6"),
        # More than the member in C has room for.
        ("fsync", "5g", "fsync is at most 4294967295"),
        ("thinktime", "99999999999999d", f"thinktime is at most {2**64 // tick_rate()} seconds"),
    ],
)
def test_what_is_beyond_a_bound_is_refused(name: str, text: str, wrong: str) -> None:
    with pytest.raises(JobError) as error:
        command_line_jobs((("filename", "qemu:"), (name, text)))
    assert str(error.value).endswith(f": {wrong}")


def test_fios_own_list_is_covered() -> None:
    fio = shutil.which("fio")
    if fio is None:
        pytest.skip("fio is not installed, whose --cmdhelp=all is the list to cover")
    listed = subprocess.run([fio, "--cmdhelp=all"], capture_output=True, text=True, check=True)
    names = [line.split(":")[0].strip() for line in listed.stdout.splitlines() if ":" in line]
    assert len(names) > 200
    for name in names:
        assert name in unsupported.OPTIONS or find(name)


def test_the_documentation_is_up_to_date() -> None:
    text = fio_reference.PATH.read_text()
    body = text[text.index(fio_reference.HEADING) :]
    options, heading, examples = body.partition(fio_reference.EXAMPLES_HEADING)
    remedy = "run python tests/support/fio_reference.py"
    assert options == fio_reference.render_options(), remedy
    if not fio_reference.EXAMPLES.exists():
        pytest.skip("fio-examples is not installed, of which the table of examples is made")
    assert heading + examples == fio_reference.render_examples(), remedy
