"""Runs in a guest: binds the NVMe controller to a driver and runs device tests over it.

    python run_device_tests.py FOLDER DRIVER NAME=DEVICE...

For each device name (an access and its way of waiting) the results go to FOLDER/NAME.xml.
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

#: What runs over an access, of tests/device. All else there makes devices of its own.
#: How a wait ends: over each access with each kind of interrupt it has.
WAITS = (
    "test_commands.py",
    "test_queue_pairs.py",
    "test_recovery.py",
    "test_removal.py",
    "test_threads.py",
)
#: What an access gives and takes back: memory, mappings, registers, a reset, a process's end.
#: Over UIO with polling nothing else runs: queue pairs and threads do with its interrupts.
ACCESS = (
    "test_commands.py",
    "test_lifecycle.py",
    "test_memory_given_back.py",
    "test_memory_of_the_device.py",
    "test_pages_and_registers.py",
    "test_recovery.py",
    "test_removal.py",
    "test_transfers.py",
    "test_typed_commands.py",
)
#: ctrl-C at each line of the driver is the same over every access: it runs on the host. One at any
#: time may hit an ioctl.
SIGNALS = "test_interrupted_queues.py::test_signals_at_any_time"
TESTS = {
    "vfio-polled": (*dict.fromkeys((*ACCESS, *WAITS)), SIGNALS),
    "uio-polled": ACCESS,
    "vfio-msix": WAITS,
    "vfio-intx": WAITS,
    "uio-interrupts": WAITS,
}


def main(folder: str, driver: str, *accesses: str) -> None:
    # What an example of a property adds here, the host has already tried.
    os.environ["HYPOTHESIS_PROFILE"] = "guest"
    for module in MODULES[driver]:
        subprocess.run(["modprobe", module], check=True)
    with bound(ADDRESS, driver):
        for access in accesses:
            name, _, device = access.partition("=")
            child = os.fork()
            if not child:
                os._exit(run_tests(name, device, Path(folder, f"{name}.xml")))
            os.waitpid(child, 0)  # the results say it


def run_tests(name: str, device: str, results: Path) -> int:
    """Run an access's tests in this process; return pytest's exit code."""
    folder = Path(__file__).parents[1] / "device"
    tests = [str(folder / test) for test in TESTS[name]]
    shown = ["-q", "--junit-xml", str(results), "-p", "no:cacheprovider"]
    code = pytest.main([*tests, "--device", device, *shown])
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
