/* See _overhead.h. */
#include "_overhead.h"
#include "_ring_inline.h"

int nvme_bench_overhead(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t ios,
			uint64_t timeout_ns, struct nvme_overhead *overhead)
{
	struct deadline deadline = { ticks_now(), ns_to_ticks(timeout_ns) };
	/* The last one has its time, too: none is left behind by a device that works. */
	struct deadline last = { deadline.start, 2 * deadline.ticks };

	if (unlikely(qp->outstanding))
		return -EBUSY;
	nvme_histogram_clear(&overhead->submit);
	nvme_histogram_clear(&overhead->complete);
	for (overhead->ios = 0; overhead->ios < ios; overhead->ios++) {
		const struct nvme_sqe *command;
		uint64_t start, empty, found, done;
		struct nvme_io io;
		int err;

		if (overhead->ios && deadline_passed(deadline, ticks_now()))
			return 0;
		if (unlikely(cq_is_stray(qp)))
			return -EPROTO;
		if (!nvme_generator_next(b->generator, &io))
			break;
		command = &b->commands[io.direction];
		start = ticks_now();
		err = sq_write_io(qp, command, qp->free_head, io.lba, io.blocks - 1,
				  b->slots[cid_index(qp, qp->free_head)].iova,
				  io.blocks << b->block_shift);
		if (!err) {
			sq_advance(qp);
			tracker_take(qp, 0, start);
			err = sq_ring(qp);
		}
		empty = ticks_now();
		if (unlikely(err))
			return err;
		histogram_add(&overhead->submit, ticks_age_ns(empty, start), 1);
		for (;;) {
			found = cq_peek(qp);
			if (!(found & CQE_PHASE))
				err = cq_take(qp, found);
			done = ticks_now();
			if (!(found & CQE_PHASE))
				break;
			poll_pause(); /* as nvme_cq_await() does */
			empty = ticks_now();
			if (deadline_passed(last, empty))
				return 0;
		}
		if (unlikely(err < 0))
			return err;
		histogram_add(&overhead->complete, ticks_age_ns(done, empty), 1);
	}
	return 1;
}
