"""The whole of tests/device over every real access, in guests.

Two guests run side by side: one with an IOMMU for VFIO, one without for UIO. Each runs the device
tests once for each way of waiting.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from pynvme_user.qemu.guest import Guest, GuestResult

pytestmark = pytest.mark.guest

ADDRESS = "0000:00:04.0"
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
DRIVERS = {name: driver for driver, names in ACCESSES.items() for name in names}

#: What may be skipped on a device that is not QEMU without a guest.
ALLOWED_SKIP = "--device is"


Runs = Mapping[str, tuple[Path, Future[GuestResult]]]


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = {driver: tmp_path_factory.mktemp(driver) for driver in ACCESSES}

    def run(driver: str) -> GuestResult:
        names = [f"{name}={device}" for name, device in ACCESSES[driver].items()]
        script = Path(__file__).with_name("run_device_tests.py")
        return Guest(
            [sys.executable, str(script), str(folder[driver]), driver, *names],
            iommu=driver == "vfio-pci",
            share=folder[driver],
            timeout=840,
        ).run()

    pool = ThreadPoolExecutor()
    runs = {driver: (folder[driver], pool.submit(run, driver)) for driver in ACCESSES}
    pool.shutdown(wait=False)
    return runs


@pytest.mark.parametrize("access", DRIVERS)
def test_device_tests_pass(
    access: str,
    guests: Runs,
    report: list[str],
) -> None:
    folder, run = guests[DRIVERS[access]]
    result = run.result()
    suite = ET.parse(folder / f"{access}.xml").getroot().find("testsuite")
    assert suite is not None, result.output
    total, failed, skipped = (int(suite.get(key, "0")) for key in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", "0"))
    report.append(
        f"guest, {access}: {total - failed - skipped} passed, {failed} failed, "
        f"{skipped} skipped in {float(suite.get('time', '0')):.0f} s"
    )
    assert failed == 0, result.output
    assert total - skipped > 50
    reasons = [skip.get("message", "") for skip in suite.iter("skipped")]
    assert all(ALLOWED_SKIP in reason for reason in reasons), reasons
