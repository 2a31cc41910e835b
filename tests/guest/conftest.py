"""What the guest tests share: the guests that run ahead, and what is told at the end of a run."""

import pytest
from guest_runs import TOOK, wanted

_lines: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with guests of their own go first: the others' run meanwhile."""
    guest = [item for item in items if item.get_closest_marker("guest")]
    ordered = iter(sorted(guest, key=lambda item: bool(wanted(item))))
    items[:] = [next(ordered) if item in guest else item for item in items]


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines to show in the summary."""
    return _lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    took = [f"{name}[{param}]" if param else name for name, param in TOOK]
    took = [f"{name} {seconds:.0f} s" for name, seconds in zip(took, TOOK.values(), strict=True)]
    for line in (*_lines, *([f"guests: {', '.join(took)}"] if took else [])):
        terminalreporter.write_line(line)
