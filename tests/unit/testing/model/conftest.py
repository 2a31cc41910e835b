"""Controllers of the model, in both ways to execute commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.testing import SoftDevice


@pytest.fixture(params=["", "&inline=1"], ids=["thread", "inline"])
def device(request: pytest.FixtureRequest) -> SoftDevice:
    return SoftDevice(f"?size=1M&capacity=4M&commands=all{request.param}")


@pytest.fixture
def ctrl(device: SoftDevice) -> Iterator[Controller]:
    with nvme.open(device, timeout=5) as ctrl:
        yield ctrl


@pytest.fixture
def ns(ctrl: Controller) -> Namespace:
    return ctrl.namespaces[1]
