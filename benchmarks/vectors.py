"""What Python costs: the same reads by the C loop, by vectors, one by one, and from plain Python.

    python benchmarks/vectors.py [--device NAME] [--depths 1,32,128] [--turns 7] [--seconds 0.5]

4 KiB random reads on one queue pair, each way in turns with the others in one run; medians with
their spread. Over the C loop with its latency accounting stand `read_many`, one C call for many
reads, `read_into`, a call for each read that waits for it, and a loop of Python's submit and poll.
By default the device is the repository's null controller over vfio-user, on a CPU of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from device import first_namespace, opened
from load import IO_SIZE, Spread, Turn, c_loop, python_loop, ratios, sync_calls, take_turns, vectors
from page import console
from rich.table import Table

DEPTHS = (1, 32, 128)
C_LOOP, READ_INTO = "C loop", "read_into"


def steps(depths: tuple[int, ...], turns: int) -> int:
    """How often :func:`measure` calls ``step``."""
    return sum(4 if depth == 1 else 3 for depth in depths) * (turns + 1)


def measure(
    device: str | None,
    *,
    depths: tuple[int, ...] = DEPTHS,
    turns: int = 7,
    seconds: float = 0.5,
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, object]]:
    """Run all ways at each depth; one row for each, times in seconds."""
    rows: list[dict[str, object]] = []
    with opened(device) as ctrl:
        ns = first_namespace(ctrl)
        for depth in depths:
            buffer = ctrl.alloc(depth * IO_SIZE)
            with ctrl.queue_pair(depth, spin=float("inf")) as pair:
                ways: dict[str, Callable[[], Turn]] = {
                    C_LOOP: partial(c_loop, pair, ns, buffer, seconds),
                    "read_many": partial(vectors, pair, ns, buffer, seconds),
                    "submit/poll": partial(python_loop, pair, ns, buffer, seconds),
                }
                if depth == 1:
                    ways[READ_INTO] = partial(sync_calls, ns, buffer, seconds)
                done = take_turns(ways, turns, step)
            for way, figures in done.items():
                above = [
                    one.seconds / one.ios - base.latency
                    for one, base in zip(figures, done[C_LOOP], strict=True)
                ]
                rows.append(
                    {
                        "way": way,
                        "depth": depth,
                        "ios": sum(turn.ios for turn in figures),
                        "iops": Spread.of([turn.iops for turn in figures]).as_dict(),
                        "over_c_loop": ratios(figures, done[C_LOOP]).as_dict(),
                        "above_c_latency": Spread.of(above).as_dict() if depth == 1 else None,
                    }
                )
    return rows


def tables(rows: list[dict]) -> list[Table]:
    """Lay the rows out for people."""
    result = Table("way", "depth", title="4 KiB random reads from Python")
    for column in ("thousand IOPS", "over the C loop", "time above its latency, us"):
        result.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(
            row["way"],
            str(row["depth"]),
            Spread(**row["iops"]).text(1e3, 1),
            Spread(**row["over_c_loop"]).text(),
            Spread(**row["above_c_latency"]).text(1e-6) if row["way"] == READ_INTO else "",
        )
    return [result]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="default: the repository's null controller")
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn (0.5)")
    options = parser.parse_args()
    depths = tuple(map(int, options.depths.split(",")))
    rows = measure(options.device, depths=depths, turns=options.turns, seconds=options.seconds)
    for table in tables(rows):
        console().print(table)


if __name__ == "__main__":
    main()
