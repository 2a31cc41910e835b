/*
 * The benchmark's loop: keeps one queue pair busy with a generated workload and accounts for the
 * latency of every I/O. No allocation, no lock, no system call.
 *
 * The times of one I/O, in fio's words: slat is from the beginning of the burst that submitted it to
 * its doorbell, clat from the doorbell to the burst that reaped it, lat from the `start` to the
 * same: both together or, under a fixed rate, from when the I/O was due, however long it waited for its
 * place in the queue. The clock is read twice a burst, not twice an I/O: I/Os that are reaped in
 * one burst end at the same time, those that one doorbell announces are submitted at the same time.
 * With few outstanding, a burst begins with the poll of the completion queue that found something:
 * what the entry took to get here counts as submission of the next I/O, not as latency of the last.
 */
#ifndef PYNVME_USER_BENCH_H
#define PYNVME_USER_BENCH_H

#include "_bench_metadata.h"
#include "_buffers.h"
#include "_generator.h"
#include "_histogram.h"
#include "_ring.h"
#include "_verify.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* What one direction of a workload came to. */
struct nvme_bench_result {
	uint64_t ios;
	uint64_t blocks;
	uint64_t failed; /* with a status other than success; not in ios, blocks or latencies */
	struct nvme_histogram slat; /* also of what is outstanding */
	struct nvme_histogram clat;
	struct nvme_histogram lat;
};

/* Index of a Flush among results and commands; the others are enum nvme_direction. */
#define NVME_BENCH_FLUSH 3

/* One command's data and what is known of it while it is outstanding; by its CID's index. */
struct nvme_bench_slot {
	uint64_t iova; /* of its data buffer, which holds the largest I/O */
	uint8_t *data; /* the same in this process */
	uint64_t start; /* where `throttled`; otherwise that of its batch */
	struct nvme_io io; /* all of it where `throttled`; otherwise its blocks */
};

/* The I/Os that one doorbell announced. Times in ticks. */
struct nvme_bench_batch {
	uint64_t began; /* the burst that submitted them */
	uint64_t rung;  /* the doorbell was written */
	uint32_t outstanding;
	uint32_t next;  /* free one, while this one is free */
};

/* One I/O for the logs. Times in nanoseconds. */
struct nvme_bench_record {
	uint64_t end_ns;
	uint64_t slat;
	uint64_t clat;
	uint64_t lat;
	uint64_t offset;
	uint32_t bytes;
	uint32_t direction;
};

/* An I/O in the order of submission. */
struct nvme_bench_issued {
	uint64_t at; /* ticks */
	struct nvme_io io;
};

/* How many I/Os ended with a status other than success. */
struct nvme_bench_error {
	uint64_t ios;
	uint32_t status; /* SCT in 10:8, SC in 7:0 */
	uint32_t direction;
};

/* When the I/Os of one direction arrive, where that is not as fast as it goes. */
struct nvme_bench_rate {
	uint64_t ticks_per_io;    /* 32.32 fixed point; both 0: as fast as it goes */
	uint64_t ticks_per_block; /* likewise */
	uint64_t due;             /* when the next one arrives, in ticks; 0: with the first run */
	uint64_t fraction;        /* of a tick, below 2^32 */
	uint64_t random;          /* of its arrivals */
};

#define NVME_BENCH_ERRORS 16
#define NVME_BENCH_FAULTS 64

/*
 * A benchmark on one queue pair. The caller keeps all memory that is pointed to. Members that a
 * workload does not use are 0.
 */
struct nvme_bench {
	struct nvme_sqe commands[4];       /* by direction: opcode, nsid, flags */
	struct nvme_generator *generator;
	struct nvme_bench_slot *slots;     /* as many as the queue pair is deep */
	struct nvme_bench_batch *batches;  /* one more */
	struct nvme_bench_result *results; /* four, by direction */
	uint32_t next_batch;    /* the first free one */
	uint32_t depth;         /* I/Os to keep outstanding; may be changed between runs */
	uint32_t block_shift;
	uint32_t stop;          /* submit no more */
	uint32_t exhausted;     /* the generator is at its end */
	uint32_t fast_directions;         /* directions below it are reads and writes as they come */
	uint32_t submit_max;    /* commands per doorbell, up to 64; 0: a burst's */
	uint32_t reap_max;      /* completions per burst, up to 64; 0: a burst's */
	/* Any of these makes the loop look at them before each I/O: set `throttled` then, while nothing is
	 * outstanding. */
	uint32_t throttled;
	uint32_t reap_min;      /* wait for so many completions */
	uint32_t depth_low;     /* once full, drain to this before submitting more */
	uint32_t draining;
	uint32_t flush_every;   /* a Flush after so many writes */
	uint32_t writes;        /* since the last one */
	uint32_t think_ios;     /* after so many I/Os, wait for their end and then `think_ticks` */
	uint32_t think_count;
	uint32_t rates_pause;   /* nothing arrives during a pause */
	uint32_t has_pending;   /* an I/O that was generated and waits */
	struct nvme_io pending;
	uint64_t think_ticks;
	uint64_t think_every;   /* or after so many ticks of I/O; 0: only after I/Os */
	uint64_t think_due;     /* when that is; 0: with the first run */
	uint64_t think_until;
	const struct nvme_io *list; /* these I/Os, instead of the generator's */
	uint64_t list_count;
	uint64_t list_next;
	const uint64_t *list_due; /* when each is due, in ticks after `list_start`, or NULL: as it goes */
	uint64_t list_start;    /* 0: with the first run */
	uint64_t writes_left;   /* pause once so many writes are submitted; UINT64_MAX: never */
	uint64_t zone_blocks;   /* writes are Zone Appends to zones of so many blocks */
	uint32_t zone_trims;    /* trims are Zone Management Sends, each for the zone that begins there */
	struct nvme_buffers *buffers; /* what each write gets anew; NULL: its buffer is as it is */
	const uint32_t *arrivals; /* 4096 quantiles of the time between two, in 1/65536 of the mean */
	struct nvme_bench_rate rates[4]; /* by direction; a Flush has none */
	/* The last arrival, or when the loop went on after a pause of its own: what was due before that
	 * did not wait for the device. */
	uint64_t held_until;
	/* Of a mix with a rate, reads and writes arrive independently of each other. One of them may
	 * have no rate: it takes what the other leaves it, and each other I/O at the least. */
	uint32_t independent;
	uint32_t passed_over;   /* the last I/O came before one without a rate */
	uint32_t drawn_count;
	uint32_t drawn_limit;
	uint8_t *drawn;         /* the directions in the order in which they came, or NULL */
	uint64_t wake;          /* while nothing is outstanding: when there is something to do */
	uint32_t block_bytes;   /* 1 << block_shift, with metadata that follows the data of each block more */
	/* of reads and writes, or NULL; no direction is fast then, and one that checks is `throttled` */
	struct nvme_bench_metadata *metadata;
	/* verification, or NULL */
	struct nvme_verify *verify;
	struct nvme_verify_fault *faults; /* NVME_BENCH_FAULTS, the first ones found */
	uint64_t fault_count;
	uint32_t verify_fatal;  /* stop at the first */
	/* the log of single I/Os, or NULL */
	uint32_t record_count;
	uint32_t record_limit;
	struct nvme_bench_record *records;
	uint64_t epoch;         /* ticks that records count from */
	/* what was issued, or NULL; once it is full nothing more is submitted */
	struct nvme_bench_issued *issued;
	uint32_t issued_count;
	uint32_t issued_limit;
	/* facts, since the beginning */
	uint64_t submitted[4];  /* by direction */
	uint64_t ended[4];
	/* since then, or since they were counted anew */
	uint64_t bursts;
	uint64_t depths[7];     /* I/Os by those outstanding at their doorbell: 1, 2-3 ... 64 and more */
	uint64_t submits[65];   /* doorbells by their I/Os */
	uint64_t reaps[65];     /* bursts by their completions */
	struct nvme_bench_error errors[16];
	/* what one burst in 64 cost, in ticks, and the I/Os in it */
	uint64_t submit_ticks;
	uint64_t submit_timed;
	uint64_t reap_ticks;
	uint64_t reap_timed;
};

/* Make a result empty. */
void nvme_bench_result_clear(struct nvme_bench_result *result);

/*
 * Go on for up to `timeout_ns`. Nothing but the benchmark's I/Os may be outstanding on the pair.
 * Returns 1 when the workload is at its end, or `stop` is set, or `writes_left` is 0, and nothing
 * is outstanding; 0 when the time is over, the log is full, or nothing is outstanding and nothing due
 * before `wake`; or a negative errno as nvme_vector_run() does. A status other than success does not
 * end it: it is counted.
 */
int nvme_bench_run(struct nvme_qpair *qp, struct nvme_bench *bench, uint64_t timeout_ns);

/*
 * Add the slat of the I/Os that are outstanding to `results` (four, by direction), as after they were
 * cleared; with `take`, take it from them, so that slat counts the I/Os that clat and lat do.
 */
void nvme_bench_count_outstanding(const struct nvme_qpair *qp, const struct nvme_bench *bench,
				  struct nvme_bench_result *results, int take);

/*
 * Count what has no outcome as failed, and stop. Only once DMA has stopped. `depth` is that of the
 * queue pair.
 */
void nvme_bench_fail_rest(struct nvme_bench *bench, uint32_t depth);

/* cdef: end */

/*
 * The next I/O, where something may hold it back; `outstanding` are those before it. Returns 1 with the
 * I/O in the slot, and its `start` where that is not the caller's `now`, or 0 if there is none now: it is
 * kept as pending, or the generator is at its end.
 */
int nvme_bench_due(uint32_t outstanding, struct nvme_bench *b, uint64_t now,
		   struct nvme_bench_slot *slot);

/* What the loops of _bench.c and _bench_split.c share. */

/* fio's classes of depths: 1, 2-3, 4-7 ... 64 and more. */
static inline uint32_t nvme_depth_class(uint32_t outstanding)
{
	return outstanding < 64 ? 31 - (uint32_t)__builtin_clz(outstanding) : 6;
}

#pragma GCC visibility push(hidden)

/*
 * Write the command of an I/O that one carries, of whatever kind, at the tail. Returns 0 or a negative
 * errno.
 */
int nvme_bench_write_other(struct nvme_qpair *qp, struct nvme_bench *b, struct nvme_io io,
			   const struct nvme_bench_slot *slot, uint16_t cid);

/* Count an I/O that ended with a status other than success. */
void nvme_bench_failed(struct nvme_bench *b, uint32_t direction, uint32_t status);

/* Judge what a read brought, and tell the table how an I/O ended. */
void nvme_bench_verify(struct nvme_bench *b, const struct nvme_bench_slot *slot, int ok);

/* Put an I/O that ended at `now` into the log, which has room. */
void nvme_bench_log(struct nvme_bench *b, const struct nvme_bench_slot *slot,
		    const struct nvme_bench_batch *batch, uint64_t now);

#pragma GCC visibility pop

#endif
