"""What a qemu: device name asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.driver.names import open_access
from pynvme_user.errors import DeviceAccessError, DeviceNameError
from pynvme_user.host.pci import parse_name
from pynvme_user.qemu.emulator import DEFAULT_RAM, Disk, Machine, command_line, parse_machine


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


def test_a_subsystem() -> None:
    machine = parse_machine("?subsys.fdp=on&subsys.nqn=a,b&fdp.ruhs=0;1&sriov_max_vfs=1")
    assert machine.subsystem == {"fdp": "on", "nqn": "a,b"}
    assert machine.disks[1].properties == {"fdp.ruhs": "0;1"}
    words = machine_arguments(machine)
    subsystem = words.index("nvme-subsys,id=subsys0,fdp=on,nqn=a,,b")
    (controller,) = (word for word in words if word.startswith("nvme,"))
    assert controller.endswith("sriov_max_vfs=1,subsys=subsys0")
    assert subsystem < words.index(controller)
    assert not any("subsys" in word for word in machine_arguments(parse_machine("")))


def test_several_controllers() -> None:
    machine = parse_machine(
        "?controllers=3&mdts=5&ns2.controller=2&ns2.shared=off&ns2=b.img&pmr=16M"
    )
    assert (machine.controllers, machine.functions) == (3, 3)
    assert machine.disks[2] == Disk("b.img", properties={"shared": "off"}, controller=2)
    words = machine_arguments(machine)
    found = [word for word in words if word.startswith("nvme,")]
    assert found == [
        f"nvme,id=nvme{n},serial=pynvme-user,addr={4 + n}.0,mdts=5,subsys=subsys0" for n in range(3)
    ]
    assert words.index("nvme-subsys,id=subsys0") < words.index(found[0])
    namespaces = [word for word in words if word.startswith("nvme-ns,")]
    assert [word.split(",")[1] for word in namespaces] == ["bus=nvme0", "bus=nvme2"]


def test_virtual_functions() -> None:
    machine = parse_machine("?sriov_max_vfs=4&sriov_numvfs=2")
    assert (machine.controllers, machine.functions) == (1, 3)
    (controller,) = (word for word in machine_arguments(machine) if word.startswith("nvme,"))
    assert controller.endswith("sriov_max_vfs=4,subsys=subsys0")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("controllers=0", "'0' is not a number from 1 to 16"),
        ("controllers=17", "'17' is not a number from 1 to 16"),
        ("controllers=two", "'two' is not a number from 1 to 16"),
        ("ns2.controller=-1", "'-1' is not a number from 0 to 15"),
        ("sriov_numvfs=128", "'128' is not a number from 0 to 127"),
        ("controller=1", "namespace 1 is of controller 1: give controllers=2 or more"),
        ("controllers=2&sriov_numvfs=1", "sriov_numvfs goes with one controller"),
    ],
)
def test_controllers_that_cannot_be(options: str, why: str) -> None:
    with pytest.raises(DeviceNameError, match=why):
        parse_machine(f"?{options}")


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
    with pytest.raises(DeviceNameError, match=r"^'qemu:.*(does not parse|is not a size)"):
        parse_machine(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\0b", "NUL"),
        ("x?serial=a%00b", "serial: NUL"),
        ("\ud800.img", "surrogates"),
        ("x?driver=file,locking=off", "driver: 'file,locking=off' is not a name"),
        ("x?format=raw,file=b", "format: 'raw,file=b' is not a name"),
        ("x?format=", "format: '' is not a name"),
        ("x?mdts=1&a,serial=b", "a,serial: options have names of letters"),
        ("x?=1", "does not parse: options have names"),
        ("x?driver.a,filename=b", "options have names"),
        ("x?driver.=b", "options have names"),
        ("x?driver.filename=b.img", "driver sets this itself: name a file behind qemu:"),
        ("x?driver.locking=off", "driver sets this itself"),
        ("x?driver.node-name=file2", "driver sets this itself"),
        ("x?driver.driver=file", "driver sets this itself"),
        ("x?driver.size=1", "driver sets this itself"),
        ("x?driver=io_uring&driver.path=b.img", "driver sets this itself"),
        ("?driver=raw&driver.file.driver=file&driver.file.filename=b.img", "sets this itself"),
        ("?ns2.driver=blkdebug&ns2.driver.image.locking=off", "driver sets this itself"),
        ("x?addr=5.0", "driver sets this itself: leave it out"),
        ("x?drive=file1", "driver sets this itself"),
        ("x?subsys=other", "driver sets this itself"),
        ("x?subsys.id=other", "driver sets this itself: name it by subsys.nqn"),
        ("x?ns2.nsid=5", "driver sets this itself"),
        ("?ns0=a.img", "namespaces are ns1 to ns256"),
        ("?ns257=a.img", "namespaces are ns1 to ns256"),
        ("?ns" + "9" * 5000 + "=", "namespaces are ns1 to ns256"),
        ("?ns²=a.img", "options have names of letters"),
        ("?size=0", "size: '0' is not a size from 1 byte"),
        ("?size=9999999P", "is not a size from 1 byte"),
        ("?memory=" + "9" * 5000, "memory: "),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(DeviceNameError) as caught:
        parse_machine(text)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


_words = st.sampled_from(
    [
        *("ns", "ns1", "ns2", "ns300", "driver", "driver.", "driver.filename", "format", "size"),
        *("memory", "serial", "nsid", "zoned", ".", "=", "&", "?", "%", "%00", "%ff", ",", "+"),
        *("1G", "0", "-1", "raw", "{memory}", "\0", "²", "\udc80", "\ud800"),
    ]
)


@given(st.text() | st.lists(_words | st.text(max_size=3)).map("".join))
def test_any_text_is_a_machine_or_a_name_error(text: str) -> None:
    try:
        machine = parse_machine(text)
    except DeviceNameError:
        return
    for argument in machine_arguments(machine):
        assert b"\0" not in os.fsencode(argument)


def machine_arguments(machine: Machine) -> list[str]:
    """What QEMU would be started with, without starting it."""
    return command_line(machine, memory=7, qtest=8, temporary=dict.fromkeys(machine.disks, 9))


def test_a_value_is_taken_as_it_is_written() -> None:
    assert parse_machine("x{memory}.img").disks[1].path == "x{memory}.img"
    assert parse_machine("?ns2=a+b%20c%ff.img").disks[2].path == "a+b c\udcff.img"
    words = machine_arguments(parse_machine("a,b{memory}.img?serial={memory},bus=x"))
    assert "file,node-name=file1,discard=unmap,filename=a,,b{memory}.img" in words
    assert any("serial={memory},,bus=x" in word for word in words)


@pytest.mark.parametrize("memory", ["1000", "8M", "1025k"])
def test_memory_that_no_machine_has(memory: str) -> None:
    with pytest.raises(DeviceNameError, match="memory must be whole MiB, 16M or more"):
        open_access(f"qemu:?memory={memory}")


@pytest.mark.parametrize(
    "name", ["nonsense:", "nvme0:x", ":", "QEMU:", "qemu", "qemu?size=1G", "vfio-user", "", "a\0:"]
)
def test_no_such_kind_of_device(name: str) -> None:
    with pytest.raises(DeviceNameError, match="is not a device name"):
        open_access(name)
    with pytest.raises(ValueError, match="is not a device name"):
        open_access(name)


@pytest.mark.parametrize(
    "name", ["/dev/nvme0", "/dev/nvme0n1", "nvme0", "nvme0n1p1", "/dev/ng0n1", "/dev/sda"]
)
def test_a_name_of_the_kernels(name: str) -> None:
    for parse in (open_access, parse_name):
        with pytest.raises(DeviceNameError, match="`nvme-user list` shows it"):
            parse(name)


@pytest.mark.parametrize("scheme", ["qemu:", "vfio-user:", "vfio:", "uio:"])
def test_nul_in_any_name(scheme: str) -> None:
    with pytest.raises(DeviceNameError, match="has no NUL"):
        open_access(f"{scheme}a\0b")


@pytest.mark.parametrize("scheme", ["qemu:", "vfio-user:"])
def test_a_name_that_no_file_has(scheme: str) -> None:
    with pytest.raises(DeviceNameError, match="lone surrogate"):
        open_access(f"{scheme}\ud800")
    with pytest.raises(DeviceAccessError, match="too long"):
        open_access(scheme + "x" * 300)


@pytest.mark.parametrize("name", [Path("disk.img"), b"qemu:", None, 3])
def test_what_is_no_text(name: object) -> None:
    with pytest.raises(TypeError, match=r"is a str, not .*: for an image write 'qemu"):
        open_access(name)  # type: ignore[arg-type]


def test_a_persistent_memory_region() -> None:
    machine = parse_machine("?pmr=16M&pmrdev=a,file&cmb_size_mb=4")
    assert (machine.pmr, machine.pmrdev) == (16 << 20, "a,file")
    arguments = command_line(machine, memory=3, qtest=4, temporary={}, pmr=machine.pmrdev)
    region = "memory-backend-file,id=pmr0,size=16777216,share=on,mem-path=a,,file"
    assert arguments[arguments.index(region) - 1] == "-object"
    (controller,) = (text for text in arguments if text.startswith("nvme,"))
    assert controller.endswith(",cmb_size_mb=4,pmrdev=pmr0")
