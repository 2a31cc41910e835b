"""Firmware, namespaces, capacity, controllers: against numbers of the specification."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.spec import management
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.identify import IdentifyNamespace
from pynvme_user.spec.management import LbaStatusDescriptor, LbaStatusList, NamespaceCreate


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (management.FirmwareDownloadCdw10.build(numd=0x3FF), 0x3FF),
        (management.FirmwareDownloadCdw11.build(ofst=0x400), 0x400),
        (management.FirmwareCommitCdw10.build(fs=2, ca=3, bpid=1), 0x8000001A),
        (management.FirmwareCommitCdw10.build(ca=management.CommitAction(7)), 0x38),
        (management.FirmwareCommitResult.build(asqfwo=1), 1),
        (management.FirmwareCommitResult.build(mefwo=1), 2),
        (management.NamespaceManagementCdw10.build(sel=1), 1),
        (management.NamespaceManagementCdw11.build(csi=2), 0x02000000),
        (management.NamespaceManagementResult.build(nsid=0xFFFFFFFE), 0xFFFFFFFE),
        (management.ZoneCreateOptions.build(azr=1), 1),
        (management.NamespaceAttachmentCdw10.build(sel=1), 1),
        (management.GetLbaStatusCdw13.build(rl=8, atype=0x11), 0x11000008),
        (management.VirtualizationManagementCdw10.build(act=8, rt=1, cntlid=2), 0x00020108),
        (management.VirtualizationManagementCdw11.build(nr=3), 3),
        (management.VirtualizationManagementResult.build(nrm=3), 3),
        (management.CapacityManagementCdw10.build(oper=3, elid=9), 0x00090003),
        (management.CapacityManagementResult.build(celid=9), 9),
        (management.LockdownCdw10.build(scp=2, prhbt=1, ifc=2, ofi=0x84), 0x8452),
        (management.LockdownCdw14.build(uidx=0x7F), 0x7F),
        (management.DiscoveryInformationCdw10.build(tas=2), 2),
        (management.ManagementInterfaceCdw10.build(mt=4, nmimt=1), 0x0804),
        (management.ManagementInterfaceCdw10.build(ic=1, csi=1, ror=1), 0x8180),
        (management.ManagementInterfaceCdw11.build(opc=1), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Register) else "",
)
def test_management_dword(register: Register, value: int) -> None:
    assert register == value


def test_data_of_a_new_namespace() -> None:
    assert NamespaceCreate.size == 4096
    offsets = {field.name: field.offset for field in NamespaceCreate.layout if not field.reserved}
    assert offsets == {
        "nsze": 0,
        "ncap": 8,
        "flbas": 26,
        "dps": 29,
        "nmic": 30,
        "anagrpid": 92,
        "nvmsetid": 100,
        "endgid": 102,
        "lbstm": 384,
        "nphndls": 392,
        "znsco": 499,
        "rar": 500,
        "ror": 504,
        "rnumzrwa": 508,
        "phndl": 512,
    }
    # What Identify Namespace has, too, lies at the same place.
    page = {field.name: field.offset for field in IdentifyNamespace.layout}
    assert all(page.get(name, at) == at for name, at in offsets.items())
    assert {"nsze", "ncap", "flbas", "dps", "nmic", "anagrpid", "nvmsetid", "endgid"} <= set(page)


def test_lba_status() -> None:
    descriptor = LbaStatusDescriptor.build(dslba=0x10, nlb=7, status=2)
    page = LbaStatusList.build([descriptor], nlsd=1, cmpc=management.LbaStatusCompletion.COMPLETE)
    assert bytes(page) == bytes.fromhex("01000000 02 000000 1000000000000000 07000000 00 02 0000")
    assert LbaStatusList.from_bytes(bytes(page)) == page


KINDS = [NamespaceCreate, LbaStatusList]


@given(st.sampled_from(KINDS), st.binary(max_size=4200))
@example(LbaStatusList, b"\xff" * 4096)
def test_no_bytes_are_refused_but_too_few(
    kind: type[NamespaceCreate | LbaStatusList], raw: bytes
) -> None:
    least = kind.size if issubclass(kind, Struct) else kind.header_type.size
    if len(raw) < least:
        with pytest.raises(ValueError, match="the buffer has"):
            kind.from_bytes(raw)
    else:
        assert all(line.isascii() for line in kind.from_bytes(raw).dump())
