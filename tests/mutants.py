"""Shows that the tests notice a broken core: each mutant below has to make one of them fail.

Run it from anywhere as ``python tests/mutants.py [WORD...]``, with the interpreter in which the
project and its tests are installed; words choose the mutants whose names have one of them. Each
mutant of mutants.txt is one small change to a copy of the tree, in which the extension is built
again where C changed; the unit tests of the core run first, then the device tests on ``qemu:``, to
the first failure, and after them, for C, the sanitizers' run. It prints which test killed each
mutant, and exits with 1 if one survived.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TESTS = [
    *(
        "tests/unit/test_ring*.py",
        "tests/unit/test_waiting_transfer.py",
        "tests/unit/test_transfer_*.py",
        "tests/unit/test_histogram.py",
        "tests/unit/test_workload*.py",
    ),
    *("tests/unit/test_dma.py", "tests/unit/test_controller.py"),
    "tests/device",
]
#: Longer than all tests take: a mutant that hangs is noticed, too.
SECONDS = 600


class Mutant(NamedTuple):
    """``old`` stands in ``path`` exactly once, or the list is out of date."""

    name: str
    path: str
    old: str
    new: str


def read_mutants() -> list[Mutant]:
    """Read mutants.txt: a name, a file, the lines that go ("-") and those that come ("+")."""
    mutants = []
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    for block in text.strip().split("\n\n"):
        name, path, *lines = block.splitlines()
        old, new = ("".join(f"{ln[1:]}\n" for ln in lines if ln[0] == sign) for sign in "-+")
        mutants.append(Mutant(name.removeprefix("== "), path.removeprefix("@@ "), old, new))
    return mutants


class Tree:
    """A copy of the project, mutated and mended again."""

    def __init__(self, where: Path) -> None:
        self.root = where
        for name in ("pynvme_user", "cli", "qemu", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, where / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py", "README.md"):
            shutil.copy(ROOT / name, where / name)
        for name in ("cli", "qemu"):
            (where / "pynvme_user" / name).symlink_to(where / name)
        self.environment = os.environ | {
            "PYTHONPATH": str(where),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "mutants",
            "CFLAGS": "-O1",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def build(self) -> None:
        # Forced: setuptools sees no change within the second of the last build.
        done = self.run("setup.py", "-q", "build_ext", "--inplace", "--force")
        if done.returncode:
            raise SystemExit(f"the extension does not build:\n{done.stdout}{done.stderr}")

    def test_c(self) -> str:
        """Run the C core's own test; return its name if it failed."""
        script = self.root / "tests/c/run"
        done = subprocess.run([script], cwd=self.root, capture_output=True, check=False)
        return "tests/c/run" if done.returncode else ""

    def test(self, *, compiled: bool) -> str:
        """Run the tests; return which one failed first, or nothing if none did.

        The C core's own test comes last, if it was ``compiled``: an access beyond an array may go
        unnoticed anywhere but under its sanitizers.
        """
        files = [str(path) for pattern in TESTS for path in sorted(self.root.glob(pattern))]
        command = ("-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider")
        try:
            done = self.run(*command, *files)
        except subprocess.TimeoutExpired:
            return f"the deadline of {SECONDS} s"
        if done.returncode == 0:
            return self.test_c() if compiled else ""
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        if failed:
            return failed[1]
        if done.returncode < 0:
            return f"a crash (signal {-done.returncode})"
        raise SystemExit(f"pytest did not run:\n{done.stdout}{done.stderr}")


def try_out(tree: Tree, mutant: Mutant) -> str:
    """Return what killed the mutant."""
    path = tree.root / mutant.path
    whole = path.read_text(encoding="utf-8")
    if whole.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.path} has changed: mend the list of mutants")
    compiled = path.suffix in (".c", ".h")
    path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        if compiled:
            tree.build()
        return tree.test(compiled=compiled)
    finally:
        path.write_text(whole, encoding="utf-8")
        if compiled:
            tree.build()


def main(words: list[str]) -> int:
    chosen = [m for m in read_mutants() if not words or any(word in m.name for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as where:
        tree = Tree(Path(where))
        tree.build()
        killer = tree.test(compiled=True)
        if killer:
            raise SystemExit(f"without any mutant {killer} fails")
        for mutant in chosen:
            start = time.monotonic()
            killer = try_out(tree, mutant)
            survivors += not killer
            outcome = f"killed by {killer}" if killer else "SURVIVED"
            print(f"{mutant.name:<40} {time.monotonic() - start:5.1f} s  {outcome}", flush=True)
    print(f"mutants: {len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
