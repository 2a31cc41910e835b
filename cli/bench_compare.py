"""``bench compare`` and ``bench merge``: what is made of results that were written before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from pynvme_user.cli.device import command
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.output import JSON, NORMAL, echo_json, echo_lines

_result = click.Path(exists=True, dir_okay=False, path_type=Path)
_format_option = click.option(
    "--output-format",
    "-o",
    type=click.Choice([NORMAL, JSON]),
    default=NORMAL,
    help="How to print it.",
)


class _Percent(click.ParamType[float]):
    """A percentage, ``5%`` or ``5``."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse; a negative one is a usage error."""
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not 0 <= percent < float("inf"):
            self.fail(f"{value!r} is no percentage: write for example 5%", param, ctx)
        return percent


@command("compare", "nvme-user bench compare before.json after.json")
@click.argument("before", type=_result)
@click.argument("after", type=_result, nargs=-1, required=True)
@click.option(
    "--fail-above",
    type=_Percent(),
    metavar="PERCENT",
    help="Exit code 1 if a figure is worse by more than this, and by more than the noise.",
)
@_format_option
def compare(
    before: Path, after: Sequence[Path], fail_above: float | None, output_format: str
) -> None:
    """Show what changed from one result (--output-format json or json+) to each of the others.

    A change within the noise is named as such: that of the repeats, where the runs had --repeat,
    else that within the runs. Results of fio itself will do, too.
    """
    from pynvme_user.bench.results import compare as comparing

    results = _load((before, *after))
    try:
        found = comparing.compare(*results)
    except ValueError as error:
        _refuse((before, *after), "compared", error)
    if output_format == JSON:
        echo_json(comparing.as_json(found))
    else:
        echo_lines(comparing.table(found))
    if fail_above is not None and (said := comparing.failures(found, fail_above)):
        raise Failure("; ".join(said))


@command("merge", "nvme-user bench merge host-a.json host-b.json")
@click.argument("results", type=_result, nargs=-1, required=True)
@_format_option
def merge(results: Sequence[Path], output_format: str) -> None:
    """Show results of several hosts (--output-format json or json+) in one table, with their sums.

    Jobs of one name, and one place in a sweep, are added up. Results of fio itself will do, too.
    """
    from pynvme_user.bench.results import hosts

    found = [path.resolve() for path in results]
    for path, where in zip(results, found, strict=True):
        if found.count(where) > 1:
            raise click.UsageError(
                f"{path} is given more than once: its I/Os would be counted as often",
                click.get_current_context(),
            )
    loaded = _load(results)
    try:
        merged = hosts.merge(hosts.hosts(results, loaded), loaded)
    except ValueError as error:
        _refuse(results, "merged", error)
    if output_format == JSON:
        echo_json(hosts.as_json(merged))
    else:
        echo_lines(hosts.table(merged))


def _load(paths: Sequence[Path]) -> list[dict[str, Any]]:
    from pynvme_user.bench.results.compare import load

    try:
        return [load(path) for path in paths]
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None


def _refuse(paths: Sequence[Path], what: str, error: ValueError) -> NoReturn:
    names = " and ".join(map(str, paths))
    raise click.UsageError(
        f"{names} cannot be {what}, {error}: give outputs of --output-format json",
        click.get_current_context(),
    ) from None
