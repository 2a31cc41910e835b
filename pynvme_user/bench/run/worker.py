"""One part of a run: one clone of a job on one namespace, with its queue pairs."""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from copy import copy

import numpy as np
import numpy.typing as npt

from pynvme_user.bench.jobs.job import Job
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.results.result import JobResult
from pynvme_user.bench.run.drive import Drive
from pynvme_user.bench.run.flow import Flow
from pynvme_user.bench.run.limits import Limits, fails
from pynvme_user.bench.run.outcome import averaged_ms, job_result
from pynvme_user.bench.run.plan import (
    Depths,
    check_sizes,
    check_zones,
    commands,
    depths,
    generator,
    issued_log,
    pace,
    pin,
    zoned_plan,
)
from pynvme_user.bench.run.recorder import Recorder
from pynvme_user.bench.run.replay import replay
from pynvme_user.bench.run.signals import Signals
from pynvme_user.bench.run.target import SPIN, Target
from pynvme_user.bench.run.thread import Steps
from pynvme_user.bench.run.verify import Verification
from pynvme_user.bench.run.write_data import contents, contents_of, fill
from pynvme_user.bench.run.zoned import ZonedPlan, ZoneMap
from pynvme_user.dma import DmaBuffer
from pynvme_user.driver.completion import HOST_ABORTED
from pynvme_user.driver.io_queue_pair import QueuePair
from pynvme_user.driver.queue_pair_group import QueuePairGroup
from pynvme_user.errors import NvmeError
from pynvme_user.host.numa import Placement, near_cpus
from pynvme_user.workload.direction import Direction
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.group import WorkloadGroup
from pynvme_user.workload.loop import Workload

#: So often at least a sample is taken, and the limits are looked at.
SAMPLE_MS = 100
SAMPLE_SECONDS = SAMPLE_MS / 1e3
#: Histograms are cut so often, if no log wants it otherwise.
_HISTOGRAM_MS = 1000
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


class Worker:
    """Runs in a thread; what it came to is read once it has ended there.

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
        self.target = target = target.of(job)
        self.phase = "ramp" if job.ramp_time else "run"
        #: Without its traceback, whose frames would keep DMA memory.
        self.error: Exception | None = None
        #: Why it failed, if it did by something else than an error of the device.
        self.notes: list[str] = []
        self.ended = threading.Event()  # all that counts is done
        self.began = 0.0  # time.monotonic() of the measured part; 0: not yet
        self._finished = 0.0
        self._next_look = 0.0  # time.monotonic()
        self._signals = signals
        self._flow = flow
        self._histograms = histograms or job.write_hist_log is not None
        logs = (job.write_bw_log, job.write_lat_log, job.write_iops_log)
        self._records = _RECORDS if io_log or (any(logs) and not job.log_avg_msec) else 0
        self._limits = Limits(job)
        self._recorder: Recorder | None = None
        self._verification: Verification | None = None
        self._workload: Workload | WorkloadGroup | None = None
        self._drive: Drive
        #: What is asked for while it runs: when the run began, and the answer.
        self._asked: float | None = None
        self._answers: queue.SimpleQueue[JobResult] = queue.SimpleQueue()
        zone_bytes = target.zone_bytes
        self.offset, self.length = job.region(target.capacity, zone_bytes)
        if job.zbd:
            check_zones(job, target, zone_bytes)
            end = (self.offset + self.length) // zone_bytes * zone_bytes
            self.offset = -(-self.offset // zone_bytes) * zone_bytes
            self.length = end - self.offset
            if self.length <= 0:
                raise JobError(f"job {job.name!r}: its range has no whole zone: give more size")
        #: What its I/O may touch, from the offset on.
        self.reach = job.reach(self.length, target.capacity - self.offset)
        self._contents = contents(job, self.length, [job.seed])
        self._plan: ZonedPlan | None = None
        #: Bytes to move in all loops, where it ends by them.
        self.work = self.length * job.loops
        if job.io_size is not None:
            amount = job.amount(target.capacity, zone_size=zone_bytes)
            # More than the range ends with the loops, or later: see Generator.
            self.work = max(amount, self.work) if amount > self.length else amount * job.loops
        self._replay = replay(job, target, self.offset, self.length)
        if self._replay is not None:
            self.work = self._replay.bytes * job.loops
            self.notes += self._replay.notes
        check_sizes(job, target, self.offset, self.length)

    def obey_zones(self, zones: ZoneMap, writers: int) -> None:
        """Write and read as the zones have it; ``writers`` parts share what may be open."""
        self._plan = zoned_plan(
            self.job, self.target, self.offset, self.length, zones, writers, self._generator()
        )

    def share_contents(self, seeds: Sequence[int]) -> None:
        """Repeat what parts with these seeds write, too."""
        self._contents = contents(self.job, self.length, seeds)

    # --- the thread ---------------------------------------------------------------------------

    def steps(self) -> Steps:
        """Set up, run to the end and close, as :func:`run_workers` has it. Raises nothing."""
        try:
            pin(self.job)
            depth = depths(self.job, self.target)
            self.notes += depth.notes
            spin, node = SPIN[self.job.mode], self._placement
            controller, queues = self.target.controller, self.job.queues
            with ExitStack() as made:
                pairs = [
                    made.enter_context(controller.queue_pair(depth.commands, spin=spin, node=node))
                    for _ in range(queues)
                ]
                piece = self._piece + self._metadata_piece
                buffer = controller.alloc(queues * depth.ios * piece, node=node)
                fill(buffer, self.job)
                alone = queues == 1 and not self.job.one_thread
                self._set_up(pairs[0] if alone else QueuePairGroup(pairs), buffer, depth)
                if self._plan is not None:
                    self._plan.begin()
                yield None
                yield from self._run()
                self._leave_flow()
                self.ended.set()
                yield None
        except Exception as error:
            expected = isinstance(error, NvmeError | JobError)
            self.error = copy(error) if expected else error
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
        """Bytes of each I/O's data: whole pages, so that no PRP entry is wasted."""
        # A trim has a list of one range, wherever that is.
        moved = self.job.directions - {Direction.TRIM}
        largest = max((self.job.block_sizes[way].largest for way in moved), default=1)
        return -(-largest // 4096) * 4096

    @property
    def _metadata_piece(self) -> int:
        """Bytes of each I/O's metadata, where that lies apart."""
        return self.target.carried.metadata_piece if self.target.carried is not None else 0

    @property
    def _placement(self) -> Placement | None:
        """Where its queue and buffers go: as the job says, or near the CPUs that it runs on."""
        return self.job.numa_mem_policy or near_cpus(os.sched_getaffinity(0))

    def _generator(self, *, reads: bool = False) -> Generator:
        return generator(self.job, self.target, self.offset, self.length, reads=reads)

    def _set_up(self, pair: QueuePair | QueuePairGroup, buffer: DmaBuffer, depth: Depths) -> None:
        job, ns, carried = self.job, self.target.ns, self.target.carried
        if job.verify is not None:
            again = self._generator()
            trims = self._generator() if job.trim_percentage else None
            self._verification = Verification(
                job, self.target, self.offset, self.reach, again, trims
            )
        made = None if self._replay else self._generator(reads=job.verify_only)
        length = buffer.nbytes // job.queues
        pieces = [
            buffer[queue * length : (queue + 1) * length].view(DmaBuffer)
            for queue in range(job.queues)
        ]
        workloads = [
            Workload(
                made,
                commands=commands(job, self.target),
                buffer=piece,
                queue_depth=pair.depth,
                depth=depth.ios,
                command_blocks=depth.command_blocks,
                in_order=self.target.zone_blocks > 0,
                block_shift=ns.block_shift,
                pace=pace(job, self.target, queue),
                contents=contents_of(self._contents, queue),
                metadata=carried.placed(self._piece) if carried is not None else None,
                verifier=self._verification.verifier if self._verification else None,
                verify_fatal=job.verify_fatal and errno.EILSEQ not in (job.ignore_error[2] or ()),
                records=self._records,
                issued=_RECORDS if job.write_iolog else 0,
            )
            for queue, piece in enumerate(pieces)
        ]
        loop: Workload | WorkloadGroup = workloads[0]
        if isinstance(pair, QueuePairGroup):
            loop = WorkloadGroup(workloads, blocks=job.smallest_block // self.target.block_bytes)
        self._workload = workloads[0] if job.queues == 1 else loop
        self._drive = Drive(pair, loop, buffer, ns)
        if self._plan is not None and self._verification is not None:
            self._plan.verifier = self._verification.verifier
        self._recorder = Recorder(
            self._workload,
            pair,
            self.target.block_bytes,
            periods_ms={SAMPLE_MS, *averaged_ms(job)},
            peaks=job.log_max_value,
            issued=issued_log(job, self.target),
            histogram_ms=(job.log_hist_msec or _HISTOGRAM_MS) if self._histograms else 0,
            threads=job.threads,
        )

    # --- phases -------------------------------------------------------------------------------

    def _run(self) -> Steps:
        job, workload, verification = self.job, self._used_workload, self._verification
        yield from self._wait(np.random.default_rng(job.seed).uniform(*job.startdelay))
        self._next_look = time.monotonic() + SAMPLE_SECONDS
        if self._flow is not None:
            self._flow.join(job.number, job.flow, workload.submitted)
        if self._replay is not None:
            self._replay.begin(self._only_workload)
        # What is below the write pointers is read once: there is nothing to do before.
        ramps = job.ramp_time and not (job.verify_only and self._plan is not None)
        if ramps and self._goes_on:
            ramp_end = self._after(job.ramp_time)
            if self._plan is not None:
                yield from self._run_zoned(ramp_end, self._plan)
            else:
                yield from self._advance(ramp_end, drain=False)
            if not _is_past(ramp_end):
                self.notes.append(
                    f"ended before its ramp_time of {job.ramp_time:g} s was over: nothing was "
                    "measured"
                )
        if not self._goes_on:  # in its ramp, or before its first I/O
            workload.stop()
            yield from self._advance(None)
        self.phase = "run"
        recorder = self._used_recorder
        recorder.begin({Direction.READ} if job.verify_only else job.directions)
        self.began = recorder.began
        self._next_look = self.began + SAMPLE_SECONDS
        try:
            deadline = job.runtime and self.began + job.runtime
            if not self._goes_on:
                pass
            elif verification is not None and job.verify_only and verification.resumes:
                self.phase = _VERIFYING
                most = max(1, self._piece // self.target.block_bytes)
                zone = self.target.zone_blocks
                yield from self._go_through(verification.expected(most, zone))
            elif self._plan is not None and job.verify_only:
                self.phase = _VERIFYING
                blocks = job.block_sizes[Direction.WRITE].largest // self.target.block_bytes
                yield from self._go_through(self._plan.all_written(blocks))
            elif self._plan is not None:
                yield from self._run_zoned(deadline, self._plan)
            elif verification is not None and verification.has_backlog:
                yield from self._run_with_backlog(deadline, verification)
            else:
                yield from self._advance(deadline)
            self._leave_flow()  # what is read back has no part in the proportion
            wrote = Direction.WRITE in job.directions and not job.verify_only
            if verification is not None and wrote and job.do_verify and self._goes_on:
                self.phase = _VERIFYING
                plan = self._plan
                written = plan.written_ios() if plan else verification.written(self._only_workload)
                yield from self._go_through(written)
            if job.end_fsync and self._goes_on:
                self.target.ns.flush()
        except NvmeError as error:
            # What was outstanding has its end: the results so far count, and this with them.
            workload.fail_rest(int(HOST_ABORTED))
            self.error = copy(error)
        finally:
            self._finished = recorder.end()

    def _run_zoned(self, deadline: float | None, plan: ZonedPlan) -> Steps:
        """Do what is planned for the zones, piece by piece."""
        workload, depth = self._only_workload, self._only_workload.depth
        if self.job.verify is not None:
            workload.depth = 1  # one after another, each at the write pointer
        for ios in plan.pieces():
            workload.go_through(ios)
            yield from self._advance(deadline)
            if not self._goes_on or _is_past(deadline):
                plan.cut(workload.list_done)
                break
            if self.job.verify_backlog:
                workload.depth = depth
                yield from self._go_through(plan.written_ios())
                plan.written.clear()
                if not self._goes_on:
                    break
                workload.depth = 1
        workload.depth = depth

    def _run_with_backlog(self, deadline: float | None, verification: Verification) -> Steps:
        """Trim and read back, each after so many writes."""
        workload = self._only_workload
        verification.begin_backlog(workload)
        at_end = False
        while not at_end and self._goes_on and not _is_past(deadline):
            workload.pause_after(verification.writes_left(workload))
            yield from self._advance(deadline)
            at_end = workload.exhausted
            if self._goes_on:
                workload.pause_after(None)
                yield from self._go_through(verification.backlog(workload))
                workload.resume()

    def _go_through(self, pieces: Iterable[npt.NDArray[np.void]]) -> Steps:
        """Do these, each piece of one direction, in a phase of its own."""
        for ios in pieces:
            self._used_recorder.enter({Direction(int(ios["direction"][0]))})
            self._only_workload.go_through(ios, rated=False)
            yield from self._advance(None)
            if not self._goes_on:
                break
        self._used_recorder.enter(self.job.directions)

    @property
    def _used_workload(self) -> Workload | WorkloadGroup:
        assert self._workload is not None, "set up before it is run"
        return self._workload

    @property
    def _only_workload(self) -> Workload:
        assert isinstance(self._workload, Workload), "several queues have no lists: see validation"
        return self._workload

    @property
    def _used_recorder(self) -> Recorder:
        assert self._recorder is not None, "set up before it is run"
        return self._recorder

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

    def _advance(self, deadline: float | None, *, drain: bool = True) -> Steps:
        """Run the workload to its end, the deadline or a reason to stop, and drain it.

        Without ``drain`` the next call goes on after the deadline.
        """
        job, workload, recorder = self.job, self._used_workload, self._used_recorder
        self._drive.begin()
        stopped = False
        while True:
            now = time.monotonic()
            next_sample = min(recorder.due, self._next_look)
            until = next_sample if deadline is None else min(next_sample, deadline)
            if self._flow is not None:
                until = min(until, now + _FLOW_SLICE)
            slice_ns = max(0, int((until - now) * _NS))
            ended = yield from self._drive.go_on(slice_ns)
            now = time.monotonic()
            recorder.take_records()
            if self._verification is not None:
                self._verification.note(self._only_workload.take_drawn())
            recorder.take_if_due(now)
            if now >= self._next_look:
                self._look(now)
            if self._asked is not None and self.began:
                self._answer(self._asked)
            if ended:
                if self._replay is None or stopped or not self._goes_on:
                    return
                if not self._replay.begins_again(self._only_workload):
                    return
            if fails(job, workload):
                self._gives_up = True
            if self._flow is not None and self._flow.is_ahead(job.number, workload.submitted):
                yield from self._drain()
                yield from self._wait_for_others(self._flow, deadline)
                if workload.exhausted:
                    return
            if _is_past(deadline) and self._goes_on and not drain:
                return
            if _is_past(deadline) or not self._goes_on:
                if self._signals.interrupted:
                    self.phase = _DRAINING
                workload.stop()
                stopped = True
                deadline = None  # what is outstanding takes the time that it takes
            else:
                pause = min(workload.idle_seconds, next_sample - now) - _SLEEP_SLACK
                if pause > 0:
                    yield pause

    def _drain(self) -> Steps:
        """Let what is outstanding end, so that no pause counts as its latency."""
        workload = self._used_workload
        workload.stop()
        slice_ns = int(SAMPLE_SECONDS * _NS)
        while not (yield from self._drive.go_on(slice_ns)):
            self._used_recorder.take_records()
        workload.go_on()

    def _wait_for_others(self, flow: Flow, deadline: float | None) -> Steps:
        """Wait until this part is not ahead of the others in its flow."""
        done = self._used_workload.submitted
        pause = min(max(self.job.flow_sleep, _FLOW_SLICE), SAMPLE_SECONDS)
        while self._goes_on and not _is_past(deadline) and flow.is_ahead(self.job.number, done):
            yield pause

    def _leave_flow(self) -> None:
        if self._flow is not None:
            self._flow.leave(self.job.number)
            self._flow = None

    def _wait(self, seconds: float) -> Steps:
        """Sleep, but not beyond the end that somebody asked for."""
        end = time.monotonic() + seconds
        while self._goes_on and (left := end - time.monotonic()) > 0:
            yield min(left, SAMPLE_SECONDS)

    @staticmethod
    def _after(seconds: float) -> float:
        return time.monotonic() + seconds

    # --- what is seen on the way --------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Let limits act on what there is by now."""
        late = max(0.0, now - self._next_look)
        self._next_look += SAMPLE_SECONDS * (1 + late // SAMPLE_SECONDS)
        workload = self._used_workload
        elapsed = now - self.began
        if self.phase == "run":
            active = self._used_recorder.active_seconds(now)
            size = self.target.block_bytes
            results = workload.ended if self.job.log_max_value else workload.results
            if self._limits.check(elapsed, results, size, active):
                self._gives_up = True
            if self.job.latency_target is not None:
                workload.depth = self._limits.depth

    @property
    def totals(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """I/Os and bytes so far, by direction; for a display."""
        if self._workload is None:
            return np.zeros(3, np.uint64), np.zeros(3, np.uint64)
        results = self._workload.results[:3]
        return results["ios"].copy(), results["blocks"] * np.uint64(self.target.block_bytes)

    @property
    def latency(self) -> tuple[int, int]:
        """Sum of total latencies so far, in nanoseconds, and their number; for a display."""
        if self._workload is None:
            return 0, 0
        lat = self._workload.results["lat"][:3]
        return int(lat["sum"].sum()), int(lat["count"].sum())

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
        return min(1.0, moved / self.work)

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

    def _answer(self, run_began: float) -> None:
        self._asked = None
        self._used_recorder.count()
        self._answers.put(self.result(run_began))

    def result(self, run_began: float) -> JobResult:
        """Tell what it came to; once its thread has ended, or in it."""
        ended = self._finished or time.monotonic()
        return job_result(
            self.job,
            self.target.device,
            self._limits,
            start_ns=int((self.began - run_began) * _NS),
            error=self.error,
            verify=self._verification.result(self._only_workload) if self._verification else None,
            measured=self._used_recorder.results(ended),
        )

    @property
    def warnings(self) -> list[str]:
        """What the results have to say besides their figures."""
        notes, rounds = [*self.notes], self._limits.rounds.found
        if self._workload is not None and (fault := self._workload.protection_fault):
            lba, error = fault
            notes.append(
                f"read LBA {lba}, whose {error.part} is {error.found:#x} in place of "
                f"{error.expected:#x}: it is the first such block"
            )
        if rounds is not None and not rounds.attained:
            notes.append(
                f"has {len(rounds.iops)} rounds, of which the last {rounds.wanted} are not steady, "
                "and so what is measured after it is not: give it more runtime"
            )
        return [f"job {self.job.name!r} {note}" for note in notes]


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
