/* The benchmark's loop. See _bench.h. */
#include "_bench.h"
#include "_ring_inline.h"

#include <string.h>

/* One turn in so many is timed by itself, for the costs of submission and completion. */
#define TIMED_TURNS 64

void nvme_bench_result_clear(struct nvme_bench_result *result)
{
	result->ios = result->blocks = result->failed = 0;
	nvme_histogram_clear(&result->slat);
	nvme_histogram_clear(&result->clat);
	nvme_histogram_clear(&result->lat);
}

/* fio's classes of batches: 0, 1-4, 5-8, 9-16, 17-32, 33-64, more. */
static inline uint32_t batch_class(uint32_t n)
{
	if (n <= 4)
		return n != 0;
	return n > 64 ? 6 : 31 - (uint32_t)__builtin_clz(n - 1);
}

/* fio's classes of depths: 1, 2-3, 4-7 ... 64 and more. */
static inline uint32_t depth_class(uint32_t outstanding)
{
	return outstanding < 64 ? 31 - (uint32_t)__builtin_clz(outstanding) : 6;
}

/* --- submission -------------------------------------------------------------------------- */

/* The range of a Dataset Management command, NVM Command Set 1.0, figure 43. */
struct dsm_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t lba;
};

/*
 * Write the command of an I/O that is not a plain read or write at the tail. Returns 0 or a
 * negative errno.
 */
static int bench_write_other(struct nvme_qpair *qp, struct nvme_bench *b, const struct nvme_io *io,
			     uint16_t cid, uint64_t iova, uint8_t *buffer)
{
	const struct nvme_sqe *command = &b->commands[io->direction];
	uint32_t length = io->blocks << b->block_shift;
	uint64_t lba = io->lba;

	if (io->direction == NVME_BENCH_FLUSH) {
		sq_write(qp, command, cid);
		return 0;
	}
	if (io->direction == NVME_DIRECTION_TRIM && b->zone_trims) {
		*(dword_pair *)&sq_write(qp, command, cid)->cdw10 = lba;
		return 0;
	}
	if (io->direction == NVME_DIRECTION_TRIM) {
		const struct dsm_range range = { .blocks = io->blocks, .lba = io->lba };

		memcpy(buffer, &range, sizeof(range));
		return sqe_set_data(qp, sq_write(qp, command, cid), cid, iova, sizeof(range));
	}
	if (io->direction == NVME_DIRECTION_WRITE) {
		if (b->buffers)
			nvme_buffers_fill(b->buffers, buffer, length);
		if (b->zone_blocks)
			lba -= lba % b->zone_blocks;
	}
	return sq_write_io(qp, command, cid, lba, command->cdw12 | (io->blocks - 1), iova, length);
}

/*
 * Write one I/O's command at the tail, under a CID whose slot it is and whose tracker is the caller's
 * to take. Returns 0 or a negative errno.
 */
static inline int bench_write(struct nvme_qpair *qp, struct nvme_bench *b, const struct nvme_io *io,
			      uint16_t cid, struct nvme_bench_slot *slot, uint64_t start)
{
	const struct nvme_sqe *command = &b->commands[io->direction];
	int err;

	if (likely(io->direction < b->plain))
		err = sq_write_io(qp, command, cid, io->lba, command->cdw12 | (io->blocks - 1),
				  slot->iova, io->blocks << b->block_shift);
	else
		err = bench_write_other(qp, b, io, cid, slot->iova, slot->data);
	if (unlikely(err))
		return err;
	sq_advance(qp);
	slot->start = start;
	slot->blocks = io->blocks;
	slot->direction = io->direction;
	return 0;
}

static void bench_verify(struct nvme_bench *b, const struct nvme_bench_slot *slot, int ok);

/* Take back what nvme_bench_due() told the table of an I/O that could not be submitted. */
static void bench_unverify(struct nvme_bench *b, const struct nvme_io *io)
{
	const struct nvme_bench_slot slot = {
		.lba = io->lba,
		.blocks = io->blocks,
		.direction = io->direction,
	};

	if (b->verify)
		bench_verify(b, &slot, 0);
}

/*
 * Account for the `n` I/Os under `cids`, `counts` of them by direction, of a turn that began at
 * `now` and whose doorbell was written at `rung`.
 */
static inline void bench_submitted(struct nvme_qpair *qp, struct nvme_bench *b,
				   const uint16_t *cids, uint32_t n, const uint32_t *counts,
				   uint64_t now, uint64_t rung, int gated)
{
	for (uint32_t i = 0; i < n; i++) {
		qp->trackers[cids[i]].submitted = rung;
		if (gated && b->records)
			b->begun[cids[i]] = now;
	}
	for (uint32_t direction = 0; direction < 4; direction++)
		if (counts[direction]) {
			histogram_add(&b->results[direction].slat, ticks_to_ns(rung - now),
				      counts[direction]);
			b->submitted[direction] += counts[direction];
		}
	b->depths[depth_class(qp->outstanding)] += n;
	b->submits[batch_class(n)]++;
}

/*
 * Fill the queue, up to a turn's number of I/Os that are due at `now`, and ring once. Returns 0 or
 * a negative errno.
 */
static inline __attribute__((always_inline)) int bench_submit(struct nvme_qpair *qp,
							      struct nvme_bench *b, uint64_t now,
							      int gated)
{
	uint32_t limit = b->submit_max ? b->submit_max : qp->turn;
	uint64_t timed = b->turns % TIMED_TURNS == 1 ? ticks_now() : 0;
	uint32_t counts[4] = { 0 };
	uint16_t cids[NVME_TURN];
	uint32_t n = 0;
	uint64_t rung;
	int err = 0;
	int ring_err;

	while (n < limit && qp->outstanding < b->depth) {
		uint64_t start = now;
		struct nvme_io io;

		if (gated) {
			err = nvme_bench_due(qp, b, now, &io, &start);
			if (err <= 0)
				break;
		} else if (unlikely(!nvme_generator_next(b->generator, &io))) {
			b->exhausted = 1;
			break;
		}
		cids[n] = qp->free_head;
		err = bench_write(qp, b, &io, cids[n], &b->slots[cids[n]], start);
		if (unlikely(err)) {
			bench_unverify(b, &io);
			break;
		}
		tracker_take(qp, 0, start);
		if (gated)
			b->slots[cids[n]].lba = io.lba;
		counts[io.direction]++;
		n++;
	}
	if (gated && qp->outstanding == b->depth)
		b->draining = 1;
	if (!n)
		return err;
	/* Also after an error: those before it are to be drained. */
	ring_err = sq_ring(qp);
	rung = ticks_now();
	bench_submitted(qp, b, cids, n, counts, now, rung, gated);
	if (timed) {
		b->submit_ticks += rung - timed;
		b->submit_timed += n;
	}
	return err ? err : ring_err;
}

/*
 * Fill the queue with all that is due, a doorbell for each turn's number. Returns 0 or a negative
 * errno.
 */
static inline __attribute__((always_inline)) int bench_fill(struct nvme_qpair *qp,
							    struct nvme_bench *b, uint64_t now,
							    int gated)
{
	for (;;) {
		uint32_t before = qp->outstanding;
		int err = bench_submit(qp, b, now, gated);

		if (err || qp->outstanding == before || qp->outstanding >= b->depth ||
		    b->exhausted)
			return err;
		now = ticks_now();
	}
}

/* --- completion -------------------------------------------------------------------------- */

/* Count an I/O that ended with a status other than success. */
static void bench_failed(struct nvme_bench *b, uint32_t direction, uint32_t status)
{
	b->ended[direction]++;
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

/* Judge what a read brought, and tell the table how a command ended. */
static void bench_verify(struct nvme_bench *b, const struct nvme_bench_slot *slot, int ok)
{
	struct nvme_verify *v = b->verify;
	struct nvme_verify_fault fault;

	switch (slot->direction) {
	case NVME_DIRECTION_READ:
		if (ok && nvme_verify_check(v, slot->lba, slot->blocks, slot->data, &fault) > 0) {
			if (b->fault_count < NVME_BENCH_FAULTS)
				b->faults[b->fault_count] = fault;
			b->fault_count++;
			b->stop |= b->verify_fatal;
		}
		nvme_verify_end_read(v, slot->lba, slot->blocks);
		break;
	case NVME_DIRECTION_WRITE:
		nvme_verify_end_write(v, slot->lba, slot->blocks, ok);
		break;
	case NVME_DIRECTION_TRIM:
		nvme_verify_end_trim(v, slot->lba, slot->blocks, NVME_VERIFY_DEALLOCATE, ok);
		break;
	}
}

static inline void bench_record(struct nvme_bench *b, const struct nvme_bench_slot *slot,
				const struct nvme_tracker *tracker, uint64_t now)
{
	b->records[b->record_count++] = (struct nvme_bench_record){
		.end = ticks_to_ns(now - b->epoch),
		.slat = ticks_to_ns(tracker->submitted - b->begun[slot - b->slots]),
		.clat = ticks_to_ns(now - tracker->submitted),
		.lat = ticks_to_ns(now - slot->start),
		.offset = slot->lba << b->block_shift,
		.bytes = slot->blocks << b->block_shift,
		.direction = slot->direction,
	};
}

/*
 * I/Os of one turn that have everything in common that is accounted for: direction and times. A
 * device that answers a batch with a batch makes a turn one run.
 */
struct bench_run {
	uint64_t submitted;
	uint64_t start;
	uint64_t ios;
	uint64_t blocks;
	uint32_t direction;
};

/* Account for a run that ended at `now`. */
static inline void bench_count(struct nvme_bench *b, const struct bench_run *run, uint64_t now)
{
	struct nvme_bench_result *result = &b->results[run->direction];

	if (!run->ios)
		return;
	b->ended[run->direction] += run->ios;
	result->ios += run->ios;
	result->blocks += run->blocks;
	histogram_add(&result->clat, ticks_to_ns(now - run->submitted), run->ios);
	histogram_add(&result->lat, ticks_to_ns(now - run->start), run->ios);
}

/* Reap up to a turn's number of completions. Returns 0 or a negative errno. */
static inline int bench_reap(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t now)
{
	uint32_t limit = b->reap_max ? b->reap_max : qp->turn;
	uint64_t timed = b->turns % TIMED_TURNS ? 0 : now;
	struct bench_run run = { 0 };
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
		slot = &b->slots[cqe_cid(end)];
		if (likely(!status)) {
			if (tracker->submitted != run.submitted || slot->start != run.start ||
			    slot->direction != run.direction) {
				bench_count(b, &run, now);
				run = (struct bench_run){
					.submitted = tracker->submitted,
					.start = slot->start,
					.direction = slot->direction,
				};
			}
			run.ios++;
			run.blocks += slot->blocks;
			if (unlikely(b->records != NULL))
				bench_record(b, slot, tracker, now);
		} else {
			bench_failed(b, slot->direction, status);
		}
		if (unlikely(b->verify != NULL))
			bench_verify(b, slot, !status);
		tracker_free(qp, tracker, cqe_cid(end));
		cq_advance(qp);
		n++;
	}
	bench_count(b, &run, now);
	b->turns++;
	b->reaps[batch_class(n)]++;
	cq_reaped(qp, n);
	if (timed) {
		b->reap_ticks += ticks_now() - timed;
		b->reap_timed += n;
	}
	return err ? err : qp->error;
}

/*
 * Reap up to a turn's number of completions, each followed by the next I/O under the same CID, ring
 * once, and only then account for both: the device is at work meanwhile. For a workload that
 * nothing holds back. Returns 0 or a negative errno.
 */
static inline int bench_turn(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t now)
{
	struct bench_run runs[NVME_TURN + 1]; /* the first is empty */
	struct bench_run *run = runs;
	struct nvme_generator *generator = b->generator;
	struct nvme_bench_slot *slots = b->slots;
	uint32_t counts[4] = { 0 };
	uint16_t cids[NVME_TURN];
	uint32_t written = 0;
	uint32_t n = 0;
	uint64_t end;
	int err = 0;
	int ring_err;

	*run = (struct bench_run){ 0 };
	while (n < qp->turn && !((end = cq_next(qp)) & CQE_PHASE)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint16_t status = cqe_status(end) & STATUS_CODE_AND_TYPE;
		uint16_t cid = cqe_cid(end);
		struct nvme_bench_slot *slot;
		struct nvme_io io;

		if (unlikely(!tracker)) {
			err = -EPROTO;
			break;
		}
		slot = &slots[cid];
		if (likely(!status)) {
			/* All that one doorbell announced began together, too. */
			if (tracker->submitted != run->submitted ||
			    slot->direction != run->direction)
				*++run = (struct bench_run){
					.submitted = tracker->submitted,
					.start = slot->start,
					.direction = slot->direction,
				};
			run->ios++;
			run->blocks += slot->blocks;
		} else {
			bench_failed(b, slot->direction, status);
		}
		cq_advance(qp);
		n++;
		if (likely(qp->outstanding <= b->depth)) {
			if (likely(nvme_generator_next(generator, &io))) {
				err = bench_write(qp, b, &io, cid, slot, now);
				if (likely(!err)) {
					cids[written++] = cid;
					counts[io.direction]++;
					continue;
				}
			} else {
				b->exhausted = 1;
			}
		}
		tracker_free(qp, tracker, cid);
		if (unlikely(err || b->exhausted))
			break;
	}
	/* First the completion queue's head: what is announced then has room in it. */
	cq_reaped(qp, n);
	ring_err = sq_ring(qp);
	if (likely(written))
		bench_submitted(qp, b, cids, written, counts, now, ticks_now(), 0);
	while (run > runs)
		bench_count(b, run--, now);
	b->turns++;
	b->reaps[batch_class(n)]++;
	if (err || ring_err)
		return err ? err : ring_err;
	return qp->error;
}

/* Wait for `reap_min` completions, or as many as are outstanding, but not beyond `end`. */
static void bench_await_many(const struct nvme_qpair *qp, uint32_t reap_min, uint64_t end)
{
	uint32_t wanted = reap_min < qp->outstanding ? reap_min : qp->outstanding;

	while (!cq_is_ready(qp, wanted - 1) && ticks_now() < end)
		spin_pause();
}

/*
 * One round of a workload that something may hold back; `now` is read anew before the round's
 * completions. Returns 1 at the end, 0 to go on, -ETIME when the caller is to come again, or
 * another negative errno.
 */
static int bench_round_gated(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t *now,
			     uint64_t end)
{
	int err = b->stop || b->exhausted ? 0 : bench_fill(qp, b, *now, 1);

	if (unlikely(err))
		return err;
	if (!qp->outstanding) {
		if (b->stop || b->exhausted || !b->writes_left)
			return 1;
		if (b->wake > end)
			return -ETIME;
		spin_pause();
		*now = ticks_now();
		return 0;
	}
	if (b->records && b->record_count == b->record_limit)
		return -ETIME;
	if (b->reap_min > 1)
		bench_await_many(qp, b->reap_min, end);
	/* A turn that reaps nothing looks at what has become due. */
	if (b->wake > *now && b->wake < end)
		end = b->wake;
	nvme_cq_await(qp, end);
	*now = ticks_now();
	return bench_reap(qp, b, *now);
}

/*
 * The same for one that keeps the queue full. One turn in TIMED_TURNS is taken apart, so that what
 * its reaping and its submission cost can be told from each other.
 */
static inline int bench_round(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t *now,
			      uint64_t end)
{
	int ending = b->stop || b->exhausted;
	int err = 0;

	if (!ending && unlikely(qp->outstanding < b->depth))
		err = bench_fill(qp, b, *now, 0);
	if (unlikely(err))
		return err;
	if (unlikely(!qp->outstanding))
		return 1;
	if (!nvme_cq_await(qp, end))
		return -ETIME;
	*now = ticks_now();
	if (unlikely(ending || b->turns % TIMED_TURNS == 0))
		return bench_reap(qp, b, *now);
	return bench_turn(qp, b, *now);
}

int nvme_bench_run(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t timeout_ns)
{
	uint64_t now = ticks_now();
	uint64_t end = now + ns_to_ticks(timeout_ns);
	int done;

	/* At least one round, so that a caller without time to give gets on, too. */
	if (b->gated)
		do
			done = bench_round_gated(qp, b, &now, end);
		while (!done && now < end);
	else
		do
			done = bench_round(qp, b, &now, end);
		while (!done && now < end);
	return done == -ETIME ? 0 : done;
}
