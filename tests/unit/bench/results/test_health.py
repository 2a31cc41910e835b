"""What is said of a device's health before and after a run."""

from __future__ import annotations

import json

import numpy as np
from bench_samples import job_of, run_of

from pynvme_user.bench.report.page import page
from pynvme_user.bench.results import health
from pynvme_user.bench.results.fio_json import document
from pynvme_user.bench.results.result import Health
from pynvme_user.bench.results.text import summary
from pynvme_user.spec.logs import SmartLog

COOL = SmartLog.build(ctemp=273 + 41, avsp=100, avspt=10, pused=3, tsen=(314,) + (0,) * 7)


def test_nothing_is_said_where_nothing_changed() -> None:
    one = Health("0000:01:00.0", COOL, COOL.replace(hrc=1 << 70, dur=17))
    assert health.changes(one) == []
    assert list(health.warnings(one)) == []
    gone = Health("0000:01:00.0", COOL, None)
    assert health.changes(gone) == list(health.warnings(gone)) == []


def test_what_changed_is_said() -> None:
    hot = COOL.replace(ctemp=273 + 78, pused=4, tmt1tc=2, tttmt1=31, tttmt2=1, mdie=5, cw=1 | 8)
    one = Health("0000:01:00.0", COOL, hot)
    assert health.changes(one) == [
        "temperature 41 to 78 Celsius",
        "percentage used 3 to 4",
        "media errors 0 to 5",
    ]
    said = "\n".join(health.warnings(one))
    for words in (
        "throttled during the run to cool down (light: 2 times begun, 31 s)",
        "(heavy: 0 times begun, 1 s)",
        "counted 5 media and data integrity errors",
        "critical warning: the available spare is below its threshold",
        "critical warning: the media are read-only",
    ):
        assert words in said
    run = run_of(job_of(np.random.default_rng(1), seconds=1), health=[one])
    assert "Health of 0000:01:00.0: temperature 41 to 78 Celsius" in "\n".join(summary(run))
    assert "temperature 41 to 78 Celsius" in page(run)
    (written,) = json.loads(json.dumps(document(run)))["pynvme_user"]["health"]
    assert written["before"]["temperature"] == 314
    assert written["before"]["temperature_sensor_1"] == 314
    assert written["after"]["thm_temp1_trans_count"] == 2
    assert written["after"]["media_errors"] == 5


def test_a_hot_device_is_told_of_before_the_run() -> None:
    assert health.throttles(COOL, 0) == health.throttles(COOL, 273 + 70) == ""
    assert "begins to throttle" in health.throttles(COOL.replace(ctemp=273 + 70), 273 + 70)
    assert "outside its temperature limits" in health.throttles(COOL.replace(cw=2), 0)
