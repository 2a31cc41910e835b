"""What tests share: a controller in Python, quickly given up; results that are like fio's."""

from collections.abc import Iterator

import bench_samples
import numpy as np
import pytest
from soft_controller import SoftController

from pynvme_user import Controller
from pynvme_user.bench.results.result import RunResult
from pynvme_user.transport.pcie import PcieTransport


@pytest.fixture
def soft() -> SoftController:
    return SoftController()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for the end of a command that was aborted."""
    monkeypatch.setattr("pynvme_user.driver.device.Device.abort_seconds", 0.5)


@pytest.fixture
def ctrl(soft: SoftController, impatient: None) -> Iterator[Controller]:
    with Controller(PcieTransport(soft), ready_timeout=0.5) as ctrl:
        yield ctrl


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture
def like_fio(rng: np.random.Generator) -> RunResult:
    return bench_samples.like_fio(rng)
