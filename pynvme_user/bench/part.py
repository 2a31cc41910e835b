"""One part of a run: one clone of a job on one namespace, with its thread and queue pair."""

from __future__ import annotations

import os
import queue
import resource
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.data import fill
from pynvme_user.bench.flow import Flow
from pynvme_user.bench.job import Direction, Job, JobError
from pynvme_user.bench.limits import Limits
from pynvme_user.bench.result import (
    SAMPLE,
    Costs,
    CpuUsage,
    Depths,
    DirectionResult,
    Histogram,
    IntervalHistogram,
    JobResult,
)
from pynvme_user.bench.signals import Signals
from pynvme_user.bench.target import SPIN, Target
from pynvme_user.bench.verify import Verification
from pynvme_user.bench.zoned import ZonedPlan, ZoneMap
from pynvme_user.completion import HOST_ABORTED
from pynvme_user.dma import DmaBuffer
from pynvme_user.errors import NvmeError
from pynvme_user.generator import Generator
from pynvme_user.numa import Placement, cpus_of, format_list, near_cpus
from pynvme_user.queue import QueuePair
from pynvme_user.ring import tick_rate
from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.spec.nvm import DatasetManagementCdw11, WriteCdw12
from pynvme_user.spec.status import Status
from pynvme_user.workload import FLUSH, Pace, Rate, Workload

#: Samples are taken so often; divides the 500 ms that fio averages over.
SAMPLE_SECONDS = 0.1
#: Histograms for the report and the HdrHistogram log are cut so often.
HISTOGRAM_SECONDS = 1.0
_NS = 1_000_000_000
#: Entries of the log of single I/Os that C fills before Python takes them.
_RECORDS = 1 << 16
#: Sleeping is good to this; the rest of a pause is spun away.
_SLEEP_SLACK = 0.002
_VERIFYING, _DRAINING = "verify", "drain"
#: How long a part with a flow goes on before it looks at the others.
_FLOW_SLICE = 0.001
#: So long a part that runs is waited for when it is asked for results.
_ANSWER_SECONDS = 2.0


class Part:
    """Runs in its own thread; what it came to is read once that has ended.

    Making one resolves the job's sizes for the namespace: raises JobError where they don't fit.
    """

    def __init__(
        self,
        job: Job,
        target: Target,
        signals: Signals,
        *,
        flow: Flow | None = None,
        histograms: bool,
        io_log: bool,
    ) -> None:
        self.job = job
        self.target = target
        self.phase = "ramp" if job.ramp_time else "run"
        self.error: Exception | None = None
        #: Why it failed, if it did by something else than an error of the device.
        self.notes: list[str] = []
        self.ended = threading.Event()  # its thread has nothing more to do
        self.began = 0.0  # time.monotonic() of the measured part; 0: not yet
        self._finished = 0.0
        self._signals = signals
        self._flow = flow
        self._histograms = histograms or job.write_hist_log is not None
        logs = (job.write_bw_log, job.write_lat_log, job.write_iops_log)
        self._records = _RECORDS if io_log or (any(logs) and not job.log_avg_msec) else 0
        self._limits = Limits(job)
        self._samples: tuple[list[tuple[int, ...]], ...] = ([], [], [])
        self._totals = np.zeros((3, 5), np.uint64)
        self._intervals: tuple[list[IntervalHistogram], ...] = ([], [], [])
        self._cut_at = 0.0
        self._cut: dict[str, npt.NDArray[np.uint64]] | None = None
        self._log: list[npt.NDArray[np.void]] = []
        self._verification: Verification | None = None
        self._workload: Workload | None = None
        self._cpu = CpuUsage()
        self._doorbells = 0, 0
        #: What is asked for while it runs: when the run began, and the answer.
        self._asked: float | None = None
        self._answers: queue.SimpleQueue[JobResult] = queue.SimpleQueue()
        zone_bytes = target.zone_blocks << target.ns.block_shift
        self.offset, self.length = job.region(target.capacity, zone_bytes)
        if job.zbd:
            self._check_zones(zone_bytes)
            end = (self.offset + self.length) // zone_bytes * zone_bytes
            self.offset = -(-self.offset // zone_bytes) * zone_bytes
            self.length = end - self.offset
            if self.length <= 0:
                raise JobError(f"job {job.name!r}: its range has no whole zone: give more size")
        self._plan: ZonedPlan | None = None
        self._amount = self.length  # in one loop
        if job.io_size is not None:
            self._amount = job.amount(target.capacity, zone_size=zone_bytes)
        self._check_sizes()

    def _check_zones(self, zone_bytes: int) -> None:
        job, name = self.job, self.target.device.name
        if not zone_bytes:
            raise JobError(
                f"job {job.name!r}: {name} has no zones: leave zonemode out, or name a zoned "
                "namespace by nsid"
            )
        if job.zone_bytes not in (0, zone_bytes):
            raise JobError(
                f"job {job.name!r}: the zones of {name} have {zone_bytes} bytes, not "
                f"zonesize={job.zone_bytes}: leave it out"
            )

    def obey_zones(self, zones: ZoneMap, writers: int) -> None:
        """Write and read as the zones have it; ``writers`` parts share what may be open."""
        job, target = self.job, self.target
        capacity = min((zone.end - zone.start for zone in zones.zones), default=0)
        if job.largest_block > capacity << target.ns.block_shift:
            raise JobError(
                f"job {job.name!r}: a zone holds {capacity << target.ns.block_shift} bytes, not a "
                f"block of {job.largest_block}: use a smaller bs"
            )
        shared = [most // writers for most in (job.max_open_zones, target.most_open) if most]
        limits = [max(1, most) for most in (*shared, job.job_max_open_zones) if most or shared]
        self._plan = ZonedPlan(
            zones,
            self._generator(),
            number=job.number,
            first_lba=self.offset >> target.ns.block_shift,
            blocks=self.length >> target.ns.block_shift,
            most_open=min(limits, default=len(zones.zones)),
            random=job.random,
            beyond=job.read_beyond_wp,
            fresh=job.verify is not None and job.destructive,
        )

    @property
    def _appends(self) -> bool:
        """Whether zones are written by Zone Append: commands of a queue may overtake each other.

        Where data goes is then the device's to say, which verification has to know before.
        """
        job = self.job
        return job.rw == "zone-append" or (job.zbd and job.iodepth > 1 and job.verify is None)

    def _check_sizes(self) -> None:
        job, target = self.job, self.target
        block_size = target.ns.block_size
        sizes = [self.offset]
        for direction in job.directions:
            of = job.block_sizes[direction]
            sizes += [of.low, of.high, *(size for size, _ in of.split)]
        what = "bs or offset"
        if job.skip or job.zones:
            what = "bs, offset, the number in rw= or the zones"
            sizes.append(abs(job.skip))
        if job.zones is not None:
            sizes += [job.zones.size, job.zones.range, job.zones.skip]
        for size in sizes:
            if size % block_size:
                raise JobError(
                    f"job {job.name!r}: {size} bytes are not whole blocks of {block_size}, which "
                    f"{target.device.name} has: change {what}"
                )
        if job.zones is not None and min(job.zones.range, self.length) < job.largest_block:
            raise JobError(
                f"job {job.name!r}: a zone of {min(job.zones.range, self.length)} bytes holds no "
                f"block of {job.largest_block}: give more zonerange or size"
            )
        most = target.controller.max_transfer
        if job.directions != {Direction.TRIM} and job.largest_block > most:
            raise JobError(
                f"job {job.name!r}: {target.device.name} takes up to {most} bytes in one command, "
                f"not {job.largest_block}: use a smaller bs"
            )
        if job.rw == "zone-append" and not target.zone_blocks:
            raise JobError(f"job {job.name!r}: {target.device.name} is not zoned: use rw=write")

    # --- the thread ---------------------------------------------------------------------------

    def run(self, ready: threading.Barrier) -> None:
        """Set up, meet the others at the barrier, run to the end. Raises nothing."""
        try:
            self._pin()
            depth = min(self.job.iodepth, self.target.controller.cap.mqes)
            if depth < self.job.iodepth:
                self.notes.append(
                    f"iodepth={self.job.iodepth} is more than {self.target.device.name} has room "
                    f"for: it ran with {depth}"
                )
            spin, node = SPIN[self.job.mode], self._placement
            with self.target.controller.queue_pair(depth, spin=spin, node=node) as pair:
                buffer = self.target.controller.alloc(depth * self._piece, node=node)
                fill(buffer, self.job)
                self._set_up(pair, buffer)
                if self._plan is not None:
                    self._plan.begin()
                ready.wait()
                self._run(pair, buffer)
        except threading.BrokenBarrierError:
            pass  # another part could not be set up, and says why
        except Exception as error:
            self.error = error
            ready.abort()
        finally:
            self._finished = self._finished or time.monotonic()
            self._leave_flow()
            if self._plan is not None:
                self._plan.close()
            if self._verification is not None:
                self._verification.close()
            self.ended.set()

    @property
    def _piece(self) -> int:
        """Bytes of each command's buffer: whole pages, so that no PRP entry is wasted."""
        return max(4096, -(-self.job.largest_block // 4096) * 4096)

    def _pin(self) -> None:
        """CPUs and niceness of this thread, before its memory is touched: it is local then."""
        cpus = self._cpus()
        if cpus:
            try:
                os.sched_setaffinity(0, cpus)
            except OSError as error:
                raise JobError(
                    f"job {self.job.name!r} cannot run on cpus_allowed={format_list(cpus)}: "
                    f"{error.strerror}"
                ) from None
        if self.job.nice:
            try:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self.job.nice)
            except OSError as error:
                raise JobError(
                    f"job {self.job.name!r} cannot have nice={self.job.nice}: {error.strerror}"
                ) from None

    def _cpus(self) -> frozenset[int]:
        """CPUs that the job is to run on; none where it may run on any."""
        job, found = self.job, self.job.cpus_allowed
        if job.numa_cpu_nodes:
            of = {node: cpus_of(node) for node in job.numa_cpu_nodes}
            without = format_list(node for node, cpus in of.items() if not cpus)
            found = frozenset().union(*of.values())
            if job.cpus_allowed:
                found &= job.cpus_allowed
            if without or not found:
                nodes = format_list(job.numa_cpu_nodes)
                why = f"{without} has no CPUs" if without else "cpus_allowed has none of theirs"
                raise JobError(
                    f"job {job.name!r} cannot run on numa_cpu_nodes={nodes}: {why} "
                    "(`numactl --hardware` shows which has)"
                )
        return found

    @property
    def _placement(self) -> Placement | None:
        """Where its queue and buffers go: as the job says, or near the CPUs that it runs on."""
        return self.job.numa_mem_policy or near_cpus(os.sched_getaffinity(0))

    def _generator(self, *, reads: bool = False) -> Generator:
        """Make the job's sequence of I/Os, the same each time; ``reads`` reads what it writes."""
        job, ns = self.job, self.target.ns
        rw = {"zone-append": "write"}.get(job.rw, job.rw)
        if reads:
            rw = "randread" if job.random else "read"
        sizes = job.block_sizes
        if reads:
            sizes = (sizes[Direction.WRITE],) * 3
        return Generator(
            rw=rw,
            block_sizes=sizes,
            block_size=ns.block_size,
            size=self.length,
            offset=self.offset,
            io_size=self._amount if job.io_size is not None else None,
            number_ios=job.number_ios,
            loops=job.loops,
            time_based=job.time_based,
            rwmixread=job.rwmixread,
            norandommap=job.norandommap,
            percentage_random=job.percentage_random,
            distribution=job.random_distribution,
            seed=job.seed,
            skip=job.skip,
            run=job.run,
            run_identical=job.rw_sequencer == "identical",
            zones=job.zones,
        )

    def _set_up(self, pair: QueuePair, buffer: DmaBuffer) -> None:
        job, ns = self.job, self.target.ns
        if job.verify is not None:
            again = self._generator()
            self._verification = Verification(job, self.target, self.offset, self.length, again)
        only_reads_back = job.verify_only
        self._workload = Workload(
            self._generator(reads=only_reads_back),
            commands=_commands(job, ns.nsid, appends=self._appends),
            buffer=buffer,
            queue_depth=pair.depth,
            block_shift=ns.block_shift,
            pace=self._pace(),
            verifier=self._verification.verifier if self._verification else None,
            verify_fatal=job.verify_fatal,
            records=self._records,
        )

    def _pace(self) -> Pace:
        job = self.job
        batch = job.iodepth_batch if "iodepth_batch" in dict(job.given) else 0
        shift = self.target.ns.block_shift
        return Pace(
            submit_max=batch,
            reap_max=job.iodepth_batch_complete_max,
            reap_min=job.iodepth_batch_complete_min,
            depth_low=job.iodepth_low,
            flush_every=job.fsync,
            refill=job.refill_buffers and job.verify is None,
            think_ios=job.thinktime_blocks,
            think=job.thinktime,
            zone_blocks=self.target.zone_blocks if self._appends else 0,
            rates=tuple(  # type: ignore[arg-type]  # three, as the job's are
                Rate(ios=ios, blocks=moved / (1 << shift))
                for ios, moved in zip(job.rate_iops, job.rate, strict=True)
            ),
            poisson=job.rate_process == "poisson",
            seed=job.seed,
        )

    # --- phases -------------------------------------------------------------------------------

    def _run(self, pair: QueuePair, buffer: DmaBuffer) -> None:
        job, workload, verification = self.job, self._used_workload, self._verification
        self._wait(np.random.default_rng(job.seed).uniform(*job.startdelay))
        if self._flow is not None:
            self._flow.join(job.number, job.flow, workload.submitted)
        if job.ramp_time:
            ramp_end = self._after(job.ramp_time)
            if self._plan is not None:
                self._run_zoned(pair, buffer, ramp_end, self._plan)
            else:
                self._advance(pair, buffer, ramp_end, drain=False)
        workload.clear()
        self.phase = "run"
        self._begin_to_count(pair)
        self.began = self._cut_at = time.monotonic()
        try:
            deadline = job.runtime and self.began + job.runtime
            if verification is not None and job.verify_only and verification.takes_up:
                self.phase = _VERIFYING
                most = max(1, self._piece >> self.target.ns.block_shift)
                self._read_back(pair, buffer, verification.promised(most))
            elif verification is not None and job.verify_backlog:
                self._run_with_backlog(pair, buffer, deadline, verification)
            elif self._plan is not None:
                self._run_zoned(pair, buffer, deadline, self._plan)
            else:
                self._advance(pair, buffer, deadline)
            self._leave_flow()  # what is read back has no part in the proportion
            wrote = Direction.WRITE in job.directions and not job.verify_only
            if verification is not None and wrote and job.do_verify and self._goes_on:
                self.phase = _VERIFYING
                plan = self._plan
                written = plan.written_ios() if plan else verification.written(workload)
                self._read_back(pair, buffer, written)
            if job.end_fsync and self._goes_on:
                self.target.ns.flush()
        except NvmeError as error:
            # What was outstanding has its end: the results so far count, and this with them.
            workload.give_up(int(HOST_ABORTED))
            self.error = error
        finally:
            self._finished = time.monotonic()
            self._sample(self._finished)
            self._cut_histograms(self._finished)
            self._take_records()
            self._count(pair)

    def _begin_to_count(self, pair: QueuePair) -> None:
        self._usage = resource.getrusage(resource.RUSAGE_THREAD)
        self._bells = pair.doorbell_writes, pair.cq_doorbell_writes

    def _count(self, pair: QueuePair) -> None:
        """Tell what the thread and the queue pair have done since; in the thread itself."""
        before = self._bells
        self._cpu = _usage(self._usage, resource.getrusage(resource.RUSAGE_THREAD))
        self._doorbells = pair.doorbell_writes - before[0], pair.cq_doorbell_writes - before[1]

    def _run_zoned(
        self, pair: QueuePair, buffer: DmaBuffer, deadline: float | None, plan: ZonedPlan
    ) -> None:
        """Do what is planned for the zones, piece by piece."""
        workload, depth = self._used_workload, self._used_workload.depth
        if self.job.verify is not None:
            workload.depth = 1  # one after another, each at the write pointer
        for ios in plan.pieces():
            workload.go_through(ios)
            self._advance(pair, buffer, deadline)
            if not self._goes_on or _is_past(deadline):
                plan.cut(workload.list_done)
                break
        workload.depth = depth

    def _run_with_backlog(
        self,
        pair: QueuePair,
        buffer: DmaBuffer,
        deadline: float | None,
        verification: Verification,
    ) -> None:
        """Read back after each ``verify_backlog`` writes, in between."""
        workload = self._used_workload
        at_end = False
        while not at_end and self._goes_on and not _is_past(deadline):
            workload.pause_after(self.job.verify_backlog)
            self._advance(pair, buffer, deadline)
            at_end = workload.exhausted
            if self._goes_on:
                workload.pause_after(None)
                self._read_back(pair, buffer, verification.written(workload))
                workload.resume()

    def _read_back(
        self, pair: QueuePair, buffer: DmaBuffer, pieces: Iterable[npt.NDArray[np.void]]
    ) -> None:
        for ios in pieces:
            self._used_workload.go_through(ios)
            self._advance(pair, buffer, None)
            if not self._goes_on:
                return

    @property
    def _used_workload(self) -> Workload:
        assert self._workload is not None, "set up before it is run"
        return self._workload

    @property
    def _goes_on(self) -> bool:
        """Whether nothing has asked this part to end."""
        return not (
            self._signals.interrupted
            or self.job.number in self._signals.ended
            or self._limits.failure
            or self._gives_up
        )

    _gives_up = False

    def _fails(self) -> bool:
        """Whether I/Os failed in a way that the job does not go on from."""
        results, allowed = self._used_workload.results, self.job.continue_on_error
        for direction, failed in enumerate(results["failed"].tolist()):
            kind = "read" if direction == Direction.READ else "write"
            if failed and kind not in allowed:
                return True
        return False

    def _advance(
        self, pair: QueuePair, buffer: DmaBuffer, deadline: float | None, *, drain: bool = True
    ) -> None:
        """Run the workload to its end, the deadline or a reason to stop, and drain it.

        Without ``drain`` the next call goes on after the deadline.
        """
        job, workload = self.job, self._used_workload
        next_sample = time.monotonic() + SAMPLE_SECONDS
        while True:
            now = time.monotonic()
            until = next_sample if deadline is None else min(next_sample, deadline)
            if self._flow is not None:
                until = min(until, now + _FLOW_SLICE)
            ended = pair.advance(workload, max(0, int((until - now) * _NS)), keep=buffer)
            now = time.monotonic()
            self._take_records()
            if now >= next_sample and self.began:
                self._sample(now)
                self._look(now)
            if now >= next_sample:
                next_sample += SAMPLE_SECONDS * (1 + (now - next_sample) // SAMPLE_SECONDS)
            if self._asked is not None and self.began:
                self._answer(pair, self._asked)
            if ended:
                return
            if self._fails():
                self._gives_up = True
            if self._flow is not None and self._flow.is_ahead(job.number, workload.submitted):
                self._drain(pair, buffer)
                self._wait_for_others(self._flow, deadline)
                next_sample = time.monotonic()
                if workload.exhausted:
                    return
            if _is_past(deadline) and self._goes_on and not drain:
                return
            if _is_past(deadline) or not self._goes_on:
                if self._signals.interrupted:
                    self.phase = _DRAINING
                workload.stop()
                deadline = None  # what is outstanding takes the time that it takes
            else:
                self._sleep(min(workload.idle_seconds, next_sample - now) - _SLEEP_SLACK)

    def _drain(self, pair: QueuePair, buffer: DmaBuffer) -> None:
        """Let what is outstanding end, so that no pause counts as its latency."""
        workload = self._used_workload
        workload.stop()
        while not pair.advance(workload, int(SAMPLE_SECONDS * _NS), keep=buffer):
            self._take_records()
        workload.go_on()

    def _wait_for_others(self, flow: Flow, deadline: float | None) -> None:
        """Wait until this part is not ahead of the others in its flow."""
        done = self._used_workload.submitted
        pause = min(max(self.job.flow_sleep, _FLOW_SLICE), SAMPLE_SECONDS)
        while self._goes_on and not _is_past(deadline) and flow.is_ahead(self.job.number, done):
            time.sleep(pause)

    def _leave_flow(self) -> None:
        if self._flow is not None:
            self._flow.leave(self.job.number)
            self._flow = None

    def _wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end that somebody asked for."""
        end = time.monotonic() + seconds
        while self._goes_on and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_SECONDS))

    @staticmethod
    def _sleep(seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)

    @staticmethod
    def _after(seconds: float) -> float:
        return time.monotonic() + seconds

    # --- what is seen on the way --------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Let limits act on what the sample says."""
        workload = self._used_workload
        elapsed = now - self.began
        if self.phase == "run":
            if self._limits.check(elapsed, workload.results, self.target.ns.block_size):
                self._gives_up = True
            if self.job.latency_target is not None:
                workload.depth = self._limits.depth
        period = self.job.log_hist_msec / 1e3 or HISTOGRAM_SECONDS
        if now - self._cut_at >= period:
            self._cut_histograms(now)

    def _sample(self, now: float) -> None:
        results, size = self._used_workload.results[:3], self.target.ns.block_size
        totals = np.stack(
            [
                results["ios"],
                results["blocks"] * np.uint64(size),
                *(results[latency]["sum"] for latency in ("slat", "clat", "lat")),
            ],
            axis=1,
        )
        end = int((now - self.began) * _NS)
        for direction, change in enumerate((totals - self._totals).tolist()):
            if change[0]:
                self._samples[direction].append((end, *change))
        self._totals = totals

    def _cut_histograms(self, now: float) -> None:
        if not self._histograms:
            return
        results = self._used_workload.results[:3]
        counts = {kind: results[kind]["counts"].copy() for kind in ("clat", "lat")}
        before = self._cut or {kind: np.zeros_like(of) for kind, of in counts.items()}
        start, end = (int((at - self.began) * _NS) for at in (self._cut_at, now))
        for direction in range(3):
            clat, lat = (counts[kind][direction] - before[kind][direction] for kind in counts)
            if clat.any():
                self._intervals[direction].append(IntervalHistogram(start, end, clat, lat))
        self._cut, self._cut_at = counts, now

    def _take_records(self) -> None:
        if self._records:
            records = self._used_workload.take_records()
            if len(records) and self.began:
                self._log.append(records)

    @property
    def totals(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """I/Os and bytes so far, by direction; for a display."""
        if self._workload is None:
            return np.zeros(3, np.uint64), np.zeros(3, np.uint64)
        results = self._workload.results[:3]
        return results["ios"].copy(), results["blocks"] * np.uint64(self.target.ns.block_size)

    @property
    def latency(self) -> tuple[int, int]:
        """Sum of completion latencies so far, in nanoseconds, and their number; for a display."""
        if self._workload is None:
            return 0, 0
        clat = self._workload.results["clat"][:3]
        return int(clat["sum"].sum()), int(clat["count"].sum())

    @property
    def share_done(self) -> float | None:
        """How much of the work is done, 0 to 1; None while it cannot be told."""
        job = self.job
        if job.runtime and (job.time_based or self.began):
            return min(1.0, (time.monotonic() - self.began) / job.runtime) if self.began else 0.0
        if job.time_based or job.number_ios is not None:
            return None
        # What verification reads back does not count.
        moved = sum(float(self.totals[1][direction]) for direction in job.directions)
        return min(1.0, moved / (self._amount * job.loops))

    # --- results ------------------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether it ended by an error, a limit or a fault."""
        return self.error is not None or bool(self._limits.failure) or self._gives_up

    def so_far(self, run_began: float) -> JobResult | None:
        """Tell what it has come to by now; None while there is nothing to tell.

        For other threads than its own, which makes the answer: nothing changes meanwhile.
        """
        if not self.began:
            return None
        while not self._answers.empty():
            self._answers.get()  # one that came too late
        self._asked = run_began
        until = time.monotonic() + _ANSWER_SECONDS
        while not self.ended.is_set() and time.monotonic() < until:
            with suppress(queue.Empty):
                return self._answers.get(timeout=SAMPLE_SECONDS)
        return self.result(run_began) if self.ended.is_set() else None

    def _answer(self, pair: QueuePair, run_began: float) -> None:
        self._asked = None
        self._count(pair)
        self._answers.put(self.result(run_began))

    def result(self, run_began: float) -> JobResult:
        """Tell what it came to; once its thread has ended, or in it."""
        job, workload = self.job, self._used_workload
        runtime = int(((self._finished or time.monotonic()) - self.began) * _NS)
        errors = workload.errors
        # Those that a reset ended, or the device's end, have no status of the device's.
        lost = sum(workload.results["failed"].tolist()) - sum(errors.values())
        if lost > 0:
            errors[int(HOST_ABORTED)] = errors.get(int(HOST_ABORTED), 0) + lost
        depths, submits, reaps = workload.batches
        sizes = [job.block_sizes[direction] for direction in Direction]
        return JobResult(
            name=job.name,
            rw=job.rw,
            device=self.target.device,
            iodepth=job.iodepth,
            block_sizes=tuple((of.smallest, of.largest) for of in sizes),  # type: ignore[arg-type]
            number=job.number,
            first=job.number - job.share if job.shares > 1 else 0,
            group=job.reporting_group,
            mode=job.mode,
            numjobs=job.numjobs,
            # As fio has it: without [global]'s, and without what only parts the jobs.
            options={
                name: text
                for name, text in job.given
                if (name, text) not in job.shared and name != "stonewall"
            },
            point=dict(job.point),
            description=job.description,
            pid=os.getpid(),
            start_ns=int((self.began - run_began) * _NS),
            runtime_ns=runtime,
            directions=tuple(  # type: ignore[arg-type]  # three
                self._direction(direction, runtime) for direction in Direction
            ),
            flush=_histogram(workload.results["lat"][FLUSH]),
            depths=Depths(level=depths, submit=submits, complete=reaps),
            cpu=self._cpu,
            costs=self._costs(),
            errors=errors,
            failure=self._limits.failure or str(self.error or ""),
            error_names={status: Status(status).text for status in errors},
            verify=self._verification.result(workload) if self._verification else None,
            steady_state=self._limits.steady,
            latency_target=self._limits.latency_target,
            percentile_list=job.percentile_list,
            slat_percentiles=job.slat_percentiles,
            clat_percentiles=job.clat_percentiles,
            lat_percentiles=job.lat_percentiles,
            io_log=np.concatenate(self._log) if self._log else None,
        )

    def _direction(self, direction: Direction, runtime: int) -> DirectionResult:
        result = self._used_workload.results[direction]
        ios = int(result["ios"])
        return DirectionResult(
            ios=ios,
            bytes=int(result["blocks"]) << self.target.ns.block_shift,
            runtime_ns=runtime if ios else 0,
            failed=int(result["failed"]),
            slat=_histogram(result["slat"]),
            clat=_histogram(result["clat"]),
            lat=_histogram(result["lat"]),
            samples=np.array(self._samples[direction], SAMPLE),
            intervals=self._intervals[direction],
        )

    def _costs(self) -> Costs:
        workload = self._used_workload
        submit, complete = workload.costs
        return Costs(
            sq_doorbells=self._doorbells[0] - self._doorbells[1],
            cq_doorbells=self._doorbells[1],
            polls=workload.turns,
            ticks_per_second=float(tick_rate()),
            submit_ticks=round(submit * workload.submitted),
            complete_ticks=round(complete * workload.completed),
        )

    @property
    def warnings(self) -> list[str]:
        """What the results have to say besides their figures."""
        return [f"job {self.job.name!r}: {note}" for note in self.notes]


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _commands(job: Job, nsid: int, *, appends: bool) -> dict[int, bytes]:
    """Make the commands of each direction, without what each I/O adds."""
    fua = WriteCdw12.fua.mask if job.fua else 0
    write = NvmOpcode.ZONE_APPEND if appends else NvmOpcode.WRITE
    commands = {
        Direction.READ: SQE.build(opc=NvmOpcode.READ, nsid=nsid),
        Direction.WRITE: SQE.build(opc=write, nsid=nsid, cdw12=fua),
        Direction.TRIM: SQE.build(
            opc=NvmOpcode.DATASET_MANAGEMENT, nsid=nsid, cdw11=DatasetManagementCdw11.build(ad=1)
        ),
        FLUSH: SQE.build(opc=NvmOpcode.FLUSH, nsid=nsid),
    }
    return {int(direction): bytes(command) for direction, command in commands.items()}


def _histogram(entry: np.void) -> Histogram:
    count = int(entry["count"])
    return Histogram(
        counts=entry["counts"].copy(),
        count=count,
        min=int(entry["min"]) if count else 0,
        max=int(entry["max"]),
        sum=int(entry["sum"]),
        squares=int(entry["squares_high"]) << 64 | int(entry["squares_low"]),
    )


def _usage(before: resource.struct_rusage, after: resource.struct_rusage) -> CpuUsage:
    return CpuUsage(
        user_ns=int((after.ru_utime - before.ru_utime) * _NS),
        system_ns=int((after.ru_stime - before.ru_stime) * _NS),
        context_switches=after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
        major_faults=after.ru_majflt - before.ru_majflt,
        minor_faults=after.ru_minflt - before.ru_minflt,
    )
