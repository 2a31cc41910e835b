"""The SMART log, held against the specification's offsets."""

from __future__ import annotations

import struct

from pynvme_user.spec.logs import CriticalWarning, SmartLog

# NVMe Base 2.0, figure 207: offset and length in bytes.
OFFSETS = {
    "cw": (0, 1),
    "ctemp": (1, 2),
    "avsp": (3, 1),
    "avspt": (4, 1),
    "pused": (5, 1),
    "egcws": (6, 1),
    **{
        name: (32 + 16 * n, 16)
        for n, name in enumerate(
            ("dur", "duw", "hrc", "hwc", "cbt", "pwrc", "poh", "upl", "mdie", "neile")
        )
    },
    "wctt": (192, 4),
    "cctt": (196, 4),
    "tmt1tc": (216, 4),
    "tmt2tc": (220, 4),
    "tttmt1": (224, 4),
    "tttmt2": (228, 4),
}


def test_each_field_lies_where_the_specification_has_it() -> None:
    for number, (name, (offset, length)) in enumerate(OFFSETS.items(), 1):
        page = bytearray(512)
        page[offset : offset + length] = number.to_bytes(length, "little")
        log = SmartLog.from_bytes(bytes(page))
        assert {field: int(getattr(log, field)) for field in OFFSETS} == {
            field: number if field == name else 0 for field in OFFSETS
        }
    page = bytearray(512)
    struct.pack_into("<8H", page, 200, *range(300, 308))
    assert SmartLog.from_bytes(bytes(page)).tsen == tuple(range(300, 308))
    assert SmartLog.size == 512


def test_the_bits_of_a_critical_warning() -> None:
    names = ("spare", "temperature", "reliability", "read_only", "backup", "pmr")
    for bit, name in enumerate(names):
        warning = CriticalWarning(1 << bit)
        assert [getattr(warning, other) for other in names] == [other == name for other in names]
