/* The steps that the loops of _bench.c and _bench_split.c share. */
#ifndef PYNVME_USER_BENCH_INLINE_H
#define PYNVME_USER_BENCH_INLINE_H

#include "_bench.h"
#include "_ring_inline.h"

/*
 * Nothing is outstanding: see whether anything is to come. Returns 1 at the end, -ETIME if it is
 * only due when the caller is to come again, or 0 with `now` read anew.
 */
static inline int bench_idle(const struct nvme_bench *b, uint64_t *now, struct deadline deadline)
{
	if (b->stop || b->exhausted || !b->writes_left)
		return 1;
	if (b->wake - deadline.start > deadline.ticks)
		return -ETIME;
	spin_pause();
	*now = ticks_now();
	return 0;
}

/* Wait for a completion, until the deadline, or until the next I/O is due; `now` is read anew. */
static inline void bench_await(struct nvme_qpair *qp, const struct nvme_bench *b, uint64_t *now,
			       struct deadline deadline)
{
	if (b->wake > *now && b->wake - deadline.start < deadline.ticks)
		deadline.ticks = b->wake - deadline.start;
	nvme_cq_await(qp, deadline);
	*now = ticks_now();
}

/* Whether there is no room in the log of single I/Os. */
static inline int bench_log_is_full(const struct nvme_bench *b)
{
	return b->records && b->record_count == b->record_limit;
}

#endif
