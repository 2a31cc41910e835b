/*
 * The ring under random work, for the sanitizers and valgrind: every check that Python's tests make
 * of single steps is made here of millions.
 *
 * Usage: ring_test [PERCENT], how much of the work to do.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_vector.h"
#include "null_controller.h"
#include "test.h"

#define PAGE 4096u
#define MAX_LENGTH (512u << 10)

static uint64_t percent = 100;

static uint64_t scaled(uint64_t count)
{
	return count * percent / 100 + 1;
}

/* --- data pointers ----------------------------------------------------------------------- */

static void submit_and_check(struct pair *pair, uint64_t iova, uint32_t length)
{
	struct nvme_sqe command = { .opc = 2, .nsid = 1 };
	uint64_t *list;
	int cid = nvme_qpair_submit(&pair->qp, &command, iova, length, 7);

	CHECK(cid >= 0);
	CHECK(!nvme_qpair_doorbell(&pair->qp));
	CHECK(null_controller_fetch(&pair->controller) == 1);
	pair_check_data(pair, &pair->controller.fetched[0], iova, length);
	/* Nothing but the list was written, and of the list no more than it has entries. */
	list = pair->lists + (size_t)pair_index(pair, (uint16_t)cid) * pair->list_entries;
	for (uint32_t i = 0; i < pair->list_entries && list[i] != CANARY; i++)
		list[i] = CANARY;
	for (size_t i = 0; i < (size_t)pair->qp.depth * pair->list_entries; i++)
		CHECK(pair->lists[i] == CANARY);
	null_controller_complete(&pair->controller, 0, 0);
	CHECK(nvme_qpair_poll(&pair->qp, pair->out, 1) == 1);
}

static void test_every_size_and_offset(void)
{
	static const uint32_t offsets[] = { 0, 4, 512, 2048, 4088, 4092 };

	for (int sgl = 0; sgl < 2; sgl++) {
		struct pair pair;

		pair_init(&pair, 3, 0, MAX_LENGTH / PAGE, sgl);
		for (size_t o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++)
			for (uint32_t length = 1; length <= MAX_LENGTH;
			     length += length < 3 * PAGE ? (percent < 50 ? 61 : 1) : 509)
				submit_and_check(&pair, (UINT64_C(1) << 40) + offsets[o], length);
		for (uint64_t n = scaled(20000); n; n--)
			submit_and_check(&pair, (uint64_t)random_below(UINT32_MAX) * 4,
					 1 + random_below(MAX_LENGTH));
		pair_free(&pair);
	}
}

static void test_refused(void)
{
	struct nvme_sqe command = { .opc = 2 };
	struct pair pair;

	pair_init(&pair, 2, 1, 4, 0);
	for (uint32_t offset = 1; offset < 4; offset++)
		CHECK(nvme_qpair_submit(&pair.qp, &command, PAGE + offset, 512, 0) == -EINVAL);
	CHECK(nvme_qpair_submit(&pair.qp, &command, PAGE, 5 * PAGE + 1, 0) == -EMSGSIZE);
	CHECK(nvme_qpair_submit(&pair.qp, &command, PAGE, UINT32_MAX, 0) == -EMSGSIZE);
	CHECK(pair.qp.outstanding == 0 && pair.qp.sq_tail == 0);
	submit_and_check(&pair, PAGE, 5 * PAGE);
	CHECK(nvme_qpair_submit(&pair.qp, &command, 0, 0, 0) >= 0);
	CHECK(nvme_qpair_submit(&pair.qp, &command, 0, 0, 0) >= 0);
	CHECK(nvme_qpair_submit(&pair.qp, &command, 0, 0, 0) == -EAGAIN);
	pair_free(&pair);
}

/* --- submit and poll --------------------------------------------------------------------- */

/* What the host knows of each command that is outstanding. */
struct expected {
	uint32_t user;
	uint32_t length;
	uint64_t iova;
	uint16_t status;
	uint16_t cid;
	uint8_t running;
};

static void reap(struct pair *pair, struct expected *expected, uint32_t max)
{
	int count = nvme_qpair_poll(&pair->qp, pair->out, max);

	CHECK(count >= 0 && (uint32_t)count <= max);
	for (int i = 0; i < count; i++) {
		const struct nvme_completion *done = &pair->out[i];

		struct expected *wanted = &expected[pair_index(pair, done->cid)];

		CHECK(wanted->running && done->cid == wanted->cid);
		CHECK(done->user == wanted->user && done->status == wanted->status);
		CHECK(done->dw0 == done->user && done->dw1 == ~done->user);
		wanted->running = 0;
	}
}

static void submit_one(struct pair *pair, struct expected *expected, uint32_t user)
{
	struct nvme_sqe command = { .opc = 1, .nsid = 1, .cdw10 = user };
	uint64_t iova = (uint64_t)random_below(1u << 30) * 4;
	uint32_t length = 1 + random_below(MAX_LENGTH);
	int cid = nvme_qpair_submit(&pair->qp, &command, iova, length, user);

	if (cid == -EAGAIN) {
		CHECK(pair->qp.outstanding == pair->qp.depth);
		return;
	}
	CHECK(cid >= 0 && pair_index(pair, (uint16_t)cid) < pair->qp.depth);
	CHECK(!expected[pair_index(pair, (uint16_t)cid)].running);
	expected[pair_index(pair, (uint16_t)cid)] = (struct expected){
		.user = user, .iova = iova, .length = length, .cid = (uint16_t)cid, .running = 1
	};
}

static void complete_one(struct pair *pair, struct expected *expected)
{
	struct null_controller *controller = &pair->controller;
	uint32_t index = random_below(controller->count);
	const struct nvme_sqe *sqe = &controller->fetched[index];
	uint16_t status = random_below(4) ? 0 : (uint16_t)random_below(0x8000);

	struct expected *wanted = &expected[pair_index(pair, sqe->cid)];

	pair_check_data(pair, sqe, wanted->iova, wanted->length);
	wanted->status = status;
	null_controller_complete(controller, index, status);
}

static void test_random_work(uint32_t depth, uint32_t spare, int sgl, uint64_t steps)
{
	struct expected *expected = calloc(depth, sizeof(*expected)); /* by the CID's index */
	uint32_t outstanding = 0;
	uint64_t age;
	struct pair pair;

	CHECK(expected);
	pair_init(&pair, depth, spare, MAX_LENGTH / PAGE, sgl);
	for (uint64_t step = 0; step < steps; step++) {
		switch (random_below(4)) {
		case 0:
		case 1:
			submit_one(&pair, expected, (uint32_t)step);
			break;
		case 2:
			CHECK(!nvme_qpair_doorbell(&pair.qp));
			null_controller_fetch(&pair.controller);
			for (uint32_t n = random_below(4); n && pair.controller.count; n--)
				complete_one(&pair, expected);
			break;
		default:
			reap(&pair, expected, 1 + random_below(depth));
		}
	}
	CHECK(!nvme_qpair_doorbell(&pair.qp));
	null_controller_fetch(&pair.controller);
	while (pair.controller.count > depth / 2)
		complete_one(&pair, expected);
	reap(&pair, expected, depth);
	for (uint32_t index = 0; index < depth; index++)
		outstanding += expected[index].running;
	CHECK(pair.qp.outstanding == outstanding);
	CHECK((nvme_qpair_oldest(&pair.qp, &age) >= 0) == (outstanding > 0));
	CHECK(nvme_qpair_abort_all(&pair.qp, pair.out, 0x371) == (int)outstanding);
	CHECK(nvme_qpair_oldest(&pair.qp, &age) == -1 && pair.qp.outstanding == 0);
	pair_free(&pair);
	free(expected);
}

/* --- garbage ----------------------------------------------------------------------------- */

/* A CID that is mostly one of ours, else just beyond them, or any. */
static uint16_t random_cid(uint32_t depth)
{
	switch (random_below(8)) {
	case 0:
		return (uint16_t)random_below(65536);
	case 1:
		return (uint16_t)depth;
	default:
		return (uint16_t)random_below(depth);
	}
}

/* Any bytes with a right phase tag: reaped if they name a command, else -EPROTO; never a crash. */
static void test_garbage(uint64_t rounds)
{
	while (rounds--) {
		uint32_t depth = 1 + random_below(40);
		struct nvme_sqe command = { .opc = 2 };
		uint8_t running[40] = { 0 };
		struct pair pair;
		int count;

		pair_init(&pair, depth, random_below(4), 2, 0);
		for (uint32_t n = random_below(depth + 1); n; n--)
			running[nvme_qpair_submit(&pair.qp, &command, 0, 512, n)] = 1;
		CHECK(!nvme_qpair_doorbell(&pair.qp));
		for (uint32_t n = random_below(depth + 1); n; n--)
			null_controller_post(&pair.controller,
					     (struct nvme_cqe){
						     .dw0 = random_below(UINT32_MAX),
						     .sqhd = (uint16_t)random_below(65536),
						     .sqid = (uint16_t)random_below(8) ? 1 : 9,
						     .cid = random_cid(depth),
						     .status = (uint16_t)random_below(65536),
					     });
		while ((count = nvme_qpair_poll(&pair.qp, pair.out, depth)) > 0)
			for (int i = 0; i < count; i++) {
				CHECK(pair.out[i].cid < depth && running[pair.out[i].cid]);
				running[pair.out[i].cid] = 0;
			}
		CHECK(count == 0 || count == -EPROTO);
		CHECK(nvme_qpair_poll(&pair.qp, pair.out, depth) == count);
		count = nvme_qpair_abort_all(&pair.qp, pair.out, 0x371);
		for (uint32_t cid = 0; cid < depth; cid++)
			count -= running[cid];
		CHECK(count == 0);
		pair_free(&pair);
	}
}

/* --- vectors ----------------------------------------------------------------------------- */

struct ios {
	uint64_t *lbas, *iovas, *latency;
	uint16_t *status, *wanted;
};

static struct ios ios_new(uint32_t count)
{
	struct ios ios = {
		.lbas = calloc(count, 8),
		.iovas = calloc(count, 8),
		.latency = calloc(count, 8),
		.status = malloc(count * 2),
		.wanted = calloc(count, 2),
	};

	CHECK(ios.lbas && ios.iovas && ios.latency && ios.status && ios.wanted);
	memset(ios.status, 0xff, count * 2);
	for (uint32_t i = 0; i < count; i++) {
		ios.lbas[i] = i; /* the fetched command says with it which I/O it is */
		/* In all places of a page, and often at its beginning. */
		ios.iovas[i] = (uint64_t)random_below(1u << 30) * (random_below(4) ? PAGE : 4);
		ios.wanted[i] = random_below(8) ? 0 : (uint16_t)random_below(0x8000);
	}
	return ios;
}

static void ios_free(struct ios *ios)
{
	free(ios->lbas);
	free(ios->iovas);
	free(ios->latency);
	free(ios->status);
	free(ios->wanted);
}

static void test_vector(uint32_t depth, uint32_t spare, uint32_t count)
{
	struct ios ios = ios_new(count);
	uint32_t failed = 0;
	struct pair pair;
	struct nvme_vector v = {
		.command = { .opc = 1, .nsid = 1 },
		.lbas = ios.lbas,
		.iovas = ios.iovas,
		.status = ios.status,
		.latency_ns = ios.latency,
		.count = count,
		.blocks = random_below(2) ? 1u << random_below(5) : 1 + random_below(MAX_LENGTH >> 9),
		.block_shift = 9,
	};
	int done;

	v.last_blocks = 1 + random_below(v.blocks);
	pair_init(&pair, depth, spare, MAX_LENGTH / PAGE, 0);
	while (!(done = nvme_vector_run(&pair.qp, &v, 2000))) {
		struct null_controller *controller = &pair.controller;

		null_controller_fetch(controller);
		for (uint32_t n = random_below(depth + 1); n && controller->count; n--) {
			uint32_t index = random_below(controller->count);
			const struct nvme_sqe *sqe = &controller->fetched[index];
			uint32_t io = sqe->cdw10;
			uint32_t blocks = io + 1 == count ? v.last_blocks : v.blocks;

			CHECK(io < count && (sqe->cdw12 & 0xffff) + 1 == blocks);
			pair_check_data(&pair, sqe, ios.iovas[io], blocks << 9);
			null_controller_complete(controller, index, ios.wanted[io]);
		}
	}
	CHECK(done == 1 && v.completed == count && v.submitted == count);
	CHECK(pair.qp.outstanding == 0);
	for (uint32_t i = 0; i < count; i++) {
		CHECK(ios.status[i] == ios.wanted[i] && ios.latency[i]);
		failed += (ios.wanted[i] & 0x7ff) != 0;
	}
	CHECK(v.failed == failed);
	pair_free(&pair);
	ios_free(&ios);
}

/* The controller runs beside the host: the order of stores and loads is what is tested. */
static void test_two_threads(uint32_t depth, uint32_t spare, uint32_t count)
{
	struct ios ios = ios_new(count);
	struct pair pair;
	pthread_t thread;
	struct nvme_vector v = {
		.command = { .opc = 2, .nsid = 1 },
		.lbas = ios.lbas,
		.iovas = ios.iovas,
		.status = ios.status,
		.latency_ns = ios.latency,
		.count = count,
		.blocks = 8,
		.last_blocks = 8,
		.block_shift = 9,
	};

	pair_init(&pair, depth, spare, 2, 0);
	CHECK(!pthread_create(&thread, NULL, null_controller_serve, &pair.controller));
	CHECK(nvme_vector_run(&pair.qp, &v, UINT64_C(60000000000)) == 1);
	__atomic_store_n(&pair.controller.stop, 1, __ATOMIC_RELEASE);
	CHECK(!pthread_join(thread, NULL));
	CHECK(v.completed == count && !v.failed);
	for (uint32_t i = 0; i < count; i++)
		CHECK(ios.status[i] == 0);
	pair_free(&pair);
	ios_free(&ios);
}

/* --- transfers --------------------------------------------------------------------------- */

/* Completes each command with a status that its LBA gives. */
static void *echo_thread(void *context)
{
	struct pair *pair = context;
	struct null_controller *controller = &pair->controller;

	while (!__atomic_load_n(&controller->stop, __ATOMIC_ACQUIRE)) {
		if (!null_controller_fetch(controller))
			continue;
		CHECK(controller->count == 1);
		pair_check_data(pair, controller->fetched, (uint64_t)controller->fetched->cdw13 * 4,
				controller->fetched->cdw12);
		null_controller_complete(controller, 0, controller->fetched->cdw10 & 0x7fff);
	}
	return NULL;
}

static void test_transfer(uint32_t depth, uint32_t spare, uint32_t count)
{
	struct nvme_sqe command = { .opc = 2, .nsid = 1 };
	struct pair pair;
	pthread_t thread;

	pair_init(&pair, depth, spare, MAX_LENGTH / PAGE, 0);
	CHECK(nvme_qpair_transfer(&pair.qp, &command, 0, 0, 2, 512, 0) == -EINVAL);
	CHECK(nvme_qpair_transfer(&pair.qp, &command, 0, 0, 4, UINT32_MAX, 0) == -EMSGSIZE);
	CHECK(nvme_qpair_transfer(&pair.qp, &command, 0, 512, 0, 512, 1000) == -ETIME);
	CHECK(nvme_qpair_transfer(&pair.qp, &command, 0, 512, 0, 512, 1000) == -EBUSY);
	CHECK(null_controller_fetch(&pair.controller) == 1);
	null_controller_complete(&pair.controller, 0, 7);
	CHECK(nvme_qpair_transfer(&pair.qp, &command, 0, 512, 0, 512, 1000) == -EBUSY);
	CHECK(nvme_qpair_poll(&pair.qp, pair.out, 1) == 1 && pair.out[0].status == 7);
	CHECK(!pthread_create(&thread, NULL, echo_thread, &pair));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = 1 + random_below(MAX_LENGTH - PAGE);

		command.cdw13 = random_below(1u << 30);
		CHECK(nvme_qpair_transfer(&pair.qp, &command, i, length,
					  (uint64_t)command.cdw13 * 4, length,
					  UINT64_C(60000000000)) == (int)(i & 0x7fff));
	}
	__atomic_store_n(&pair.controller.stop, 1, __ATOMIC_RELEASE);
	CHECK(!pthread_join(thread, NULL));
	CHECK(pair.qp.completed == count + 1 && !pair.qp.outstanding);
	null_controller_post(&pair.controller, (struct nvme_cqe){ .sqid = 1, .cid = 0xffff });
	CHECK(nvme_qpair_transfer(&pair.qp, &command, 0, 0, 0, 512, 1000) == -EPROTO);
	pair_free(&pair);
}

int main(int argc, char **argv)
{
	static const uint32_t depths[] = { 1, 2, 3, 7, 31, 256 };
	static const uint32_t spares[] = { 0, 1, 300 };

	if (argc > 1)
		percent = strtoull(argv[1], NULL, 10);
	test_refused();
	test_every_size_and_offset();
	for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
		for (size_t s = 0; s < sizeof(spares) / sizeof(spares[0]); s++) {
			test_random_work(depths[i], spares[s], i & 1, scaled(100000));
			for (int j = 0; j < 4; j++)
				test_vector(depths[i], spares[s], (uint32_t)scaled(2000));
			test_two_threads(depths[i], spares[s], (uint32_t)scaled(2000));
			test_transfer(depths[i], spares[s], (uint32_t)scaled(500));
		}
	}
	test_vector(7, 0, 0);
	test_random_work(65535, 0, 0, scaled(200000));
	test_garbage(scaled(20000));
	puts("ring_test: ok");
	return 0;
}
