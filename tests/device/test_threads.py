"""Threads: the calls of a namespace from anywhere, and a queue pair to each thread."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable

import numpy as np
from workload import pattern

from pynvme_user import Controller, DmaError, Namespace

THREADS = 4


def together(work: Callable[[int], None]) -> None:
    """Run ``work(n)`` in threads that begin at the same time; raise what any of them raised."""
    start = threading.Barrier(THREADS)

    def run(n: int) -> None:
        start.wait()
        work(n)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for outcome in [pool.submit(run, n) for n in range(THREADS)]:
            outcome.result(timeout=60)


def test_one_namespace_from_many_threads(controller: Controller, ns: Namespace) -> None:
    """Single calls, short and split, from memory of both kinds, side by side."""
    area = min(2048, ns.block_count // THREADS)

    def work(n: int) -> None:
        random = np.random.default_rng(n)
        model = pattern(n, area << ns.block_shift).copy()
        ns.write(n * area, model)
        for step in range(40):
            lba = int(random.integers(0, area))
            blocks = int(random.integers(1, area - lba + 1))
            part = model[lba << ns.block_shift : (lba + blocks) << ns.block_shift]
            if step % 2:
                part[:] = pattern(step, len(part))
                ns.write(n * area + lba, part)
            else:
                buffer = controller.alloc(len(part)) if step % 4 else bytearray(len(part))
                ns.read_into(n * area + lba, buffer)
                assert bytes(buffer) == part.tobytes()
        assert ns.read(n * area, area) == model.tobytes()
        ns.flush()

    together(work)


def test_a_queue_pair_for_each_thread(controller: Controller, ns: Namespace) -> None:
    area = min(512, ns.block_count // THREADS)

    def work(n: int) -> None:
        lbas = n * area + np.arange(area)
        for turn in range(6):
            with controller.queue_pair(7 + n) as qp:
                buffer = controller.alloc(area << ns.block_shift)
                buffer[:] = pattern(n * 100 + turn, len(buffer))
                qp.write_many(ns, np.random.default_rng(turn).permutation(lbas), 1, buffer).check()
                qp.write_many(ns, lbas, 1, buffer).check()
                back = controller.alloc(len(buffer))
                qp.read_many(ns, lbas, 1, back).check()
                assert np.array_equal(back, buffer)

    together(work)


def test_allocation_and_admin_from_many_threads(controller: Controller) -> None:
    """No two buffers share a byte, whoever asks; pages come from the right command."""

    def work(n: int) -> None:
        random = np.random.default_rng(n)
        kept = []
        for step in range(150):
            buffer = controller.alloc(int(random.integers(1, 100_000)))
            assert not buffer.any()
            buffer[:] = mark = (n * 50 + step) % 255 + 1
            kept.append((mark, buffer))
            if len(kept) > 10:
                mark, buffer = kept.pop(int(random.integers(0, 10)))
                assert (buffer == mark).all()
            if not step % 30:
                assert controller.identify_page(1) == bytes(controller.identify)

    together(work)


def test_no_memory_left_is_an_error_for_one_only(controller: Controller, ns: Namespace) -> None:
    try:
        buffer = controller.alloc(1 << 50)
    except DmaError:
        buffer = None
    assert buffer is None
    ns.read(0, 1)
