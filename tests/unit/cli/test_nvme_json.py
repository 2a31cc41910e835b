"""The JSON and the text of each page, held against those of the installed nvme-cli."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nvme_cli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvme_cli import NvmeCli

from pynvme_user.cli.pages import lines, plain
from pynvme_user.cli.shape import View
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.identify import FLBAS, IdentifyNamespace
from pynvme_user.spec.identify_controller import IdentifyController
from pynvme_user.spec.logs import SmartLog

IDENTIFY, LOG = AdminOpcode.IDENTIFY, AdminOpcode.GET_LOG_PAGE


@pytest.fixture(scope="session")
def nvme(tmp_path_factory: pytest.TempPathFactory) -> NvmeCli:
    if reason := nvme_cli.why_not():
        pytest.skip(reason)
    return NvmeCli(tmp_path_factory.mktemp("nvme-cli"))


@dataclass
class Case:
    """One command and the page that it prints."""

    words: tuple[object, ...]
    kind: Any
    opcode: int
    selector: int
    #: What nvme-cli believes of a page and ours does not.
    tame: Callable[[Any], Any] = lambda page: page
    view: View = field(default_factory=lambda: View(device=nvme_cli.DEVICE))

    #: Names of text that 2.3 does not know.
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(map(str, self.words))

    def page(self, seed: int) -> Any:
        size = self.kind.size
        return self.tame(
            self.kind.from_bytes(random.Random(seed).randbytes(size) if seed else bytes(size))
        )

    def pages(self, page: Any) -> nvme_cli.Pages:
        return {(self.opcode, self.selector): bytes(page)}


def _controller(page: IdentifyController) -> IdentifyController:
    # More power states than a page has would be read from behind it; text is to be text.
    return page.replace(npss=page.npss % 32, sn="S N", mn="Model", fr="1.2", subnqn="nqn.x:y")


def _smart(page: SmartLog) -> SmartLog:
    # It has 64 bits of precision for the data units' bytes.
    return page.replace(dur=page.dur >> 80, duw=page.duw >> 80)


def _namespace(page: IdentifyNamespace) -> IdentifyNamespace:
    # 2.3 takes the upper bits of the index at their word.
    return page.replace(nlbaf=page.nlbaf % 16, nulbaf=0, flbas=FLBAS(page.flbas & 0x9F))


TEXTS = [
    Case(
        ("id-ctrl",),
        IdentifyController,
        IDENTIFY,
        Cns.CONTROLLER,
        _controller,
        more=("dctype",),
    ),
    Case(("id-ns", "-n", 1), IdentifyNamespace, IDENTIFY, Cns.NAMESPACE, _namespace, View(nsid=1)),
    Case(("smart-log",), SmartLog, LOG, 0x02, _smart, View(nvme_cli.DEVICE, 0xFFFFFFFF)),
]

CASES = [
    Case(("id-ctrl",), IdentifyController, IDENTIFY, Cns.CONTROLLER, _controller),
    Case(("id-ns", "-n", 1), IdentifyNamespace, IDENTIFY, Cns.NAMESPACE, _namespace),
    Case(("smart-log",), SmartLog, LOG, 0x02, _smart),
    Case(("smart-log", "-H"), SmartLog, LOG, 0x02, _smart, view=View(human=True)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 32))
def test_the_same_json(nvme: NvmeCli, case: Case, seed: int) -> None:
    page = case.page(seed)
    ours = json.loads(json.dumps(plain(page, case.view)))
    theirs = nvme.json(*case.words, pages=case.pages(page))
    for lbaf in ours.get("lbafs", []):
        del lbaf["in_use"]
    assert ours == nvme_cli.mended(theirs, ours)


def squeezed(text: str) -> list[str]:
    """The lines that are not empty, without spaces; 2.3 has negative numbers of 32 bits."""
    found = ("".join(line.split()) for line in text.splitlines() if line.split())
    return [re.sub(r":(-\d{4,})", lambda m: f":{int(m[1]) + (1 << 32)}", f) for f in found]


@pytest.mark.parametrize("case", TEXTS, ids=str)
@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 32))
def test_the_same_text(nvme: NvmeCli, case: Case, seed: int) -> None:
    page = case.page(seed)
    theirs = squeezed(nvme.text(*case.words, pages=case.pages(page)))
    ours = squeezed("\n".join(lines(page, case.view)))
    assert [line for line in ours if line.split(":")[0] not in case.more] == theirs
