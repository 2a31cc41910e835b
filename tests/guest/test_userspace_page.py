"""docs/userspace-drivers.md runs as it stands, and prints what it says."""

import json
import re
import sys
from pathlib import Path

import pytest

from pynvme_user.qemu.guest import Guest

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "userspace-drivers.md"
RUNNER = Path(__file__).with_name("run_docs.py")
TESTDEV = "pci-testdev,addr=0x1e,membar=4096"

#: Chapters of the page, by the guest that they are for.
CHAPTERS = {"without an IOMMU": (1, 4), "with an IOMMU": (5, 6)}


def blocks(first: int, last: int) -> list[dict[str, str]]:
    """The blocks to run of some chapters, each with the output that stands below it."""
    chapters = re.split(r"^## (?=\d)", PAGE.read_text(), flags=re.MULTILINE)
    found = []
    for chapter in chapters[first : last + 1]:
        for kind, body in re.findall(r"^```(sh|python|text)\n(.*?)^```", chapter, re.M | re.S):
            if kind == "text":
                found[-1]["expected"] = body
            else:
                found.append({"kind": kind, "body": body, "expected": ""})
    return found


@pytest.mark.parametrize("guest", CHAPTERS)
def test_the_page_runs_as_it_stands(guest: str, tmp_path: Path) -> None:
    wanted = blocks(*CHAPTERS[guest])
    assert len([block for block in wanted if block["expected"]]) >= 3
    (tmp_path / "blocks.json").write_text(json.dumps(wanted))
    result = Guest(
        [sys.executable, str(RUNNER), str(tmp_path)],
        iommu=guest == "with an IOMMU",
        devices=[TESTDEV],
        share=tmp_path,
        timeout=240,
    ).run()
    assert result.returncode == 0, result.output
    got = json.loads((tmp_path / "results.json").read_text())
    for block, (status, output, errors) in zip(wanted, got, strict=True):
        assert status == 0, block["body"] + errors
        if block["kind"] == "python":
            assert output == block["expected"], errors
