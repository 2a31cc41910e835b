/* What the driver itself takes for an I/O, apart from the device. */
#ifndef PYNVME_USER_OVERHEAD_H
#define PYNVME_USER_OVERHEAD_H

#include "_bench.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* What one submission and one completion cost at queue depth 1, in nanoseconds. */
struct nvme_overhead {
	uint64_t ios;
	struct nvme_histogram submit;   /* from before the command to after the doorbell */
	struct nvme_histogram complete; /* from the last poll that found nothing to the end of the one
	                                   that found it */
};

/*
 * Run `ios` I/Os of bench->generator one at a time and time each step by itself. Returns 1, 0 when
 * `timeout_ns` is over before, or a negative errno: -EBUSY if commands are outstanding. At 0 one is
 * outstanding only if the device did not complete it for as long again.
 */
int nvme_bench_overhead(struct nvme_qpair *qp, struct nvme_bench *bench, uint64_t ios,
			uint64_t timeout_ns, struct nvme_overhead *overhead);

/* cdef: end */

#endif
