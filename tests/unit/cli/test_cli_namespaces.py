"""Which namespaces a command is about, on controllers that QEMU is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from soft_controller import OK, SoftController, namespace_list

from pynvme_user import SQE, AdminOpcode, Cns, IdentifyNamespace, NvmOpcode, Status
from pynvme_user.spec.commands import NSID_ALL
from pynvme_user.spec.identify import LbaFormat
from pynvme_user.spec.identify_controller import VWC, FlushBehavior

Run = Callable[..., tuple[str, int]]


@pytest.fixture
def sent(soft: SoftController) -> list[SQE]:
    """The I/O commands that the controller gets, and those of Identify."""
    commands: list[SQE] = []

    def io(sqe: SQE) -> Status:
        commands.append(sqe)
        return OK

    def admin(sqe: SQE) -> Status:
        if sqe.opc == AdminOpcode.IDENTIFY:
            commands.append(sqe)
        return OK

    soft.io, soft.admin = io, admin
    return commands


@pytest.mark.parametrize(
    ("behavior", "code"),
    [
        (FlushBehavior.NOT_INDICATED, 0),
        (FlushBehavior.SUPPORTED, 0),
        (FlushBehavior.NOT_SUPPORTED, 1),
    ],
)
def test_flush_of_all(
    run: Run, soft: SoftController, sent: list[SQE], behavior: FlushBehavior, code: int
) -> None:
    soft.fields["vwc"] = VWC.build(vwcp=1, fb=behavior)
    said, ended = run("flush", "soft:", "-n", "0xffffffff")
    assert ended == code
    flushes = [sqe.nsid for sqe in sent if sqe.opc == NvmOpcode.FLUSH]
    assert flushes == ([] if code else [NSID_ALL])
    if code:
        assert said == "soft flushes one namespace at a time (VWC): flush each of 1"


def test_the_common_capabilities(run: Run, soft: SoftController, sent: list[SQE]) -> None:
    common = IdentifyNamespace.build(nlbaf=1, lbafs=[LbaFormat.build(ds=9), LbaFormat.build(ds=12)])
    soft.identify = lambda sqe: bytes(common) if sqe.nsid == NSID_ALL else None
    said, code = run("id-ns", "soft:", "-n", "0xffffffff")
    assert code == 0
    assert "Identify Namespace, common to all:" in said
    assert "lbads:12" in said
    assert [sqe.nsid for sqe in sent if sqe.cdw10 & 0xFF == Cns.NAMESPACE] == [NSID_ALL]


@pytest.mark.parametrize("command", [["id-ns"], ["flush"], ["read", "-c", "0"]])
@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 3], ("soft has 2 active namespaces (1, 3): say which with --namespace-id", 2)),
        ([], ("soft has no active namespace: create or attach one", 1)),
    ],
)
def test_which_one_has_to_be_said(
    run: Run, soft: SoftController, command: list[str], ids: list[int], expected: tuple[str, int]
) -> None:
    soft.identify = lambda sqe: (
        namespace_list(ids) if sqe.cdw10 & 0xFF == Cns.ACTIVE_NAMESPACES else None
    )
    said, code = run(command[0], "soft:", *command[1:])
    assert (said.partition(" (see ")[0], code) == expected


@pytest.mark.parametrize("plain", [False, True])
def test_plain_cids(run: Run, sent: list[SQE], plain: bool) -> None:
    """Each command id is below the depth of the queue only where that is asked for."""
    options = ["--plain-cids"] if plain else []
    assert run(*options, "id-ns", "soft")[1] == 0
    assert (max(sqe.cid for sqe in sent) < 64) == plain
