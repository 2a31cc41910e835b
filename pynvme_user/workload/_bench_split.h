/*
 * The benchmark's loop for a workload with I/Os that are larger than one command may be: such an I/O is
 * several commands, and one I/O to all that counts: to the depth, the results, the log, and what holds
 * I/Os back. Its slat ends with the doorbell of its first command, its clat with its last completion.
 *
 * Where its commands do not all find a place in the queue, the rest waits for one, and I/Os behind it
 * wait with it. It is begun when its first command has one, so the loop never stands still: whatever is
 * outstanding has all that it needs to end.
 *
 * A workload whose I/Os all fit goes through nvme_bench_run(), which costs less.
 */
#ifndef PYNVME_USER_BENCH_SPLIT_H
#define PYNVME_USER_BENCH_SPLIT_H

#include "_bench.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* What is known of an I/O besides its slot, which has the same index. */
struct nvme_split_io {
	struct nvme_bench_batch commands; /* `rung`: for the first; `next`: the free I/O after it */
	uint32_t status;                  /* of the first that failed */
};

/* A benchmark of such a workload. The caller keeps all memory that is pointed to. */
struct nvme_bench_split {
	struct nvme_bench *bench; /* with `count` slots, `depth` up to it, and without batches */
	struct nvme_split_io *ios; /* as many */
	uint32_t count;
	uint32_t command_blocks;  /* what one command carries at most */
	uint32_t in_order;        /* the commands of a write follow one another: for zones */
	/* state, from nvme_bench_split_init() on */
	uint32_t outstanding;     /* I/Os */
	uint32_t free;            /* the first free one */
	uint32_t current;         /* the one that has more commands to submit, or UINT32_MAX */
	uint32_t current_blocks;  /* of it that were submitted */
	uint32_t ends_awaited;    /* before more is begun: see `reap_min` */
};

/* Make all I/Os free, to begin with. */
void nvme_bench_split_init(struct nvme_bench_split *split);

/* Count what has no outcome as failed, and stop. Only once DMA has stopped. */
void nvme_bench_split_fail_rest(struct nvme_bench_split *split);

/* As nvme_bench_run(), in all but where I/Os are more than one command. */
int nvme_bench_split_run(struct nvme_qpair *qp, struct nvme_bench_split *split, uint64_t timeout_ns);

/* cdef: end */

#endif
