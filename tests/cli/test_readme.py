"""The README from top to bottom, pasted: its blocks run one after the other in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
#: Lines that are not run here, by how they begin, and why.
NOT_HERE = {
    "make demo": "installs packages; CI runs it on a fresh clone",
    "make test": "is what runs this",
    "make guest-shell": "a shell for a person; tests/guest starts the same guests",
    "make bench": "takes minutes; tests/unit/test_benchmarks.py runs its parts",
    "python benchmarks/versus_spdk.py": "needs a build of SPDK",
    "python benchmarks/waiting.py": "needs a controller of which no other program knows",
    "python benchmarks/rates.py": "takes a minute; tests/unit/test_benchmarks.py runs it",
    "python benchmarks/versus_fio.py": "needs fio, and takes minutes",
    "python benchmarks/controller/serve.py": "serves until it is ended; tests/vfio_user starts it",
}


def lines_not_here(body: str) -> list[str]:
    return [line for line in body.splitlines() if line.startswith(tuple(NOT_HERE))]


def test_every_reason_is_of_a_line() -> None:
    text = "\n".join(body for _, body in BLOCKS)
    for start in NOT_HERE:
        assert f"\n{start}" in f"\n{text}"


def test_pasted_from_top_to_bottom(environment: dict[str, str], tmp_path: Path) -> None:
    # As after `. .venv/bin/activate`, in a folder with nothing in it.
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = 0
    for language, body in BLOCKS:
        if language == "python":
            program = ["python", "-c", body]
        elif body.startswith(". .venv/bin/activate"):
            program = ["sh", "-ec", f"cd {ROOT}\n{body}\ncommand -v nvme-user python"]
        else:
            skipped = lines_not_here(body)
            body = "".join(f"{line}\n" for line in body.splitlines() if line not in skipped)
            program = ["bash", "-o", "pipefail", "-ec", body]
        done = subprocess.run(
            program,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}{done.stderr}"
        ran += bool(body.strip())
    assert ran >= 4
    assert (tmp_path / "disk.img").stat().st_size == 1 << 30
    assert (tmp_path / "sweep.html").stat().st_size > 10_000
