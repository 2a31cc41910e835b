"""asyncio: many in flight, errors, cancellation, resets and the end, on the software controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import pytest

import pynvme_user as nvme
from pynvme_user.testing import SoftDevice, faults

NAMES = ["soft:?size=16M", "soft:?size=16M&inline=1", "soft:?size=16M&interrupts=msix"]


def run(
    main: Callable[[nvme.AsyncController], Coroutine[Any, Any, None]],
    name: Any = NAMES[0],
    **options: Any,
) -> None:
    async def whole() -> None:
        async with nvme.aopen(name, **options) as ctrl:
            await main(ctrl)

    asyncio.run(whole())


@pytest.mark.parametrize("name", NAMES)
def test_any_length_of_any_memory(name: str) -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        assert (ns.nsid, ns.block_size) == (1, ns.sync.block_size)
        size = ns.block_size
        for length in (size, 3 * size, 1 << 20, (3 << 20) + size):
            data = os.urandom(length)
            await ns.write(5, data)
            assert await ns.read(5, length // size) == data
            await ns.compare(5, data)
            buffer = ctrl.alloc(length)
            await ns.read_into(5, buffer)
            assert bytes(buffer) == data
            buffer[:] = 7
            await ns.write_from(6, buffer)
            assert set(await ns.read(6, length // size)) == {7}
        await ns.write_zeroes(6, 2)
        assert not any(await ns.read(6, 2))
        await ns.deallocate([(6, 2), (9, 1)])
        await ns.flush()

    run(main, name)


@pytest.mark.parametrize("name", NAMES)
def test_more_in_flight_than_the_queue_has_room_for(name: str) -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        buffers = [ctrl.alloc(ns.block_size) for _ in range(200)]
        for at, buffer in enumerate(buffers):
            buffer[:] = at
        await asyncio.gather(*(ns.write_from(at, buffers[at]) for at in range(200)))
        read = await asyncio.gather(*(ns.read(at, 1) for at in range(200)))
        assert [set(data) for data in read] == [{at} for at in range(200)]

    run(main, name, depth=4)


def test_what_waits_is_not_walked_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn hands over what there may be room for, however many wait."""
    given: list[int] = []
    submit = nvme.QueuePair.submit_many

    def counted(pair: nvme.QueuePair, *args: Any, **named: Any) -> int:
        given.append(len(named["tags"]))
        return submit(pair, *args, **named)

    monkeypatch.setattr(nvme.QueuePair, "submit_many", counted)

    async def main() -> None:
        async with nvme.aopen("soft:?inline=1&size=1M", depth=32) as ctrl:
            ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
            await asyncio.gather(*[ns.read_into(lba % 2048, buffer) for lba in range(5000)])

    asyncio.run(main())
    assert max(given) <= 32
    assert sum(given) == 5000


def test_vectors() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(64 * ns.block_size)
        buffer[:] = np.repeat(np.arange(64, dtype=np.uint8), ns.block_size)
        lbas = np.random.default_rng(1).permutation(64)
        (await ns.write_many(lbas, 1, buffer)).check()
        buffer[:] = 0
        (await ns.read_many(np.arange(64), 1, buffer)).check()
        found = buffer.reshape(64, -1)[:, 0]
        assert [int(found[lba]) for lba in lbas] == list(range(64))

    run(main)


@pytest.mark.parametrize("chunk", [4096, 1 << 18])
def test_a_stream(chunk: int) -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        data = os.urandom((1 << 20) + 3 * ns.block_size)
        await ns.write(2, data)
        blocks = len(data) // ns.block_size
        got = bytearray()
        async for part in ns.stream(2, blocks, chunk=chunk, window=4 * chunk):
            got += part.tobytes()
        assert got == data
        async for part in ns.stream(2, blocks, chunk=chunk):
            assert bytes(part) == data[: part.nbytes]
            break
        with pytest.raises(ValueError, match="whole blocks"):
            await anext(ns.stream(chunk=100))
        with pytest.raises(ValueError, match="not all in namespace"):
            await anext(ns.stream(0, ns.block_count + 1))

    run(main)


def test_errors() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        one, many = ctrl.alloc(ns.block_size), ctrl.alloc(4 << 20)
        for call in (
            lambda: ns.read(ns.block_count, 1),
            lambda: ns.read_into(ns.block_count, one),
            lambda: ns.read_into(-1, one),
            lambda: ns.read_into(0, bytes(ns.block_size)),
            lambda: ns.read_into(0, bytearray(7)),
            lambda: ns.write(0, b""),
        ):
            with pytest.raises(ValueError, match=r"not|read-only"):
                await call()
        device.order(faults.status(nvme.MediaStatus.UNRECOVERED_READ_ERROR), lbas=range(9, 10))
        for length in (ns.block_size, len(many)):
            with pytest.raises(nvme.NvmeStatusError, match=r"(?i)unrecovered") as raised:
                await ns.read_into(9, many[:length])
            assert raised.value.status.code() is nvme.MediaStatus.UNRECOVERED_READ_ERROR
        with pytest.raises(nvme.NvmeStatusError):
            await ns.read(0, 16384 // ns.block_size * 64)
        await ns.read(10, 1)

    device = SoftDevice("?size=16M")
    run(main, device)


def test_what_is_cancelled_has_its_buffer_back() -> None:
    """100,000 requests, about half of them cancelled at any time: no wrong buffer, none lost."""
    rounds, tasks = 500, 200
    rng = random.Random(1)

    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        size = ns.block_size
        for lba in range(256):
            await ns.write(lba, bytes([lba]) * size)
        buffers = ctrl.alloc(tasks * size).reshape(tasks, size)
        buffers[:] = 0xEE
        ended = {"cancelled": 0, "done": 0}

        async def request(index: int, lba: int) -> None:
            buffer = buffers[index]
            try:
                await ns.read_into(lba, buffer)
            except asyncio.CancelledError:
                buffer[:] = 0xEE  # from now on it is ours
                ended["cancelled"] += 1
                raise
            assert buffer[0] == buffer[-1] == lba
            buffer[:] = 0xEE
            ended["done"] += 1

        for _ in range(rounds):
            flying = [
                asyncio.ensure_future(request(index, rng.randrange(256))) for index in range(tasks)
            ]
            for _turn in range(3):
                await asyncio.sleep(0)
                for index in rng.sample(range(tasks), 40):
                    flying[index].cancel()
            found = await asyncio.gather(*flying, return_exceptions=True)
            assert all(one is None or isinstance(one, asyncio.CancelledError) for one in found)
            assert (buffers == 0xEE).all()
        assert ended["cancelled"] > rounds
        assert ended["done"] > rounds
        # Those that were cancelled before their first step never asked for anything.
        assert ctrl._queue.pair.outstanding == 0

    run(main, "soft:?size=1M", depth=64)


def test_a_cancelled_task_waits_for_its_buffer() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        rule = device.order(faults.keep(), opc=nvme.NvmOpcode.READ)
        buffer = ctrl.alloc(ns.block_size)

        async def read() -> None:
            await ns.read_into(0, buffer)

        task = asyncio.ensure_future(read())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()  # the device may still write
        with pytest.raises(asyncio.CancelledError):
            await task  # once the command was aborted
        rule.remove()
        await ns.read(0, 1)

    device = SoftDevice("?size=1M")
    run(main, device, timeout=0.3)


def test_a_command_that_is_never_completed() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        device.order(faults.keep(), opc=nvme.NvmOpcode.READ, lbas=range(3, 4))
        found = await asyncio.gather(*(ns.read(lba, 1) for lba in range(8)), return_exceptions=True)
        assert isinstance(found[3], nvme.NvmeTimeoutError)
        assert all(isinstance(one, bytearray) for at, one in enumerate(found) if at != 3)

    device = SoftDevice("?size=1M")
    run(main, device, timeout=0.3)


def test_a_reset_under_way() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        rule = device.order(faults.keep(), opc=nvme.NvmOpcode.READ)
        flying = [asyncio.ensure_future(ns.read(lba, 1)) for lba in range(8)]
        await asyncio.sleep(0.02)
        await ctrl.run(ctrl.sync.reset)
        rule.remove()
        for one in await asyncio.gather(*flying, return_exceptions=True):
            assert isinstance(one, nvme.NvmeStatusError)
            assert one.status.code() is nvme.PathStatus.ABORTED_BY_HOST
        assert await ns.read(0, 1) == bytes(ns.block_size)  # identified again

    device = SoftDevice("?size=1M")
    run(main, device)


def test_the_end_waits_for_what_is_in_flight() -> None:
    flying: list[Awaitable[Any]] = []

    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        flying.extend(asyncio.ensure_future(ns.read_into(0, ctrl.alloc(4096))) for _ in range(99))
        await asyncio.sleep(0)

    async def whole() -> None:
        async with nvme.aopen("soft:?size=1M", depth=4) as ctrl:
            await main(ctrl)
        assert all(one.done() and one.exception() is None for one in flying)  # type: ignore[attr-defined]
        with pytest.raises(nvme.ClosedError):
            await ctrl.namespaces[1].read(0, 1)

    asyncio.run(whole())


def test_a_controller_that_is_closed_meanwhile() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        ns = ctrl.namespaces[1]
        device.order(faults.keep(), opc=nvme.NvmOpcode.READ)
        flying = [asyncio.ensure_future(ns.read(lba, 1)) for lba in range(8)]
        await asyncio.sleep(0.02)
        await ctrl.run(ctrl.sync.close)
        for one in await asyncio.gather(*flying, return_exceptions=True):
            assert isinstance(one, nvme.NvmeError)

    device = SoftDevice("?size=1M")
    run(main, device, timeout=1)


def test_metadata_goes_with_it() -> None:
    async def main(ctrl: nvme.AsyncController) -> None:
        formats = ctrl.namespaces[1].sync.identify.lbafs
        index = next(at for at, one in enumerate(formats) if one.ms == 8)
        await ctrl.run(ctrl.sync.format, 1, index)
        ns = ctrl.namespaces[1]
        assert ns.sync.metadata_size == 8
        data = os.urandom(4 * ns.block_size)
        await ns.write(3, data)
        assert await ns.read(3, 4) == data
        await ns.compare(3, data)

    run(main, "soft:?commands=all&size=1M")


def test_an_open_that_fails() -> None:
    async def main() -> None:
        with pytest.raises(nvme.DeviceNameError):
            async with nvme.aopen("nonsense"):
                raise AssertionError

    asyncio.run(main())


def test_another_event_loop() -> None:
    """It is refused before anything is submitted: what ends in an error has not been written."""

    async def main() -> None:
        async with nvme.aopen("soft:?inline=1&size=1M") as ctrl:
            ns, buffer = ctrl.namespaces[1], ctrl.alloc(512)
            buffer[:] = 7

            async def write(data: Any) -> None:
                await ns.write_from(3, data)

            for data in (buffer, bytes(512 * [7])):
                with pytest.raises(RuntimeError, match="another event loop: call from there"):
                    await asyncio.to_thread(asyncio.run, write(data))
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(ns.flush)
            assert not any(await ns.read(3, 1))

    asyncio.run(main())


def test_what_only_the_other_has() -> None:
    """The error says where it is."""

    async def main() -> None:
        async with nvme.aopen("soft:?inline=1&size=1M") as ctrl:
            for of, name in ((ctrl, "identify"), (ctrl, "smart"), (ctrl.namespaces[1], "identify")):
                with pytest.raises(AttributeError, match=f"has no {name}: use its sync.{name}"):
                    getattr(of, name)
            with pytest.raises(AttributeError, match=r"AsyncController has no identity$"):
                ctrl.identity  # noqa: B018
            await ctrl.namespaces[1].deallocate(zip([0, 4], [1, 1], strict=True))

    asyncio.run(main())


def test_a_queue_pair_in_select() -> None:
    """fileno() is readable once a command has completed."""
    import select

    with nvme.open("soft:?size=1M&interrupts=msix") as ctrl, ctrl.queue_pair() as pair:
        ns = ctrl.namespaces[1]
        buffer = ctrl.alloc(ns.block_size)
        for _ in range(3):
            pair.submit_read(ns, 0, 1, buffer)
            pair.ring()
            readable, _, _ = select.select([pair], [], [], 30)
            assert readable == [pair]
            os.read(pair.fileno(), 8)
            assert [done.status for done in pair.wait(30)] == [0]
        with contextlib.suppress(BlockingIOError):
            os.read(pair.fileno(), 8)
    with (
        nvme.open("soft:?size=1M") as ctrl,
        ctrl.queue_pair() as pair,
        pytest.raises(nvme.NvmeError, match="no interrupt"),
    ):
        pair.fileno()
