/* I/Os of several commands. See _bench_split.h. */
#include "_bench_split.h"
#include "_bench_inline.h"

#define NO_IO UINT32_MAX

/* Command Aborted By Host (Base 2.0, figure 97): of an I/O of which a command could not be written. */
#define ABORTED_BY_HOST 0x371

void nvme_bench_split_init(struct nvme_bench_split *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		s->ios[i].commands.next = i + 1;
	s->free = s->outstanding = s->ends_awaited = 0;
	s->current = NO_IO;
}

void nvme_bench_split_fail_rest(struct nvme_bench_split *s)
{
	struct nvme_bench *b = s->bench;

	for (uint32_t direction = 0; direction < 4; direction++) {
		b->results[direction].failed += b->submitted[direction] - b->ended[direction];
		b->ended[direction] = b->submitted[direction];
	}
	b->stop = 1;
	nvme_bench_split_init(s);
}

static void split_free(struct nvme_bench_split *s, uint32_t index)
{
	s->ios[index].commands.next = s->free;
	s->free = index;
	s->outstanding--;
}

/* Account for one that ended at `now`. */
static void split_end(struct nvme_bench_split *s, uint32_t index, uint64_t now)
{
	struct nvme_bench *b = s->bench;
	const struct nvme_bench_slot *slot = &b->slots[index];
	struct nvme_split_io *io = &s->ios[index];
	struct nvme_bench_result *result = &b->results[slot->io.direction];

	b->ended[slot->io.direction]++;
	if (b->metadata && !io->status)
		io->status = nvme_bench_metadata_check(b->metadata, &slot->io, slot->data);
	if (io->status) {
		nvme_bench_failed(b, slot->io.direction, io->status);
	} else {
		result->ios++;
		result->blocks += slot->io.blocks;
		histogram_add(&result->slat, ticks_age_ns(io->commands.rung, io->commands.began), 1);
		histogram_add(&result->clat, ticks_age_ns(now, io->commands.rung), 1);
		histogram_add(&result->lat, ticks_age_ns(now, slot->start), 1);
		if (b->records)
			nvme_bench_log(b, slot, &io->commands, now);
	}
	if (b->verify)
		nvme_bench_verify(b, slot, !io->status);
	s->ends_awaited -= s->ends_awaited > 0;
	split_free(s, index);
}

/* --- submission -------------------------------------------------------------------------- */

static inline int is_split(const struct nvme_bench_split *s, const struct nvme_io *io)
{
	return io->blocks > s->command_blocks && io->direction <= NVME_DIRECTION_WRITE;
}

/* Begin the next I/O that is due at `now`. Returns 1, 0 where there is none, or a negative errno. */
static int split_begin(struct nvme_bench_split *s, uint64_t now)
{
	struct nvme_bench *b = s->bench;
	struct nvme_bench_slot *slot;
	int err;

	if (b->stop || b->exhausted || s->ends_awaited || s->outstanding >= b->depth)
		return 0;
	slot = &b->slots[s->free];
	slot->start = now;
	err = nvme_bench_due(s->outstanding, b, now, slot);
	if (err <= 0)
		return err;
	s->current = s->free;
	s->current_blocks = 0;
	s->outstanding++;
	s->free = s->ios[s->current].commands.next;
	s->ios[s->current] = (struct nvme_split_io){ .commands.began = now };
	if (slot->io.direction == NVME_DIRECTION_WRITE && is_split(s, &slot->io)) {
		if (b->buffers)
			nvme_buffers_fill(b->buffers, slot->data, slot->io.blocks * b->block_bytes);
		if (b->metadata)
			nvme_bench_metadata_generate(b->metadata, &slot->io, slot->data);
	}
	return 1;
}

/* Whether the current I/O's next command has to wait for the one before it. */
static int split_waits(const struct nvme_bench_split *s)
{
	return s->in_order && s->ios[s->current].commands.outstanding &&
	       s->bench->slots[s->current].io.direction == NVME_DIRECTION_WRITE;
}

/*
 * Write the current I/O's next command at the tail, under a free CID; after the last, it is current no
 * more. Returns 0 or a negative errno.
 */
static int split_write(struct nvme_qpair *qp, struct nvme_bench_split *s, uint64_t now)
{
	struct nvme_bench *b = s->bench;
	const struct nvme_bench_slot *slot = &b->slots[s->current];
	struct nvme_io io = slot->io;
	int err;

	if (is_split(s, &io)) {
		uint64_t offset = (uint64_t)s->current_blocks * b->block_bytes;

		io.lba += s->current_blocks;
		io.blocks -= s->current_blocks;
		if (io.blocks > s->command_blocks)
			io.blocks = s->command_blocks;
		if (b->metadata)
			err = nvme_bench_metadata_write(qp, b->metadata, &b->commands[io.direction],
							qp->free_head, io.lba, s->current_blocks,
							io.blocks, slot->iova);
		else
			err = sq_write_io(qp, &b->commands[io.direction], qp->free_head, io.lba,
					  io.blocks - 1, slot->iova + offset,
					  io.blocks * b->block_bytes);
	} else {
		err = nvme_bench_write_other(qp, b, io, slot, qp->free_head);
	}
	if (unlikely(err))
		return err;
	sq_advance(qp);
	tracker_take(qp, s->current, now);
	s->ios[s->current].commands.outstanding++;
	s->current_blocks += io.blocks;
	if (s->current_blocks == slot->io.blocks)
		s->current = NO_IO;
	return 0;
}

/*
 * A command of the current I/O could not be written: it ends with those that are outstanding, or, where
 * the device was told of none, as if it had not begun. Returns whether it is the latter.
 */
static __attribute__((cold)) int split_drop(struct nvme_bench_split *s, int is_told, uint64_t now)
{
	struct nvme_split_io *io = &s->ios[s->current];
	uint32_t index = s->current;
	int is_gone = !is_told && !io->commands.outstanding;

	s->current = NO_IO;
	io->status = ABORTED_BY_HOST;
	if (is_gone) {
		/* The table was told of it by nvme_bench_due(). */
		if (s->bench->verify)
			nvme_bench_verify(s->bench, &s->bench->slots[index], 0);
		split_free(s, index);
	} else if (!io->commands.outstanding) {
		split_end(s, index, now);
	}
	return is_gone;
}

/* Account for the `n` I/Os whose first commands' doorbell has just been written. */
static void split_submitted(struct nvme_bench_split *s, const uint32_t *begun, uint32_t n,
			    uint64_t rung)
{
	struct nvme_bench *b = s->bench;

	for (uint32_t i = 0; i < n; i++) {
		s->ios[begun[i]].commands.rung = rung;
		b->submitted[b->slots[begun[i]].io.direction]++;
	}
	b->submit_timed += n;
	if (n) {
		b->depths[nvme_depth_class(s->outstanding)] += n;
		b->submits[n]++;
	}
}

/*
 * Submit a burst's number of commands at most, of I/Os that are due at `now`, and ring once. Returns 0 or
 * a negative errno.
 */
static int split_submit(struct nvme_qpair *qp, struct nvme_bench_split *s, uint64_t now)
{
	struct nvme_bench *b = s->bench;
	uint32_t limit = b->submit_max ? b->submit_max : NVME_BURST;
	uint32_t begun[NVME_BURST];
	uint32_t ios = 0;
	uint32_t commands = 0;
	uint64_t entered = ticks_now();
	uint64_t rung;
	int is_told;
	int err = 0;
	int ring_err;

	while (commands < NVME_BURST && qp->free_head != NO_CID) {
		if (s->current == NO_IO) {
			if (ios == limit)
				break;
			err = split_begin(s, now);
			if (err <= 0)
				break;
			begun[ios++] = s->current;
		} else if (split_waits(s)) {
			break;
		}
		err = split_write(qp, s, now);
		if (unlikely(err)) {
			is_told = !ios || begun[ios - 1] != s->current;
			ios -= (uint32_t)split_drop(s, is_told, now);
			break;
		}
		commands++;
	}
	if (s->outstanding == b->depth)
		b->draining = 1;
	if (!commands)
		return err;
	/* Also after an error: those before it are to be drained. */
	ring_err = sq_ring(qp);
	rung = ticks_now();
	split_submitted(s, begun, ios, rung);
	b->submit_ticks += rung - entered;
	return err ? err : ring_err;
}

/* Submit all that is due and has a place. Returns 0 or a negative errno. */
static int split_fill(struct nvme_qpair *qp, struct nvme_bench_split *s, uint64_t now)
{
	uint32_t before;
	int err;

	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	do {
		before = qp->outstanding;
		err = split_submit(qp, s, now);
		now = ticks_now();
	} while (!err && qp->outstanding != before);
	if (s->bench->reap_min > 1 && !s->ends_awaited)
		s->ends_awaited = s->bench->reap_min < s->outstanding ? s->bench->reap_min :
									s->outstanding;
	return err;
}

/* --- completion -------------------------------------------------------------------------- */

/* Reap up to a burst's number of completions. Returns 0 or a negative errno. */
static int split_reap(struct nvme_qpair *qp, struct nvme_bench_split *s, uint64_t now)
{
	struct nvme_bench *b = s->bench;
	uint32_t limit = b->reap_max ? b->reap_max : NVME_BURST;
	uint32_t commands = 0;
	uint32_t ios = 0;
	uint64_t end;
	int err = 0;

	if (b->records && b->record_limit - b->record_count < limit)
		limit = b->record_limit - b->record_count;
	while (commands < NVME_BURST && ios < limit && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint16_t status = cqe_status(end) & STATUS_CODE_AND_TYPE;
		struct nvme_split_io *io;
		uint32_t index;

		if (unlikely(!tracker)) {
			err = -EPROTO;
			break;
		}
		index = tracker->user;
		io = &s->ios[index];
		tracker_free(qp, tracker, cqe_cid(end));
		cq_advance(qp);
		commands++;
		if (unlikely(status) && !io->status)
			io->status = status;
		if (--io->commands.outstanding || s->current == index)
			continue;
		split_end(s, index, now);
		ios++;
	}
	b->bursts++;
	if (ios || !commands)
		b->reaps[ios]++;
	cq_reaped(qp, commands);
	b->reap_ticks += ticks_now() - now;
	b->reap_timed += ios;
	return err ? err : qp->error;
}

/*
 * One round; `now` is read anew before its completions. Returns 1 at the end, 0 to go on, -ETIME when
 * the caller is to come again, or another negative errno.
 */
static int split_round(struct nvme_qpair *qp, struct nvme_bench_split *s, uint64_t *now,
		       struct deadline deadline)
{
	const struct nvme_bench *b = s->bench;
	int err = split_fill(qp, s, *now);

	if (unlikely(err))
		return err;
	if (!s->outstanding)
		return bench_idle(b, now, deadline);
	if (bench_log_is_full(b))
		return -ETIME;
	bench_await(qp, b, now, deadline);
	return split_reap(qp, s, *now);
}

int nvme_bench_split_run(struct nvme_qpair *qp, struct nvme_bench_split *s, uint64_t timeout_ns)
{
	uint64_t now = ticks_now();
	struct deadline deadline = { now, ns_to_ticks(timeout_ns) };
	int done;

	/* At least one round, so that a caller without time to give gets on, too. */
	do
		done = split_round(qp, s, &now, deadline);
	while (!done && !deadline_passed(deadline, now));
	return done == -ETIME ? 0 : done;
}
