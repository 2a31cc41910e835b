"""The state file of a verified job: what a process that is killed leaves is judged afterwards.

The device outlives the process: a controller in a process of its own, whose storage is a file
that the test may look at and change.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from bench_rig import READ, WRITE, job, run
from software_controller import renew, served

from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run import engine
from pynvme_user.workload.verification import VerifyTable
from pynvme_user.workload.verify_state import NamespaceIdentity, StateFileError

pytestmark = pytest.mark.kills

BLOCK = 4096
#: Each interval is written many times in a tenth of a second.
JOB = {
    "rw": "randwrite", "bs": "4k", "size": "1m", "norandommap": True, "iodepth": 16,
    "verify": "crc32c",
}  # fmt: skip
WITHOUT_END = {"time_based": True, "runtime": 60}
CHILD = """
import sys
sys.path[:0] = {path!r}
from bench_rig import job
from pynvme_user.bench.run import engine
made = job(sys.argv[1], **{options!r}, verify_state=sys.argv[2])
print(flush=True)
engine.run([made])
"""


class Device(NamedTuple):
    name: str
    image: Path

    def blocks(self) -> npt.NDArray[np.uint8]:
        """What its first MiB holds."""
        return np.fromfile(self.image, np.uint8, 1 << 20).reshape(-1, BLOCK)

    def put(self, block: int, data: npt.NDArray[np.uint8]) -> None:
        with self.image.open("r+b") as file:
            file.seek(block * BLOCK)
            file.write(data.tobytes())


@pytest.fixture(scope="module")
def device(qemu: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    image = tmp_path_factory.mktemp("device") / "image"
    with served(f"size=8M&image={image}") as (name, _):
        yield Device(name, image)


def rewritten(before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which blocks held something and hold something else now."""
    changed: npt.NDArray[np.bool_] = (before != now).any(axis=1) & before.any(axis=1)
    return changed


def killed(device: Device, state: Path, seconds: float, **options: Any) -> npt.NDArray[np.uint8]:
    """Run a job in a process and kill it so late; return what blocks held a while before."""
    code = CHILD.format(path=sys.path, options={**JOB, **WITHOUT_END, **options})
    child = subprocess.Popen(
        [sys.executable, "-c", code, device.name, str(state)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    while not device.blocks().any():
        time.sleep(0.01)
        assert child.poll() is None
    time.sleep(seconds / 2)
    before = device.blocks()
    time.sleep(seconds / 2)
    # However slow the machine is: more are written anew than can be outstanding.
    while np.count_nonzero(rewritten(before, device.blocks())) <= int(options.get("iodepth", 64)):
        time.sleep(0.01)
        assert child.poll() is None
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    return before


def verified(device: Device, state: Path) -> JobResult:
    result = run(device.name, **JOB, verify_only=True, verify_state=state)
    assert result.verify is not None
    assert result.directions[WRITE].ios == 0
    return result


def promises(device: Device, state: Path) -> VerifyTable:
    identity = NamespaceIdentity(device=device.name, nsid=1, serial="1")
    with VerifyTable.open_state(state, identity) as table:
        return table


@pytest.mark.parametrize("moment", range(10))
def test_what_was_acknowledged_is_there_after_kill_9(
    device: Device, tmp_path: Path, moment: int
) -> None:
    renew(device.name)
    state, copy = tmp_path / "state", tmp_path / "copy"
    # Deep queues have much outstanding, one I/O at a time little.
    depth, seconds = (1, 16, 64)[moment % 3], random.uniform(0.02, 0.2)
    before = killed(device, state, seconds, iodepth=depth)
    shutil.copy(state, copy)  # verification notes in it what it has seen

    table = promises(device, state)
    summary = table.summary()
    assert summary.known > 0
    assert summary.in_doubt <= depth
    result = verified(device, state)
    assert result.ok, result.verify
    assert result.verify is not None
    assert result.verify.blocks * result.device.block_size == summary.known * BLOCK
    assert result.directions[READ].ios > 0

    # One acknowledged write undone.
    now = device.blocks()
    (changed,) = np.nonzero(rewritten(before, now))
    undone = next(
        block
        for block in changed.tolist()
        if (promise := table.promise(block * 8)) and promise.acknowledged == promise.issued
    )
    device.put(undone, before[undone])
    result = verified(device, copy)
    assert result.verify is not None
    assert not result.ok
    assert [(fault.kind, fault.lba) for fault in result.verify.faults] == [
        ("lost write", undone * 8)
    ]
    # What an earlier run of verification has seen, and is older now, is stale.
    again = verified(device, state)
    assert again.verify is not None
    assert [fault.kind for fault in again.verify.faults] == ["stale data"]


def test_killed_between_writes_and_their_verification(device: Device, tmp_path: Path) -> None:
    renew(device.name)
    killed(device, tmp_path / "state", 0.2, rw="randrw", verify_backlog=50)
    assert verified(device, tmp_path / "state").ok


def test_all_writes_lost(device: Device, tmp_path: Path) -> None:
    renew(device.name)
    killed(device, tmp_path / "state", 0.05)
    renew(device.name)
    result = verified(device, tmp_path / "state")
    assert result.verify is not None
    assert {fault.kind for fault in result.verify.faults} == {"lost write"}
    assert result.verify.faulty > 100


def test_a_state_file_is_not_written_over(device: Device, tmp_path: Path) -> None:
    renew(device.name)
    options = {"rw": "write", "bs": "4k", "size": "64k", "verify": "crc32c"}
    options["verify_state"] = str(tmp_path / "state")
    assert run(device.name, **options).ok
    with pytest.raises(StateFileError, match="exists already"):
        run(device.name, **options)
    with pytest.raises(StateFileError, match="does not exist"):
        run(device.name, **{**options, "verify_state": tmp_path / "none"}, verify_only=True)
    assert run(device.name, **options, verify_only=True).ok


def test_each_queue_has_a_state_file(device: Device, tmp_path: Path) -> None:
    renew(device.name)
    made = job(
        device.name,
        rw="write",
        bs="4k",
        size="64k",
        verify="crc32c",
        numjobs=2,
        offset_increment="64k",
        verify_state=tmp_path / "state",
    )
    assert engine.run([made]).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "state.2"]
