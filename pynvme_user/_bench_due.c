/* What comes next in a workload that something may hold back. See _bench.h. */
#include "_bench.h"
#include "_ring_inline.h"

static inline int rate_is_set(const struct nvme_bench_rate *rate)
{
	return (rate->ticks_per_io | rate->ticks_per_block) != 0;
}

/* The arrival after one of `blocks` blocks: linear, or as the quantiles spread it. */
static inline void rate_advance(struct nvme_bench *b, struct nvme_bench_rate *rate, uint32_t blocks)
{
	unsigned __int128 step = rate->ticks_per_io;
	unsigned __int128 per_blocks = (unsigned __int128)rate->ticks_per_block * blocks;

	/* Whichever limit is the lower rate. */
	if (per_blocks > step)
		step = per_blocks;
	if (b->arrivals)
		step = step * b->arrivals[nvme_random_next(&rate->random) >> 52] >> 16;
	step += rate->fraction;
	rate->due += (uint64_t)(step >> 32);
	rate->fraction = (uint64_t)step & UINT32_MAX;
}

/* Say that there is nothing to do before `when`. Returns 0, for nvme_bench_due(). */
static inline int bench_wait(struct nvme_bench *b, uint64_t when)
{
	b->wake = when;
	return 0;
}

/*
 * Which of a mix's directions comes next: the one that was due first. One without a rate always
 * wants to come, after what is due of the other; where it was passed over already, before. Returns
 * 1, or 0 if neither is due.
 */
static int arrival_next(struct nvme_bench *b, uint64_t now, uint32_t *direction)
{
	struct nvme_bench_rate *reads = &b->rates[NVME_DIRECTION_READ];
	struct nvme_bench_rate *writes = &b->rates[NVME_DIRECTION_WRITE];
	uint32_t first;

	if (!reads->due)
		reads->due = now;
	if (!writes->due)
		writes->due = now;
	if (rate_is_set(reads) && rate_is_set(writes)) {
		first = writes->due < reads->due ? NVME_DIRECTION_WRITE : NVME_DIRECTION_READ;
		if (b->rates[first].due > now)
			return bench_wait(b, b->rates[first].due);
	} else {
		first = rate_is_set(reads) ? NVME_DIRECTION_READ : NVME_DIRECTION_WRITE;
		b->passed_over = !b->passed_over && b->rates[first].due <= now;
		if (!b->passed_over)
			first ^= NVME_DIRECTION_READ ^ NVME_DIRECTION_WRITE;
	}
	*direction = first;
	return 1;
}

/* The next I/O of a mix whose directions arrive independently. Returns 1, or 0 for none now. */
static int bench_arrive(struct nvme_bench *b, uint64_t now)
{
	uint32_t direction;

	if (b->drawn && b->drawn_count == b->drawn_limit)
		return bench_wait(b, now + INT64_MAX);
	if (!arrival_next(b, now, &direction) ||
	    (direction == NVME_DIRECTION_WRITE && !b->writes_left))
		return 0;
	if (!nvme_generator_next_of(b->generator, direction, &b->pending)) {
		b->exhausted = 1;
		return 0;
	}
	if (b->drawn)
		b->drawn[b->drawn_count++] = (uint8_t)direction;
	return 1;
}

/* The next I/O of the list or of the generator. Returns 1, or 0 for none. */
static inline int bench_next(struct nvme_bench *b, uint64_t now)
{
	if (b->independent && !b->list)
		return bench_arrive(b, now);
	if (!b->list) {
		b->exhausted = !nvme_generator_next(b->generator, &b->pending);
		return !b->exhausted;
	}
	b->exhausted = b->list_next == b->list_count;
	if (!b->exhausted)
		b->pending = b->list[b->list_next++];
	return !b->exhausted;
}

int nvme_bench_due(uint32_t outstanding, struct nvme_bench *b, uint64_t now,
		   struct nvme_bench_slot *slot)
{
	struct nvme_io *io = &slot->io;
	struct nvme_bench_rate *rate;
	int is_rated;
	int err = 0;

	b->wake = now;
	if (b->depth_low) {
		b->draining = b->draining && outstanding > b->depth_low;
		if (b->draining)
			return 0;
	}
	if (b->think_until > now)
		return bench_wait(b, b->think_until);
	if (b->think_ios && b->think_count >= b->think_ios) {
		if (outstanding)
			return 0;
		b->think_count = 0;
		b->held_until = b->think_until = now + b->think_ticks;
		return bench_wait(b, b->think_until);
	}
	if (b->flush_every && b->writes >= b->flush_every) {
		b->writes = 0;
		*io = (struct nvme_io){ .direction = NVME_BENCH_FLUSH };
		return 1;
	}
	if (!b->has_pending) {
		if (!bench_next(b, now))
			return 0;
		b->has_pending = 1;
	}
	if (!b->writes_left && b->pending.direction == NVME_DIRECTION_WRITE)
		return 0;
	*io = b->pending;
	rate = &b->rates[io->direction];
	is_rated = rate_is_set(rate) && !b->unrated;
	if (is_rated) {
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
	if (is_rated) {
		slot->start = rate->due > b->held_until ? rate->due : b->held_until;
		/* In a sequence, none arrives before those that come before it. */
		if (!b->independent)
			b->held_until = slot->start;
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
