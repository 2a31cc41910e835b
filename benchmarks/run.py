"""Run every benchmark that needs nothing else installed; write one JSON and one page of plots.

    python benchmarks/run.py [--device NAME] [--quick] [--output build/bench]

The device is the repository's null controller over vfio-user unless one is named. --quick takes
seconds, to see that all works: its rates mean nothing. Instructions and cache lines are exact
either way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import instructions
import queues
import vectors
import waiting
from device import machine_facts
from page import Section, console, write_json, write_page
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import pynvme_user as nvme

_ROOT = Path(__file__).parents[1]
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark: how many steps it has, how it runs, how its figures are shown."""

    name: str
    steps: int
    measure: Callable[[Step], object]
    tables: Callable[[object], list[Table]]
    figures: Callable[[object], list[str]] = lambda result: []


def parts(device: str | None, *, quick: bool) -> list[Part]:
    """List them, in the order in which they run."""
    turns, seconds = (1, 0.02) if quick else (7, 0.5)
    depths = (1, 32) if quick else vectors.DEPTHS
    pairs, queue_depths = ((1, 2), (1, 32)) if quick else (queues.PAIRS, queues.DEPTHS)
    queue_turns, queue_seconds = (1, 0.02) if quick else (3, 0.2)
    return [
        Part(
            "instructions",
            instructions.steps(quick=quick),
            lambda step: instructions.measure(quick=quick, step=step),
            instructions.tables,
        ),
        Part(
            "vectors",
            vectors.steps(depths, turns),
            lambda step: vectors.measure(
                device, depths=depths, turns=turns, seconds=seconds, step=step
            ),
            vectors.tables,
        ),
        Part(
            "waiting",
            waiting.steps(turns),
            lambda step: waiting.measure(device, turns=turns, seconds=seconds, step=step),
            waiting.tables,
        ),
        Part(
            "queues",
            queues.steps(pairs, queue_depths),
            lambda step: queues.measure(
                device,
                pairs=pairs,
                depths=queue_depths,
                turns=queue_turns,
                seconds=queue_seconds,
                step=step,
            ),
            queues.tables,
            queues.figures,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="default: the repository's null controller")
    parser.add_argument("--quick", action="store_true", help="see that all works, in seconds")
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "bench")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    terminal = console()
    facts = machine_facts()
    figures: dict[str, object] = {}
    sections: list[Section] = []
    columns = TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=terminal) as progress:
        planned = [
            (part, progress.add_task(part.name, total=part.steps, start=False))
            for part in parts(options.device, quick=options.quick)
        ]
        for part, task in planned:
            progress.start_task(task)
            try:
                result = part.measure(lambda task=task: progress.advance(task))
            except (instructions.MissingToolError, nvme.DeviceAccessError) as error:
                progress.console.print(f"{part.name}: left out: {error}")
                figures[part.name] = {"left_out": str(error)}
                progress.stop_task(task)
                continue
            progress.update(task, completed=part.steps)
            figures[part.name] = result
            shown = part.tables(result)
            for table in shown:
                progress.console.print(table)
            sections.append(Section(part.name.capitalize(), shown, part.figures(result)))
    write_json(options.output / "bench.json", facts, figures)
    write_page(options.output / "bench.html", "pynvme_user: benchmarks", facts, sections)
    terminal.print(f"{options.output / 'bench.json'}\n{options.output / 'bench.html'}")


if __name__ == "__main__":
    main()
