"""VFIO for a user who is not root, and whose group's node it is.

    ordinary_user.py ADDRESS USER

The controller is bound to vfio-pci. Each attempt is a process of USER's; prints one JSON object.
"""

import json
import os
import pwd
import resource
import sys
from pathlib import Path

from children import in_child

import pynvme_user as nvme
from pynvme_user import NvmeError


def attempt(device: str) -> dict[str, object]:
    """Open, write, read; say what came of it."""
    try:
        with nvme.open(device) as ctrl:
            ns = ctrl.namespaces[1]
            data = os.urandom(1 << 20)
            ns.write(0, data)
            same = bytes(ns.read(0, len(data) // ns.block_size)) == data
            return {"error": None, "text": "", "uid": os.getuid(), "same": same}
    except NvmeError as error:
        return {"error": type(error).__name__, "text": str(error), "uid": os.getuid()}


def as_user(name: str, memlock: int, device: str) -> dict[str, object]:
    """Run `attempt` in a process of that user with so many bytes of RLIMIT_MEMLOCK."""
    user = pwd.getpwnam(name)

    def attempt_as_user() -> dict[str, object]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (memlock, memlock))
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        return attempt(device)

    return in_child(attempt_as_user)


def main(address: str, name: str) -> None:
    group = Path(f"/sys/bus/pci/devices/{address}/iommu_group").readlink().name
    node = f"/dev/vfio/{group}"
    device = f"vfio:{address}"
    plenty, little = 64 << 20, 64 << 10
    os.chmod(node, 0o600)
    attempt(device)  # imports what the user may not be able to read
    result = {"node": node, "little": little, "root_s_node": as_user(name, plenty, device)}
    os.chown(node, pwd.getpwnam(name).pw_uid, -1)
    result["own_node"] = as_user(name, plenty, device)
    result["little_memlock"] = as_user(name, little, device)
    os.chown(node, 0, -1)
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
