"""The errors that a job goes on after, by Linux's numbers."""

from __future__ import annotations

import errno

import pytest

from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.jobs.errnos import errno_of, ignored
from pynvme_user.bench.jobs.terms import JobError


@pytest.mark.parametrize(
    ("status", "number"),
    [
        (0x081, errno.ENOSPC),  # Capacity Exceeded
        (0x080, errno.EREMOTEIO),  # LBA Out of Range
        (0x181, errno.EILSEQ),  # Invalid Protection Information: the same code of another type
        (0x281, errno.ENODATA),  # Unrecovered Read Error
        (0x282, errno.EILSEQ),  # Guard Check Error
        (0x1BE, errno.ETOOMANYREFS),  # Too Many Open Zones
        (0x006, errno.EIO),  # Internal Error
        (0x781, errno.EIO),  # vendor specific
    ],
)
def test_what_linux_makes_of_a_status(status: int, number: int) -> None:
    assert errno_of(status) == number


def test_lists() -> None:
    assert ignored("EIO") == ({errno.EIO}, None, None)
    assert ignored(",ENOSPC") == (None, {errno.ENOSPC}, None)
    assert ignored("EAGAIN,ENOSPC:122,EILSEQ") == (
        {errno.EAGAIN},
        {errno.ENOSPC, errno.EDQUOT},
        {errno.EILSEQ},
    )
    for text, problem in (
        ("EWHAT", "'EWHAT' is no error of Linux's"),
        ("0", "'0' is no error"),
        ("EIO:", "'' is no error"),
        ("E2BIG,,,EIO", "more than three lists"),
        ("__doc__", "is no error"),
    ):
        with pytest.raises(JobError, match=problem):
            JobBuilder([("ignore_error", text)])
