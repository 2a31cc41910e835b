"""Writes the tables of docs/fio-options.md: ``python tests/support/fio_reference.py``.

What stands above the first generated heading is written by hand and stays. The examples are those
of Debian's package fio-examples; where it is not installed, their table stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pynvme_user.bench.jobs import options, unsupported
from pynvme_user.bench.jobs.job_file import Jobs, read_job_files
from pynvme_user.bench.jobs.terms import JobError

PATH = Path(__file__).parents[2] / "docs" / "fio-options.md"
HEADING = "## Options\n"
EXAMPLES_HEADING = "## fio's example job files\n"
EXAMPLES = Path("/usr/share/doc/fio/examples")
# What the examples want from the environment.
ENVIRONMENT = {"FIO_RW": "randread", "FIO_IODEPTH": "4", "FIO_BS": "4k", "FIO_DIR": "/tmp"}


def render_options() -> str:
    """Render all options: what they mean here, and what is not supported."""
    return "\n".join([HEADING, *_options(), *_unsupported()]) + "\n"


def render_examples() -> str:
    """Render a line for each of fio's examples: whether it runs, and if not, why not."""
    lines = [
        EXAMPLES_HEADING,
        "Of fio 3.33, with `--filename` naming a device and "
        + ", ".join(f"`{name}={value}`" for name, value in ENVIRONMENT.items())
        + " in the environment.\n",
        "| file | result |",
        "|---|---|",
    ]
    lines += [f"| {path.name} | {example(path)} |" for path in sorted(EXAMPLES.glob("*.fio"))]
    return "\n".join(lines) + "\n"


def example(path: Path) -> str:
    """Tell whether an example runs, or what of it is not supported, and why."""
    try:
        read = _read(path)
    except JobError as error:
        # PATH line N: 'OPTION' is not ...: REASON, or OPTION=VALUE: not supported: REASON
        subjects: dict[str, dict[str, None]] = {}
        for line in str(error).splitlines():
            subject = line.split(": ")[1].split(" is no")[0].strip("'")
            reason = line.split("not supported: ")[1]
            subjects.setdefault(reason, {})[f"`{subject}`"] = None
        # What is wrong with an engine is wrong with its options, too.
        engines = [why for why, names in subjects.items() if any("ioengine=" in n for n in names)]
        for reason in set(subjects) - set(engines) if engines else ():
            del subjects[reason]
        reasons = [f"{', '.join(names)}: {reason}" for reason, names in subjects.items()]
        return "not supported: " + "; ".join([*reasons, *_otherwise(path)])
    notes = {note.split(": ", 1)[1] for note in read.notes}
    return "; ".join(["runs", *(_cell(note) for note in sorted(notes))])


def _read(path: Path, *more: tuple[str, str]) -> Jobs:
    return read_job_files([path], (("filename", "qemu:"), *more), environment=ENVIRONMENT)


def _otherwise(path: Path) -> Iterator[str]:
    """Tell whether only its engine, which does nothing, is in the way."""
    if "ioengine=null" in path.read_text():
        with suppress(JobError):
            _read(path, ("ioengine", "libaio"))
            yield "runs with `--ioengine libaio`"


def _options() -> Iterator[str]:
    for section in options.SECTIONS:
        yield f"### {section.title}\n\n| option | value | meaning |\n|---|---|---|"
        for option in section.options:
            if option.effect:
                names = ", ".join(f"`{name}`" for name in (option.name, *option.aliases))
                yield f"| {names} | {_cell(option.metavar)} | {_cell(option.help)} |"
        without = [option for option in section.options if not option.effect]
        if without:
            yield "\nAccepted, without an effect on a bare device:\n"
            reasons = dict.fromkeys(option.help for option in without)
            for reason in reasons:
                names = ", ".join(
                    f"`{name}`"
                    for option in without
                    if option.help == reason
                    for name in (option.name, *option.aliases)
                )
                yield f"- {names}: {reason}"
        yield ""


def _unsupported() -> Iterator[str]:
    yield "## Not supported\n"
    yield "Each ends the run with the file's name, its line and the reason, unless its value is the"
    yield "one that turns it off.\n"
    for reason, names in unsupported.GROUPS:
        yield f"- {', '.join(f'`{name}`' for name in names.split())}: {reason}."
    yield "\nOf `ioengine`:\n"
    for reason in dict.fromkeys(unsupported.ENGINES.values()):
        names = [name for name, why in unsupported.ENGINES.items() if why == reason]
        yield f"- {', '.join(f'`{name}`' for name in names)}: {reason}."
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Replace the tables in docs/fio-options.md."""
    above, _, below = PATH.read_text().partition(HEADING)
    examples = EXAMPLES_HEADING + below.partition(EXAMPLES_HEADING)[2]
    if EXAMPLES.exists():
        examples = render_examples()
    PATH.write_text(above + render_options() + examples)


if __name__ == "__main__":
    main()
