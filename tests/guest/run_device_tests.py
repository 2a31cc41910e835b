"""Runs in a guest: binds the NVMe controller to a driver and runs the device tests over it.

    python run_device_tests.py FOLDER DRIVER NAME=DEVICE...

For each device name (an access and its way of waiting) the results go to FOLDER/NAME.xml.
"""

import subprocess
import sys
from pathlib import Path

from pynvme_user.binding import bound

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
            run_tests(device, Path(folder, f"{name}.xml"))


def run_tests(device: str, results: Path) -> None:
    here = Path(__file__).parent
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", str(here.parent / "device")),
            *("--device", device, "--junit-xml", str(results), "-p", "no:cacheprovider"),
        ],
        check=False,  # the results say it
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
