"""The error number that a program reading and writing through Linux gets for an NVMe status.

What fio's ``ignore_error`` names are such numbers.
"""

from __future__ import annotations

import errno

from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.spec.status import CommandSpecificStatus as Specific
from pynvme_user.spec.status import GenericStatus as Generic
from pynvme_user.spec.status import MediaStatus as Media
from pynvme_user.spec.status import StatusCode, StatusCodeType

Errnos = frozenset[int]

#: Linux's table; of all other statuses it makes EIO.
_STATUSES: dict[int, tuple[StatusCode, ...]] = {
    errno.ENOSPC: (Generic.CAPACITY_EXCEEDED,),
    errno.EREMOTEIO: (
        Generic.LBA_OUT_OF_RANGE,
        Generic.COMMAND_INTERRUPTED,
        Generic.NAMESPACE_NOT_READY,
    ),
    errno.EOPNOTSUPP: (
        Generic.INVALID_OPCODE,
        Generic.INVALID_FIELD,
        Generic.INVALID_NAMESPACE_OR_FORMAT,
        Specific.CONFLICTING_ATTRIBUTES,
    ),
    errno.ENODATA: (
        Media.WRITE_FAULT,
        Media.UNRECOVERED_READ_ERROR,
        Media.COMPARE_FAILURE,
        Media.ACCESS_DENIED,
        Media.DEALLOCATED_OR_UNWRITTEN_BLOCK,
        Specific.WRITE_TO_READ_ONLY_RANGE,
    ),
    errno.EILSEQ: (
        Media.GUARD_CHECK_ERROR,
        Media.APPLICATION_TAG_CHECK_ERROR,
        Media.REFERENCE_TAG_CHECK_ERROR,
        Specific.INVALID_PROTECTION_INFO,
    ),
    errno.EBADE: (Generic.RESERVATION_CONFLICT,),
    errno.EOVERFLOW: (Specific.ZNS_TOO_MANY_ACTIVE_ZONES,),
    errno.ETOOMANYREFS: (Specific.ZNS_TOO_MANY_OPEN_ZONES,),
}
_TYPES: dict[type, StatusCodeType] = {
    Generic: StatusCodeType.GENERIC,
    Specific: StatusCodeType.COMMAND_SPECIFIC,
    Media: StatusCodeType.MEDIA,
}
_ERRNOS = {
    _TYPES[type(code)] << 8 | int(code): number
    for number, codes in _STATUSES.items()
    for code in codes
}


def errno_of(status: int) -> int:
    """Tell the error number for a status other than success (SCT in bits 10:8, SC in 7:0)."""
    return _ERRNOS.get(status, errno.EIO)


def ignored(text: str) -> tuple[Errnos | None, ...]:
    """Read ``EIO,ENOSPC:122``: lists for reads, writes and verification; None where one is empty.

    Raises JobError for what is no error number.
    """
    lists = text.split(",")
    if len(lists) > 3:
        raise JobError(f"{text!r} has more than three lists: one each for read, write, verify")
    found = [frozenset(map(_number, one.split(":"))) if one.strip() else None for one in lists]
    return (*found, *[None] * (3 - len(found)))


def _number(text: str) -> int:
    text = text.strip()
    number = int(text) if text.isdecimal() else getattr(errno, text, None)
    if not isinstance(number, int) or number not in errno.errorcode:
        raise JobError(f"{text!r} is no error of Linux's: write for example EIO or 5")
    return number
