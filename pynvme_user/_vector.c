/* See _vector.h. */
#include "_vector.h"
#include "_ring_inline.h"

/* Write the vector's next I/O at the tail, under `cid`. Returns 0 or a negative errno. */
static inline int vector_write(struct nvme_qpair *qp, struct nvme_vector *v, uint16_t cid)
{
	uint32_t i = v->submitted;
	uint32_t blocks = unlikely(i + 1 == v->count) ? v->last_blocks : v->blocks;
	uint64_t iova = v->iovas[v->slots ? cid : i];
	int err = sq_write_io(qp, &v->command, cid, v->lbas[i], blocks - 1, iova,
			      blocks << v->block_shift);

	if (unlikely(err))
		return err;
	sq_advance(qp);
	v->submitted = i + 1;
	return 0;
}

/* Fill the queue from the vector, in batches. Returns 0 or a negative errno. */
static int vector_fill(struct nvme_qpair *qp, struct nvme_vector *v)
{
	while (v->submitted < v->count && qp->outstanding < qp->depth) {
		uint64_t now = ticks_now();
		int err = 0;
		int rung;

		for (uint32_t n = 0; n < qp->turn && v->submitted < v->count &&
				     qp->outstanding < qp->depth; n++) {
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
 * Reap up to a turn's number into the vector's arrays, each followed by the next I/O under the same CID,
 * and ring once. Returns 0 or a negative errno.
 */
static inline int vector_turn(struct nvme_qpair *qp, struct nvme_vector *v, uint64_t now)
{
	uint32_t count = 0;
	uint64_t end;
	int err = 0;
	int rung;

	while (count < qp->turn && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint16_t status = cqe_status(end);
		uint16_t cid = cqe_cid(end);

		if (unlikely(!tracker)) {
			err = -EPROTO;
			break;
		}
		v->status[tracker->user] = status;
		v->latency_ns[tracker->user] = ticks_to_ns(now - tracker->submitted);
		if (unlikely(status & STATUS_CODE_AND_TYPE))
			v->failed++;
		cq_advance(qp);
		count++;
		if (likely(v->submitted < v->count)) {
			tracker_retake(tracker, v->submitted, now);
			err = vector_write(qp, v, cid);
			if (likely(!err))
				continue;
		}
		tracker_free(qp, tracker, cid);
		if (unlikely(err))
			break;
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
	uint64_t end = now + ns_to_ticks(timeout_ns);
	int err = vector_fill(qp, v);

	while (!err && v->completed < v->count) {
		if (now >= end || !nvme_cq_await(qp, end))
			return 0;
		now = ticks_now();
		err = vector_turn(qp, v, now);
	}
	return err ? err : 1;
}
