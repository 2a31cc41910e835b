"""The table of options: whole, explained, documented, and fio's."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import fio_reference
import pytest

from pynvme_user.bench.jobs import unsupported
from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.options import OPTIONS, SECTIONS, find
from pynvme_user.workload.direction import Direction

READ, WRITE, TRIM = Direction


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
