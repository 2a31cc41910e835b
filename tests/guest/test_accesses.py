"""The device tests over every real access, in guests.

There are two: one with an IOMMU for VFIO, one without for UIO. Each runs with polling what depends
on the access, and once for each kind of interrupt the tests that wait: run_device_tests.py has
which they are.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from guest_runs import guest_run
from run_device_tests import TESTS

from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest, GuestResult

pytestmark = pytest.mark.guest

ADDRESS = "0000:00:04.0"
MIB = 1 << 20
ACCESSES = {
    "vfio-pci": {
        "vfio-polled": f"vfio:{ADDRESS}",
        "vfio-msix": f"vfio:{ADDRESS}?interrupts=msix",
        "vfio-intx": f"vfio:{ADDRESS}?interrupts=intx",
    },
    "uio_pci_generic": {
        "uio-polled": f"uio:{ADDRESS}",
        "uio-interrupts": f"uio:{ADDRESS}?interrupts=intx",
    },
}

#: On the host alone, though their device is that of --device: what they do needs no access.
HOST = {"test_data_placement.py", "test_served.py", "test_vector_kinds.py"}

#: More tests than this pass, as the device may lack a command.
AT_LEAST = {"vfio-polled": 110, "uio-polled": 80}

#: What may be skipped on a device that is not QEMU without a guest.
ALLOWED_SKIPS = ("--device is", "this device has no ")


@guest_run(seconds=250, params=ACCESSES)
def device_tests(share: Path, driver: str) -> tuple[Path, GuestResult]:
    """The folder with the results of each access, as JUnit's XML, and what the guest came to."""
    names = [f"{name}={device}" for name, device in ACCESSES[driver].items()]
    script = str(Path(__file__).with_name("run_device_tests.py"))
    result = Guest(
        [sys.executable, script, str(share), driver, *names],
        iommu=driver == "vfio-pci",
        nvme=[NvmeDisk(pmr=MIB, properties={"cmb_size_mb": "2"})],
        share=share,
        timeout=2400,
    ).run()
    return share, result


@pytest.mark.parametrize(
    ("device_tests", "access"),
    [(driver, access) for driver, accesses in ACCESSES.items() for access in accesses],
    indirect=["device_tests"],
    ids=[access for accesses in ACCESSES.values() for access in accesses],
)
def test_device_tests_pass(
    device_tests: tuple[Path, GuestResult], access: str, report: list[str]
) -> None:
    folder, result = device_tests
    suite = ET.parse(folder / f"{access}.xml").getroot().find("testsuite")
    assert suite is not None, result.output
    total, failed, skipped = (int(suite.get(key, "0")) for key in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", "0"))
    report.append(
        f"guest, {access}: {total - failed - skipped} passed, {failed} failed, "
        f"{skipped} skipped in {float(suite.get('time', '0')):.0f} s"
    )
    assert failed == 0, result.output
    assert total - skipped > AT_LEAST.get(access, 60)
    reasons = [skip.get("message", "") for skip in suite.iter("skipped")]
    assert all(any(why in reason for why in ALLOWED_SKIPS) for reason in reasons), reasons


def test_none_that_runs_on_any_device_is_left_out(request: pytest.FixtureRequest) -> None:
    """Of a file that is not told to guests, each test makes its device itself, or needs none."""
    told = {test.partition("::")[0] for tests in TESTS.values() for test in tests}
    own = {"qemu", "variant"}  # fixtures
    items = [item for item in request.session.items if item.path.parent.name == "device"]
    if not items:
        pytest.skip("looks at the tests of tests/device, of which none was chosen")
    files = {
        item.path.name
        for item in items
        if "device_name" in item.fixturenames and not own & set(item.fixturenames)
    }
    assert files - told == HOST
