"""Which namespaces there are: what a controller says of it, and what it must not say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from soft_controller import OK, SoftController, namespace_list

from pynvme_user import Controller, NvmeError, NvmeStatusError
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.identify import IdentifyController, IdentifyNamespace, LbaFormat
from pynvme_user.spec.registers import VS
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport


def lists(soft: SoftController, page: Callable[[int], Sequence[int]]) -> list[int]:
    """Let the active namespaces after an id be these; return the ids that were asked for."""
    asked: list[int] = []

    def identify(sqe: SQE) -> bytes | None:
        if sqe.cdw10 & 0xFF != Cns.ACTIVE_NAMESPACES:
            return None
        asked.append(sqe.nsid)
        return namespace_list(page(sqe.nsid))

    soft.identify = identify
    return asked


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 3000])
def test_lists_of_several_pages(soft: SoftController, ctrl: Controller, count: int) -> None:
    ids = range(5, 5 + 2 * count, 2)
    asked = lists(soft, lambda last: [nsid for nsid in ids if nsid > last][:1024])
    assert ctrl.namespaces.ids == list(ids)
    assert len(asked) == count // 1024 + 1


def test_a_list_that_is_always_full(soft: SoftController, ctrl: Controller) -> None:
    """It has an end, and the memory that it takes, too."""
    asked = lists(soft, lambda last: range(last + 1, last + 1025))
    with pytest.raises(NvmeError, match="more than 65536 namespaces"):
        list(ctrl.namespaces)
    assert len(asked) <= 65


@pytest.mark.parametrize(
    ("ids", "wrong"),
    [
        ([1, 2, 2], "2 after 2"),
        ([1, 3, 2], "2 after 3"),
        ([*range(1, 1025)], "1 after 1024"),
        ([1, 0xFFFFFFFF], "4294967295 after 1"),
    ],
    ids=["twice", "descending", "the same page again", "the broadcast id"],
)
def test_ids_that_do_not_ascend(
    soft: SoftController, ctrl: Controller, ids: list[int], wrong: str
) -> None:
    lists(soft, lambda _: ids)
    with pytest.raises(NvmeError, match=f"a namespace id that cannot be, {wrong}: "):
        list(ctrl.namespaces)


def test_the_last_id_that_there_is(soft: SoftController, ctrl: Controller) -> None:
    """Nothing may be asked for beyond it."""
    asked = lists(soft, lambda _: range(0xFFFFFFFF - 1024, 0xFFFFFFFF))
    assert ctrl.namespaces.ids[-1] == 0xFFFFFFFE
    assert asked == [0]


# --- NVMe 1.0: CNS has one bit ------------------------------------------------------------------


def old(soft: SoftController, nn: int, sizes: dict[int, int | Status]) -> list[int]:
    """Be a controller of before the list of active namespaces; return the CNSs asked for."""
    asked: list[int] = []

    def identify(sqe: SQE) -> bytes | None:
        cns = sqe.cdw10 & 0xFF
        asked.append(cns)
        if cns & 1 == Cns.CONTROLLER:
            page = IdentifyController.from_bytes(soft._page(SQE.build(cdw10=1)))
            return bytes(page.replace(nn=nn))
        size = sizes.get(sqe.nsid, 0)
        if not size:
            return bytes(4096)
        assert isinstance(size, int)
        return bytes(IdentifyNamespace.build(nsze=size, lbafs=[LbaFormat.build(ds=9)]))

    def admin(sqe: SQE) -> Status:
        if sqe.opc != AdminOpcode.IDENTIFY:
            return OK
        if sqe.cdw10 & 0xFF > 1:
            return Status.of(GenericStatus.INVALID_FIELD, dnr=1)
        status = sizes.get(sqe.nsid)
        return status if isinstance(status, Status) else OK

    soft.identify, soft.admin = identify, admin
    return asked


@pytest.mark.parametrize("version", [(1, 0), (1, 2)])
def test_no_list_of_active_namespaces(soft: SoftController, version: tuple[int, int]) -> None:
    """1 to NN are tried with CNS 0; one that is not active has a page of zeroes, or an error."""
    soft.version = VS.build(mjr=version[0], mnr=version[1])
    missing = Status.of(GenericStatus.INVALID_NAMESPACE_OR_FORMAT)
    asked = old(soft, 5, {1: 100, 3: 700, 4: missing})
    with Controller(PcieTransport(soft)) as ctrl:
        assert ctrl.namespaces.ids == [1, 3]
        assert ctrl.namespaces[3].block_count == 700
        ctrl.namespaces[3].write(699, bytes(512))
        with pytest.raises(KeyError, match="namespace 2 is not active; active are: 1, 3"):
            ctrl.namespaces[2]
    # One of 1.0 may take CNS 2 for CNS 0, whose page is no list.
    assert 2 not in asked


def test_an_odd_one_does_not_hide_the_others(soft: SoftController) -> None:
    soft.version = VS.build(mjr=1)
    failing = Status.of(GenericStatus.INTERNAL_ERROR)
    old(soft, 3, {1: 100, 2: failing, 3: 100})
    with Controller(PcieTransport(soft)) as ctrl:
        assert ctrl.namespaces.ids == [1, 2, 3]
        ctrl.namespaces[3].write(0, bytes(512))
        with pytest.raises(NvmeStatusError, match="Internal Error"):
            ctrl.namespaces[2]


def test_other_errors_are_errors(soft: SoftController, ctrl: Controller) -> None:
    failing = Status.of(GenericStatus.INTERNAL_ERROR)
    soft.admin = lambda sqe: failing if sqe.cdw10 & 0xFF == Cns.ACTIVE_NAMESPACES else OK
    with pytest.raises(NvmeStatusError, match=r"Identify .* Internal Error"):
        list(ctrl.namespaces)


def test_no_end_of_tries(soft: SoftController, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pynvme_user.driver.namespace.MOST_NAMESPACES", 20)
    soft.version = VS.build(mjr=1)
    asked = old(soft, 0xFFFFFFFF, {1: 100})
    with Controller(PcieTransport(soft)) as ctrl:
        assert ctrl.namespaces.ids == [1]
    assert asked.count(Cns.NAMESPACE) <= 21


@pytest.mark.parametrize("version", [(1, 0), (1, 2)])
def test_identifiers_of_before_there_was_a_list_of_them(
    soft: SoftController, version: tuple[int, int]
) -> None:
    """Only the namespace's page has them; CNS 3 may be taken for CNS 1, which is no such list."""
    soft.version = VS.build(mjr=version[0], mnr=version[1])
    asked = old(soft, 1, {1: 100})
    identify = soft.identify

    def with_eui64(sqe: SQE) -> bytes | None:
        page = identify(sqe)
        if page is None or sqe.cdw10 & 0xFF != Cns.NAMESPACE:
            return page
        return bytes(IdentifyNamespace.from_bytes(page).replace(eui64=b"EUI-64!!"))

    soft.identify = with_eui64
    with Controller(PcieTransport(soft)) as ctrl:
        known = ctrl.namespaces[1].identifiers
        assert (known.eui64, known.nguid, known.uuid, known.csi) == (b"EUI-64!!", None, None, None)
    assert Cns.NAMESPACE_DESCRIPTORS not in asked
