"""format, sanitize, firmware, resets and namespaces on real devices: what is asked, done, said."""

from __future__ import annotations

import os
import pty
from pathlib import Path
from typing import Any

import pytest
from disk_images import Parts, btrfs, gpt

import pynvme_user as nvme

MIB = 1 << 20


def image_of(path: Path, parts: Parts) -> bytes:
    content = bytearray(MIB)
    for at, part in parts.items():
        content[at : at + len(part)] = part
    path.write_bytes(content)
    return bytes(content)


def answered(start: Any, answer: bytes, *arguments: object) -> tuple[int, str, str]:
    """Run a command on a terminal on which somebody answers: its code, stdout, stderr."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stdin=theirs, stderr=theirs)
    os.close(theirs)
    asked = b""
    while b"[y/N]" not in asked:
        try:
            asked += os.read(ours, 4096)
        except OSError:
            break
    else:
        os.write(ours, answer)
        try:
            while more := os.read(ours, 4096):
                asked += more
        except OSError:
            pass  # the other end is closed
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    return process.returncode, out.decode(), asked.decode()


def test_format(run: Any, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"\x11" * MIB)
    done = run("format", "qemu:disk.img", "--force", "--block-size", 4096)
    assert done.stdout == b"Success formatting namespace:1\n"
    assert done.stderr == b""
    assert (tmp_path / "disk.img").read_bytes() == bytes(MIB)


@pytest.mark.parametrize("options", [("--lbaf", 63), ("--pi", 7)])
def test_a_format_that_the_device_refuses(fail: Any, options: tuple[object, ...]) -> None:
    said = fail("format", "qemu:?size=1M", "--force", *options)
    assert "Format Nvm" in said
    assert "Invalid" in said


def test_format_wants_to_know(run: Any, start: Any, fail: Any, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"\x11" * MIB)
    said = fail("format", "qemu:disk.img", code=2)
    assert said.startswith(
        "format loses the data of namespace 1 of qemu:disk.img, and there is no terminal to ask on"
    )
    for answer in (b"n\n", b"\n", b"\x04"):
        code, out, asked = answered(start, answer, "format", "qemu:disk.img")
        assert (code, out) == (1, "")
        assert "loses the data of namespace 1 of qemu:disk.img. Go on? [y/N]" in asked
        assert "nothing was done: the answer was not yes" in asked
    assert image.read_bytes() == b"\x11" * MIB
    code, out, _ = answered(start, b"yes\n", "format", "qemu:disk.img")
    assert (code, out) == (0, "Success formatting namespace:1\n")
    assert image.read_bytes() == bytes(MIB)


@pytest.mark.parametrize(
    ("parts", "name"),
    [(gpt(MIB, 512, backup=False), "a partition table (gpt)"), (btrfs(), "a file system (btrfs)")],
)
def test_what_carries_data_is_not_formatted(
    run: Any, start: Any, fail: Any, tmp_path: Path, parts: Parts, name: str
) -> None:
    image = tmp_path / "disk.img"
    content = image_of(image, parts)
    sentence = f"namespace 1 of qemu:disk.img carries {name}: add --force to format it all the same"
    assert fail("format", "qemu:disk.img") == sentence
    assert fail("format", "qemu:disk.img", "-n", "0xffffffff") == sentence
    code, _, asked = answered(start, b"y\n", "format", "qemu:disk.img")
    assert code == 1
    assert sentence in asked
    assert image.read_bytes() == content
    run("format", "qemu:disk.img", "--force")
    assert image.read_bytes() == bytes(MIB)


def test_delete_looks_at_the_namespace(fail: Any, tmp_path: Path) -> None:
    content = image_of(tmp_path / "disk.img", btrfs())
    said = fail("delete-ns", "qemu:disk.img", "-n", 1)
    assert said.endswith("carries a file system (btrfs): add --force to delete it all the same")
    assert (tmp_path / "disk.img").read_bytes() == content


def test_what_the_device_does_not_have(run: Any, fail: Any) -> None:
    """QEMU has Namespace Attachment, and of the others nothing."""
    assert "Invalid Command Opcode" in fail("create-ns", "qemu:?size=1M", "-s", 1, "-f", 0)
    assert "Invalid Command Opcode" in fail("delete-ns", "qemu:?size=1M", "-n", 1, "--force")
    with nvme.open("qemu:?size=1M") as ctrl:
        in_subsystem = ctrl.identify.cmic.mctrs  # as always in QEMU 10.0
    if in_subsystem:
        assert b"detach-ns: Success" in run("detach-ns", "qemu:?size=1M", "-n", 1).stdout
    else:  # there is nothing to attach to
        assert "Invalid Field" in fail("detach-ns", "qemu:?size=1M", "-n", 1)
    for line in (
        ("sanitize", "-a", 2),
        ("device-self-test", "-s", 1),
        ("fw-commit",),
        ("subsystem-reset",),
    ):
        said = fail(line[0], "qemu:?size=1M", *line[1:])
        assert " does not support " in said
        assert said.endswith(" is 0; add --force to send it all the same")
    said = fail("sanitize", "qemu:?size=1M", "-a", 2, "--force")
    assert "Sanitize (opcode 0x84, nsid 0x0) failed: Invalid Command Opcode" in said


@pytest.mark.parametrize("device", ["qemu:?size=1M", "soft:?size=1M"])
def test_reset(run: Any, device: str) -> None:
    done = run("reset", device)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_names_of_values_complete(run: Any, environment: dict[str, str]) -> None:
    line = "nvme-user sanitize soft: --sanact start-"
    environment |= {
        "_NVME_USER_COMPLETE": "bash_complete",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    found = run().stdout.decode().split()
    assert found == ["start-block-erase", "start-overwrite", "start-crypto-erase"]
