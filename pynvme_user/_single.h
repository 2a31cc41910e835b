/* Single commands for Python: submitted from words, and their completions as columns. */
#ifndef PYNVME_USER_SINGLE_H
#define PYNVME_USER_SINGLE_H

#include "_ring.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* A piece of memory that the device reaches. */
struct nvme_part {
	uint64_t iova;
	uint64_t length; /* in bytes */
};

/*
 * What nvme_single_reap() reaped. The arrays are the caller's, with an entry for each of the depth.
 * Every member has eight bytes: for Python this is an array of words, which are read more quickly
 * than members.
 */
struct nvme_reaped {
	uint64_t plain; /* 1: each of the last call has status 0 and dwords 0 and 1 of 0 */
	uint64_t *cids;
	uint64_t *latency_ns;
	struct nvme_completion *completions; /* the same, whole */
	struct nvme_qpair *qp;
};

/*
 * Submit a transfer, of which nvme_transfer_run() would wait for the end; `timeout_ns` says nothing.
 * Returns its CID, -ERANGE as that, or a negative errno as nvme_qpair_submit(): nothing was submitted
 * then. Does NOT ring the doorbell.
 */
int nvme_single_submit(const struct nvme_transfer *transfer);

/*
 * Submit a command whose data are `count` parts, one or more, none of them empty, one behind the
 * other. PRPs can tell of them where each but the first begins with a page, and each but the last
 * ends with one; else the queue pair has to use SGLs. Each begins and ends at a multiple of 4.
 * Returns its CID, -EINVAL for one that does not, -ENOTSUP where the data pointer cannot tell of
 * them, -EMSGSIZE for more than the command's list holds, or as nvme_qpair_submit(): nothing was
 * submitted then. Does NOT ring the doorbell.
 */
int nvme_single_submit_parts(struct nvme_qpair *qp, const struct nvme_sqe *command,
			     const struct nvme_part *parts, uint32_t count);

/* Reap as nvme_qpair_reap() does, into columns as well, and return what that does. */
int nvme_single_reap(struct nvme_reaped *reaped, uint64_t timeout_ns);

/* cdef: end */

#endif
