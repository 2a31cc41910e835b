"""Started with any of standard input, output and error closed, as daemons and cron may do.

The next file that is opened would have its number: the device, QEMU's memory or the data's own
file, into which then goes what is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain, combinations
from pathlib import Path

import pytest
import software_controller

NVME_USER = str(Path(sys.executable).with_name("nvme-user"))
SUBSETS = [*chain.from_iterable(combinations("012", count) for count in (1, 2, 3))]
SIZE = 1 << 20


def started(closed: tuple[str, ...], *command: str, code: int = 0) -> bytes:
    """Run a command with these descriptors closed; return its standard output."""
    shell = f'exec "$@" {" ".join(f"{number}>&-" for number in closed)}'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.mark.parametrize("closed", SUBSETS, ids="".join)
def test_read_gives_the_data_and_nothing_else(
    image: Path, tmp_path: Path, closed: tuple[str, ...]
) -> None:
    data = image.read_bytes()
    read = (NVME_USER, "read", f"qemu:{image}", "--data-size", str(SIZE))
    if "1" not in closed:
        assert started(closed, *read) == data
    else:
        out = tmp_path / "out"
        assert started(closed, *read, "--data", str(out)) == b""
        assert out.read_bytes() == data
    assert image.read_bytes() == data


@pytest.mark.parametrize("closed", [("2",), ("0", "2")], ids="".join)
def test_messages_do_not_go_into_the_data(image: Path, closed: tuple[str, ...]) -> None:
    data = image.read_bytes()
    far = str(SIZE // 512)
    assert started(closed, NVME_USER, "read", f"qemu:{image}", "-s", far, code=2) == b""
    page = started(closed, NVME_USER, "id-ctrl", f"qemu:{image}", "--output-format", "binary")
    assert len(page) == 4096
    assert image.read_bytes() == data


@pytest.mark.parametrize("closed", [("2",), ("0", "2")], ids="".join)
def test_bench_gives_json_and_nothing_else(closed: tuple[str, ...]) -> None:
    command = (NVME_USER, "bench", "qemu:?driver=null-co", "--number-ios", "100")
    assert json.loads(started(closed, *command, "--output-format", "json"))["jobs"]


#: Uses a device with whatever it keeps open, and says which of 0 to 2 are open meanwhile.
LIBRARY = """
import os, sys
import pynvme_user as nvme
with nvme.open(sys.argv[1], spin=float(sys.argv[2])) as ctrl, ctrl.queue_pair(4) as qp:
    ns, data = ctrl.namespaces[1], os.urandom(1 << 20)
    ns.write(0, data)
    assert ns.read(0, len(data) // ns.block_size) == data
    qp.submit_flush(ns)
    assert [done.status.ok for done in qp.wait()] == [True]
    is_open = ""
    for number in range(3):
        try:
            os.fstat(number)
            is_open += str(number)
        except OSError:
            pass
with open(sys.argv[3], "w") as file:
    file.write(is_open)
"""


@pytest.mark.parametrize("closed", SUBSETS, ids="".join)
def test_the_library_keeps_its_own_above(tmp_path: Path, closed: tuple[str, ...]) -> None:
    report = tmp_path / "report"
    with software_controller.served() as (served, _):
        for name, spin in (("qemu:?size=16M", "inf"), (served, "0")):
            started(closed, sys.executable, "-c", LIBRARY, name, spin, str(report))
            assert report.read_text() == "".join(n for n in "012" if n not in closed)
