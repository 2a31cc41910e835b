"""Features: what can be asked of a controller's ways, and set (NVMe Base 2.0, 5.15 and 5.27)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pynvme_user.dma import BytesLike
from pynvme_user.driver.pages import Pages
from pynvme_user.spec.commands import AdminOpcode
from pynvme_user.spec.features import (
    FEATURES,
    Feature,
    FeatureId,
    FeatureSelect,
    GetFeaturesCdw10,
    SetFeaturesCdw10,
)
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.lists import StructList


@dataclass(frozen=True)
class FeatureValue:
    """What Get Features returned."""

    fid: int
    #: Dword 11 of the command, which says of what.
    cdw11: int
    #: Dword 0 of the completion.
    result: int
    #: The feature's data, empty where it has none.
    raw: bytes

    @property
    def value(self) -> Register | int:
        """Dword 0, as the register that the specification makes of it, if it does."""
        feature = known_feature(self.fid)
        kind = None if feature is None else feature.result
        return self.result if kind is None else kind(self.result)

    @property
    def data(self) -> Struct | StructList[Any, Any] | bytes | None:
        """The data, decoded where the specification has a layout; None where there is none."""
        if not self.raw:
            return None
        feature = known_feature(self.fid)
        kind = None if feature is None else feature.data_of(self.cdw11)
        if feature is None or kind is None:
            return self.raw
        return kind.from_bytes(feature.data_in(self.raw, self.cdw11, self.result))


def known_feature(fid: int) -> Feature | None:
    """Return what the specification says of a feature; None for one that it does not have."""
    return FEATURES.get(FeatureId(fid)) if fid in list(FeatureId) else None


class Features(Pages):
    """Get Features and Set Features."""

    def feature(
        self,
        fid: int,
        *,
        select: int = FeatureSelect.CURRENT,
        nsid: int = 0,
        cdw11: int = 0,
        uuid_index: int = 0,
        length: int | None = None,
    ) -> FeatureValue:
        """Return a feature's current, default or saved value, or what can be done with it.

        ``cdw11`` says of what, where a feature has several values: the sensor of a temperature
        threshold, an interrupt vector. ``length`` is the bytes of data that are asked for; the
        default is what the specification says of the feature. Raises as :meth:`admin`.
        """
        if length is None:
            known = None if select == FeatureSelect.SUPPORTED else known_feature(fid)
            length = 0 if known is None else known.length_of(cdw11)
        buffer = self._device.alloc(length) if length else None
        done = self.admin(
            AdminOpcode.GET_FEATURES,
            nsid=nsid,
            buffer=buffer,
            cdw10=GetFeaturesCdw10.build(fid=fid, sel=select),
            cdw11=cdw11,
            cdw14=uuid_index,
        )
        return FeatureValue(fid, cdw11, done.result, b"" if buffer is None else buffer.tobytes())

    def set_feature(
        self,
        fid: int,
        value: int = 0,
        *,
        data: BytesLike | Struct | StructList[Any, Any] | None = None,
        save: bool = False,
        nsid: int = 0,
        cdw12: int = 0,
        cdw13: int = 0,
        cdw15: int = 0,
        uuid_index: int = 0,
    ) -> int:
        """Set a feature; return dword 0 of the completion.

        ``value`` is dword 11: a number, or a register of :mod:`pynvme_user.spec.features`. With
        ``save`` it outlasts power cycles and resets, where the controller can save it. What would
        take the queues away under this driver is its own: Number of Queues raises ValueError.
        Raises as :meth:`admin`.
        """
        if fid == FeatureId.NUMBER_OF_QUEUES:
            raise ValueError("this driver sets the number of queues, when a device is opened")
        if isinstance(data, Struct | StructList):
            data = bytearray(bytes(data))
        done = self.admin(
            AdminOpcode.SET_FEATURES,
            nsid=nsid,
            buffer=data,
            cdw10=SetFeaturesCdw10.build(fid=fid, sv=save),
            cdw11=value,
            cdw12=cdw12,
            cdw13=cdw13,
            cdw14=uuid_index,
            cdw15=cdw15,
        )
        return done.result
