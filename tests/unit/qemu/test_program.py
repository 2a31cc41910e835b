"""Which QEMU is started: programs that say a version and note each start stand for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pynvme_user.errors import DeviceAccessError
from pynvme_user.qemu import program
from pynvme_user.qemu.guest.errors import GuestSetupError
from pynvme_user.qemu.guest.guest import Guest


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(program.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")


def install(folder: Path, version: str) -> str:
    """Put a QEMU there; each start of it is one line in the file ``starts`` beside it."""
    folder.mkdir(parents=True)
    path = folder / program.PROGRAM
    path.write_text(
        f"#!/bin/sh\necho $* >> {folder}/starts\n"
        f"echo 'QEMU emulator version {version} (Debian 1:9.9)'\n"
    )
    path.chmod(0o755)
    return str(path)


def starts(path: str) -> list[str]:
    log = Path(path).with_name("starts")
    return log.read_text().splitlines() if log.exists() else []


def set_path(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    monkeypatch.setenv("PATH", ":".join(str(Path(one).parent) for one in programs))


def test_none_is_installed() -> None:
    assert program.find() is None
    assert program.installed() == []


def test_the_only_one_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = install(tmp_path / "a", "7.2.22")
    set_path(monkeypatch, only, only)
    assert program.find() == only
    assert starts(only) == []


def test_the_newest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As numbers: 10.0 is newer than 9.2. Each is started once, whoever asks."""
    old = install(tmp_path / "a", "9.2.10")
    new = install(tmp_path / "b", "10.0.2")
    older = install(tmp_path / "c", "9.2.9")
    set_path(monkeypatch, old, new, older)
    assert [program.find() for _ in range(3)] == [new] * 3
    assert [starts(one) for one in (old, new, older)] == [["--version"]] * 3

    # Another program at the same place is asked again.
    Path(old).write_text("#!/bin/sh\necho 'QEMU emulator version 11.1'\n")
    assert program.find() == old
    assert starts(new) == ["--version"]


def test_of_equals_the_first_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (install(tmp_path / name, "10.0.2") for name in "ab")
    set_path(monkeypatch, two, one)
    assert program.find() == two


def test_the_one_that_was_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = install(tmp_path / "a", "7.2.22")
    new = install(tmp_path / "cache/pynvme_user/qemu/usr/bin", "10.0.2")
    assert program.find() == new
    set_path(monkeypatch, old)
    assert program.installed() == [old, new]
    assert program.find() == new


def test_a_link_is_the_same_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = install(tmp_path / "a", "7.2.22")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    monkeypatch.setenv("PATH", f"{tmp_path}/b:{tmp_path}/a:{tmp_path}/none")
    assert program.installed() == [f"{tmp_path}/b/{program.PROGRAM}"]
    assert starts(one) == []


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense"])
def test_one_that_does_not_work_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    broken = install(tmp_path / "a", "99")
    Path(broken).write_text(f"#!/bin/sh\n{script}\n")
    works = install(tmp_path / "b", "7.2.22")
    set_path(monkeypatch, broken, works)
    assert program.find() == works


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 7}', '{"%s": {}}', '{"%s": "\\u0663.x"}'])
def test_a_file_of_versions_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    old, new = install(tmp_path / "a", "7.2.22"), install(tmp_path / "b", "10.0.2")
    set_path(monkeypatch, old, new)
    stat = os.stat(old)
    file = program.cache_path() / "qemu-versions.json"
    file.parent.mkdir(parents=True)
    file.write_text(content.replace("%s", f"{old} {stat.st_size} {stat.st_mtime_ns}"))
    assert program.find() == new
    assert program.find() == new
    assert starts(old) == ["--version"]


def test_no_file_of_versions_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    old, new = install(tmp_path / "a", "7.2.22"), install(tmp_path / "b", "10.0.2")
    set_path(monkeypatch, old, new)
    assert program.find() == program.find() == new
    assert starts(old) == ["--version"] * 2


def test_the_variable_names_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = install(tmp_path / "a", "7.2.22"), install(tmp_path / "b", "10.0.2")
    set_path(monkeypatch, old, new)
    monkeypatch.setenv(program.VARIABLE, old)
    assert program.find() == old
    monkeypatch.setenv(program.VARIABLE, program.PROGRAM)  # a name: the first in PATH
    assert program.find() == old
    assert starts(old) == starts(new) == []


@pytest.mark.parametrize("named", ["none", "/no/such/qemu", "/"])
def test_the_variable_names_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    set_path(monkeypatch, install(tmp_path / "a", "7.2.22"))
    monkeypatch.setenv(program.VARIABLE, named)
    said = f"NVME_USER_QEMU is '{named}', which is no program: name QEMU's"
    with pytest.raises(DeviceAccessError, match=said):
        program.find()
    with pytest.raises(GuestSetupError, match=said):
        Guest(["true"]).start()
