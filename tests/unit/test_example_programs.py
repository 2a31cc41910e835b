"""The programs of examples/: as commands, and what each promises."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.testing import SoftDevice, faults

EXAMPLES = Path(__file__).parents[2] / "examples"
DEVICE = "soft:?size=16M&inline=1"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def ns() -> Iterator[nvme.Namespace]:
    with nvme.open(DEVICE) as ctrl:
        yield ctrl.namespaces[1]


def run(name: str, *args: str) -> str:
    """Run an example to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *args], capture_output=True, text=True, check=False
    )
    print(done.stdout)  # for who wants the figures
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_page_cache_beside_plain_calls() -> None:
    lines = run("page_cache.py", "soft:?size=64M&inline=1").splitlines()
    assert [line.split(":")[0] for line in lines] == ["writes", "reads"]
    assert all(line.endswith(" of the page cache's") for line in lines)


# --- the key-value store -----------------------------------------------------------------------


def test_key_value_as_a_command() -> None:
    lines = run("key_value.py").splitlines()
    assert [line.split(":")[0] for line in lines] == ["puts", "gets", "recovered"]


@pytest.mark.kills
def test_key_value_survives_kills(tmp_path: Path) -> None:
    name = f"soft:{tmp_path / 'kv.img'}?size=64M&inline=1"
    assert run("kill_key_value.py", name, "--rounds", "2").startswith("2 kills, ")


@pytest.mark.kills
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_survives_kills(tmp_path: Path, mode: str) -> None:
    name = f"soft:{tmp_path / 'sqlite.img'}?size=32M&inline=1"
    end = run("kill_sqlite.py", name, "--rows", "4000", "--rounds", "2", "--journal", mode)
    assert end.startswith("2 kills, ")
    assert end.endswith(" left: integrity ok, none lost\n")


def test_key_value_recovers_what_was_put_and_deleted(ns: nvme.Namespace) -> None:
    from key_value import Store

    store = Store(ns)
    store.put(b"a", b"1" * 5000)
    store.put(b"b", b"")
    store.put(b"c", b"x")
    store.put(b"a", b"2" * 700)
    store.delete(b"c")
    for one in (store, Store(ns)):
        assert [one.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"2" * 700, b"", None, None]


def test_key_value_recovers_up_to_a_torn_record(ns: nvme.Namespace) -> None:
    from key_value import Store

    store = Store(ns)
    store.put(b"a", b"1" * 5000)
    torn = store.lba
    store.put(b"a", b"2" * 5000)
    last = store.lba
    store.put(b"b", b"never torn itself")
    assert last - torn > 2
    ns.write(last - 1, bytes(ns.block_size))  # the record's last block was not written
    store = Store(ns)
    assert (store.get(b"a"), store.get(b"b")) == (b"1" * 5000, None)
    # The same number of records, as long, in its place: what lies behind is not taken for theirs.
    for value in (b"3" * 5000, b"4"):
        store.put(b"a", value)
    store = Store(ns)
    assert (store.get(b"a"), store.get(b"b")) == (b"4", None)


def test_key_value_does_not_continue_with_what_a_crash_left_behind(ns: nvme.Namespace) -> None:
    from key_value import Store

    store = Store(ns)
    at = store.lba
    store.put(b"a", b"1")
    store.put(b"b", b"2")
    torn = ns.read(at, 1)
    ns.write(at, bytes(ns.block_size))  # the first was not written, the second was
    store = Store(ns)  # which writes a record of its own in that place
    assert bytes(ns.read(at, 1)) not in (torn, bytes(ns.block_size))
    assert store.lba == at + 1
    assert Store(ns).index == {}


def test_key_value_commits_many_puts_with_one_record(ns: nvme.Namespace) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from key_value import Store

    store = Store(ns)
    before = store.number
    with ThreadPoolExecutor(8) as threads:
        with store._writing:  # so long none is written
            puts = [threads.submit(store.put, b"%d" % n, b"v" * n) for n in range(8)]
            while len(store._group.entries) < 8:
                pass
        for put in puts:
            put.result()
    assert store.number == before + 1
    assert [Store(ns).get(b"%d" % n) for n in range(8)] == [b"v" * n for n in range(8)]


def test_key_value_tells_of_damage_and_of_a_full_log(ns: nvme.Namespace) -> None:
    from key_value import Store

    store = Store(ns)
    store.put(b"a", b"1" * ns.block_size * 3)
    ns.write(store.lba - 2, bytes(ns.block_size))
    with pytest.raises(OSError, match="the value of b'a' is damaged"):
        store.get(b"a")
    with pytest.raises(ValueError, match="a key has 1 to 65535 bytes"):
        store.put(b"", b"1")
    with pytest.raises(OSError, match="not durable, open the store again: the log is full"):
        store.put(b"b", bytes(ns.block_size * ns.block_count))
    with pytest.raises(OSError, match="the log is full"):
        store.put(b"b", b"1")
    assert Store(ns).get(b"b") is None


# --- the write-ahead log -----------------------------------------------------------------------


def test_write_ahead_log_as_a_command() -> None:
    equal, ratio = run("write_ahead_log.py").splitlines()
    assert equal.startswith("6400 records of 64 tasks, ")
    assert equal.endswith(" flushes, replayed: equal")
    assert ratio.endswith(" of the page cache's")


def test_write_ahead_log_writes_a_group_at_once_and_replays_up_to_a_torn_one() -> None:
    from write_ahead_log import Log

    async def use() -> None:
        async with nvme.aopen(DEVICE) as ctrl:
            ns = ctrl.namespaces[1]
            log = Log(ns)
            first, second = ([b"%d" % n * size for n in range(50)] for size in (10, 100))
            for group in (first, second):
                await asyncio.gather(*map(log.append, group))
            assert log.groups == 2
            assert [record async for record in Log(ns).replay()] == first + second
            await ns.write(log.lba - 1, bytes(ns.block_size))  # the last block was not written
            log = Log(ns)
            assert [record async for record in log.replay()] == first
            await log.append(b"in its place")
            assert [record async for record in Log(ns).replay()] == [*first, b"in its place"]
            assert [record async for record in Log(ns, b"another").replay()] == []

    asyncio.run(use())


def test_write_ahead_log_tells_each_task_of_an_error() -> None:
    from write_ahead_log import Log

    async def use() -> None:
        device = SoftDevice("?size=16M&inline=1")
        async with nvme.aopen(device) as ctrl:
            log = Log(ctrl.namespaces[1])
            with device.order(faults.status(0x280), opc=NvmOpcode.WRITE):
                ends = await asyncio.gather(
                    *(log.append(b"%d" % n) for n in range(3)), return_exceptions=True
                )
            assert ["not durable: " in str(end) for end in ends] == [True] * 3
            await log.append(b"again")
            assert [record async for record in Log(log.ns).replay()] == [b"again"]

    asyncio.run(use())


# --- the copy tool -----------------------------------------------------------------------------


def test_copy_device_as_a_command(tmp_path: Path) -> None:
    source, target = (f"soft:{tmp_path / name}?size=9M&inline=1" for name in ("a.img", "b.img"))
    with nvme.open(source) as ctrl:
        ctrl.namespaces[1].write(0, os.urandom(9 << 20))
    equal, ratio = run("copy_device.py", source, target, "--depth", "5").splitlines()
    assert equal == "9 MiB copied at depth 5, compared: equal"
    assert ratio.endswith(" of the page cache's")
    assert (tmp_path / "a.img").read_bytes() == (tmp_path / "b.img").read_bytes()


def test_copy_device_to_other_blocks_and_what_cannot_be_copied() -> None:
    from copy_device import PIECE, copy, differs

    small = SoftDevice("?size=1M&inline=1")

    async def use() -> None:
        large = "soft:?size=2M&logical_block_size=4096&inline=1"
        async with nvme.aopen(small) as old, nvme.aopen(large) as new:
            data = os.urandom(1 << 20)
            await old.namespaces[1].write(0, data)
            assert await differs(old, new, 1 << 20) == 0
            lengths: list[int] = []
            assert await copy(old, new, 3, lengths.append) == 1 << 20
            assert lengths == [PIECE] * 8
            assert await new.namespaces[1].read(0, 256) == data
            assert await differs(old, new, 1 << 20) is None
            await new.namespaces[1].write(255, bytes(4096))
            assert await differs(old, new, 1 << 20) == 0
            with pytest.raises(ValueError, match="the target has less than the 2097152 bytes"):
                await copy(new, old, 3, lengths.append)
            with (
                small.order(faults.status(0x281), opc=NvmOpcode.READ, nth=5),
                pytest.raises(nvme.NvmeStatusError, match="Unrecovered Read Error"),
            ):
                await copy(old, new, 3, lengths.append)

    asyncio.run(use())


# --- the column store --------------------------------------------------------------------------


def test_column_store_as_a_command() -> None:
    rows, ratio = run("column_store.py").splitlines()
    assert rows == "2,000,000 rows scanned, 22 of 38 MiB read"
    assert ratio.endswith(" of the page cache's; the sum is numpy's")


def test_column_store_finds_its_columns_again(ns: nvme.Namespace) -> None:
    from column_store import CHUNK, Table

    with pytest.raises(ValueError, match="there is no table on this namespace"):
        Table(ns)
    rows = CHUNK + 5
    columns = {"x": np.arange(rows, dtype="<u2"), "y": np.arange(rows) * 0.5}
    Table.create(ns, columns)
    table = Table(ns)
    chunks = [[part.copy() for part in parts] for parts in table.scan("y", "x")]
    assert [len(x) for _, x in chunks] == [CHUNK, 5]
    for at, name in enumerate(("y", "x")):
        np.testing.assert_array_equal(np.concatenate([c[at] for c in chunks]), columns[name])
    with pytest.raises(ValueError, match="the names of the columns need more than 4096 bytes"):
        Table.create(ns, {"n" * 5000: columns["x"]})
    with pytest.raises(ValueError, match="there is no table"):
        Table(ns)
    ns.write(0, b"7".ljust(ns.block_size, b"\0"))
    with pytest.raises(ValueError, match="there is no table"):
        Table(ns)


# --- the sum by Dask ---------------------------------------------------------------------------


def test_dask_sum_as_a_command() -> None:
    assert run("dask_sum.py").startswith("4 devices, 4 processes, 2,000,000 rows: sum 1,000,")


# --- the block cache ---------------------------------------------------------------------------


def test_block_cache_as_a_command() -> None:
    lines = run("block_cache.py").splitlines()
    assert lines[0].endswith("were in the cache, of 8 MiB")
    assert [line.split(":")[0] for line in lines[1:]] == [
        "reads",
        "writes, with a flush at their end",
    ]


def test_block_cache_is_the_namespace(ns: nvme.Namespace) -> None:
    from block_cache import BlockCache

    rng = np.random.default_rng(5)
    same = bytearray(64 * ns.block_size)
    ns.write(0, same)
    cache = BlockCache(ns, 3)
    for _ in range(300):
        lba, blocks = int(rng.integers(0, 60)), int(rng.integers(1, 5))
        place = slice(lba * ns.block_size, (lba + blocks) * ns.block_size)
        if rng.random() < 0.5:
            same[place] = rng.bytes(blocks * ns.block_size)
            cache.write(lba, same[place])
        assert cache.read(lba, blocks) == same[place]
    assert cache.hits > cache.misses > 0
    cache.close()
    assert ns.read(0, 64) == same
    with pytest.raises(ValueError, match="not all in namespace 1"):
        cache.read(ns.block_count, 1)


def test_block_cache_writes_when_it_has_to_and_keeps_what_was_not_written() -> None:
    from block_cache import BlockCache

    device = SoftDevice("?size=16M&inline=1")
    with nvme.open(device) as ctrl:
        ns = ctrl.namespaces[1]
        cache = BlockCache(ns, 4)
        data = [bytes([n]) * 4096 for n in range(1, 6)]
        with device.order(faults.none(), opc=NvmOpcode.WRITE) as writes:
            for n in range(4):
                cache.write(8 * n, data[n])
            assert writes.seen == 0
            cache.write(32, data[4])  # for which one has to go: all are written
            assert writes.seen == 4
        with device.order(faults.status(0x280), opc=NvmOpcode.WRITE):
            with pytest.raises(nvme.NvmeStatusError):
                cache.flush()
            assert cache.read(32, 8) == data[4]
        assert bytes(ns.read(32, 8)) == bytes(4096)
        cache.flush()
        assert bytes(ns.read(0, 40)) == b"".join(data)
        cache.close()


# --- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_is_short_and_says_what_it_printed(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") < 150
    if path.name != "demo.py":
        header = text.split('"""')[1]
        assert f"    python examples/{path.name}" in header
        assert "\n    " in header.partition("It printed")[2]
