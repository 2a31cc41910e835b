"""Regions that are files, in a child that was forked in the middle of an access."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pynvme_user import ForkedError, owned
from pynvme_user.access import regions


def test_a_fork_before_the_kernel_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler may fork, and open a file that gets the number of the region's."""
    device, other = tmp_path / "device", tmp_path / "other"
    device.write_bytes(bytes(64))
    other.write_bytes(b"x" * 64)
    fd = owned.descriptor(os.open, device, os.O_RDWR)
    region = regions.FileRegion("device", fd, 0, 64)
    check_access, children = regions.check_access, []

    def fork(*arguments: object) -> None:
        check_access(*arguments)  # type: ignore[arg-type]
        children.append(os.fork())
        if not children[-1]:
            os.dup2(os.open(other, os.O_RDWR), fd)

    monkeypatch.setattr(regions, "check_access", fork)
    for access in (lambda: region.read(0, 4), lambda: region.write(0, 4, 1)):
        try:
            access()
        except ForkedError:
            os._exit(0)
        except BaseException:
            os._exit(1)
        if not children[-1]:
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(children[-1], 0)[1]) == 0
    assert device.read_bytes()[:4] == b"\1\0\0\0"
    assert other.read_bytes() == b"x" * 64
    owned.close(fd)
