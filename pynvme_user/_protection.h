/*
 * Protection information: the tuple that is stored with each block (NVM Command Set 1.1, section
 * 5.3). Plain functions without state; blocks and metadata begin anywhere.
 */
#ifndef PYNVME_USER_PROTECTION_H
#define PYNVME_USER_PROTECTION_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* The parts of a tuple, in the order in which they are checked. */
enum nvme_protection_part {
	NVME_PROTECTION_GUARD = 1,
	NVME_PROTECTION_APP_TAG = 2,
	NVME_PROTECTION_STORAGE_TAG = 4,
	NVME_PROTECTION_REF_TAG = 8,
};

/*
 * Blocks in memory, their tuples, and what these are or have to be. Data and metadata of a block may
 * follow on each other (the strides are both lengths together) or lie apart. The memory is the
 * caller's.
 */
struct nvme_protection {
	const uint8_t *data;      /* of the first block */
	uint8_t *metadata;        /* of the first block; not written by a check */
	uint64_t data_stride;     /* bytes from a block's data to the next one's */
	uint64_t metadata_stride;
	uint64_t blocks;
	uint32_t block_size;      /* bytes of data */
	uint32_t offset;          /* of the tuple in the metadata */
	uint32_t covered;         /* bytes of the metadata that the guard is of, besides the data */
	uint32_t guard;           /* PIF: 0, 1 and 2 for a guard of 16, 32 and 64 bits */
	uint32_t type;            /* 1, 2, 3 */
	uint32_t storage_bits;    /* of the storage tag; the reference tag has the others */
	uint32_t checks;          /* parts that are checked, joined */
	uint16_t app_tag;
	uint16_t app_tag_mask;    /* bits of it that are checked */
	uint64_t storage_tag;
	uint64_t storage_tag_mask;
	uint64_t ref_tag;         /* of the first block; with types 1 and 2 it goes up by one a block */
};

/* What a check found. */
struct nvme_protection_fault {
	uint64_t block; /* from the first on, which is 0 */
	uint64_t expected;
	uint64_t found;
	uint32_t part;
};

/* Write the tuple of each block. Touches no other byte of the metadata. */
void nvme_protection_generate(const struct nvme_protection *protection);

/*
 * Check the tuple of each block. Returns 0, or 1 for the first fault, which `fault` describes. A
 * block whose tags switch checks off (section 5.3.3: application tag FFFFh; with type 3 also a
 * reference tag of ones) has none.
 */
int nvme_protection_check(const struct nvme_protection *protection,
			  struct nvme_protection_fault *fault);

/* cdef: end */

#endif
