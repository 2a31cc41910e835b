"""DmaBuffer.page_lock: what is said to CUDA, by a stand-in for torch. No GPU runs this."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import pynvme_user as nvme


@pytest.fixture
def ctrl() -> Iterator[nvme.Controller]:
    with nvme.open("soft:?size=1M&inline=1") as ctrl:
        yield ctrl


class Cudart:
    """As torch.cuda.cudart(): each call returns an error, 0 for none."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.error = 0

    def cudaHostRegister(self, address: int, length: int, flags: int) -> int:
        assert not flags
        if not self.error:
            assert address not in self.registered
            self.registered[address] = length
        return self.error

    def cudaHostUnregister(self, address: int) -> int:
        del self.registered[address]
        return 0


@pytest.fixture
def cudart(monkeypatch: pytest.MonkeyPatch) -> Cudart:
    cudart = Cudart()
    cuda = SimpleNamespace(is_available=lambda: True, cudart=lambda: cudart)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    return cudart


def test_once_for_all_views_until_the_memory_goes_back(
    ctrl: nvme.Controller, cudart: Cudart
) -> None:
    buffer = ctrl.alloc(8192)
    address = buffer.__array_interface__["data"][0]
    assert buffer[4096:].page_lock()
    assert buffer.page_lock()
    assert cudart.registered == {address: 8192}
    view = memoryview(buffer)
    del buffer
    assert cudart.registered
    del view
    assert cudart.registered == {}


def test_streams_and_tensors_have_such_memory(ctrl: nvme.Controller, cudart: Cudart) -> None:
    ns = ctrl.namespaces[1]
    chunks = ns.stream(0, 64, chunk=4096, window=16384)
    next(chunks)
    assert list(cudart.registered.values()) == [16384]
    del chunks
    ns.write(0, (2).to_bytes(8, "little") + b"{}".ljust(ns.block_size - 8, b"\0"))
    assert ns.as_tensors().read() == {}


def test_what_cuda_refuses_is_ordinary_memory(ctrl: nvme.Controller, cudart: Cudart) -> None:
    cudart.error = 2
    assert not ctrl.alloc(4096).page_lock()
    assert len(list(ctrl.namespaces[1].stream(0, 64, chunk=4096, window=16384))) == 8


def test_without_a_gpu(ctrl: nvme.Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not ctrl.alloc(4096).page_lock()
    cuda = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert not ctrl.alloc(4096).page_lock()
    assert not ctrl.alloc(4096).copy().page_lock()
