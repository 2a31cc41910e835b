"""What one driver wrote, the other reads; and both show the same Identify pages.

    kernel_view.py ADDRESS

Begins with the controller under the kernel's nvme driver, and ends so. Without nvme-cli there are
no "kernel_pages". Prints one JSON object.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pynvme_user as nvme
from pynvme_user.host.binding import bind, restore

SIZE = 3 << 20
SEEK = 8  # MiB: where the second data goes
PAGES = ("id-ctrl", "id-ns")


def run(*command: str, **options: object) -> bytes:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **options).stdout


def block_device(address: str) -> str:
    """The kernel's name of the controller's namespace 1."""
    deadline = time.monotonic() + 120  # the kernel finds them after restore() returned
    while not (paths := list(Path(f"/sys/bus/pci/devices/{address}/nvme").glob("nvme*/nvme*n1"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (path,) = paths
    # Where it may have other controllers (CMIC) this is one path to it, such as nvme0c0n1.
    return f"/dev/{re.sub('c[0-9]+n', 'n', path.name)}"


def main(address: str) -> None:
    ours, theirs = Path("/tmp/ours"), Path("/tmp/theirs")
    theirs.write_bytes(os.urandom(SIZE))
    ours.write_bytes(os.urandom(SIZE))

    node = block_device(address)
    pages = {}
    if shutil.which("nvme"):
        pages = {page: json.loads(run("nvme", page, node, "-o", "json")) for page in PAGES}
    run("dd", f"if={theirs}", f"of={node}", "bs=1M", "oflag=direct", "status=none")

    bind(address)
    with nvme.open(f"vfio:{address}") as ctrl:
        ns = ctrl.namespaces[1]
        read = ns.read(0, SIZE // ns.block_size) == theirs.read_bytes()
        ns.write((SEEK << 20) // ns.block_size, ours.read_bytes())
        ns.flush()
    our_pages = {
        page: json.loads(run("nvme-user", page, f"vfio:{address}", "-o", "json")) for page in PAGES
    }

    restored = restore(address)
    node = block_device(address)
    dd = ("dd", f"if={node}", "bs=1M", f"count={SIZE >> 20}", "iflag=direct", "status=none")
    written = subprocess.run(["cmp", "-", str(ours)], input=run(*dd, f"skip={SEEK}"), check=False)
    kept = subprocess.run(["cmp", "-", str(theirs)], input=run(*dd), check=False)
    result = {
        "driver_after_restore": restored,
        "kernel_to_ours": read,
        "ours_to_kernel": written.returncode == 0,
        "kernel_data_kept": kept.returncode == 0,
        "kernel_pages": pages,
        "our_pages": our_pages,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
