"""Typed admin and NVM commands on the device: those that it has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workload import pattern

from pynvme_user import Controller, FeatureId, Namespace, NotSupportedError, NvmeStatusError
from pynvme_user.spec.commands import AdminOpcode, NvmOpcode
from pynvme_user.spec.events import HealthEvent
from pynvme_user.spec.feature_dwords import TemperatureThresholdCdw11
from pynvme_user.spec.features import FeatureSelect
from pynvme_user.spec.logs import CommandEffectsLog, FirmwareSlotLog, LogId, SmartLog
from pynvme_user.spec.status import MediaStatus


def test_log_pages(controller: Controller) -> None:
    assert 200 < controller.smart().ctemp < 400
    assert controller.log(SmartLog).ctemp == controller.smart().ctemp
    assert all(entry.ecnt for entry in controller.errors())
    assert len(bytes(controller.log(FirmwareSlotLog))) == 512
    if controller.identify.lpa.cses:
        effects = controller.log(CommandEffectsLog)
        assert effects.acs[AdminOpcode.IDENTIFY].csupp
        assert effects.iocs[NvmOpcode.READ].csupp
    if controller.identify.lpa.lpeds:
        assert (
            controller.log_page(LogId.SMART, 508, offset=4)
            == (controller.log_page(LogId.SMART, 512, chunk=64)[4:])
        )


def test_features(controller: Controller) -> None:
    fid = FeatureId.TEMPERATURE_THRESHOLD
    before = controller.feature(fid).value
    assert isinstance(before, TemperatureThresholdCdw11)
    controller.set_feature(fid, before.replace(tmpth=before.tmpth ^ 1))
    assert controller.feature(fid).result == before.replace(tmpth=before.tmpth ^ 1)
    controller.set_feature(fid, before)
    assert controller.feature(fid).value == before
    assert controller.feature(fid, select=FeatureSelect.DEFAULT).result >= 0


def test_an_event(controller: Controller) -> None:
    fid = FeatureId.TEMPERATURE_THRESHOLD
    before = controller.feature(fid).result
    with controller.events() as events:
        controller.set_feature(fid, TemperatureThresholdCdw11.build(tmpth=1))
        event = events.wait(2)
        controller.set_feature(fid, before)
        if event is None:
            pytest.skip("this device knows no temperature that changes: no event of it")
        assert event.result.aei == HealthEvent.TEMPERATURE_THRESHOLD
        assert event.log.cw & 2
        events.wait(0)


def has(ns: Namespace, name: str) -> bool:
    return bool(getattr(ns.controller.identify.oncs, name))


def test_verify(controller: Controller, ns: Namespace) -> None:
    if not has(ns, "nvmvfys"):
        pytest.skip("this device has no Verify")
    ns.write(0, pattern(1, 8 * ns.block_size))
    ns.verify(0, 8)


def test_copy(controller: Controller, ns: Namespace) -> None:
    if not has(ns, "nvmcpys"):
        pytest.skip("this device has no Copy")
    if not (ns.identify.mssrl and ns.identify.mcl):
        with pytest.raises(NotSupportedError, match=r"Copy: its MSSRL or MCL is 0"):
            ns.copy(100, [(0, 1)])
        return
    size = ns.block_size
    data = pattern(2, 8 * size).tobytes()
    ns.write(0, data)
    ns.copy(100, [(4, 4), (0, 4)])
    assert ns.read(100, 8) == data[4 * size :] + data[: 4 * size]


def test_compare(controller: Controller, ns: Namespace) -> None:
    data = bytearray(pattern(3, 2 * ns.block_size))
    ns.write(5, data)
    ns.compare(5, data)
    data[-1] ^= 1
    with pytest.raises(NvmeStatusError) as caught:
        ns.compare(5, data)
    assert caught.value.status.code() is MediaStatus.COMPARE_FAILURE


UNSUPPORTED: dict[str, tuple[str, Callable[[Controller], object]]] = {
    "Sanitize": ("sanicap", lambda c: c.sanitize(2)),
    "Device Self Test": ("dsts", lambda c: c.self_test()),
    "Firmware Download": ("fwds", lambda c: c.firmware_download(bytes(4096))),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_it_does_not_have(controller: Controller, name: str) -> None:
    bit, call = UNSUPPORTED[name]
    page = controller.identify
    if page.sanicap if bit == "sanicap" else getattr(page.oacs, bit):
        pytest.skip(f"this device has {name}")
    with pytest.raises(NotSupportedError, match=name):
        call(controller)
