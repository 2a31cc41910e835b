/* See _overhead.h. */
#include "_overhead.h"
#include "_ring_inline.h"

/* Reap one completion if it is there: 1 or 0, or -EPROTO. */
static inline int reap_one(struct nvme_qpair *qp)
{
	uint64_t end = cq_peek(qp);
	struct nvme_tracker *tracker;

	if (end & CQE_PHASE)
		return 0;
	tracker = cqe_tracker(qp, end);
	if (unlikely(!tracker))
		return -EPROTO;
	tracker_free(qp, tracker, cqe_cid(end));
	cq_advance(qp);
	cq_report(qp, 1);
	return 1;
}

int nvme_bench_overhead(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t ios,
			uint64_t timeout_ns, struct nvme_overhead *overhead)
{
	uint64_t end = ticks_now() + ns_to_ticks(timeout_ns);

	nvme_histogram_clear(&overhead->submit);
	nvme_histogram_clear(&overhead->complete);
	for (overhead->ios = 0; overhead->ios < ios; overhead->ios++) {
		const struct nvme_sqe *command;
		uint64_t start, empty, done;
		struct nvme_io io;
		int got;

		if (!nvme_generator_next(b->generator, &io))
			break;
		command = &b->commands[io.direction];
		start = ticks_now();
		got = sq_write_io(qp, command, qp->free_head, io.lba, io.blocks - 1,
				  b->slots[qp->free_head].iova, io.blocks << b->block_shift);
		if (!got) {
			sq_advance(qp);
			tracker_take(qp, 0, start);
			got = sq_ring(qp);
		}
		empty = ticks_now();
		if (unlikely(got))
			return got;
		histogram_add(&overhead->submit, ticks_to_ns(empty - start), 1);
		for (;;) {
			got = reap_one(qp);
			done = ticks_now();
			if (got)
				break;
			look_pause(); /* as nvme_cq_await() does */
			empty = ticks_now();
			if (empty >= end)
				return 0;
		}
		if (unlikely(got < 0))
			return got;
		histogram_add(&overhead->complete, ticks_to_ns(done - empty), 1);
	}
	return 1;
}
