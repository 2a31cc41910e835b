"""``events``: the controller's asynchronous events, as they come."""

from __future__ import annotations

import json
import math
import select
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.errors import Failure, ReaderGone
from pynvme_user.cli.output import JSON, NORMAL, output_option
from pynvme_user.cli.types import U32

if TYPE_CHECKING:
    from pynvme_user.driver.events import Event

#: How often it is looked whether somebody still reads.
_LOOK_SECONDS = 0.5


@device_command("events", "nvme-user events 0000:01:00.0 --count 1 --timeout 60 -o json")
@click.option("--count", "-c", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--timeout",
    "-t",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after this time; exit code 1 if fewer events than --count came.",
)
@click.option(
    "--config",
    type=U32,
    metavar="BITS",
    help="Which events: Async Event Configuration; by default all that the controller has.",
)
@output_option(NORMAL, JSON)
def events(
    device: str,
    count: int | None,
    timeout: float | None,
    config: int | None,
    output_format: str,
) -> None:
    """Print asynchronous events as they come, up to ctrl-C; as JSON one object a line.

    The log page that an event names is read, so that the next one of its kind can come.
    """
    until = math.inf if timeout is None else time.monotonic() + timeout
    seen = 0
    with opened(device) as controller, controller.events(config=config) as listened:
        while count is None or seen < count:
            left = until - time.monotonic()
            if left <= 0:
                break
            event = listened.wait(min(left, _LOOK_SECONDS))
            if event is None:
                _check_reader()
                continue
            seen += 1
            if output_format == JSON:
                print(json.dumps(_plain(event, device)), flush=True)
            else:
                print(event, flush=True)
    if count is not None and seen < count:
        raise Failure(f"{seen} of {count} events came within {timeout:g} s")


def _check_reader() -> None:
    """Raise ReaderGone where nobody can read what is printed next."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return  # no descriptor, as in a test
    if any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0)):
        raise ReaderGone


def _plain(event: Event, device: str) -> dict[str, Any]:
    """Give an event in JSON's types."""
    from pynvme_user.cli.pages import plain
    from pynvme_user.cli.shape import View
    from pynvme_user.spec.bits import named
    from pynvme_user.spec.events import AsyncEventType

    result = event.result
    kind = named(result.aet, AsyncEventType)
    return {
        "type": int(result.aet),
        "info": int(result.aei),
        "log_page": int(result.lid),
        "type_name": kind.lower() or None,
        "info_name": result.event.lower() or None,
        "log": None if event.log is None else plain(event.log, View(device=device)),
    }


COMMANDS = (events,)
