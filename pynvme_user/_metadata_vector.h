/* Vectors of blocks with metadata: many reads or writes of one size, as one call. */
#ifndef PYNVME_USER_METADATA_VECTOR_H
#define PYNVME_USER_METADATA_VECTOR_H

#include "_vector.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/*
 * A vector whose I/Os carry metadata, or have the controller insert and strip it. Beside _vector.c,
 * so that I/O without metadata pays nothing.
 *
 * I/O i has its metadata at metadata[i], in blocks that follow on each other; with `slots`, at that
 * of its CID's index. NULL: none of its own. With a `ref_tag_bits` other than 0 its reference tag is
 * `ref_tag_offset` above its LBA, in so many bits, the lowest of the logical block tags (dwords 14
 * and 3); what is above them stays as in the command.
 */
struct nvme_metadata_vector {
	struct nvme_vector vector;
	const uint64_t *metadata;
	uint64_t ref_tag_offset;
	uint32_t ref_tag_bits; /* up to 64 */
	uint32_t block_bytes;  /* of a block in the data's memory, with metadata that lies there */
};

/* As nvme_vector_run(). */
int nvme_metadata_vector_run(struct nvme_qpair *qp, struct nvme_metadata_vector *v,
			     uint64_t timeout_ns);

/* cdef: end */

#endif
