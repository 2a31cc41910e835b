"""nvme-cli's names and shapes, by structure.

They are those of nvme-cli 2.3, Debian bookworm's, and `tests/unit/cli/test_nvme_json.py` holds them
against it. What is otherwise here:

- Numbers of 128 bits are strings in 2.3 and numbers from 2.4 on. Here no number is ever a string.
- 2.3 prints numbers of 32 bits from 2^31 on as negative ones, and the lower half of a zone's size.
- Added as later versions have them: ``lbafs[].in_use``, ``attrs_info`` of a zone (2.3 writes ZAI
  over ZA as ``attrs``), ``ruhs`` of FDP configurations. 2.3 aborts at supported-log-pages and
  has no JSON of id-iocs, boot-part-log and get-feature.
- Added where 2.3 loses something: ``controllers`` of a power-on event, ``additional_info`` of a
  hardware error, ``channels`` of media units, the data of events that it does not know.
- 2.3 leaves out the first UUID of a list, takes reserved bytes for part of ``status_field`` of a
  completed format, and reads the LBA of an FDP event four bytes too far on.
- ``status`` of a sanitize log has its number in 2.3's form and words of our own behind it.
- Fields of later specifications are in text alone, as 2.3 does not know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pynvme_user.cli.nvme_json_events import EVENTS
from pynvme_user.cli.nvme_json_groups import GROUPS
from pynvme_user.cli.nvme_json_identify import IDENTIFY
from pynvme_user.cli.nvme_json_logs import LOGS
from pynvme_user.cli.nvme_json_nvm import NVM
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
    return {**IDENTIFY, **LOGS, **EVENTS, **GROUPS, **NVM}
