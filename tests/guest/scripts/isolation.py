"""What the IOMMU keeps a device from, and what is given back: mappings, locked memory, hugepages.

    isolation.py ADDRESS

The controller is bound to vfio-pci. One JSON object a line, by its "step".
"""

import ctypes
import json
import mmap
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import pynvme_user as nvme
from pynvme_user import Controller, DmaError
from pynvme_user.access import ioctl
from pynvme_user.spec.commands import SQE, NvmOpcode

PAGE = 4096
CANARIES = 256
VFIO_IOMMU_TYPE1_INFO_CAP_DMA_AVAIL = 3  # linux/vfio.h: a u32 follows the header


def report(step: str, **facts: object) -> None:
    print(json.dumps({"step": step, **facts}), flush=True)


# What the kernel counts


def available_mappings(container: int) -> int:
    """How many mappings the container still allows."""
    data = ioctl.call_with_capabilities(
        container, ioctl.VFIO_IOMMU_GET_INFO, ioctl.vfio_iommu_type1_info()
    )
    info = ioctl.vfio_iommu_type1_info.from_buffer_copy(data)
    for kind, offset in ioctl.capabilities(data, info.cap_offset):
        if kind == VFIO_IOMMU_TYPE1_INFO_CAP_DMA_AVAIL:
            return ctypes.c_uint32.from_buffer_copy(data, offset).value
    raise LookupError("the kernel does not tell how many mappings are left")


def memory() -> dict[str, int]:
    """Locked memory of this process in KiB, free hugepages, and pages pinned by anybody."""
    Path("/proc/sys/vm/stat_refresh").write_text("1")  # each CPU counts apart, up to a point
    status = Path("/proc/self/status").read_text()
    pins = dict(re.findall(r"nr_foll_pin_(\w+) (\d+)", Path("/proc/vmstat").read_text()))
    free = re.search(r"HugePages_Free:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert free is not None
    return {
        "locked": sum(int(size) for size in re.findall(r"Vm(?:Lck|Pin):\s+(\d+)", status)),
        "hugepages": int(free[1]),
        "pinned": int(pins["acquired"]) - int(pins["released"]),
    }


def vfio_descriptors() -> dict[str, int]:
    """Copies of this process's descriptors of VFIO's container and group, which keep them open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
        if path.startswith("/dev/vfio/"):
            found["container" if path == "/dev/vfio/vfio" else "group"] = os.dup(int(name))
    return found


# The steps


def physical_address(address: int) -> int:
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entry = os.pread(pagemap.fileno(), 8, address // PAGE * 8)
    return (int.from_bytes(entry, "little") & (1 << 55) - 1) * PAGE


def unmapped_address(ctrl: Controller) -> None:
    """Aim raw commands at the physical address of memory that was never mapped for the device."""
    ns = ctrl.namespaces[1]
    blocks = PAGE // ns.block_size
    ns.write(0, b"\xaa" * PAGE)
    ns.write(blocks, b"\x55" * PAGE)
    area = mmap.mmap(-1, CANARIES * PAGE)
    canaries = np.frombuffer(area, np.uint8)
    canaries[:] = np.arange(canaries.size, dtype=np.uint32) * 2654435761 >> 24
    before = canaries.tobytes()
    middle = physical_address(canaries.ctypes.data + CANARIES // 2 * PAGE)
    assert all(not first <= middle < last for first, last in mapped_ranges(ctrl))

    subprocess.run(["dmesg", "--clear"], check=True)
    with ctrl.queue_pair(depth=4) as pair:
        statuses = {}
        for opcode, lba in ((NvmOpcode.READ, 0), (NvmOpcode.WRITE, blocks)):
            command = SQE.build(opc=opcode, nsid=1, prp1=middle, cdw10=lba, cdw12=blocks - 1)
            pair.submit(command)
            (done,) = pair.drain()
            statuses[opcode.name] = int(done.status)
    faults = re.findall(
        r"DMAR: \[DMA (Read|Write).*?\[([0-9a-f:.]+)\] fault addr (0x[0-9a-f]+)",
        subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout,
    )
    report(
        "unmapped address",
        iova=middle,
        faults=[[kind, device, int(address, 16)] for kind, device, address in faults],
        statuses=statuses,
        memory_unharmed=canaries.tobytes() == before,
        leaked_to_disk=bytes(ns.read(blocks, blocks)) in before,
        works_after=bytes(ns.read(0, blocks)) == b"\xaa" * PAGE,
    )


def mapped_ranges(ctrl: Controller) -> list[tuple[int, int]]:
    regions = ctrl.transport.access._dma._mapped.values()  # type: ignore[attr-defined]
    return [(region.iova, region.iova + region.length) for region in regions]


def buffers(ctrl: Controller, container: int) -> None:
    """Buffers of all sizes come and go, and with them their mappings and locked memory."""
    ns = ctrl.namespaces[1]
    ns.read(0, 8)  # what the first transfer makes stays: a queue pair
    before, locked = available_mappings(container), memory()["locked"]
    held = [ctrl.alloc(size) for size in (3 << 20, 2 << 20, 5 << 20, PAGE)]
    own = mmap.mmap(-1, 16 * PAGE)
    brought = np.frombuffer(own, np.uint8)
    region = ctrl.transport.access.map_dma(brought.ctypes.data, brought.nbytes)
    during, locked_during = available_mappings(container), memory()["locked"]
    ctrl.transport.access.release_dma(region)
    held.clear()
    report(
        "buffers",
        mapped=before - during,
        left=before - available_mappings(container),
        locked=locked_during - locked,
        locked_left=memory()["locked"] - locked,
    )


def every_mapping(ctrl: Controller, container: int) -> None:
    """Use up all mappings that the kernel allows, then give them back."""
    ns = ctrl.namespaces[1]
    page = mmap.mmap(-1, PAGE)
    address = np.frombuffer(page, np.uint8).ctypes.data
    before, locked = available_mappings(container), memory()["locked"]
    total = before + len(mapped_ranges(ctrl))
    regions, refusal, buffer_refusal = [], "", ""
    start = time.monotonic()
    try:
        while len(regions) <= total:
            regions.append(ctrl.transport.access.map_dma(address, PAGE))
    except DmaError as error:
        refusal = str(error)
    mapped = time.monotonic()
    at_limit = available_mappings(container)
    try:
        ctrl.alloc(8 << 20)
    except DmaError as error:
        buffer_refusal = str(error)
    works_at_limit = bytes(ns.read(0, 8)) == b"\xaa" * PAGE
    again = time.monotonic()
    for region in regions:
        ctrl.transport.access.release_dma(region)
    released = time.monotonic()
    ctrl.alloc(8 << 20)
    report(
        "every mapping",
        total=total,
        mapped=len(regions),
        before=before,
        at_limit=at_limit,
        after=available_mappings(container),
        locked_left=memory()["locked"] - locked,
        refusal=refusal,
        buffer_refusal=buffer_refusal,
        works_at_limit=works_at_limit,
        works_after=bytes(ns.read(0, 8)) == b"\xaa" * PAGE,
        map_seconds=round(mapped - start, 1),
        unmap_seconds=round(released - again, 1),
    )


def main(address: str) -> None:
    before = memory()
    with nvme.open(f"vfio:{address}") as ctrl:
        copies = vfio_descriptors()
        container = copies["container"]
        unmapped_address(ctrl)
        buffers(ctrl, container)
        every_mapping(ctrl, container)
        kept = ctrl.alloc(3 << 20)  # nobody frees it before the end
        during = memory()
        limit = available_mappings(container) + len(mapped_ranges(ctrl))
    # The copies still hold the container and its group: what is unmapped now, close() unmapped.
    after = available_mappings(container)
    kept.fill(1)  # it may still be looked at, and is no longer the device's
    unmapped = memory()
    for copy in copies.values():
        os.close(copy)
    del kept
    report(
        "close",
        limit=limit,
        available=after,
        before=before,
        during=during,
        unmapped=unmapped,
        after=memory(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
