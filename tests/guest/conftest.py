"""What the guest tests tell at the end of a run."""

import pytest

_lines: list[str] = []


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines to show in the summary."""
    return _lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _lines:
        terminalreporter.write_line(line)
