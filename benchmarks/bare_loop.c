/*
 * The least that a closed loop of random reads on a queue pair can be: the core's own steps, inline,
 * and no clock, no histogram, no limits. What nvme_bench_run() is held against; see bare_loop.py.
 */
#include "_generator.h"
#include "_ring.h"
#include "_ring_inline.h"

struct bare_loop {
	struct nvme_sqe command; /* opcode and nsid */
	const uint64_t *iovas;	 /* of each CID's buffer */
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
			      loop->iovas[cid], (uint32_t)loop->length);

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
		tracker_take(qp, 0, 1); /* a time of 0 would say that there is no command */
	}
	return sq_ring(qp);
}

/* Reap up to a turn, each followed by the next read under its CID, and ring once. */
static inline int bare_turn(struct nvme_qpair *qp, struct bare_loop *loop)
{
	uint32_t n = 0;
	uint64_t end;
	int err = 0;

	while (n < qp->turn && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);

		if (unlikely(!tracker))
			return -EPROTO;
		loop->failed += (cqe_status(end) & STATUS_CODE_AND_TYPE) != 0;
		cq_advance(qp);
		n++;
		if (likely(loop->submitted < loop->ios)) {
			err = bare_write(qp, loop, cqe_cid(end));
			if (likely(!err))
				continue;
		}
		tracker_free(qp, tracker, cqe_cid(end));
		if (unlikely(err))
			break;
	}
	loop->done += n;
	cq_reaped(qp, n);
	return err ? err : sq_ring(qp);
}

/*
 * Run `loop->ios` reads on a pair with none outstanding, whose nvme_tick_rate() was called. Returns
 * 0, or a negative errno: -ETIME when `timeout_ns` pass without a completion; then commands may be
 * outstanding.
 */
int bare_loop_run(struct nvme_qpair *qp, struct bare_loop *loop, uint64_t timeout_ns)
{
	uint64_t timeout = ns_to_ticks(timeout_ns);
	int err = bare_fill(qp, loop);

	while (!err && loop->done < loop->ios) {
		if (!nvme_cq_await(qp, ticks_now() + timeout))
			return -ETIME;
		err = bare_turn(qp, loop);
	}
	return err;
}
