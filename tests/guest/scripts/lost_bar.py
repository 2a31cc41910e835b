"""A BAR that the kernel takes away: what was a load or a store becomes a SIGBUS.

    lost_bar.py ADDRESS

The controller is bound to vfio-pci, which takes the mapping away while the function does not
decode memory, as after an error that its slot recovers from. Prints one JSON object.
"""

import json
import sys

import pynvme_user as nvme
from pynvme_user import DeviceRemovedError
from pynvme_user.access.base import RegionIndex
from pynvme_user.access.regions import PCI_COMMAND, PCI_COMMAND_MEMORY


def main(address: str) -> None:
    result: dict[str, object] = {}
    with nvme.open(f"vfio:{address}") as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(0, b"kept".ljust(4096, b"!"))
        with ctrl.queue_pair(depth=4) as pair:
            buffer = ctrl.alloc(4096)
            config = ctrl.transport.access.region(RegionIndex.CONFIG)
            command = config.read(PCI_COMMAND, 2)
            config.write(PCI_COMMAND, 2, command & ~PCI_COMMAND_MEMORY)
            pair.submit_read(ns, 0, 4096 // ns.block_size, buffer)
            calls = {
                "wait": pair.wait,  # stores to the doorbell
                "read": lambda: ns.read(0, 8),
                "identify": lambda: ctrl.identify_page(1),
            }
            for name, call in calls.items():
                try:
                    result[name] = f"returned {call()!r}"
                except DeviceRemovedError:
                    result[name] = "removed"
        result["register"] = ctrl.transport.access.registers.read(0x08, 4)
    with nvme.open(f"vfio:{address}") as ctrl:
        result["works_again"] = bytes(ctrl.namespaces[1].read(0, 8)).startswith(b"kept!")
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
