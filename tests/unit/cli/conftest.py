"""Runs the command in this process, on the controller of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click
import pytest
from click.testing import CliRunner, Result
from soft_controller import SoftController

import pynvme_user as nvme
from pynvme_user import Controller
from pynvme_user.cli.errors import describe
from pynvme_user.cli.group import cli
from pynvme_user.transport.pcie import PcieTransport

Run = Callable[..., tuple[str, int]]


@pytest.fixture
def run(soft: SoftController, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command on the controller of the test; give its output or error, and its code.

    The controller stays open from one command to the next.
    """
    with ExitStack() as controllers:
        opened: list[Controller] = []

        @contextmanager
        def open(*_: object, plain_cids: bool, **__: object) -> Iterator[Controller]:
            if not opened:
                made = Controller(PcieTransport(soft), plain_cids=plain_cids)
                opened.append(controllers.enter_context(made))
            yield opened[0]

        def run(*arguments: str) -> tuple[str, int]:
            done: Result = CliRunner().invoke(cli, [*arguments], standalone_mode=False)
            error = done.exception
            if error is None:
                return done.stdout, 0
            if isinstance(error, click.Abort) and error.__cause__ is not None:
                error = error.__cause__  # ctrl-C, which the program itself sees as it is
            return describe(error)

        monkeypatch.setattr(nvme, "open", open)
        yield run
