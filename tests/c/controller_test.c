/*
 * The software controller for the sanitizers and valgrind: a host that does as it should, with every
 * rule, and one that does not, whose commands, doorbells and registers are random.
 *
 * Usage: controller_test [PERCENT], how much of the work to do.
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "controller_host.h"

static uint64_t percent = 100;

static uint64_t scaled(uint64_t count)
{
	return count * percent / 100 + 1;
}

/* --- one that does as it should ---------------------------------------------------------- */

/* Random writes and reads against a model. */
static void test_data(struct host *host)
{
	uint8_t *model = allocate(BLOCKS, 512);

	CHECK(!run(host, &host->io, io(8, 0, BLOCKS, 8), NULL));
	for (uint64_t i = 0; i < scaled(2000); i++) {
		uint32_t blocks = 1 + random_below(16), lba = random_below(BLOCKS - blocks + 1);
		uint32_t at = 8 + random_below(PAGES - 10);

		if (random_below(2)) {
			memset(page(host, at), (int)random_below(256), blocks * 512);
			memcpy(model + (size_t)lba * 512, page(host, at), blocks * 512);
			CHECK(!run(host, &host->io, io(1, lba, blocks, at), NULL));
		} else {
			CHECK(!run(host, &host->io, io(2, lba, blocks, at), NULL));
			CHECK(!memcmp(model + (size_t)lba * 512, page(host, at), blocks * 512));
		}
	}
	CHECK(!memcmp(model, host->storage, BLOCKS * 512));
	free(model);
}

/* --- rules ------------------------------------------------------------------------------- */

static void test_status_and_completions(struct host *host)
{
	struct nvme_cqe cqe;
	struct nvme_sqe sqe = io(2, 0, 1, 8);

	order(host, CONTROLLER_STATUS, 2, 0x281);
	CHECK(run(host, &host->io, io(2, 0, 1, 8), NULL) == 0x281);
	order(host, CONTROLLER_TWICE, 2, 0);
	CHECK(!run(host, &host->io, io(2, 0, 1, 8), NULL));
	CHECK(take(host, &host->io, &cqe, 1000) && cqe.cid == host->cid);
	order(host, CONTROLLER_WRONG_CID, 2, 0x8001);
	sqe.cid = 3;
	post(host, &host->io, sqe);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == (3 ^ 0x8001));
	order(host, CONTROLLER_WRONG_SQID, 2, 4);
	post(host, &host->io, sqe);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.sqid == (1 ^ 4));
	CHECK(!controller_remove_rule(host->c, 0));
}

static uint32_t kept(struct host *host)
{
	struct nvme_sqe sqe;
	uint32_t count = 0, qid;

	while (!controller_get_kept(host->c, count, &sqe, &qid)) {
		CHECK(sqe.opc == 2 && qid == 1);
		count++;
	}
	return count;
}

static void test_kept(struct host *host)
{
	struct nvme_cqe cqe;
	struct nvme_sqe sqe = io(2, 0, 1, 8);
	uint32_t result;

	order(host, CONTROLLER_KEEP, 2, 0);
	sqe.cid = 500;
	post(host, &host->io, sqe);
	while (!kept(host))
		sched_yield();
	CHECK(!take(host, &host->io, &cqe, 1));
	CHECK(!run(host, &host->admin, (struct nvme_sqe){ .opc = 8, .cdw10 = 501u << 16 | 1 },
		   &result));
	CHECK(result == 1);
	CHECK(!run(host, &host->admin, (struct nvme_sqe){ .opc = 8, .cdw10 = 500u << 16 | 1 },
		   &result));
	CHECK(result == 0);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == 500 && cqe.status >> 1 == 7);
	CHECK(!kept(host));
	order(host, CONTROLLER_KEEP, 2, 0);
	post(host, &host->io, sqe);
	while (!kept(host))
		sched_yield();
	CHECK(controller_release(host->c, 0) == 1);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == 500 && !(cqe.status >> 1));
	order(host, CONTROLLER_KEEP, 2, 0);
	post(host, &host->io, sqe);
	while (!kept(host))
		sched_yield();
	CHECK(controller_end(host->c, 1, 501, 0) == -ENOENT);
	CHECK(controller_end(host->c, 200, 500, 0) == -ENOENT);
	CHECK(!controller_end(host->c, 1, 500, 0x281));
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == 500 && cqe.status >> 1 == 0x281);
	CHECK(!controller_post(host->c, 1, 0x1234, 2, 0xabcd));
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == 0x1234 && cqe.status >> 1 == 2);
	CHECK(controller_post(host->c, 2, 0, 0, 0) == -ENOENT);
	for (uint32_t i = 0; i < DEPTH - 1; i++)
		CHECK(!controller_post(host->c, 1, 1, 0, 0));
	CHECK(controller_post(host->c, 1, 1, 0, 0) == -EAGAIN);
	while (take(host, &host->io, &cqe, 10))
		CHECK(cqe.cid == 1);
	order(host, CONTROLLER_LOSE, 2, 0);
	post(host, &host->io, sqe);
	CHECK(!run(host, &host->admin, (struct nvme_sqe){ .opc = 8, .cdw10 = 500u << 16 | 1 },
		   &result));
	CHECK(result == 1);
	CHECK(!controller_remove_rule(host->c, 0));
}

/* Each takes its time, and ends: in the doorbell, where the controller has no thread. */
static void test_delays(struct host *host)
{
	const struct controller_rule rule = { .opcode = 2, .qid = -1, .nth = 1, .every = 1,
					      .delay_ns = 200000 };

	CHECK(controller_add_rule(host->c, &rule) > 0);
	for (uint32_t i = 0; i < 40; i++) {
		uint64_t before = nvme_ticks();

		CHECK(!run(host, &host->io, io(2, 0, 1, 8), NULL));
		CHECK(nvme_ticks() - before >= nvme_tick_rate() / 5000);
	}
	CHECK(!controller_remove_rule(host->c, 0));
}

/* A piece that begins in what is mapped, and does not end there. */
static void test_dma(struct host *host)
{
	uint8_t *memory = allocate(1, 512);
	struct nvme_sqe sqe = io(2, 0, 1, 8);

	CHECK(!controller_map(host->c, 0x4000, 512, memory));
	sqe.prp1 = 0x4000;
	CHECK(!run(host, &host->io, sqe, NULL));
	sqe.prp1 = 0x4100;
	CHECK(run(host, &host->io, sqe, NULL) == 0x0004);
	sqe.prp1 = 0x3f00;
	CHECK(run(host, &host->io, sqe, NULL) == 0x0004);
	CHECK(!controller_unmap(host->c, 0x4000, 511));
	CHECK(controller_unmap(host->c, 0x4000, 512) == memory);
	sqe.prp1 = 0x4000;
	CHECK(run(host, &host->io, sqe, NULL) == 0x0004);
	free(memory);
}

static uint64_t read_register(struct host *host, uint32_t offset, uint32_t width)
{
	uint64_t value;

	CHECK(!controller_read(host->c, offset, width, &value));
	return value;
}

/* The Controller Memory Buffer: where the host puts it, and for what it is. */
static void test_cmb(struct host *host)
{
	struct nvme_sqe write = io(1, 0, 1, 8), read = io(2, 0, 1, 8);

	write.prp1 = read.prp1 = 0x5000;
	CHECK(!read_register(host, 0x38, 8));
	write_register(host, 0x50, 8, 0x5003);
	CHECK(read_register(host, 0x38, 8) == ((uint64_t)(CMB << 12 | CONTROLLER_WDS) << 32 | 0x62));
	CHECK(!read_register(host, 0x58, 4));
	memset(host->cmb, 0x5a, 512);
	CHECK(!run(host, &host->io, write, NULL));
	CHECK(!memcmp(host->storage, host->cmb, 512));
	CHECK(run(host, &host->io, read, NULL) == 0x4012);
	write.prp1 = 0x5000 + CMB * PAGE;
	CHECK(run(host, &host->io, write, NULL) == 0x0004);
	/* Where the host's memory is. */
	write_register(host, 0x50, 8, IOVA | 3);
	CHECK(read_register(host, 0x58, 4) == 1);
	write.prp1 = 0x5000;
	CHECK(run(host, &host->io, write, NULL) == 0x0004);
	write_register(host, 0x50, 8, 0);
	CHECK(!read_register(host, 0x58, 4) && !read_register(host, 0x3c, 4));
}

static void test_events(struct host *host)
{
	struct nvme_cqe cqe;

	CHECK(controller_event(host->c, 1) == -EAGAIN);
	for (uint16_t i = 0; i < 5; i++)
		post(host, &host->admin, (struct nvme_sqe){ .opc = 0x0c, .cid = i });
	CHECK(take(host, &host->admin, &cqe, 10000) && cqe.cid == 4 && cqe.status >> 1 == 0x4105);
	CHECK(!kept(host));
	CHECK(!controller_event(host->c, 0x1234));
	CHECK(take(host, &host->admin, &cqe, 10000) && cqe.cid == 0 && cqe.dw0 == 0x1234);
	/* One of those that are left is aborted in the queue in which the Abort itself is. */
	post(host, &host->admin, (struct nvme_sqe){ .opc = 8, .cid = 9, .cdw10 = 2u << 16 });
	CHECK(take(host, &host->admin, &cqe, 10000));
	CHECK(take(host, &host->admin, &cqe, 10000));
}

static void test_answers(struct host *host, struct answer *answers)
{
	const uint32_t says[] = { 0, 0x281, CONTROLLER_ANSWER_EXECUTE };
	uint32_t result;

	for (uint32_t i = 0; i < 3; i++) {
		answers->says = says[i];
		memset(answers->data, (int)(i + 1), sizeof(answers->data));
		order(host, CONTROLLER_ANSWER, 2, 77);
		CHECK(run(host, &host->io, io(2, 0, 1, 8), &result) == (i == 1 ? 0x281 : 0));
		CHECK(i == 2 || result == 0xabcd);
		CHECK(i || page(host, 8)[511] == 1);
	}
	answers->says = CONTROLLER_ANSWER_EXECUTE;
	order(host, CONTROLLER_ANSWER, 1, 77);
	memset(page(host, 8), 9, 512);
	CHECK(!run(host, &host->io, io(1, 0, 1, 8), NULL));
	CHECK(answers->data[0] == 9 && answers->asked == 4);
	CHECK(!controller_remove_rule(host->c, 0));
}

static void test_the_whole(struct host *host)
{
	uint64_t value;

	order(host, CONTROLLER_FATAL, 2, 0);
	post(host, &host->io, io(2, 0, 1, 8));
	while (csts(host) != 3)
		sched_yield();
	write_register(host, 0x14, 4, 0);
	CHECK(csts(host) == 0);
	start(host);
	order(host, CONTROLLER_GONE, 2, 0);
	post(host, &host->io, io(2, 0, 1, 8));
	while (csts(host) != UINT32_MAX)
		sched_yield();
	CHECK(!controller_read(host->c, 0, 8, &value) && value == UINT64_MAX);
	controller_set_quirks(host->c, CONTROLLER_NEVER_DISABLED);
	write_register(host, 0x14, 4, 0);
	CHECK(csts(host) == 1);
	controller_reset(host->c);
	CHECK(csts(host) == 0);
	controller_set_quirks(host->c, CONTROLLER_FATAL_AT_ENABLE);
	write_register(host, 0x14, 4, 0x00460001);
	CHECK(csts(host) & 2);
	controller_set_quirks(host->c, 0);
	controller_reset(host->c);
	start(host);
	/* The memory of its queues goes away. */
	CHECK(controller_unmap(host->c, IOVA, PAGES * PAGE) == host->memory);
	CHECK(csts(host) == 3);
	controller_reset(host->c);
	CHECK(!controller_map(host->c, IOVA, PAGES * PAGE, host->memory));
	CHECK(controller_map(host->c, IOVA + PAGE, PAGE, host->memory) == -EEXIST);
	start(host);
}

static void test_bad_rules(struct host *host)
{
	struct controller_rule rule = { .opcode = -1, .qid = -1, .nth = 1, .every = 1 };
	int first;

	rule.action = CONTROLLER_ACTIONS;
	CHECK(controller_add_rule(host->c, &rule) == -EINVAL);
	rule.action = CONTROLLER_TORN_WRITE;
	CHECK(controller_add_rule(host->c, &rule) == -EINVAL);
	rule.action = CONTROLLER_EXECUTE;
	rule.nth = 0;
	CHECK(controller_add_rule(host->c, &rule) == -EINVAL);
	rule.nth = 1;
	first = controller_add_rule(host->c, &rule);
	for (uint32_t i = 1; i < 64; i++)
		CHECK(controller_add_rule(host->c, &rule) == first + (int)i);
	CHECK(controller_add_rule(host->c, &rule) == -ENOSPC);
	CHECK(!controller_remove_rule(host->c, (uint32_t)first + 63));
	CHECK(!controller_remove_rule(host->c, (uint32_t)first));
	CHECK(controller_remove_rule(host->c, (uint32_t)first) == -ENOENT);
	CHECK(controller_get_rule(host->c, (uint32_t)first, &rule) == -ENOENT);
	CHECK(!controller_remove_rule(host->c, 0));
}

/* --- one that does not ------------------------------------------------------------------- */

static uint64_t any_address(void)
{
	switch (random_below(4)) {
	case 0:
		return IOVA + random_below(PAGES * PAGE);
	case 1:
		return iova_of(8 + random_below(PAGES - 8));
	case 2:
		return (uint64_t)random_below(UINT32_MAX) << random_below(33);
	}
	return UINT64_MAX - random_below(5000);
}

static struct nvme_sqe any_command(void)
{
	struct nvme_sqe sqe = { 0 };

	for (uint32_t i = 0; i < sizeof(sqe) / 4; i++)
		((uint32_t *)&sqe)[i] = random_below(UINT32_MAX);
	/* What gets further than a first look. Of what renews it little, since that takes long. */
	sqe.opc = random_below(8) ? random_below(14) : random_below(256);
	sqe.flags = (uint8_t)(random_below(4) ? 0x40 * random_below(4) : random_below(256));
	sqe.nsid = random_below(4) ? 1 : sqe.nsid;
	sqe.prp1 = any_address();
	sqe.prp2 = any_address();
	switch (random_below(3)) {
	case 0: /* of blocks */
		sqe.cdw10 = random_below(BLOCKS + 5);
		sqe.cdw11 = random_below(4) ? 0 : 4;
		sqe.cdw12 = random_below(20);
		break;
	case 1: /* of a queue, a page, a log, a feature */
		sqe.cdw10 = random_below(4) | random_below(DEPTH + 2) << 16;
		sqe.cdw11 = 1 | random_below(3) << 16;
		sqe.cdw12 = sqe.cdw13 = 0;
		break;
	}
	return sqe;
}

static void test_hostile_host(struct host *host)
{
	for (uint64_t i = 0; i < scaled(20000); i++) {
		struct queue *queue = random_below(3) ? &host->io : &host->admin;
		struct nvme_cqe cqe;
		uint64_t value;

		if (!random_below(4))
			order(host, random_below(CONTROLLER_ANSWER), random_below(2) ? -1 : 2, 1);
		if (!random_below(8))
			controller_remove_rule(host->c, 0);
		for (uint32_t at = 4 * PAGE; !random_below(8) && at < PAGES * PAGE; at += 8) {
			value = any_address();
			memcpy(host->memory + at, &value, sizeof(value));
		}
		post(host, queue, any_command());
		while (take(host, queue, &cqe, 0))
			;
		if (!random_below(50))
			ring(host, random_below(3), (int)random_below(2), random_below(40));
		if (!random_below(50))
			controller_write(host->c, random_below(0x60), 4 << random_below(2),
					 random_below(UINT32_MAX));
		if (!random_below(10)) {
			controller_set_quirks(host->c, 0);
			controller_remove_rule(host->c, 0);
			controller_reset(host->c);
			start(host);
		}
	}
	controller_set_quirks(host->c, 0);
	controller_remove_rule(host->c, 0);
	controller_reset(host->c);
	start(host);
}

/* --- one with a model ---------------------------------------------------------------------- */

static void test_asked(struct host *host, struct answer *answers)
{
	struct nvme_sqe sqe = io(4, 0, 1, 8);
	uint8_t data[16] = { 1, 2, 3 };
	struct nvme_cqe cqe;
	uint32_t result;

	/* What the controller does itself nobody is asked about. */
	answers->asked = 0;
	CHECK(!run(host, &host->io, io(1, 0, 1, 8), NULL));
	CHECK(!run(host, &host->io, io(2, 0, 1, 8), NULL));
	CHECK(!answers->asked);
	/* All else it is, with both dwords of the completion. */
	answers->says = 0x281;
	sqe.cid = ++host->cid;
	post(host, &host->io, sqe);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.status >> 1 == 0x281);
	CHECK(cqe.dw0 == 0xabcd && cqe.dw1 == 0xef && answers->asked == 1 && !answers->had_next);
	CHECK(run(host, &host->io, io(2, BLOCKS, 1, 8), NULL) == 0x281);
	CHECK(run(host, &host->io, io(2, 0, 17, 8), NULL) == 0x281);
	sqe = io(1, 0, 1, 8);
	sqe.nsid = 2;
	CHECK(run(host, &host->io, sqe, NULL) == 0x281);
	CHECK(run(host, &host->admin, (struct nvme_sqe){ .opc = 6 }, &result) == 0x281);
	CHECK(result == 0xabcd && answers->asked == 5);
	/* It leaves an admin command to the controller, but no I/O; and says nothing else. */
	answers->says = CONTROLLER_ANSWER_EXECUTE;
	CHECK(!run(host, &host->admin,
		   (struct nvme_sqe){ .opc = 6, .cdw10 = 1, .prp1 = iova_of(8) }, NULL));
	CHECK(run(host, &host->io, io(4, 0, 1, 8), NULL) == 0x4006);
	answers->says = CONTROLLER_ANSWER_LOSE;
	CHECK(run(host, &host->io, io(4, 0, 1, 8), NULL) == 0x4006);
	/* Rules come first, and what they do to a completion they do to the model's. */
	answers->says = 0x281;
	answers->asked = 0;
	order(host, CONTROLLER_STATUS, 4, 0x282);
	CHECK(run(host, &host->io, io(4, 0, 1, 8), NULL) == 0x282 && !answers->asked);
	order(host, CONTROLLER_TWICE, 4, 0);
	CHECK(run(host, &host->io, io(4, 0, 1, 8), NULL) == 0x281);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.status >> 1 == 0x281);
	CHECK(!controller_remove_rule(host->c, 0));
	/* An address that is mapped, and one that is not. */
	CHECK(!controller_call_move_at(&(struct controller_call){ .controller = host->c }, 1,
				       iova_of(8), data, sizeof(data)));
	CHECK(page(host, 8)[2] == 3);
	CHECK(controller_call_move_at(&(struct controller_call){ .controller = host->c }, 0, 1,
				      data, sizeof(data)) == 0x0004);
}

/* Two commands that are announced together: the first knows of the other. */
static void test_next(struct host *host, struct answer *answers)
{
	struct nvme_sqe sqe = io(4, 0, 1, 8);
	struct nvme_cqe cqe;

	answers->says = CONTROLLER_ANSWER_KEEP;
	host->io.sq[host->io.tail] = sqe;
	host->io.tail = (host->io.tail + 1) % DEPTH;
	sqe.opc = 2;
	sqe.cid = 1;
	post(host, &host->io, sqe);
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == 1);
	CHECK(answers->had_next);
	CHECK(!controller_end(host->c, 1, 0, 0x7));
	CHECK(take(host, &host->io, &cqe, 10000) && cqe.cid == 0 && cqe.status >> 1 == 0x7);
}

static void test_event_is_asked_for_again(struct host *host, struct answer *answers)
{
	struct nvme_cqe cqe;

	answers->says = CONTROLLER_ANSWER_EXECUTE;
	post(host, &host->admin, (struct nvme_sqe){ .opc = 0x0c, .cid = 5 });
	/* The controller has seen it. */
	CHECK(!run(host, &host->admin,
		   (struct nvme_sqe){ .opc = 6, .cdw10 = 1, .prp1 = iova_of(8) }, NULL));
	answers->asked = 0;
	controller_ask_events(host->c);
	CHECK(!run(host, &host->admin,
		   (struct nvme_sqe){ .opc = 6, .cdw10 = 1, .prp1 = iova_of(8) }, NULL));
	CHECK(answers->asked == 2 && !take(host, &host->admin, &cqe, 0));
	answers->says = 0;
	controller_ask_events(host->c);
	CHECK(take(host, &host->admin, &cqe, 10000) && cqe.cid == 5 && cqe.dw0 == 0xabcd);
}

/* What namespace 1 is changes; with no blocks all of its I/O is the model's. */
static void test_other_namespace(struct host *host, struct answer *answers)
{
	const struct controller_rule stale = { .action = CONTROLLER_STALE_READ,
					       .opcode = -1,
					       .qid = -1,
					       .nth = 1,
					       .every = 1 };
	const uint8_t opcodes[] = { 0, 1, 2, 5, 8, 9 };

	CHECK(controller_add_rule(host->c, &stale) > 0);
	CHECK(!run(host, &host->io, io(2, 0, 1, 8), NULL));
	answers->says = 0x281;
	controller_set_namespace(host->c, NULL, 0, 9);
	for (uint32_t i = 0; i < sizeof(opcodes); i++)
		CHECK(run(host, &host->io, io(opcodes[i], 0, 1, 8), NULL) == 0x281);
	controller_set_namespace(host->c, host->storage, BLOCKS / 8, 12);
	answers->asked = 0;
	CHECK(!run(host, &host->io, io(1, BLOCKS / 8 - 1, 1, 8), NULL));
	CHECK(!run(host, &host->io, io(2, BLOCKS / 8 - 1, 1, 8), NULL));
	CHECK(!answers->asked);
	CHECK(run(host, &host->io, io(2, BLOCKS / 8, 1, 8), NULL) == 0x281);
	CHECK(!controller_remove_rule(host->c, 0));
}

static void test_model(int wait)
{
	struct answer answers = { .is_model = 1, .says = 0x281 };
	const struct controller_config none = { .model = 1 };
	struct host host;

	CHECK(!controller_new(&none));
	host_init(&host, &answers, wait, 0, 0);
	test_asked(&host, &answers);
	test_next(&host, &answers);
	test_event_is_asked_for_again(&host, &answers);
	test_other_namespace(&host, &answers);
	if (wait < 0)
		test_hostile_host(&host);
	host_free(&host);
}

/* --- its thread -------------------------------------------------------------------------- */

static void *visit(void *context)
{
	struct host *host = context;
	uint8_t *memory = allocate(1, PAGE);
	struct controller_log log;

	for (uint64_t i = 0; i < scaled(2000); i++) {
		CHECK(!controller_map(host->c, 0x1000, PAGE, memory));
		CHECK(controller_remove_rule(host->c, (uint32_t)order(host, CONTROLLER_EXECUTE, 2, 0)) ==
		      0);
		controller_get_log(host->c, &log);
		CHECK(controller_unmap(host->c, 0x1000, PAGE) == memory);
		if (!(i % 16))
			usleep(100);
	}
	free(memory);
	return NULL;
}

static void test_visitors(struct host *host)
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, visit, host));
	test_data(host);
	CHECK(!pthread_join(thread, NULL));
}

static void test_all(int wait, uint32_t stride, uint32_t shadow)
{
	struct answer answers = { 0 };
	struct host host;

	host_init(&host, &answers, wait, stride, shadow);
	CHECK(controller_doorbell(host.c, 2, 0) == -EINVAL);
	CHECK(controller_doorbell(host.c, (uint64_t)PAGE << 11, 0) == -EINVAL);
	test_data(&host);
	test_bad_rules(&host);
	test_status_and_completions(&host);
	test_kept(&host);
	test_answers(&host, &answers);
	test_delays(&host);
	test_dma(&host);
	test_cmb(&host);
	test_the_whole(&host);
	test_data(&host);
	test_events(&host);
	if (wait >= 0)
		test_visitors(&host);
	else
		test_hostile_host(&host);
	host_free(&host);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		percent = strtoull(argv[1], NULL, 0);
	test_all(-1, 0, 0);
	test_all(-1, 3, 0);
	test_all(-1, 0, 1);
	test_all(CONTROLLER_SLEEP, 0, 0);
	test_all(CONTROLLER_SLEEP, 0, 1);
	test_all(CONTROLLER_NAP, 1, 0);
	test_model(-1);
	test_model(CONTROLLER_SLEEP);
	return 0;
}
