/*
 * A controller in the same process, for tests of the ring: it fetches what the doorbell announces,
 * keeps it, and completes it when the test says so, in any order and with any status.
 */
#ifndef NULL_CONTROLLER_H
#define NULL_CONTROLLER_H

#include <stdint.h>

#include "_ring.h"

struct null_controller {
	struct nvme_sqe *sq;
	struct nvme_cqe *cq;
	struct nvme_sqe *fetched; /* commands without a completion, in no order */
	volatile uint32_t sq_tail; /* the two doorbell registers */
	volatile uint32_t cq_head;
	uint32_t depth;
	uint32_t sq_entries;
	uint32_t cq_entries;
	uint32_t sq_head;
	uint32_t cq_tail;
	uint32_t count; /* of fetched */
	int stop; /* ends its thread; atomic */
	uint16_t phase;
	uint16_t qid;
};

/* A queue pair of `depth` commands with its controller and all memory; end with pair_free(). */
struct pair {
	struct nvme_qpair qp;
	struct null_controller controller;
	struct nvme_tracker *trackers;
	struct nvme_completion *out; /* room for `depth` */
	uint64_t *lists;
	uint32_t list_entries;
};

/* The IOVA of a pair's PRP lists; never used as an address. */
#define LISTS_IOVA UINT64_C(0x500000000)
/* What unused entries of the lists hold. */
#define CANARY UINT64_C(0xc0ffeec0ffeec0ff)

/*
 * Make a pair, whose completion queue has `spare` entries more than the submission queue. Each piece
 * of memory is an allocation of its own, so that a sanitizer guards it.
 */
void pair_init(struct pair *pair, uint32_t depth, uint32_t spare, uint32_t list_entries,
	       int use_sgl);
void pair_free(struct pair *pair);

/* The part of a CID that its PRP list, and whatever a test has for each command, is found by. */
uint32_t pair_index(const struct pair *pair, uint16_t cid);

/* Walk a command's PRPs or SGL: they must describe `length` bytes at `iova`, and nothing else. */
void pair_check_data(const struct pair *pair, const struct nvme_sqe *sqe, uint64_t iova,
		     uint32_t length);

/* A number below `limit`; xorshift64*, the same ones on every run. */
uint32_t random_below(uint32_t limit);

/* Memory for `count` objects, zeroed; does not return without. */
void *allocate(size_t count, size_t size);

/*
 * Begin anew on zeroed queues, as a reset does, nothing being outstanding on the host's side, whose CIDs
 * are all free then.
 */
void pair_restart(struct pair *pair);

/* Fetch what was announced; returns how many commands. */
uint32_t null_controller_fetch(struct null_controller *controller);

/* Complete the fetched command number `index`, of `count`, with the 15-bit status field. */
void null_controller_complete(struct null_controller *controller, uint32_t index, uint16_t status);

/* What a thread of its own runs until `stop`: complete each command without an error. */
void *null_controller_serve(void *controller);

/* Post any entry; its phase tag is made right. */
void null_controller_post(struct null_controller *controller, struct nvme_cqe cqe);

#endif
