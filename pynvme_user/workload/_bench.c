/* The benchmark's loop. See _bench.h. */
#include "_bench.h"
#include "_bench_inline.h"

#include <string.h>

/* One burst in so many is timed by itself, for the costs of submission and completion. */
#define TIMED_BURSTS 64

/*
 * With so few outstanding, the time of the poll that found a completion is that of its end, and the
 * clock is not read again: see nvme_cq_await(). It is not believed where the burst took longer than
 * this: somebody else had the CPU, and that may have been before the poll.
 */
#define FEW 4u
#define POLL_NS 1000

/* No I/O's group: see group_of(). */
#define NO_GROUP UINT32_MAX

_Static_assert(sizeof(((struct nvme_bench *)0)->submits) == (NVME_BURST + 1) * sizeof(uint64_t) &&
		       sizeof(((struct nvme_bench *)0)->reaps) == (NVME_BURST + 1) * sizeof(uint64_t),
	       "0 to NVME_BURST I/Os");

void nvme_bench_result_clear(struct nvme_bench_result *result)
{
	result->ios = result->blocks = result->failed = 0;
	nvme_histogram_clear(&result->slat);
	nvme_histogram_clear(&result->clat);
	nvme_histogram_clear(&result->lat);
}

/*
 * Make all of a pair's batches free: one for each I/O that can be outstanding, and the one that is
 * being submitted while those that ended are not yet accounted for.
 */
static void batches_init(struct nvme_bench *b, uint32_t depth)
{
	for (uint32_t i = 0; i <= depth; i++)
		b->batches[i].next = i + 1;
	b->next_batch = 0;
}

/* --- submission -------------------------------------------------------------------------- */

/* The range of a Dataset Management command, NVM Command Set 1.0, figure 43. */
struct dsm_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t lba;
};

int nvme_bench_write_other(struct nvme_qpair *qp, struct nvme_bench *b, struct nvme_io io,
			   const struct nvme_bench_slot *slot, uint16_t cid)
{
	const struct nvme_sqe *command = &b->commands[io.direction];
	uint32_t length = io.blocks * b->block_bytes;
	uint64_t lba = io.lba;

	if (io.direction == NVME_BENCH_FLUSH) {
		sq_write(qp, command, cid);
		return 0;
	}
	if (io.direction == NVME_DIRECTION_TRIM && b->zone_trims) {
		*(dword_pair *)&sq_write(qp, command, cid)->cdw10 = lba;
		return 0;
	}
	if (io.direction == NVME_DIRECTION_TRIM) {
		const struct dsm_range range = { .blocks = io.blocks, .lba = lba };

		memcpy(slot->data, &range, sizeof(range));
		return sqe_set_data(qp, sq_write(qp, command, cid), slot->iova, sizeof(range));
	}
	if (io.direction == NVME_DIRECTION_WRITE) {
		if (b->buffers)
			nvme_buffers_fill(b->buffers, slot->data, length);
		if (b->metadata)
			nvme_bench_metadata_generate(b->metadata, &io, slot->data);
		if (b->zone_blocks)
			lba -= lba % b->zone_blocks;
	}
	if (b->metadata)
		return nvme_bench_metadata_write(qp, b->metadata, command, cid, lba, 0, io.blocks,
						 slot->iova);
	return sq_write_io(qp, command, cid, lba, io.blocks - 1, slot->iova, length);
}

/*
 * Write one I/O's command at the tail, under a CID whose slot it is and whose tracker is the
 * caller's to take. Returns 0 or a negative errno.
 */
static inline int bench_write(struct nvme_qpair *qp, struct nvme_bench *b, struct nvme_io io,
			      struct nvme_bench_slot *slot, uint16_t cid)
{
	int err;

	slot->io.blocks = io.blocks;
	if (likely(io.direction < b->fast_directions))
		err = sq_write_io(qp, &b->commands[io.direction], cid, io.lba, io.blocks - 1,
				  slot->iova, io.blocks << b->block_shift);
	else
		err = nvme_bench_write_other(qp, b, io, slot, cid);
	if (likely(!err))
		sq_advance(qp);
	return err;
}

/* What a tracker has as `user`: the I/O's batch, and in the low two bits its direction. */
static inline uint32_t group_of(const struct nvme_bench *b, struct nvme_io io)
{
	return b->next_batch << 2 | io.direction;
}

/*
 * Account for the I/Os of the next batch, `counts` of them by direction, of a burst that began at
 * `now` and whose doorbell has just been written. Returns when that was.
 */
static inline uint64_t bench_submitted(const struct nvme_qpair *qp, struct nvme_bench *b,
				       const uint32_t *counts, uint64_t now)
{
	struct nvme_bench_batch *batch = &b->batches[b->next_batch];
	uint64_t rung = ticks_now();
	uint32_t n = 0;

	for (uint32_t direction = 0; direction < 4; direction++)
		if (counts[direction]) {
			histogram_add(&b->results[direction].slat, ticks_age_ns(rung, now),
				      counts[direction]);
			b->submitted[direction] += counts[direction];
			n += counts[direction];
		}
	b->next_batch = batch->next;
	batch->began = now;
	batch->rung = rung;
	batch->outstanding = n;
	b->depths[nvme_depth_class(qp->outstanding)] += n;
	b->submits[n]++;
	return rung;
}

/*
 * Fill the queue, up to a burst's number of I/Os that are due at `now`, and ring once. Returns 0 or
 * a negative errno.
 */
static inline __attribute__((always_inline)) int bench_submit(struct nvme_qpair *qp,
							      struct nvme_bench *b, uint64_t now,
							      int throttled)
{
	uint32_t limit = b->submit_max ? b->submit_max : qp->burst;
	uint64_t timed = b->bursts % TIMED_BURSTS == 1 ? ticks_now() : 0;
	uint32_t counts[4] = { 0 };
	uint32_t n = 0;
	uint64_t rung;
	int err = 0;
	int ring_err;

	while (n < limit && qp->outstanding < b->depth && qp->free_head != NO_CID) {
		struct nvme_bench_slot *slot = &b->slots[cid_index(qp, qp->free_head)];
		struct nvme_io io;

		if (throttled) {
			slot->start = now;
			err = nvme_bench_due(qp->outstanding, b, now, slot);
			if (err <= 0)
				break;
			io = slot->io;
		} else if (unlikely(!nvme_generator_next(b->generator, &io))) {
			b->exhausted = 1;
			break;
		}
		err = bench_write(qp, b, io, slot, qp->free_head);
		if (unlikely(err)) {
			/* The table was told of it by nvme_bench_due(). */
			if (b->verify)
				nvme_bench_verify(b, slot, 0);
			break;
		}
		tracker_take(qp, group_of(b, io), now);
		counts[io.direction]++;
		n++;
	}
	if (throttled && qp->outstanding == b->depth)
		b->draining = 1;
	if (!n)
		return err;
	/* Also after an error: those before it are to be drained. */
	ring_err = sq_ring(qp);
	rung = bench_submitted(qp, b, counts, now);
	if (timed) {
		b->submit_ticks += rung - timed;
		b->submit_timed += n;
	}
	return err ? err : ring_err;
}

/*
 * Fill the queue with all that is due, a doorbell for each burst's number. Returns 0 or a negative
 * errno.
 */
static inline __attribute__((always_inline)) int bench_fill(struct nvme_qpair *qp,
							    struct nvme_bench *b, uint64_t now,
							    int throttled)
{
	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	for (;;) {
		uint32_t before = qp->outstanding;
		int err = bench_submit(qp, b, now, throttled);

		if (err || qp->outstanding == before || qp->outstanding >= b->depth ||
		    b->exhausted)
			return err;
		now = ticks_now();
	}
}

/* --- completion -------------------------------------------------------------------------- */

__attribute__((cold)) void nvme_bench_failed(struct nvme_bench *b, uint32_t direction,
					     uint32_t status)
{
	b->results[direction].failed++;
	/* The last entry takes what there is no room for. */
	for (uint32_t i = 0; i < NVME_BENCH_ERRORS; i++) {
		struct nvme_bench_error *error = &b->errors[i];

		if (!error->ios || (error->status == status && error->direction == direction) ||
		    i == NVME_BENCH_ERRORS - 1) {
			error->status = status;
			error->direction = direction;
			error->ios++;
			return;
		}
	}
}

/* The same for one whose slat was counted with its doorbell. */
static __attribute__((cold)) void bench_failed(struct nvme_bench *b, uint32_t group,
					       uint32_t status)
{
	const struct nvme_bench_batch *batch = &b->batches[group >> 2];
	uint32_t direction = group & 3;

	histogram_take(&b->results[direction].slat, ticks_age_ns(batch->rung, batch->began), 1);
	nvme_bench_failed(b, direction, status);
}

void nvme_bench_verify(struct nvme_bench *b, const struct nvme_bench_slot *slot, int ok)
{
	const struct nvme_io *io = &slot->io;
	struct nvme_verify *v = b->verify;
	struct nvme_verify_fault fault;

	switch (io->direction) {
	case NVME_DIRECTION_READ:
		if (ok && nvme_verify_check(v, io->lba, io->blocks, slot->data, &fault) > 0) {
			if (b->fault_count < NVME_BENCH_FAULTS)
				b->faults[b->fault_count] = fault;
			b->fault_count++;
			b->stop |= b->verify_fatal;
		}
		nvme_verify_end_read(v, io->lba, io->blocks);
		break;
	case NVME_DIRECTION_WRITE:
		nvme_verify_end_write(v, io->lba, io->blocks, ok);
		break;
	case NVME_DIRECTION_TRIM:
		nvme_verify_end_trim(v, io->lba, io->blocks, (int)v->trim_kind, ok);
		break;
	}
}

void nvme_bench_log(struct nvme_bench *b, const struct nvme_bench_slot *slot,
		    const struct nvme_bench_batch *batch, uint64_t now)
{
	b->records[b->record_count++] = (struct nvme_bench_record){
		.end_ns = ticks_age_ns(now, b->epoch),
		.slat = ticks_age_ns(batch->rung, batch->began),
		.clat = ticks_age_ns(now, batch->rung),
		.lat = ticks_age_ns(now, slot->start),
		.offset = slot->io.lba * b->block_bytes,
		.bytes = slot->io.blocks * b->block_bytes,
		.direction = slot->io.direction,
	};
}

/*
 * I/Os that were reaped one after another in one burst and have everything in common that is
 * accounted for. A device that answers a batch with a batch makes a burst one run.
 */
struct bench_run {
	uint32_t group;
	uint32_t ios;
	uint32_t failed; /* of them */
	uint64_t blocks; /* of the others */
	uint64_t start;	 /* where `throttled`; otherwise that of their batch */
};

static inline void run_add(struct nvme_bench *b, struct bench_run *run,
			   const struct nvme_bench_slot *slot, uint16_t status)
{
	run->ios++;
	if (likely(!status)) {
		run->blocks += slot->io.blocks;
		return;
	}
	run->failed++;
	bench_failed(b, run->group, status);
}

/* Account for a run that ended at `now`. After the last I/O of its batch, that is free. */
static inline void bench_count(struct nvme_bench *b, const struct bench_run *run, uint64_t now,
			       int throttled)
{
	uint32_t direction = run->group & 3;
	uint32_t index = run->group >> 2;
	uint32_t good = run->ios - run->failed;
	struct nvme_bench_result *result = &b->results[direction];
	struct nvme_bench_batch *batch = &b->batches[index];

	b->ended[direction] += run->ios;
	batch->outstanding -= run->ios;
	if (!batch->outstanding) {
		batch->next = b->next_batch;
		b->next_batch = index;
	}
	if (unlikely(!good))
		return;
	result->ios += good;
	result->blocks += run->blocks;
	histogram_add(&result->clat, ticks_age_ns(now, batch->rung), good);
	histogram_add(&result->lat, ticks_age_ns(now, throttled ? run->start : batch->began), good);
}

/* Reap up to a burst's number of completions. Returns 0 or a negative errno. */
static inline __attribute__((always_inline)) int bench_reap(struct nvme_qpair *qp,
							    struct nvme_bench *b, uint64_t now,
							    int throttled)
{
	uint32_t limit = b->reap_max ? b->reap_max : qp->burst;
	uint64_t timed = b->bursts % TIMED_BURSTS ? 0 : now;
	struct bench_run run = { .group = NO_GROUP };
	uint32_t n = 0;
	uint64_t end;
	int err = 0;

	if (b->records && b->record_limit - b->record_count < limit)
		limit = b->record_limit - b->record_count;
	while (n < limit && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint16_t status = cqe_status(end) & STATUS_CODE_AND_TYPE;
		const struct nvme_bench_slot *slot;

		if (unlikely(!tracker)) {
			err = -EPROTO;
			break;
		}
		slot = &b->slots[cqe_index(qp, end)];
		if (throttled && b->metadata && !status)
			status = nvme_bench_metadata_check(b->metadata, &slot->io, slot->data);
		if (tracker->user != run.group || (throttled && slot->start != run.start)) {
			if (n)
				bench_count(b, &run, now, throttled);
			run = (struct bench_run){ .group = tracker->user, .start = slot->start };
		}
		run_add(b, &run, slot, status);
		if (throttled && b->records && !status)
			nvme_bench_log(b, slot, &b->batches[run.group >> 2], now);
		if (throttled && b->verify)
			nvme_bench_verify(b, slot, !status);
		tracker_free(qp, tracker, cqe_cid(end));
		cq_advance(qp);
		n++;
	}
	if (n)
		bench_count(b, &run, now, throttled);
	b->bursts++;
	b->reaps[n]++;
	cq_reaped(qp, n);
	if (timed) {
		b->reap_ticks += ticks_now() - timed;
		b->reap_timed += n;
	}
	return err ? err : qp->error;
}

/*
 * Reap up to a burst's number of completions, each followed by the next I/O under its CID's index, ring
 * once, and only then account for both: the device is at work meanwhile. For a workload that
 * nothing holds back. `early`: `now` was before the poll. Returns 0 or a negative errno.
 */
static inline __attribute__((always_inline)) int bench_burst(struct nvme_qpair *qp,
							    struct nvme_bench *b, uint64_t now,
							    int early)
{
	struct bench_run runs[NVME_BURST + 1]; /* the first is empty */
	struct bench_run *run = runs;
	uint32_t counts[4] = { 0 };
	uint32_t n = 0;
	uint64_t after;
	uint64_t end;
	int err = 0;
	int ring_err;

	run->group = NO_GROUP;
	while (n < qp->burst && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint16_t cid = cqe_cid(end);
		struct nvme_bench_slot *slot;
		struct nvme_io io;

		if (unlikely(!tracker)) {
			err = -EPROTO;
			break;
		}
		slot = &b->slots[cqe_index(qp, end)];
		if (tracker->user != run->group) {
			if (unlikely(tracker->user >> 2 == b->next_batch)) {
				err = -EPROTO; /* submitted in this burst, not announced yet */
				break;
			}
			*++run = (struct bench_run){ .group = tracker->user };
		}
		run_add(b, run, slot, cqe_status(end) & STATUS_CODE_AND_TYPE);
		cq_advance(qp);
		n++;
		if (likely(nvme_generator_next(b->generator, &io))) {
			cid = tracker_retake(qp, tracker, cid, group_of(b, io), now);
			err = bench_write(qp, b, io, slot, cid);
			if (likely(!err)) {
				counts[io.direction]++;
				continue;
			}
		} else {
			b->exhausted = 1;
		}
		tracker_free(qp, tracker, cid);
		break;
	}
	/* First the completion queue's head: what is announced then has room in it. */
	cq_reaped(qp, n);
	ring_err = sq_ring(qp);
	if (likely(counts[0] | counts[1] | counts[2] | counts[3]))
		after = bench_submitted(qp, b, counts, now);
	else
		after = ticks_now();
	if (early && unlikely(ticks_age_ns(after, now) > POLL_NS))
		now = after;
	while (run > runs)
		bench_count(b, run--, now, 0);
	b->bursts++;
	b->reaps[n]++;
	if (err || ring_err)
		return err ? err : ring_err;
	return qp->error;
}

/* Wait for `reap_min` completions, or as many as are outstanding, but not beyond the deadline. */
static void bench_await_many(const struct nvme_qpair *qp, uint32_t reap_min,
			     struct deadline deadline)
{
	uint32_t wanted = reap_min < qp->outstanding ? reap_min : qp->outstanding;

	while (!cq_is_ready(qp, wanted - 1) && !deadline_passed(deadline, ticks_now()))
		spin_pause();
}

/*
 * One round of a workload that something may hold back; `now` is read anew before the round's
 * completions. Returns 1 at the end, 0 to go on, -ETIME when the caller is to come again, or
 * another negative errno.
 */
static int bench_round_gated(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t *now,
			     struct deadline deadline)
{
	int err = b->stop || b->exhausted ? 0 : bench_fill(qp, b, *now, 1);

	if (unlikely(err))
		return err;
	if (!qp->outstanding)
		return bench_idle(b, now, deadline);
	if (bench_log_is_full(b))
		return -ETIME;
	if (b->reap_min > 1)
		bench_await_many(qp, b->reap_min, deadline);
	bench_await(qp, b, now, deadline);
	return bench_reap(qp, b, *now, 1);
}

/*
 * The same for one that keeps the queue full. Reaping and submission are apart where more than
 * `depth` are outstanding, and in one burst in TIMED_BURSTS, so that what the two cost can be told
 * from each other.
 */
static inline int bench_round(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t *now,
			      struct deadline deadline)
{
	int ending = b->stop || b->exhausted;
	uint64_t found;
	int err = 0;

	if (!ending && unlikely(qp->outstanding < b->depth))
		err = bench_fill(qp, b, *now, 0);
	if (unlikely(err))
		return err;
	if (unlikely(!qp->outstanding))
		return 1;
	found = nvme_cq_await(qp, deadline);
	if (unlikely(!found))
		return -ETIME;
	if (unlikely(ending || qp->outstanding > b->depth || b->bursts % TIMED_BURSTS == 0)) {
		*now = ticks_now();
		return bench_reap(qp, b, *now, 0);
	}
	if (qp->outstanding <= FEW) {
		*now = found;
		return bench_burst(qp, b, found, 1);
	}
	*now = ticks_now();
	return bench_burst(qp, b, *now, 0);
}

int nvme_bench_run(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t timeout_ns)
{
	uint64_t now = ticks_now();
	struct deadline deadline = { now, ns_to_ticks(timeout_ns) };
	int done;

	if (!qp->outstanding)
		batches_init(b, qp->depth);
	/* At least one round, so that a caller without time to give gets on, too. */
	if (b->throttled)
		do
			done = bench_round_gated(qp, b, &now, deadline);
		while (!done && !deadline_passed(deadline, now));
	else
		do
			done = bench_round(qp, b, &now, deadline);
		while (!done && !deadline_passed(deadline, now));
	return done == -ETIME ? 0 : done;
}
