"""The report: one page that needs nothing else, with every label readable."""

import json
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from bench_samples import DEVICE, job_of, run_of, sweep_of

from pynvme_user.bench.report.page import page, write_report
from pynvme_user.bench.report.plot import Axis, Linear, Log, Named, Nines, Series, chart
from pynvme_user.bench.results.result import VerifyFault, VerifyResult
from pynvme_user.workload.direction import Direction

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def mixed():
    rng = np.random.default_rng(1)
    rates = {Direction.READ: 2000.0, Direction.WRITE: 700.0}
    return run_of(
        job_of(rng, name="mixed", rw="randrw", rates=rates),
        job_of(rng, name="reads", number=2, group=1, seconds=4),
        warnings=["the device is emulated: its latencies are those of the emulation"],
    )


def by_depth():
    return sweep_of(np.random.default_rng(2), iodepths=(1, 2, 4, 8, 16, 32, 64, 128), seconds=1.0)


def by_depth_and_size():
    sizes = (512, 4096, 16384, 131072)
    return sweep_of(np.random.default_rng(3), iodepths=(1, 2, 4, 8, 32), sizes=sizes, seconds=1.0)


def troubled():
    rng = np.random.default_rng(4)
    few = {Direction.READ: 40.0, Direction.WRITE: 9.0, Direction.TRIM: 1.0}
    job = job_of(
        rng,
        name="odd <name> & more",
        rw="rw",
        seconds=2,
        rates=few,
        errors={0x281: 3},
        error_names={0x281: "Unrecovered Read Error"},
        verify=VerifyResult("crc32c", 9, 1, [VerifyFault("torn write", 7, "LBA 7 is torn")]),
    )
    job.directions[0].failed = 3
    for direction in job.directions:
        direction.intervals = []
    return run_of(job, signal=signal.SIGINT)


RUNS = {"mixed": mixed, "by depth": by_depth, "two axes": by_depth_and_size, "troubled": troubled}


@pytest.fixture(params=RUNS, scope="module")
def run(request):
    return RUNS[request.param]()


class Balanced(HTMLParser):
    """Raises when a tag is not closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_alone(run):
    text = page(run)
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    # Nothing is fetched and nothing runs.
    assert not re.search(r"https?:|src=|href=|@import|url\(|<script", text)
    assert "NaN" not in text
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", text)
    figures = re.findall(r"<svg viewBox=.*?</svg>", text, re.DOTALL)
    assert len(figures) >= 4
    for figure in figures:
        ElementTree.fromstring(figure)


def test_every_figure_is_captioned_and_has_units_on_both_axes(run):
    figures = re.findall(r"<figure>.*?</figure>", page(run), re.DOTALL)
    for figure in figures:
        assert re.search(r"<figcaption>[A-Z][^<]+</figcaption>", figure)
        axes = re.findall(r'<text class="axis"[^>]*>([^<]+)</text>', figure)
        assert len(axes) == 2
        lines = len(re.findall(r'<path class="line c\d" stroke-dasharray="[^"]*" d="M', figure))
        if lines > 1:  # a sample in the legend for each line in the plot
            assert figure.count('class="key"') == lines / 2


def test_what_is_said_is_escaped():
    text = page(troubled())
    assert "odd &lt;name&gt; &amp; more" in text
    assert "<name>" not in text
    errors = text[text.index('<ul class="errors">') : text.index("</ul>")]
    assert "Interrupted" in errors
    assert "3 I/Os failed with Unrecovered Read Error" in errors
    assert "1 blocks do not hold what was written. First: LBA 7 is torn" in errors


def test_nothing_that_a_user_or_device_says_is_html():
    """Wherever it stands: names, options, points, facts, messages."""
    odd = """<b title='"&">"""
    rng, jobs = np.random.default_rng(9), []
    for number, value in enumerate((f"1{odd}", f"2{odd}", f"3{odd}")):
        job = job_of(rng, name=f"job{odd}", number=number, group=number, seconds=2)
        job.options = {"ioengine": odd}
        job.devices = (replace(DEVICE, name=odd, model=odd, serial=odd, notes=(f"{odd}: {odd}",)),)
        job.failure = odd
        jobs.append(job)
        if number:
            job.point = {"mode": value, f"axis{odd}": number}
    made = {"warnings": [odd], "global_options": {odd: odd}, "failure": odd}
    for run in (run_of(jobs[0], **made), run_of(*jobs[1:], **made)):
        run.machine, run.command = {odd: odd}, odd
        text = page(run)
        parser = Balanced()
        parser.feed(text)
        assert "b" not in parser.seen
        assert odd not in text
        assert text.count("&lt;b title=&#39;&#34;&amp;&#34;&gt;") > 12


def test_the_table_has_a_row_for_each_direction_and_point():
    assert page(by_depth_and_size()).count("<td>read</td>") == 20
    text = page(mixed())
    assert len(re.findall(r"<td>(?:read|write)</td>", text)) == 3
    assert "<td>trim</td>" not in text


def test_what_ended_early_is_told():
    job = job_of(np.random.default_rng(1), failure="the device is gone")
    text = page(run_of(job, failure="the device is gone; not run: next"))
    assert f"<li>{job.name} ended early: the device is gone</li>" in text
    assert "<li>the device is gone; not run: next</li>" in text


def test_clones_are_drawn_together():
    rng = np.random.default_rng(5)
    text = page(run_of(*(job_of(rng, seconds=2, number=n) for n in (1, 2, 3))))
    assert "3 jobs together" in text
    assert text.count("<figcaption>IOPS over time</figcaption>") == 1


def test_all_lines_of_a_large_sweep_are_drawn_over_the_depth():
    rng, jobs = np.random.default_rng(4), []
    for numjobs in (1, 2, 4):
        part = sweep_of(rng, iodepths=(1, 4, 16, 64), sizes=(512, 4096, 65536), seconds=1.0)
        for job in part.jobs:
            job.point = {"bs": job.point["bs"], "numjobs": numjobs, **job.point}
            jobs.append(job)
    text = page(run_of(*jobs))
    figure = text[text.index("Read IOPS over queue depth") :].partition("</figure>")[0]
    looks = re.findall(r'<path class="line (c\d)" stroke-dasharray="([^"]*)" d="M0 4H26"/>', figure)
    assert len(looks) == len(set(looks)) == 9, "each has a look of its own in the legend"
    drawn = re.findall(r'<path class="line (c\d)" stroke-dasharray="([^"]*)" d="M\d+\.', figure)
    assert drawn == looks
    assert len(re.findall("<circle", figure)) == 36
    assert "The first" not in figure
    # The table is narrower, and has them all.
    head = re.search(r"<thead>(.*?)</thead>", text).group(1)
    assert re.findall(r"<th[^>]*>([^<]*)</th>", head) == [
        *("block size", "jobs", "queue depth", "read IOPS", "bandwidth", "lat mean"),
        *("p50", "p99", "p99.9", "p99.99", "max"),
    ]
    assert text.partition("</table>")[0].count("<tr>") == 37


def test_a_sweep_over_what_has_no_measure():
    sweep = sweep_of(np.random.default_rng(6), iodepths=(1, 2), seconds=1.0)
    for job, mode in zip(sweep.jobs, ("polled", "interrupt"), strict=True):
        job.point = {"mode": mode}
    text = page(sweep)
    assert "Read IOPS over mode" in text
    assert ">interrupt</text>" in text


def test_a_job_without_any_io_draws_nothing():
    job = job_of(np.random.default_rng(7), seconds=1)
    job.directions = tuple(type(direction)() for direction in job.directions)
    assert "<figure>" not in page(run_of(job))


def test_a_long_run_makes_no_long_page():
    rng = np.random.default_rng(8)
    job = job_of(rng, seconds=3600, rates={Direction.READ: 20.0})
    assert len(page(run_of(job))) < 150_000


def test_the_file(tmp_path):
    run = mixed()
    write_report(run, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(run)


# --- scales and lines ---------------------------------------------------------------------------


def places(scale):
    values = np.array([value for value, _ in scale.ticks()])
    return scale.place(values)


def test_scales():
    linear = Linear.up_to(4100, "{:g}".format)
    assert (linear.low, linear.high) == (0, 5000)
    assert [label for _, label in linear.ticks()] == ["0", "1000", "2000", "3000", "4000", "5000"]
    log = Log(300.0, 70_000.0, "{:g}".format)
    assert [label for _, label in log.ticks()][:2] == ["1000", "10000"]
    assert (places(log) >= 0).all()
    assert (places(log) <= 1).all()
    assert np.isnan(log.place(np.array([0.0]))[0])
    nines = Nines(100_000)
    assert nines.place(np.array([0.0, 90.0, 99.0, 99.999, 100.0])) == pytest.approx(
        [0, 0.2, 0.4, 1, 1]
    )
    assert [label for _, label in nines.ticks()][:4] == ["0", "90", "99", "99.9"]
    assert places(Named(("a", "b"))).tolist() == [0.25, 0.75]


def test_a_line_is_where_its_values_are_and_breaks_where_there_are_none():
    line = Series("a", np.array([0, 1, 2, 3.0]), np.array([0, 5, np.nan, 10.0]), 0)
    axis = Axis("x", Linear(0.0, 3.0, "{:g}".format))
    text = chart("T", axis, Axis("y", Linear(0.0, 10.0, "{:g}".format)), [line])
    path = re.search(r'class="line c0"[^>]* d="([^"]+)"', text)[1]
    pens = re.findall(r"([ML])([\d.]+) ([\d.]+)", path)
    assert [pen for pen, _, _ in pens] == ["M", "L", "M"]
    ys = [float(y) for _, _, y in pens]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)
    frame = re.search(r'class="frame" d="M([\d.]+) (\d+)V(\d+)H([\d.]+)"', text)
    left, top, bottom, right = map(float, frame.groups())
    assert (float(pens[0][1]), ys[0]) == (left, bottom)
    assert (float(pens[2][1]), ys[2]) == (right, top)


# --- in a browser -------------------------------------------------------------------------------

# Looks at the page as it is laid out: texts that lie over one another or out of the window or
# of their drawing. Tables that are wider than a narrow window are moved by themselves.
LOOK = """
<script>
const boxes = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (!node.data.trim() || node.parentElement.closest('title, script')) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const box of range.getClientRects()) {
    const svg = node.parentElement.closest('svg');
    boxes.push({text: node.data.trim(), box, around: svg && svg.getBoundingClientRect(),
                moved: node.parentElement.closest('.wide')});
  }
}
const found = [];
boxes.forEach((one, n) => {
  const a = one.box;
  if (!one.moved && (a.right > innerWidth + 1 || a.left < -1))
    found.push('out of the window: ' + one.text);
  const r = one.around;
  if (r && (a.left < r.left - 1 || a.right > r.right + 1 || a.top < r.top - 1 ||
            a.bottom > r.bottom + 1)) found.push('out of its drawing: ' + one.text);
  for (const other of boxes.slice(n + 1)) {
    const b = other.box;
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2)
      found.push(one.text + ' lies over ' + other.text);
  }
});
document.body.dataset.found = JSON.stringify(found);
document.body.dataset.texts = boxes.length;
</script>
"""


def chromium(tmp_path, *options):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1400, 700])
def test_nothing_overlaps_in_a_browser(run, tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(page(run).replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    dom = chromium(tmp_path, f"--window-size={width},3000", "--dump-dom", path.as_uri()).stdout
    assert int(re.search(r'data-texts="(\d+)"', dom)[1]) > 50
    found = re.search(r'data-found="([^"]*)"', dom)[1].replace("&quot;", '"')
    assert json.loads(found) == []


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_it_prints(tmp_path):
    path, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    write_report(mixed(), path)
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", path.as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 2 <= pages <= 4
