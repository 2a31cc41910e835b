"""End-to-end data protection (NVM Command Set 1.1, 5.3): guards and tags of many blocks at once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pynvme_user.spec.commands import SQE
from pynvme_user.spec.identify_nvm import GuardFormat
from pynvme_user.spec.nvm import ProtectionCdw15
from pynvme_user.spec.protection import (
    APP_TAG_ESCAPE,
    PRINFO,
    PROTECTION_INFO,
    ProtectionType,
    TagSpace,
)
from pynvme_user.spec.status import CommandSpecificStatus, MediaStatus
from pynvme_user.testing.model.state import Namespace, Refused, require


@dataclass(frozen=True)
class Crc:
    """A cyclic redundancy check of `bits`; `reflected` ones begin and end inverted."""

    bits: int
    polynomial: int
    reflected: bool

    @functools.cached_property
    def table(self) -> Any:
        """What each byte does."""
        mask, found = (1 << self.bits) - 1, []
        for byte in range(256):
            value = byte if self.reflected else byte << (self.bits - 8)
            for _ in range(8):
                if self.reflected:
                    value = value >> 1 ^ self.polynomial * (value & 1)
                else:
                    top = value >> (self.bits - 1)
                    value = (value << 1 ^ self.polynomial * top) & mask
            found.append(value)
        return np.array(found, np.uint64)

    def _after_zero(self, values: Any) -> Any:
        """Return values after one more byte of zero."""
        eight, low = np.uint64(8), np.uint64(0xFF)
        if self.reflected:
            return self.table[values & low] ^ (values >> eight)
        mask, top = np.uint64((1 << self.bits) - 1), np.uint64(self.bits - 8)
        return self.table[values >> top & low] ^ (values << eight & mask)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - there are three of these objects, for ever
    def _positions(self, length: int) -> tuple[Any, int]:
        """Return what each byte does at each place of so many, and what is there without any.

        All of it is linear: a row's value is the exclusive or of what its bytes do.
        """
        places = np.empty((length, 256), np.uint64)
        values, begin = self.table, np.array([(1 << self.bits) - 1 if self.reflected else 0])
        begin = begin.astype(np.uint64)
        for place in range(length - 1, -1, -1):
            places[place] = values
            values, begin = self._after_zero(values), self._after_zero(begin)
        return places, int(begin[0])

    def of(self, rows: Any) -> list[int]:
        """Return that of each row of an array of bytes."""
        length = rows.shape[1]
        places, begin = self._positions(length)
        crc = np.bitwise_xor.reduce(places[np.arange(length), rows], axis=1)
        last = begin ^ ((1 << self.bits) - 1) * self.reflected
        return [int(value) ^ last for value in crc]


#: By format: T10 DIF's, Castagnoli's, NVMe's.
CRCS: dict[GuardFormat, Crc] = {
    GuardFormat.GUARD_16B: Crc(16, 0x8BB7, False),
    GuardFormat.GUARD_32B: Crc(32, 0x82F63B78, True),
    GuardFormat.GUARD_64B: Crc(64, 0x9A6C9329AC4BC9B5, True),
}


@dataclass(frozen=True)
class Tags:
    """What a command says of tags."""

    app: int
    mask: int
    storage: int
    reference: int

    @classmethod
    def of(cls, ns: Namespace, sqe: SQE) -> Tags:
        """Read them from dwords 2, 3, 14 and 15."""
        cdw15 = ProtectionCdw15(sqe.cdw15)
        return cls.join(
            ns, (sqe.cdw2 & 0xFFFF) << 64 | sqe.cdw3 << 32 | sqe.cdw14, cdw15.lbat, cdw15.lbatm
        )

    @classmethod
    def join(cls, ns: Namespace, tags: int, app: int, mask: int) -> Tags:
        """Make them of the field that storage and reference tag share."""
        space = space_of(ns)
        storage, reference = space.split(tags & (1 << space.bits) - 1)
        return cls(app, mask, storage, reference)


def space_of(ns: Namespace) -> TagSpace:
    """Return how a namespace divides storage and reference tags."""
    return TagSpace.of(ns.format.elbaf)


def size_of(ns: Namespace) -> int:
    """Bytes of a block's protection information; 0 without."""
    return PROTECTION_INFO[GuardFormat(ns.format.guard)].size if ns.dps.pit else 0


def _divide(ns: Namespace, metadata: Any) -> tuple[Any, Any]:
    """Divide metadata, a row a block, in what the guard is of as well, and the information."""
    size = size_of(ns)
    if ns.dps.pip:
        return metadata[:, :0], metadata[:, :size]
    return metadata[:, :-size], metadata[:, -size:]


def _guards(ns: Namespace, data: Any, metadata: Any) -> list[int]:
    covered = np.hstack([data, _divide(ns, metadata)[0]])
    return CRCS[GuardFormat(ns.format.guard)].of(covered)


def _next_reference(ns: Namespace, reference: int, index: int) -> int:
    if ns.dps.pit == ProtectionType.TYPE3:
        return reference
    return (reference + index) & (1 << space_of(ns).reference_bits) - 1


def at(ns: Namespace, tags: Tags, index: int) -> Tags:
    """Return the tags of a later block."""
    return replace(tags, reference=_next_reference(ns, tags.reference, index))


def generate(ns: Namespace, data: Any, metadata: Any, tags: Tags) -> None:
    """Put protection information in the metadata of blocks (PRACT)."""
    kind, space = PROTECTION_INFO[GuardFormat(ns.format.guard)], space_of(ns)
    information = _divide(ns, metadata)[1]
    for index, guard in enumerate(_guards(ns, data, metadata)):
        reference = _next_reference(ns, tags.reference, index)
        made = kind.build(guard=guard, apptag=tags.app, tags=space.join(tags.storage, reference))
        information[index] = np.frombuffer(bytes(made), np.uint8)


def remap(ns: Namespace, metadata: Any, ahead: int) -> None:
    """Add to the reference tags of blocks how far behind their zone's first one they lie."""
    if not ahead:
        return
    kind, space = PROTECTION_INFO[GuardFormat(ns.format.guard)], space_of(ns)
    for row in _divide(ns, metadata)[1]:
        found = kind.from_bytes(row.tobytes())
        stored, reference = space.split(found.tags)
        tags = space.join(stored, _next_reference(ns, reference, ahead))
        row[:] = np.frombuffer(bytes(found.replace(tags=tags)), np.uint8)


def check_command(ns: Namespace, prinfo: PRINFO, lba: int, tags: Tags) -> None:
    """End a command of type 1 whose reference tag is not that of its LBA."""
    if ns.dps.pit == ProtectionType.TYPE1 and (prinfo.rtchk or prinfo.pract):
        mask = (1 << space_of(ns).reference_bits) - 1
        require(tags.reference == lba & mask, CommandSpecificStatus.INVALID_PROTECTION_INFO)


def check(
    ns: Namespace, data: Any, metadata: Any, prinfo: PRINFO, tags: Tags, *, storage: bool
) -> None:
    """End a command whose blocks have other guards or tags than they should."""
    if not (prinfo.grdchk or prinfo.atchk or prinfo.rtchk or storage):
        return
    kind, space = PROTECTION_INFO[GuardFormat(ns.format.guard)], space_of(ns)
    information = _divide(ns, metadata)[1]
    guards = _guards(ns, data, metadata) if prinfo.grdchk else [0] * len(data)
    every = (1 << space.reference_bits) - 1
    for index, guard in enumerate(guards):
        found = kind.from_bytes(information[index].tobytes())
        stored, reference = space.split(found.tags)
        if found.apptag == APP_TAG_ESCAPE and (
            ns.dps.pit != ProtectionType.TYPE3 or reference == every
        ):
            continue
        if prinfo.grdchk and found.guard != guard:
            raise Refused(MediaStatus.GUARD_CHECK_ERROR)
        if prinfo.atchk and (found.apptag ^ tags.app) & tags.mask:
            raise Refused(MediaStatus.APPLICATION_TAG_CHECK_ERROR)
        if prinfo.rtchk and reference != _next_reference(ns, tags.reference, index):
            raise Refused(MediaStatus.REFERENCE_TAG_CHECK_ERROR)
        if storage and stored != tags.storage:
            raise Refused(MediaStatus.STORAGE_TAG_CHECK_ERROR)
