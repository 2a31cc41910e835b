"""Runs in a guest: binds the NVMe controller to a driver and runs the device tests over it.

    python run_device_tests.py FOLDER DRIVER NAME=DEVICE...

For each device name (an access and its way of waiting) the results go to FOLDER/NAME.xml. With
interrupts those tests run that wait: the first run, which polls, has run all.
"""

import os
import subprocess
import sys
from pathlib import Path

# Imported once for the processes that are forked below: it takes a guest many seconds.
import hypothesis  # noqa: F401
import pytest

import pynvme_user.driver.controller  # noqa: F401
from pynvme_user.host.binding import bound

ADDRESS = "0000:00:04.0"
MODULES = {
    "vfio-pci": ["vfio-pci", "vfio_iommu_type1"],
    "uio_pci_generic": ["uio_pci_generic"],
}


def main(folder: str, driver: str, *accesses: str) -> None:
    for module in MODULES[driver]:
        subprocess.run(["modprobe", module], check=True)
    with bound(ADDRESS, driver):
        for access in accesses:
            name, _, device = access.partition("=")
            child = os.fork()
            if not child:
                os._exit(run_tests(device, Path(folder, f"{name}.xml")))
            os.waitpid(child, 0)  # the results say it


def run_tests(device: str, results: Path) -> int:
    """Run the device tests in this process; return pytest's exit code."""
    tests = str(Path(__file__).parents[1] / "device")
    some = ["-m", "waits"] if "interrupts=" in device else []
    shown = ["-q", "--junit-xml", str(results), "-p", "no:cacheprovider"]
    code = pytest.main([tests, "--device", device, *some, *shown])
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
