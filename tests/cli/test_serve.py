"""`nvme-user serve nbd`, and what clients of NBD see of a device."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disk_images import gpt
from nbd_client import client

import pynvme_user as nvme
from pynvme_user.cli.serve import PLUGIN

MIB = 1 << 20
SIZE = 64 * MIB
#: Set, as in NVME_USER_NBD_SECONDS=300, fio verifies for so long, and 20 GiB at least.
LONG = int(os.environ.get("NVME_USER_NBD_SECONDS", "0"))

Serve = Callable[..., str]


def need(program: str, package: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{package} is not installed: run ./bootstrap nbd")
    return found


@pytest.fixture
def nbdkit() -> str:
    found = need("nbdkit", "nbdkit")
    told = subprocess.run([found, "--dump-plugin", "python"], capture_output=True, check=False)
    version = "python_version={}.{}.".format(*sys.version_info)
    if version not in told.stdout.decode():
        pytest.skip(f"nbdkit has no plugin for this Python: {version} is not in what it says")
    return found


@pytest.fixture
def serve(start: Any, nbdkit: str) -> Iterator[Serve]:
    """Serve a device, give the URI; at the end ctrl-C has to end it in order."""
    servers: list[tuple[subprocess.Popen[bytes], list[bytes]]] = []

    def serve(device: str, *options: object, says: list[bytes] | None = None) -> str:
        process = start("serve", "nbd", device, *options)
        uri = process.stdout.readline().decode().strip()
        if not uri:
            pytest.fail(process.communicate()[1].decode())
        servers.append((process, says or []))
        return str(uri)

    yield serve
    for process, says in servers:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130
        lines = err.splitlines()
        assert lines.pop() == b"nvme-user: interrupted"
        assert [part for part in says if part not in err] == []
        assert says or lines == []


devices = pytest.mark.parametrize("device", ["soft:?size=64M", "qemu:?size=64M"])


@devices
def test_what_libnbd_sees(serve: Serve, device: str) -> None:
    """Bytes at any offset, whole blocks, zeroes, durable writes, one flush for all connections."""
    said = client(
        serve(device),
        """
one, two = connect(), connect()
print(one.get_size(), one.can_multi_conn(), one.can_flush(), one.can_fua(), one.can_trim())
print(one.can_zero(), one.can_fast_zero(), one.is_read_only(), one.is_rotational())
print(*(one.get_block_size(which) for which in range(3)))
model = bytearray(1 << 20)
def write(handle, at, data, flags=0):
    handle.pwrite(data, at, flags)
    model[at : at + len(data)] = data
write(one, 0, os.urandom(1 << 20))
write(two, 511, b"across two blocks", nbd.CMD_FLAG_FUA)
write(one, 70000, b"within")
for at, count, flags in ((100, 30, 0), (1000, 5000, 0), (8192, 4096, nbd.CMD_FLAG_NO_HOLE)):
    two.zero(count, at, flags)
    model[at : at + count] = bytes(count)
two.flush()
print(one.pread(1 << 20, 0) == model, one.pread(999, 300) == model[300:1299])
one.trim(1 << 16, 1 << 20)
one.trim(5, 3, nbd.CMD_FLAG_FUA)  # no whole block
print(two.pread(1 << 20, 0) == model)
print(refused(one.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE))
one.block_status(1 << 20, 0, lambda context, at, entries, error: print(at, entries))
""",
    )
    assert said == [
        f"{SIZE} True True True True",
        "True True False False",
        f"512 4096 {SIZE}",
        "True True",
        "True",
        "ENOTSUP",
        f"0 [{MIB}, 0]",  # it does not say: allocated
    ]


@devices
def test_parts_of_blocks_from_many_connections(serve: Serve, device: str) -> None:
    """Each writes its own bytes of the same blocks: none is lost."""
    said = client(
        serve(device, "--threads", 4),
        """
def work(number):
    handle = connect()
    for step in range(32):
        handle.pwrite(bytes([number + 1]) * 128, step * 512 + number * 128)
threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
expected = b"".join(bytes([number + 1]) * 128 for number in range(4)) * 32
print(connect().pread(32 * 512, 0) == expected)
""",
    )
    assert said == ["True"]


def test_what_is_allocated(serve: Serve) -> None:
    """Asked of the controller: what it says is free reads as zeroes, and says so."""
    said = client(
        serve("soft:?size=64M&commands=all"),
        """
one = connect()
one.pwrite(b"1" * 4096, 1 << 20)
one.pwrite(b"1" * 3, (1 << 20) + 8191)
show = lambda context, at, entries, error: print(at, entries)
one.block_status(2 << 20, 0, show)
one.block_status(4096 + 4, (1 << 20) - 4, show)
one.block_status(2 << 20, 0, show, nbd.CMD_FLAG_REQ_ONE)
one.zero(4096, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)
one.block_status((1 << 20) + 4096, 0, show)
print(refused(one.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE))
""",
    )
    free = MIB - 2 * 4096 - 512
    assert said == [
        f"0 [{MIB}, 3, 4096, 0, 3584, 3, 1024, 0, {free}, 3]",
        f"{MIB - 4} [4, 3, 4096, 0]",
        f"0 [{MIB}, 3]",
        f"0 [{MIB + 4096}, 3]",
        "ENOTSUP",
    ]


def test_errors_of_the_device(serve: Serve) -> None:
    uri = serve(
        "soft:?size=1M&fault=status:1", "--force", says=[b"Write", b"Unrecovered Read Error"]
    )
    said = client(uri, "print(refused(connect().pwrite, bytes(512), 0))")
    assert said == ["EIO"]


def test_read_only(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"\7" * MIB)
    refusal = b"write request on readonly connection"
    uri = serve("soft:disk.img", "--read-only", "--socket", "s k.sock", says=[refusal])
    assert uri == f"nbd+unix:///?socket={tmp_path}/s%20k.sock"
    assert client(
        uri,
        """
one = connect()
print(one.is_read_only(), one.can_multi_conn(), set(one.pread(1 << 20, 0)))
one.set_strict_mode(0)
print(refused(one.pwrite, bytes(512), 0))
""",
    ) == ["True True {7}", "EPERM"]


def test_over_tcp(serve: Serve) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    uri = serve("soft:?size=1M", "--port", port)
    assert uri == f"nbd://127.0.0.1:{port}"
    assert client(uri, "print(connect().get_size())") == [str(MIB)]


@devices
def test_fio_verifies(serve: Serve, device: str) -> None:
    fio = need("fio", "fio")
    if "nbd" not in subprocess.run([fio, "--enghelp"], capture_output=True, text=True).stdout:
        pytest.skip("this fio has no engine nbd")
    uri = serve(device.replace("64M", "1G") if LONG else device)
    options = ["--bs=16k", "--size=16M"]
    if LONG:
        options = ["--bs=256k", "--size=1G", "--verify_backlog=1024"]
        options += ["--time_based", f"--runtime={LONG}"]
    seconds = verified = 0.0
    while not verified or seconds < LONG or (LONG and verified < 20 << 20):
        done = subprocess.run(
            [
                *(fio, "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite"),
                *("--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--iodepth=16"),
                *("--output-format=terse", "--terse-version=3", *options),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        fields = next(line for line in done.stdout.splitlines() if line.startswith("3;")).split(";")
        error, read_kib, written_kib, write_ms = (int(fields[at]) for at in (4, 5, 46, 49))
        assert error == 0
        assert read_kib == written_kib or LONG
        assert read_kib
        verified += read_kib
        seconds += write_ms / 1000
        print(f"{device}: {verified / (1 << 20):.1f} GiB verified in {seconds:.0f} s")


@devices
def test_qemu_img_there_and_back(serve: Serve, tmp_path: Path, device: str) -> None:
    qemu_img = need("qemu-img", "qemu-utils")
    source, back = tmp_path / "source.img", tmp_path / "back.img"
    data = bytearray(SIZE)
    for at in range(0, SIZE, 8 * MIB):
        data[at : at + MIB] = os.urandom(MIB)
    source.write_bytes(data)
    uri = serve(device)

    def run(*words: object) -> None:
        subprocess.run([qemu_img, *map(str, words)], check=True, capture_output=True)

    run("convert", "-n", "-f", "raw", "-O", "raw", source, uri)
    run("compare", "-f", "raw", "-F", "raw", source, uri)
    run("convert", "-f", "raw", "-O", "raw", uri, back)
    assert back.read_bytes() == data


def test_qemu_io_and_nbdcopy(serve: Serve, tmp_path: Path) -> None:
    qemu_io, nbdcopy = need("qemu-io", "qemu-utils"), need("nbdcopy", "libnbd-bin")
    uri = serve("soft:?size=4M&commands=all")
    steps = ("write -P 5 1000 3000", "write -z 2000 500", "discard 1M 1M", "flush")
    steps = (*steps, "read -P 5 1000 1000", "read -P 0 2000 500", "read -P 5 2500 1500")
    done = subprocess.run(
        [qemu_io, "-f", "raw", *(word for step in steps for word in ("-c", step)), uri],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Pattern verification failed" not in done.stdout
    assert done.stdout.count("read ") == 3
    subprocess.run([nbdcopy, uri, tmp_path / "copy"], check=True)
    expected = bytearray(4 * MIB)
    expected[1000:4000] = b"\5" * 1000 + bytes(500) + b"\5" * 1500
    assert (tmp_path / "copy").read_bytes() == expected


# --- how it begins and ends ---------------------------------------------------------------------


def test_somebodys_data(serve: Serve, fail: Any, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    content = bytearray(MIB)
    for at, part in gpt(MIB, 512, backup=False).items():
        content[at : at + len(part)] = part
    image.write_bytes(content)
    assert fail("serve", "nbd", "soft:disk.img") == (
        "namespace 1 of soft:disk.img carries a partition table (gpt): add --force to export it "
        "for writing all the same; --read-only exports it as it is"
    )
    code = "one = connect(); print(one.is_read_only(), bytes(one.pread(8, 512)))"
    assert client(serve("soft:disk.img", "--read-only"), code) == ["True b'EFI PART'"]


def test_somebodys_data_all_the_same(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"\0" * 510 + b"\x55\xaa" + bytes(MIB - 512))
    uri = serve("soft:disk.img", "--force")
    assert client(uri, "connect().pwrite(b'1' * 512, 0); print('done')") == ["done"]
    assert (tmp_path / "disk.img").read_bytes()[:512] == b"1" * 512


def test_what_is_not_served(fail: Any, nbdkit: str, tmp_path: Path) -> None:
    assert "exclude each other" in fail("serve", "nbd", "soft:", "--socket=a", "--port=1", code=2)
    (tmp_path / "there").touch()
    assert "there exists: name another" in fail("serve", "nbd", "soft:", "--socket", "there")
    assert "'soft:?size=x'" in fail("serve", "nbd", "soft:?size=x", code=2)
    assert "namespace 7 is not active" in fail("serve", "nbd", "soft:", "-n", 7)
    assert "is zoned" in fail("serve", "nbd", "soft:?size=64M&commands=all&zoned.zone_size=16M")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        said = fail("serve", "nbd", "soft:", "--port", one.getsockname()[1])
    assert said.startswith("nbdkit did not start: ")
    assert said.endswith(": Address already in use")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_a_device_in_use(fail: Any, nbdkit: str, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(MIB))
    with nvme.open(f"soft:{tmp_path}/disk.img"):
        assert str(os.getpid()) in fail("serve", "nbd", "soft:disk.img")


def program(folder: Path, text: str) -> None:
    """Make what takes nbdkit's place in PATH."""
    path = folder / "bin" / "nbdkit"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nbdkit has no plugin for Python: apt-get install nbdkit nbdkit-plugin-python"),
        (
            'test "$1" = --dump-plugin && echo python_version=3.1.4 || echo "nbdkit: no" >&2',
            "nbdkit did not start: no",
        ),
    ],
)
def test_other_nbdkits(
    fail: Any, environment: dict[str, str], tmp_path: Path, text: str, said: str
) -> None:
    program(tmp_path, text)
    environment["PATH"] = f"{tmp_path}/bin:{environment['PATH']}"
    assert fail("serve", "nbd", "soft:") == said


def test_packages_of_another_python_are_not_taken(
    run: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    program(tmp_path, "echo python_version=3.1.4")
    environment["PATH"] = f"{tmp_path}/bin:{environment['PATH']}"
    assert b" site=" not in run("serve", "nbd", "soft:", "--dry-run").stdout


def test_without_nbdkit(
    fail: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("nbdkit", path="/usr/sbin:/usr/local/sbin"):
        pytest.skip("nbdkit is where it is looked for, whatever PATH says")
    environment["PATH"] = str(tmp_path)
    assert fail("serve", "nbd", "soft:") == (
        "nbdkit, which serves, is not installed: apt-get install nbdkit nbdkit-plugin-python"
    )


def test_the_plugin_says_which_python_it_needs(nbdkit: str, tmp_path: Path) -> None:
    """Where the package cannot be imported by nbdkit's Python."""
    python = subprocess.run(
        ["/usr/bin/python3", "-c", "import pynvme_user"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if python.returncode == 0:
        pytest.skip("the package is installed for Debian's Python, too")
    done = subprocess.run(
        [nbdkit, "-f", f"--unix={tmp_path}/s", "python", PLUGIN, "device=soft:"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    version = "{}.{}".format(*sys.version_info)
    assert f"nbdkit runs Python {version}, which cannot import pynvme_user" in done.stderr
    assert f"python{version} -m venv ENV" in done.stderr


def test_the_plugins_parameters(run: Any, nbdkit: str, tmp_path: Path) -> None:
    command = run("serve", "nbd", "soft:", "--dry-run").stdout.decode().split()
    told = subprocess.run(
        [nbdkit, "--dump-plugin", "python", PLUGIN], capture_output=True, text=True, check=True
    )
    assert "read_only=" in told.stdout
    (site,) = [word for word in command if word.startswith("site=")]
    for given, said in (
        ([], "no device: add device=NAME"),
        (["device=soft:", "color=red"], "there is no parameter color"),
        (["device=soft:?size=x"], "soft:?size=x"),
    ):
        done = subprocess.run(
            [nbdkit, "-f", f"--unix={tmp_path}/s", "python", PLUGIN, site, *given],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr
        (tmp_path / "s").unlink(missing_ok=True)


@pytest.mark.kills
def test_a_killed_command_leaves_no_server(start: Any, nbdkit: str, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(MIB))
    process = start("serve", "nbd", "soft:disk.img", "--socket", "s")
    assert process.stdout.readline()
    process.kill()
    # The server has the command's stderr from the command alone, stdout from nobody.
    process.communicate(timeout=120)
    again = start("serve", "nbd", "soft:disk.img", "--socket", "t")
    line = again.stdout.readline()
    while not line and b"uses" in again.communicate()[1]:  # not ended yet
        again = start("serve", "nbd", "soft:disk.img", "--socket", "t")
        line = again.stdout.readline()
    assert line
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=120)
    assert again.returncode == 143
    assert not (tmp_path / "t").exists()
