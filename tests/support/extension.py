"""The extensions of a copy of the tree, of which only what changed is compiled again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pynvme_user._ring_build import (
    CONTROLLER_HEADERS,
    CONTROLLER_SOURCES,
    FLAGS,
    HEADERS,
    SOURCES,
)

#: Each extension: its path without suffixes, and where setup.py has it from.
EXTENSIONS = {
    "_ring_cffi": ("ffibuilder", HEADERS, SOURCES),
    "testing/_controller_cffi": ("controller", CONTROLLER_HEADERS, CONTROLLER_SOURCES),
}


class CompileError(Exception):
    """What the compiler says of a source."""


def compiled(command: list[str | Path]) -> str:
    """Run the compiler; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stdout


class Core:
    """The C sources in ``folder``, and which of them includes what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flags = [*FLAGS, "-O1", "-fPIC", f"-I{folder}", f"-I{sysconfig.get_path('include')}"]
        # One file may be in both.
        self.sources = [folder / source for source in dict.fromkeys(SOURCES + CONTROLLER_SOURCES)]
        self._includes = {
            source: compiled(["gcc", "-MM", *self.flags, source]).split()[1:]
            for source in self.sources
        }

    def that_include(self, path: Path) -> Iterator[Path]:
        """The sources that a change of a source or header changes."""
        return (source for source in self.sources if str(path) in self._includes[source])

    def check(self, path: Path) -> None:
        """Raise if a source, or what includes a header, does not compile."""
        for source in self.that_include(path):
            compiled(["gcc", "-fsyntax-only", *self.flags, source])


class Extension(Core):
    """Compiled once as a whole, and then with one change at a time."""

    def __init__(self, folder: Path, objects: Path) -> None:
        super().__init__(folder)
        self._whole, self._changed = objects / "whole", objects / "changed"
        self._whole.mkdir(parents=True)
        self._compile(self._whole, self.sources, write_c=True)
        self._link()

    def build(self, path: Path) -> None:
        """Build it with a change in ``path``, a source or a header."""
        shutil.rmtree(self._changed, ignore_errors=True)
        self._changed.mkdir()
        self._compile(
            self._changed,
            self.that_include(path),
            write_c=str(path.relative_to(self.folder)) in HEADERS + CONTROLLER_HEADERS,
        )
        self._link()

    def mend(self) -> None:
        """Build it without the last change."""
        shutil.rmtree(self._changed, ignore_errors=True)
        self._link()

    def _compile(self, to: Path, sources: Iterator[Path] | list[Path], *, write_c: bool) -> None:
        sources = list(sources)
        if write_c:
            for name, (builder, _, _) in EXTENSIONS.items():
                made = to / f"{Path(name).name}.c"
                code = f"import _ring_build; _ring_build.{builder}.emit_c_code('{made}')"
                command = [sys.executable, "-c", code]
                subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
                sources.append(made)
        for source in sources:
            compiled(["gcc", "-w", *self.flags, "-c", "-o", to / f"{source.stem}.o", source])

    def _link(self) -> None:
        """Of each object the changed one, where there is one."""
        for name, (_, _, sources) in EXTENSIONS.items():
            names = [f"{Path(source).stem}.o" for source in (*sources, f"{name}.c")]
            objects = [
                changed if (changed := self._changed / name).exists() else self._whole / name
                for name in names
            ]
            compiled(["gcc", "-shared", "-o", self.folder / f"{name}.abi3.so", *objects])
