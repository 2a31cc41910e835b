/*
 * Latencies counted in buckets of fio's resolution: within 1 / 64 of the value, and exactly that up
 * to 127 ns.
 */
#ifndef PYNVME_USER_HISTOGRAM_H
#define PYNVME_USER_HISTOGRAM_H

#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* 2^6 buckets for each power of two of nanoseconds, the last open-ended. */
#define NVME_BUCKET_BITS 6
#define NVME_BUCKETS 1856

/* Latencies in nanoseconds. All members but `counts` are exact. */
struct nvme_histogram {
	uint64_t count;
	uint64_t sum;
	uint64_t squares_low; /* the sum of squares, 128 bits */
	uint64_t squares_high;
	uint64_t min; /* UINT64_MAX while there is none */
	uint64_t max;
	uint64_t counts[NVME_BUCKETS];
};

/* Make a histogram empty. */
void nvme_histogram_clear(struct nvme_histogram *histogram);

/* Count one latency; bucket_of() in bench/results/result.py is the same law. */
void nvme_histogram_add(struct nvme_histogram *histogram, uint64_t ns);

/* cdef: end */

/*
 * Up to 127 each nanosecond has a bucket. Above, the value is shifted until its leading one is bit
 * 6, and that one is what the next group's number adds.
 */
static inline uint32_t bucket_of(uint64_t ns)
{
	uint32_t top = 63 - (uint32_t)__builtin_clzll(ns | 1 << NVME_BUCKET_BITS);
	uint32_t shift = top - NVME_BUCKET_BITS;
	uint32_t bucket = (uint32_t)(ns >> shift) + (shift << NVME_BUCKET_BITS);

	return bucket < NVME_BUCKETS ? bucket : NVME_BUCKETS - 1;
}

/* Count `n` I/Os of the same latency. */
static inline void histogram_add(struct nvme_histogram *histogram, uint64_t ns, uint64_t n)
{
	unsigned __int128 squares = (unsigned __int128)ns * ns * n + histogram->squares_low;

	histogram->counts[bucket_of(ns)] += n;
	histogram->count += n;
	histogram->sum += ns * n;
	histogram->squares_low = (uint64_t)squares;
	histogram->squares_high += (uint64_t)(squares >> 64);
	if (ns < histogram->min)
		histogram->min = ns;
	if (ns > histogram->max)
		histogram->max = ns;
}

/* Count `n` I/Os of the same latency no more. `min` and `max` stay. */
static inline void histogram_take(struct nvme_histogram *histogram, uint64_t ns, uint64_t n)
{
	unsigned __int128 squares = (unsigned __int128)histogram->squares_high << 64 |
				    histogram->squares_low;

	squares -= (unsigned __int128)ns * ns * n;
	histogram->counts[bucket_of(ns)] -= n;
	histogram->count -= n;
	histogram->sum -= ns * n;
	histogram->squares_low = (uint64_t)squares;
	histogram->squares_high = (uint64_t)(squares >> 64);
}

#endif
