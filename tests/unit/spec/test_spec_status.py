"""Success is type 0 and code 0, both whole: the bug that every hand-written mask has had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.spec.status import (
    CommandSpecificStatus,
    FabricsStatus,
    GenericStatus,
    MediaStatus,
    PathStatus,
    Status,
    StatusCode,
    StatusCodeType,
)

TABLES: list[tuple[int, type[StatusCode]]] = [
    (0, GenericStatus),
    (1, CommandSpecificStatus),
    (2, MediaStatus),
    (3, PathStatus),
]


def test_bits() -> None:
    fields = (Status.sc, Status.sct, Status.crd, Status.m, Status.dnr)
    assert [field.mask for field in fields] == [0xFF, 0x700, 0x1800, 0x2000, 0x4000]


@pytest.mark.parametrize("bit", range(11))
def test_every_bit_of_code_and_type_is_an_error(bit: int) -> None:
    assert not Status(1 << bit).ok


@pytest.mark.parametrize("bit", range(11, 15))
def test_no_other_bit_is_an_error(bit: int) -> None:
    assert Status(1 << bit).ok


def test_success() -> None:
    assert Status(0).ok
    assert (Status(0).name, Status(0).text) == ("SUCCESS", "Successful Completion")


def test_lba_out_of_range_is_not_success() -> None:
    status = Status(0x80)
    assert not status.ok
    assert (status.name, status.text) == ("LBA_OUT_OF_RANGE", "LBA Out of Range")
    assert str(status) == "LBA Out of Range (SCT 0x0, SC 0x80)"


def test_code_0_of_type_1_is_not_success() -> None:
    status = Status.build(sct=1, sc=0)
    assert not status.ok
    assert status.name == "COMPLETION_QUEUE_INVALID"


@given(st.integers(0, 0xFFFFFFFF))
def test_status_of_dword_3(dw3: int) -> None:
    status = Status.from_dw3(dw3)
    assert status.sc == dw3 >> 17 & 0xFF
    assert status.sct == dw3 >> 25 & 0x7
    assert status.crd == dw3 >> 28 & 0x3
    assert status.m == dw3 >> 30 & 1
    assert status.dnr == dw3 >> 31
    assert status == Status.from_dw3(dw3 ^ 0x10000), "the phase tag changed the status"
    assert status.ok == (dw3 & 0x0FFE0000 == 0)
    assert status.name
    assert status.text


@pytest.mark.parametrize(("sct", "table"), TABLES)
def test_every_code_is_found_by_its_type_and_number(sct: int, table: type[StatusCode]) -> None:
    for code in table:
        status = Status.build(sct=sct, sc=code, dnr=1)
        assert status.code() is code
        assert (status.name, status.text) == (code.name, code.text)
        assert Status.of(code, dnr=1) == status


@pytest.mark.parametrize("table", [table for _, table in TABLES] + [FabricsStatus])
def test_no_number_is_given_twice(table: type[StatusCode]) -> None:
    # A second name for a number would be an alias, which iteration leaves out.
    assert len(table) == len(table.__members__)


@pytest.mark.parametrize(
    ("sct", "sc", "name"),
    [
        (0, 0x01, "INVALID_OPCODE"),
        (0, 0x02, "INVALID_FIELD"),
        (0, 0x0B, "INVALID_NAMESPACE_OR_FORMAT"),
        (0, 0x81, "CAPACITY_EXCEEDED"),
        (0, 0x82, "NAMESPACE_NOT_READY"),
        (1, 0x01, "INVALID_QUEUE_IDENTIFIER"),
        (1, 0x02, "INVALID_QUEUE_SIZE"),
        (1, 0x05, "ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED"),
        (1, 0x81, "INVALID_PROTECTION_INFO"),
        (1, 0xB8, "ZNS_BOUNDARY_ERROR"),
        (2, 0x80, "WRITE_FAULT"),
        (2, 0x81, "UNRECOVERED_READ_ERROR"),
        (2, 0x85, "COMPARE_FAILURE"),
        (2, 0x87, "DEALLOCATED_OR_UNWRITTEN_BLOCK"),
        (3, 0x02, "ANA_INACCESSIBLE"),
        (3, 0x71, "ABORTED_BY_HOST"),
        (1, 0x7E, "SCT_1_SC_0x7e"),
        (5, 0x01, "SCT_5_SC_0x01"),
        (7, 0x01, "VENDOR_SPECIFIC_SC_0x01"),
        (0, 0xC0, "VENDOR_SPECIFIC_SC_0xc0"),
    ],
)
def test_names(sct: int, sc: int, name: str) -> None:
    assert Status.build(sct=sct, sc=sc).name == name


def test_vendor_specific_text() -> None:
    assert Status.build(sct=7, sc=1).text == "Vendor Specific, code 0x01"
    assert Status.build(sct=0, sc=0xBF).text == "Reserved, type 0, code 0xbf"
    assert Status.build(sct=2, sc=0xC0).is_vendor_specific
    assert not Status.build(sct=2, sc=0xBF).is_vendor_specific


def test_fabrics_codes_are_read_on_request() -> None:
    status = Status.of(FabricsStatus.CONNECT_INVALID_HOST)
    assert (status.sct, status.sc) == (StatusCodeType.COMMAND_SPECIFIC, 0x84)
    assert status.code(fabrics=True) is FabricsStatus.CONNECT_INVALID_HOST
    shared = Status.build(sct=1, sc=0x81)
    assert shared.code() is CommandSpecificStatus.INVALID_PROTECTION_INFO
    assert shared.code(fabrics=True) is FabricsStatus.CONNECT_CONTROLLER_BUSY
    media = Status.build(sct=2, sc=0x81)
    assert media.code(fabrics=True) is MediaStatus.UNRECOVERED_READ_ERROR
