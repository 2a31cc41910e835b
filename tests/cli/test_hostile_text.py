"""Text of a device or a job file that would take a terminal over, or that its encoding lacks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

#: Clears the screen, sets the title, rings; has C1 controls and a character that
#: Latin-1 does not have.
SERIAL = "\x1b[2J\x1b]0;x\a\x9b\u20ac"
DEVICE = f"qemu:?size=16M&serial={quote(SERIAL)}"
JOB = "\x1b[2J\x9b\ajob\udcff\u20ac"

ENCODINGS = [
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {},
]


def assert_harmless(output: bytes) -> None:
    text = output.decode("latin-1").replace("\N{DEGREE SIGN}", "").replace("\xc2", "")
    text = re.sub(r"^ +(\[\d+:\d+\] : \w+)\t", r"\1 ", text, flags=re.MULTILINE)  # nvme-cli's
    wrong = {letter for letter in text if letter != "\n" and not " " <= letter <= "~"}
    assert not wrong, output


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["latin-1", "C", "UTF-8"])
@pytest.mark.parametrize(
    "command", [["identify"], ["id-ctrl"], ["id-ctrl", "-H", "-v"], ["id-ctrl", "-o", "json"]]
)
def test_text_of_the_device(
    run: Any, environment: dict[str, str], command: list[str], encoding: dict[str, str]
) -> None:
    environment |= encoding
    done = run(command[0], DEVICE, *command[1:])
    assert_harmless(done.stdout + done.stderr)
    expected = "u001b[2J" if "json" in command else r"\x1b[2J\x1b]0;x\x07"
    assert expected in done.stdout.decode("latin-1")


def test_json_has_the_text_itself(run: Any) -> None:
    page = json.loads(run("id-ctrl", DEVICE, "-o", "json").stdout)
    assert page["sn"].encode("latin-1").rstrip().decode() == SERIAL


@pytest.mark.parametrize("encoding", ENCODINGS[:2], ids=["latin-1", "C"])
@pytest.mark.parametrize("style", ["normal", "terse", "json"])
def test_names_of_jobs(
    run: Any, environment: dict[str, str], tmp_path: Path, encoding: dict[str, str], style: str
) -> None:
    environment |= encoding
    jobs = tmp_path / "jobs.fio"
    text = f"[{JOB}]\nfilename={DEVICE}\nrw=read\nbs=4k\nnumber_ios=4\ndescription={JOB}\n"
    jobs.write_text(text, encoding="utf-8", errors="surrogateescape")
    report, written = tmp_path / "report.html", tmp_path / "written"
    for more in ([], ["--output", written, "--report", report]):
        done = run("bench", jobs, "-o", style, *more)
        assert_harmless(done.stdout + done.stderr)
    assert_harmless(written.read_bytes())
    page = report.read_text()
    assert r"\x1b[2J\x9b\x07job\xff\u20ac" in page
    assert not {letter for letter in page if not letter.isprintable()} - set("\n\N{THIN SPACE}")
