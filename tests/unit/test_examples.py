"""What the property tests are tried with: new examples in each run, the same ones of one seed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROPERTY = Path(__file__).parent / "access" / "test_iova.py"


def run(*options: str) -> tuple[str, list[str]]:
    """Run a file of property tests as CI does; return the seed that it tells, and its examples."""
    command = [sys.executable, "-m", "pytest", PROPERTY, "-q", "-s", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--hypothesis-verbosity=verbose", *options],
        env=os.environ | {"CI": "1", "HYPOTHESIS_PROFILE": "dev"},
        capture_output=True,
        text=True,
        check=True,
    )
    (seed,) = re.findall(r"--hypothesis-seed=(\d+)", done.stdout)
    return seed, re.findall(r"^\w.*: test_.*(?:\n .*)*", done.stdout, re.MULTILINE)


def test_each_run_draws_its_own_and_tells_how_to_repeat_it() -> None:
    seed, examples = run()
    assert len(examples) >= 40
    other, others = run()
    assert seed != other
    assert examples != others
    assert run(f"--hypothesis-seed={seed}") == (seed, examples)
