"""What all tests share: the device under test, their order, and how hard hypothesis tries.

``--device NAME`` chooses the device; everything on it is overwritten. Tests under ``device/``
take their sizes from it, so that they run on any device.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import software_controller
from guest_runs import Pool, wanted
from hypothesis import HealthCheck, Phase, settings

import pynvme_user as nvme
from pynvme_user import Controller, Namespace
from pynvme_user.qemu import program

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job has ctrl-C ignored, and so would every command that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # likewise, under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

_COMMON = {
    # A device, and a machine with other work on it, has no constant speed.
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "max_examples": 40,
    # Where CI is set, Hypothesis itself would always draw the same.
    "derandomize": False,
}
settings.register_profile("dev", **_COMMON)
settings.register_profile("thorough", **_COMMON | {"max_examples": 3000})
settings.register_profile("guest", **_COMMON | {"max_examples": 10})
# For mutants.py: that a test fails is enough, the smallest example of it takes minutes.
_no_shrinking = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
settings.register_profile("mutants", **_COMMON | {"derandomize": True, "phases": _no_shrinking})
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


#: Controllers that differ in what decides the way of a transfer; whether with shadow doorbells.
VARIANTS: dict[str, tuple[str, bool]] = {
    "4096-byte blocks": ("size=256M&logical_block_size=4096", True),
    "MDTS of 16 KiB": ("size=256M&mdts=2", True),
    "no MDTS": ("size=256M&mdts=0", True),
    "one queue pair": ("size=256M&max_ioqpairs=1", True),
    "no shadow doorbells": ("size=256M", False),
}

TESTS = Path(__file__).parent
#: The quick ones of those that a driver's change is likeliest to break come first.
ORDER = ("device", "vfio_user", "unit", "cli", "guest")

_ran = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="qemu:",
        metavar="NAME",
        help="device to test, as pynvme_user.open() takes it; its data is lost (default: qemu:)",
    )


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks at it
def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed of the run's examples, so that it can be told."""
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.getrandbits(32))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        code = getattr(getattr(item, "function", None), "__code__", None)
        if code is not None and "until_right" in code.co_names:  # it takes the time
            item.add_marker("alone")
    folders = {item: ORDER.index(item.path.relative_to(TESTS).parts[0]) for item in items}
    items.sort(key=lambda item: (item.get_closest_marker("alone") is None, folders[item]))


@pytest.fixture(autouse=True)
def _guests_beside(request: pytest.FixtureRequest) -> None:
    """Let the guests run beside the tests from the first on that need not be alone."""
    if request.node.get_closest_marker("alone") is None:
        request.getfixturevalue("guest_pool")


def pytest_runtest_call(item: pytest.Item) -> None:
    global _ran
    _ran += "device_name" in getattr(item, "fixturenames", ())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    name = terminalreporter.config.getoption("--device").rstrip(":")
    terminalreporter.write_line(f"device {name}: {_ran} tests ran on it")
    if name.startswith("qemu") and (qemu := program.find()):
        terminalreporter.write_line(f"of QEMU {program.ask_version(qemu)}, {qemu}")
    seed = terminalreporter.config.getoption("--hypothesis-seed")
    terminalreporter.write_line(f"the same examples again: --hypothesis-seed={seed}")


@pytest.fixture(scope="session")
def guest_pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """The guests that the chosen tests want, which begin to run with the first who asks for it."""
    keys = [key for item in request.session.items for key in wanted(item)]
    return Pool(keys, lambda name: tmp_path_factory.mktemp(name))


@pytest.fixture(scope="session")
def device_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device under test. ``controller:`` is the repository's own, over vfio-user."""
    name: str = request.config.getoption("--device")
    if name.startswith("controller:"):
        with software_controller.served(name.partition(":")[2]) as (name, _):
            yield name
    else:
        yield name


@pytest.fixture(scope="session")
def qemu(device_name: str) -> None:
    """For tests that start their own device, for what only such a one can be made to do.

    What --device names makes no difference to them: they run where it is left out.
    """
    if not device_name.startswith("qemu:"):
        pytest.skip(
            "starts a device of its own, whatever --device is: it runs where that is left out"
        )


@pytest.fixture(scope="module")
def controller(device_name: str) -> Iterator[Controller]:
    """The open device, for the tests of one module."""
    with nvme.open(device_name) as ctrl:
        yield ctrl


@pytest.fixture(scope="module")
def ns(controller: Controller) -> Namespace:
    """The device's first namespace."""
    return controller.namespaces[min(controller.namespaces)]


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request: pytest.FixtureRequest, device_name: str) -> Iterator[Controller]:
    """Controllers of other properties, one after the other."""
    options, shadow = request.param
    scheme = "soft:" if device_name.startswith("soft:") else "qemu:"
    if scheme == "qemu:":
        request.getfixturevalue("qemu")
    elif shadow:
        options += "&shadow=1"
    with nvme.open(f"{scheme}?{options}", shadow_doorbells=shadow) as ctrl:
        yield ctrl
