"""What the API gives and raises: pickled, copied, compared, printed; and exported by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from soft_controller import SoftController
from spec_classes import REGISTER_CLASSES, STRUCT_CLASSES

import pynvme_user as nvme
from pynvme_user import Controller, errors
from pynvme_user.access.vfio_user_socket import RefusedError
from pynvme_user.driver.completion import Completion, VectorResult
from pynvme_user.qemu.guest.errors import GuestLostError
from pynvme_user.spec.status import GenericStatus, Status
from pynvme_user.transport.pcie import PcieTransport
from pynvme_user.workload.verify_state import StateFileError

COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(
        lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ),
]
_MADE = {
    errors.NvmeStatusError: (Status.of(GenericStatus.LBA_OUT_OF_RANGE), "Read (opcode 0x02)"),
    errors.DeviceBusyError: ("x is in use by process 7", 7),
    errors.ForkedError: ("qemu:", 7),
    errors.ProtectionError: (3, "guard", 1, 2),
    RefusedError: ("refused", 22),
}


def every_error(kind: type[errors.NvmeError] = errors.NvmeError) -> Iterator[errors.NvmeError]:
    """One of each class of ours that has been imported here."""
    if kind.__module__.startswith("pynvme_user."):
        yield kind(*_MADE.get(kind, ("what happened: the remedy",)))
    for child in kind.__subclasses__():
        yield from every_error(child)


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", COPIES)
def test_errors(error: errors.NvmeError, again: Callable[[Any], Any]) -> None:
    error.add_note("a note")
    other = again(error)
    assert type(other) is type(error)
    assert other == error
    assert hash(other) == hash(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert vars(other) == vars(error)
    assert error != type(error)(*_MADE.get(type(error), ("something else",)))


def test_the_errors_above_are_all() -> None:
    kinds = {type(error) for error in every_error()}
    named = {value for value in vars(errors).values() if isinstance(value, type)}
    assert {kind for kind in named if issubclass(kind, errors.NvmeError)} <= kinds
    assert {RefusedError, StateFileError} <= kinds


@pytest.mark.parametrize("again", COPIES)
def test_what_a_status_error_tells(again: Callable[[Any], Any]) -> None:
    status = Status.of(GenericStatus.LBA_OUT_OF_RANGE).replace(dnr=1)
    error = again(errors.NvmeStatusError(status, "Read"))
    assert (error.status, error.command) == (status, "Read")
    assert (error.sct, error.sc, error.dnr, error.more) == (0, 0x80, True, False)
    assert error.name == "LBA_OUT_OF_RANGE"
    assert error != errors.NvmeStatusError(status, "Write")
    lost = again(GuestLostError("m", console="c\n", output="o"))
    assert (str(lost), lost.console, lost.output) == ("m\n  console: c", "c\n", "o")


@pytest.mark.parametrize("again", COPIES)
def test_every_structure_and_register(again: Callable[[Any], Any]) -> None:
    random = np.random.default_rng(1)
    assert len(STRUCT_CLASSES) > 5
    assert len(REGISTER_CLASSES) > 20
    values: list[Any] = [kind.from_bytes(random.bytes(kind.size)) for kind in STRUCT_CLASSES]
    values += [kind(int.from_bytes(random.bytes(kind.width // 8))) for kind in REGISTER_CLASSES]
    for value in values:
        other = again(value)
        assert type(other) is type(value)
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)
        assert str(other) == str(value)
        assert other.dump() == value.dump()


@pytest.mark.parametrize("again", COPIES)
def test_outcomes(again: Callable[[Any], Any]) -> None:
    status = Status.of(GenericStatus.INTERNAL_ERROR)
    done = Completion(3, status, 100, 7, 0)
    assert again(done) == done
    assert type(again(done).status) is Status
    identifiers = nvme.NamespaceIdentifiers(eui64=b"12345678", csi=0)
    assert again(identifiers) == identifiers

    result = VectorResult(np.uint16([0, int(status)]), np.uint64([10, 20]), "Read", failures=1)
    other = again(result)
    assert other == result
    assert list(other.failed) == [1]
    assert repr(other) == str(other) == "<VectorResult of 2 I/Os (Read): 1 failed>"
    with pytest.raises(nvme.NvmeStatusError, match="Read, I/O 1 failed"):
        other.check()
    assert other != VectorResult(np.uint16([0]), np.uint64([10]), "Read", failures=0)
    assert result != "another type"
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)


def test_short_texts(ctrl: Controller) -> None:
    assert repr(ctrl) == "<Controller soft>"
    assert repr(ctrl.registers) == "<Registers of soft>"
    with ctrl.queue_pair(4) as qp:
        assert repr(qp) == f"<QueuePair {qp.qid} of soft: 0 of 4 outstanding>"
    assert repr(qp) == f"<QueuePair {qp.qid} of soft: closed>"
    ctrl.close()
    assert repr(ctrl) == "<Controller soft, closed>"


def test_the_text_of_one_that_is_gone(ctrl: Controller, soft: SoftController) -> None:
    soft.gone = True
    assert repr(ctrl.registers) == "<Registers of soft>"
    with pytest.raises(nvme.DeviceRemovedError):
        _ = ctrl.registers.cap
    ctrl.detach()
    assert repr(ctrl) == "<Controller soft, gone>"


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", nvme.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(nvme, name) is not None
    assert name in dir(nvme)


def test_the_version() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{nvme.__version__}"' in project


def test_no_such_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nvme.nonsense  # type: ignore[attr-defined]


# --- wrong types ---------------------------------------------------------------------------------

DATA = b"x" * 512


def another() -> PcieTransport:
    return PcieTransport(SoftController())


WRONG: dict[str, Callable[[Controller], object]] = {
    "a timeout is a number of seconds, not '5'": lambda _: Controller(another(), timeout="5"),  # type: ignore[arg-type]
    "a timeout is a positive number": lambda _: Controller(another(), timeout=float("nan")),
    "a year of them, not inf": lambda _: Controller(another(), timeout=float("inf")),
    "spin is a number of seconds, not 'x'": lambda _: Controller(another(), spin="x"),  # type: ignore[arg-type]
    "spin is a number of seconds from 0": lambda _: Controller(another(), spin=float("nan")),
    "length of a buffer is a whole number, not '1M'": lambda c: c.alloc("1M"),  # type: ignore[arg-type]
    "length of a buffer is a whole number, not 1.5": lambda c: c.alloc(1.5),  # type: ignore[arg-type]
    "a node is a whole number, not '0'": lambda c: c.alloc(1, node="0"),  # type: ignore[arg-type]
    "depth of a queue pair is a whole number, not '3'": lambda c: c.queue_pair("3"),  # type: ignore[arg-type]
    "an LBA is a whole number, not '0'": lambda c: c.namespaces[1].write("0", DATA),  # type: ignore[arg-type]
    "an LBA is a whole number, not 0.5": lambda c: c.namespaces[1].read_into(0.5, c.alloc(512)),  # type: ignore[arg-type]
    "of blocks is a whole number, not 1.5": lambda c: c.namespaces[1].read(0, 1.5),  # type: ignore[arg-type]
    "not str: encode it": lambda c: c.namespaces[1].write(0, "text"),  # type: ignore[arg-type]
    "not NoneType": lambda c: c.namespaces[1].write(0, None),  # type: ignore[arg-type]
    "a buffer from alloc() or the like, not list": lambda c: c.map([1]),  # type: ignore[arg-type]
    "the memoryview has gaps": lambda c: c.namespaces[1].write(0, memoryview(DATA * 2)[::2]),
    "namespace '1' is not active": lambda c: c.namespaces["1"],  # type: ignore[index]
    "SQE.cdw10 is a whole number, not 1.5": lambda c: c.admin(6, cdw10=1.5),  # type: ignore[typeddict-item]
    "SQE.opc is a whole number, not '6'": lambda c: c.admin("6"),  # type: ignore[arg-type]
    "not reach a bytearray: use a buffer from alloc()": lambda c: c.queue_pair(4).submit_read(
        c.namespaces[1],
        0,
        1,
        bytearray(512),  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize(("said", "call"), WRONG.items(), ids=WRONG)
def test_a_wrong_type_gets_a_sentence(
    ctrl: Controller, said: str, call: Callable[[Controller], object]
) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        call(ctrl)
    assert said in str(caught.value)


def test_whole_numbers_of_numpy_are_whole_numbers(ctrl: Controller) -> None:
    assert ctrl.alloc(np.int64(10)).nbytes == 10  # type: ignore[arg-type]
    with ctrl.queue_pair(np.uint8(3)) as qp:  # type: ignore[arg-type]
        assert qp.depth == 3
    assert len(ctrl.namespaces[1].read(np.uint64(0), np.int32(2))) == 1024  # type: ignore[arg-type]
