"""What stands between a command and somebody's data: a look at it, a question, ``--force``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from pynvme_user.cli.errors import Failure
from pynvme_user.errors import NotSupportedError, NvmeError, NvmeStatusError

if TYPE_CHECKING:
    from pynvme_user import Controller, Namespace

_UNSUPPORTED = "send it even where the controller says that it does not support it."
force_option = click.option("--force", is_flag=True, help=_UNSUPPORTED.capitalize())
destroy_option = click.option(
    "--force",
    is_flag=True,
    help="Do not ask, do not look for partition tables and file systems, and " + _UNSUPPORTED,
)


def guard(ns: Namespace, force: bool, do: str = "write to it") -> None:
    """Refuse to write over what may be somebody's data, unless the user insists.

    ``do`` is what is to be done to the namespace.
    """
    from pynvme_user.cli import signatures

    if force:
        return
    try:
        found = signatures.find(ns)
    except (NvmeStatusError, ValueError, OSError) as error:
        raise _not_looked_at(ns.controller, ns.nsid, str(error), do) from None
    if found:
        raise Failure(
            f"namespace {ns.nsid} of {ns.controller.name} carries {found}: "
            f"add --force to {do} all the same"
        )


def _not_looked_at(controller: Controller, nsid: int, why: str, do: str) -> Failure:
    return Failure(
        f"what namespace {nsid} of {controller.name} carries cannot be looked at ({why}): "
        f"add --force to {do} all the same"
    )


def ask(ns: Namespace, force: bool, what: str, do: str) -> None:
    """Look at what the namespace carries, and ask; ``what`` says what is lost."""
    if not force:
        guard(ns, False, do)
        confirm(f"{what} of {named_namespaces(ns.controller, [ns.nsid])}")


def guard_all(controller: Controller, nsids: Iterable[int], do: str) -> None:
    """Refuse where one of these namespaces may carry somebody's data, or cannot be looked at."""
    for nsid in nsids:
        if nsid not in controller.namespaces.ids:
            raise _not_looked_at(controller, nsid, "it is not attached to this controller", do)
        try:
            ns = controller.namespaces[nsid]
        except NvmeError as error:
            raise _not_looked_at(controller, nsid, str(error), do) from None
        guard(ns, False, do)


def every_namespace(controller: Controller) -> list[int]:
    """Give the ids of the active namespaces and of those that are allocated, but not attached."""
    from pynvme_user.spec.admin import Cns

    ids = set(controller.namespaces.ids)
    if controller.identify.oacs.nms:
        with suppress(NvmeStatusError):
            ids |= set(controller.namespaces.listed(Cns.ALLOCATED_NAMESPACES))
    return sorted(ids)


def named_namespaces(controller: Controller, nsids: Sequence[int]) -> str:
    """Write namespaces for a question."""
    several = "" if len(nsids) == 1 else "s"
    return f"namespace{several} {', '.join(map(str, nsids))} of {controller.name}"


def confirm(what: str) -> None:
    """Ask on a terminal whether to do what ``what`` says; UsageError where there is none.

    Failure where the answer is not yes.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            f"{what}, and there is no terminal to ask on: add --force",
            click.get_current_context(),
        )
    print(f"{what}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was done: the answer was not yes")


@contextmanager
def refusals() -> Iterator[None]:
    """Let what the driver refuses to send end the command with its sentence."""
    try:
        yield
    except NotSupportedError as error:
        error.add_note("add --force to send it all the same")
        raise
    except NvmeError:
        raise
    except ValueError as error:
        raise Failure(str(error)) from None
