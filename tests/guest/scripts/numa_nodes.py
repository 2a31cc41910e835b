"""On which of two NUMA nodes the memory of queues and buffers lies.

    numa_nodes.py DEVICE

The controller is bound to its driver; the firmware says of no node, so that this script does. One
JSON object. Nodes are given as {node: pages}, of pages of 4 KiB.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

import queues

import pynvme_user as nvme
from pynvme_user import Controller, DmaError, Namespace, QueuePair
from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.run import engine
from pynvme_user.dma import DmaBuffer, address_of
from pynvme_user.host.numa import HUGEPAGES, Placement

PAGE = 4096
MIB = 1 << 20
MOVE_PAGES = 279  # x86-64; without nodes to move to it tells where the pages are

libc = ctypes.CDLL(None, use_errno=True)


def nodes(*buffers: DmaBuffer) -> dict[int, int]:
    """Tell on which nodes the pages of buffers lie, as the kernel tells by their addresses."""
    found: Counter[int] = Counter()
    for buffer in buffers:
        count = -(-buffer.nbytes // PAGE)
        pages = (ctypes.c_void_p * count)(*(address_of(buffer) + n * PAGE for n in range(count)))
        status = (ctypes.c_int * count)()
        err = libc.syscall(MOVE_PAGES, 0, ctypes.c_ulong(count), pages, None, status, 0)
        assert err == 0, os.strerror(ctypes.get_errno())
        found.update(status)
    return dict(found)


def queue_nodes(pair: QueuePair) -> dict[int, int]:
    return nodes(pair.queue.sq, pair.queue.cq, pair.queue.prp_lists)


def policies() -> dict[str, list[int]]:
    """For each placement of DMA memory its pages on node 0 and on node 1, by numa_maps."""
    found: dict[str, list[int]] = {}
    for line in Path("/proc/self/numa_maps").read_text().splitlines():
        # Of memory that goes while the kernel writes the line there is no size.
        size_kb = re.search(r"kernelpagesize_kB=(\d+)", line)
        if "memfd:pynvme_user" not in line or size_kb is None:
            continue
        size = int(size_kb[1]) // 4
        pages = dict(re.findall(r"\bN(\d)=(\d+)", line))
        counts = found.setdefault(line.split()[1], [0, 0])
        for node in (0, 1):
            counts[node] += int(pages.get(str(node), 0)) * size
    return found


def refusal(ctrl: Controller, length: int, node: int) -> str:
    try:
        ctrl.alloc(length, node=node)
    except DmaError as error:
        return str(error)
    return ""


def benchmark(device: str, **options: str) -> dict[str, list[int]]:
    """Run a job of these options; tell what its DMA memory was like.

    The job is long enough for the engine to show its progress, which it does twice a second.
    """
    seen: dict[str, list[int]] = {}
    given = {"rw": "randread", "bs": "64k", "iodepth": "64", "runtime": "1500ms", "time_based": "1"}
    job, _ = JobBuilder([("filename", device), *given.items(), *options.items()]).job("job")
    result = engine.run([job], watch=lambda progress: seen.update(policies()))
    assert result.ok, result
    return seen


def workers(ns: Namespace) -> dict[int, list[dict[int, int]]]:
    """For each CPU, where the queues and the buffer are of benchmarks/queues.py's thread on it."""
    buffers = queues.Buffers(ns.controller, 64)
    before = os.sched_getaffinity(0)
    found = {}
    for cpu in sorted(before):
        worker = queues.Worker.on(cpu, ns, 64, buffers)
        found[cpu] = [queue_nodes(worker.pair), nodes(worker.buffer)]
        worker.pair.close()
    os.sched_setaffinity(0, before)
    return found


def set_hugepages(node: int, count: int) -> None:
    Path(HUGEPAGES.format(node, 2048, "nr_hugepages")).write_text(str(count))


def main(device: str) -> None:
    function = Path("/sys/bus/pci/devices", device.partition(":")[2])
    (function / "numa_node").write_text("1")
    facts: dict[str, object] = {}
    with nvme.open(device) as ctrl:
        ns = ctrl.namespaces[1]
        facts["admin queue"] = queue_nodes(ctrl._admin)
        facts["by default"] = nodes(ctrl.alloc(8 * MIB))
        for node in (0, 1):
            buffer = ctrl.alloc(3 * MIB, node=node)
            with ctrl.queue_pair(64, node=node) as pair:
                facts[f"buffer on {node}"] = nodes(buffer)
                facts[f"queue on {node}"] = queue_nodes(pair)
                lbas = range(0, 8 * 384, 8)
                facts[f"reads on {node}"] = int(
                    (pair.read_many(ns, lbas, 8, buffer).status == 0).sum()
                )
            del buffer
        facts["workers by CPU"] = workers(ns)
        facts["unknown node"] = refusal(ctrl, PAGE, 5)
        facts["more than the node has"] = refusal(ctrl, 3 << 30, 1)
        if device.startswith("vfio:"):
            both = Placement("interleave", frozenset({0, 1}))
            facts["interleaved"] = nodes(ctrl.alloc(16 * MIB, node=both))
            # Hugepages that are reserved are anywhere: the first touch of one would be a SIGBUS.
            set_hugepages(0, 1)
            facts["few hugepages"] = nodes(ctrl.alloc(8 * MIB, node=0))
            set_hugepages(0, 32)
        else:
            set_hugepages(0, 0)
            facts["no hugepages"] = refusal(ctrl, MIB, 0)
            set_hugepages(0, 32)
    facts["job on the CPU of node 0"] = benchmark(device, cpus_allowed="0")
    facts["job on node 0, memory on 1"] = benchmark(
        device, numa_cpu_nodes="0", numa_mem_policy="bind:1"
    )
    facts["job anywhere"] = benchmark(device)
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
