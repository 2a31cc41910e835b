"""The README and what runs on the pages of docs/, pasted: blocks, one after the other, in an empty
folder. And the map of the tree that README and docs/architecture.md draw, held against the tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: What is pasted of each page: the text behind a heading up to the next; of the README all.
PASTED = {
    "README.md": "",
    "docs/batches.md": "",
    "docs/bench.md": "## First commands\n",
    "docs/embedding.md": "## Ways to use it\n",
    "docs/how-to/containers.md": "",
    "docs/how-to/durability.md": "",
    "docs/how-to/numa.md": "",
    "docs/nbd.md": "",
    "docs/performance.md": "## How it is measured\n",
    "docs/testing.md": "## In ten lines\n",
    "docs/tutorial.md": "",
    "docs/userspace-drivers.md": "# How a userspace driver gets at its device\n",
}
DISK = range(1 << 30, (1 << 30) + 1)
#: How many blocks of each page run, and the sizes of files that are there then.
LEFT: dict[str, tuple[int, dict[str, range]]] = {
    "README.md": (3, {"disk.img": DISK}),
    "docs/batches.md": (2, {}),
    "docs/bench.md": (1, {"disk.img": DISK, "sweep.html": range(10_001, 1 << 30)}),
    "docs/embedding.md": (12, {"disk.img": range(64 << 20, (64 << 20) + 1)}),
    "docs/how-to/containers.md": (0, {}),
    "docs/how-to/durability.md": (2, {"disk.img": range(64 << 20, (64 << 20) + 1)}),
    "docs/how-to/numa.md": (3, {}),
    "docs/nbd.md": (1, {"copy.file": range(64 << 20, (64 << 20) + 1)}),
    "docs/performance.md": (0, {}),
    "docs/testing.md": (1, {}),
    "docs/tutorial.md": (
        9,
        {"disk.img": DISK, "journal.img": range(64 << 20, (64 << 20) + 1)},
    ),
    "docs/userspace-drivers.md": (0, {}),
}
#: What docs/nbd.md needs.
NBD = ("nbdkit", "nbdinfo", "qemu-img", "fio")
#: Lines that are not run here, by how they begin, and why.
NOT_HERE = {
    "apt-get install nbdkit": "CI's ./bootstrap nbd does",
    "modprobe nbd": "needs root and the kernel's nbd; tests/guest/test_nbd_guest.py runs these",
    "nbd-client ": "as modprobe",
    "mkfs.ext4 /dev/nbd0": "as modprobe",
    "mount /dev/nbd0": "as modprobe",
    "make demo": "installs packages; CI runs it on a fresh clone",
    "make test": "is what runs this",
    "make guest-shell": "a shell for a person; tests/guest starts the same guests",
    "make bench": "takes minutes; tests/unit/test_benchmarks.py runs its parts",
    "python benchmarks/versus_spdk.py": "needs a build of SPDK",
    "python benchmarks/waiting.py": "needs a controller of which no other program knows",
    "python benchmarks/queue_rates.py": "takes a minute; tests/unit/test_benchmarks.py runs it",
    "python benchmarks/rates.py": "takes a minute; tests/unit/test_benchmarks.py runs it",
    "python benchmarks/nbd.py": "takes minutes; tests/unit/test_benchmarks.py runs it",
    "python benchmarks/versus_fio.py": "needs fio, and takes minutes",
    "python -m pynvme_user.testing.vfio_user_server": "serves on; tests/vfio_user starts it",
    "nvme-user bind 0000:01:00.0": "needs a controller; tests/guest binds one",
    "group=": "needs a controller",
    "podman": "needs a container's image",
    "    --ulimit": "is the second half of that",
}


#: Pages whose blocks other tests run or read, and which.
ELSEWHERE = {
    "docs/api.md": "signatures: tests/unit/test_api_page.py",
    "docs/bench.md": "tests/cli/test_bench.py reads each command",
    "docs/cli.md": "tests/cli/test_docs.py reads each example",
    "docs/fio-options.md": "tests/cli/test_bench.py runs commands like these",
    "docs/how-to/waiting.md": "tests/guest/test_userspace_page.py",
    "docs/how-to/take-a-device.md": "tests/guest/test_userspace_page.py",
    "docs/how-to/without-root.md": "tests/guest/test_userspace_page.py",
    "docs/how-to/virtual-functions.md": "tests/guest/test_sriov.py",
    "docs/testing.md": "tests/unit/testing/test_pytest_plugin.py runs the page's tests",
    "docs/userspace-drivers.md": "tests/guest/test_userspace_page.py",
}


def all_blocks(text: str) -> list[tuple[str, str]]:
    """The language and the lines of each block that is a program."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in found if block[0] in ("sh", "python")]


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the lines of each block that is pasted of a page."""
    text = (ROOT / page).read_text()
    if heading := PASTED[page]:
        text = text.split(heading)[1].partition("\n## ")[0]
    return all_blocks(text)


def test_every_block_is_run_or_read() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert ELSEWHERE.keys() | (PASTED.keys() - {"README.md"}) <= pages
    for page in pages - ELSEWHERE.keys():
        ran = blocks(page) if page in PASTED else []
        assert all_blocks((ROOT / page).read_text()) == ran, page


def lines_not_here(body: str) -> list[str]:
    return [line for line in body.splitlines() if line.startswith(tuple(NOT_HERE))]


def test_every_reason_is_of_a_line() -> None:
    text = "\n".join(body for page in PASTED for _, body in blocks(page))
    for start in NOT_HERE:
        assert f"\n{start}" in f"\n{text}"


@pytest.mark.parametrize("page", PASTED)
def test_pasted_from_top_to_bottom(environment: dict[str, str], tmp_path: Path, page: str) -> None:
    if page == "docs/nbd.md" and not all(map(shutil.which, NBD)):
        pytest.skip(f"one of {', '.join(NBD)} is not installed: run ./bootstrap nbd bench")
    # As after `. .venv/bin/activate`, in a folder with nothing in it.
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = 0
    assert blocks(page)
    for language, body in blocks(page):
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
    blocks_that_run, files = LEFT[page]
    assert ran == blocks_that_run
    for name, sizes in files.items():
        assert (tmp_path / name).stat().st_size in sizes


# --- the map ------------------------------------------------------------------------------------

#: What reads as a path: it ends with a slash or with a file's extension.
PATH = r"[\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|c|h|md))(?![\w.])"
BASES = (ROOT, ROOT / "pynvme_user")


def picture() -> str:
    """The picture of the packages."""
    return README.split("## Architecture\n\n```\n")[1].partition("```")[0]


def drawn() -> Iterator[tuple[str, bool]]:
    """Each path of the picture, and whether it is there: one that does not begin its line may be
    in the folder that was named last.
    """
    folder = ""
    for line in picture().splitlines():
        for found in re.finditer(PATH, line):
            places = list(BASES) if not line.startswith(" ") else []
            if found.start():
                places += [base / folder for base in BASES]
            yield found[0], any((place / found[0]).exists() for place in places)
            if not found.start() and found[0].endswith("/"):
                folder = found[0]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_picture_is_true() -> None:
    paths = [path for path, _ in drawn()]
    assert len(paths) > 20
    assert [path for path, there in drawn() if not there] == []
    packages = {f"{path.parent.name}/" for path in (ROOT / "pynvme_user").glob("*/__init__.py")}
    assert packages | {"cli/", "qemu/"} <= {*paths}


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_path_in_backticks_exists(page: str) -> None:
    named = re.findall(rf"`({PATH})`", (ROOT / page).read_text())
    assert len(named) > 8
    assert [path for path in named if not any((base / path).exists() for base in BASES)] == []


def test_every_page_is_listed() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    index = (ROOT / "docs/index.md").read_text()
    assert pages - {"index.md"} == set(re.findall(r"\]\(([\w/-]+\.md)\)", index))
    assert pages == set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
