/*
 * The software controller's shadow doorbells, for the sanitizers and valgrind. controller_test.c does
 * with them what it does without.
 *
 * Usage: shadow_test [PERCENT], how much of the work to do.
 */
#define _DEFAULT_SOURCE
#include "controller_host.h"

/* A wider stride has no place for them, nor has a model. */
static void test_is_refused(void)
{
	struct controller_config config = {
		.blocks = BLOCKS,
		.block_shift = 9,
		.mqes = DEPTH - 1,
		.queues = 2,
		.version = 0x20000,
		.answer = answer,
		.shadow = 1,
		.doorbells = allocate(1, PAGE << 1),
	};

	config.dstrd = 1;
	CHECK(!controller_new(&config));
	config.dstrd = 0;
	config.model = 1;
	CHECK(!controller_new(&config));
	config.model = 0;
	controller_free(controller_new(&config));
	free(config.doorbells);
}

/* Without a thread it wants each doorbell, of queues that were there before them, too. */
static void test_is_asked(void)
{
	struct answer answers = { 0 };
	struct host host;
	uint8_t *memory = allocate(2, PAGE);

	host_init(&host, &answers, -1, 0, 0);
	CHECK(run(&host, &host.admin, doorbell_buffer_config(SHADOW, SHADOW + 1), NULL) == 0x4001);
	host_free(&host);
	host_init(&host, &answers, -1, 0, 1);
	host.shadow = NULL;
	write_register(&host, 0x14, 4, 0);
	start(&host);
	for (uint32_t i = 0; i < 3; i++)
		CHECK(!run(&host, &host.io, io(2, 0, 1, 8), NULL));
	use_shadow(&host);
	CHECK(!run(&host, &host.admin, doorbell_buffer_config(SHADOW, SHADOW + 1), NULL));
	CHECK(host.shadow[2] == 3 && host.shadow[3] == 3);
	host.rung = 0;
	for (uint32_t i = 1; i <= 40; i++) {
		CHECK(!run(&host, &host.io, io(2, 0, 1, 8), NULL));
		CHECK(host.rung == 2 * i);
		CHECK(host.event_index[2] == host.io.tail && host.event_index[3] == host.io.head);
	}
	CHECK(!host.shadow[0] && !host.shadow[1] && !host.event_index[0] && !host.event_index[1]);
	/* What it refuses leaves them as they are. */
	CHECK(run(&host, &host.admin, (struct nvme_sqe){ .opc = 0x7c, .prp1 = iova_of(8) + 4,
							 .prp2 = iova_of(9) }, NULL) == 0x4002);
	CHECK(run(&host, &host.admin, (struct nvme_sqe){ .opc = 0x7c, .prp1 = iova_of(8),
							 .prp2 = iova_of(PAGES) }, NULL) == 0x0004);
	CHECK(!run(&host, &host.io, io(2, 0, 1, 8), NULL));
	CHECK(host.shadow[2] == host.io.tail);
	/* Their memory goes away. */
	CHECK(!controller_map(host.c, 0x10000, 2 * PAGE, memory));
	CHECK(!run(&host, &host.admin, (struct nvme_sqe){ .opc = 0x7c, .prp1 = 0x10000,
							  .prp2 = 0x11000 }, NULL));
	CHECK(csts(&host) == 1);
	CHECK(controller_unmap(host.c, 0x10000, 2 * PAGE) == memory);
	CHECK(csts(&host) == 3);
	host_free(&host);
	free(memory);
}

/* A thread that never sleeps asks once: a doorbell is rung where it comes by there again. */
static void test_is_polled(void)
{
	struct answer answers = { 0 };
	struct host host;

	host_init(&host, &answers, CONTROLLER_SPIN, 0, 1);
	for (uint32_t i = 0; i < 4 * DEPTH; i++)
		CHECK(!run(&host, &host.io, io(2, 0, 1, 8), NULL));
	CHECK(host.rung == 2 * 4);
	host_free(&host);
}

/* One that sleeps has asked before, and is woken; in between it is not rung for. */
static void test_wakes(uint64_t rounds)
{
	struct answer answers = { 0 };
	struct host host;

	host_init(&host, &answers, CONTROLLER_SLEEP, 0, 1);
	for (uint64_t i = 0; i < rounds; i++) {
		uint32_t before;

		/* Up to a minute: it falls asleep as soon as it is run. */
		for (uint32_t tries = 0;
		     __atomic_load_n(&host.event_index[2], __ATOMIC_ACQUIRE) != host.io.tail; tries++) {
			CHECK(tries < 600000);
			usleep(100);
		}
		before = host.rung;
		CHECK(!run(&host, &host.io, io(2, 0, 1, 8), NULL));
		CHECK(host.rung > before);
	}
	host_free(&host);
}

int main(int argc, char **argv)
{
	uint64_t percent = argc > 1 ? strtoull(argv[1], NULL, 0) : 100;

	test_is_refused();
	test_is_asked();
	test_is_polled();
	test_wakes(percent * 2);
	return 0;
}
