"""How SPDK's jobs for fio name a device: ``trtype=PCIe traddr=0000.01.00.0 ns=1``."""

from __future__ import annotations

import re

from pynvme_user.bench.jobs.terms import JobError

#: Such a name in ``filename=``, up to the colon before the next one, if there is one.
NAME = (
    r"tr(?:type|addr)[=:]"
    r"(?:[^:]|(?<=trtype):|(?<=traddr):|(?<= ns):|:(?=[0-9a-f]{2}[:.]))*"
)
_NAME = re.compile(NAME, re.IGNORECASE)
_ADDRESS = re.compile(
    r"([0-9a-f]{1,8})[.:]([0-9a-f]{1,2})[.:]([01]?[0-9a-f])\.([0-7])", re.IGNORECASE
)
_KEYS = ("trtype", "traddr", "ns")


def device(name: str) -> tuple[str, int | None]:
    """Read one: the device's name here, and the namespace; None where it says none.

    Any other name is returned as it is. Raises JobError for one of what is not reached here.
    """
    if not _NAME.match(name):
        return name, None
    words = (re.fullmatch(r"(\w+)[=:](\S+)", word) for word in name.split())
    given = {found[1].lower() if found else "": found[2] if found else "" for found in words}
    address = _ADDRESS.fullmatch(given.get("traddr", ""))
    transport = given.get("trtype", "PCIe")
    if transport.lower() != "pcie":
        raise JobError(
            f"{name!r}: {transport} is not supported: devices are reached over PCIe, or named as "
            "vfio-user:/path/to/socket"
        )
    number = given.get("ns", "1")
    if address is None or set(given) - set(_KEYS) or not number.isdecimal():
        raise JobError(
            f"{name!r} is no device of SPDK's: write trtype=PCIe traddr=0000.01.00.0 ns=1, which "
            "is 0000:01:00.0 with nsid=1"
        )
    domain, bus, slot, function = address.groups()
    return f"{domain:0>4}:{bus:0>2}:{slot:0>2}.{function}", (int(number) if "ns" in given else None)
