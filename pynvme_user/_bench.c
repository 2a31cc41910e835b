/* The benchmark's loop. See _bench.h. */
#include "_bench.h"
#include "_ring_inline.h"

#include <string.h>

/* I/Os between two looks at the clock. */
#define TURN 64

/* --- histograms -------------------------------------------------------------------------- */

void nvme_histogram_clear(struct nvme_histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->min = UINT64_MAX;
}

void nvme_bench_result_clear(struct nvme_bench_result *result)
{
	result->ios = result->blocks = result->failed = result->late = 0;
	nvme_histogram_clear(&result->slat);
	nvme_histogram_clear(&result->clat);
	nvme_histogram_clear(&result->lat);
}

/*
 * Up to 127 each nanosecond has a bucket. Above, the value is shifted until its leading one is bit
 * 6, and that one is what the next group's number adds.
 */
static inline uint32_t bucket_of(uint64_t ns)
{
	uint32_t shift = 57 - (uint32_t)__builtin_clzll(ns | 64);
	uint32_t bucket = (uint32_t)(ns >> shift) + (shift << 6);

	return bucket < NVME_BUCKETS ? bucket : NVME_BUCKETS - 1;
}

/* Count `n` I/Os of the same latency. */
static inline void histogram_add(struct nvme_histogram *histogram, uint64_t ns, uint64_t n)
{
	unsigned __int128 squares = (unsigned __int128)ns * ns * n + histogram->squares_low;

	histogram->counts[bucket_of(ns)] += n;
	histogram->count += n;
	histogram->sum += ns * n;
	histogram->squares_low = (uint64_t)squares;
	histogram->squares_high += (uint64_t)(squares >> 64);
	if (ns < histogram->min)
		histogram->min = ns;
	if (ns > histogram->max)
		histogram->max = ns;
}

void nvme_histogram_add(struct nvme_histogram *histogram, uint64_t ns)
{
	histogram_add(histogram, ns, 1);
}

/* --- submission -------------------------------------------------------------------------- */

/* Write one I/O's command at the tail, under the next free CID. Returns 0 or a negative errno. */
static inline int bench_write(struct nvme_qpair *qp, struct nvme_bench *b, const struct nvme_io *io,
			      uint64_t start)
{
	uint16_t cid = qp->free_head;
	struct nvme_bench_slot *slot = &b->slots[cid];
	const struct nvme_sqe *command = &b->commands[io->direction];
	struct data_pointer data;
	int err = data_set(qp, &data, cid, slot->iova, io->blocks << b->block_shift);

	if (unlikely(err))
		return err;
	sq_write_io(qp, command, cid, &data, io->lba, command->cdw12 | (io->blocks - 1));
	sq_advance(qp);
	tracker_take(qp, 0, start);
	slot->start = start;
	slot->lba = io->lba;
	slot->blocks = io->blocks;
	slot->direction = io->direction;
	return 0;
}

/*
 * Fill the queue, up to a turn's number of I/Os that are due at `now`, and ring once. Returns 0 or
 * a negative errno.
 */
static inline int bench_submit(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t now)
{
	uint16_t cids[TURN];
	uint32_t counts[4] = { 0 };
	uint32_t n = 0;
	uint64_t rung;
	int err;

	while (n < TURN && qp->outstanding < b->depth) {
		struct nvme_io io;

		if (unlikely(!nvme_generator_next(b->generator, &io))) {
			b->exhausted = 1;
			break;
		}
		cids[n] = qp->free_head;
		err = bench_write(qp, b, &io, now);
		if (unlikely(err))
			return err;
		counts[io.direction]++;
		n++;
	}
	if (!n)
		return 0;
	err = sq_ring(qp);
	rung = ticks_now();
	for (uint32_t i = 0; i < n; i++)
		qp->trackers[cids[i]].submitted = rung;
	for (uint32_t direction = 0; direction < 4; direction++)
		if (counts[direction]) {
			histogram_add(&b->results[direction].slat, ticks_to_ns(rung - now),
				      counts[direction]);
			b->submitted[direction] += counts[direction];
		}
	return err;
}

/* --- completion -------------------------------------------------------------------------- */

/* Reap up to a turn's number of completions. Returns 0 or a negative errno. */
static inline int bench_reap(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t now)
{
	struct cqe_end end;
	uint32_t n = 0;
	int err = 0;

	while (n < TURN && cq_peek(qp, &end)) {
		struct nvme_tracker *tracker = cqe_tracker(qp, &end);
		const struct nvme_bench_slot *slot;
		struct nvme_bench_result *result;

		if (unlikely(!tracker)) {
			err = -EPROTO;
			break;
		}
		slot = &b->slots[end.cid];
		result = &b->results[slot->direction];
		if (likely(!(end.status & STATUS_CODE_AND_TYPE))) {
			result->ios++;
			result->blocks += slot->blocks;
			histogram_add(&result->clat, ticks_to_ns(now - tracker->submitted), 1);
			histogram_add(&result->lat, ticks_to_ns(now - slot->start), 1);
		} else {
			result->failed++;
		}
		b->ended[slot->direction]++;
		tracker_free(qp, tracker, end.cid);
		cq_advance(qp);
		n++;
	}
	qp->completed += n;
	cq_reaped(qp, n);
	return err ? err : qp->error;
}

int nvme_bench_run(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t timeout_ns)
{
	uint64_t now = ticks_now();
	uint64_t end = now + ns_to_ticks(timeout_ns);

	for (;;) {
		int err = b->stop || b->exhausted ? 0 : bench_submit(qp, b, now);

		if (unlikely(err))
			return err;
		if (unlikely(!qp->outstanding))
			return 1;
		if (now >= end || !nvme_cq_await(qp, end))
			return 0;
		now = ticks_now();
		err = bench_reap(qp, b, now);
		if (unlikely(err))
			return err;
		b->turns++;
	}
}

/* Reap one completion if it is there: 1 or 0, or -EPROTO. */
static inline int bench_reap_one(struct nvme_qpair *qp)
{
	struct nvme_tracker *tracker;
	struct cqe_end end;

	if (!cq_peek(qp, &end))
		return 0;
	tracker = cqe_tracker(qp, &end);
	if (unlikely(!tracker))
		return -EPROTO;
	tracker_free(qp, tracker, end.cid);
	cq_advance(qp);
	qp->completed++;
	cq_report(qp);
	return 1;
}

int nvme_bench_overhead(struct nvme_qpair *qp, struct nvme_bench *b, uint64_t ios,
			uint64_t timeout_ns, struct nvme_overhead *overhead)
{
	uint64_t end = ticks_now() + ns_to_ticks(timeout_ns);

	nvme_histogram_clear(&overhead->submit);
	nvme_histogram_clear(&overhead->complete);
	for (overhead->ios = 0; overhead->ios < ios; overhead->ios++) {
		uint64_t start, empty, done;
		struct nvme_io io;
		int got;

		if (!nvme_generator_next(b->generator, &io))
			break;
		start = ticks_now();
		got = bench_write(qp, b, &io, start);
		if (!got)
			got = sq_ring(qp);
		empty = ticks_now();
		if (unlikely(got))
			return got;
		histogram_add(&overhead->submit, ticks_to_ns(empty - start), 1);
		for (;;) {
			got = bench_reap_one(qp);
			done = ticks_now();
			if (got)
				break;
			empty = done;
			if (empty >= end)
				return 0;
		}
		if (unlikely(got < 0))
			return got;
		histogram_add(&overhead->complete, ticks_to_ns(done - empty), 1);
	}
	return 1;
}
