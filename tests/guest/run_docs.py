"""Runs in a guest: the blocks of a page, in order, each in a process of its own.

Reads FOLDER/blocks.json and writes FOLDER/results.json: status, output and errors of each.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def main(folder: Path) -> None:
    # The page calls nvme-user by its name, as in a shell with the environment active.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    results = []
    for block in json.loads((folder / "blocks.json").read_text()):
        program = [sys.executable, "-c"] if block["kind"] == "python" else ["sh", "-ec"]
        done = subprocess.run(
            [*program, block["body"]],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": path},
        )
        results.append((done.returncode, done.stdout, done.stderr))
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
