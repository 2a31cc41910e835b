"""The JSON and the text of each page, held against those of the installed nvme-cli."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import nvme_cli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvme_cli import NvmeCli

from pynvme_user.cli.nvme_json_identify import CONTROLLER_2_1
from pynvme_user.cli.pages import lines, plain
from pynvme_user.cli.shape import View
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.identify import (
    FLBAS,
    NSFEAT,
    IdentifyNamespace,
    IdentifyNamespaceIndependent,
)
from pynvme_user.spec.identify_controller import IdentifyController
from pynvme_user.spec.identify_lists import (
    ControllerList,
    DomainList,
    EnduranceGroupList,
    IoCommandSets,
    NamespaceDescriptor,
    NamespaceDescriptorList,
    NamespaceGranularityList,
    NamespaceList,
    NvmSetList,
    PrimaryControllerCapabilities,
    SecondaryControllerList,
    UuidList,
)
from pynvme_user.spec.identify_nvm import IdentifyControllerNvm, IdentifyNamespaceNvm
from pynvme_user.spec.identify_zns import IdentifyControllerZns, IdentifyNamespaceZns
from pynvme_user.spec.logs import SmartLog

IDENTIFY, LOG = AdminOpcode.IDENTIFY, AdminOpcode.GET_LOG_PAGE
NAMESPACE = IdentifyNamespace.build(nlbaf=3, flbas=2)
FORMATS = {(int(IDENTIFY), int(Cns.NAMESPACE)): bytes(NAMESPACE)}


@pytest.fixture(scope="session")
def nvme(tmp_path_factory: pytest.TempPathFactory) -> NvmeCli:
    if reason := nvme_cli.why_not():
        pytest.skip(reason)
    return NvmeCli(tmp_path_factory.mktemp("nvme-cli"))


@dataclass
class Case:
    """One command, and how the page that it prints is made."""

    words: str
    make: Callable[[Random], Any]
    opcode: int
    selector: int
    view: View = field(default_factory=View)
    #: What the command reads before.
    beside: nvme_cli.Pages = field(default_factory=dict)
    #: Names of text that 2.3 does not know.
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.words

    def pages(self, page: Any) -> nvme_cli.Pages:
        return {**self.beside, (self.opcode, self.selector): bytes(page)}


# --- pages that nvme-cli survives --------------------------------------------------------------


def any_of(kind: Any, tame: Callable[[Any], Any] = lambda page: page) -> Callable[[Random], Any]:
    """A page of any bytes, but for what `tame` changes of it."""
    return lambda random: tame(kind.from_bytes(random.randbytes(kind.size)))


def a_list(kind: Any, most: int, count: str, less: int = 0) -> Callable[[Random], Any]:
    """A list of up to so many elements of any bytes; `count` is the header's field for them."""

    def make(random: Random) -> Any:
        number = random.randrange(less, most + 1)
        element = kind.element_type
        size = element if isinstance(element, int) else element.size
        header = kind.header_type.from_bytes(random.randbytes(kind.header_type.size))
        raw = bytes(header.replace(**{count: number - less})) if count else bytes(header)
        return kind.from_bytes(raw + random.randbytes(number * size))

    return make


def _controller(page: IdentifyController) -> IdentifyController:
    # More power states than a page has would be read from behind it; text is to be text.
    return page.replace(npss=page.npss % 32, sn="S N", mn="Model", fr="1.2", subnqn="nqn.x:y")


def _namespace(page: IdentifyNamespace) -> IdentifyNamespace:
    # 2.3 takes the index's upper bits at their word, and knows one bit of OPTPERF.
    return page.replace(
        nlbaf=page.nlbaf % 16,
        nulbaf=0,
        flbas=FLBAS(page.flbas & 0x9F),
        nsfeat=NSFEAT(page.nsfeat & 0xDF),
    )


def _zones(page: IdentifyNamespaceZns) -> IdentifyNamespaceZns:
    # 2.3 prints 32 bits of a zone's size, and FRL in the place of those below it.
    formats = [each.replace(zsze=each.zsze >> 33) for each in page.lbafes]
    return page.replace(frl1=page.frl, frl2=page.frl, frl3=page.frl, lbafes=formats)


def _smart(page: SmartLog) -> SmartLog:
    # It has 64 bits of precision for the data units' bytes.
    return page.replace(dur=page.dur >> 80, duw=page.duw >> 80)


def _descriptors(random: Random) -> NamespaceDescriptorList:
    # 2.3 loses its way behind a command set's descriptor.
    kinds = random.sample([(1, 8), (2, 16), (3, 16), (9, 5)], random.randrange(5))
    return NamespaceDescriptorList.build(
        NamespaceDescriptor.build(random.randbytes(size), nidt=kind, nidl=size)
        for kind, size in kinds
    )


IDENTIFIES = [
    Case(
        "id-ctrl",
        any_of(IdentifyController, _controller),
        IDENTIFY,
        Cns.CONTROLLER,
        more=("dctype", *CONTROLLER_2_1),
    ),
    Case(
        "id-ns -n 1",
        any_of(IdentifyNamespace, _namespace),
        IDENTIFY,
        Cns.NAMESPACE,
        View(nsid=1),
        more=("kpios", "kpiodaag"),
    ),
    Case(
        "cmdset-ind-id-ns -n 1",
        any_of(IdentifyNamespaceIndependent),
        IDENTIFY,
        Cns.INDEPENDENT_NAMESPACE,
        View(nsid=1),
        more=("kpios", "maxkt", "rgrpid"),
    ),
    Case(
        "nvm-id-ctrl",
        any_of(IdentifyControllerNvm),
        IDENTIFY,
        Cns.CSI_CONTROLLER,
        more=("kpiocap", "wzdsl", "aocs", "ver", "lbamqf"),
    ),
    Case("zns id-ctrl", any_of(IdentifyControllerZns), IDENTIFY, Cns.CSI_CONTROLLER),
    Case(
        "zns id-ns -n 1",
        any_of(IdentifyNamespaceZns, _zones),
        IDENTIFY,
        Cns.CSI_NAMESPACE,
        View(namespace=NAMESPACE),
        FORMATS,
    ),
    Case(
        "primary-ctrl-caps",
        any_of(PrimaryControllerCapabilities),
        IDENTIFY,
        Cns.PRIMARY_CONTROLLER_CAPABILITIES,
    ),
    Case("list-ns", a_list(NamespaceList, 1000, ""), IDENTIFY, Cns.ACTIVE_NAMESPACES),
    Case("list-ctrl", a_list(ControllerList, 2000, "numids"), IDENTIFY, Cns.CONTROLLERS),
    Case("list-endgrp", a_list(EnduranceGroupList, 2000, "negids"), IDENTIFY, Cns.ENDURANCE_GROUPS),
    Case("ns-descs -n 1", _descriptors, IDENTIFY, Cns.NAMESPACE_DESCRIPTORS, View(nsid=1)),
]
#: Those whose text looks otherwise here.
ONLY_JSON = [
    Case(
        "nvm-id-ns -n 1",
        any_of(IdentifyNamespaceNvm),
        IDENTIFY,
        Cns.CSI_NAMESPACE,
        View(namespace=NAMESPACE),
        FORMATS,
    ),
    Case("id-nvmset", a_list(NvmSetList, 31, "numids"), IDENTIFY, Cns.NVM_SETS),
    Case("id-domain", a_list(DomainList, 31, "ndent"), IDENTIFY, Cns.DOMAINS),
    Case(
        "list-secondary",
        a_list(SecondaryControllerList, 127, "numids"),
        IDENTIFY,
        Cns.SECONDARY_CONTROLLERS,
    ),
    Case(
        "id-ns-granularity",
        a_list(NamespaceGranularityList, 16, "nod", 1),
        IDENTIFY,
        Cns.NAMESPACE_GRANULARITIES,
    ),
    Case("id-uuid", a_list(UuidList, 126, ""), IDENTIFY, Cns.UUIDS),
]
#: 2.3 has no JSON for them.
ONLY_TEXT = [
    Case("id-iocs", a_list(IoCommandSets, 511, ""), IDENTIFY, Cns.IO_COMMAND_SETS),
]
LOGS = [
    Case(
        "smart-log",
        any_of(SmartLog, _smart),
        LOG,
        0x02,
        View(device=nvme_cli.DEVICE, nsid=0xFFFFFFFF),
    ),
]
CASES = [
    *IDENTIFIES,
    *ONLY_JSON,
    *LOGS,
    Case("smart-log -H", any_of(SmartLog), LOG, 0x02, View(human=True)),
]


class Zeroes(Random):
    """A page of zeroes, a list without elements."""

    def randbytes(self, n: int) -> bytes:
        return bytes(n)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0 if stop is None else start


RANDOMS = st.integers(0, 1 << 32).map(lambda seed: Random(seed) if seed else Zeroes())


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=10)
@given(random=RANDOMS)
def test_the_same_json(nvme: NvmeCli, case: Case, random: Random) -> None:
    page = case.make(random)
    ours = json.loads(json.dumps(plain(page, case.view)))
    theirs = nvme.json(case.words, pages=case.pages(page))
    for lbaf in ours.get("lbafs", []):
        del lbaf["in_use"]
    if "UUID-list" in ours:
        del ours["UUID-list"][:1]  # which 2.3 takes for what is reserved
    assert ours == nvme_cli.mended(theirs, ours)


def squeezed(text: str) -> list[str]:
    """The lines that are not empty, without spaces; 2.3 has negative numbers of 32 bits."""
    found = ("".join(line.split()) for line in text.splitlines() if line.split())
    return [re.sub(r":(-\d{4,})", lambda m: f":{int(m[1]) + (1 << 32)}", f) for f in found]


@pytest.mark.parametrize("case", [*IDENTIFIES, *ONLY_TEXT, *LOGS], ids=str)
@settings(max_examples=10)
@given(random=RANDOMS)
def test_the_same_text(nvme: NvmeCli, case: Case, random: Random) -> None:
    page = case.make(random)
    theirs = squeezed(nvme.text(case.words, pages=case.pages(page)))
    ours = squeezed("\n".join(lines(page, case.view)))
    assert [line for line in ours if line.split(":")[0] not in case.more] == theirs
