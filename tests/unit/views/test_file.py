"""A namespace as a file: any offset and length, whose writes lose nothing of their neighbours."""

from __future__ import annotations

import io
import os
import random
import sqlite3
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user.testing import SoftDevice, faults

SIZE = 4 << 20


@pytest.fixture
def ctrl() -> Iterator[nvme.Controller]:
    with nvme.open(f"soft:?size={SIZE}&inline=1") as ctrl:
        yield ctrl


@pytest.mark.parametrize("buffering", [0, -1, 1000])
def test_as_a_file_of_the_kernel(ctrl: nvme.Controller, tmp_path: Path, buffering: int) -> None:
    """The same random steps on a file of the same size give the same, each time."""
    rng = random.Random(7)
    ns = ctrl.namespaces[1]
    offset, size = 3 * ns.block_size + 100, 100_000
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    ns.write(0, bytes([0xAB]) * SIZE)
    with ns.open("r+b", offset=offset, size=size, buffering=0) as file:
        file.write(bytes(size))
    with (
        ns.open("r+b", offset=offset, size=size, buffering=buffering) as ours,
        path.open("r+b", buffering=0) as theirs,
    ):
        for _ in range(2000):
            match rng.randrange(5):
                case 0:
                    at = rng.randrange(size + 10)
                    assert ours.seek(at) == theirs.seek(at)
                case 1:
                    where = -rng.randrange(size)
                    assert ours.seek(where, os.SEEK_END) == theirs.seek(where, os.SEEK_END)
                case 2:
                    length = rng.choice([0, 1, 511, 512, 513, 4096, 9999])
                    assert ours.read(length) == theirs.read(length)
                case 3:
                    data = rng.randbytes(
                        min(rng.choice([1, 511, 512, 513, 8192, 9999]), max(size - ours.tell(), 0))
                    )
                    assert ours.write(data) == theirs.write(data)
                case 4:
                    assert ours.tell() == theirs.tell()
        ours.flush()
    with ns.open(offset=offset, size=size) as ours:
        assert ours.read() == path.read_bytes()
    whole = ns.read(0, ns.block_count)
    assert set(whole[:offset]) | set(whole[offset + size :]) == {0xAB}


def test_what_a_file_says(ctrl: nvme.Controller) -> None:
    ns = ctrl.namespaces[1]
    with ns.open("r+b", buffering=0) as file:
        assert (file.readable(), file.writable(), file.seekable()) == (True, True, True)
        assert file.size == SIZE
        assert file.seek(0, os.SEEK_END) == SIZE
        assert file.read(1) == b""
        with pytest.raises(OSError, match="no more"):
            file.write(b"x")
        file.seek(-2, os.SEEK_CUR)
        assert file.write(b"1234") == 2
        assert file.truncate(SIZE) == SIZE
        with pytest.raises(io.UnsupportedOperation, match="keeps them"):
            file.truncate(0)
        with pytest.raises(ValueError, match="no byte -1"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
        assert f"{SIZE} bytes" in repr(file)
    for call in (file.tell, lambda: file.read(1), lambda: file.seek(0), lambda: file.write(b"1")):
        with pytest.raises(ValueError, match="closed"):
            call()
    with ns.open() as file:
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        assert not file.writable()
    with ns.open(buffering=0) as file, pytest.raises(io.UnsupportedOperation, match=r"r\+b"):
        file.write(b"x")
    with pytest.raises(ValueError, match="'rb' or 'r\\+b'"):
        ns.open("w")  # type: ignore[arg-type]
    for offset, size in ((-1, None), (0, SIZE + 1), (SIZE + 1, None), (5, -1)):
        with pytest.raises(ValueError, match=r"not all in the namespace|neither can be below 0"):
            ns.open(offset=offset, size=size)


def test_flush_is_a_flush() -> None:
    device = SoftDevice("?size=1M")
    with nvme.open(device) as ctrl:
        rule = device.order(faults.none(), opc=nvme.NvmOpcode.FLUSH)
        with ctrl.namespaces[1].open("r+b") as file:
            file.write(b"1")
            file.flush()
            assert rule.seen == 1
        sent = rule.seen
        with ctrl.namespaces[1].open() as file:
            file.read(1)
        assert rule.seen == sent


def test_an_error_of_the_device() -> None:
    device = SoftDevice("?size=1M")
    with nvme.open(device) as ctrl:
        device.order(faults.status(nvme.MediaStatus.UNRECOVERED_READ_ERROR), lbas=range(8, 9))
        with ctrl.namespaces[1].open("r+b", buffering=0) as file:
            file.seek(8 * 512 + 5)
            with pytest.raises(nvme.NvmeStatusError):
                file.read(3)
            with pytest.raises(nvme.NvmeStatusError):
                file.write(b"123")  # reads the block first
            assert file.tell() == 8 * 512 + 5


def test_writes_of_one_block_by_many_threads() -> None:
    """Each thread writes bytes of its own in the same blocks: none is undone."""
    threads, rounds = 8, 100
    with nvme.open("soft:?size=1M") as ctrl:
        ns = ctrl.namespaces[1]

        def write(index: int) -> None:
            with ns.open("r+b", buffering=0) as file:
                for at in range(rounds):
                    file.seek(100 * at + 7 * index)
                    file.write(bytes([index + 1]) * 7)

        started = [threading.Thread(target=write, args=(index,)) for index in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        with ns.open() as file:
            for at in range(rounds):
                file.seek(100 * at)
                assert file.read(56) == b"".join(bytes([n + 1]) * 7 for n in range(threads))


def test_the_device_writes_into_a_dma_buffer(ctrl: nvme.Controller) -> None:
    ns = ctrl.namespaces[1]
    ns.write(0, bytes(range(256)) * 16)
    buffer = ctrl.alloc(4096)
    with ns.open(buffering=0) as file:
        assert file.readinto(buffer) == 4096
    assert bytes(buffer) == bytes(range(256)) * 16


def test_archives(ctrl: nvme.Controller) -> None:
    ns = ctrl.namespaces[1]
    data = os.urandom(300_000)
    with ns.open("r+b") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b", data)
        archive.writestr("c", b"c" * 1000)
    with ns.open() as file, file, io.BytesIO(file.read(400_000)) as start:
        end = start.getvalue().rindex(b"PK\5\6") + 22
    with ns.open(size=end) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("a/b") == data
    with ns.open("r+b") as file, tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("x")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    with ns.open() as file, tarfile.open(fileobj=file) as archive:
        found = archive.extractfile("x")
        assert found is not None
        assert found.read() == data


def test_numpy_reads_it(ctrl: nvme.Controller) -> None:
    array = np.arange(10_000.0).reshape(100, 100)
    with ctrl.namespaces[1].open("r+b") as file:
        np.save(file, array)
        file.seek(0)
        assert (np.load(file) == array).all()


def test_a_database_goes_there_and_back(ctrl: nvme.Controller) -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t (a integer primary key, b text)")
        database.executemany("insert into t (b) values (?)", [(f"row {n}",) for n in range(5000)])
    image = database.serialize()
    with ctrl.namespaces[1].open("r+b") as file:
        file.write(image)
    with ctrl.namespaces[1].open(size=len(image)) as file:
        back = sqlite3.connect(":memory:")
        back.deserialize(file.read())
    assert back.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert back.execute("select count(*) from t").fetchall() == [(5000,)]
