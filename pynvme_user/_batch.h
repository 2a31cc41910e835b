/* Batches: unlike I/Os of one namespace, submitted from arrays and reaped into arrays. */
#ifndef PYNVME_USER_BATCH_H
#define PYNVME_USER_BATCH_H

#include "_ring.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* One number for each I/O: I/O i has words[i * step]. With step 0 all have the same. */
struct nvme_column {
	const uint64_t *words;
	uint64_t step;
};

/*
 * I/Os that differ. Every member has eight bytes: for Python this is an array of words, which are
 * written more quickly than members. All pointed to is the caller's.
 */
struct nvme_batch {
	uint64_t count;             /* of I/Os */
	uint64_t iova;              /* of the buffer */
	uint64_t length;            /* of the buffer, in bytes */
	struct nvme_column opcodes; /* Flush, Read, Write and others: see nvme_batch_submit() */
	struct nvme_column lbas;
	struct nvme_column blocks;
	struct nvme_column offsets; /* of the data in the buffer, in bytes */
	struct nvme_column tags;    /* 32 bits: what nvme_batch_reap() names the I/O by */
	/* of the namespace */
	uint64_t nsid;
	uint64_t block_count;
	uint64_t block_shift;       /* log2 of the block size in bytes */
	uint64_t max_blocks;        /* that a command with data carries */
	uint64_t fua;               /* CDW12's bit for all that have one, or 0 */
	uint64_t bad;               /* the I/O that was refused */
};

/* Why an I/O of a batch is refused. */
enum nvme_batch_fault {
	NVME_BATCH_OPCODE = 1, /* none of nvme_batch_submit()'s */
	NVME_BATCH_RANGE,      /* the blocks are not all in the namespace, or a Flush has some */
	NVME_BATCH_BLOCKS,     /* more than one command carries */
	NVME_BATCH_OFFSET,     /* the data are not all in the buffer */
	NVME_BATCH_ALIGNMENT,  /* the data do not begin at a multiple of 4 */
	NVME_BATCH_PAGES,      /* they touch more pages than the PRP list has entries */
	NVME_BATCH_TAG,        /* more than 32 bits */
};

/*
 * Reaped outcomes, an array for each of what they tell. The arrays are the caller's, with an entry
 * for each of the depth, as is `scratch`. Every member has eight bytes: see struct nvme_batch.
 */
struct nvme_outcomes {
	uint64_t count;  /* of the last call */
	uint64_t failed; /* of them, with a status other than success */
	struct nvme_completion *scratch; /* the same with CID */
	int64_t *tags;
	uint64_t *latency_ns;
	uint16_t *status; /* the 15-bit status field */
};

/*
 * Submit I/Os of a batch, the first of them, as many as CIDs are free, and tell the device. Read,
 * Write and Compare move data; Write Uncorrectable, Write Zeroes and Verify name blocks, Flush
 * nothing. Returns their number. With one that is refused nothing is submitted, `bad` says which
 * it is, also of those that would not be submitted yet, and -1000 - enum nvme_batch_fault is
 * returned; else -EPROTO as nvme_qpair_submit(), with nothing submitted, or the errno of a doorbell
 * that could not be sent.
 */
int nvme_batch_submit(struct nvme_qpair *qp, struct nvme_batch *batch);

/* Reap as nvme_qpair_reap() does, into arrays, and return what that does. */
int nvme_batch_reap(struct nvme_qpair *qp, struct nvme_outcomes *outcomes, uint64_t timeout_ns);

/*
 * Say which indices the next `count` commands have, or fewer where fewer are free. Returns their
 * number.
 */
uint32_t nvme_batch_indices(const struct nvme_qpair *qp, uint16_t *indices, uint32_t count);

/* cdef: end */

#define NVME_BATCH_REFUSED (-1000)

#endif
