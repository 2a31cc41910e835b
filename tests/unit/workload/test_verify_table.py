"""The table of what was written, its state file, and what they hold after kill -9."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verify_rig import Rig, found

from pynvme_user.workload.verification import FaultKind, Method, Trim, Verifier, VerifyTable
from pynvme_user.workload.verify_state import NamespaceIdentity, Region, StateFileError

NAMESPACE = NamespaceIdentity(device="qemu:", nsid=1, serial="S1", nguid="ab" * 16)


# --- the table and the state file -----------------------------------------------------------------


def test_overlapping_io_is_refused() -> None:
    rig = Rig()
    data = np.zeros(8 * 512, np.uint8)
    assert rig.verifier.begin_write(100, 8, data)
    assert not rig.verifier.begin_write(104, 8, data)
    assert not rig.verifier.begin_read(104, 8)
    assert not rig.verifier.begin_trim(104, 4, Trim.DEALLOCATE)
    rig.verifier.end_write(100, 8, ok=True)
    assert rig.verifier.begin_read(104, 8)
    assert rig.verifier.begin_read(104, 8)
    assert not rig.verifier.begin_write(108, 4, data)


def test_what_is_not_of_whole_intervals() -> None:
    rig = Rig()
    data = np.zeros(8 * 512, np.uint8)
    for lba, blocks in [(101, 4), (100, 3), (96, 4), (100 + 128, 4), (100 + 124, 8), (100, 0)]:
        with pytest.raises(ValueError, match="whole verify intervals"):
            rig.verifier.begin_write(lba, blocks, data)
        with pytest.raises(ValueError, match="whole verify intervals"):
            rig.verifier.check(lba, blocks, data)
    with pytest.raises(ValueError, match="too few for 12 blocks"):
        rig.verifier.begin_write(100, 12, data)
    with pytest.raises(ValueError, match="smaller than one verify interval"):
        VerifyTable(Region(block_size=512, blocks=3, interval_blocks=4), 0)
    with pytest.raises(ValueError, match="cannot be set up"):
        Verifier(rig.table, Method.PATTERN, pattern=b"1234567", offsets=(0,))


def test_promises() -> None:
    rig = Rig()
    assert rig.table.promise(100) is None
    rig.write(100, 4, ok=False)
    promise = rig.table.promise(103)
    assert promise is not None
    assert (promise.issued, promise.acknowledged, promise.seen) == (1, None, None)
    acknowledged = rig.write(100, 4)
    rig.write(100, 4, ok=False)
    assert rig.read(100, 4) is None
    promise = rig.table.promise(100)
    assert promise is not None
    assert (promise.issued, promise.acknowledged, promise.seen) == (3, 2, 3)
    assert rig.table.summary().known == rig.table.summary().in_doubt == 1
    # What was seen may not go away, though it was never acknowledged.
    for old in (acknowledged, 0):
        rig.at(100, 4)[:] = old
        assert found(rig, 100, 4) == (FaultKind.STALE_DATA, 100)


def state(path: Path, **changes: int) -> VerifyTable:
    shape = {"block_size": 512, "blocks": 1 << 24, "first_lba": 64, "interval_blocks": 2} | changes
    return VerifyTable.create_state(path, Region(**shape), 0xFEED, NAMESPACE)


def test_state_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    table = state(path)
    verifier = Verifier(table, Method.META)
    data = np.zeros(64 * 512, np.uint8)
    for lba in (64, 64 + (1 << 20), 64 + (1 << 24) - 64):
        assert verifier.begin_write(lba, 64, data)
        verifier.end_write(lba, 64, ok=lba != 64)
    assert verifier.begin_write(1000, 2, data)
    assert path.stat().st_blocks * 512 < 100_000  # sparse: the table is 64 MiB
    words, sequence = table.words.copy(), table.sequence
    table.close()
    with VerifyTable.open_state(path, NAMESPACE) as again:
        assert (again.region, again.seed) == (table.region, 0xFEED)
        assert again.sequence > sequence + 1000
        outstanding = (1000 - 64) // 2
        assert words[outstanding] != again.words[outstanding]
        words[outstanding] = again.words[outstanding]
        assert np.array_equal(words, again.words)
        promise = again.promise(1000)
        assert promise is not None
        assert (promise.acknowledged, promise.outstanding) == (None, False)
        assert list(again.known(40)) == [
            (64, 40),
            (104, 24),
            (1000, 2),
            (64 + (1 << 20), 40),
            (104 + (1 << 20), 24),
            ((1 << 24), 40),
            (40 + (1 << 24), 24),
        ]
        assert (again.summary().known, again.summary().in_doubt) == (97, 33)


def test_state_file_errors(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(StateFileError, match="does not exist: give"):
        VerifyTable.open_state(path, NAMESPACE)
    with state(path):
        with pytest.raises(StateFileError, match="is in use by another run"):
            VerifyTable.open_state(path, NAMESPACE)
        with pytest.raises(StateFileError, match="exists already: verify"):
            state(path)
    other = NamespaceIdentity(device="qemu:", nsid=1, serial="S1", nguid="cd" * 16)
    with pytest.raises(StateFileError, match="not about this one: give that device"):
        VerifyTable.open_state(path, other)
    renamed = NamespaceIdentity(device="vfio:0000:01:00.0", nsid=2, nguid="ab" * 16)
    VerifyTable.open_state(path, renamed).close()
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(StateFileError, match="cut short"):
        VerifyTable.open_state(path, NAMESPACE)
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"\x99")
    with pytest.raises(StateFileError, match="not a state file, or is damaged"):
        VerifyTable.open_state(path, NAMESPACE)


def header(**changed: object) -> bytes:
    """A state file's first page, whose checksum is right."""
    fields: dict[str, object] = {
        "magic": b"NVMEVRFY", "version": 1, "block_size": 512, "first_lba": 0, "blocks": 64,
        "seed": 1, "sequence": 5, "interval_blocks": 1, "nsid": 1, "serial": b"S1",
        "nguid": b"ab" * 16, "eui64": b"", "zero": 0, "device": b"qemu:",
    }  # fmt: skip
    page = struct.pack("<8sIIQQQQII20s32s16sI1024s", *(fields | changed).values())
    return page + struct.pack("<I", zlib.crc32(page))


@pytest.mark.parametrize(
    "changed",
    [
        {"interval_blocks": 0},
        {"interval_blocks": 65},
        {"interval_blocks": 0xFFFFFFFF, "blocks": 1 << 40},
        {"blocks": 0},
        {"blocks": (1 << 64) - 1},
        {"block_size": 0},
        {"block_size": 511},
        {"block_size": 1536},
        {"block_size": 1 << 31},
        {"first_lba": (1 << 64) - 1},
        {"sequence": (1 << 64) - 1},
        {"sequence": 1 << 63},
        {"version": 2},
    ],
    ids=lambda changed: "-".join(f"{name}={value}" for name, value in changed.items()),
)
def test_state_file_with_impossible_numbers(tmp_path: Path, changed: dict[str, int]) -> None:
    path = tmp_path / "state"
    path.write_bytes(header(**changed).ljust(4096 + 8 * 64, b"\0"))
    with pytest.raises(StateFileError) as told:
        VerifyTable.open_state(path, NAMESPACE)
    assert str(told.value).startswith(str(path))


@given(
    st.dictionaries(
        st.sampled_from(["block_size", "interval_blocks", "nsid", "version"]),
        st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 1, 512, 4096]),
    ),
    st.dictionaries(
        st.sampled_from(["first_lba", "blocks", "seed", "sequence"]),
        st.integers(0, (1 << 64) - 1) | st.integers(0, 100),
    ),
    st.dictionaries(
        st.sampled_from(["serial", "nguid", "eui64", "device"]), st.binary(max_size=1024)
    ),
    st.binary(max_size=64),
)
def test_any_state_file_is_opened_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    words: dict[str, int],
    longs: dict[str, int],
    texts: dict[str, bytes],
    table: bytes,
) -> None:
    path = tmp_path_factory.mktemp("state") / "state"
    page = header(**words, **longs, **texts)
    path.write_bytes(page.ljust(4096, b"\0") + table.ljust(8 * 64, b"\xa5")[: 8 * 64])
    try:
        opened = VerifyTable.open_state(path, NAMESPACE)
    except StateFileError:
        return
    with opened:
        assert opened.region.intervals == 64
        list(opened.known(opened.region.interval_blocks))


@pytest.mark.parametrize("length", [0, 7, 8, 1000, 1184, 4096, 4100])
def test_state_file_cut_short(tmp_path: Path, length: int) -> None:
    path = tmp_path / "state"
    path.write_bytes(header().ljust(4096 + 8 * 64, b"\0")[:length])
    with pytest.raises(StateFileError, match=r"not a state file|cut short"):
        VerifyTable.open_state(path, NAMESPACE)


@pytest.mark.parametrize("serial", ["\xff" * 20, "S1\0\0", "plain"], ids=["latin", "NULs", "plain"])
def test_state_file_keeps_any_serial_number(tmp_path: Path, serial: str) -> None:
    device = NamespaceIdentity(device="qemu:\udcff" + "\u20ac" * 400, nsid=1, serial=serial)
    region = Region(block_size=512, blocks=8)
    VerifyTable.create_state(tmp_path / "state", region, 1, device).close()
    shown = NamespaceIdentity(device="another", nsid=1, serial=serial.rstrip("\0"))
    VerifyTable.open_state(tmp_path / "state", shown).close()


def test_identity_falls_back() -> None:
    def identity(**parts: str) -> NamespaceIdentity:
        return NamespaceIdentity(device="d", nsid=1, **parts)

    assert identity(eui64="1" * 16).is_same(identity(eui64="1" * 16, serial="x"))
    assert not identity(eui64="1" * 16).is_same(identity(eui64="2" * 16))
    assert not identity(nguid="1" * 32).is_same(identity())
    assert identity(serial="a").is_same(identity(serial="a"))
    assert not identity(serial="a").is_same(identity(serial="b"))


# --- kill -9 --------------------------------------------------------------------------------------


#: Writes through the table to a file that is the disk, and says what was acknowledged. A logical
#: block is written by one call within a page, which a kill does not divide: it is atomic, as NVMe
#: has it. Arguments: state file, disk file, seed, the step at which to kill itself (-1: never).
CHILD = """
import os, random, signal, sys
import numpy as np
from pynvme_user.workload.verification import *
from pynvme_user.workload.verify_state import *

state, disk, seed, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
namespace = NamespaceIdentity(device="file", nsid=1, serial="F")
table = VerifyTable.open_state(state, namespace)
verifier = Verifier(table, Method.CRC32C)
fd = os.open(disk, os.O_RDWR)
choice = random.Random(seed)
step = 0

def live():
    global step
    if step == last:
        os.kill(os.getpid(), signal.SIGKILL)
    step += 1

print("ready", flush=True)
data = np.zeros(16 * 512, np.uint8)
while True:
    count = choice.randint(1, 4)
    lba, blocks = choice.randint(0, 64 - count) * 4, count * 4
    assert verifier.begin_write(lba, blocks, data)
    live()
    order = list(range(blocks))
    choice.shuffle(order)
    for block in order:
        os.pwrite(fd, data[block * 512 : block * 512 + 512].tobytes(), (lba + block) * 512)
        live()
    verifier.end_write(lba, blocks, ok=True)
    live()
    for start in range(lba, lba + blocks, 4):
        os.write(1, f"{start} {table.promise(start).issued}\\n".encode())
"""
FILE = NamespaceIdentity(device="file", nsid=1, serial="F")


def run_and_kill(state_path: Path, disk: Path, seed: int, last: int, lines: int) -> dict[int, int]:
    """Run the child until it is killed; return what it said was acknowledged last, by LBA."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, state_path, disk, str(seed), str(last)],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    said: dict[int, int] = {}
    for number, line in enumerate(child.stdout):
        if number == lines:
            child.kill()
        if line.endswith(b"\n"):
            lba, generation = map(int, line.split())
            said[lba] = generation
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return said


def judge(state_path: Path, disk: Path, said: dict[int, int], kills: int) -> None:
    """What was acknowledged is promised and there; taking it away is found."""
    content = np.fromfile(disk, np.uint8).reshape(-1, 512)
    with VerifyTable.open_state(state_path, FILE) as table:
        verifier = Verifier(table, Method.CRC32C)
        for lba, generation in said.items():
            promise = table.promise(lba)
            assert promise is not None
            assert promise.acknowledged is not None
            assert generation <= promise.acknowledged <= promise.issued
            assert not promise.outstanding
        assert table.summary().in_doubt <= 4 * kills  # of each the one write under way
        for lba, blocks in table.known(16):
            assert verifier.begin_read(lba, blocks)
            assert verifier.check(lba, blocks, content[lba : lba + blocks]) is None
            verifier.end_read(lba, blocks)
        for lba in said:
            fault = verifier.check(lba, 4, np.zeros(2048, np.uint8))
            assert fault is not None
            assert fault.kind == FaultKind.STALE_DATA  # it was read just now


def files(tmp_path: Path) -> tuple[Path, Path]:
    state_path, disk = tmp_path / "state", tmp_path / "disk"
    VerifyTable.create_state(
        state_path, Region(block_size=512, blocks=256, interval_blocks=4), 99, FILE
    ).close()
    disk.write_bytes(bytes(256 * 512))
    return state_path, disk


@pytest.mark.kills
def test_kill_at_each_step(tmp_path: Path) -> None:
    """At each point of a write in turn, always on the files that the kill before left."""
    state_path, disk = files(tmp_path)
    for kills, last in enumerate([0, 1, 2, 5, 11, 18, 19, 20, 40, 41], 1):
        judge(state_path, disk, run_and_kill(state_path, disk, last, last, -1), kills)


@pytest.mark.kills
def test_kill_from_outside(tmp_path: Path) -> None:
    state_path, disk = files(tmp_path)
    choice = random.Random(int(time.time()) // 86400)
    for kills in range(1, 7):
        said = run_and_kill(state_path, disk, kills, -1, choice.randint(1, 2000))
        assert said
        judge(state_path, disk, said, kills)
