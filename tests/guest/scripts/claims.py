"""A second process wants a device that the first one has.

    claims.py DEVICE

Prints one JSON object.
"""

import json
import os
import sys
import warnings

from children import in_child

import pynvme_user as nvme
from pynvme_user import DeviceBusyError
from pynvme_user.errors import UnsafeAccessWarning


def second(device: str) -> dict[str, object]:
    try:
        nvme.open(device).close()
    except DeviceBusyError as error:
        return {"refused": str(error), "holder": error.holder}
    return {"refused": None, "holder": None}


def main(device: str) -> None:
    warnings.simplefilter("ignore", UnsafeAccessWarning)
    with nvme.open(device) as ctrl:
        ns = ctrl.namespaces[1]
        ns.write(0, b"first".ljust(4096, b"!"))
        other = in_child(lambda: second(device))
        itself = second(device)
        works = bytes(ns.read(0, 8)).startswith(b"first!")
    freed = in_child(lambda: second(device))
    result = {"pid": os.getpid(), "other": other, "itself": itself, "works": works, "freed": freed}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
