"""docs/userspace-drivers.md and the pages about real devices run as they stand, and print what they
say.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from guest_runs import guest_run

from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "userspace-drivers.md"
#: For a guest with an IOMMU, too, after its chapters.
HOW_TO = ("take-a-device.md", "without-root.md", "waiting.md")
RUNNER = Path(__file__).with_name("run_docs.py")
TESTDEV = "pci-testdev,addr=0x1e,membar=4096"

#: Chapters of the page, by the guest that they are for.
CHAPTERS = {"without an IOMMU": (1, 4), "with an IOMMU": (5, 6)}


def blocks(first: int, last: int) -> list[dict[str, str | None]]:
    """The blocks to run of some chapters, each with the output below it, if any is."""
    chapters = re.split(r"^## (?=\d)", PAGE.read_text(), flags=re.MULTILINE)
    texts = chapters[first : last + 1]
    if last == len(chapters) - 1:
        texts += [(ROOT / "docs" / "how-to" / page).read_text() for page in HOW_TO]
    return blocks_of(texts)


def blocks_of(texts: list[str]) -> list[dict[str, str | None]]:
    """The blocks to run of some texts."""
    found: list[dict[str, str | None]] = []
    for chapter in texts:
        for kind, body in re.findall(r"^```(sh|python|text)\n(.*?)^```", chapter, re.M | re.S):
            if kind == "text":
                found[-1]["expected"] = body
            else:
                found.append({"kind": kind, "body": body, "expected": None})
    return found


@guest_run(seconds=25, params=CHAPTERS)
def page(share: Path, guest: str) -> tuple[list[dict[str, str | None]], list[tuple[int, str, str]]]:
    """The blocks for one guest, and the status, output and errors of each there."""
    wanted = blocks(*CHAPTERS[guest])
    (share / "blocks.json").write_text(json.dumps(wanted))
    result = Guest(
        [sys.executable, str(RUNNER), str(share)],
        iommu=guest == "with an IOMMU",
        devices=[TESTDEV],
        share=share,
        timeout=900,
    ).run()
    assert result.returncode == 0, result.output
    return wanted, json.loads((share / "results.json").read_text())


def test_the_page_runs_as_it_stands(
    page: tuple[list[dict[str, str | None]], list[tuple[int, str, str]]],
) -> None:
    wanted, got = page
    assert len([block for block in wanted if block["expected"]]) >= 3
    check_blocks(wanted, got)


def check_blocks(wanted: list[dict[str, str | None]], got: list[tuple[int, str, str]]) -> None:
    """Hold what blocks came to to what the page says."""
    for block, (status, output, errors) in zip(wanted, got, strict=True):
        assert status == 0, f"{block['body']}{errors}"
        if block["expected"] is not None:
            assert output == block["expected"], errors
