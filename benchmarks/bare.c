/*
 * Loops on a queue pair with no clock, no histogram and no limits, which nvme_bench_run() is held
 * against; see bare.py.
 */
#include "_ring.h"
#include "_ring_inline.h"
#include "workload/_generator.h"

struct bare_loop {
	struct nvme_sqe command; /* opcode and nsid */
	const uint64_t *iovas;	 /* of the buffer of each CID's index, as many as the SQ has entries */
	uint64_t places;	 /* reads begin at a multiple of `blocks` below `places * blocks` */
	uint64_t blocks;
	uint64_t length; /* bytes */
	uint64_t random;
	uint64_t ios;	 /* so many, counted in `done` */
	uint64_t submitted;
	uint64_t done;
	uint64_t failed; /* of these */
};

/* Write the next read at the tail, under `cid`. Returns 0 or a negative errno. */
static inline int bare_write(struct nvme_qpair *qp, struct bare_loop *loop, uint16_t cid)
{
	uint64_t lba = nvme_random_below(nvme_random_next(&loop->random), loop->places) *
		       loop->blocks;
	int err = sq_write_io(qp, &loop->command, cid, lba, (uint32_t)loop->blocks - 1,
			      loop->iovas[cid_index(qp, cid)], (uint32_t)loop->length);

	if (unlikely(err))
		return err;
	sq_advance(qp);
	loop->submitted++;
	return 0;
}

static int bare_fill(struct nvme_qpair *qp, struct bare_loop *loop)
{
	while (qp->outstanding < qp->depth && loop->submitted < loop->ios) {
		int err = bare_write(qp, loop, qp->free_head);

		if (err)
			return err;
		tracker_take(qp, 0, 0);
	}
	return sq_ring(qp);
}

/* Reap up to a turn, each followed by the next read under its CID's index, and ring once. */
static inline int bare_turn(struct nvme_qpair *qp, struct bare_loop *loop)
{
	uint32_t n = 0;
	uint64_t end;
	int err = 0;

	while (n < qp->burst && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint16_t cid = cqe_cid(end);

		if (unlikely(!tracker))
			return -EPROTO;
		loop->failed += (cqe_status(end) & STATUS_CODE_AND_TYPE) != 0;
		cq_advance(qp);
		n++;
		if (likely(loop->submitted < loop->ios)) {
			cid = tracker_retake(qp, tracker, cid, 0, 0);
			err = bare_write(qp, loop, cid);
			if (likely(!err))
				continue;
		}
		tracker_free(qp, tracker, cid);
		if (unlikely(err))
			break;
	}
	loop->done += n;
	cq_reaped(qp, n);
	return err ? err : sq_ring(qp);
}

/*
 * The least that a closed loop of random reads can be: the core's own steps, inline. Runs `loop->ios`
 * on a pair with none outstanding, whose nvme_tick_rate() was called. Returns 0, or a negative errno:
 * -ETIME when `timeout_ns` pass without a completion; then commands may be outstanding.
 */
int bare_loop_run(struct nvme_qpair *qp, struct bare_loop *loop, uint64_t timeout_ns)
{
	uint64_t timeout = ns_to_ticks(timeout_ns);
	int err = bare_fill(qp, loop);

	while (!err && loop->done < loop->ios) {
		if (!nvme_cq_await(qp, (struct deadline){ ticks_now(), timeout }))
			return -ETIME;
		err = bare_turn(qp, loop);
	}
	return err;
}

/* Count up to a turn of completions, in the order of the entries from `*next` on, or -EPROTO. */
static inline int doorbells_reap(struct nvme_qpair *qp, struct bare_loop *loop, uint32_t *next)
{
	int n = 0;
	uint64_t end;

	while (n < (int)qp->burst && !((end = cq_next(qp)) & CQE_PHASE)) {
		if (unlikely((uint32_t)(end >> 16) != *next << 16))
			return -EPROTO;
		loop->failed += (cqe_status(end) & STATUS_CODE_AND_TYPE) != 0;
		cq_advance(qp);
		*next = *next + 1 == qp->sq_entries ? 0 : *next + 1;
		n++;
	}
	return n;
}

/*
 * What no driver can go below: the commands are all in the queue beforehand, and of each I/O there is
 * the tail's step, its share of a doorbell, and a look at the word that says that it is complete.
 * An entry's CID is its index. That is free again by the time of its next use only if the device
 * completes in order: -EPROTO where it does not. Otherwise as bare_loop_run().
 */
int bare_doorbells_run(struct nvme_qpair *qp, struct bare_loop *loop, uint64_t timeout_ns)
{
	uint64_t timeout = ns_to_ticks(timeout_ns);
	uint32_t next = qp->sq_tail;
	uint32_t fill = loop->ios < qp->depth ? (uint32_t)loop->ios : qp->depth;
	int err = 0;

	for (uint32_t i = 0; i < qp->sq_entries && !err; i++)
		err = bare_write(qp, loop, (uint16_t)qp->sq_tail);
	loop->submitted = 0;
	for (uint32_t more = fill; !err; ) {
		int n;

		loop->submitted += more;
		qp->outstanding += more;
		qp->sq_tail += more;
		if (qp->sq_tail >= qp->sq_entries)
			qp->sq_tail -= qp->sq_entries;
		if (more)
			err = doorbell_update(&qp->sq_doorbell, qp->sq_tail);
		if (err || !qp->outstanding)
			break;
		if (!nvme_cq_await(qp, (struct deadline){ ticks_now(), timeout }))
			return -ETIME;
		n = doorbells_reap(qp, loop, &next);
		if (n < 0)
			return n;
		loop->done += (uint32_t)n;
		qp->outstanding -= (uint32_t)n;
		cq_reaped(qp, (uint32_t)n);
		more = loop->ios - loop->submitted < (uint32_t)n ?
			       (uint32_t)(loop->ios - loop->submitted) : (uint32_t)n;
	}
	return err;
}
