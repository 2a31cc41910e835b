"""Parquet files and archives on a namespace, by the programs that read them."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import fsspec
import gpt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from closed_controllers import await_all_closed
from fsspec.implementations.tar import TarFileSystem

import pynvme_user as nvme
from pynvme_user.filesystem import NvmeFileSystem

# What pip knows of a checkout may be older than its entry points.
fsspec.register_implementation("nvme", NvmeFileSystem, clobber=True)

ROWS = 20_000
FRAME = pd.DataFrame(
    {
        "id": np.arange(ROWS),
        "value": np.random.default_rng(1).normal(size=ROWS),
        "name": [f"row {n % 77}" for n in range(ROWS)],
    }
)


@pytest.fixture(autouse=True)
def _all_closed() -> Iterator[None]:
    yield
    await_all_closed()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A namespace with two partitions."""
    data = bytearray(16 << 20)
    parts = {"data": (2048, 18431), "archive": (18432, 32000)}
    gpt.write(data, 512, [gpt.entry(name, *blocks) for name, blocks in parts.items()])
    (tmp_path / "disk.img").write_bytes(data)
    return f"nvme://soft:{tmp_path / 'disk.img'}?inline=1#1"


@pytest.fixture
def parquet(url: str) -> str:
    """A Parquet file in a partition."""
    with fsspec.open(f"{url}/data", "r+b") as file:
        FRAME.to_parquet(file, row_group_size=3000)
        return f"{url}/data?size={file.tell()}"


@pytest.fixture
def archived(url: str) -> str:
    """The same in a tar."""
    content = FRAME.to_parquet()
    with (
        fsspec.open(f"{url}/archive", "r+b") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        info = tarfile.TarInfo("folder/data.parquet")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return f"tar://folder/data.parquet::{url}/archive"


def test_pandas_in_a_partition(parquet: str) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), FRAME)
    some = pd.read_parquet(parquet, columns=["value"], filters=[("id", "<", 5000)])
    pd.testing.assert_series_equal(some["value"], FRAME["value"][:5000])


def test_pandas_in_a_tar(archived: str) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(archived), FRAME)


def by_duckdb(fs: fsspec.AbstractFileSystem, name: str, path: str, **config: int) -> None:
    """Ask for something of each row, whose right answer is known."""
    with duckdb.connect(config=config) as database:
        database.register_filesystem(fs)
        try:
            query = (
                f"SELECT count(*), sum(id), max(name) FROM read_parquet('{path}') WHERE id >= 100"
            )
            assert database.execute(query).fetchall() == [
                (ROWS - 100, int(FRAME["id"][100:].sum()), FRAME["name"].max())
            ]
        finally:
            database.unregister_filesystem(name)


def test_duckdb_in_a_partition(parquet: str) -> None:
    """Ten times, since its threads share a file."""
    for _ in range(10):
        by_duckdb(fsspec.filesystem("nvme", thread_positions=True), "nvme", parquet)


def test_duckdb_whose_threads_hand_on_a_position(url: str) -> None:
    """One reads what is compressed, and another goes on there, without a seek."""
    packed = gzip.compress("".join(f"{n},name {n % 77}\n" for n in range(100_000)).encode(), 1)
    with fsspec.open(f"{url}/data", "r+b") as file:
        file.write(packed)
    fs = fsspec.filesystem("nvme", thread_positions=True)
    with duckdb.connect() as database:
        database.register_filesystem(fs)
        try:
            rows = database.execute(
                "SELECT count(*), sum(column0) FROM read_csv("
                f"'{url}/data?size={len(packed)}', header=false, compression='gzip', "
                "buffer_size=100000, max_line_size=10000)"
            ).fetchall()
        finally:
            database.unregister_filesystem("nvme")
    assert rows == [(100_000, sum(range(100_000)))]


def test_duckdb_whose_threads_move_one_position(parquet: str) -> None:
    """The rows are the right ones, or the query fails and the error says why."""
    errors = []
    for _ in range(20):
        try:
            by_duckdb(fsspec.filesystem("nvme"), "nvme", parquet)
        except duckdb.Error as error:
            errors.append(str(error))
    assert all("thread_positions=True" in error for error in errors), errors


class Tar(TarFileSystem):
    """DuckDB asks when a file was modified, which fsspec's own does not tell."""

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)


def test_duckdb_in_a_tar(archived: str) -> None:
    """One thread reads: the members of a tar are fsspec's files, with one position."""
    for _ in range(10):
        fs = Tar(archived.partition("::")[2], skip_instance_cache=True)
        by_duckdb(fs, "tar", "tar://folder/data.parquet", threads=1, async_threads=0)


def test_pyarrow_on_a_file() -> None:
    table = pa.Table.from_pandas(FRAME)
    with nvme.open("soft:?size=16M&inline=1") as ctrl:
        ns = ctrl.namespaces[1]
        with ns.open("r+b") as file:
            pq.write_table(table, file)
            end = file.tell()
        with ns.open("rb", size=end) as file:
            assert pq.read_table(file).equals(table)
        with ns.open("rb", size=end, buffering=0) as file:  # by readinto, of any length
            groups = pq.ParquetFile(file)
            assert groups.read(["name"]).equals(table.select(["name"]))
        with ns.open("r+b", offset=1 << 20) as file, pa.ipc.new_file(file, table.schema) as stream:
            stream.write_table(table)
            stream.close()
            end = file.tell()
        with ns.open("rb", offset=1 << 20, size=end) as file:
            assert pa.ipc.open_file(file).read_all().equals(table)
