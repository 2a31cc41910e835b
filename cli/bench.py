"""``bench``: fio's workloads and job files on the bare device."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from pynvme_user.cli import bench_help, signals
from pynvme_user.cli.bench_compare import compare, merge
from pynvme_user.cli.bench_display import display
from pynvme_user.cli.bench_files import AGGREGATE_LOGS, Files, check_names
from pynvme_user.cli.bench_results import BINS, TERSE, Writer, failure
from pynvme_user.cli.device import VARIABLE, opened
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.fio_options import Pair, sections, take
from pynvme_user.cli.output import JSON, NORMAL
from pynvme_user.cli.types import U32, Device

if TYPE_CHECKING:
    from pynvme_user.bench.jobs.job import Job
    from pynvme_user.bench.jobs.job_file import Jobs
    from pynvme_user.bench.results.result import RunResult
    from pynvme_user.bench.run.engine import Progress

_OTHERS: dict[str, click.Command] = {"compare": compare, "merge": merge}
"""What begins with one of these words is that command."""
_PAIRS = "pynvme_user.fio_options"
_ALL_HELP = "pynvme_user.all_help"
_SPELLING = (
    "Of fio's options `_` may be written for `-`, one dash for two, and as much of a name as no "
    "other has. --rw, --bs, --numjobs and --iodepth take lists, of which every combination is run."
)
_SCHEMES = ("qemu", "soft", "vfio", "uio", "vfio-user")


class _Formats(click.ParamType[tuple[str, ...]]):
    """One format or several, as fio has it: ``normal,json``."""

    name = "formats"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Parse; a format that is not there is a usage error."""
        formats = tuple(part.strip() for part in value.split(","))
        for wanted in formats:
            if wanted not in (NORMAL, TERSE, JSON, BINS):
                self.fail(f"{wanted!r} is none of normal, terse, json, json+", param, ctx)
        return formats

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the formats."""
        from pynvme_user.cli.completion import words

        formats = words((NORMAL, TERSE, JSON, BINS), incomplete, several=True)
        return [CompletionItem(wanted) for wanted in formats]


class _Time(click.ParamType[float]):
    """A time as fio has it, in seconds where it has no unit."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse; none at all is a usage error."""
        from pynvme_user.bench.jobs import values
        from pynvme_user.bench.jobs.terms import JobError

        try:
            seconds = values.time(values.SECOND)(value)
        except JobError as error:
            self.fail(str(error), param, ctx)
        if not seconds:
            self.fail("give a time above 0", param, ctx)
        return seconds


class _Target(Device):
    """A device name or a job file."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer devices, job files, and the other commands' words."""
        from pynvme_user.cli.completion import path_names, words

        files = path_names(incomplete, (".fio", ".ini", ".job"))
        names = [*words([*_OTHERS] * (not ctx.params.get("targets")), incomplete), *files]
        devices = super().shell_complete(ctx, param, incomplete)
        return [*devices, *map(CompletionItem, names)]


class _Bench(click.Command):
    """The command with fio's options, and those that begin with a word of their own."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._own = [*self.params]
        self._sections = sections()
        self.params += [option for _, options in self._sections for option in options]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments, as those of ``bench compare`` where they begin so, for example."""
        if args and args[0] in _OTHERS:
            other = _OTHERS[args[0]]
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take fio's options out first, whose order counts; or help on something is asked for."""
        asked = bench_help.topic(args, ctx.help_option_names, self._subjects)
        if asked is not None and not ctx.resilient_parsing:
            ctx.meta[_ALL_HELP] = asked == bench_help.ALL
            click.echo(
                ctx.get_help()
                if asked == bench_help.ALL
                else bench_help.explain(asked, self._subjects, ctx)
            )
            ctx.exit()
        own = {name for parameter in self._own for name in parameter.opts}
        ctx.meta[_PAIRS], left = take(ctx, args, own | {*ctx.help_option_names})
        return super().parse_args(ctx, left)

    @property
    def _subjects(self) -> list[tuple[str, list[click.Option]]]:
        """The command's own options, then fio's by subject."""
        own = [option for option in self._own if isinstance(option, click.Option)]
        return [("Options", own), *self._sections]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what is asked for most, or all options."""
        if not ctx.meta.get(_ALL_HELP):
            bench_help.write_short(formatter)
            return
        for title, options in self._subjects:
            records = [record for option in options if (record := option.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what stands below; of one screen only the example."""
        if ctx.meta.get(_ALL_HELP):
            formatter.write_paragraph()
            formatter.write_text(_SPELLING)
        super().format_epilog(ctx, formatter)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does; on one screen the first sentence alone."""
        if ctx.meta.get(_ALL_HELP):
            super().format_help_text(ctx, formatter)
            return
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text((self.help or "").partition("\n")[0])


def _output_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a path that cannot be written before the run, not after it."""
    if path is not None:
        _check_folder(path, f"{param.opts[0]} {path}", ctx)
    return path


def _check_folder(path: Path, what: str, ctx: click.Context | None = None) -> None:
    folder = path.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise click.UsageError(f"{what}: no file can be made in {folder}: name another", ctx)


_file_option = partial(
    click.option,
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_output_file,
)


@click.command(
    "bench",
    cls=_Bench,
    epilog="\b\n`bench compare A.json B.json` shows differences of results,\n"
    "`bench merge A.json B.json` has those of several hosts in one table.\n\n"
    "\b\nExample:\n"
    "  nvme-user bench qemu:disk.img --rw randread --iodepth 1,8,32 --runtime 10",
)
@click.argument("targets", nargs=-1, type=_Target(), metavar="[DEVICE... | JOBFILE...]")
@click.option(
    "--namespace-id",
    "-n",
    type=U32,
    metavar="NSID",
    help="The namespace; default the first active one. The same as --nsid.",
)
@click.option(
    "--output-format",
    "-o",
    "formats",
    type=_Formats(),
    default=NORMAL,
    metavar="FORMAT[,FORMAT]",
    help="normal, terse, json (fio's schema), or json+ (with the latencies' bins).",
)
@click.option("--minimal", is_flag=True, help="The same as --output-format terse.")
@click.option(
    "--terse-version",
    type=click.IntRange(3, 5),
    default=3,
    help="fio's version of the terse output: 3, 4 or 5; default 3.",
)
@click.option(
    "--status-interval",
    type=_Time(),
    metavar="TIME",
    help="Write the results so far every so often; also at SIGUSR1.",
)
@_file_option("--output", help="Write the results to this file instead of stdout.")
@_file_option("--report", help="Write a page with plots (HTML, self-contained) to this file.")
@click.option(
    "--bandwidth-log",
    is_flag=True,
    help="Write what all jobs move together to agg-read_bw.log and the like, here.",
)
@_file_option("--hdr-log", help="Write latencies to this file, for HdrHistogram's tools.")
@click.option(
    "--section", "chosen", multiple=True, metavar="NAME", help="Only these of the job files' jobs."
)
@click.option(
    "--force", is_flag=True, help="Write even where there is a partition table or file system."
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="TIMES",
    help="Run it all so many times; `compare` takes the noise from the repeats.",
)
@click.option("--readonly", is_flag=True, help="Refuse jobs that write or trim.")
@click.option(
    "--eta",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Show the progress: on a terminal, else a line now and then; each second; or never.",
)
@click.option("--eta-interval", type=_Time(), metavar="TIME", help="Show the progress so often.")
@click.option(
    "--eta-newline",
    type=_Time(),
    metavar="TIME",
    help="Show it in lines that stay, so often, also on a terminal.",
)
@click.option(
    "--max-jobs",
    type=click.IntRange(1),
    expose_value=False,
    metavar="NUMBER",
    help="Accepted: there may be as many jobs as the device has queues.",
)
@click.option(
    "--alloc-size",
    expose_value=False,
    metavar="KB",
    help="Accepted: memory is taken as it is needed.",
)
@click.option(
    "--parse-only", is_flag=True, help="Read options and job files, and end without any I/O."
)
@click.option(
    "--warnings-fatal", is_flag=True, help="End where something is not quite as a job asks for it."
)
@click.pass_context
def bench(
    ctx: click.Context,
    targets: tuple[str, ...],
    namespace_id: int | None,
    formats: tuple[str, ...],
    minimal: bool,
    terse_version: int,
    status_interval: float | None,
    output: Path | None,
    report: Path | None,
    hdr_log: Path | None,
    bandwidth_log: bool,
    chosen: tuple[str, ...],
    force: bool,
    repeat: int,
    readonly: bool,
    eta: str,
    eta_interval: float | None,
    eta_newline: float | None,
    parse_only: bool,
    warnings_fatal: bool,
) -> None:
    """Measure a device: fio's job files, or one job of fio's options.

    Targets that are files are job files, others are devices. Exit code 1 if an I/O failed or a
    block does not hold what was written. Ctrl-C, SIGTERM and SIGHUP end the run with the results so
    far, once the queues are drained; another one resets the controllers instead of waiting.
    """
    pairs: list[Pair] = ctx.meta[_PAIRS]
    if namespace_id is not None:
        pairs.insert(0, ("nsid", str(namespace_id)))
    jobs = _read(targets, pairs, chosen, repeat)
    _tell_block_size_sweep(pairs)
    if warnings_fatal and jobs.notes:
        _refuse(jobs.notes)
    _check(jobs.jobs, readonly)
    own = {"--output": output, "--report": report, "--hdr-log": hdr_log}
    aggregate = [(f"the {name}", name) for name in AGGREGATE_LOGS if bandwidth_log]
    check_names(jobs.jobs, filter(_is_job_file, targets), [*own.items(), *aggregate])
    if parse_only:
        return
    if not force:
        _guard(jobs.jobs)
    writer = Writer(jobs.jobs, (TERSE,) if minimal else formats, terse_version, output)
    files = Files(writer, jobs.jobs, hdr_log=hdr_log, report=report, bandwidth_log=bandwidth_log)
    run = _run(
        jobs,
        display(eta, eta_interval, eta_newline),
        histograms=report is not None or hdr_log is not None,
        report=writer.write,
        report_seconds=status_interval,
        finish=files.write,
    )
    if run.interrupted:
        for problem in files.problems:
            click.echo(f"nvme-user: {problem}", err=True)
        signals.end(run.signal)
    if said := [*([] if run.ok else [failure(run)]), *files.problems]:
        raise Failure("; ".join(said))


# --- what to run --------------------------------------------------------------------------------


def _read(
    targets: Sequence[str], pairs: Iterable[Pair], chosen: Sequence[str], repeats: int
) -> Jobs:
    """Make the jobs of a command line; whatever is wrong with it is a usage error."""
    from pynvme_user.bench import recipes
    from pynvme_user.bench.jobs.job_file import command_line_jobs, read_job_files
    from pynvme_user.bench.jobs.sweep import sweep
    from pynvme_user.bench.jobs.terms import JobError

    known = recipes.names()
    files = [
        str(recipes.path(target)) if target in known and not _is_job_file(target) else target
        for target in targets
        if _is_job_file(target) or target in known
    ]
    devices = [target for target in targets if not _is_job_file(target) and target not in known]
    for target in devices:
        # All device names have a colon; what is wrong with one of the kernel's, open() says.
        if ":" not in target and not target.startswith("/dev/"):
            raise click.UsageError(
                f"{target!r} is neither a job file that is there nor a device, nor one that comes "
                f"with the command: {', '.join(known)}"
            )
    options = (*(("filename", device) for device in devices), *pairs)
    named = os.environ.get(VARIABLE)
    try:
        if files:
            return sweep(
                options,
                lambda point: read_job_files(files, point, sections=chosen, device=named),
                repeats,
            )
        if chosen:
            raise click.UsageError("--section is for a job file, and there is none")
        if not any(name == "filename" for name, _ in options):
            if not named:
                raise click.UsageError(
                    "no device: name one, for example 'qemu:disk.img?size=1G', or a fio job file, "
                    f"or set {VARIABLE}"
                )
            options = (("filename", named), *options)
        return sweep(options, command_line_jobs, repeats)
    except JobError as error:
        _refuse(str(error).splitlines())


def _tell_block_size_sweep(pairs: Iterable[Pair]) -> None:
    """Say what a list of block sizes is here: fio has sizes of reads, writes and trims in it."""
    from pynvme_user.bench.jobs.options import find

    for name, text in pairs:
        if find(name).name == "bs" and text and "," in text:
            sizes = text.split(",")
            click.echo(
                f"nvme-user: --{name} {text} is a sweep here, {len(sizes)} runs of one size each; "
                f"for sizes of {', '.join(('reads', 'writes', 'trims')[: len(sizes)])}, as in fio, "
                "write it in a job file",
                err=True,
            )


def _is_job_file(target: str) -> bool:
    scheme = target.partition(":")[0]
    return scheme not in _SCHEMES and os.path.isfile(target)


def _refuse(problems: Sequence[str]) -> NoReturn:
    """End with a usage error for each problem, on a line of its own."""
    for problem in problems[:-1]:
        click.echo(f"nvme-user: {problem}", err=True)
    raise click.UsageError(problems[-1], click.get_current_context())


def _check(jobs: Iterable[Job], readonly: bool) -> None:
    for job in jobs:
        if readonly and job.destructive:
            raise click.UsageError(f"--readonly: job {job.name!r} has rw={job.rw}")
        for prefix in (job.write_bw_log, job.write_lat_log, job.write_iops_log, job.write_hist_log):
            if prefix is not None:
                _check_folder(Path(f"{prefix}_"), f"the logs {prefix}_*.log")
        if job.write_iolog is not None:
            _check_folder(Path(job.write_iolog), f"write_iolog={job.write_iolog}")
        if job.verify_state is not None:
            _check_folder(Path(job.verify_state), f"verify_state={job.verify_state}")


def _guard(jobs: Iterable[Job]) -> None:
    """Refuse to write over what may be somebody's data; each device is opened once."""
    from pynvme_user.cli.guard import guard

    written: dict[str, dict[int | None, None]] = {}
    for job in jobs:
        if job.destructive:
            for name in job.filenames:
                written.setdefault(name, {})[job.nsid] = None
    for name, wanted in written.items():
        with opened(name) as controller:
            active = controller.namespaces.ids
            for nsid in wanted:
                # One that is not active is for the run to complain of: it knows the job.
                if nsid in active or (nsid is None and active):
                    guard(controller.namespaces[nsid or active[0]], force=False)


def _run(
    jobs: Jobs,
    shown: AbstractContextManager[Callable[[Progress], None] | None],
    *,
    histograms: bool,
    report: Callable[[RunResult], None],
    report_seconds: float | None,
    finish: Callable[[RunResult], None],
) -> RunResult:
    from pynvme_user.bench.jobs.terms import JobError
    from pynvme_user.bench.run import engine

    with shown as watch:
        try:
            return engine.run(
                jobs.jobs,
                watch=watch,
                report=report,
                report_seconds=report_seconds,
                finish=finish,
                histograms=histograms or any(job.write_hist_log for job in jobs.jobs),
                io_log=any(_logs_each_io(job) for job in jobs.jobs),
                command=shlex.join(["nvme-user", *sys.argv[1:]]),
                notes=jobs.notes,
            )
        except JobError as error:  # what only the device tells: a range that it has not
            raise click.UsageError(str(error), click.get_current_context()) from None


def _logs_each_io(job: Job) -> bool:
    logs = (job.write_bw_log, job.write_lat_log, job.write_iops_log)
    return any(log is not None for log in logs) and not job.log_avg_msec
