"""A write-ahead log for asyncio: many tasks append, one write and one flush make a group durable.

    python examples/write_ahead_log.py [DEVICE]    # overwrites what is on DEVICE

It printed, on a busy machine with 2 CPUs:

    6400 records of 64 tasks, 100 flushes, replayed: equal
    70,999 records a second, 0.68 of the page cache's

The ratio is to the same log on a file in memory (memfd), through the page cache, by os.pwrite and
os.fsync in a thread. `soft:` is memory, too: it compares the software alone.
"""

import asyncio
import os
import struct
import sys
import time
import zlib

from page_cache import CachedFile

import pynvme_user as nvme

HEAD = struct.Struct("<IIQ")  # CRC32 of what follows, seeded with the last group's; length; number
LENGTH = struct.Struct("<I")
TASKS, RECORDS = 64, 100


class Log:
    """Records on an AsyncNamespace from LBA 0 on; the tasks of one event loop may append."""

    def __init__(self, ns, nonce=b""):
        self.ns = ns
        # A log with another nonce does not go on with what an earlier one left behind.
        self.lba = self.groups = 0
        self.crc = zlib.crc32(nonce)
        self._waiting = []
        self._writer = None

    async def append(self, record):
        """Append a record: it is durable, as are those before it, once this returns."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def _write(self):
        while self._waiting:  # what is appended meanwhile is the next group
            group, self._waiting = self._waiting, []
            try:
                await self._write_group([record for record, _ in group])
            except Exception as error:
                for _, done in group + self._waiting:
                    if not done.done():
                        done.set_exception(OSError(f"not durable: {error}"))
                self._waiting = []
                return
            for _, done in group:
                if not done.done():  # its task was cancelled
                    done.set_result(None)

    async def _write_group(self, records):
        size = self.ns.block_size
        body = b"".join(LENGTH.pack(len(record)) + record for record in records)
        data = bytearray(HEAD.pack(0, len(body), self.groups) + body)
        crc = zlib.crc32(data[4:], self.crc)
        data[:4] = crc.to_bytes(4, "little")
        blocks = -(-len(data) // size)
        await self.ns.write(self.lba, data.ljust(blocks * size, b"\0"))
        await self.ns.flush()
        self.lba, self.groups, self.crc = self.lba + blocks, self.groups + 1, crc

    async def replay(self):
        """Give each record up to the last whole group; the next append goes behind it."""
        size = self.ns.block_size
        while self.lba < self.ns.block_count:
            data = await self.ns.read(self.lba, 1)
            crc, length, number = HEAD.unpack_from(data)
            end = HEAD.size + length
            blocks = -(-end // size)
            if not length or number != self.groups or self.lba + blocks > self.ns.block_count:
                return
            if blocks > 1:
                data += await self.ns.read(self.lba + 1, blocks - 1)
            if zlib.crc32(data[4:end], self.crc) != crc:
                return
            self.lba, self.groups, self.crc = self.lba + blocks, self.groups + 1, crc
            at = HEAD.size
            while at < end:
                (length,) = LENGTH.unpack_from(data, at)
                at += LENGTH.size + length
                yield bytes(data[at - length : at])


class CachedLog(CachedFile):
    """A file whose calls are awaited: each is made in a thread."""

    async def write(self, lba, data):
        """Write blocks."""
        await asyncio.to_thread(super().write, lba, data)

    async def flush(self):
        """Make them durable."""
        await asyncio.to_thread(super().flush)


async def rate(log, records):
    """Append from many tasks; return how many records a second."""

    async def task(mine):
        for record in mine:
            await log.append(record)

    start = time.perf_counter()
    await asyncio.gather(*map(task, records))
    return TASKS * RECORDS / (time.perf_counter() - start)


async def main(device):
    """Append, replay, compare."""
    records = [[b"%d.%d" % (task, n) * 20 for n in range(RECORDS)] for task in range(TASKS)]
    nonce = os.urandom(8)
    async with nvme.aopen(device) as ctrl:
        log = Log(ctrl.namespaces[1], nonce)
        appended = await rate(log, records)
        replayed = [record async for record in Log(ctrl.namespaces[1], nonce).replay()]
    if sorted(replayed) != sorted(one for mine in records for one in mine):
        sys.exit("FAILED: what was replayed is not what was appended")
    print(f"{len(replayed)} records of {TASKS} tasks, {log.groups} flushes, replayed: equal")
    file = CachedLog(64 << 20)
    ratio = appended / await rate(Log(file), records)
    file.close()
    print(f"{appended:,.0f} records a second, {ratio:.2f} of the page cache's")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "soft:?size=64M&inline=1"))
