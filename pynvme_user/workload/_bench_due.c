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

	if (rate->ticks_per_block) {
		unsigned __int128 per_blocks = (unsigned __int128)rate->ticks_per_block * blocks;

		/* Whichever limit is the lower rate. */
		if (per_blocks > step)
			step = per_blocks;
	}
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
static __attribute__((noinline)) int bench_arrive(struct nvme_bench *b, uint64_t now,
						   struct nvme_io *io)
{
	uint32_t direction;

	if (b->drawn && b->drawn_count == b->drawn_limit)
		return bench_wait(b, now + INT64_MAX);
	if (!arrival_next(b, now, &direction) ||
	    (direction == NVME_DIRECTION_WRITE && !b->writes_left))
		return 0;
	if (!nvme_generator_next_of(b->generator, direction, io)) {
		b->exhausted = 1;
		return 0;
	}
	if (b->drawn)
		b->drawn[b->drawn_count++] = (uint8_t)direction;
	return 1;
}

/* The next I/O of the list. Returns 1, or 0 at the end or before it is due. */
static int list_next(struct nvme_bench *b, uint64_t now, struct nvme_bench_slot *slot,
		     struct nvme_io *io)
{
	uint64_t due;

	if (b->list_next == b->list_count) {
		b->exhausted = 1;
		return 0;
	}
	if (b->list_due) {
		if (!b->list_start)
			b->list_start = now;
		due = b->list_start + b->list_due[b->list_next];
		if (due > now)
			return bench_wait(b, due);
		slot->start = due > b->held_until ? due : b->held_until;
		b->held_until = slot->start;
	}
	*io = b->list[b->list_next++];
	return 1;
}

/* Keep an I/O until it can be submitted. Returns 0, for nvme_bench_due(). */
static inline int bench_keep(struct nvme_bench *b, struct nvme_io io)
{
	b->pending = io;
	b->has_pending = 1;
	return 0;
}

/* Whether a pause is to begin once nothing is outstanding. */
static int think_is_due(struct nvme_bench *b, uint64_t now)
{
	if (b->think_ios && b->think_count >= b->think_ios)
		return 1;
	if (!b->think_every)
		return 0;
	if (!b->think_due)
		b->think_due = now + b->think_every;
	return now >= b->think_due;
}

static void think_begin(struct nvme_bench *b, uint64_t now)
{
	b->think_count = 0;
	b->held_until = b->think_until = now + b->think_ticks;
	b->think_due = b->think_until + b->think_every;
	for (uint32_t direction = 0; b->rates_pause && direction < 3; direction++)
		if (b->rates[direction].due)
			b->rates[direction].due += b->think_ticks;
}

static inline __attribute__((always_inline)) int
bench_due(uint32_t outstanding, struct nvme_bench *b, uint64_t now, struct nvme_bench_slot *slot)
{
	struct nvme_io io;
	struct nvme_bench_rate *rate;
	int err = 0;

	b->wake = now;
	if (b->depth_low) {
		b->draining = b->draining && outstanding > b->depth_low;
		if (b->draining)
			return 0;
	}
	if (b->think_ticks) {
		if (b->think_until > now)
			return bench_wait(b, b->think_until);
		if (think_is_due(b, now)) {
			if (outstanding)
				return 0;
			think_begin(b, now);
			return bench_wait(b, b->think_until);
		}
	}
	if (b->flush_every && b->writes >= b->flush_every) {
		b->writes = 0;
		slot->io = (struct nvme_io){ .direction = NVME_BENCH_FLUSH };
		return 1;
	}
	if (b->has_pending) {
		io = b->pending;
		b->has_pending = 0;
	} else if (b->independent && !b->list) {
		if (!bench_arrive(b, now, &io))
			return 0;
	} else if (b->list) {
		if (!list_next(b, now, slot, &io))
			return 0;
	} else if (!nvme_generator_next(b->generator, &io)) {
		b->exhausted = 1;
		return 0;
	}
	if (!b->writes_left && io.direction == NVME_DIRECTION_WRITE)
		return bench_keep(b, io);
	rate = &b->rates[io.direction];
	if (rate_is_set(rate)) {
		if (!rate->due)
			rate->due = now;
		if (rate->due > now) {
			b->wake = rate->due;
			return bench_keep(b, io);
		}
	}
	if (b->verify) {
		if (io.direction == NVME_DIRECTION_READ)
			err = nvme_verify_begin_read(b->verify, io.lba, io.blocks);
		else if (io.direction == NVME_DIRECTION_WRITE)
			err = nvme_verify_begin_write(b->verify, io.lba, io.blocks,
						      slot->data);
		else
			err = nvme_verify_begin_trim(b->verify, io.lba, io.blocks,
						     (int)b->verify->trim_kind);
		if (err)
			bench_keep(b, io);
		if (err == -EBUSY)
			return 0; /* until the I/O of the same blocks has ended */
		if (err)
			return err;
	}
	if (rate_is_set(rate)) {
		/* None arrives before those that come before it. */
		if (rate->due > b->held_until)
			b->held_until = rate->due;
		slot->start = b->held_until;
		rate_advance(b, rate, io.blocks);
	}
	slot->io = io;
	b->think_count++;
	if (io.direction == NVME_DIRECTION_WRITE) {
		b->writes++;
		b->writes_left--;
	}
	return 1;
}

/* The same for a workload whose I/Os are noted. */
static __attribute__((noinline)) int due_noted(uint32_t outstanding, struct nvme_bench *b, uint64_t now,
					       struct nvme_bench_slot *slot)
{
	int found;

	if (b->issued_count == b->issued_limit)
		return bench_wait(b, now + INT64_MAX);
	found = bench_due(outstanding, b, now, slot);
	if (found > 0)
		b->issued[b->issued_count++] =
			(struct nvme_bench_issued){ .at = now, .io = slot->io };
	return found;
}

int nvme_bench_due(uint32_t outstanding, struct nvme_bench *b, uint64_t now,
		   struct nvme_bench_slot *slot)
{
	if (unlikely(b->issued != NULL))
		return due_noted(outstanding, b, now, slot);
	return bench_due(outstanding, b, now, slot);
}
