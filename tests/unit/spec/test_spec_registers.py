"""The controller's properties against numbers written out from the specification."""

import pytest

from pynvme_user.spec import registers
from pynvme_user.spec.fields import Register
from pynvme_user.spec.registers import CAP, CC, CSTS, REGISTERS, VS

OFFSETS = [
    ("CAP", 0x00, 64),
    ("VS", 0x08, 32),
    ("INTMS", 0x0C, 32),
    ("INTMC", 0x10, 32),
    ("CC", 0x14, 32),
    ("CSTS", 0x1C, 32),
    ("NSSR", 0x20, 32),
    ("AQA", 0x24, 32),
    ("ASQ", 0x28, 64),
    ("ACQ", 0x30, 64),
    ("CMBLOC", 0x38, 32),
    ("CMBSZ", 0x3C, 32),
    ("BPINFO", 0x40, 32),
    ("BPRSEL", 0x44, 32),
    ("BPMBL", 0x48, 64),
    ("CMBMSC", 0x50, 64),
    ("CMBSTS", 0x58, 32),
    ("CMBEBS", 0x5C, 32),
    ("CMBSWTP", 0x60, 32),
    ("NSSD", 0x64, 32),
    ("CRTO", 0x68, 32),
    ("PMRCAP", 0xE00, 32),
    ("PMRCTL", 0xE04, 32),
    ("PMRSTS", 0xE08, 32),
    ("PMREBS", 0xE0C, 32),
    ("PMRSWTP", 0xE10, 32),
    ("PMRMSCL", 0xE14, 32),
    ("PMRMSCU", 0xE18, 32),
]

MASKS = {
    "CAP.mqes": 0xFFFF,
    "CAP.cqr": 1 << 16,
    "CAP.ams": 0x3 << 17,
    "CAP.to": 0xFF << 24,
    "CAP.dstrd": 0xF << 32,
    "CAP.nssrs": 1 << 36,
    "CAP.css": 0xFF << 37,
    "CAP.bps": 1 << 45,
    "CAP.cps": 0x3 << 46,
    "CAP.mpsmin": 0xF << 48,
    "CAP.mpsmax": 0xF << 52,
    "CAP.pmrs": 1 << 56,
    "CAP.cmbs": 1 << 57,
    "CAP.nsss": 1 << 58,
    "CAP.crms": 0x3 << 59,
    "CC.en": 0x1,
    "CC.css": 0x70,
    "CC.mps": 0x780,
    "CC.ams": 0x3800,
    "CC.shn": 0xC000,
    "CC.iosqes": 0xF0000,
    "CC.iocqes": 0xF00000,
    "CC.crime": 0x1000000,
    "CSTS.rdy": 0x1,
    "CSTS.cfs": 0x2,
    "CSTS.shst": 0xC,
    "CSTS.nssro": 0x10,
    "CSTS.pp": 0x20,
    "CSTS.st": 0x40,
    "AQA.asqs": 0xFFF,
    "AQA.acqs": 0xFFF0000,
    "ASQ.asqb": 0xFFFFFFFFFFFFF000,
    "ACQ.acqb": 0xFFFFFFFFFFFFF000,
    "CMBLOC.bir": 0x7,
    "CMBLOC.cqda": 0x100,
    "CMBLOC.ofst": 0xFFFFF000,
    "CMBSZ.szu": 0xF00,
    "CMBSZ.sz": 0xFFFFF000,
    "BPINFO.brs": 0x3000000,
    "BPRSEL.bprof": 0x3FFFFC00,
    "CMBMSC.cba": 0xFFFFFFFFFFFFF000,
    "CRTO.crwmt": 0xFFFF,
    "CRTO.crimt": 0xFFFF0000,
    "PMRCAP.bir": 0xE0,
    "PMRCAP.pmrwbm": 0x3C00,
    "PMRCAP.cmss": 0x1000000,
    "PMRSTS.hsts": 0xE00,
    "PMRSTS.cbai": 0x1000,
    "PMRMSCL.cba": 0xFFFFF000,
}


def test_offsets_and_widths() -> None:
    assert [(r.__name__, r.offset, r.width) for r in REGISTERS] == OFFSETS


def test_registers_are_in_order_and_do_not_overlap() -> None:
    end = 0
    for register in REGISTERS:
        assert register.offset is not None
        assert register.offset >= end
        end = register.offset + register.width // 8


@pytest.mark.parametrize("name", MASKS)
def test_mask(name: str) -> None:
    register_name, field_name = name.split(".")
    register: type[Register] = getattr(registers, register_name)
    assert getattr(register, field_name).mask == MASKS[name]


def test_titles_come_from_the_docstring() -> None:
    assert CAP.title == "Controller Capabilities"
    assert all("(" not in register.title for register in REGISTERS)


def test_version_prints_as_people_write_it() -> None:
    assert str(VS(0x00010400)) == "1.4.0"
    assert f"{VS.build(mjr=2, ter=1)}" == "2.0.1"


def test_enabling_a_controller() -> None:
    cc = CC.build(
        en=1,
        css=registers.CommandSet.NVM,
        iosqes=6,
        iocqes=4,
        shn=registers.ShutdownNotification.NORMAL,
    )
    assert cc == 0x00464001
    assert CSTS(0x9).shst == registers.ShutdownStatus.COMPLETE


def test_magic_values_are_their_ascii() -> None:
    assert registers.NSSR_RESET.to_bytes(4, "big") == b"NVMe"
    assert registers.NSSD_NORMAL.to_bytes(4, "big") == b"Nrml"
    assert registers.NSSD_ABRUPT.to_bytes(4, "big") == b"Abpt"
