"""What is seen of a benchmark while it runs, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pynvme_user.workload.direction import DIRECTION_NAMES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pynvme_user.bench.run.engine import Progress

#: Seconds between two lines where there is no terminal: a log is read later, by somebody else.
_PAUSE = {"auto": 5.0, "always": 1.0}
_BAR = 30  # columns


@contextmanager
def display(
    when: str, interval: float | None = None, newline: float | None = None
) -> Iterator[Callable[[Progress], None] | None]:
    """Give what is to be called with the progress, or None if nothing is to be shown.

    ``when`` is fio's --eta: ``auto`` shows a display on a terminal and else a line every five
    seconds, ``always`` a line every second, ``never`` nothing. ``interval`` are other seconds
    between two of them; ``newline`` has a line that stays so often, also on a terminal.
    """
    if when == "never":
        yield None
    elif when == "auto" and newline is None and sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            yield _every(
                interval or 0.0,
                lambda progress: live.update(_screen(progress), refresh=True),
            )
    else:
        yield _every(
            newline or interval or _PAUSE[when],
            lambda progress: print(line(progress), file=sys.stderr, flush=True),
        )


def _every(pause: float, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = time.monotonic()

    def look(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= pause:
            last = time.monotonic()
            show(progress)

    return look


def line(progress: Progress) -> str:
    """Write the progress in one line."""
    from pynvme_user.bench.results.text import duration

    return ", ".join(
        [
            f"{_jobs(progress)}: {_state(progress)}",
            *(f"{name} {iops}, {bandwidth}" for name, iops, bandwidth in _rates(progress)),
            *([f"lat {duration(progress.lat_mean)}"] if progress.lat_mean is not None else []),
        ]
    )


def _screen(progress: Progress) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    from pynvme_user.bench.results.text import duration

    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(
        total=None if progress.done is None else 1.0,
        completed=progress.done or 0.0,
        width=_BAR,
        pulse=progress.done is None,
    )
    head.add_row(_jobs(progress), bar, _state(progress))
    rates = Table.grid(padding=(0, 2))
    for _ in range(3):
        rates.add_column(justify="right")
    for row in _rates(progress):
        rates.add_row(*row)
    if progress.lat_mean is not None:
        rates.add_row("lat", duration(progress.lat_mean))
    return Group(head, rates)


def _jobs(progress: Progress) -> str:
    hint = " (ctrl-C again: do not wait)" if progress.phase == "drain" else ""
    return f"{progress.phase} {progress.running}/{progress.jobs}{hint}"


def _state(progress: Progress) -> str:
    parts = [] if progress.done is None else [f"{100 * progress.done:.0f} %"]
    parts.append(f"{_clock(progress.elapsed)} gone")
    if progress.left is not None:
        parts.append(f"{_clock(progress.left)} left")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    """Write seconds as 5 s, 4:05, or 1:02:03."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def _rates(progress: Progress) -> Iterator[tuple[str, str, str]]:
    """Name, IOPS and bandwidth of each direction in use."""
    from pynvme_user.bench.results.text import number

    for name, iops, bandwidth in zip(
        DIRECTION_NAMES, progress.iops, progress.bandwidth, strict=True
    ):
        if iops:
            yield name, f"{number(iops)} IOPS", number(bandwidth, "B/s", binary=True)
