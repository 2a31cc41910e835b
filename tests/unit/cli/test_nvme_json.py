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
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.fields import Struct
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
from pynvme_user.spec.logs import LogId
from pynvme_user.spec.logs_capacity import (
    CapacityConfiguration,
    CapacityConfigurationList,
    EnduranceGroupConfiguration,
    PredictableLatencyLog,
)
from pynvme_user.spec.logs_data import BootPartitionInfo, BootPartitionLog
from pynvme_user.spec.logs_events import (
    EVENT_DATA,
    EventTimestamp,
    PersistentEvent,
    PersistentEventHeader,
    PersistentEventLog,
    PersistentEventType,
)
from pynvme_user.spec.logs_fdp import (
    FdpConfiguration,
    FdpConfigurationsLog,
    FdpEvent,
    FdpEventsLog,
    FdpStatisticsLog,
    ReclaimUnitHandle,
    ReclaimUnitHandleUsageLog,
)
from pynvme_user.spec.logs_health import (
    EnduranceGroupLog,
    ErrorLog,
    ErrorLogEntry,
    FirmwareSlotLog,
    SanitizeLog,
    SelfTestLog,
    SmartLog,
)
from pynvme_user.spec.logs_namespaces import (
    ANASA,
    AnaGroup,
    AnaLog,
    ChangedNamespaceList,
    LbaStatusLog,
    LbaStatusNamespace,
    ReservationNotificationLog,
)
from pynvme_user.spec.logs_support import (
    CommandEffects,
    CommandEffectsLog,
    FeatureEffectsLog,
    LidSupported,
    MiCommandEffectsLog,
    SupportedLogPages,
)
from pynvme_user.spec.reservations import Registrant, ReservationStatus
from pynvme_user.spec.zns import ZoneDescriptor, ZoneList

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


def _elements(random: Random, kind: Any, most: int) -> list[Any]:
    size = kind.size
    return [kind.from_bytes(random.randbytes(size)) for _ in range(random.randrange(0, most + 1))]


def _errors(random: Random) -> ErrorLog:
    return ErrorLog.from_bytes(random.randbytes(4 * ErrorLogEntry.size))


def _ana(random: Random) -> AnaLog:
    groups = []
    for state in (1, 2, 3, 4, 5, 15)[: random.randrange(0, 5)]:
        ids = [random.randrange(1, 1 << 31) for _ in range(random.randrange(0, 5))]
        groups.append(AnaGroup.build(ids, agid=7, nnv=len(ids), chgc=9, anasa=ANASA(state)))
    return AnaLog.build(groups, chgc=random.randrange(0, 1 << 60), nagd=len(groups))


def _lba_status(random: Random) -> LbaStatusLog:
    parts = []
    for _ in range(random.randrange(0, 4)):
        ranges = _elements(random, LbaStatusNamespace.element_type, 3)
        parts.append(LbaStatusNamespace.build(ranges, neid=5, nlrd=len(ranges), ratype=0x10))
    made = LbaStatusLog.build(parts, nlslne=len(parts), estulb=8, lsgc=4)
    return LbaStatusLog.build(parts, nlslne=len(parts), estulb=8, lsgc=4, lslplen=made.size)


def _fdp_configurations(random: Random) -> FdpConfigurationsLog:
    made = []
    for _ in range(random.randrange(1, 4)):
        handles = _elements(random, ReclaimUnitHandle, 5)
        size = FdpConfiguration.build(handles, nruh=len(handles)).size
        made.append(
            FdpConfiguration.build(
                handles, nruh=len(handles), dsze=size, nrg=3, runs=1 << 40, nnss=9, erutl=5
            )
        )
    size = 16 + sum(each.size for each in made)
    return FdpConfigurationsLog.build(made, numfdpc=len(made) - 1, sze=size)


def _fdp_events(random: Random) -> FdpEventsLog:
    events = [
        each.replace(etyp=random.choice([0, 2, 0x80, 0x81]))
        for each in _elements(random, FdpEvent, 60)
    ]
    return FdpEventsLog.build(events, numfdpe=len(events))


def _persistent(random: Random) -> PersistentEventLog:
    events = []
    for kind, data in EVENT_DATA.items():
        if kind in _NO_JSON_EVENTS or random.randrange(0, 2):
            continue
        raw = random.randbytes(data.size if issubclass(data, Struct) else 8 + 2 * 36)
        header = PersistentEventHeader.build(et=kind, ehl=21, el=len(raw), cntlid=3)
        events.append(PersistentEvent.from_bytes(bytes(header) + raw))
    return PersistentEventLog.build(
        events,
        lid=13,
        tnev=len(events),
        tll=PERSISTENT_SIZE,
        tstmp=EventTimestamp(random.randrange(0, 1 << 63)),
        sn="S N",
        mn="M",
        subnqn="nqn.x",
        seb=b"\xfe\x3f" + bytes(30),
    )


def _zones_report(random: Random) -> ZoneList:
    zones = _elements(random, ZoneDescriptor, 20)
    return ZoneList.build(zones, nzones=len(zones))


def _registrants(random: Random) -> ReservationStatus:
    found = _elements(random, Registrant, 9)
    return ReservationStatus.build(found, gen=random.randrange(0, 99), regstrnt=len(found), rtype=2)


#: 2.3 prints nothing of them, but for the header.
_NO_JSON_EVENTS = (
    PersistentEventType.SET_FEATURE,
    PersistentEventType.TELEMETRY_LOG_CREATED,
    PersistentEventType.VENDOR_SPECIFIC,
)
#: What is read is longer than what is in it, as 2.3 leaves out an event that ends the page.
PERSISTENT_SIZE = 4096

IDENTIFIED = {
    (int(IDENTIFY), int(Cns.CONTROLLER)): bytes(
        IdentifyController.build(elpe=3, nanagrpid=16, nn=64, anagrpmax=16, npss=0)
    ),
    (int(IDENTIFY), int(Cns.NAMESPACE)): bytes(NAMESPACE),
    (int(IDENTIFY), int(Cns.CSI_NAMESPACE)): bytes(4096),
}
DEVICE = View(device=nvme_cli.DEVICE)


def log(words: str, make: Callable[[Random], Any], lid: LogId, view: View = DEVICE) -> Case:
    return Case(words, make, LOG, lid, view, IDENTIFIED)


LOGS = [
    log(
        "smart-log",
        any_of(SmartLog, _smart),
        LogId.SMART,
        View(device=nvme_cli.DEVICE, nsid=0xFFFFFFFF),
    ),
]
LOGS_AS_JSON = [
    log("smart-log -H", any_of(SmartLog), LogId.SMART, View(human=True)),
    log("error-log", _errors, LogId.ERROR),
    log("fw-log", any_of(FirmwareSlotLog), LogId.FIRMWARE_SLOT),
    log("changed-ns-list-log", a_list(ChangedNamespaceList, 1000, ""), LogId.CHANGED_NAMESPACES),
    log("self-test-log", any_of(SelfTestLog), LogId.SELF_TEST),
    log("endurance-log -g 1", any_of(EnduranceGroupLog), LogId.ENDURANCE_GROUP),
    log(
        "predictable-lat-log -i 5",
        any_of(PredictableLatencyLog),
        LogId.PREDICTABLE_LATENCY,
        View(nsid=5),
    ),
    log("ana-log", _ana, LogId.ANA),
    log("persistent-event-log -a 0 -l 4096", _persistent, LogId.PERSISTENT_EVENT),
    log("lba-status-log", _lba_status, LogId.LBA_STATUS),
    log("sanitize-log", any_of(SanitizeLog), LogId.SANITIZE),
    log("resv-notif-log", any_of(ReservationNotificationLog), LogId.RESERVATION_NOTIFICATION),
    log("fid-support-effects-log", any_of(FeatureEffectsLog), LogId.FEATURE_EFFECTS),
    log("mi-cmd-support-effects-log", any_of(MiCommandEffectsLog), LogId.MI_COMMAND_EFFECTS),
    log("fdp configs -e 1", _fdp_configurations, LogId.FDP_CONFIGURATIONS),
    log(
        "fdp usage -e 1",
        a_list(ReclaimUnitHandleUsageLog, 50, "nruh"),
        LogId.RECLAIM_UNIT_HANDLE_USAGE,
    ),
    log("fdp stats -e 1", any_of(FdpStatisticsLog), LogId.FDP_STATISTICS),
    log("fdp events -e 1", _fdp_events, LogId.FDP_EVENTS),
    Case("resv-report -n 1", _registrants, NvmOpcode.RESERVATION_REPORT, 0xFF, DEVICE, IDENTIFIED),
    Case(
        "zns report-zones -n 1",
        _zones_report,
        NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
        0,
        DEVICE,
        IDENTIFIED,
    ),
]
CASES = [
    *IDENTIFIES,
    *ONLY_JSON,
    *LOGS,
    *LOGS_AS_JSON,
]


class Zeroes(Random):
    """A page of zeroes, a list without elements."""

    def randbytes(self, n: int) -> bytes:
        return bytes(n)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0 if stop is None else start


#: Keys that 2.3 does not have: some of them later versions have.
OURS = {"in_use", "ruhs", "controllers", "additional_info", "attrs_info"}


def without_what_differs(made: Any) -> None:
    """Take from both what `nvme_json` says that differs."""
    for each in made.values() if isinstance(made, dict) else made if isinstance(made, list) else ():
        without_what_differs(each)
    if isinstance(made, dict):
        if "attrs" in made:  # ZAI stands there in the place of ZA
            made["attrs"] = made.get("attrs_info", made["attrs"])
        if "no_cmplted_passes" in made:  # words of our own behind the number
            made["status"] = made["status"].partition(" ")[0]
        if "compln_info" in made:  # of which 2.3 takes what is reserved for a part
            made["status_field"] &= 0xFFFF
        if "nlbam" in made:  # 2.3 looks for the LBA four bytes too far on
            made.pop("lba", None)
        for key in OURS & {*made}:
            del made[key]


RANDOMS = st.integers(0, 1 << 32).map(lambda seed: Random(seed) if seed else Zeroes())


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=5)
@given(random=RANDOMS)
def test_the_same_json(nvme: NvmeCli, case: Case, random: Random) -> None:
    page = case.make(random)
    ours = json.loads(json.dumps(plain(page, case.view)))
    theirs = nvme.json(case.words, pages=case.pages(page))
    without_what_differs(ours)
    without_what_differs(theirs)
    if "UUID-list" in ours:
        del ours["UUID-list"][:1]  # which 2.3 takes for what is reserved
    assert ours == nvme_cli.mended(theirs, ours)


def test_what_2_3_has_no_json_of() -> None:
    """It aborts or prints text: the keys are those of later versions."""
    lids = [LidSupported(0)] * 256
    lids[2] = LidSupported(3)
    assert plain(SupportedLogPages.build(lids=lids), View()) == {
        "supported_logs": [{"lid_0x2 ": 3}]
    }
    combinations = IoCommandSets.from_bytes((5).to_bytes(8, "little") + bytes(8))
    assert plain(combinations, View()) == {"I/O Command Set Combination[0]": 5}
    boot = BootPartitionLog.build(lid=0x15, bpinfo=BootPartitionInfo(1 << 31 | 7))
    assert plain(boot, View()) == {"count": 0x15, "abpid": 1, "bpsz": 7}
    group = EnduranceGroupConfiguration.build([4], endgid=1, egsets=1)
    capacity = CapacityConfigurationList.build(
        [CapacityConfiguration.build([group], ccid=6, egcn=1)], sccn=1
    )
    made: Any = plain(capacity, View())
    assert made["sccn"] == 1
    assert made["Capacity Descriptor"][0]["cap_config_id"] == 6
    assert made["Capacity Descriptor"][0]["Endurance Descriptor"] == [
        {
            "endgid": 1,
            "cap_adj_factor": 0,
            "tegcap": 0,
            "segcap": 0,
            "egsets": 1,
            "egchans": 0,
            "Channel Descriptor": [],
            "NVM Set IDs": [{"nvmsetid": 4}],
        }
    ]


def test_effects(nvme: NvmeCli) -> None:
    acs = [CommandEffects(0)] * 256
    acs[0], acs[6], acs[0x80] = CommandEffects(1), CommandEffects(0x20001), CommandEffects(0x11)
    page = CommandEffectsLog.build(acs=acs, iocs=[CommandEffects(1)] * 2 + acs[:254])
    theirs = nvme.json(
        "effects-log -c 0", pages={(int(LOG), int(LogId.COMMAND_EFFECTS)): bytes(page)}
    )
    assert [plain(page, View())] == theirs
    assert "ACS_6 (Identify)" in theirs[0]["admin_cmd_set"]
    shown = list(lines(page, View(human=True)))
    assert shown[0] == "Admin Command Set"
    assert "  Command Supported, Controller Capability Change" in shown


def squeezed(text: str) -> list[str]:
    """The lines that are not empty, without spaces; 2.3 has negative numbers of 32 bits."""
    found = ("".join(line.split()) for line in text.splitlines() if line.split())
    return [re.sub(r":(-\d{4,})", lambda m: f":{int(m[1]) + (1 << 32)}", f) for f in found]


@pytest.mark.parametrize("case", [*IDENTIFIES, *ONLY_TEXT, *LOGS], ids=str)
@settings(max_examples=5)
@given(random=RANDOMS)
def test_the_same_text(nvme: NvmeCli, case: Case, random: Random) -> None:
    page = case.make(random)
    theirs = squeezed(nvme.text(case.words, pages=case.pages(page)))
    ours = squeezed("\n".join(lines(page, case.view)))
    assert [line for line in ours if line.split(":")[0] not in case.more] == theirs
