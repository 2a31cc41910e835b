"""What the tests of queue pairs and controllers share: a controller in Python, quickly given up."""

import pytest
from guest_runs import Pool
from soft_controller import SoftController


@pytest.fixture(scope="session", autouse=True)
def _guests_beside(guest_pool: Pool) -> None:
    """Let the first guests run beside these tests, if others of the run want any."""


@pytest.fixture
def soft() -> SoftController:
    return SoftController()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for the end of a command that was aborted."""
    monkeypatch.setattr("pynvme_user.raw_queue.ABORT_SECONDS", 0.1)
    monkeypatch.setattr("pynvme_user.admin.ABORT_SECONDS", 0.1)
