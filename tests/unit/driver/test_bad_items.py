"""One bad item of a device hides nothing else: the rest is shown, and that item's row has why."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from soft_controller import OK, SoftController, namespace_list
from spec_classes import REGISTER_CLASSES, STRUCT_CLASSES

import pynvme_user as nvme
from pynvme_user import Controller
from pynvme_user.cli import list as listing
from pynvme_user.cli.group import cli
from pynvme_user.errors import NvmeError
from pynvme_user.host.pci import PciDevice
from pynvme_user.spec.admin import Cns
from pynvme_user.spec.commands import SQE, AdminOpcode
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.identify import IdentifyNamespace, LbaFormat, NamespaceIdentifiers
from pynvme_user.spec.status import GenericStatus, Status

BLOCKS = 1000
REFUSED, BAD_FORMAT, BAD_DESCRIPTOR, GOOD = 1, 2, 3, 4
EUI64 = b"\x52\x54\0\1\2\3\4\5"

Run = Callable[..., Result]


def pages(sqe: SQE) -> bytes | None:
    """Four namespaces, of which one is whole."""
    match sqe.cdw10 & 0xFF:
        case Cns.ACTIVE_NAMESPACES | Cns.ALLOCATED_NAMESPACES:
            return namespace_list([1, 2, 3, 4])
        case Cns.NAMESPACE:
            shift = 0 if sqe.nsid == BAD_FORMAT else 9
            return bytes(IdentifyNamespace.build(nsze=BLOCKS, lbafs=[LbaFormat.build(ds=shift)]))
        case Cns.NAMESPACE_DESCRIPTORS if sqe.nsid == BAD_DESCRIPTOR:
            return (b"\2\7\0\0".ljust(11, b"x") + b"\1\x08\0\0" + EUI64).ljust(4096, b"\0")
        case Cns.NAMESPACE_DESCRIPTORS:
            return (b"\1\x08\0\0" + EUI64).ljust(4096, b"\0")
    return None


def refuse_one(sqe: SQE) -> Status:
    refused = sqe.opc == AdminOpcode.IDENTIFY and sqe.nsid == REFUSED
    refused = refused and sqe.cdw10 & 0xFF == Cns.NAMESPACE
    return Status.of(GenericStatus.INTERNAL_ERROR) if refused else OK


@pytest.fixture
def run(ctrl: Controller, soft: SoftController, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on the controller of the test."""

    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[Controller]:
        yield ctrl

    soft.identify, soft.admin = pages, refuse_one
    monkeypatch.setattr(nvme, "open", opened)
    return lambda *arguments: CliRunner().invoke(cli, [*arguments])


def test_identify_shows_the_rest(run: Run) -> None:
    lines = run("identify", "soft:").stdout.splitlines()
    assert lines[0].split() == ["Device", "soft"]
    rows = {line.split()[0]: line for line in lines if line[:1].isdigit()}
    assert set(rows) == {"1", "2", "3", "4"}
    assert "error: Identify" in rows["1"]
    assert "Internal Error" in rows["1"]
    assert "error: namespace 2 has blocks of 2**0 bytes" in rows["2"]
    assert "1000" in rows["2"]
    assert "error: the namespace descriptor at byte 0 (type 2) has a length of 7" in rows["3"]
    assert "512 B" in rows["3"]
    assert rows["4"].endswith(f"EUI64 {EUI64.hex()}")


def test_identify_as_json(run: Run) -> None:
    namespaces = json.loads(run("identify", "soft:", "-o", "json").stdout)["namespaces"]
    assert [one["nsid"] for one in namespaces] == [1, 2, 3, 4]
    assert ["error" in one for one in namespaces] == [True, True, True, False]
    assert [one.get("nsze") for one in namespaces] == [None, BLOCKS, BLOCKS, BLOCKS]
    assert [one.get("eui64") for one in namespaces[1:]] == [EUI64.hex()] * 3


@pytest.mark.parametrize("options", [[], ["-H", "-v"], ["-o", "json"]])
def test_id_ns_needs_no_usable_format(run: Run, options: list[str]) -> None:
    done = run("id-ns", "soft:", "-n", "2", *options)
    assert done.exit_code == 0
    assert hex(BLOCKS) in done.stdout or f'"nsze": {BLOCKS}' in done.stdout


def test_id_ns_gives_the_page_as_it_is(run: Run, capfdbinary: Any) -> None:
    cli.main(["id-ns", "soft:", "-n", "2", "-b"], standalone_mode=False)
    page = IdentifyNamespace.build(nsze=BLOCKS, lbafs=[LbaFormat.build()])
    assert capfdbinary.readouterr().out == bytes(page)


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_a_list_is_shown_as_far_as_it_goes(
    run: Run, soft: SoftController, options: list[str]
) -> None:
    soft.identify = lambda sqe: (
        namespace_list([1, 4, 3])
        if sqe.cdw10 & 0xFF in (Cns.ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES)
        else pages(sqe)
    )
    done = run("list-ns", "soft:", *options)
    assert done.stdout.splitlines() == ["[   0]:0x1", "[   1]:0x4"]
    assert isinstance(done.exception, NvmeError)
    assert "3 after 4" in str(done.exception)
    rows = [line for line in run("identify", "soft:").stdout.splitlines() if "error" in line]
    assert "3 after 4" in rows[-1]


def test_the_good_namespace_is_used(ctrl: Controller, soft: SoftController) -> None:
    soft.identify, soft.admin = pages, refuse_one
    for nsid in (REFUSED, BAD_FORMAT):
        with pytest.raises(NvmeError):
            ctrl.namespaces[nsid]
    assert ctrl.namespaces[BAD_DESCRIPTOR].identifiers.eui64 == EUI64
    ctrl.namespaces[GOOD].flush()


def test_a_pci_device_that_goes_while_it_is_listed() -> None:
    gone = PciDevice("ffff:ff:1f.7", 0x1B36, 0x10, "Model\x1b[2J", None, None, "nvme", None, None)
    (head, row) = listing._table([gone])
    assert head.startswith("Address")
    assert r"Model\x1b[2J" in row
    assert row.endswith(
        "error: there is no PCI device ffff:ff:1f.7: `nvme-user list` shows the "
        "controllers there are"
    )
    assert json.dumps(listing._json([gone]))


# --- any page at all --------------------------------------------------------------------------


def properties(cls: type) -> list[str]:
    return [
        name for name, _ in inspect.getmembers(cls, lambda member: isinstance(member, property))
    ]


@given(st.sampled_from(STRUCT_CLASSES), st.binary(min_size=1, max_size=64))
def test_any_bytes_are_a_structure(cls: type[Struct], seed: bytes) -> None:
    struct = cls.from_bytes((seed * cls.size)[: cls.size])
    json.dumps(struct.to_dict())
    assert repr(struct)
    assert len(struct.dump()) >= sum(not field.reserved for field in cls.layout)
    for name in properties(cls):
        getattr(struct, name)  # of which some are None in some pages


@given(st.sampled_from(REGISTER_CLASSES), st.data())
def test_any_number_is_a_register(cls: type[Register], data: st.DataObject) -> None:
    register = cls(data.draw(st.integers(0, (1 << cls.width) - 1)))
    assert str(register)
    assert repr(register)
    assert register.dump() is not None
    for name in properties(cls):
        if name not in properties(int):
            getattr(register, name)


@given(st.binary(max_size=4096))
@example(b"\1\x08\0\0")
@example(b"\3\xff" + bytes(4094))
def test_any_bytes_are_namespace_descriptors(start: bytes) -> None:
    found = NamespaceIdentifiers.from_bytes(start.ljust(4096, b"\0"))
    json.dumps(found.to_dict())
    assert found.fault is None or found.fault.startswith("the namespace descriptor at byte ")


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pages_at_all(
    run: Run, soft: SoftController, seeds: list[bytes], data: st.DataObject
) -> None:
    """Whatever Identify returns: each command ends with a result or an error of ours."""

    def any_page(sqe: SQE) -> bytes:
        seed = seeds[(sqe.cdw10 ^ sqe.nsid) % len(seeds)]
        return (seed * 4096)[:4096]

    soft.identify = any_page
    command = data.draw(
        st.sampled_from([("identify",), ("id-ns", "-n", "1"), ("list-ns",), ("list-ns", "--all")])
    )
    more: list[str] = data.draw(st.sampled_from([[], ["-o", "json"]]))
    done: Any = run(command[0], "soft:", *command[1:], *more)
    assert done.exception is None or isinstance(done.exception, NvmeError | SystemExit)
    assert "Traceback" not in done.output
