"""Rounds until they are steady: SNIA's criteria, and when rounds end."""

from __future__ import annotations

import numpy as np
import pytest
from bench_samples import job_of, run_of

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.report.page import page
from pynvme_user.bench.results.fio_json import document
from pynvme_user.bench.results.result import Rounds
from pynvme_user.bench.results.text import summary
from pynvme_user.bench.run.rounds import RoundWatch, judge


@pytest.mark.parametrize(
    ("iops", "steady"),
    [
        ([100, 100, 100, 100], False),  # too few
        ([100, 100, 100, 100, 100], True),
        ([300, 200, 105, 95, 100, 104, 96], True),  # the last five alone count
        ([91, 110, 91, 110, 98], True),  # a range of 19 of 100
        ([89, 110, 89, 110, 102], False),  # 21
        ([94, 97, 100, 103, 106], False),  # a slope of 12 in all
        ([96, 98, 100, 102, 104], True),  # 8
        ([104, 102, 100, 98, 96], True),
        ([106, 103, 100, 97, 94], False),
        ([0, 0, 0, 0, 0], False),
    ],
)
def test_the_criteria(iops: list[float], steady: bool) -> None:
    rounds = Rounds(60.0, 5, [float(value) for value in iops])
    judge(rounds)
    assert rounds.attained == steady


def test_rounds_end_by_the_clock_and_count_what_was_done_in_them() -> None:
    watch = RoundWatch(Job(steadystate_rounds=3, steadystate_round=1.0))
    rates = [500, 1000, 1010, 990]
    done, ended = 0.0, []
    for tenth in range(1, 41):
        done += rates[(tenth - 1) // 10] / 10
        ended.append(watch.check(tenth / 10, round(done)))
    assert watch.found is not None
    assert watch.found.iops == pytest.approx(rates)
    assert [at for at, end in enumerate(ended, 1) if end] == [40]
    assert not RoundWatch(Job()).check(100.0, 5)


def test_rounds_in_text_report_and_json() -> None:
    rounds = Rounds(60.0, 5, [300.0, 200.0, 100.0, 101.0, 102.0, 99.0, 98.0])
    judge(rounds)
    job = job_of(np.random.default_rng(1), seconds=1, rounds=rounds)
    text = "\n".join(summary(run_of(job)))
    assert "rounds       : 7 of 60 s, steady=yes, average of the last 5: 100 IOPS, range=" in text
    assert "Rounds of 60 s, steady" in page(run_of(job))
    written = document(run_of(job))["pynvme_user"]["jobs"][0]["rounds"]
    assert written["iops"] == rounds.iops
    assert written["attained"]
