"""The ctypes structures and ioctl numbers against the kernel's own headers."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pynvme_user.access import ioctl

#: What linux/vfio.h of Linux 6.1 lacks; compared only where the headers have it.
SINCE_6_6 = {"vfio_device_bind_iommufd", "vfio_device_attach_iommufd_pt"}
#: Grew a member at its end (pasid) in later kernels; argsz says which one is meant.
GROWS = {"vfio_device_attach_iommufd_pt", "vfio_device_bind_iommufd"}
#: Members that have other names in ctypes, or none in older headers.
LEFT_OUT = {"pad", "reserved"}

STRUCTURES = [
    kind
    for kind in vars(ioctl).values()
    if isinstance(kind, type) and issubclass(kind, ctypes.Structure)
]
CONSTANTS = {
    name: value
    for name, value in vars(ioctl).items()
    if name.startswith(("VFIO_", "IOMMU_")) and isinstance(value, int)
}


def compile_and_run(tmp_path: Path, header: str, source: str) -> dict[str, int]:
    """Compile a program that prints "name value" lines. Skips without compiler or header."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc")
    if not Path("/usr/include", header).exists():
        pytest.skip(f"no <{header}> here: install linux-libc-dev of Linux 6.2 or later")
    program = f"#include <stdio.h>\n#include <stddef.h>\n#include <{header}>\n" + (
        '#define SHOW(name, value) printf(name " %llu\\n", (unsigned long long)(value));\n'
        f"int main(void) {{\n{source}\n}}\n"
    )
    (tmp_path / "show.c").write_text(program)
    subprocess.run([compiler, "-o", tmp_path / "show", tmp_path / "show.c"], check=True)
    out = subprocess.run([tmp_path / "show"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in map(str.split, out.splitlines())}


@pytest.mark.parametrize(
    ("header", "prefix"), [("linux/vfio.h", "VFIO"), ("linux/iommufd.h", "IOMMU")]
)
def test_constants_are_the_kernels(tmp_path, header, prefix):
    ours = {name: value for name, value in CONSTANTS.items() if name.startswith(prefix + "_")}
    # An enumerator has no #ifdef, and those here are in every version of the headers.
    enumerators = [n for n in ours if n.endswith("_IRQ_INDEX") or "_IOAS_MAP_" in n]
    defines = [name for name in ours if name not in enumerators]
    lines = [f'SHOW("{name}", {name})' for name in enumerators]
    lines += [f'#ifdef {name}\nSHOW("{name}", {name})\n#endif' for name in defines]
    theirs = compile_and_run(tmp_path, header, "\n".join(lines))
    assert len(theirs) >= len(ours) - len(SINCE_6_6)
    assert theirs == {name: ours[name] for name in theirs}


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
def test_structures_are_the_kernels(tmp_path, kind):
    name = kind.__name__
    header = "linux/iommufd.h" if name.startswith("iommu_") else "linux/vfio.h"
    if name in SINCE_6_6 and f"struct {name} " not in Path("/usr/include", header).read_text():
        pytest.skip(f"these <{header}> have no {name}: install linux-libc-dev of Linux 6.6")
    members = [field[0] for field in kind._fields_ if field[0] not in LEFT_OUT]
    lines = [f'SHOW("sizeof", sizeof(struct {name}))']
    for member in members:
        lines.append(f'SHOW("{member}", offsetof(struct {name}, {member}))')
        lines.append(f'SHOW("{member}_size", sizeof(((struct {name} *)0)->{member}))')
    theirs = compile_and_run(tmp_path, header, "\n".join(lines))
    size = theirs.pop("sizeof")
    assert size >= ctypes.sizeof(kind) if name in GROWS else size == ctypes.sizeof(kind)
    for member in members:
        descriptor = getattr(kind, member)
        assert (theirs[member], theirs[f"{member}_size"]) == (descriptor.offset, descriptor.size)


def header(kind: int, following: int) -> bytes:
    return struct.pack("<HHI", kind, 1, following)


def test_a_capability_chain_is_followed():
    ranges = struct.pack("<II4Q", 2, 0, 0, 0xFEDF_FFFF, 0xFEF0_0000, (1 << 48) - 1)
    info = bytes(24) + header(3, 40) + b"avail678" + header(1, 0) + ranges
    found = dict(ioctl.capabilities(info, 24))
    assert found == {3: 32, 1: 48}
    assert ioctl.range_array(info, found[1]) == [
        (0, 0xFEDF_FFFF),
        (0xFEF0_0000, (1 << 48) - 1),
    ]


def test_no_capabilities_are_none():
    assert list(ioctl.capabilities(bytes(24), 0)) == []


@pytest.mark.parametrize(
    ("info", "offset"),
    [
        (bytes(24), 24),
        (bytes(24) + header(1, 30), 24),
        (bytes(24) + header(1, 24), 24),
        (bytes(24) + header(1, 8), 24),
    ],
    ids=["outside", "next outside", "to itself", "backwards"],
)
def test_a_broken_chain_ends_in_an_error(info, offset):
    with pytest.raises(ValueError, match="VFIO capability"):
        list(ioctl.capabilities(info, offset))


def test_a_count_beyond_the_info_is_an_error():
    with pytest.raises(ValueError, match="Buffer size too small"):
        ioctl.range_array(struct.pack("<II", 3, 0) + bytes(16), 0)
