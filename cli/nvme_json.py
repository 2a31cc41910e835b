"""nvme-cli's names and shapes, by structure.

They are those of nvme-cli 2.3, Debian bookworm's. Where it differs from what comes after it, and
where both of them differ from what is here, for all structures alike:

- Numbers of 128 bits are strings in 2.3 and numbers from 2.4 on. Here no number is ever a string.
- 2.3 prints numbers of 32 bits that are 2^31 or more as negative ones. Here they are what they are.
- The keys stand in the page's order. Later versions add keys: ``lbafs[].in_use`` is here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pynvme_user.cli.nvme_json_identify import IDENTIFY
from pynvme_user.cli.nvme_json_logs import LOGS
from pynvme_user.cli.shape import Shape

#: The controller's properties that 2.3 does not know.
PROPERTIES_LEFT_OUT = ("cmbebs", "cmbswtp", "nssd")

_NOTHING = Shape()


def shape_of(kind: type) -> Shape:
    """Give how nvme-cli shows a structure; one that it does not know is shown by its fields."""
    return shapes().get(kind, _NOTHING)


@cache
def shapes() -> Mapping[type, Shape]:
    """Give the shape of every structure that has one."""
    return {**IDENTIFY, **LOGS}
