"""Placing memory on NUMA nodes: on this machine's nodes, whatever their number."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pynvme_user.access.memory import (
    PAGE_SIZE,
    allocate,
    map_shared,
    memory_file,
    populate,
    unmap,
)
from pynvme_user.errors import DmaError
from pynvme_user.host.hugepages import hugepages
from pynvme_user.host.numa import (
    Placement,
    cpus_of,
    format_list,
    free_hugepages,
    memory_nodes,
    near,
    near_cpus,
    parse_list,
)

HUGE = 2 << 20
LENGTH = 64 * PAGE_SIZE

pytestmark = pytest.mark.skipif(
    not memory_nodes(), reason="this kernel has no NUMA support (/sys/devices/system/node)"
)


def policy(address: int) -> tuple[str, dict[int, int]]:
    """Tell the policy of the mapping that begins at an address, and its pages by node."""
    for line in Path("/proc/self/numa_maps").read_text().splitlines():
        start, what, *_ = line.split()
        if int(start, 16) == address:
            return what, {
                int(node): int(count) for node, count in re.findall(r"N(\d+)=(\d+)", line)
            }
    raise LookupError(f"nothing is mapped at {address:#x}")


@pytest.mark.parametrize("mode", ["bind", "prefer", "interleave"])
def test_all_pages_are_there_and_placed(mode):
    node = min(memory_nodes())
    memory = allocate(LENGTH, Placement(mode, frozenset({node})))
    assert policy(memory.address) == (f"{mode}:{node}", {node: LENGTH // PAGE_SIZE})
    assert ctypes.string_at(memory.address, LENGTH) == bytes(LENGTH)


def test_without_a_placement_the_kernel_chooses():
    memory = allocate(LENGTH)
    assert policy(memory.address)[0] == "default"
    assert sum(policy(memory.address)[1].values()) == LENGTH // PAGE_SIZE


def test_hugepages_are_placed():
    node = min(memory_nodes())
    free = free_hugepages(HUGE, {node})
    assert hugepages(Placement("bind", frozenset({node}))).get(HUGE, 0) == free
    assert sum(free_hugepages(HUGE, {node}) for node in memory_nodes()) == hugepages().get(HUGE, 0)
    if not free:
        pytest.skip("no free hugepages of 2 MiB: sudo sysctl vm.nr_hugepages=4")
    memory = allocate(HUGE, Placement.on(node))
    assert memory.page_size == HUGE
    assert policy(memory.address) == (f"bind:{node}", {node: 1})


def test_a_node_without_memory_is_an_error_also_beside_one_that_has():
    there, missing = min(memory_nodes()), max(memory_nodes()) + 1
    gc.collect()  # what other tests left
    for nodes in ({missing}, {there, missing}):
        before = Path("/proc/self/maps").read_text().count("memfd:")
        with pytest.raises(DmaError, match=f"may use are {format_list(memory_nodes())}, so choose"):
            allocate(LENGTH, Placement("bind", frozenset(nodes)))
        assert Path("/proc/self/maps").read_text().count("memfd:") == before


def test_more_than_a_node_has():
    refused = r"1 PiB .* bind:\d+, where .* are available: use small"  # where there are others
    alone = r"a buffer of 1 PiB is more memory than the .* that are available: ask for less"
    with pytest.raises(DmaError, match=f"{refused}|{alone}"):
        allocate(1 << 50, Placement.on(min(memory_nodes())))


# Loaded into a process of its own: BPF that lets mbind (237 on x86-64) fail with an errno.
FILTER = """
import ctypes, struct, sys
program = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 237,
                      6, 0, 0, 0x50000 | int(sys.argv[1]), 6, 0, 0, 0x7fff0000)
buffer = ctypes.create_string_buffer(program)
head = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head, 0, 0) == 0
from pynvme_user.access.memory import allocate
from pynvme_user.host.hugepages import hugepages
from pynvme_user.host.numa import Placement, memory_nodes
try:
    allocate(4096, Placement.on(min(memory_nodes())))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EPERM, r"forbidden here, .* start this one with `--cap-add SYS_NICE`"),
        (errno.ENOSYS, r"no NUMA support, so leave the placement out"),
        (errno.EFAULT, r"\(Bad address\): release buffers, and see `dmesg`"),
    ],
)
def test_a_refusal_of_the_kernel_names_the_remedy(number, remedy):
    done = subprocess.run(
        [sys.executable, "-c", FILTER, str(number)], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(rf"DmaError 4 KiB .* placed by bind:\d+.*{remedy}.*\n", done.stdout)


def test_nothing_is_done_where_it_makes_no_difference():
    nodes = memory_nodes()
    assert near(()) is None
    assert near(nodes) is None or len(nodes) == 1
    assert near({max(nodes) + 1}) is None
    cpus = cpus_of(min(nodes))
    if len(nodes) == 1:
        assert near(nodes) is None
        assert near_cpus(cpus) is None
    else:
        assert near_cpus(cpus) == Placement("prefer", frozenset({min(nodes)}))
    assert cpus_of(1023) == frozenset()


def test_pages_that_are_not_to_be_had_are_an_error():
    """The file ends before the mapping does: a touch there is a SIGBUS."""
    fd = memory_file(PAGE_SIZE, PAGE_SIZE)
    address = map_shared(fd, 2 * PAGE_SIZE)
    os.close(fd)
    populate(address, PAGE_SIZE)
    with pytest.raises(OSError, match="Bad address"):
        populate(address, 2 * PAGE_SIZE)
    unmap(address, 2 * PAGE_SIZE)


@pytest.mark.parametrize(
    ("mode", "nodes", "problem"),
    [
        ("near", {0}, "prefer, bind, interleave, not 'near'"),
        ("bind", (), "at least one"),
        ("bind", {-1}, "from 0 on"),
        ("prefer", {0, 1}, "use bind or interleave for several"),
    ],
)
def test_what_is_no_placement(mode, nodes, problem):
    with pytest.raises(ValueError, match=problem):
        Placement(mode, frozenset(nodes))


@pytest.mark.parametrize("text", ["", "0", "0,5,8,9,10", "1,64"])
def test_lists(text):
    assert format_list(parse_list(text)) == text
    assert parse_list("0,5,8-10\n") == {0, 5, 8, 9, 10}
