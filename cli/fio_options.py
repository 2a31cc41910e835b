"""fio's options on the command line: the benchmark's table, in click's help and fio's spelling."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Sequence

import click
from click.shell_completion import CompletionItem

from pynvme_user.bench.jobs import unsupported
from pynvme_user.bench.jobs.option import Option
from pynvme_user.bench.jobs.options import OPTIONS, SECTIONS

Pair = tuple[str, str | None]

#: Shorter names of options that are asked for often.
_SHORT = {"bw_log": "write_bw_log", "lat_log": "write_lat_log", "iops_log": "write_iops_log"}
#: By the name with underscores, as fio has nearly all of them: `--rate-iops` is `--rate_iops`.
_NAMES = {name.replace("-", "_"): name for name in (*OPTIONS, *unsupported.OPTIONS)} | _SHORT


class FioOption(click.Option):
    """An option of the table, as far as click has to know it: for the help, and to complete it.

    Its value never comes to click, see :func:`take`.
    """

    def __init__(self, option: Option) -> None:
        short = [name for name, full in _SHORT.items() if full == option.name]
        super().__init__(
            [f"--{name.replace('_', '-')}" for name in (option.name, *short, *option.aliases)],
            help=option.help,
            metavar=f"[{option.metavar}]" if option.bare == "1" else option.metavar,
            expose_value=False,
        )
        self._option = option

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Offer the words that it takes, devices, or files."""
        from pynvme_user.cli.completion import device_names, words

        if self._option.name == "filename":
            return [CompletionItem(name) for name in device_names(incomplete)]
        if self._option.name == "verify_state":
            return [CompletionItem(incomplete, type="file")]
        # A list of workloads is a sweep.
        found = words(self._option.choices, incomplete, several=self._option.name == "rw")
        return [CompletionItem(word) for word in found]


def sections() -> list[tuple[str, list[click.Option]]]:
    """Make the options that have an effect, by subject."""
    return [
        (section.title, [FioOption(option) for option in section.options if option.effect])
        for section in SECTIONS
    ]


def take(
    ctx: click.Context, words: Sequence[str], own: Collection[str]
) -> tuple[list[Pair], list[str]]:
    """Take fio's options out of a command line; give them in their order, and what is left.

    As in fio, one dash is enough, and so is the beginning of a name that no other has. ``own`` are
    the command's own options, such as ``--output``, which are left as they are written in full. An
    option that nobody has is left, for click to complain of. Raises UsageError where a value is
    missing, or a beginning is that of several.
    """
    pairs: list[Pair] = []
    left: list[str] = []
    rest = deque(words)
    names = _Names(own)
    while rest:
        word = rest.popleft()
        spelled, equals, text = word.partition("=")
        if word == "--":
            left += [word, *rest]
            break
        name = names.find(ctx, spelled)
        if name is None:
            left.append(word)
        elif name.startswith("--"):
            left.append(name + equals + text)
        elif equals:
            pairs.append((name, text))
        elif _has_value(ctx, name, spelled, rest):
            pairs.append((name, rest.popleft()))
        else:
            pairs.append((name, None))
    return pairs, left


class _Names:
    """What may stand after dashes: fio's options by their names, the command's by ``--name``."""

    def __init__(self, own: Collection[str]) -> None:
        self._own = own
        self._by_name = _NAMES | {
            spelled.removeprefix("--").replace("-", "_"): spelled
            for spelled in own
            if spelled.startswith("--")
        }

    def find(self, ctx: click.Context, spelled: str) -> str | None:
        """Tell which option that is, written in full or not; None: none, or a single letter."""
        if spelled in self._own or not spelled.startswith("-") or len(spelled) < 3:
            return spelled if spelled in self._own and spelled.startswith("--") else None
        word = spelled.lstrip("-").replace("-", "_")
        if word in self._by_name:
            return self._by_name[word]
        found = [name for name in self._by_name if word and name.startswith(word)]
        meant = {_key(self._by_name[name]) for name in found}
        if len(meant) > 1 and not ctx.resilient_parsing:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(found))
            raise click.UsageError(f"{spelled} may be {options}: write more of it", ctx)
        return self._by_name[found[0]] if len(meant) == 1 else None


def _key(name: str) -> str:
    """Tell what the names of one option have in common."""
    option = OPTIONS.get(name)
    return option.name if option is not None else name


def _has_value(ctx: click.Context, name: str, spelled: str, rest: Sequence[str]) -> bool:
    """Tell whether the next word is the option's value."""
    option = OPTIONS.get(name)
    if option is not None and option.bare == "1" and (option.effect or not rest):
        return bool(rest) and rest[0].isdecimal()  # a flag, whose value may be left out
    if option is None or option.bare == "1":
        # Some of these are flags: what can be neither an option nor a target is a value.
        return bool(rest) and not (
            rest[0].startswith("-") or ":" in rest[0] or os.path.exists(rest[0])
        )
    if not rest and ctx.resilient_parsing:
        return False  # the value is being completed
    if not rest:
        raise click.UsageError(f"{spelled} needs a value: write {spelled} {option.metavar}", ctx)
    return True
