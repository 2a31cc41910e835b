/*
 * What a write carries, where each write gets its contents anew: random data of which a share can
 * be compressed, or was written before.
 *
 * Contents are known by a stream, which is a job's, and a number in it: the same two give the same
 * bytes, so nothing of what was written is kept. A write is made of units, the last one perhaps
 * shorter, each with contents of its own.
 *
 * No allocation, no lock, no system call. One struct nvme_buffers belongs to one thread.
 */
#ifndef PYNVME_USER_BUFFERS_H
#define PYNVME_USER_BUFFERS_H

#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

struct nvme_buffers {
	uint64_t choices;         /* a random stream: what is repeated, and which */
	uint64_t stream;          /* that of the job's own contents */
	uint64_t made;            /* how many of these there were */
	/* Where what is repeated comes from: the first `pool_each` contents of each of these streams.
	   NULL: it is the last contents that were new. */
	const uint64_t *pool;
	uint64_t pool_streams;
	uint64_t pool_each;
	const uint8_t *pattern;   /* what dull bytes are, from each chunk's first on; NULL: zeroes */
	uint32_t pattern_bytes;
	uint32_t repeat_percent;  /* of the units: how many repeat */
	uint32_t unit;            /* bytes */
	uint32_t chunk;           /* bytes */
	uint32_t dull;            /* so many bytes end each chunk that are not random */
	uint32_t scramble;        /* only change a little of each 512 bytes that are there */
};

/* Begin with the first contents of the stream `seed`. Does not touch what is to be made of it. */
void nvme_buffers_init(struct nvme_buffers *buffers, uint64_t seed);

/* Give a write of `bytes`, with `scramble` a multiple of 512, its contents. */
void nvme_buffers_fill(struct nvme_buffers *buffers, uint8_t *data, uint32_t bytes);

/* cdef: end */

#endif
