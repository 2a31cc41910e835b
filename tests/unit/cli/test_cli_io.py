"""read, write, compare and zone-append with all their options, on the software controller."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import pynvme_user as nvme
from pynvme_user import Controller
from pynvme_user.cli.errors import describe
from pynvme_user.cli.group import cli
from pynvme_user.spec.directives import (
    DirectiveType,
    EnableDirectiveCdw12,
    IdentifySend,
    StreamsReceive,
    StreamsStatus,
)

#: A command line, run on the controller: stdout, stderr or the error, and the exit code.
Run = Callable[[str], tuple[str, str, int]]
DATA, METADATA = bytes(range(256)) * 32, bytes(range(128))  # 16 blocks


@pytest.fixture
def ctrl(request: pytest.FixtureRequest) -> Iterator[Controller]:
    """``request.param`` has more of the device's name."""
    more = getattr(request, "param", "")
    with nvme.open(f"soft:?size=1M&commands=all{more}") as ctrl:
        yield ctrl


@pytest.fixture
def run(ctrl: Controller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[Controller]:
        yield ctrl

    monkeypatch.setattr(nvme, "open", opened)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "meta").write_bytes(METADATA)

    def run(line: str) -> tuple[str, str, int]:
        name, *words = line.split()
        plugin = ["zns"] if name == "zone-append" else []
        done = CliRunner().invoke(cli, [*plugin, name, "soft:", *words], standalone_mode=False)
        if done.exception is None:
            return done.stdout, done.stderr, 0
        said, code = describe(done.exception)
        return done.stdout, said, code

    return run


def formatted(ctrl: Controller, size: int, metadata: int, **options: int) -> None:
    page = ctrl.namespaces[1].identify
    index = next(n for n, f in enumerate(page.lbafs) if (f.ds, f.ms) == (size, metadata))
    ctrl.format(1, index, **options)  # type: ignore[arg-type]


FORMATS = {
    "separate": (9, 8, {}),
    "extended": (9, 8, {"extended": True}),
    "type 1": (9, 8, {"protection": 1}),
    "type 3 extended": (9, 8, {"protection": 3, "extended": True}),
}


@pytest.mark.parametrize("form", FORMATS)
def test_metadata_and_data_in_files(run: Run, ctrl: Controller, tmp_path: Path, form: str) -> None:
    size, metadata, options = FORMATS[form]
    formatted(ctrl, size, metadata, **options)
    assert run("write -s 8 -c 15 -d data -M meta --force") == ("", "write: Success\n", 0)
    assert run("read -s 8 -c 15 -d got -M more -y 128") == ("", "read: Success\n", 0)
    assert (tmp_path / "got").read_bytes() == DATA
    assert (tmp_path / "more").read_bytes() == METADATA
    assert run("compare -s 8 -c 15 -d data -M meta") == ("", "compare: Success\n", 0)
    if "type" not in form:
        (tmp_path / "meta").write_bytes(METADATA[::-1])
        _, said, code = run("compare -s 8 -c 15 -d data -M meta")
        assert (said, code) == ("blocks 8 to 23 of namespace 1 differ from data", 1)
    # Zeroes follow a short file; of the size it is said that it is rounded.
    (tmp_path / "meta").write_bytes(b"\xff" * 12)
    rounded = "Rounding metadata size to fit block count (16 bytes)\n"
    _, said, code = run("write -s 8 -c 1 -d data -M meta -y 4 --force")
    assert (said, code) == (f"{rounded}write: Success\n", 0)
    assert run("read -s 8 -c 1 -d got -M more")[2] == 0
    assert (tmp_path / "more").read_bytes() == b"\xff" * 12 + bytes(4)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("metadata", [8, 64])
def test_without_metadata_it_is_made(
    run: Run, ctrl: Controller, tmp_path: Path, metadata: int, extended: bool
) -> None:
    formatted(ctrl, 12, metadata, protection=1, extended=extended)
    assert run("write -s 4 -c 1 -d data --force -a 7") == ("", "write: Success\n", 0)
    assert run("compare -s 4 -c 1 -d data -a 7") == ("", "compare: Success\n", 0)
    assert run("read -s 4 -c 1 -d got -a 7") == ("", "read: Success\n", 0)
    assert (tmp_path / "got").read_bytes() == DATA
    for options, error in (
        ("-a 8", "Application Tag Check Error"),
        ("-p 5 -r 9", "Invalid Protection Information"),
        ("-p 2 -a 0x17 -m 0xf0", "Application Tag Check Error"),
    ):
        _, said, code = run(f"read -s 4 -c 1 -d got {options}")
        assert code == 1
        assert error in said
    for options in ("-p 0", "-p 2", "-p 2 -a 0x17 -m 0xf", "-p 0xd -r 4" if metadata == 8 else ""):
        assert run(f"read -s 4 -c 1 -d got {options}")[1:] == ("read: Success\n", 0)
    (tmp_path / "got").write_bytes(DATA[::-1])
    assert run("compare -s 4 -c 1 -d got -a 7")[2] == 1


@pytest.mark.parametrize("ctrl", ["&mdts=1"], indirect=True)
def test_more_than_one_command(run: Run, ctrl: Controller, tmp_path: Path) -> None:
    formatted(ctrl, 9, 8, protection=2)
    (tmp_path / "data").write_bytes(DATA * 3)
    shown, said, code = run("write -d data -s 9 -r 100 --force -v -t -D 3")
    assert (said, code) == ("write: Success\n", 0)
    found = re.findall("^(?:slba|nblocks|reftag) +: (.*)$", shown, re.M)
    assert found == ["000f", "9", "64", "000f", "19", "74", "000f", "29", "84"]
    assert run("read -d got -s 9 -r 100 -c 47")[2] == 0
    assert (tmp_path / "got").read_bytes() == DATA * 3
    assert "Reference Tag Check Error" in run("read -d got -s 9 -r 101 -c 47")[1]
    last = shown.splitlines()[-1]
    assert re.fullmatch(r" latency: write: \d+ us \(mean of 3 commands, at most \d+ us\)", last)


def test_what_is_shown_is_what_nvme_cli_shows(run: Run, ctrl: Controller) -> None:
    formatted(ctrl, 12, 16, protection=1)
    line = "write -s 5 -c 1 -d data --force -l -f -p 0xc -r 5 -a 0x12 -m 0xff00 -D 0x41 -w"
    shown, said, code = run(line)
    assert (said, code) == ("", 0)
    lines = [line for line in shown.splitlines() if not line.startswith("addr ")]
    assert lines == [
        "opcode       : 01",
        "nsid         : 01",
        "flags        : 00",
        "control      : f000",
        "nblocks      : 0001",
        "metadata     : 0",
        "slba         : 5",
        "dsmgmt       : 00000041",
        "reftag       : 5",
        "apptag       : 0012",
        "appmask      : ff00",
        "storagetagcheck : 0000",
        "storagetag      : 0",
        *(lines[-2:]),
    ]
    assert [line.split()[0] for line in lines[-2:]] == ["pif", "sts"]
    # Nothing was written.
    assert ctrl.namespaces[1].read(5, 2, prinfo=0) == bytes(8192)


def test_a_dry_run_of_a_read_makes_no_file(run: Run, tmp_path: Path) -> None:
    shown, said, code = run("read -c 0 -d got -w -t")
    assert (said, code) == ("", 0)
    assert shown.startswith("opcode       : 02\n")
    assert "latency" not in shown
    assert not (tmp_path / "got").exists()


def test_latency(run: Run) -> None:
    shown, said, code = run("read -c 0 -d got -t --limited-retry")
    assert (said, code) == ("read: Success\n", 0)
    assert re.fullmatch(r" latency: read: \d+ us\n", shown)


def test_writes_by_streams(run: Run, ctrl: Controller) -> None:
    ctrl.directive_send(
        DirectiveType.IDENTIFY,
        IdentifySend.ENABLE_DIRECTIVE,
        nsid=1,
        cdw12=EnableDirectiveCdw12.build(endir=1, dtype=DirectiveType.STREAMS),
    )
    assert run("write -d data -T 1 -S 5 --force") == ("", "write: Success\n", 0)
    _, page = ctrl.directive_receive(DirectiveType.STREAMS, StreamsReceive.GET_STATUS, nsid=1)
    assert [*StreamsStatus.from_bytes(page)] == [5]
    assert "Invalid Field" in run("write -d data -T 2 -S 5 --force")[1]
    shown, _, _ = run("write -d data -T 2 -S 0xffff --force -w")
    assert "control      : 0020\n" in shown
    assert "dsmgmt       : ffff0000\n" in shown


#: Command lines that cannot be, and what is said; exit code 2.
WRONG = {
    "read -c 0 -d got -T 1": "--dir-type and --dir-spec are for writes: leave them out",
    "compare -d data -S 1": "--dir-type and --dir-spec are for writes: leave them out",
    "write -d data -T 3": "writes have no directive 3",
    "write -d data -S 3": "--dir-spec goes with --dir-type 1 or 2: add it",
    "compare -d data -D 1": "--dsm is for reads and writes: leave it out",
    "read -c 0 -y 8": "data and metadata cannot both be stdout",
    "write -c 0 -M -": "data and metadata cannot both be stdin",
    "zone-append -M -": "data and metadata cannot both be stdin",
    "read -c 0 -d got -p 16": "16 is not in the range 0 to 0xf",
    "read -c 0 -d got -D 256": "256 is not in the range 0 to 0xff",
    "read -c 0 -d got -r x": "'x' is not a number",
    "write-zeroes -c 65536 -p 8": "with --prinfo or tags --block-count is up to 65535",
    "io-passthru -o 1 -n 1 -M meta": "how much metadata is there? Add --metadata-len",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be(run: Run, line: str) -> None:
    _, said, code = run(line)
    assert code == 2
    assert WRONG[line] in said


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("read -c 0 -d got -M more", "namespace 1 has no metadata: leave out --metadata"),
        ("read -c 0 -d got -p 4", "has no protection information: leave out prinfo"),
        ("write -c 0 -d data -a 1 --force", "has no protection information: leave out app_tag"),
    ],
)
def test_what_the_namespace_does_not_have(run: Run, line: str, sentence: str) -> None:
    _, said, code = run(line)
    assert code == 1
    assert sentence in said


def test_zeroes_with_protection_information(run: Run, ctrl: Controller) -> None:
    formatted(ctrl, 9, 8, protection=1)
    done = ("NVME Write Zeroes Success\n", "", 0)
    assert run("write-zeroes -s 4 -c 3 -p 8 -r 4 -a 7 -l --force") == done
    assert ctrl.namespaces[1].read(4, 4, app_tag=7) == bytes(2048)
    assert run("write-zeroes -s 4 -c 3 --force") == done
    assert ctrl.namespaces[1].read(4, 4, app_tag=0) == bytes(2048)
    assert run("flush") == ("NVMe Flush: success\n", "", 0)


@pytest.mark.parametrize("ctrl", ["&zoned.zone_size=64k"], indirect=True)
def test_appends(run: Run, ctrl: Controller) -> None:
    formatted(ctrl, 9, 8, protection=1)
    shown, _, code = run("zone-append -s 128 -d data -a 7 -l -t --force")
    assert code == 0
    assert re.fullmatch(r" latency: zone append: \d+ us\nSuccess appended .* LBA 80\n", shown)
    line = "zone-append -s 128 -d data -z 1024 -M meta -P --force"
    assert run(line) == ("Success appended data to LBA 90\n", "", 0)
    ns = ctrl.namespaces[1]
    assert ns.read(128, 16, app_tag=7) == DATA
    found = bytearray(16)
    assert ns.read(144, 2, metadata=found, prinfo=0) == DATA[:1024]  # type: ignore[call-arg]
    assert found[:4] == METADATA[:4]
    _, said, code = run("zone-append -s 128 -d data -M meta -p 4 --force")
    assert code == 1
    assert "Guard Check Error" in said


def test_any_command_with_metadata(run: Run, ctrl: Controller, tmp_path: Path) -> None:
    formatted(ctrl, 9, 8)
    line = "io-passthru -n 1 -l 8192 -m 128 -4 3 -6 15"
    _, said, code = run(f"{line} -o 1 -i data -M meta -R 7 -s")
    assert (said, code) == ("IO Command Write is Success and result: 0x00000000\n", 0)
    shown, said, code = run(f"{line} -o 2 -i got -M more -T -s -R 7")
    assert (said, code) == ("IO Command Read is Success and result: 0x00000000\n", 0)
    assert "rsvd1        : 0007\n" in shown
    assert "metadata_len : 00000080\n" in shown
    assert re.search(r"^metadata     : [1-9a-f]", shown, re.M)
    assert re.search(r"^IO Command Read latency: \d+ us$", shown, re.M)
    assert (tmp_path / "got").read_bytes() == DATA
    assert (tmp_path / "more").read_bytes() == METADATA
    _, said, _ = run("admin-passthru -o 0xc1")
    assert "Invalid Command Opcode" in said
