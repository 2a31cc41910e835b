"""What the kernel tells of this machine, and where it tells less."""

import os
import platform
from pathlib import Path

import pytest

from pynvme_user.host import machine


def test_this_machine() -> None:
    memory = machine.memory_info()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert total // 64 < memory["MemTotal"] <= total  # a container may be told of less
    assert 0 < memory["MemAvailable"] <= memory["MemTotal"]
    assert "processor" in machine.cpu_info()
    assert machine.cpu_model()


def test_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, memory, governor = tmp_path / "cpu", tmp_path / "memory", tmp_path / "governor"
    cpu.write_text(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: A: B\n\nprocessor\t: 1\n"
    )
    memory.write_text(
        "Node 0 MemFree:     12 kB\nNode 0 HugePages_Free:    3\nActive(anon): 5 kB\n"
    )
    monkeypatch.setattr(machine, "_CPU", cpu)
    monkeypatch.setattr(machine, "_GOVERNOR", governor)
    assert machine.cpu_info() == {
        "processor": "0",
        "vendor_id": "AuthenticAMD",
        "model name": "A: B",
    }
    assert machine.cpu_model() == "A: B"
    assert machine.memory_info(memory) == {"MemFree": 12 << 10, "HugePages_Free": 3}
    assert machine.governor() is None
    governor.write_text("performance\n")
    assert machine.governor() == "performance"
    cpu.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")  # as on ARM
    assert machine.cpu_model() == platform.machine()


def test_how_an_iommu_is_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pynvme_user.host.sysfs import iommu_off_message

    cpu = tmp_path / "cpu"
    monkeypatch.setattr(machine, "_CPU", cpu)
    for vendor, parameter in (("AuthenticAMD", "amd_iommu=on"), ("GenuineIntel", "intel_iommu=on")):
        cpu.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
        assert f"kernel parameter {parameter} " in iommu_off_message("0000:01:00.0")
