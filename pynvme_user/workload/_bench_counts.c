/*
 * What is counted of I/Os that have not ended. Their slat is counted with their doorbell, clat and lat
 * with their end: these functions make the three equal, at no cost to the loop.
 */
#include "_bench.h"
#include "_ring_inline.h"

static inline uint64_t batch_slat(const struct nvme_bench_batch *batch)
{
	return ticks_age_ns(batch->rung, batch->began);
}

void nvme_bench_count_outstanding(const struct nvme_qpair *qp, const struct nvme_bench *b,
				  struct nvme_bench_result *results, int take)
{
	for (uint32_t i = 0; qp->outstanding && i <= qp->index_mask; i++) {
		uint32_t group = qp->trackers[i].user;
		struct nvme_histogram *slat = &results[group & 3].slat;

		if (!tracker_is_outstanding(qp, i))
			continue;
		if (take)
			histogram_take(slat, batch_slat(&b->batches[group >> 2]), 1);
		else
			histogram_add(slat, batch_slat(&b->batches[group >> 2]), 1);
	}
}

void nvme_bench_fail_rest(struct nvme_bench *b, uint32_t depth)
{
	for (uint32_t direction = 0; direction < 4; direction++) {
		uint64_t lost = b->submitted[direction] - b->ended[direction];
		struct nvme_bench_result *result = &b->results[direction];

		result->failed += lost;
		b->ended[direction] += lost;
		/* Which of a batch's it was, where it had several directions, is not known any more. */
		for (uint32_t i = 0; lost && i <= depth; i++) {
			struct nvme_bench_batch *batch = &b->batches[i];
			uint32_t n = batch->outstanding < lost ? batch->outstanding : (uint32_t)lost;

			if (!n)
				continue;
			histogram_take(&result->slat, batch_slat(batch), n);
			batch->outstanding -= n;
			lost -= n;
		}
	}
	b->stop = 1;
}
