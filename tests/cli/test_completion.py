"""Shell completion: what is offered in each shell, in a real bash, and no traceback ever."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynvme_user.cli import completion
from pynvme_user.cli.group import cli
from pynvme_user.host.pci import devices

NVME_USER = str(Path(sys.executable).with_name("nvme-user"))
BREAKS = " \t\n\"'@><=;|&(:"
IDENTIFY = [name for name in cli.commands if name.startswith("id-")]
FILES = ("disk.img", "a b.img", "job.fio", "notes.txt", ".hidden.img")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)


def asking(shell: str, line: str) -> dict[str, str]:
    """The variables with which a shell's script asks, the cursor being at the line's end."""
    if shell == "bash":
        asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_BREAKS": BREAKS}
    else:
        before, _, last = line.rpartition(" ")
        count = str(len(before.split()))
        asked = {"COMP_WORDS": line, "COMP_CWORD": count if shell == "zsh" else last}
    return asked | {"_NVME_USER_COMPLETE": f"{shell}_complete"}


def offered(shell: str, line: str) -> list[str]:
    """What is offered, asked in this process, which is much quicker."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, asking(shell, line)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = completion.answer(cli, f"{shell}_complete")
    assert code == 0
    assert err.getvalue() == ""
    lines = out.getvalue().splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [
        word.partition(",")[2].partition("\t")[0] if shell == "fish" else word for word in lines
    ]


#: What is typed, what is offered; and what bash is to put in place of the word's last part.
OFFERED = [
    ("id-", IDENTIFY, None),
    ("id-ctrl --output-format=", [f"--output-format={f}" for f in ("normal", "json", "binary")], 1),
    ("id-ctrl qemu: --output-format=js", ["--output-format=json"], 1),
    ("id-ctrl -o js", ["json"], None),
    ("id-ctrl --output-f", ["--output-format"], None),
    ("id-ctrl qemu:", ["qemu:a b.img", "qemu:disk.img", "qemu:folder/"], 1),
    ("id-ctrl qemu:d", ["qemu:disk.img"], 1),
    ("id-ctrl soft:d", ["soft:disk.img"], 1),
    ("id-ctrl vfio-user:fo", ["vfio-user:folder/"], 1),
    ("read qemu: --data n", ["notes.txt"], None),
    ("read qemu: --data=n", ["--data=notes.txt"], 1),
    ("bench --rw randw", ["randwrite"], None),
    ("bench --rw=randw", ["--rw=randwrite"], 1),
    ("bench --readwrite read,randr", ["read,randread", "read,randrw"], None),
    ("bench --ioengine=libb", ["--ioengine=libblkio"], 1),
    ("bench --random_distribution=par", ["--random_distribution=pareto:"], 1),
    ("bench qemu: --time-b", ["--time-based"], None),
    ("bench --mode ", ["polled", "hybrid", "interrupt"], None),
    ("bench --end-fsync ", ["0", "1"], None),
    ("bench -o normal,js", ["normal,json", "normal,json+"], None),
    ("bench --eta a", ["auto", "always"], None),
    ("bench --filename=qemu:d", ["--filename=qemu:disk.img"], 2),
    ("bench --verify_state n", ["notes.txt"], None),
    ("bench jo", ["job.fio"], None),
    ("bench comp", ["compare"], None),
    ("bench mer", ["merge"], None),
    ("bench compare no", ["notes.txt"], None),
    ("bench compare --output-format=j", ["--output-format=json"], 1),
    ("zns re", ["report-zones", "reset-zone"], None),
    ("zns report-zones --ext", ["--extended"], None),
    ("zns report-zones --state=fu", ["--state=full"], 1),
    ("zns id-ns qemu:d", ["qemu:disk.img"], 1),
    ("fdp u", ["usage", "update"], None),
    ("bind --driver=u", ["--driver=uio_pci_generic"], 1),
    ("nonsense --", ["--timeout", "--plain-cids", "--completion", "--version", "--help"], None),
]


@pytest.mark.parametrize("shell", completion.SHELLS)
@pytest.mark.parametrize(("typed", "expected", "parts"), OFFERED, ids=[row[0] for row in OFFERED])
def test_what_is_offered(shell: str, typed: str, expected: list[str], parts: int | None) -> None:
    found = offered(shell, f"nvme-user {typed}")
    if shell == "bash":
        expected = [word.replace(" ", r"\ ") for word in expected]
        for _ in range(parts or 0):
            expected = [word[min(map(word.find, set(":=") & set(word))) + 1 :] for word in expected]
    assert found == expected


def test_devices() -> None:
    addresses = [device.address for device in devices()]
    found = offered("zsh", "nvme-user id-ctrl ")
    assert found[:3] == ["qemu:", "soft:", "vfio-user:"]
    assert set(found[3:]) == {
        f"{scheme}{address}" for scheme in ("", "vfio:", "uio:") for address in addresses
    }
    assert offered("bash", "nvme-user doctor v")[0] == "vfio-user:"


def test_quotes_and_assignments_in_bash() -> None:
    assert offered("bash", "nvme-user id-ctrl 'qemu:a") == ["qemu:a b.img"]
    assert offered("bash", r"nvme-user id-ctrl qemu:a\ b") == [r"a\ b.img"]
    assert offered("bash", "A=1 B= .venv/bin/nvme-user id-") == IDENTIFY


@given(
    st.sampled_from(completion.SHELLS),
    st.lists(
        st.sampled_from(
            [
                *("nvme-user", " ", "bench", "read", "--rw", "=", "qemu:", "compare", "--", "-n"),
                *("--output-format", "'", '"', "\\", "$(", "~", "/", "\0", "\udc80", "é", "\n"),
                *("--fsync", "--time-based", "0x", "list-ns", "-o", ","),
            ]
        )
        | st.text(max_size=4)
    ).map("".join),
)
@example("bash", "")
@example("fish", "nvme-user '")
@example("zsh", "nvme-user bench --rw")
def test_no_line_has_a_traceback(shell: str, line: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    asked = asking(shell, line.replace("\0", ""))
    with (
        mock.patch.object(os, "environ", asked),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        assert completion.answer(cli, f"{shell}_complete") in (0, 1)
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"COMP_LINE": "x", "COMP_POINT": "?"},
        {"_NVME_USER_COMPLETE": "bash_nonsense"},
        {"_NVME_USER_COMPLETE": "csh_complete"},
        {"_NVME_USER_COMPLETE": "zsh_complete"},
    ],
)
def test_what_no_shell_asks(run: Any, environment: dict[str, str], more: dict[str, str]) -> None:
    environment |= {"_NVME_USER_COMPLETE": "bash_complete"} | more
    done = run(code=1)
    assert done.stdout + done.stderr == b""


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_script(run: Any, shell: str) -> None:
    script = run("--completion", shell).stdout
    assert b"_NVME_USER_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, check=True)


def test_in_a_real_bash(environment: dict[str, str], tmp_path: Path) -> None:
    """Typed at a prompt, with the tab key."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment
        | {"PATH": f"{Path(NVME_USER).parent}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, b'eval "$(nvme-user --completion bash)"; echo re""ady\n')
        until(ours, b"\nready")
        for typed, completed in (
            (b"nvme-user id-ctrl qemu:dis\t", b"qemu:disk.img "),
            (b"nvme-user id-ctrl qemu: --output-format=js\t", b"--output-format=json "),
            (b"nvme-user id-ctrl 'qemu:a\t", b"'qemu:a b.img' "),
            (b"nvme-user id-ctrl qemu:a\t", rb"qemu:a\ b.img "),
            (b"nvme-user bench --rw=randw\t", b"--rw=randwrite "),
        ):
            os.write(ours, typed)
            until(ours, completed)
            os.write(ours, b"\x15")  # ctrl-U: an empty line
    finally:
        os.close(ours)
        shell.kill()
        shell.wait()


def until(terminal: int, wanted: bytes) -> None:
    shown, deadline = b"", time.monotonic() + 300
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, (wanted, shown)
        shown += os.read(terminal, 4096)
    assert b"Traceback" not in shown
