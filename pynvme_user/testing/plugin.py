"""A plugin for pytest: fixtures for tests of programs that use the driver.

pytest finds it by itself once the package is installed. It imports the driver only when a test
asks for one of its fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

import pynvme_user as nvme

if TYPE_CHECKING:
    from pynvme_user import Controller, Namespace
    from pynvme_user.testing import SoftDevice

T = TypeVar("T")
_SOFT = "soft:"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--nvme-device``."""
    parser.getgroup("pynvme_user").addoption(
        "--nvme-device",
        default=_SOFT,
        metavar="NAME",
        help="NVMe device of the fixtures nvme_controller and nvme_namespace, as "
        "pynvme_user.open() takes it; the tests may overwrite it (default: soft:, a new software "
        "controller for each test)",
    )


def _opened(opens: Callable[[], T]) -> T:
    """Open a device; where that fails, end the test with the error's sentence alone."""
    try:
        return opens()
    except nvme.NvmeError as error:
        why = str(error)
    pytest.fail(why, pytrace=False)


@pytest.fixture
def nvme_device_name(request: pytest.FixtureRequest) -> str:
    """Tell what --nvme-device says. Override it, or parametrize it, for other devices."""
    name: str = request.config.getoption("--nvme-device")
    return name


@pytest.fixture
def soft_device(nvme_device_name: str) -> Iterator[SoftDevice]:
    """Make the software controller, to order faults of it; nvme_controller opens it, or the test.

    Where --nvme-device names another device the test is skipped.
    """
    if not nvme_device_name.startswith(_SOFT):
        pytest.skip(
            f"orders faults of the software controller, and --nvme-device is {nvme_device_name}: "
            "it runs where that is left out"
        )
    from pynvme_user.testing.device import SoftDevice

    device = _opened(lambda: SoftDevice(nvme_device_name.removeprefix(_SOFT)))
    yield device
    device.close()


@pytest.fixture
def nvme_controller(request: pytest.FixtureRequest, nvme_device_name: str) -> Iterator[Controller]:
    """Open the device for one test; it is closed behind it."""
    soft = nvme_device_name.startswith(_SOFT)
    device = request.getfixturevalue("soft_device") if soft else nvme_device_name
    with _opened(lambda: nvme.open(device)) as ctrl:
        yield ctrl


@pytest.fixture
def nvme_namespace(nvme_controller: Controller) -> Namespace:
    """Take the first active namespace of nvme_controller."""
    ids = list(nvme_controller.namespaces)
    if not ids:
        pytest.fail(
            f"{nvme_controller.name} has no active namespace: attach one, or name another device "
            "by --nvme-device",
            pytrace=False,
        )
    return nvme_controller.namespaces[ids[0]]
