"""docs/commands.md: made from the declarations, and true of both controllers that it speaks of."""

from __future__ import annotations

from collections.abc import Iterator

import command_reference
import pytest
from command_reference import ADMIN, IO, QEMU, QEMU_10, SOFTWARE
from qemu_options import PLACEMENT, SECONDARY, open_with

import pynvme_user as nvme
from pynvme_user import Controller, NvmeError, NvmeStatusError
from pynvme_user.cli.group import cli
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import NSID_ALL, AdminOpcode, NvmOpcode
from pynvme_user.spec.feature_dwords import FdpEventsCdw11, FlexibleDataPlacementCdw11
from pynvme_user.spec.features import FEATURES, FeatureId
from pynvme_user.spec.identify_pages import IDENTIFY_PAGES
from pynvme_user.spec.logs import (
    LOG_PAGES,
    CommandEffectsLog,
    LogId,
    PersistentEventAction,
    PersistentEventLsp,
    Scope,
)

LISTS = (Cns.ACTIVE_NAMESPACES, Cns.CSI_ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES)
#: QEMU's options, or the software controller's name.
DEVICES = {
    SECONDARY: QEMU,
    f"{SECONDARY}&{PLACEMENT}": QEMU_10,
    f"soft:?commands=all&size=64M&{PLACEMENT}": SOFTWARE,
}
#: Features of which one is asked for, not for all: of an NVM Set, of an endurance group.
PARTS = {
    FeatureId.READ_RECOVERY_LEVEL_CONFIG: 1,
    FeatureId.PREDICTABLE_LATENCY_MODE_CONFIG: 1,
    FeatureId.PREDICTABLE_LATENCY_MODE_WINDOW: 1,
    FeatureId.ENDURANCE_GROUP_EVENT_CONFIG: 1,
    FeatureId.FLEXIBLE_DATA_PLACEMENT: FlexibleDataPlacementCdw11.build(endgid=1),
    FeatureId.FLEXIBLE_DATA_PLACEMENT_EVENTS: FdpEventsCdw11.build(phndl=0, noet=8),
}


def test_the_page_is_made_from_the_declarations() -> None:
    """Else make it again: python tests/support/command_reference.py."""
    assert command_reference.PATH.read_text() == command_reference.render()


def test_the_commands_of_nvme_user_are_there() -> None:
    for _, command in (*ADMIN.values(), *IO.values()):
        first, *rest = command.split() or [""]
        assert not first or first in cli.commands, command
        assert not rest or rest[0] in cli.commands[first].commands  # type: ignore[attr-defined]


def test_the_names_of_python_are_there() -> None:
    for names, _ in (*ADMIN.values(), *IO.values()):
        kind, _, methods = names.partition(".")
        if kind not in ("Controller", "Namespace", "QueuePair") or "zones" in methods:
            continue
        for method in methods.split(", "):
            assert callable(getattr(getattr(nvme, kind), method)), names


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[tuple[Controller, dict[str, list[str]]]]:
    soft = request.param.startswith("soft:")
    with nvme.open(request.param) if soft else open_with(request.param) as ctrl:
        yield ctrl, DEVICES[request.param]


Both = tuple[Controller, dict[str, list[str]]]


def test_commands(device: Both) -> None:
    ctrl, has = device
    effects = ctrl.log(CommandEffectsLog)
    there = {opcode.name for opcode in AdminOpcode if effects.acs[opcode].csupp}
    assert there >= set(has["admin"])
    there = {opcode.name for opcode in NvmOpcode if effects.iocs[opcode].csupp}
    assert there >= set(has["io"])


def test_identify(device: Both) -> None:
    ctrl, has = device
    for cns, csi in IDENTIFY_PAGES:
        if cns.name in has["cns"]:
            nsid = 0 if cns in (*LISTS, Cns.CSI_ALLOCATED_NAMESPACES) else 1
            try:
                page = ctrl.identify_data(cns, nsid=nsid, csi=csi or 0)
            except NvmeError:
                assert csi  # of a command set that it does not have
                continue
            assert isinstance(page.to_dict(), dict)


def read_log(ctrl: Controller, lid: LogId) -> bytes:
    """Read the first bytes of a page, of the namespace or the endurance group that there is."""
    scope = LOG_PAGES[lid].scope
    lsi = int(scope in (Scope.ENDURANCE_GROUP, Scope.NVM_SET))
    nsid = 1 if scope is Scope.NAMESPACE else NSID_ALL
    reads = PersistentEventAction.ESTABLISH_CONTEXT_AND_READ
    lsp = PersistentEventLsp.build(act=reads) if lid is LogId.PERSISTENT_EVENT else 0
    return ctrl.log_page(lid, 512, lsi=lsi, lsp=lsp, nsid=nsid)


def get_feature(ctrl: Controller, fid: FeatureId) -> int:
    """Get a feature, of namespace 1 where it is a namespace's."""
    nsid = int(bool(FEATURES[fid].per_namespace))
    return ctrl.feature(fid, nsid=nsid, cdw11=PARTS.get(fid, 0)).result


def test_log_pages(device: Both) -> None:
    ctrl, has = device
    for name in has["lid"]:
        assert len(read_log(ctrl, LogId[name])) == 512


def test_features(device: Both) -> None:
    ctrl, has = device
    for name in has["fid"]:
        assert get_feature(ctrl, FeatureId[name]) >= 0


def declared(has: dict[str, list[str]], kind: str) -> set[str]:
    """What a device may have, by the table: QEMU's of every version."""
    return set(has[kind]) if has is SOFTWARE else {*QEMU[kind], *QEMU_10[kind]}


def test_no_command_is_left_out(device: Both) -> None:
    ctrl, has = device
    effects = ctrl.log(CommandEffectsLog)
    for kind, opcodes, told in (
        ("admin", AdminOpcode, effects.acs),
        ("io", NvmOpcode, effects.iocs),
    ):
        assert {one.name for one in opcodes if told[one].csupp} <= declared(has, kind)


def test_no_page_and_no_feature_is_left_out(device: Both) -> None:
    """Of which the encoding alone is tested, a device here has none."""
    ctrl, has = device
    for lid in LOG_PAGES:
        if lid.name not in declared(has, "lid"):
            with pytest.raises(NvmeStatusError):
                read_log(ctrl, lid)
    for fid in FEATURES:
        if fid.name not in declared(has, "fid"):
            with pytest.raises(NvmeStatusError):
                get_feature(ctrl, fid)
    for cns, csi in IDENTIFY_PAGES:
        if cns.name not in declared(has, "cns"):
            with pytest.raises(NvmeStatusError):
                ctrl.identify_page(cns, nsid=1, csi=csi or 0)
