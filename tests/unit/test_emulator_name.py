"""What a qemu: device name asks for."""

from __future__ import annotations

import pytest

from pynvme_user.access import open_access
from pynvme_user.errors import DeviceNameError
from pynvme_user.qemu.emulator import DEFAULT_RAM, Disk, Machine, parse_machine


def test_nothing_is_a_temporary_disk() -> None:
    assert parse_machine("") == Machine({1: Disk()}, DEFAULT_RAM, {})


def test_an_image() -> None:
    assert parse_machine("a dir/disk.img?size=1G") == Machine(
        {1: Disk("a dir/disk.img", size=1 << 30)}
    )


def test_options_go_where_they_belong() -> None:
    """To the machine, to the controller, to the namespace, to its disk, to the disk's driver."""
    machine = parse_machine(
        "x.qcow2?format=qcow2&memory=512M&mdts=5&max_ioqpairs=3&logical_block_size=4096"
        "&zoned.zone_size=64M&zoned=on&zoned.zasl=3&driver=file&driver.aio=io_uring&driver.a.b=c=d"
    )
    assert machine == Machine(
        {
            1: Disk(
                "x.qcow2",
                format="qcow2",
                driver="file",
                options={"aio": "io_uring", "a.b": "c=d"},
                properties={
                    "logical_block_size": "4096",
                    "zoned": "on",
                    "zoned.zone_size": "64M",
                },
            )
        },
        512 << 20,
        {"mdts": "5", "max_ioqpairs": "3", "zoned.zasl": "3"},
    )


def test_more_namespaces() -> None:
    machine = parse_machine(
        "?ns2=b.img&ns2.size=1M&ns7.driver=null-co&ns7.driver.latency-ns=5&ns3="
    )
    assert machine.disks == {
        1: Disk(),
        2: Disk("b.img", size=1 << 20),
        7: Disk(driver="null-co", options={"latency-ns": "5"}),
        3: Disk(),
    }


def test_escapes_and_order() -> None:
    assert parse_machine("a?serial=a%26b%20c&size=1k&size=2k").disks[1].size == 2048
    assert parse_machine("a?serial=a%26b%20c").properties == {"serial": "a&b c"}
    assert parse_machine("a%20b").disks[1].path == "a%20b"


@pytest.mark.parametrize(
    "text", ["x?size", "x?size=", "x?size=1Q", "x?a=1&&b=2&c", "?memory=big", "?ns2.size=-1"]
)
def test_what_does_not_parse(text: str) -> None:
    with pytest.raises(DeviceNameError, match=r"^qemu:.*(does not parse|is not a size)"):
        parse_machine(text)


@pytest.mark.parametrize("memory", ["1000", "8M", "1025k"])
def test_memory_that_no_machine_has(memory: str) -> None:
    with pytest.raises(DeviceNameError, match="memory must be whole MiB, 16M or more"):
        open_access(f"qemu:?memory={memory}")


@pytest.mark.parametrize("name", ["nonsense:", "nvme0:x", ":", "QEMU:"])
def test_no_such_kind_of_device(name: str) -> None:
    with pytest.raises(DeviceNameError, match="is not a device name: "):
        open_access(name)
    with pytest.raises(ValueError, match="is not a device name"):
        open_access(name)
