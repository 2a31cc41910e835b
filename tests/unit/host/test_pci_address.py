"""A PCI address: how it may be written, and that one place says so."""

import re
from pathlib import Path

import pytest

from pynvme_user.bench.jobs.readers import filenames
from pynvme_user.errors import DeviceNameError
from pynvme_user.host.pci import parse_name
from pynvme_user.host.sysfs import PciFunction, pci_address

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:01:00.0", "0000:01:00.0"),
        ("01:00.0", "0000:01:00.0"),
        ("AB:1F.7", "0000:ab:1f.7"),
        ("10000:E1:00.0", "10000:e1:00.0"),
        ("0000:01:20.0", None),
        ("0000:01:00.8", None),
        ("000:01:00.0", None),
        ("123456789:01:00.0", None),
        ("0000:01:00.0\n", None),
        (" 01:00.0", None),
        ("", None),
    ],
)
def test_addresses(text: str, address: str | None) -> None:
    assert pci_address(text) == address
    if address is None:
        with pytest.raises(DeviceNameError):
            parse_name(text)
        return
    assert parse_name(text) == (None, address)
    assert parse_name(f"VFIO:{text}?a=b") == ("vfio", address)
    assert filenames(f"{text}:uio:{text}?a=b:qemu:") == (text, f"uio:{text}?a=b", "qemu:")
    if text != address:
        with pytest.raises(DeviceNameError, match="lower-case"):
            PciFunction(text)


def test_one_place_says_what_an_address_is() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("pynvme_user", "cli", "benchmarks", "qemu")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\{2\}:\[01\]", path.read_text(encoding="utf-8"))
    ]
    assert found == ["pynvme_user/host/sysfs.py"]
