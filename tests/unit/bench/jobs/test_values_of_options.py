"""fio's ways to write values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynvme_user.bench.jobs import readers, values
from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.jobs.terms import JobError, Size


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4096", 4096),
        ("0x1000", 4096),
        ("4096b", 4096),
        ("4k", 4096),
        ("4K", 4096),
        ("4kB", 4096),
        ("4ki", 4096),
        ("4kib", 4000),
        ("1m", 1 << 20),
        ("1MiB", 10**6),
        ("1t", 1 << 40),
        ("2p", 2 << 50),
        ("-8k", -8192),
        ("(4*1k+512)", 4608),
        ("(2^3^2)", 512),
        ("(7-2-1)", 4),
        ("(100%7*2)", 4),
        ("(-(3 - 5) * 0x10)", 32),
        ("(1.5*2k)", 3072),
    ],
)
def test_integers(text: str, number: int) -> None:
    assert values.integer(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "k", "4x", "1.5k", "0x", "4 4", "(", "()", "(4", "(4*)", "(4k+1))", "(1/0)", "(9^99)"],
)
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(JobError, match=r"is not a number|is not an expression|divides by zero"):
        values.integer(text)


@given(st.integers(0, 4096), st.sampled_from(["", "k", "m", "g", "t", "p"]))
def test_suffixes(number: int, suffix: str) -> None:
    power = 1024 ** ("kmgtp".find(suffix) + 1 if suffix else 0)
    assert values.integer(f"{number}{suffix}") == number * power
    assert values.integer(f"({number}{suffix.upper()})") == number * power


def test_sizes_in_percent_and_zones() -> None:
    assert values.size("20%") == Size(percent=20)
    assert values.size("3z") == Size(zones=3)
    assert values.size("1m") == Size(bytes=1 << 20)
    assert Size(percent=33).of(1000) == 330
    assert Size(zones=3).of(0, 4096) == 12288
    with pytest.raises(JobError, match="101%' is more than 100%"):
        values.size("101%")
    with pytest.raises(JobError, match="3z counts zones, and the namespace has none"):
        Size(zones=3).of(1000)


@pytest.mark.parametrize(
    ("text", "unit", "seconds"),
    [
        ("10", values.SECOND, 10),
        ("10", values.MICROSECOND, 10e-6),
        ("500", values.MILLISECOND, 0.5),
        ("500ms", values.SECOND, 0.5),
        ("20us", values.SECOND, 20e-6),
        ("20usec", values.SECOND, 20e-6),
        ("3 s", values.MICROSECOND, 3),
        ("1sec", values.SECOND, 1),
        ("5m", values.SECOND, 300),
        ("2H", values.SECOND, 7200),
        ("1d", values.SECOND, 86400),
        ("1.5s", values.SECOND, 1.5),
        ("(2*1s)", values.SECOND, 2),
        ("(1000000)", values.SECOND, 1),
        ("(1m)", values.SECOND, 60),
    ],
)
def test_times(text: str, unit: float, seconds: float) -> None:
    assert values.time(unit)(text) == pytest.approx(seconds, rel=1e-15)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1x", "1 minute"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(JobError, match="is not a time: write for example 10s"):
        values.time(values.SECOND)(text)


def test_ranges_are_put_in_order() -> None:
    read = values.span(values.natural)
    assert read("1k-4k") == read("4k:1k") == (1024, 4096)
    assert read("4k") == (4096, 4096)


@pytest.mark.parametrize(
    ("text", "data", "offsets"),
    [
        ("0xdeadbeef", b"\xde\xad\xbe\xef", ()),
        ("0xF", b"\x0f", ()),
        ("0xFF0X1", b"\xff\x01", ()),
        ('"abcd"', b"abcd", ()),
        ("66", b"B", ()),
        ("-1024", b"\x00\xfc\xff\xff", ()),
        ("0", b"\0", ()),
        ("256", b"\0\1", ()),
        ('-100xab"1"%o"2"', b"\xf6\xff\xff\xff\xab1" + bytes(8) + b"2", (6,)),
        ("%o0xdeadbeef%o", bytes(8) + b"\xde\xad\xbe\xef" + bytes(8), (0, 12)),
    ],
)
def test_patterns(text: str, data: bytes, offsets: tuple[int, ...]) -> None:
    assert readers.pattern(text) == (data, offsets)


def test_patterns_from_files(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\1\2")
    assert readers.pattern(f"'{tmp_path}/data'0x03") == (b"\1\2\3", ())
    for wrong in ("", "abc", f"'{tmp_path}/none'", "4294967296", '"open'):
        with pytest.raises(JobError):
            readers.pattern(wrong)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("qemu:", ("qemu:",)),
        ("qemu::qemu:", ("qemu:", "qemu:")),
        ("qemu:a.img:qemu:b.img?size=1G", ("qemu:a.img", "qemu:b.img?size=1G")),
        ("soft::soft:?fault=lost:10", ("soft:", "soft:?fault=lost:10")),
        ("0000:01:00.0", ("0000:01:00.0",)),
        ("0000:01:00.0:0000:02:00.0", ("0000:01:00.0", "0000:02:00.0")),
        ("01:00.0:02:00.1", ("01:00.0", "02:00.1")),
        ("vfio:0000:01:00.0", ("vfio:0000:01:00.0",)),
        ("vfio:0000:01:00.0?iommufd=1:uio:02:00.0", ("vfio:0000:01:00.0?iommufd=1", "uio:02:00.0")),
        ("vfio-user:/run/a:/run/b", ("vfio-user:/run/a", "/run/b")),
        (r"vfio-user:/run/a\:/run/b", ("vfio-user:/run/a:/run/b",)),
        ("/dev/sda:/dev/sdb", ("/dev/sda", "/dev/sdb")),
        ("controller:?delay=5", ("controller:?delay=5",)),
        ("trtype=PCIe traddr=0000.01.00.0 ns=1", ("0000:01:00.0",)),
        ("traddr=1.02.1f.7", ("0001:02:1f.7",)),
        ("trtype:PCIe traddr:0000:01:00.0 ns:1", ("0000:01:00.0",)),
        (r"trtype=pcie traddr=0000\:01\:00.0", ("0000:01:00.0",)),
        (
            "trtype=PCIe traddr=0000.01.00.0 ns=1:trtype=PCIe traddr=0000.02.00.0 ns=1:qemu:",
            ("0000:01:00.0", "0000:02:00.0", "qemu:"),
        ),
    ],
)
def test_device_names(text: str, names: tuple[str, ...]) -> None:
    assert readers.filenames(text) == names


def test_spdks_device_names_say_the_namespace() -> None:
    name = "trtype=PCIe traddr=0000.01.00.0"
    assert JobBuilder([("filename", f"{name} ns=3")]).job("a")[0].nsid == 3
    assert JobBuilder([("filename", name)]).job("a")[0].nsid is None
    assert JobBuilder([("filename", f"{name} ns=3"), ("nsid", "2")]).job("a")[0].nsid == 2
    with pytest.raises(JobError, match=r"several namespaces: give each a job of its own, with ns"):
        JobBuilder([("filename", f"{name} ns=1:{name} ns=2")])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "trtype=TCP adrfam=IPv4 traddr=10.0.0.1 ns=1",
            "TCP is not supported: devices are reached",
        ),
        ("trtype=VFIOUSER traddr=/run/a", "named as vfio-user:/path/to/socket"),
        ("trtype=PCIe", "write trtype=PCIe traddr=0000.01.00.0 ns=1, which is 0000:01:00.0"),
        ("trtype=PCIe traddr=0000.01.00.0 ns=x", "is no device of SPDK's"),
        ("trtype=PCIe traddr=0000.01.00.0 subnqn=a", "is no device of SPDK's"),
        ("trtype=PCIe traddr=0000.01.00.0 ns", "is no device of SPDK's"),
        ("trtype=PCIe traddr=0000.01.00.9", "is no device of SPDK's"),
    ],
)
def test_devices_of_spdks_that_are_not_reached(name: str, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        JobBuilder([("filename", name)])
