"""The Persistent Memory Region: enabled, written, made persistent, data of commands, its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user import (
    ClosedError,
    Controller,
    ControllerWarning,
    DeviceAccessError,
    DeviceBusyError,
    DeviceNameError,
    DmaError,
    NotSupportedError,
    NvmeError,
    NvmeTimeoutError,
)
from pynvme_user.access.base import DmaRegion, RegionIndex
from pynvme_user.spec.registers import PMRCAP, PMREBS, PMRMSCL, PMRSTS, PMRSWTP, PmrHealth
from pynvme_user.testing import SoftDevice
from pynvme_user.transport import persistent_memory

MIB = 1 << 20


@pytest.fixture
def device() -> SoftDevice:
    return SoftDevice("?size=16M&pmr=4M&cmb=1M")


@pytest.fixture
def ctrl(device: SoftDevice) -> Iterator[Controller]:
    with nvme.open(device) as ctrl:
        yield ctrl


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistent_memory, "_FLOOR_SECONDS", 0.0)


def cap(**fields: int) -> str:
    return hex(int(PMRCAP.build(**{"rds": 1, "wds": 1, "cmss": 1, "pmrwbm": 2} | fields)))


# --- its life -------------------------------------------------------------------------------------


def test_it_is_enabled_while_it_is_open(ctrl: Controller) -> None:
    assert ctrl.registers.pmrsts.nrdy
    with ctrl.pmr() as pmr:
        assert pmr.nbytes == len(pmr.array) == 4 * MIB
        assert (ctrl.registers.pmrctl.en, ctrl.registers.pmrsts.nrdy) == (1, 0)
        assert pmr.pmrcap == ctrl.registers.pmrcap
        assert pmr.health == PmrHealth.NORMAL
        assert (pmr.elasticity_buffer, pmr.sustained_write_throughput) == (0, 0)
        with pytest.raises(NvmeError, match="is open: close it first"):
            ctrl.pmr()
        pmr.array[10:13] = 7, 8, 9
        pmr.flush()
    pmr.close()
    assert (ctrl.registers.pmrctl.en, ctrl.registers.pmrsts.nrdy) == (0, 1)
    assert int(ctrl.registers.pmrmscl) == int(ctrl.registers.pmrmscu) == 0
    assert not pmr.array.any()  # of nobody's
    for use in (pmr.flush, pmr.__enter__):
        with pytest.raises(ClosedError, match=r"call Controller.pmr\(\) again"):
            use()
    with ctrl.pmr() as pmr:
        assert list(pmr.array[9:14]) == [0, 7, 8, 9, 0]


def test_it_is_there_after_a_reset(ctrl: Controller) -> None:
    with ctrl.pmr() as pmr:
        pmr.array[:512] = 3
        for reset in (ctrl.reset, ctrl.transport.reset):
            reset()
            if reset != ctrl.reset:  # which forgets all
                assert not ctrl.registers.pmrctl.en
                ctrl.reset()
            assert (ctrl.registers.pmrctl.en, ctrl.registers.pmrsts.nrdy) == (1, 0)
            pmr.flush()
            ctrl.namespaces[1].write_from(0, pmr.array[:512])
        assert ctrl.namespaces[1].read(0, 1) == bytes([3]) * 512


def test_the_controller_s_end_disables_it(device: SoftDevice) -> None:
    with nvme.open(device) as ctrl:
        pmr = ctrl.pmr()
    assert not pmr.array.any()
    pmr.close()
    with pytest.raises(ClosedError):
        ctrl.pmr()


def test_bytes_that_last(tmp_path: Path) -> None:
    file = tmp_path / "pmr"
    name = f"soft:?size=1M&pmrdev={file}"
    with nvme.open(f"{name}&pmr=1M") as ctrl, ctrl.pmr() as pmr:
        pmr.array[-4:] = 1, 2, 3, 4
        pmr.flush()
        assert file.read_bytes()[-4:] == b"\1\2\3\4"
        with pytest.raises(DeviceBusyError):
            nvme.open(name)
    with nvme.open(name) as ctrl, ctrl.pmr() as pmr:
        assert list(pmr.array[-4:]) == [1, 2, 3, 4]
    with pytest.raises(DeviceAccessError, match="has 1048576 bytes, not the 2097152 asked for"):
        nvme.open(f"{name}&pmr=2M")
    file.write_bytes(bytes(1000))
    with pytest.raises(DeviceNameError, match="whole pages of 4096 bytes, not 1000"):
        nvme.open(name)


def test_none_is_there() -> None:
    refused = pytest.raises(NotSupportedError, match=r"\(CAP.PMRS is 0\): use a namespace")
    with nvme.open("soft:?size=1M") as ctrl, refused:
        ctrl.pmr()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("soft:?pmr=1000", "4K to 1G, whole pages"),
        ("soft:?pmrdev=", "the file that keeps"),
        ("soft:?pmr=1M&pmrcap=much", "what the register PMRCAP says"),
        ("soft:?pmrcap=0", "goes with pmr or pmrdev: add one"),
    ],
)
def test_a_name_that_is_none(name: str, text: str) -> None:
    with pytest.raises(DeviceNameError, match=text):
        nvme.open(name)


# --- data of commands -----------------------------------------------------------------------------


def test_data_of_commands(ctrl: Controller, rng: np.random.Generator) -> None:
    ns = ctrl.namespaces[1]
    data = rng.integers(0, 256, MIB, np.uint8)
    with ctrl.pmr() as pmr:
        pmr.array[:MIB] = data
        ns.write_from(0, pmr.array[:MIB])
        assert ns.read(0, MIB // 512) == data.tobytes()
        ns.read_into(8, pmr.array[MIB : 2 * MIB - 4096])
        assert np.array_equal(pmr.array[MIB : 2 * MIB - 4096], data[4096:])
        part = pmr.array[2 * MIB :][:4096]
        for _ in range(3):
            ns.read_into(16, part)
        with ctrl.queue_pair(4) as qp:
            qp.read_many(ns, 8 * np.arange(4), 8, pmr.array[3 * MIB :]).check()
        assert np.array_equal(pmr.array[3 * MIB :][: 4 * 4096], data[: 4 * 4096])
    # Once it is closed the device does not reach it: what is there is copied.
    part[:] = 5
    ns.write_from(0, part)
    assert ns.read(0, 8) == bytes([5]) * 4096
    refused = pytest.raises(ValueError, match="does not reach this buffer")
    with ctrl.queue_pair(4) as qp, refused:
        qp.submit_read(ns, 0, 8, part)


@pytest.mark.parametrize(
    ("fields", "reads"),
    [({"rds": 0}, True), ({"wds": 0}, False), ({"cmss": 0}, True), ({"cmss": 0}, False)],
)
def test_data_that_is_refused(fields: dict[str, int], reads: bool) -> None:
    with nvme.open(f"soft:?size=1M&pmr=1M&pmrcap={cap(**fields)}") as ctrl, ctrl.pmr() as pmr:
        ns = ctrl.namespaces[1]
        with pytest.raises(DmaError, match=r"the controller has no commands .* the Persistent Mem"):
            (ns.read_into if reads else ns.write_from)(0, pmr.array[:512])
        assert bool(ctrl.registers.pmrmscl.cmse) == ("cmss" not in fields)


# --- what makes bytes persistent ------------------------------------------------------------------


class Registers:
    """Those of a device, of which a test changes some, and sees which were read."""

    def __init__(self, device: SoftDevice) -> None:
        self._inner = device.registers
        self.size = device.registers.size
        self.said: dict[int | None, int] = {}
        self.was_read: list[int] = []
        device.registers = self

    def read(self, offset: int, width: int) -> int:
        self.was_read.append(offset)
        return self.said.get(offset, self._inner.read(offset, width))

    def write(self, offset: int, width: int, value: int) -> None:
        self._inner.write(offset, width, value)


@pytest.mark.parametrize("pmrwbm", [1, 2, 3])
def test_the_barrier(pmrwbm: int, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SoftDevice(f"?size=1M&pmr=1M&pmrcap={cap(pmrwbm=pmrwbm)}")
    registers = Registers(device)
    with nvme.open(device) as ctrl, ctrl.pmr() as pmr:
        loads: list[int] = []
        load = pmr._load
        monkeypatch.setattr(pmr, "_load", lambda: loads.append(1) or load())
        registers.was_read.clear()
        pmr.flush()
        assert registers.was_read == [PMRSTS.offset]
        assert bool(loads) == (pmrwbm == 1)


def test_what_registers_say_of_its_speed(device: SoftDevice) -> None:
    registers = Registers(device)
    registers.said = {
        PMREBS.offset: int(PMREBS.build(pmrszu=2, pmrwbz=3)),
        PMRSWTP.offset: int(PMRSWTP.build(pmrswtu=1, pmrswtv=5)),
    }
    with nvme.open(device) as ctrl, ctrl.pmr() as pmr:
        assert pmr.elasticity_buffer == 3 * MIB
        assert pmr.sustained_write_throughput == 5 << 10


# --- what goes wrong ------------------------------------------------------------------------------


def test_an_error_that_it_reports(ctrl: Controller, device: SoftDevice) -> None:
    device.set_pmr_status(err=0x12)
    with pytest.raises(NvmeError, match=r"reports the error 0x12 \(PMRSTS.ERR\)"):
        ctrl.pmr()
    device.set_pmr_status()
    with ctrl.pmr() as pmr:
        device.set_pmr_status(err=0x13)
        with pytest.raises(NvmeError, match="reports the error 0x13"):
            pmr.flush()


def test_it_does_not_become_ready(ctrl: Controller, device: SoftDevice, impatient: None) -> None:
    device.set_pmr_status(never_ready=True)
    with pytest.raises(NvmeTimeoutError, match="did not become ready within 1 s"):
        ctrl.pmr()
    assert not ctrl.registers.pmrctl.en
    device.set_pmr_status()
    ctrl.pmr().close()


def test_it_is_not_ready_after_a_reset(
    ctrl: Controller, device: SoftDevice, impatient: None
) -> None:
    """Which costs the region alone."""
    pmr = ctrl.pmr()
    device.set_pmr_status(never_ready=True)
    ctrl.reset()
    ctrl.namespaces[1].read(0, 1)
    with pytest.raises(NvmeError, match=r"did not become ready .* \(after a reset\)"):
        pmr.flush()
    pmr.close()


def test_it_does_not_become_disabled(device: SoftDevice, impatient: None) -> None:
    registers = Registers(device)
    with nvme.open(device) as ctrl:
        pmr = ctrl.pmr()
        registers.said = {PMRSTS.offset: 0}
        with pytest.raises(NvmeTimeoutError, match="did not become disabled within 1 s"):
            pmr.close()
        pmr.close()


@pytest.mark.parametrize(
    ("health", "text"),
    [(1, "restore error"), (2, "read only"), (3, "unreliable"), (6, "6")],
)
def test_contents_that_are_not_well(
    ctrl: Controller, device: SoftDevice, health: int, text: str
) -> None:
    device.set_pmr_status(health=health)
    with pytest.warns(ControllerWarning, match=f"says {text} of its contents"):
        pmr = ctrl.pmr()
    with pmr:
        assert pmr.health == health
        assert pmr.array.flags.writeable == (health != PmrHealth.READ_ONLY)


def test_an_address_that_the_controller_does_not_take() -> None:
    class Device(SoftDevice):
        def map_bar(self, index: RegionIndex, offset: int, length: int) -> DmaRegion:
            region = super().map_bar(index, offset, length)
            other = self.allocate_dma(4096)
            return DmaRegion(region.address, region.length, other.iova, region.owner)

    with nvme.open(Device("?size=1M&pmr=1M")) as ctrl:
        with pytest.raises(NvmeError, match=r"does not take 0x.* \(PMRSTS.CBAI\)"):
            ctrl.pmr()
        assert not ctrl.registers.pmrctl.en


def test_what_the_last_user_left_is_forgotten(device: SoftDevice) -> None:
    device.registers.write(PMRMSCL.offset or 0, 4, 0x7000_0002)
    with nvme.open(device) as ctrl:
        assert int(ctrl.registers.pmrmscl) == 0
