"""SQLite on a namespace: its regions, its locks, its errors, what it is told of the device."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import gpt
import pytest
from volatile_cache import VolatileCache

import pynvme_user as nvme
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.sqlite import NamespaceVfs
from pynvme_user.testing import SoftDevice, faults
from pynvme_user.views.sized_file import HEAD

MODES = ["wal", "delete", "truncate", "persist"]
#: What is always true of a device.
ALWAYS = (
    apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
    | apsw.SQLITE_IOCAP_SAFE_APPEND
    | apsw.SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN
)


@pytest.fixture
def device() -> SoftDevice:
    return SoftDevice("?size=8M&inline=1")


@pytest.fixture
def ns(device: SoftDevice) -> Iterator[nvme.Namespace]:
    with nvme.open(device) as ctrl:
        yield ctrl.namespaces[1]


def fill(database: apsw.Connection, rows: int) -> None:
    database.execute("BEGIN; CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body TEXT)")
    database.executemany("INSERT INTO t(body) VALUES (?)", [("x" * 100,)] * rows)
    database.execute("COMMIT")


def count(database: apsw.Connection) -> int:
    assert database.execute("PRAGMA integrity_check").get == "ok"
    return int(database.execute("SELECT count(*) FROM t").get)


@pytest.mark.parametrize("mode", MODES)
def test_a_database_is_there_again(ns: nvme.Namespace, mode: str) -> None:
    for rows in (1000, 2000, 3000):
        with NamespaceVfs(ns) as vfs:
            database = vfs.connect(journal_mode=mode)
            fill(database, 1000)
            assert count(database) == rows
            database.execute("VACUUM")
            assert database.pragma("journal_mode") == mode
    for other in MODES:
        with NamespaceVfs(ns) as vfs:
            assert count(vfs.connect(journal_mode=other)) == 3000


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_commits_survive_a_loss_of_power(ns: nvme.Namespace, mode: str, seed: int) -> None:
    """Whatever part of what was not flushed is there afterwards."""
    rng = random.Random(f"{mode} {seed}")
    committed = 0
    for _ in range(6):
        cache: Any = VolatileCache(ns)
        vfs = NamespaceVfs(cache)
        database = vfs.connect(journal_mode=mode)
        database.execute("PRAGMA cache_size=10")  # so that it writes before it commits
        if committed:
            assert count(database) == committed
            sums = database.execute("SELECT sum(length(body)) FROM t").get
            assert sums == committed * 100
        for _ in range(rng.randrange(1, 5)):
            fill(database, 50)
            committed += 50
        database.execute("BEGIN; DELETE FROM t WHERE id % 3 = 0; UPDATE t SET body = 'changed'")
        cache.fail(rng)
        with suppress(apsw.Error):
            vfs.close()


def test_partitions_are_files(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    data = bytearray(16 << 20)
    parts = {
        "a.db": (2048, 14335),
        "a.db-journal": (14336, 18431),
        "a.db-wal": (18432, 20479),
        "other": (20480, 24575),
    }
    gpt.write(data, 512, [gpt.entry(name, *blocks) for name, blocks in parts.items()])
    path.write_bytes(data)
    with nvme.open(f"soft:{path}?inline=1") as ctrl:
        ns = ctrl.namespaces[1]
        with NamespaceVfs(ns, "a.db") as vfs:
            fill(vfs.connect(journal_mode="delete"), 1000)
        with NamespaceVfs(ns, "a.db") as vfs:
            fill(vfs.connect(), 1000)
        with pytest.raises(
            ValueError, match=r"no partition has the name 'b.db', but 'a.db', .*: make three"
        ):
            NamespaceVfs(ns, "b.db")
    after = path.read_bytes()
    assert after[: 2048 * 512] == data[: 2048 * 512]
    assert after[20480 * 512 :] == data[20480 * 512 :]
    assert after[2048 * 512 + HEAD :].startswith(b"SQLite format 3\0")


def test_other_data_is_not_overwritten(ns: nvme.Namespace) -> None:
    ns.write(2, b"some file system".ljust(512))
    with pytest.raises(nvme.NvmeError, match=r"the region of main.db has other data"):
        NamespaceVfs(ns)
    with NamespaceVfs(ns, erase=True) as vfs:
        fill(vfs.connect(), 1)
    with NamespaceVfs(ns) as vfs:
        assert count(vfs.connect()) == 1
    with NamespaceVfs(ns, erase=True) as vfs:
        with pytest.raises(apsw.CantOpenError, match=r"main.db is empty: open it with"):
            apsw.Connection("main.db", vfs=vfs.name, flags=apsw.SQLITE_OPEN_READWRITE)
        with pytest.raises(apsw.CantOpenError, match=r"no region for x.db, but for main.db, main"):
            apsw.Connection("x.db", vfs=vfs.name)


def test_a_namespace_that_is_too_small() -> None:
    with (
        nvme.open("soft:?size=256k&inline=1") as ctrl,
        pytest.raises(ValueError, match=r"main.db needs 131584 bytes or more"),
    ):
        NamespaceVfs(ctrl.namespaces[1])


@pytest.mark.parametrize("mode", MODES)
def test_a_transaction_that_is_too_large(ns: nvme.Namespace, mode: str) -> None:
    with NamespaceVfs(ns) as vfs:
        database = vfs.connect(journal_mode=mode)
        fill(database, 1000)
        with pytest.raises(apsw.FullError, match=r"main.db(-wal)? has room for .* larger region"):
            fill(database, 50_000)
        assert count(database) == 1000
        fill(database, 10)
    with NamespaceVfs(ns) as vfs:
        assert count(vfs.connect(journal_mode=mode)) == 1010


def test_several_connections(ns: nvme.Namespace) -> None:
    """They see each other's commits, and exclude each other as on a file."""
    with NamespaceVfs(ns) as vfs:
        one, other = (vfs.connect(journal_mode="delete") for _ in range(2))
        fill(one, 10)
        assert count(other) == 10
        other.execute("BEGIN")
        assert count(other) == 10  # it reads on
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(apsw.BusyError):
            vfs.connect(journal_mode="delete").execute("BEGIN IMMEDIATE")
        one.execute("INSERT INTO t(body) VALUES ('new')")
        with pytest.raises(apsw.BusyError):
            one.execute("COMMIT")  # while the other reads
        with pytest.raises(apsw.BusyError):
            count(apsw.Connection("main.db", vfs=vfs.name))  # nobody else begins to
        other.execute("COMMIT")
        one.execute("COMMIT")
        assert count(other) == 11
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(apsw.BusyError):
            vfs.connect()  # which wants the database for itself


def test_a_log_is_for_one_connection(ns: nvme.Namespace) -> None:
    with NamespaceVfs(ns) as vfs:
        database = vfs.connect()
        with pytest.raises(apsw.BusyError, match="database is locked"):
            vfs.connect()
        database.close()
        fill(vfs.connect(), 10)


def test_a_mode_that_it_cannot_have(ns: nvme.Namespace) -> None:
    with (
        NamespaceVfs(ns) as vfs,
        pytest.raises(ValueError, match="not 'nonsense': use wal, delete"),
    ):
        vfs.connect(journal_mode="nonsense")


def test_temporary_files_are_not_on_it(ns: nvme.Namespace) -> None:
    with NamespaceVfs(ns) as vfs:
        database = vfs.connect()
        database.execute("PRAGMA temp_store=file; PRAGMA cache_size=1; CREATE TEMP TABLE s(x)")
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) "
            "INSERT INTO s SELECT hex(randomblob(20)) FROM n"
        )
        assert database.execute("SELECT count(DISTINCT x) FROM s ORDER BY x").get == 20000


@pytest.mark.parametrize(
    ("opcode", "action", "result"),
    [
        (NvmOpcode.WRITE, lambda db: fill(db, 100), apsw.SQLITE_IOERR_WRITE),
        (NvmOpcode.FLUSH, lambda db: fill(db, 100), apsw.SQLITE_IOERR_FSYNC),
        (NvmOpcode.READ, count, apsw.SQLITE_IOERR_READ),
    ],
)
def test_an_error_of_the_device(
    device: SoftDevice,
    ns: nvme.Namespace,
    opcode: NvmOpcode,
    action: Callable[[apsw.Connection], object],
    result: int,
) -> None:
    with NamespaceVfs(ns) as vfs:
        fill(vfs.connect(journal_mode="persist"), 1000)
    with NamespaceVfs(ns) as vfs:
        database = vfs.connect(journal_mode="persist")
        database.execute("PRAGMA cache_size=1")
        with (
            device.order(faults.status(0x280), opc=opcode),
            pytest.raises(apsw.IOError, match=r"failed: .*Write Fault") as error,
        ):
            action(database)
        assert error.value.extendedresult == result
        assert isinstance(error.value.__cause__, nvme.NvmeStatusError)
        assert count(database) == 1000
        fill(database, 10)
        assert count(database) == 1010


def test_after_its_device_is_closed(ns: nvme.Namespace) -> None:
    with NamespaceVfs(ns) as vfs:
        database = vfs.connect(journal_mode="delete")
        fill(database, 10)
        ns.controller.close()
        with pytest.raises(apsw.IOError, match="closed"):
            fill(database, 10)


def test_its_end_closes_the_connections(ns: nvme.Namespace) -> None:
    with NamespaceVfs(ns) as vfs:
        database = vfs.connect()
    with pytest.raises(apsw.ConnectionClosedError):
        database.execute("SELECT 1")
    with pytest.raises(apsw.SQLError, match="no such vfs"):
        vfs.connect()
    vfs.close()


# --- what SQLite is told ------------------------------------------------------------------------


def promised(ns: nvme.Namespace) -> list[int]:
    """The sizes of writes that the device is said to do whole or not at all."""
    with NamespaceVfs(ns) as vfs:
        flags = vfs._files["main.db"].characteristics
    assert flags & ~0x1FE == ALWAYS
    return [512 << n for n in range(8) if flags & apsw.SQLITE_IOCAP_ATOMIC512 << n]


def telling(awupf: int, options: str = "", **fields: int) -> SoftDevice:
    """A device whose pages say something else."""
    with nvme.open(f"soft:?size=8M&inline=1{options}") as ctrl:
        namespace = bytearray(ctrl.identify_page(Cns.NAMESPACE, nsid=1))
        controller = bytearray(ctrl.identify_page(Cns.CONTROLLER))
    controller[528:530] = awupf.to_bytes(2, "little")
    places = {"nsfeat": (24, 1), "nawupf": (36, 2), "nabo": (42, 2), "nabspf": (44, 2)}
    for name, value in fields.items():
        at, width = (places | {"noiob": (46, 2)})[name]
        namespace[at : at + width] = value.to_bytes(width, "little")
    device = SoftDevice(f"?size=8M&inline=1{options}")
    device.set_identify(Cns.CONTROLLER, bytes(controller))
    device.set_identify(Cns.NAMESPACE, bytes(namespace), per_namespace=True)
    return device


SIZES = [512 << n for n in range(8)]


@pytest.mark.parametrize(
    ("awupf", "fields", "expected"),
    [
        (0, {}, SIZES[:1]),
        (7, {}, SIZES[:4]),
        (255, {}, SIZES),
        (0, {"nsfeat": 2, "nawupf": 31}, SIZES[:6]),
        (0, {"nawupf": 31}, SIZES[:1]),  # which does not count without the bit
        (7, {"nsfeat": 2}, SIZES[:4]),  # 0 is the controller's
        (255, {"nsfeat": 2, "nawupf": 255, "nabspf": 15}, SIZES[:5]),
        (255, {"nsfeat": 2, "nawupf": 255, "nabspf": 127, "nabo": 4}, SIZES[:3]),
        (255, {"noiob": 8}, SIZES[:4]),  # where the driver divides it
    ],
)
def test_what_is_atomic(awupf: int, fields: dict[str, int], expected: list[int]) -> None:
    with nvme.open(telling(awupf, **fields)) as ctrl:
        assert ctrl.identify.awupf == awupf
        assert promised(ctrl.namespaces[1]) == expected


def test_what_is_atomic_of_larger_blocks_and_short_commands() -> None:
    with nvme.open("soft:?size=16M&logical_block_size=4096&inline=1") as ctrl:
        ns = ctrl.namespaces[1]
        assert promised(ns) == [4096]
        with NamespaceVfs(ns) as vfs:
            database = vfs.connect()
            fill(database, 100)
            assert database.pragma("page_size") == 4096
    with nvme.open(telling(255, "&mdts=1")) as ctrl:  # commands of 8 KiB
        assert promised(ctrl.namespaces[1]) == SIZES[:5]


def test_without_apsw() -> None:
    program = "import sys; sys.modules['apsw'] = None; import pynvme_user.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: pynvme_user.sqlite needs apsw: pip install 'pynvme_user[sqlite]'"
    )
