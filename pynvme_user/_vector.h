/* Vectors: many reads or writes of one size, as one call. */
#ifndef PYNVME_USER_VECTOR_H
#define PYNVME_USER_VECTOR_H

#include "_ring.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/*
 * Many reads or writes of one size as one call. I/O i goes to lbas[i] and to the memory at
 * iovas[i]; `last_blocks` is the size of the last one. status[i] and latency_ns[i] are written
 * when it completes. With `slots` set, iovas has one entry per CID's index instead, for a workload
 * whose data nobody keeps.
 */
struct nvme_vector {
	struct nvme_sqe command;   /* opcode, nsid, cdw12 (without NLB) and cdw13 of each */
	const uint64_t *lbas;
	const uint64_t *iovas;
	uint16_t *status;
	uint64_t *latency_ns;
	uint32_t count;
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

#endif
