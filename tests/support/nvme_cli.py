"""The installed nvme-cli, reading pages that a test made: no device, no kernel driver."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What `pynvme_user.cli.nvme_json` has the names and shapes of.
VERSION = "2.3"
#: What nvme-cli calls the device: it opens /dev/null.
DEVICE = "null"

#: Where it is installed, if it is.
PROGRAM = shutil.which("nvme", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")

#: Pages by opcode and the lowest byte of dword 10.
Pages = Mapping[tuple[int, int], bytes]


def why_not() -> str | None:
    """Why there is nothing to compare with; None if there is."""
    if PROGRAM is None:
        return "nvme-cli is not installed: ./bootstrap guest"
    said = subprocess.run([PROGRAM, "version"], capture_output=True, text=True, check=False).stdout
    version = said.split()[2] if len(said.split()) > 2 else "unknown"
    return None if version == VERSION else f"nvme-cli is {version}, what is here is {VERSION}'s"


class NvmeCli:
    """nvme-cli with `nvme_pages.c` in the kernel's place; ``folder`` is where it lies."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "nvme_pages.so"
        self._pages = folder / "pages"
        source = Path(__file__).with_name("nvme_pages.c")
        flags = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, "-o", self._library, source], check=True)

    def text(self, words: str, pages: Pages) -> str:
        """Run a command, its device /dev/null, on these pages; return what it prints."""
        shutil.rmtree(self._pages, ignore_errors=True)
        self._pages.mkdir()
        for (opcode, selector), page in pages.items():
            (self._pages / f"{opcode:02x}-{selector:02x}").write_bytes(page)
        done = subprocess.run(
            [str(PROGRAM), *words.split(), "/dev/null"],
            capture_output=True,
            env=os.environ | {"LD_PRELOAD": str(self._library), "NVME_PAGES": str(self._pages)},
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout.decode(errors="surrogateescape")

    def json(self, words: str, pages: Pages) -> Any:
        """Run a command as `text` does; return its JSON, before which 2.3 may write other lines."""
        said = self.text(f"{words} -o json", pages)
        begin = re.search(r"^[{\[]", said, re.MULTILINE)
        assert begin, said
        return json.loads(said[begin.start() :], strict=False)


def mended(theirs: Any, ours: Any) -> Any:
    """What 2.3 prints, without its errors: 128 bits as a string, 32 bits as a signed number."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: mended(theirs[key], ours.get(key)) for key in theirs}
    if isinstance(theirs, list) and isinstance(ours, list):
        rest = [None] * (len(theirs) - len(ours))
        return [mended(*pair) for pair in zip(theirs, [*ours, *rest], strict=False)]
    if isinstance(theirs, str) and isinstance(ours, int):
        return int(theirs)
    if isinstance(theirs, int) and theirs < 0:
        return theirs + (1 << 32)
    return theirs
