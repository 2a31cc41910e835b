"""A user's script under ``mypy --strict``: what is wrong is refused, what is right is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: A line with "# wrong: CODE" has to be refused with that code, any other may not.
SCRIPT = """\
import array
import mmap
from pathlib import Path

import numpy as np

import pynvme_user as nvme
from pynvme_user import SQE, Status

text: str = nvme.__version__
nvme.nonsense  # wrong: attr-defined
nvme.open(Path("disk.img"))  # wrong: arg-type
nvme.open("qemu:", timeout="5")  # wrong: arg-type

with nvme.open("qemu:") as ctrl:
    ns = ctrl.namespaces[1]
    owner: nvme.Controller = ns.controller
    ns.controller.nonsense  # wrong: attr-defined
    ns.write(0, "text")  # wrong: arg-type
    ns.write(0, [1, 2])  # wrong: arg-type
    ns.write("0", b"")  # wrong: arg-type
    ns.write(0, b"")
    ns.write(0, memoryview(b""))
    ns.write(0, np.zeros(512))
    ns.write(0, array.array("B"))
    ns.write_from(0, mmap.mmap(-1, 4096))
    ns.read_into(0, bytearray(512))
    ns.read_into(0, None)  # wrong: arg-type
    ns.compare(0, 5)  # wrong: arg-type
    data: bytearray = ns.read(0, 1)
    buffer: nvme.DmaBuffer = ctrl.alloc(4096)
    ns.read_into(0, buffer)
    ctrl.map("text")  # wrong: arg-type
    done: nvme.Completion = ctrl.admin(nvme.AdminOpcode.IDENTIFY, cdw10=1, buffer=buffer)
    ctrl.admin(6, cdw99=1)  # wrong: call-arg
    ctrl.admin(6, buffer="text")  # wrong: arg-type
    status: Status = done.status
    with ctrl.queue_pair(depth=4) as qp:
        qp.submit(SQE.build(opc=nvme.NvmOpcode.FLUSH, nsid=1))
        qp.read_many(ns, lbas=range(8), blocks=1, buffer=buffer).check()
        qp.submit_read(ns, 0, 1, "text")  # wrong: arg-type
        qp.controller.nonsense  # wrong: attr-defined
    node = nvme.Placement("bind", frozenset({0}))
    ctrl.alloc(1, node=node)
    try:
        ns.flush()
    except nvme.NvmeStatusError as error:
        assert error.status.code() is nvme.GenericStatus.LBA_OUT_OF_RANGE
"""


def test_a_script_of_a_user(tmp_path: Path) -> None:
    # The package's three folders as one, as an installation has them.
    tree = tmp_path / "tree" / "pynvme_user"
    tree.mkdir(parents=True)
    for path in (*(ROOT / "pynvme_user").iterdir(), ROOT / "cli", ROOT / "qemu"):
        (tree / path.name).symlink_to(path)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11"),
            *("--config-file", "", "--cache-dir", str(ROOT / ".mypy_cache" / "script")),
            script.name,
        ],
        capture_output=True,
        cwd=tmp_path,
        env={"MYPYPATH": str(tree.parent)},
        text=True,
        check=False,
    )
    assert done.stderr == ""
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("script.py:") and " error: " in line:
            found[int(line.split(":")[1])] = line.rpartition("[")[2].rstrip("]")
    wanted = {
        number: line.partition("# wrong: ")[2]
        for number, line in enumerate(SCRIPT.splitlines(), 1)
        if "# wrong: " in line
    }
    assert found == wanted, done.stdout
