/* Vectors: many I/Os of one kind, as one call. */
#ifndef PYNVME_USER_VECTOR_H
#define PYNVME_USER_VECTOR_H

#include "_ring.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/*
 * Many I/Os of one kind as one call. I/O i goes to lbas[i] and to the memory at iovas[i], and has
 * each[i] blocks; without `each` all have `blocks`, and the last `last_blocks`. status[i] and
 * latency_ns[i] are written when it completes. With `slots` set, iovas has one entry per CID's
 * index instead, for a workload whose data nobody keeps. Without iovas there are no data, as of Write
 * Zeroes.
 */
struct nvme_vector {
	struct nvme_sqe command;   /* opcode, nsid, cdw12 (without NLB) and cdw13 of each */
	const uint64_t *lbas;
	const uint64_t *iovas;     /* or NULL */
	const uint32_t *each;      /* or NULL; the caller's alone, since data are as long as it says */
	uint16_t *status;
	uint64_t *latency_ns;
	uint32_t count;
	uint32_t alike;            /* C's own: the first alike - 1 have data of one size */
	uint32_t blocks;
	uint32_t last_blocks;
	uint32_t block_shift;      /* log2 of the block size in bytes */
	uint32_t slots;
	uint32_t submitted;
	uint32_t completed;
	uint32_t failed;
};

/*
 * Run a vector for up to `timeout_ns`. The pair must have no other command outstanding. Returns 1
 * when every I/O has completed, 0 when time ran out (call again to go on), or a negative errno as
 * submit and poll give it. A caller that gives up sets v->count = v->submitted and calls again to
 * drain.
 */
int nvme_vector_run(struct nvme_qpair *qp, struct nvme_vector *v, uint64_t timeout_ns);

/* cdef: end */

/* The blocks of I/O `i`. */
static inline uint32_t vector_blocks(const struct nvme_vector *v, uint32_t i)
{
	if (v->each)
		return v->each[i];
	return i + 1 == v->count ? v->last_blocks : v->blocks;
}

#endif
