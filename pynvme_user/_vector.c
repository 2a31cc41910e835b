/* See _vector.h. */
#include "_vector.h"
#include "_ring_inline.h"

/* As vector_write(), for what not all I/Os are. */
static __attribute__((noinline)) int vector_write_unlike(struct nvme_qpair *qp,
							 const struct nvme_vector *v, uint16_t cid)
{
	uint32_t i = v->submitted;
	uint32_t blocks = vector_blocks(v, i);
	struct nvme_sqe *sqe;

	if (v->iovas)
		return sq_write_io(qp, &v->command, cid, v->lbas[i], blocks - 1,
				   v->iovas[v->slots ? cid_index(qp, cid) : i],
				   blocks << v->block_shift);
	sqe = sq_write(qp, &v->command, cid);
	*(dword_pair *)&sqe->cdw10 = v->lbas[i];
	sqe->cdw12 |= blocks - 1;
	return 0;
}

/* Write the vector's next I/O at the tail, under `cid`. Returns 0 or a negative errno. */
static inline int vector_write(struct nvme_qpair *qp, struct nvme_vector *v, uint16_t cid)
{
	uint32_t i = v->submitted;
	int err;

	if (unlikely(i + 1 >= v->alike))
		err = vector_write_unlike(qp, v, cid);
	else
		err = sq_write_io(qp, &v->command, cid, v->lbas[i], v->blocks - 1,
				  v->iovas[v->slots ? cid_index(qp, cid) : i],
				  v->blocks << v->block_shift);
	if (unlikely(err))
		return err;
	sq_advance(qp);
	v->submitted = i + 1;
	return 0;
}

/* Fill the queue from the vector, in batches. Returns 0 or a negative errno. */
static int vector_fill(struct nvme_qpair *qp, struct nvme_vector *v)
{
	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	while (v->submitted < v->count && qp->free_head != NO_CID) {
		uint64_t now = ticks_now();
		int err = 0;
		int rung;

		for (uint32_t n = 0; n < qp->burst && v->submitted < v->count &&
				     qp->free_head != NO_CID; n++) {
			err = vector_write(qp, v, qp->free_head);
			if (err)
				break;
			tracker_take(qp, v->submitted - 1, now);
		}
		/* Also after an error: those before it are to be drained. */
		rung = sq_ring(qp);
		if (err || rung)
			return err ? err : rung;
	}
	return 0;
}

/*
 * Whether vector_fast_path() is of use: all have one size, a page holds an I/O's data, and a burst
 * has more than one.
 */
static int vector_is_plain(const struct nvme_qpair *qp, const struct nvme_vector *v)
{
	uint64_t size = (uint64_t)v->blocks << v->block_shift;

	return qp->burst > 1 && v->iovas && !v->each && size <= qp->page_size;
}

/*
 * Find out where the data of I/O `n`, under a CID of that index, are. Returns whether they lie in
 * one page for sure: an address without the bits of `size` - 1 has `size` bytes to the page's end.
 */
static inline int vector_next_place(const uint64_t *iovas, uint32_t slots, uint64_t index,
				    uint64_t n, uint64_t size, uint64_t *iova)
{
	*iova = iovas[slots ? index : n];
	return !(*iova & (size - 1));
}

/* What sq_write_io() does, for an I/O of the size that the command has, in one page. */
static inline void vector_write_plain(struct nvme_sqe *sqe, const struct nvme_sqe *command,
				      uint32_t ahead, uint16_t cid, uint64_t lba, uint64_t iova)
{
	line_fetch((const char *)sqe + ahead);
	*sqe = *command;
	sqe->cid = cid;
	*(dword_pair *)&sqe->cdw10 = lba;
	sqe->prp1 = iova;
}

static inline uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/*
 * What most of a burst is: each completion is of a command that succeeded, and is followed by an
 * I/O of full size whose data lie in one page. What that takes is at hand, not looked up for each;
 * neither queue comes to its last entry, nor the vector to its last I/O. Returns how many I/Os that
 * were, `most` or fewer: what comes next is as it was, for vector_step() to see. A function of its
 * own, so that the loop has all registers.
 */
static __attribute__((noinline)) uint32_t vector_fast_path(struct nvme_qpair *qp, struct nvme_vector *v,
						       uint64_t now, uint32_t most)
{
	const struct nvme_cqe *cqe = &qp->cq[qp->cq_head];
	struct nvme_sqe *sqe = &qp->sq[qp->sq_tail];
	struct nvme_tracker *trackers = qp->trackers;
	const uint64_t *lbas = v->lbas + v->submitted;
	const uint64_t *iovas = v->slots ? v->iovas : v->iovas + v->submitted;
	const uint64_t expected = qp->expected;
	const uint64_t mask = qp->index_mask;
	const uint64_t size = (uint64_t)v->blocks << v->block_shift;
	const uint32_t ahead = qp->sq_ahead;
	const uint32_t first = v->submitted;
	const uint32_t slots = v->slots;
	struct nvme_sqe command = v->command;
	uint16_t *status = v->status;
	uint64_t *latencies = v->latency_ns;
	/* Commands of one doorbell have one time, and mostly complete together; none has 0. */
	uint64_t submitted = 0;
	uint64_t latency = 0;
	uint64_t n;

	command.cdw12 |= v->blocks - 1;
	command.prp2 = 0;
	most = least(most, v->count - 1 - first);
	most = least(most, qp->cq_entries - 1 - qp->cq_head);
	most = least(most, qp->sq_entries - 1 - qp->sq_tail);
	for (n = 0; n < most; n++, cqe++, sqe++) {
		uint64_t cid = cqe_good_cid(cqe_next(cqe, expected));
		struct nvme_tracker *tracker = &trackers[cid & mask];
		uint64_t iova;

		if (unlikely(tracker->cid != cid))
			break;
		if (unlikely(!vector_next_place(iovas, slots, cid & mask, n, size, &iova)))
			break;
		if (unlikely(tracker->submitted != submitted)) {
			if (unlikely(tracker->submitted == now))
				break; /* not announced yet */
			submitted = tracker->submitted;
			latency = ticks_age_ns(now, submitted);
		}
		status[tracker->user] = 0;
		latencies[tracker->user] = latency;
		vector_write_plain(sqe, &command, ahead,
				   tracker_retake(qp, tracker, (uint16_t)cid, first + (uint32_t)n,
						  now),
				   lbas[n], iova);
	}
	qp->cq_head += (uint32_t)n;
	qp->sq_tail += (uint32_t)n;
	v->submitted += (uint32_t)n;
	return (uint32_t)n;
}

/*
 * Reap one completion, if there is one, into the vector's arrays, followed by the next I/O under the
 * same CID's index. Returns whether it did; sets `err`, to a negative errno, for what names nothing of
 * ours, or what was submitted in this burst, and for a next I/O that cannot be described.
 */
static inline int vector_step(struct nvme_qpair *qp, struct nvme_vector *v, uint64_t now, int *err)
{
	uint64_t end = cq_next(qp);
	struct nvme_tracker *tracker;
	uint16_t status, cid;
	uint64_t age;

	if (end & CQE_PHASE)
		return 0;
	tracker = cqe_tracker(qp, end);
	if (unlikely(!tracker)) {
		*err = -EPROTO;
		return 0;
	}
	age = now - tracker->submitted;
	if (unlikely((int64_t)age <= 0)) {
		if (!age) {
			*err = -EPROTO;
			return 0;
		}
		age = 0; /* the clock went back */
	}
	status = cqe_status(end);
	cid = cqe_cid(end);
	v->status[tracker->user] = status;
	v->latency_ns[tracker->user] = ticks_to_ns(age);
	if (unlikely(status & STATUS_CODE_AND_TYPE))
		v->failed++;
	cq_advance(qp);
	if (likely(v->submitted < v->count)) {
		cid = tracker_retake(qp, tracker, cid, v->submitted, now);
		*err = vector_write(qp, v, cid);
		if (likely(!*err))
			return 1;
	}
	tracker_free(qp, tracker, cid);
	return 1;
}

/*
 * Reap up to a burst's number of completions, each followed by the next I/O, and ring once. Returns 0
 * or a negative errno.
 */
static inline int vector_burst(struct nvme_qpair *qp, struct nvme_vector *v, uint64_t now, int plain)
{
	uint32_t count = 0;
	int err = 0;
	int rung;

	while (!err && count < qp->burst) {
		if (plain && v->submitted < v->count) {
			count += vector_fast_path(qp, v, now, qp->burst - count);
			if (count == qp->burst)
				break;
		}
		if (!vector_step(qp, v, now, &err))
			break;
		count++;
	}
	v->completed += count;
	/* First the completion queue's head: what is announced then has room in it. */
	cq_reaped(qp, count);
	rung = sq_ring(qp);
	if (err || rung)
		return err ? err : rung;
	return qp->error;
}

int nvme_vector_run(struct nvme_qpair *qp, struct nvme_vector *v, uint64_t timeout_ns)
{
	uint64_t now = ticks_now();
	struct deadline deadline = { now, ns_to_ticks(timeout_ns) };
	int plain = vector_is_plain(qp, v);
	int err;

	v->alike = v->iovas && !v->each ? v->count : 0;
	err = vector_fill(qp, v);

	while (!err && v->completed < v->count) {
		uint64_t before = now;

		if (deadline_passed(deadline, now) || !nvme_cq_await(qp, deadline))
			return 0;
		now = ticks_now();
		/* The time of a burst is its own: it tells what was submitted in it. */
		if (unlikely(now == before))
			now++;
		err = vector_burst(qp, v, now, plain);
	}
	return err ? err : 1;
}
