"""What the device says of itself: registers, Identify pages, namespaces."""

from __future__ import annotations

import pytest

from pynvme_user import Controller, Namespace, NvmeError
from pynvme_user.access.base import RegionIndex
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.identify import IdentifyNamespace
from pynvme_user.spec.registers import CC, CSTS, REGISTERS, VS


def test_every_register_decodes(controller: Controller) -> None:
    values = list(controller.registers)
    assert [type(value) for value in values] == list(REGISTERS)
    for value in values:
        assert value.dump()
        assert getattr(controller.registers, type(value).__name__.lower()).width == value.width


def test_capabilities_are_plausible(controller: Controller) -> None:
    cap = controller.registers.cap
    assert cap == controller.cap
    assert cap.mqes >= 1
    assert cap.to >= 1
    assert cap.css & 0xC1
    assert cap.mpsmin == 0
    assert cap.mpsmin <= cap.mpsmax
    assert controller.registers.read(VS).mjr in (1, 2)


def test_the_controller_is_enabled_as_it_was_told(controller: Controller) -> None:
    cc, csts = controller.registers.read(CC), controller.registers.read(CSTS)
    assert (cc.en, cc.iosqes, cc.iocqes, cc.mps, cc.shn) == (1, 6, 4, 0, 0)
    assert (csts.rdy, csts.cfs, csts.shst) == (1, 0, 0)
    aqa = controller.registers.aqa
    assert aqa.asqs == aqa.acqs >= 1
    assert controller.registers.asq % 4096 == controller.registers.acq % 4096 == 0


def test_no_such_register(controller: Controller) -> None:
    with pytest.raises(AttributeError, match="no register nonsense"):
        _ = controller.registers.nonsense
    assert "cap" in dir(controller.registers)


def test_identify_controller(controller: Controller) -> None:
    page = controller.identify
    assert page.sn == page.sn.strip()
    assert page.mn
    assert page.nn >= 1
    assert page.sqes.min == 6
    assert page.cqes.min == 4
    assert page.ver in (0, int(controller.registers.vs))
    if page.mdts:
        assert controller.max_transfer == min(4096 << page.mdts, 2 << 20)
    assert controller.max_transfer >= 4096
    assert bytes(page) == controller.identify_page(Cns.CONTROLLER)


def test_namespaces(controller: Controller) -> None:
    namespaces = controller.namespaces
    ids = list(namespaces)
    assert ids == sorted(set(ids))
    assert len(namespaces) == len(ids) >= 1
    for nsid in ids:
        ns = namespaces[nsid]
        assert ns is namespaces[nsid]
        assert ns.nsid == nsid
        assert ns.block_size in (512, 4096)
        assert ns.block_count == ns.identify.nsze > 0
        assert str(ns.block_count) in repr(ns)
        raw = controller.identify_page(Cns.NAMESPACE, nsid=nsid)
        assert ns.identify == IdentifyNamespace.from_bytes(raw)
        for name in ("eui64", "nguid"):
            assert getattr(ns.identifiers, name) in (None, getattr(ns.identify, name))


@pytest.mark.parametrize("nsid", [0, 0xFFFFFFF0, 0xFFFFFFFF])
def test_no_such_namespace(controller: Controller, nsid: int) -> None:
    with pytest.raises(KeyError, match="is not active; active are: "):
        _ = controller.namespaces[nsid]


def test_namespaces_are_a_mapping(controller: Controller, ns: Namespace) -> None:
    assert controller.namespaces.get(ns.nsid) is ns
    assert controller.namespaces.get(0xFFFFFFF0) is None


def test_regions_of_the_function(controller: Controller) -> None:
    """Configuration space and BAR0, where the device is a PCI function."""
    try:
        config = controller.transport.access.region(RegionIndex.CONFIG)
    except NvmeError as error:
        pytest.skip(f"the device is no PCI function: {error}")
    assert config.read(0x0A, 2) == 0x0108  # mass storage, non-volatile memory
    assert config.read(0x09, 1) == 0x02  # NVMe I/O controller
    assert config.read(0, 4) == config.read(2, 2) << 16 | config.read(0, 2)
    line = config.read(0x3C, 1)
    config.write(0x3C, 1, line ^ 0xFF)
    assert config.read(0x3C, 1) == line ^ 0xFF
    config.write(0x3C, 1, line)
    bar = controller.transport.access.region(RegionIndex.BAR0)
    assert bar.read(0, 8) == int(controller.cap)
    assert bar.read(8, 4) == int(controller.registers.vs)
