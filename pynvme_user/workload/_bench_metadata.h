/*
 * What a benchmark's reads and writes carry besides data on a namespace with metadata (NVM Command Set
 * 1.1, section 5.3). Beside _bench.c, so that I/O without metadata pays nothing.
 */
#ifndef PYNVME_USER_BENCH_METADATA_H
#define PYNVME_USER_BENCH_METADATA_H

#include "_generator.h"
#include "_protection.h"
#include "_ring.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/*
 * How the blocks of a namespace lie in memory, and their protection information. Of `protection` what is
 * the same for each I/O; its reference tag is the LBA, in `ref_tag_bits`.
 */
struct nvme_bench_metadata {
	struct nvme_protection protection;
	uint64_t offset;         /* from an I/O's data to the metadata that lies apart; 0: none does */
	uint32_t block_bytes;    /* of a block in the data's memory, with metadata that lies there */
	uint32_t metadata_bytes; /* of a block's metadata in memory of its own, or 0 */
	uint32_t ref_tag_bits;   /* 0: commands have the reference tag that their template has */
	uint32_t is_protected;   /* writes have protection information generated, reads have it checked */
	/* what was found, the first of it in detail */
	uint64_t fault_count;
	uint64_t fault_lba;
	struct nvme_protection_fault fault;
};

/* cdef: end */

#pragma GCC visibility push(hidden)

/*
 * Write the command of `blocks` blocks of an I/O at the tail, those from `first` on; `lba` is that of the
 * first of them, `iova` that of the I/O's data. Returns 0 or a negative errno.
 */
int nvme_bench_metadata_write(struct nvme_qpair *qp, const struct nvme_bench_metadata *m,
			      const struct nvme_sqe *command, uint16_t cid, uint64_t lba,
			      uint32_t first, uint32_t blocks, uint64_t iova);

/* Generate the protection information of a write's data, where that is the host's to do. */
void nvme_bench_metadata_generate(struct nvme_bench_metadata *m, const struct nvme_io *io,
				  uint8_t *data);

/*
 * Check what a read brought, where that is the host's to do. Returns 0 for what is right and for any other
 * I/O, else the status that a controller would have given it.
 */
uint16_t nvme_bench_metadata_check(struct nvme_bench_metadata *m, const struct nvme_io *io,
				   uint8_t *data);

#pragma GCC visibility pop

#endif
