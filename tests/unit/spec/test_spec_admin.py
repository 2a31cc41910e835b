"""The admin commands' dwords against numbers written out from the specification."""

from __future__ import annotations

import pytest

from pynvme_user.spec import admin
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.fields import Register


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (admin.CreateQueueCdw10.build(qid=1, qsize=0xFF), 0x00FF0001),
        (admin.CreateCqCdw11.build(pc=1, ien=1, iv=3), 0x00030003),
        (admin.CreateSqCdw11.build(pc=1, qprio=2, cqid=7), 0x00070005),
        (admin.CreateSqCdw12.build(nvmsetid=0xABCD), 0xABCD),
        (admin.DeleteQueueCdw10.build(qid=9), 9),
        (admin.IdentifyCdw10.build(cns=Cns.CONTROLLER, cntid=2), 0x00020001),
        (admin.IdentifyCdw11.build(cnssid=5, csi=2), 0x02000005),
        (admin.GetLogPageCdw10.build(lid=2, lsp=1, rae=1, numdl=0x7F), 0x007F8102),
        (admin.GetLogPageCdw11.build(numdu=1, lsi=2), 0x00020001),
        (admin.GetLogPageCdw14.build(uidx=3, ot=1, csi=2), 0x02800003),
        (admin.AbortCdw10.build(sqid=1, cid=0x1234), 0x12340001),
        (admin.FormatCdw10.build(lbafl=1, mset=1, pi=1, pil=1, ses=2, lbafu=3), 0x3531),
        (admin.SanitizeCdw10.build(sanact=4, ause=1, owpass=1, oipbp=1, ndas=1), 0x31C),
        (admin.IdentifyCdw14.build(uidx=0x7F), 0x7F),
        (admin.SanitizeCdw10.build(sanact=5, emvs=1), 0x405),
        (admin.DeviceSelfTestCdw10.build(stc=admin.SelfTestCode.ABORT), 0xF),
        (admin.DeviceSelfTestCdw10.build(stc=admin.SelfTestCode.VENDOR_SPECIFIC), 0xE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Register) else "",
)
def test_admin_dword(register: Register, value: int) -> None:
    assert register == value


@pytest.mark.parametrize(("dw0", "aborted"), [(0, True), (1, False)])
def test_abort_result_bit_says_not_aborted(dw0: int, aborted: bool) -> None:
    assert (admin.AbortResult(dw0).ianp == 0) is aborted
