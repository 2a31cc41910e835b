/* Several benchmarks in one thread, each on a queue pair of its own. */
#ifndef PYNVME_USER_BENCH_MANY_H
#define PYNVME_USER_BENCH_MANY_H

#include "_bench_split.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* One of them. The caller keeps all memory that is pointed to. */
struct nvme_bench_member {
	struct nvme_qpair *qp;
	struct nvme_bench *bench;
	struct nvme_bench_split *split; /* where I/Os may be several commands, or NULL */
	int done; /* what its run returned, once that is not 0: it has no further turn */
};

/*
 * Let each of `count` benchmarks have a turn, again and again, for up to `timeout_ns`; see nvme_bench_run().
 * They may share generator, results, contents and verification. Returns 1 once one is done, or
 * has no room in its log, and 0 when the time is over. None waits long for its completions: those of
 * all others would wait with it.
 */
int nvme_bench_run_many(struct nvme_bench_member *members, uint32_t count, uint64_t timeout_ns);

/* cdef: end */

#endif
