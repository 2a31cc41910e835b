"""Running scripts of the folder scripts/ in a guest, and reading what they print: JSON lines."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1] / "guest" / "scripts"
#: Seconds that one script may take in a guest, much more than it does.
DEADLINE = 600


@dataclass(frozen=True)
class Outcome:
    """What a script came to: its exit status, its JSON lines, and its standard error."""

    status: int
    lines: list[dict[str, Any]]
    errors: str

    @property
    def only(self) -> dict[str, Any]:
        """The one line that it printed, of a script that succeeded."""
        assert self.status == 0, self.errors
        (line,) = self.lines
        return line


def command(share: Path, name: str, *arguments: str) -> str:
    """Give the shell command that runs a script and leaves its outcome in ``share``."""
    script = shlex.join([sys.executable, str(SCRIPTS / f"{name}.py"), *arguments])
    base = shlex.quote(str(share / name))
    return (
        f"timeout -s ABRT {DEADLINE} {script} 2>{base}.errors | tee {base}.out; "
        f"echo ${{PIPESTATUS[0]}} >{base}.status"
    )


def outcome(share: Path, name: str) -> Outcome:
    """Read what `command` left."""
    base = share / name
    output = base.with_suffix(".out").read_text()
    return Outcome(
        int(base.with_suffix(".status").read_text()),
        [json.loads(line) for line in output.splitlines() if line.startswith("{")],
        base.with_suffix(".errors").read_text()[-8000:],
    )
