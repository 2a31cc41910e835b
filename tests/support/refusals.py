"""What a test expects of a command that ends with an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from pynvme_user import NvmeStatusError
from pynvme_user.spec.status import StatusCode


@contextlib.contextmanager
def refused(code: StatusCode) -> Iterator[None]:
    """Expect a command in this block to end with that status."""
    with pytest.raises(NvmeStatusError) as error:
        yield
    assert error.value.status.code() is code
