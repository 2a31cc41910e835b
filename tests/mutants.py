"""Shows that the tests notice a broken core: each mutant below has to make one of them fail.

Run it from anywhere as ``python tests/mutants.py [WORD...]``, with the interpreter in which the
project and its tests are installed; words choose the mutants whose names have one of them. Those of
mutants.txt are what no operator makes: two steps exchanged, another field, a look left out. The
others are drawn from all that mutations.py makes of the core's files: ``--generated`` of them, by a
``--seed`` that is always the same, so that a survivor is either a test that is missing or a change
that changes nothing; mutants_equal.txt has the latter, and why.

Each mutant is one small change to a copy of the tree, in which what includes it is compiled again.
What is likeliest to notice it runs first: the unit tests that are nearest to its file, the other
unit tests of the core, for C the sanitizers' run, and the device tests on ``qemu:`` last; the first
failure kills it. Two mutants at a time are tried out, in a tree each.

It prints what killed each mutant, and at the end which ones survived or no longer fit the code;
then it exits with 1. One that is drawn and does not compile counts for nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests/support"))

import mutants_plugin  # noqa: E402
from extension import CompileError, Extension  # noqa: E402
from mutations import changes_of, in_context  # noqa: E402

AT_ONCE = 2
#: What mutants are made of.
CORE = (
    "_clock.h",
    "_ring*.[ch]",
    "_vector.c",
    "dma.py",
    "driver/*.py",
    "ring.py",
    "transport/pcie.py",
    "workload/_bench*.c",
    "workload/_bench_inline.h",
    "workload/_generator.c",
    "workload/_histogram.h",
)
GENERATED = 40
#: By the beginning of a file's name, the unit tests that are nearest to it.
NEAREST = {
    "_ring": ("test_ring*.py", "test_waiting_transfer.py", "test_hostile_completions.py"),
    "_vector": ("test_ring_vector.py", "test_ring_coalesce.py", "test_hostile_completions.py"),
    "_bench_due": ("test_arrivals.py", "test_loop*.py"),
    "_bench": ("test_loop*.py", "test_ring_coalesce.py", "test_hostile_completions.py"),
    "_generator": ("test_generator*.py",),
    "_histogram": ("test_histogram.py", "test_loop.py"),
    "_buffers": ("test_generator.py", "test_loop.py"),
    "_qtest": (),
    "_controller": ("test_soft_device.py", "test_faults.py"),
    "_data": ("test_soft_device.py", "test_faults.py"),
    "_queues": ("test_faults.py", "test_soft_device.py"),
    "_rules": ("test_faults.py",),
    "faults": ("test_faults.py",),
    "_clock": ("test_ring.py", "test_loop.py", "test_watchdog.py"),
    "admin": ("test_admin_queue.py", "test_controller.py"),
    "pcie": ("test_opening.py", "test_controller.py"),
    "pool": ("test_transfer_*.py",),
    "waiter": ("test_transfer_*.py",),
    "recovery": ("test_whose_timeout.py", "test_controller.py"),
    "transfer": ("test_pieces.py", "test_transfer_*.py"),
    "dma": ("test_dma.py", "test_transfer_of_buffers.py"),
    "loop": ("test_loop*.py",),
    "group": ("test_group.py",),
    "geometry": ("test_odd_geometry.py", "test_changed_namespaces.py"),
    "namespace": ("test_namespaces.py", "test_changed_namespaces.py", "test_transfer_*.py"),
    "io_queue_pair": (
        "test_changed_namespaces.py",
        "test_two_controllers.py",
        "test_transfer_*.py",
    ),
    "vector_queue_pair": (
        "test_changed_namespaces.py",
        "test_two_controllers.py",
        "test_closing.py",
    ),
    "": ("test_controller.py", "test_transfer_*.py"),
}
UNIT = (
    "test_ring*.py",
    "test_waiting_transfer.py",
    "test_transfer_*.py",
    "test_histogram.py",
    "test_loop*.py",
    "test_group.py",
    "test_arrivals.py",
    "test_dma.py",
    "test_controller.py",
    "test_pool.py",
    "test_changed_namespaces.py",
    "test_namespaces.py",
    "test_two_controllers.py",
    "test_odd_geometry.py",
    "test_command_ends.py",
    "test_whose_timeout.py",
    "test_closing.py",
    "test_soft_device.py",
    "test_faults.py",
    "test_admin_queue.py",
    "test_pieces.py",
    "test_hostile_completions.py",
)
#: The C core's own programs, by the sources that change them.
PROGRAMS = {
    "ring": ("_ring", "_vector", "_clock"),
    "hostile": ("_ring", "_vector", "_clock"),
    "bench": ("_bench", "_bench_due", "_histogram", "_overhead", "_buffers"),
    "due": ("_bench_due",),
    "split": ("_bench_split",),
    "many": ("_bench_many",),
    "qtest": ("_qtest",),
    "controller": ("_controller", "_admin", "_data", "_queues", "_registers", "_rules", "_storage"),
    "shadow": ("_shadow",),
}
#: Longer than any run of tests takes.
SECONDS = 1200


class Mutant(NamedTuple):
    """``old`` stands in ``path`` exactly once, or the list is out of date."""

    name: str
    path: str
    old: str
    new: str
    generated: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def compiled(self) -> bool:
        return self.path.endswith((".c", ".h"))

    def patch(self) -> str:
        """The mutant as it stands in a list."""
        lines = [f"== {self.name}", f"@@ {self.path}"]
        lines += [f"-{line}" for line in self.old.splitlines()]
        return "\n".join([*lines, *(f"+{line}" for line in self.new.splitlines())])

    def apply(self, root: Path) -> None:
        """Change the tree's file; raise ValueError if it no longer has the lines, or twice."""
        path = root / self.path
        whole = path.read_text(encoding="utf-8")
        if (times := whole.count(self.old)) != 1:
            raise ValueError(f"its lines stand in {self.path} {times} times")
        path.write_text(whole.replace(self.old, self.new), encoding="utf-8")


def read_mutants(file: str = "mutants.txt") -> list[Mutant]:
    """Read a list: a name, a file, the lines that go ("-") and those that come ("+")."""
    mutants = []
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    for block in filter(None, text.strip().split("\n\n")):
        name, path, *lines = block.splitlines()
        old, new = ("".join(f"{ln[1:]}\n" for ln in lines if ln[0] == sign) for sign in "-+")
        mutants.append(Mutant(name.removeprefix("== "), path.removeprefix("@@ "), old, new))
    return mutants


def generated(count: int, seed: int) -> list[Mutant]:
    """Draw mutants of the core's files, but for those that are known to change nothing."""
    files = {path for pattern in CORE for path in (ROOT / "pynvme_user").glob(pattern)}
    files -= {path for path in files if path.stem.endswith("_cffi")}
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(files)}
    changes = [(path, change) for path in texts for change in changes_of(path)]
    equal = {mutant[1:4] for mutant in read_mutants("mutants_equal.txt")}
    drawn: list[Mutant] = []
    for path, change in random.Random(seed).sample(changes, len(changes)):
        text = texts[path]
        where = str(path.relative_to(ROOT))
        lines = in_context(text, change)
        if (where, *lines) not in equal:
            line = text.count("\n", 0, change.start) + 1
            old = " ".join(text[change.start : change.end].split())
            name = f"{path.name}:{line} {old} -> {change.new or 'nothing'}"
            drawn.append(Mutant(name, where, *lines, generated=True))
        if len(drawn) == count:
            break
    return drawn


def nearest(path: str) -> tuple[str, ...]:
    """The unit tests of the core, those nearest to a file first."""
    stem = Path(path).stem
    near = next(tests for start, tests in NEAREST.items() if stem.startswith(start))
    return (*near, *UNIT, *(("driver/test_*.py",) if path.endswith(".py") else ()))


class Tree:
    """A copy of the project, mutated and mended again."""

    def __init__(self, where: Path) -> None:
        self.root = where
        for name in ("pynvme_user", "cli", "qemu", "tests", "benchmarks"):
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, where / name, ignore=ignored)
        for name in ("pyproject.toml", "setup.py", "README.md"):
            shutil.copy(ROOT / name, where / name)
        for name in ("cli", "qemu"):
            (where / "pynvme_user" / name).unlink(missing_ok=True)
            (where / "pynvme_user" / name).symlink_to(where / name)
        self._extension = Extension(where / "pynvme_user", where / "objects")
        self._environment = os.environ | {
            "PYTHONPATH": f"{where}:{where / 'tests/support'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "mutants",
        }
        # By their contents: a mutant has the size and the second of what it replaces.
        self._run(sys.executable, "-m", "compileall", "-q", "--invalidation-mode=checked-hash", ".")

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            process.communicate()
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def what_kills(self, mutant: Mutant) -> str:
        """Try a mutant out; return what noticed it, or nothing."""
        path = self.root / mutant.path
        whole = path.read_text(encoding="utf-8")
        mutant.apply(self.root)
        try:
            if mutant.compiled:
                self._extension.build(path)
            return next(filter(None, (stage() for stage in self.stages(mutant.path))), "")
        finally:
            path.write_text(whole, encoding="utf-8")
            if mutant.compiled:
                self._extension.mend()  # the next one may be in Python

    def stages(self, path: str = "") -> list[Callable[[], str]]:
        """The tests in the order in which they run after a change in a file, or of nothing.

        Each returns what failed first, or nothing.
        """
        patterns = [f"tests/unit/**/{pattern}" for pattern in nearest(path)]
        stages = [partial(self._pytest, *patterns)]
        if not path or path.endswith((".c", ".h")):
            stages.append(partial(self._sanitized, path))
        return [*stages, partial(self._pytest, "tests/device/test_[!b]*.py", "tests/device")]

    def _pytest(self, *patterns: str) -> str:
        """Run the files of each pattern in turn."""
        files = dict.fromkeys(
            str(path) for pattern in patterns for path in sorted(self.root.glob(pattern))
        )
        command = (sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--assert=plain")
        done = self._run(*command, "-p", "no:cacheprovider", "-p", "mutants_plugin", *files)
        if done.returncode == 0:
            return ""
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        if failed:
            return failed[1]
        with suppress(OSError):
            under_way = (self.root / mutants_plugin.UNDER_WAY).read_text(encoding="utf-8")
            if done.returncode < 0:
                return f"{under_way}, which crashed (signal {-done.returncode})"
            if "Timeout" in done.stderr:
                return f"{under_way}, which took longer than {mutants_plugin.SECONDS} s"
        return "pytest itself: " + " ".join((done.stdout + done.stderr).splitlines()[-1:])

    def _sanitized(self, path: str) -> str:
        """Run the C core's own programs: an access beyond an array may go unnoticed elsewhere."""
        names = {source.stem for source in self._extension.that_include(self.root / path)}
        for program, sources in PROGRAMS.items():
            if not path or names & set(sources):
                build = self.root / "sanitized"
                goal = build / f"sanitized/{program}.ran"
                # A mutant may leave something unused.
                options = ("CC=gcc -w", f"BUILD={build}")
                if self._run("make", "-C", self.root / "tests/c", *options, goal).returncode:
                    return f"tests/c, {program}"
        return ""


def outcome(tree: Tree, mutant: Mutant) -> tuple[str, str]:
    """Try a mutant out; return what is wrong with it, or nothing, and what to print."""
    try:
        killer = tree.what_kills(mutant)
    except CompileError as error:
        if mutant.generated:
            return "", "does not compile"
        return "does not compile", f"DOES NOT COMPILE\n{error}"
    except ValueError as error:
        return str(error), f"OUT OF DATE: {error}"
    except subprocess.TimeoutExpired:
        killer = f"the deadline of {SECONDS} s"
    return ("", f"killed by {killer}") if killer else ("survived", f"SURVIVED\n{mutant.patch()}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--generated", type=int, default=GENERATED, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    words = options.words
    mutants = read_mutants() + generated(options.generated, options.seed)
    chosen = [m for m in mutants if not words or any(word in m.name for word in words)]
    wrong: list[str] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as where:
        trees: SimpleQueue[Tree] = SimpleQueue()

        def prepare(number: int) -> None:
            trees.put(Tree(Path(where, str(number))))

        def try_out(mutant: Mutant) -> None:
            tree = trees.get()
            start = time.monotonic()
            problem, said = outcome(tree, mutant)
            if problem:
                wrong.append(f"{mutant}: {problem}")
            print(f"{str(mutant)[:60]:<60} {time.monotonic() - start:5.1f} s  {said}", flush=True)
            trees.put(tree)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(prepare, range(AT_ONCE)))
            tree = trees.get()
            # Twice, if need be: what takes time may fail on a machine with other work.
            for killer in pool.map(lambda stage: stage() and stage(), tree.stages()):
                if killer:
                    raise SystemExit(f"without any mutant {killer} fails")
            trees.put(tree)
            list(pool.map(try_out, chosen))
    took = (time.monotonic() - begin) / 60
    print(f"mutants: {len(chosen) - len(wrong)} of {len(chosen)} killed in {took:.0f} minutes")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
