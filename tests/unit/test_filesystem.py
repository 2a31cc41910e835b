"""``nvme://`` for fsspec: partitions as files, chained with fsspec's own; who has the device."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import gpt
import pandas
import pyarrow
import pytest
from closed_controllers import await_all_closed
from pyarrow import parquet

import pynvme_user as nvme
from pynvme_user.filesystem import NvmeFileSystem, _controllers

# What pip knows of a checkout may be older than its entry points; one test looks at these.
fsspec.register_implementation("nvme", NvmeFileSystem, clobber=True)

SIZE = 4 << 20
BLOCK = 512
#: First and last block of each partition.
PARTS = {
    "before": (1000, 1999),
    "data": (2000, 2399),
    "a/b#c?[*]:%": (2400, 2499),
    "": (3000, 3000),
}


@pytest.fixture(autouse=True)
def _all_closed() -> Iterator[None]:
    yield
    await_all_closed()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk in a folder whose name has what a path may have; its bytes say where they are."""
    data = bytearray(SIZE)
    for at in range(0, SIZE, BLOCK):
        data[at : at + BLOCK] = (at // BLOCK).to_bytes(4, "little") * (BLOCK // 4)
    gpt.write(data, BLOCK, [gpt.entry(name, *blocks) for name, blocks in PARTS.items()])
    path = tmp_path / "a#1" / "disk.img"
    path.parent.mkdir()
    path.write_bytes(data)
    return path


@pytest.fixture(params=["", "?inline=1"])
def url(image: Path, request: pytest.FixtureRequest) -> str:
    return f"nvme://soft:{image}{request.param}#1"


def of_image(image: Path, name: str) -> bytes:
    first, last = PARTS[name]
    return image.read_bytes()[first * BLOCK : (last + 1) * BLOCK]


def test_fsspec_finds_it(tmp_path: Path) -> None:
    program = "import fsspec; print(fsspec.filesystem('nvme').size('soft:?size=1M'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{1 << 20}\n", done.stderr


def test_a_namespace_and_its_partitions(url: str, image: Path) -> None:
    fs = fsspec.filesystem("nvme")
    assert isinstance(fs, NvmeFileSystem)
    path = url.removeprefix("nvme://")
    names = [f"{path}/{name}" for name in ("before", "data", "a%2Fb%23c%3F%5B%2A%5D%3A%25", "p4")]
    assert fs.ls(url, detail=False) == names
    assert fs.find(url) == sorted(names)
    assert fs.glob(f"{url}/*a*") == names[1:3]
    assert fs.glob(f"{url}/[bp]*") == [names[0], names[3]]
    assert fs.glob(url) == [path]
    assert fs.glob(f"{url}/none") == []
    assert fs.size(url) == SIZE
    assert fs.info(f"{url}/data") == {
        "name": f"{path}/data",
        "type": "file",
        "offset": 2000 * BLOCK,
        "size": 400 * BLOCK,
        "partn": 2,
        "parttype": str(gpt.TYPE),
        "partuuid": str(gpt.ID),
    }
    assert fs.ls(f"{url}/data") == [fs.info(f"{url}/data")]
    assert fs.isfile(url)
    assert not fs.isdir(url)
    for name, content in zip(names, PARTS, strict=True):
        assert fs.cat(name) == of_image(image, content)
    assert [fs.exists(name) for name in (url, names[0], f"{url}/none", f"{path[:-1]}2")] == [
        *(True, True),
        *(False, False),
    ]


def test_a_namespace_without_a_number_is_the_first(tmp_path: Path) -> None:
    fs = fsspec.filesystem("nvme")
    url = f"nvme://soft:{tmp_path}/disk.img?size=1M"
    assert fs.ls(url) == [fs.info(f"{url}#1")]
    with fsspec.open(url, "r+b") as file:
        file.write(b"hello")
    assert fs.cat_file(url, 0, 5) == b"hello"
    fs.close()
    assert (tmp_path / "disk.img").read_bytes().startswith(b"hello")


@pytest.mark.parametrize("start", [None, 0, 1, 511, 5000, 10**9, -1, -700, -(10**9)])
def test_ranges(image: Path, start: int | None) -> None:
    fs = fsspec.filesystem("nvme")
    expected = of_image(image, "data")
    for end in (None, 0, 1, 1024, 6000, 10**9, -1, -600):
        found = fs.cat_file(f"soft:{image}?inline=1#1/data", start, end)
        assert found == expected[start:end]


def test_a_write_keeps_to_its_partition(url: str, image: Path) -> None:
    before = image.read_bytes()
    with fsspec.open(f"{url}/data", "r+b") as file:
        assert file.size == 400 * BLOCK
        file.seek(700)
        file.write(b"x" * 1000)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    with fsspec.filesystem("nvme").open(f"{url}/data", "r+b") as file:
        file.raw.seek(0, os.SEEK_END)
        with pytest.raises(OSError, match=r"soft:.*#1/data has 204800 bytes, and no more"):
            file.raw.write(b"y")
    data = bytearray(before)
    start = 2000 * BLOCK
    data[start + 700 : start + 1700] = b"x" * 1000
    data[start + 400 * BLOCK - 3 : start + 400 * BLOCK] = b"end"
    assert image.read_bytes() == data


def test_text(url: str) -> None:
    with fsspec.open(f"{url}/data", "r+t") as file:
        file.write("ä line\nanother\n")
    with fsspec.open(f"{url}/data?size=8", "r") as file:
        assert file.read() == "ä line\n"


@pytest.mark.parametrize("mode", ["wb", "ab", "xb", "w", "w+b"])
def test_other_modes(mode: str) -> None:
    with pytest.raises(ValueError, match=r"the mode 'rb' or 'r\+b', not .*: it has its size"):
        fsspec.filesystem("nvme").open("nvme://soft:#1", mode)
    with pytest.raises(ValueError, match="it has its size"):
        fsspec.filesystem("nvme").pipe_file("nvme://soft:#1", b"x")


def test_chained(url: str) -> None:
    """Another file system of fsspec's reads what is in a partition."""
    content = os.urandom(20_000)
    with (
        fsspec.open(f"{url}/data", "r+b") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        info = tarfile.TarInfo("folder/data.bin")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.bin", content)
    with fsspec.open(f"{url}/before", "r+b") as file:
        file.write(packed.getvalue())
    with fsspec.open(f"tar://folder/data.bin::{url}/data") as file:
        assert file.read() == content
    del file  # the archive goes with its last file
    size = len(packed.getvalue())
    with fsspec.open(f"zip://data.bin::{url}/before?size={size}") as file:
        assert file.read() == content
    del file
    fs, path = fsspec.url_to_fs(f"{url}/data")
    with fs.open(path) as file:
        assert file.read(17) == b"folder/data.bin\0\0"
    [one] = fsspec.open_files(f"{url}/dat*")
    assert one.path == path
    del one


def test_the_first_bytes(url: str) -> None:
    fs = fsspec.filesystem("nvme")
    assert fs.size(f"{url}/data?size=1k") == 1024
    assert fs.info(f"{url}?size=7")["name"] == f"{url.removeprefix('nvme://')}?size=7"
    with fs.open(f"{url}/data?size=10") as file:
        assert file.size == len(file.read()) == 10
    with pytest.raises(FileNotFoundError, match="has 204800 bytes"):
        fs.info(f"{url}/data?size=204801")


def test_what_is_not_there(url: str) -> None:
    fs = fsspec.filesystem("nvme")
    with pytest.raises(FileNotFoundError, match="has the partitions before, data, "):
        fs.open(f"{url}/none")
    with pytest.raises(FileNotFoundError, match="has no namespace 7, but 1"):
        fs.open(f"{url[:-1]}7")
    for bad in ("nvme://", "nvme://soft:#", "nvme://soft:#x", "nvme://#1", "nvme://soft:#1?size=x"):
        with pytest.raises(nvme.DeviceNameError, match=r"nvme://|size"):
            fs.info(bad)
    with pytest.raises(nvme.DeviceNameError):
        fs.exists("nvme://nothing")
    with pytest.raises(FileNotFoundError, match="has none"):
        fs.info("nvme://soft:?size=1M#1/data")


def test_a_table_that_is_damaged(image: Path) -> None:
    with image.open("r+b") as file:
        for at in (BLOCK, SIZE - BLOCK):
            file.seek(at)
            file.write(b"?")
    fs = fsspec.filesystem("nvme")
    with pytest.raises(nvme.PartitionTableError, match="damaged"):
        fs.exists(f"nvme://soft:{image}#1/data")
    assert fs.size(f"nvme://soft:{image}#1") == SIZE


def test_one_controller_for_all(image: Path) -> None:
    """It is closed with the last file system and file, in whichever order they go."""
    device = f"soft:{image}"
    fs = fsspec.filesystem("nvme")
    other = fsspec.filesystem("nvme")
    fs.info(f"{device}#1")
    ctrl = _controllers._open[device].controller
    one, two = fs.open(f"{device}#1/data"), other.open(f"{device}#1/before", "r+b")
    assert [*_controllers._open] == [device]
    assert _controllers._open[device].controller is ctrl
    fs.close()
    fs.close()
    del other
    one.close()
    one.close()
    assert not ctrl.closed
    two.write(b"kept")
    two.close()
    assert ctrl.closed
    assert fs.cat_file(f"{device}#1/before", 0, 4) == b"kept"  # opened anew
    again = _controllers._open[device].controller
    del fs
    assert again.closed


def test_a_controller_that_was_closed_is_opened_anew(image: Path) -> None:
    device = f"soft:{image}"
    fs = fsspec.filesystem("nvme")
    fs.info(f"{device}#1")
    _controllers._open[device].controller.close()
    assert fs.size(f"{device}#1") == SIZE
    fs.close()


def test_threads(image: Path) -> None:
    """Each opens, reads and closes; the last one out closes the device, and nobody else."""
    failed: list[BaseException] = []
    expected = of_image(image, "data")

    def read() -> None:
        try:
            for _ in range(8):
                with fsspec.open(f"nvme://soft:{image}#1/data") as file:
                    assert file.read() == expected
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def in_another_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_two_threads_that_move_one_position(url: str, image: Path, mode: str) -> None:
    """What the second would get is not what it asked for: an error, and never those bytes."""
    content = of_image(image, "data")
    with fsspec.filesystem("nvme").open(f"{url}/data", mode) as file:
        for moved in (
            lambda: file.seek(9216),
            lambda: (file.seek(9216), file.read(10)),
            lambda: (file.seek(9216), file.readinto(bytearray(10))),
        ):
            for move in (lambda: file.read(10), lambda: file.readinto(bytearray(10))):
                file.seek(1024)
                in_another_thread(moved)
                with pytest.raises(OSError, match="thread_positions=True"):
                    move()
                file.seek(1024)
                assert file.read(3) == content[1024:1027]  # no harm done


def test_two_threads_that_write_at_one_position(url: str, image: Path) -> None:
    with fsspec.filesystem("nvme").open(f"{url}/data", "r+b") as file:
        before = image.read_bytes()
        file.seek(1024)
        in_another_thread(lambda: file.seek(9216))
        with pytest.raises(OSError, match="thread_positions=True"):
            file.write(b"lost")
    assert image.read_bytes() == before


def test_a_position_that_goes_from_thread_to_thread(url: str, image: Path) -> None:
    """As where a pool of threads serves a program that waits for each call."""
    content = of_image(image, "data")
    with fsspec.filesystem("nvme").open(f"{url}/data") as file:
        file.seek(1024)
        assert in_another_thread(lambda: file.read(10)) == content[1024:1034]
        assert file.read(10) == content[1034:1044]
        in_another_thread(lambda: file.seek(5120))
        assert file.read(10) == content[5120:5130]
        in_another_thread(lambda: file.seek(0, os.SEEK_END))
        assert in_another_thread(file.tell) == file.size


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_a_thread_that_goes_on_where_another_went_since(url: str, image: Path, mode: str) -> None:
    """As one that reads a head and then a body, by any call: without a seek in between."""
    content = of_image(image, "data")
    with fsspec.filesystem("nvme").open(f"{url}/data", mode) as file:
        for move in (
            lambda: file.read(10),
            lambda: file.read1(10),
            file.readline,
            lambda: next(file),
            file.peek,
            lambda: file.readinto(bytearray(10)),
            lambda: file.readinto1(bytearray(10)),
        ):
            for head in (4, 0):
                file.seek(1024)
                assert not head or file.read(head) == content[1024 : 1024 + head]
                in_another_thread(lambda: (file.seek(9216), file.read(10)))
                with pytest.raises(OSError, match="thread_positions=True"):
                    move()
        file.seek(1024)
        assert file.read(3) == content[1024:1027]


def test_a_thread_that_asked_only_for_the_size(url: str, image: Path) -> None:
    with (
        fsspec.filesystem("nvme").open(f"{url}/data") as file,
        ThreadPoolExecutor(1) as pool,
    ):
        assert pool.submit(file.seek, 0, os.SEEK_END).result() == file.size
        file.seek(1024)
        assert pool.submit(file.read, 10).result() == of_image(image, "data")[1024:1034]


def test_a_thread_that_has_no_position(url: str, image: Path) -> None:
    """It goes on where the others are, if that is one place."""
    content = of_image(image, "data")
    fs = fsspec.filesystem("nvme", thread_positions=True)
    with fs.open(f"{url}/data") as file, ThreadPoolExecutor(1) as pool:
        file.seek(1024)
        assert file.read(10) == content[1024:1034]
        assert pool.submit(file.read, 10).result() == content[1034:1044]
        assert file.read(10) == content[1044:1054]
        assert (
            pool.submit(lambda: (file.seek(5120), file.read(10))).result()[1]
            == (content[5120:5130])
        )
        assert file.read(10) == content[1054:1064]
        with pytest.raises(OSError, match=r"seek\(\) first") as refused:
            in_another_thread(lambda: file.read(10))
        assert refused.value.errno == errno.EBUSY
        with pytest.raises(ValueError, match="no byte -1"):
            file.seek(-1)
        assert file.read(10) == content[1064:1074]


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_a_position_for_each_thread(url: str, image: Path, mode: str) -> None:
    content = of_image(image, "data")
    fs = fsspec.filesystem("nvme", thread_positions=True)
    with fs.open(f"{url}/data", mode) as file:
        file.seek(1024)
        assert in_another_thread(lambda: (file.seek(0), file.read(3), file.seek(9216))) == (
            0,
            content[:3],
            9216,
        )
        assert file.read(10) == content[1024:1034]
        if file.writable():
            in_another_thread(lambda: (file.seek(7), file.write(b"its")))
            assert file.tell() == 1034
            assert file.write(b"mine") == 4
    with fs.open(f"{url}/data") as file:
        now = file.read(2048)
    written = bytearray(content[:2048])
    if mode == "r+b":
        written[7:10], written[1034:1038] = b"its", b"mine"
    assert now == written


def test_a_copy_opens_the_device_itself(url: str) -> None:
    fs = fsspec.filesystem("nvme")
    fs.info(url)
    other = pickle.loads(pickle.dumps(fs))
    assert other == fs
    assert other._leases == {}
    assert other.size(f"{url}/data") == 400 * BLOCK


def _in_child(fs: NvmeFileSystem, file: io.BufferedIOBase, path: str, to: object) -> None:
    results: list[object] = []
    try:
        file.read(1)
    except nvme.ForkedError as error:
        results.append(error.owner)
    try:
        fs.cat_file(path, 0, 4)
    except nvme.DeviceBusyError as error:
        results.append(error.holder)
    to.send(results)  # type: ignore[attr-defined]


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    """As long as the parent has the device the child is told so."""
    path = f"qemu:{tmp_path / 'disk.img'}?size=1M#1"
    fs = fsspec.filesystem("nvme")
    file = fs.open(path, block_size=16)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=_in_child, args=(fs, file, path, theirs)
    )
    child.start()
    assert ours.poll(60)
    assert ours.recv() == [os.getpid(), os.getpid()]
    child.join()
    assert child.exitcode == 0
    assert file.read(2) == b"\0\0"  # nothing of the parent's was closed
    file.close()
    fs.close()


def test_created_and_modified() -> None:
    fs = fsspec.filesystem("nvme")
    with pytest.raises(NotImplementedError, match="does not know"):
        fs.created("nvme://soft:#1")
    before = datetime.now(UTC)
    first, second = (fs.modified("nvme://soft:#1") for _ in range(2))
    assert before <= first <= second  # whoever cached it has to read it again


def test_pandas(url: str) -> None:
    text = "a,b\n1,2\n3,4\n"
    with fsspec.open(f"{url}/data", "r+b") as file:
        file.write(text.encode())
    assert pandas.read_csv(f"{url}/data?size={len(text)}")["b"].sum() == 6


def test_pyarrow(url: str) -> None:
    with fsspec.open(f"{url}/data", "r+b") as file:
        parquet.write_table(pyarrow.table({"a": [1, 2, 3]}), file)
        size = file.tell()
    fs, path = fsspec.url_to_fs(f"{url}/data?size={size}")
    assert parquet.read_table(path, filesystem=fs).to_pydict() == {"a": [1, 2, 3]}
