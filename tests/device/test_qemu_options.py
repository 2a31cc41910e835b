"""What QEMU's controller has when its name asks for it: atomicity, secondary controllers.

What an older QEMU does not know is skipped; QEMU 10.0 runs all.
"""

from __future__ import annotations

import pytest
from qemu_options import SECONDARY, open_with

from pynvme_user import FeatureId
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.logs import LogId
from pynvme_user.spec.management import VirtualizationAction, VirtualizationResource

pytestmark = pytest.mark.usefixtures("qemu")


def test_the_size_of_atomic_writes() -> None:
    with open_with("atomic.dn=on&atomic.awun=15&atomic.awupf=7") as ctrl:
        assert (ctrl.identify.awun, ctrl.identify.awupf) == (15, 7)
        assert ctrl.feature(FeatureId.WRITE_ATOMICITY).value.dn == 1


def test_a_controller_without_shadow_doorbells() -> None:
    with open_with("dbcs=off") as ctrl:
        assert not ctrl.identify.oacs.dbcs
        assert ctrl.transport.shadow is None
        ns = ctrl.namespaces[1]
        ns.write(3, b"a" * ns.block_size)
        assert ns.read(3, 1) == b"a" * ns.block_size


def test_short_queues() -> None:
    with open_with("mqes=7") as ctrl:
        assert ctrl.registers.cap.mqes == 7
        ns = ctrl.namespaces[1]
        with pytest.raises(ValueError, match="7"), ctrl.queue_pair(9):
            pass
        with ctrl.queue_pair(7) as qp:
            buffer = ctrl.alloc(100 * ns.block_size)
            qp.read_many(ns, range(100), 1, buffer).check()


def test_a_page_of_the_vendor() -> None:
    """The Open Compute Project's SMART page, known by the GUID at its end."""
    with open_with("ocp=on") as ctrl:
        page = bytes(ctrl.log_page(0xC0, 512))
        assert page[496:].hex() == "c5af1028eabff2a49c4f6f7cc914d5af"


def test_secondary_controllers() -> None:
    with open_with(SECONDARY) as ctrl:
        capabilities = ctrl.identify_data(Cns.PRIMARY_CONTROLLER_CAPABILITIES)
        assert (capabilities.vqfrt, capabilities.vifrt) == (4, 2)
        secondary = list(ctrl.identify_data(Cns.SECONDARY_CONTROLLERS))
        assert [(one.scid, one.vfn, one.scs.onl) for one in secondary] == [(1, 1, 0), (2, 2, 0)]

        give = ctrl.virtualization_management
        # QEMU 7.2 has the command all the same, of which its OACS says nothing.
        force = not ctrl.identify.oacs.vms
        for resource, count in ((VirtualizationResource.VQ, 2), (VirtualizationResource.VI, 1)):
            given = give(
                1,
                VirtualizationAction.SECONDARY_ASSIGN,
                resource=resource,
                count=count,
                force=force,
            )
            assert given == count
        first, second = ctrl.identify_data(Cns.SECONDARY_CONTROLLERS)
        assert (first.nvq, first.nvi) == (2, 1)
        assert (second.nvq, second.nvi) == (0, 0)


def test_the_name_of_a_subsystem() -> None:
    with open_with("subsys.nqn=mine") as ctrl:
        assert ctrl.identify.subnqn == "nqn.2019-08.org.qemu:mine"
        assert ctrl.log_page(LogId.SMART, 512)
