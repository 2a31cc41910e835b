"""The options of a job: one table for job files, the command line and the documentation.

Each is declared once, in :mod:`options_io` or :mod:`options_run`: as a field of :class:`Job`, or,
where the value is none as it is, for :mod:`pynvme_user.bench.jobs.builder` to make fields of.
"""

from __future__ import annotations

import difflib

from pynvme_user.bench.jobs import options_io, options_run, unsupported
from pynvme_user.bench.jobs.option import Option
from pynvme_user.bench.jobs.terms import JobError

SECTIONS = (*options_io.SECTIONS, *options_run.SECTIONS)

OPTIONS = {
    name: option
    for section in SECTIONS
    for option in section.options
    for name in (option.name, *option.aliases)
}
"""Every option by each of its names."""


def find(name: str) -> Option:
    """Look an option up by its name or alias.

    Raises JobError if it is not supported, with the reason, or if nothing has that name.
    """
    option = OPTIONS.get(name)
    if option is not None:
        return option
    if reason := unsupported.OPTIONS.get(name):
        raise JobError(f"{name!r} is not supported: {reason}")
    near = difflib.get_close_matches(name, [*OPTIONS, *unsupported.OPTIONS], n=2)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    raise JobError(f"{name!r} is no option{hint}")
