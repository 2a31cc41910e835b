"""`make bench` works, and its counts are exact. Nothing is timed here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run of everything wrote."""
    folder = tmp_path_factory.mktemp("bench")
    subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--quick", "--output", folder],
        check=True,
        timeout=300,
    )
    return folder


@pytest.fixture(scope="module")
def figures(output: Path) -> dict[str, Any]:
    return json.loads((output / "bench.json").read_text(encoding="utf-8"))


def test_the_document_says_what_it_is(figures: dict[str, Any]) -> None:
    assert figures["format_version"] == 1
    assert figures["machine"]["kernel"] == os.uname().release
    assert figures["machine"]["cpus"] == len(os.sched_getaffinity(0))
    assert {"cpu", "governor", "hugepages_total", "hugepages_free"} <= set(figures["machine"])
    assert list(figures["parts"]) == ["instructions", "vectors", "waiting", "queues"]


def test_every_way_ran(figures: dict[str, Any]) -> None:
    parts = figures["parts"]
    vectors = {(row["way"], row["depth"]) for row in parts["vectors"]}
    assert vectors == {
        ("read_into", 1),
        *((way, depth) for way in ("C loop", "read_many", "submit/poll") for depth in (1, 32)),
    }
    queues = {(row["pairs"], row["depth"]) for row in parts["queues"]}
    assert queues == {(1, 1), (1, 32), (2, 1), (2, 32)}
    assert [row["way"] for row in parts["waiting"]] == ["polling", "spin 50 us, sleep", "sleep"]
    for row in (*parts["vectors"], *parts["queues"], *parts["waiting"]):
        assert row["ios"] > 0
        assert 0 < row["iops"]["low"] <= row["iops"]["median"] <= row["iops"]["high"]


def test_the_base_of_a_ratio_is_one(figures: dict[str, Any]) -> None:
    for row in figures["parts"]["vectors"]:
        if row["way"] == "C loop":
            assert row["over_c_loop"] == {"median": 1, "low": 1, "high": 1}


def test_memory_of_a_queue_pair(figures: dict[str, Any]) -> None:
    memory = {row["depth"]: row["memory"] for row in figures["parts"]["queues"]}
    # The commands that fill a page but for the 4 fetched ahead; 256 completions; 32 lists of 32.
    assert memory[32]["rings"] == 60 * 64 + 256 * 16
    assert memory[32]["prp_lists"] == 32 * 32 * 8


def needs_valgrind(figures: dict[str, Any]) -> dict[str, Any]:
    counts = figures["parts"]["instructions"]
    if not shutil.which("valgrind"):
        assert "valgrind" in counts["left_out"]
        pytest.skip("valgrind is not installed: ./bootstrap valgrind")
    return counts


def test_fewer_than_120_instructions_for_a_read(figures: dict[str, Any]) -> None:
    counts = {
        (row["way"], row["depth"]): row["submit"] + row["complete"]
        for row in needs_valgrind(figures)["counts"]
    }
    assert 40 < counts["plain", 32] < 120
    assert 40 < counts["vector", 32] < 120
    assert counts["plain", 32] < counts["plain", 1]


def test_submission_and_completion_are_told_apart(figures: dict[str, Any]) -> None:
    for row in needs_valgrind(figures)["counts"]:
        assert row["submit"] > 20
        assert row["complete"] > 20


def test_cache_lines_of_a_read(figures: dict[str, Any]) -> None:
    touched = {row["structure"]: row for row in needs_valgrind(figures)["touched"]}
    assert touched["sq"]["lines"] == 1
    assert touched["trackers"]["lines"] == 0.25
    assert 0.25 <= touched["cq"]["lines"] < 0.3  # a turn may look into the next line
    assert "prp_lists" not in touched  # one page needs none


def test_the_page_is_whole(output: Path, figures: dict[str, Any]) -> None:
    class Reader(HTMLParser):
        tags: list[str] = []
        outside: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.outside += [name for name, _ in attrs if name in ("src", "href")]

    reader = Reader()
    reader.feed((output / "bench.html").read_text(encoding="utf-8"))
    assert not reader.outside, "the page needs nothing beside itself"
    assert reader.tags.count("svg") >= 2
    assert reader.tags.count("table") >= len(figures["parts"])


def test_versus_spdk_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "versus_spdk.py", "--perf", "perf"]
    command += ["--target", tmp_path, "--rpc", tmp_path / "spdk.sock"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "give the target's RPC socket by --rpc" in done.stderr
    assert "Traceback" not in done.stderr
