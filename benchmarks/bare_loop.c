/*
 * The least that a closed loop of random reads on a queue pair can be: the core's own steps, inline,
 * and no clock, no histogram, no limits. What nvme_bench_run() is held against; see bare_loop.py.
 */
#include "_generator.h"
#include "_ring.h"
#include "_ring_inline.h"

/* Commands per doorbell and completions per turn, as in _bench.c. */
#define TURN 64

struct bare_loop {
	struct nvme_sqe command; /* opcode and nsid */
	const uint64_t *iovas;	 /* of each CID's buffer */
	uint64_t places;	 /* reads begin at a multiple of `blocks` below `places * blocks` */
	uint64_t blocks;
	uint64_t length; /* bytes */
	uint64_t random;
	uint64_t ios;	 /* so many, counted in `done` */
	uint64_t done;
	uint64_t failed; /* of these */
};

static inline int bare_submit(struct nvme_qpair *qp, struct bare_loop *loop, uint64_t *submitted)
{
	for (uint32_t n = 0; n < TURN && qp->outstanding < qp->depth && *submitted < loop->ios;
	     n++) {
		unsigned __int128 word = nvme_random_next(&loop->random);
		uint64_t lba = (uint64_t)(word * loop->places >> 64) * loop->blocks;
		uint16_t cid = qp->free_head;
		int err = sq_write_io(qp, &loop->command, cid, lba, (uint32_t)loop->blocks - 1,
				      loop->iovas[cid], (uint32_t)loop->length);

		if (unlikely(err))
			return err;
		sq_advance(qp);
		tracker_take(qp, 0, 1); /* a time of 0 would say that there is no command */
		++*submitted;
	}
	return sq_ring(qp);
}

static inline int bare_reap(struct nvme_qpair *qp, struct bare_loop *loop)
{
	uint32_t n = 0;
	uint64_t end;

	while (n < TURN && !((end = cq_peek(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);

		if (unlikely(!tracker))
			return -EPROTO;
		loop->failed += (cqe_status(end) & STATUS_CODE_AND_TYPE) != 0;
		tracker_free(qp, tracker, cqe_cid(end));
		cq_advance(qp);
		n++;
	}
	loop->done += n;
	cq_reaped(qp, n);
	return 0;
}

/*
 * Run `loop->ios` reads, on a pair with none outstanding; nvme_tick_rate() was called. Returns 0, or a negative errno: -ETIME when `timeout_ns` pass without a
 * completion; then commands may be outstanding.
 */
int bare_loop_run(struct nvme_qpair *qp, struct bare_loop *loop, uint64_t timeout_ns)
{
	uint64_t timeout = ns_to_ticks(timeout_ns);
	uint64_t submitted = loop->done;
	int err = 0;

	while (!err && loop->done < loop->ios) {
		err = bare_submit(qp, loop, &submitted);
		if (!err && !nvme_cq_await(qp, ticks_now() + timeout))
			err = -ETIME;
		if (!err)
			err = bare_reap(qp, loop);
	}
	return err;
}
