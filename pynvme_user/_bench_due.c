/* What comes next in a workload that something may hold back. See _bench.h. */
#include "_bench.h"
#include "_ring_inline.h"

/* Random 64-bit words: SplitMix64's steps, as in _generator.h. */
static inline uint64_t bench_random(struct nvme_bench *b)
{
	return nvme_random_next(&b->random);
}

/* The arrival after one of `blocks` blocks: linear, or as the quantiles spread it. */
static inline void rate_advance(struct nvme_bench *b, struct nvme_bench_rate *rate, uint32_t blocks)
{
	unsigned __int128 step = rate->ticks_per_io;
	uint64_t per_blocks = rate->ticks_per_block * blocks;

	/* Whichever limit is the lower rate. */
	if (per_blocks > step)
		step = per_blocks;
	if (b->arrivals)
		step = step * b->arrivals[bench_random(b) >> 52] >> 16;
	step += rate->fraction;
	rate->due += (uint64_t)(step >> 32);
	rate->fraction = (uint64_t)step & UINT32_MAX;
}

/* The next I/O of the list or of the generator. Returns 1, or 0 at the end. */
static inline int bench_next(struct nvme_bench *b, struct nvme_io *io)
{
	if (!b->list)
		return nvme_generator_next(b->generator, io);
	if (b->list_next == b->list_count)
		return 0;
	*io = b->list[b->list_next++];
	return 1;
}

/* Say that there is nothing to do before `when`. Returns 0, for nvme_bench_due(). */
static inline int bench_wait(struct nvme_bench *b, uint64_t when)
{
	b->wake = when;
	return 0;
}

int nvme_bench_due(const struct nvme_qpair *qp, struct nvme_bench *b, uint64_t now,
		   struct nvme_bench_slot *slot)
{
	struct nvme_io *io = &slot->io;
	struct nvme_bench_rate *rate;
	int err = 0;

	b->wake = now;
	if (b->depth_low) {
		b->draining = b->draining && qp->outstanding > b->depth_low;
		if (b->draining)
			return 0;
	}
	if (b->think_until > now)
		return bench_wait(b, b->think_until);
	if (b->think_ios && b->think_count >= b->think_ios) {
		if (qp->outstanding)
			return 0;
		b->think_count = 0;
		b->think_until = now + b->think_ticks;
		return bench_wait(b, b->think_until);
	}
	if (b->flush_every && b->writes >= b->flush_every) {
		b->writes = 0;
		*io = (struct nvme_io){ .direction = NVME_BENCH_FLUSH };
		return 1;
	}
	if (!b->has_pending) {
		if (!bench_next(b, &b->pending)) {
			b->exhausted = 1;
			return 0;
		}
		b->has_pending = 1;
	}
	if (!b->writes_left && b->pending.direction == NVME_DIRECTION_WRITE)
		return 0;
	*io = b->pending;
	rate = &b->rates[io->direction];
	if (rate->ticks_per_io | rate->ticks_per_block) {
		if (!rate->due)
			rate->due = now;
		if (rate->due > now)
			return bench_wait(b, rate->due);
	}
	if (b->verify) {
		if (io->direction == NVME_DIRECTION_READ)
			err = nvme_verify_begin_read(b->verify, io->lba, io->blocks);
		else if (io->direction == NVME_DIRECTION_WRITE)
			err = nvme_verify_begin_write(b->verify, io->lba, io->blocks,
						      slot->data);
		else
			err = nvme_verify_begin_trim(b->verify, io->lba, io->blocks,
						     NVME_VERIFY_DEALLOCATE);
		if (err == -EBUSY)
			return 0; /* until the I/O of the same blocks has ended */
		if (err)
			return err;
	}
	if (rate->ticks_per_io | rate->ticks_per_block) {
		slot->start = rate->due;
		rate_advance(b, rate, io->blocks);
	}
	b->has_pending = 0;
	b->think_count++;
	if (io->direction == NVME_DIRECTION_WRITE) {
		b->writes++;
		b->writes_left--;
	}
	return 1;
}
