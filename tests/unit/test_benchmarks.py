"""`make bench` works, and its counts are exact. Nothing is timed here."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DOCS = BENCHMARKS.with_name("docs")


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


def test_what_an_io_of_many_queue_pairs_costs(figures: dict[str, Any]) -> None:
    for row in figures["parts"]["queues"]:
        cpu, made = row["cpu_seconds"], row["create_seconds"]
        assert 0 < cpu["low"] <= cpu["median"] <= cpu["high"]
        assert 0 < made["low"] <= made["median"] <= made["high"]
        # Each thread polls for as long as it runs, on one CPU more than the controller has at most.
        threads = min(row["pairs"], max(1, len(os.sched_getaffinity(0)) - 1))
        assert cpu["low"] * row["iops"]["low"] <= threads * 1.1


def test_the_base_of_a_ratio_is_one(figures: dict[str, Any]) -> None:
    for row in figures["parts"]["vectors"]:
        if row["way"] == "C loop":
            assert row["over_c_loop"] == {"median": 1, "low": 1, "high": 1}


def test_memory_of_a_queue_pair(figures: dict[str, Any]) -> None:
    memory = {row["depth"]: row["memory"] for row in figures["parts"]["queues"]}
    # The commands that fill a page but for the 4 fetched ahead; 256 completions; 32 lists of 32.
    assert memory[32]["rings"] == 60 * 64 + 256 * 16
    assert memory[32]["prp_lists"] == 32 * 32 * 8


def test_batches_and_what_is_awaited() -> None:
    command = [sys.executable, BENCHMARKS / "batches.py", "--turns", "1", "--seconds", "0.02"]
    done = subprocess.run(
        command, check=True, timeout=300, capture_output=True, text=True, errors="strict"
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    ways = [row.split("│")[1].strip() for row in rows]
    assert ways[:5] == [
        "submit_read, poll",
        *(f"submit_many, reap: {batch}" for batch in (1, 8, 32)),
        "read_many",
    ]
    assert ways[5] == "read_into"
    assert ways[-2:] == ["read_many, awaited", "read_many"]
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert "python benchmarks/batches.py" in page


def test_rates_of_both_directions(tmp_path: Path) -> None:
    table = tmp_path / "rates.md"
    program = [
        sys.executable,
        BENCHMARKS / "rates.py",
        "--seconds",
        "0.1",
        "--turns",
        "1",
        "--markdown",
        table,
    ]
    subprocess.run(program, check=True, timeout=300)
    rows = [line.split(" | ") for line in table.read_text(encoding="utf-8").splitlines()[2:]]
    assert [row[1] for row in rows] == ["read", "write"] * 10
    made = [float(row[3].replace(",", "")) for row in rows]
    assert all(rate > 0 for rate in made)
    # The device's own time, however busy the machine.
    assert all(float(row[5].replace(",", "")) >= 99 for row in rows)


def test_rates_of_many_queue_pairs(tmp_path: Path) -> None:
    table = tmp_path / "rates.md"
    program = BENCHMARKS / "queue_rates.py"
    arguments = ["10", "--seconds", "0.2", "--turns", "1", "--markdown", table]
    subprocess.run([sys.executable, program, *arguments], check=True, timeout=300)
    rows = [line.split(" | ") for line in table.read_text(encoding="utf-8").splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["500"] * 4
    assert [row[1:3] for row in rows] == [["1", "1"], ["1", "2"], ["4", "1"], ["4", "4"]]
    assert all(float(row[5].replace(",", "")) > 0 for row in rows)


def test_streaming_beside_the_loop(tmp_path: Path) -> None:
    table = tmp_path / "streaming.md"
    arguments = ["--size", "16M", "--window", "4M", "--turns", "1", "--markdown", table]
    program = [sys.executable, BENCHMARKS / "streaming.py", *arguments]
    subprocess.run(program, check=True, timeout=300, cwd=tmp_path)
    rows = [line.split(" | ") for line in table.read_text(encoding="utf-8").splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["bench loop, depth 8", "stream, 4 MiB"]
    assert [path.name for path in tmp_path.iterdir()] == ["streaming.md"]


def test_asyncio_beside_other_ways(tmp_path: Path) -> None:
    table = tmp_path / "versus.md"
    arguments = ["--depth", "8", "--count", "64", "--turns", "1", "--size", "2M"]
    program = [sys.executable, BENCHMARKS / "versus_aio.py", *arguments, "--markdown", table]
    subprocess.run(program, check=True, timeout=300)
    rows = [line.split(" | ") for line in table.read_text(encoding="utf-8").splitlines()[2:]]
    # Of packages that are not there the reason is shown.
    assert len(rows) == 7
    ways = {row[0].strip("| ") for row in rows if row[1].replace(".", "").split(" (")[0].isdigit()}
    assert {"`await ns.read_into()`", "`asyncio.to_thread(os.preadv)`"} <= ways


def test_beside_fio() -> None:
    """Jobs whose I/Os no machine's speed changes: fio's number of them is ours."""
    if not shutil.which("fio"):
        pytest.skip("fio is not installed: ./bootstrap bench")
    names = ("four I/Os", "global", "00 KiB", "half", "strided", "bs=1m", "loops", "backwards")
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "versus_fio.py", *names],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differ" not in done.stdout
    assert done.stdout.count("│ read ") + done.stdout.count("│ write ") == 14


def test_exports_over_nbd() -> None:
    for program in ("fio", "nbdkit", "qemu-nbd"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: ./bootstrap nbd bench")
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "nbd.py", "--seconds", "0.1", "--turns", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 4 * 5
    assert all(float(row[2].replace(",", "")) > 0 for row in rows)


def needs_valgrind(figures: dict[str, Any]) -> dict[str, Any]:
    counts = figures["parts"]["instructions"]
    if not shutil.which("valgrind"):
        assert "valgrind" in counts["left_out"]
        pytest.skip("valgrind is not installed: ./bootstrap valgrind")
    return counts


def test_instructions_for_a_read(figures: dict[str, Any]) -> None:
    """What the generation in a CID costs is in them: 10 for a single call, 6 in the loops."""
    counts = {
        (row["way"], row["depth"]): row["submit"] + row["complete"]
        for row in needs_valgrind(figures)["counts"]
    }
    assert 40 < counts["plain", 32] < 128
    assert 40 < counts["vector", 32] < 78
    assert 40 < counts["workload", 32] < 158.5
    assert 40 < counts["transfer", 1] < 191
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


# --- the picture of queue pairs -------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The picture and the tables that queues.py writes of a short run."""
    folder = tmp_path_factory.mktemp("queues")
    picture, tables = folder / "queues.svg", folder / "queues.md"
    command = [sys.executable, BENCHMARKS / "queues.py", "--svg", picture, "--markdown", tables]
    command += ["--pairs", "1,2,5", "--depths", "1,4,32", "--turns", "2", "--seconds", "0.02"]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return picture, tables.read_text(encoding="utf-8")


def pictures(drawn: tuple[Path, str]) -> list[Path]:
    return [drawn[0], DOCS / "queues.svg"]


def test_the_picture_needs_nothing_beside_itself(drawn: tuple[Path, str]) -> None:
    for path in pictures(drawn):
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{SVG}svg"
        for element in root.iter():
            assert element.tag.startswith(SVG), "not every program draws HTML in a picture"
            assert not {"href", "src"} & set(element.attrib)
        style = root.findtext(f"{SVG}style") or ""
        assert "url(" not in style
        assert "var(" not in style
        light, dark = style.split("@media (prefers-color-scheme: dark)")
        paper = dark.split("@media print")[1]
        pages = [re.search(r"\.page \{ fill: (#\w+)", one)[1] for one in (light, dark, paper)]
        assert pages[0] == pages[2] == "#ffffff" != pages[1]


def places(panel: ElementTree.Element, x: float, y: float) -> Iterator[tuple[str, float, float]]:
    """Texts of a panel with their places: where each begins, and its line."""
    for element in panel:
        move = re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\)", element.get("transform", ""))
        if element.tag == f"{SVG}g":
            assert move
            yield from places(element, x + float(move[1]), y + float(move[2]))
        elif element.tag == f"{SVG}text":
            text = element.text or ""
            width = 7.2 * len(text)
            back = {"middle": width / 2, "end": width}.get(element.get("text-anchor", ""), 0)
            yield text, x + float(element.attrib["x"]) - back, y + float(element.attrib["y"])


def test_nothing_in_the_picture_overlaps(drawn: tuple[Path, str]) -> None:
    for path in pictures(drawn):
        root = ElementTree.parse(path).getroot()
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        boxes = [(x, y - 11, x + 7.2 * len(text), y + 1) for text, x, y in places(root, 0, 0)]
        assert len(boxes) > 40
        assert min(map(min, boxes)) >= 0
        assert all(box[2] <= width and box[3] <= height for box in boxes)
        for one, other in itertools.combinations(boxes, 2):
            assert (
                one[2] <= other[0]
                or other[2] <= one[0]
                or one[3] <= other[1]
                or (other[3] <= one[1])
            ), (path, one, other)


def test_the_picture_is_labelled(drawn: tuple[Path, str]) -> None:
    root = ElementTree.parse(drawn[0]).getroot()
    texts = [text for text, _, _ in places(root, 0, 0)]
    assert texts.count("queue depth") == texts.count("queue pairs:") == 4
    assert {"IOPS", "time", "bytes", "1", "2", "5", "4", "32"} <= set(texts)
    assert "2 turns" in texts[-1]
    lines = [path for path in root.iter(f"{SVG}path") if "line" in path.get("class", "").split()]
    assert len(lines) == 4 * 3 * 2  # with those of the legends


def test_the_tables_have_medians_and_spreads(drawn: tuple[Path, str]) -> None:
    tables = [part.splitlines() for part in re.findall(r"(?:^\|.*\n)+", drawn[1], re.MULTILINE)]
    assert [len(table) for table in tables] == [2 + 3] * 3
    for table in tables[:2]:
        for row, depth in zip(table[2:], ("1", "4", "32"), strict=True):
            first, *cells = row.strip("| ").split(" | ")
            assert first == depth
            assert len(cells) == 3
            assert all(re.fullmatch(r"[\d.,]+ \([\d.,]+-[\d.,]+\)", cell) for cell in cells)


def test_the_performance_page_shows_the_picture() -> None:
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert "](queues.svg)" in page
    assert "benchmarks/queues.py --svg docs/queues.svg" in page


#: Pieces are short: with both CPUs busy a round at depth 1 can take a turn of the scheduler's.
BARE = """
import bare
from bare import Bare
from bare_loop import reads_of
from device import first_namespace, opened
from load import IO_SIZE

bare._PIECE = 1000
with opened(None) as ctrl:
    ns = first_namespace(ctrl)
    for depth in (1, 3, 32):
        with ctrl.queue_pair(depth, spin=float("inf")) as pair:
            buffer = ctrl.alloc(depth * IO_SIZE)
            for which in ("loop", "doorbells", "loop", "doorbells"):
                for ios in (1, 2, 1001):  # the queue's ends come past
                    before = reads_of(ctrl)
                    turn = Bare(which, pair, ns, buffer).run(ios)
                    assert turn.ios == reads_of(ctrl) - before == ios, (which, depth, ios)
                    assert pair._ring.outstanding == 0
            print(depth, Bare("doorbells", pair, ns, buffer).run_for(0.001).ios)
"""


def test_bare_loops_do_what_they_say() -> None:
    """The controller counts the reads that each says it made."""
    ran = subprocess.run(
        [sys.executable, "-c", BARE],
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS)},
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    counts = dict(map(int, line.split()) for line in ran.stdout.splitlines())
    assert list(counts) == [1, 3, 32]
    assert all(ios >= 1000 and ios % 1000 == 0 for ios in counts.values())


def test_versus_spdk_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "versus_spdk.py", "--perf", "perf"]
    command += ["--target", tmp_path, "--rpc", tmp_path / "spdk.sock"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "give the target's RPC socket by --rpc" in done.stderr
    assert "Traceback" not in done.stderr
