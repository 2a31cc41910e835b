"""Several workloads of one job, each on a queue pair of its own, run by one thread together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from pynvme_user.errors import ProtectionError
from pynvme_user.native import U64Array, check_result, lib, new_lines
from pynvme_user.ring import Loop, Ring
from pynvme_user.workload.loop import Workload, by_status


class WorkloadGroup:
    """Workloads that share a generator and count into the results of the first.

    For :meth:`QueuePairGroup.run_loop`. What there is of a :class:`Workload` here means all of them
    together; ``blocks`` is the length of an I/O, for rates, which begin apart from each other.
    """

    def __init__(self, workloads: Sequence[Workload], *, blocks: int) -> None:
        self._workloads = list(workloads)
        self._first = self._workloads[0]
        self._blocks = blocks
        self._done = [False] * len(self._workloads)
        self._places = {id(workload): place for place, workload in enumerate(self._workloads)}
        #: Once they run: struct nvme_bench_member of them, and of all that run together.
        self._members: Sequence[Any] = ()
        self._array: Any = ()
        for workload in self._workloads[1:]:
            workload.share_results(self._first)
        self.clear()

    # --- their run ----------------------------------------------------------------------------

    @property
    def members(self) -> Sequence[Loop]:
        """All of them, also those that are done."""
        return self._workloads

    def is_done(self, member: Loop) -> bool:
        """Whether it is at its end."""
        return self._done[self._places[id(member)]]

    def set_done(self, member: Loop) -> None:
        """Let it have no further turn."""
        self._done[self._places[id(member)]] = True

    def rearm(self) -> None:
        """All are done: the next run begins with all of them."""
        self._done = [False] * len(self._workloads)

    def run_members(
        self,
        rings: Sequence[Ring],
        timeout_ns: int,
        others: Sequence[tuple[WorkloadGroup, Sequence[Ring]]] = (),
    ) -> None:
        """Let those that are not done go on, each on its ring, until one is or the time is over.

        And those of other groups with them.
        """
        groups = [(self, rings), *others]
        count = sum(len(rings) for _, rings in groups)
        if len(self._array) != count or any(one._array is not self._array for one, _ in groups):
            self._join(groups, count)
        for group, _ in groups:
            for member, is_done in zip(group._members, group._done, strict=True):
                member.done = is_done
        lib.nvme_bench_run_many(self._array, count, timeout_ns)

    def take_ends(self) -> None:
        """See which are done since; raise the error by which one of them cannot go on."""
        self._done = [bool(check_result(member.done)) for member in self._members]

    def _join(self, groups: Sequence[tuple[WorkloadGroup, Sequence[Ring]]], count: int) -> None:
        """Put the members of all groups into one array, for C."""
        array = new_lines("struct nvme_bench_member", count)
        left = iter(array)
        for group, rings in groups:
            is_new = not group._members
            group._array, group._members = array, list(islice(left, len(rings)))
            group._begin(rings, is_new=is_new)

    def _begin(self, rings: Sequence[Ring], *, is_new: bool) -> None:
        """Give them their rings, and let their first I/Os at a rate be due one after another."""
        self._rings = list(rings)
        now = lib.nvme_ticks()
        for place, (member, workload, ring) in enumerate(
            zip(self._members, self._workloads, rings, strict=True)
        ):
            member.qp = ring.pointer
            member.bench, member.split = workload.member(ring)
            for rate in member.bench.rates if is_new else ():
                step = max(int(rate.ticks_per_io), int(rate.ticks_per_block) * self._blocks)
                if step:
                    rate.due = now + (step * place // len(rings) >> 32)

    @property
    def protection_fault(self) -> tuple[int, ProtectionError] | None:
        """As :attr:`Workload.protection_fault`, of the first that has one."""
        return next(filter(None, (one.protection_fault for one in self._workloads)), None)

    def stop(self) -> None:
        """Submit no more."""
        for workload in self._workloads:
            workload.stop()

    def go_on(self) -> None:
        """Submit again after :meth:`stop`; once that has drained."""
        for workload in self._workloads:
            workload.go_on()

    def fail_rest(self, status: int) -> None:
        """Count what has no outcome as failed. Only once DMA has stopped."""
        for workload in self._workloads:
            workload.fail_rest(status)

    @property
    def given_up(self) -> bool:
        """Whether one of them was given up before its end, and did not go on."""
        return any(workload.given_up for workload in self._workloads)

    @property
    def lost(self) -> int:
        """I/Os that had no outcome then."""
        return sum(workload.lost for workload in self._workloads)

    @property
    def exhausted(self) -> bool:
        """Whether there is no further I/O to submit."""
        return all(workload.exhausted for workload in self._workloads)

    @property
    def idle_seconds(self) -> float:
        """None of them is left alone while another may be at work: 0."""
        return 0.0

    @property
    def depth(self) -> int:
        """I/Os to keep outstanding in each queue; may be changed between two runs."""
        return self._first.depth

    @depth.setter
    def depth(self, depth: int) -> None:
        for workload in self._workloads:
            workload.depth = depth

    # --- what they came to --------------------------------------------------------------------

    @property
    def results(self) -> npt.NDArray[np.void]:
        """RESULT_DTYPE, by direction; of what is outstanding, slat."""
        return self._first.results

    @property
    def ended(self) -> npt.NDArray[np.void]:
        """The results of the I/Os that have ended."""
        results = self._first.ended
        for workload in self._workloads[1:]:
            workload.count_outstanding(results, take=True)
        return results

    def take_peaks(self) -> U64Array:
        """As :meth:`Workload.take_peaks`."""
        return self._first.take_peaks()

    def clear(self) -> None:
        """Begin to count anew, as after a ramp time. Errors stay."""
        for workload in self._workloads:
            workload.clear()
        # Each began with the results that all share.
        for workload in self._workloads[:-1]:
            workload.count_outstanding(self.results, take=False)

    @property
    def submitted(self) -> int:
        """I/Os submitted since the beginning."""
        return sum(workload.submitted for workload in self._workloads)

    @property
    def completed(self) -> int:
        """I/Os that have ended since the beginning, well or not."""
        return sum(workload.completed for workload in self._workloads)

    @property
    def errors_by_direction(self) -> dict[tuple[int, int], int]:
        """I/Os by direction and status other than success, since the beginning."""
        found: dict[tuple[int, int], int] = {}
        for workload in self._workloads:
            for key, ios in workload.errors_by_direction.items():
                found[key] = found.get(key, 0) + ios
        return found

    @property
    def errors(self) -> dict[int, int]:
        """The same by status."""
        return by_status(self.errors_by_direction)

    @property
    def batches(self) -> tuple[U64Array, U64Array, U64Array]:
        """As :attr:`Workload.batches`; the depth is that of an I/O's own queue."""
        depths, submits, reaps = zip(
            *(workload.batches for workload in self._workloads), strict=True
        )
        return np.sum(depths, axis=0), np.sum(submits, axis=0), np.sum(reaps, axis=0)

    @property
    def costs(self) -> tuple[float, float]:
        """As :attr:`Workload.costs`: the mean of all, by their I/Os."""
        weights = [max(1, workload.completed) for workload in self._workloads]
        costs = np.average([one.costs for one in self._workloads], axis=0, weights=weights)
        return float(costs[0]), float(costs[1])

    @property
    def turns(self) -> int:
        """How often completions were looked for, since clear()."""
        return sum(workload.turns for workload in self._workloads)

    @property
    def keeps_records(self) -> bool:
        """Whether there is a log of single I/Os."""
        return self._first.keeps_records

    def take_issued(self) -> npt.NDArray[np.void]:
        """Take the I/Os that were submitted since the last call, as ISSUED_DTYPE, in order."""
        issued = np.concatenate([workload.take_issued() for workload in self._workloads])
        return issued[np.argsort(issued["at"], kind="stable")]

    def take_records(self) -> npt.NDArray[np.void]:
        """Take the log since the last call, as RECORD_DTYPE, oldest first."""
        if not self.keeps_records:
            return self._first.take_records()
        records = np.concatenate([workload.take_records() for workload in self._workloads])
        return records[np.argsort(records["end_ns"], kind="stable")]
