/*
 * Completions that a controller must not post, among right ones: none may end a command. Each trial
 * posts one of a kind, in a queue pair with a history, and sees that it is an error, that what was
 * completed before it counts, and that all else is still outstanding; then the pair begins anew, as
 * after the reset that follows.
 *
 * Usage: hostile_test [PERCENT], how much of a million trials to do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_batch.h"
#include "_vector.h"
#include "null_controller.h"
#include "test.h"

#define TRIALS 1000000u
#define DEPTH_MAX 70u

enum kind {
	TWICE_IN_BURST, /* right after the one that was right */
	TWICE_FOR_NEXT, /* once nothing is outstanding any more, before the next command */
	USED_BEFORE,	/* of the same index, 1 to 15 commands ago */
	BEFORE_RESET,	/* of a command that a reset ended */
	WRONG_SQID,
	WRONG_PHASE,
	FREE_CID,	/* the one that its index has next */
	NO_INDEX,	/* not below the depth, FFFFh among them */
	ANNOUNCED_NOT,	/* submitted, but before the doorbell */
	WRONG_HEAD,	/* all else is right: the command's own completion, and no more than that */
	KINDS,
};

static const char *const names[KINDS] = {
	"twice in a burst", "twice, for the next call", "used 1 to 15 commands before",
	"of before a reset", "wrong queue id", "wrong phase", "free CID", "CID not below the depth",
	"not announced by a doorbell", "wrong head pointer",
};

/* What the host knows of the commands, by index: 0 where none is outstanding. */
struct host {
	struct pair pair;
	uint32_t depth;
	uint16_t cids[DEPTH_MAX];
	uint8_t running[DEPTH_MAX];
	uint16_t last[DEPTH_MAX]; /* the CID that was used last */
	uint8_t used[DEPTH_MAX];
	uint16_t aborted;	  /* a CID that a reset ended */
};

static void host_submit(struct host *host, uint32_t count)
{
	struct nvme_sqe command = { .opc = 2 };

	for (; count; count--) {
		int cid = nvme_qpair_submit(&host->pair.qp, &command, 0, 512, 0);
		uint32_t index;

		CHECK(cid >= 0);
		index = pair_index(&host->pair, (uint16_t)cid);
		CHECK(index < host->depth && !host->running[index]);
		CHECK(!host->used[index] || (uint16_t)cid != host->last[index]);
		host->running[index] = host->used[index] = 1;
		host->cids[index] = host->last[index] = (uint16_t)cid;
	}
}

/* Poll once: whatever is reaped was outstanding. Returns what the poll does. */
static int host_poll(struct host *host)
{
	int count = nvme_qpair_poll(&host->pair.qp, host->pair.out, host->depth);

	for (int i = 0; i < count; i++) {
		uint16_t cid = host->pair.out[i].cid;
		uint32_t index = pair_index(&host->pair, cid);

		CHECK(host->running[index] && host->cids[index] == cid);
		host->running[index] = 0;
	}
	return count;
}

static void host_announce(struct host *host)
{
	CHECK(!nvme_qpair_doorbell(&host->pair.qp));
	null_controller_fetch(&host->pair.controller);
}

/* As the reset that follows an error: each outstanding command ends once, and its CID is free. */
static void host_reset(struct host *host)
{
	uint32_t running = 0;
	int count = nvme_qpair_abort_all(&host->pair.qp, host->pair.out, 0x371);

	for (int i = 0; i < count; i++) {
		uint16_t cid = host->pair.out[i].cid;

		CHECK(host->running[pair_index(&host->pair, cid)]);
		host->running[pair_index(&host->pair, cid)] = 0;
		host->aborted = cid;
	}
	for (uint32_t index = 0; index < host->depth; index++)
		running += host->running[index];
	CHECK(!running && !nvme_qpair_check(&host->pair.qp));
	pair_restart(&host->pair);
	CHECK(!nvme_qpair_check(&host->pair.qp));
}

/* A pair whose completion queue always has room for one more than is outstanding. */
static void host_pair(struct host *host)
{
	pair_init(&host->pair, host->depth, 1 + random_below(8), 2, 0);
	host->pair.qp.cq_slack = 0;
}

static void host_init(struct host *host)
{
	uint32_t depth = 1 + random_below(DEPTH_MAX);

	*host = (struct host){ .depth = depth };
	host_pair(host);
	/* A history, so that the indices are in different generations. */
	for (uint32_t n = random_below(6); n; n--) {
		host_submit(host, 1 + random_below(depth));
		host_announce(host);
		while (host->pair.controller.count) {
			null_controller_complete(&host->pair.controller,
						 random_below(host->pair.controller.count), 0);
			if (random_below(2))
				host_poll(host);
		}
		while (host_poll(host) > 0)
			;
	}
	if (random_below(2)) {
		host_submit(host, 1);
		host_announce(host);
		host_reset(host);
	}
}

static void post(struct host *host, uint16_t sqid, uint16_t cid)
{
	null_controller_post(&host->pair.controller,
			     (struct nvme_cqe){ .sqid = sqid,
						.cid = cid,
						.sqhd = (uint16_t)host->pair.controller.sq_head });
}

/* A CID of that index from before its last command; of its last but one where it is outstanding. */
static uint16_t used_before(const struct host *host, uint32_t index)
{
	uint32_t step = host->pair.qp.generation;
	uint32_t generations = 65536 / step;
	uint32_t most = generations - 1 < 15 ? generations - 1 : 15;

	return (uint16_t)(host->last[index] - step * (1 + random_below(most)) +
			  (host->running[index] ? 0 : step));
}

/* An index that is outstanding, or not. There is one. */
static uint32_t any_index(const struct host *host, int running)
{
	uint32_t index;

	do
		index = random_below(host->depth);
	while (host->running[index] != running);
	return index;
}

/* Complete some rightly, post one of that kind, and see that it counts for nothing. */
static void trial(enum kind kind)
{
	uint32_t before, right, left;
	struct nvme_cqe *entry;
	struct host host;
	uint16_t cid = 0;
	int got = 0;
	int count;

	host_init(&host);
	if (kind == BEFORE_RESET && !host.aborted) {
		host_submit(&host, 1);
		host_announce(&host);
		host_reset(&host);
	}
	/* One index stays free where one is needed. */
	before = 1 + random_below(host.depth);
	if (kind == FREE_CID && before == host.depth && !--before) {
		pair_free(&host.pair);
		return;
	}
	if (kind != FREE_CID || before)
		host_submit(&host, before);
	if (kind == ANNOUNCED_NOT)
		null_controller_fetch(&host.pair.controller);
	else
		host_announce(&host);
	right = host.pair.controller.count;
	if (kind == TWICE_IN_BURST)
		right = 1 + random_below(right);
	else if (kind != TWICE_FOR_NEXT && right)
		right = random_below(right);
	for (uint32_t n = right; n; n--) {
		uint32_t which = random_below(host.pair.controller.count);

		cid = host.pair.controller.fetched[which].cid;
		null_controller_complete(&host.pair.controller, which, 0);
	}
	left = before - right;
	switch (kind) {
	case TWICE_IN_BURST:
		post(&host, 1, cid);
		break;
	case TWICE_FOR_NEXT:
		while (got < (int)right)
			got += host_poll(&host);
		post(&host, 1, cid);
		CHECK(nvme_qpair_submit(&host.pair.qp, &(struct nvme_sqe){ .opc = 2 }, 0, 512, 0) ==
		      -EPROTO);
		CHECK(nvme_qpair_transfer(&host.pair.qp, &(struct nvme_sqe){ .opc = 2 }, 0, 0, 0, 512,
					  1000) == -EPROTO);
		break;
	case USED_BEFORE:
		post(&host, 1, used_before(&host, any_index(&host, 1)));
		break;
	case BEFORE_RESET:
		post(&host, 1, host.aborted);
		break;
	case WRONG_SQID:
		post(&host, (uint16_t)(2 + random_below(65534)),
		     host.pair.controller.fetched[0].cid);
		break;
	case WRONG_PHASE:
		entry = &host.pair.controller.cq[host.pair.controller.cq_tail];
		*entry = (struct nvme_cqe){ .sqid = 1,
					    .cid = host.pair.controller.fetched[0].cid,
					    .status = host.pair.controller.phase ^ 1 };
		break;
	case FREE_CID:
		cid = host.pair.qp.free_head;
		post(&host, 1, cid);
		break;
	case NO_INDEX:
		cid = (uint16_t)random_below(65536);
		if (pair_index(&host.pair, cid) < host.depth)
			cid |= host.pair.qp.index_mask;
		post(&host, 1, random_below(16) ? cid : 0xffff);
		break;
	case ANNOUNCED_NOT:
		post(&host, 1, host.cids[any_index(&host, 1)]);
		break;
	case WRONG_HEAD:
		null_controller_post(&host.pair.controller,
				     (struct nvme_cqe){
					     .sqid = 1,
					     .cid = host.pair.controller.fetched[0].cid,
					     .sqhd = (uint16_t)random_below(65536) });
		right++;
		left--;
		break;
	default:
		abort();
	}
	while ((count = host_poll(&host)) > 0)
		got += count;
	CHECK(got == (int)right && host.pair.qp.outstanding == left);
	CHECK(count == (kind == WRONG_PHASE || kind == WRONG_HEAD ? 0 : -EPROTO));
	CHECK(host_poll(&host) == count);
	host_reset(&host);
	/* And all is well again. */
	host_submit(&host, host.depth);
	host_announce(&host);
	while (host.pair.controller.count)
		null_controller_complete(&host.pair.controller, 0, 0);
	CHECK(host_poll(&host) == (int)host.depth);
	pair_free(&host.pair);
}

/* The same within a turn of a vector's loop, whose next command follows at once under the index. */
static void trial_of_vector(void)
{
	uint32_t depth = 1 + random_below(DEPTH_MAX);
	uint32_t count = 3 * depth;
	uint64_t *lbas = allocate(count, 8), *iovas = allocate(count, 8);
	uint64_t *latencies = allocate(count, 8);
	uint16_t *status = allocate(count, 2);
	struct nvme_vector v = {
		.command = { .opc = 2, .nsid = 1 },
		.lbas = lbas,
		.iovas = iovas,
		.status = status,
		.latency_ns = latencies,
		.count = count,
		.blocks = random_below(2) ? 8 : 16, /* in one page, or not */
		.last_blocks = 8,
		.block_shift = 9,
	};
	uint16_t good = random_below(2) ? 0 : 0x80; /* all on the fast path, or not */
	uint32_t right, index;
	uint16_t cid = 0;
	int err = 0;
	struct host host = { .depth = depth };

	host_pair(&host);
	for (uint32_t i = 0; i < count; i++)
		lbas[i] = i;
	memset(status, 0xff, count * 2);
	CHECK(!nvme_vector_run(&host.pair.qp, &v, 0));
	null_controller_fetch(&host.pair.controller);
	right = 1 + random_below(host.pair.controller.count);
	for (uint32_t n = right; n; n--) {
		index = random_below(host.pair.controller.count);
		cid = host.pair.controller.fetched[index].cid;
		null_controller_complete(&host.pair.controller, index, good);
	}
	/* Beyond a turn the next one is announced: one that is right in all can be told by nobody. */
	switch (random_below(right < host.pair.qp.burst ? 3 : 2)) {
	case 0:
		post(&host, 1, cid);
		break;
	case 2: /* the command that follows in this turn */
		post(&host, 1, (uint16_t)(cid + host.pair.qp.generation));
		break;
	default:
		post(&host, 1, (uint16_t)(cid - host.pair.qp.generation));
	}
	for (int n = 0; !err && n < 100; n++)
		err = nvme_vector_run(&host.pair.qp, &v, 1000);
	CHECK(err == -EPROTO);
	for (uint32_t i = 0; i < count; i++)
		right -= status[i] != 0xffff;
	CHECK(!right);
	pair_free(&host.pair);
	free(lbas);
	free(iovas);
	free(latencies);
	free(status);
}

/* What a batch has of `n`: an opcode, or a tag, which tells all else. */
static uint64_t column_word(uint64_t n)
{
	return n * 7919 + 3;
}

/* A batch of which some are completed rightly, then one is not: those have their tags, none else. */
static void trial_of_batch(void)
{
	uint32_t depth = 1 + random_below(DEPTH_MAX);
	uint32_t count = 1 + random_below(2 * DEPTH_MAX);
	uint64_t opcode = 2, blocks = 1, zero = 0;
	uint64_t *lbas = allocate(count, 8), *tags = allocate(count, 8);
	uint64_t *latencies = allocate(depth, 8);
	int64_t *reaped = allocate(depth, 8);
	uint16_t *status = allocate(depth, 2);
	uint8_t *ended = allocate(count, 1);
	struct host host = { .depth = depth };
	struct nvme_batch batch = {
		.count = count,
		.iova = 0x10000,
		.length = 512,
		.opcodes = { &opcode, 0 },
		.lbas = { lbas, 1 },
		.blocks = { &blocks, 0 },
		.offsets = { &zero, 0 },
		.tags = { tags, 1 },
		.nsid = 1,
		.block_count = UINT64_MAX,
		.block_shift = 9,
		.max_blocks = 8,
	};
	struct nvme_outcomes out = {
		.tags = reaped, .latency_ns = latencies, .status = status
	};
	uint32_t submitted = count < depth ? count : depth;
	uint32_t right, got = 0;
	uint16_t cid = 0, good = random_below(2) ? 0 : 0x80;
	uint32_t tail;
	int n;

	host_pair(&host);
	out.scratch = host.pair.out;
	for (uint32_t i = 0; i < count; i++)
		tags[i] = column_word(lbas[i] = i);
	/* One that cannot be described: nothing was there, whatever came before it. */
	tail = host.pair.qp.sq_tail;
	lbas[count - 1] = UINT64_MAX;
	CHECK(nvme_batch_submit(&host.pair.qp, &batch) == NVME_BATCH_REFUSED - NVME_BATCH_RANGE);
	CHECK(batch.bad == count - 1 && host.pair.qp.sq_tail == tail);
	CHECK(!host.pair.qp.outstanding && !nvme_qpair_check(&host.pair.qp));
	lbas[count - 1] = count - 1;
	CHECK(nvme_batch_submit(&host.pair.qp, &batch) == (int)submitted);
	CHECK(host.pair.qp.outstanding == submitted);
	null_controller_fetch(&host.pair.controller);
	CHECK(host.pair.controller.count == submitted);
	right = random_below(submitted + 1);
	for (uint32_t i = right; i; i--) {
		uint32_t which = random_below(host.pair.controller.count);

		cid = host.pair.controller.fetched[which].cid;
		null_controller_complete(&host.pair.controller, which, good);
	}
	switch (random_below(right ? 3 : 2)) {
	case 0: /* of the index's next command */
		cid = host.pair.controller.count ? host.pair.controller.fetched[0].cid : cid;
		post(&host, 1, (uint16_t)(cid + 2 * host.pair.qp.generation));
		break;
	case 1: /* of another queue */
		post(&host, 2, host.pair.controller.count ? host.pair.controller.fetched[0].cid : cid);
		break;
	default: /* once more */
		post(&host, 1, cid);
	}
	while ((n = nvme_batch_reap(&host.pair.qp, &out, 0)) > 0) {
		CHECK(out.count == (uint64_t)n && out.failed == (good ? out.count : 0));
		for (int i = 0; i < n; i++) {
			uint64_t number = ((uint64_t)reaped[i] - 3) / 7919;

			CHECK(number < submitted && column_word(number) == (uint64_t)reaped[i]);
			CHECK(!ended[number] && status[i] == good);
			ended[number] = 1;
		}
		got += (uint32_t)n;
	}
	CHECK(n == -EPROTO && !out.count && got == right);
	CHECK(host.pair.qp.outstanding == submitted - right);
	n = nvme_qpair_abort_all(&host.pair.qp, host.pair.out, 0x371);
	CHECK(n == (int)(submitted - right));
	while (n--) {
		uint64_t number = ((uint64_t)host.pair.out[n].user - 3) / 7919;

		CHECK(number < submitted && !ended[number]);
		ended[number] = 1;
	}
	pair_free(&host.pair);
	free(lbas);
	free(tags);
	free(latencies);
	free(reaped);
	free(status);
	free(ended);
}

int main(int argc, char **argv)
{
	uint64_t trials = TRIALS;

	if (argc > 1)
		trials = trials * strtoull(argv[1], NULL, 10) / 100;
	for (uint64_t n = 0; n < trials / (KINDS + 1); n++) {
		for (enum kind kind = 0; kind < KINDS; kind++)
			trial(kind);
		trial_of_vector();
		trial_of_batch();
	}
	for (enum kind kind = 0; kind < KINDS; kind++)
		printf("hostile_test: %s: %llu, none believed\n", names[kind],
		       (unsigned long long)(trials / (KINDS + 1)));
	printf("hostile_test: within a vector's turn: %llu, none believed\n",
	       (unsigned long long)(trials / (KINDS + 1)));
	printf("hostile_test: in a batch: %llu, none believed\n",
	       (unsigned long long)(trials / (KINDS + 1)));
	puts("hostile_test: ok");
	return 0;
}
