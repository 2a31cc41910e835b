/*
 * What writes carry, for the sanitizers and valgrind: nothing beyond a buffer is written, the same
 * stream gives the same bytes, and what repeats is what was asked for.
 *
 * Usage: buffers_test [CASES], how many of any kind.
 */
#include <stdlib.h>
#include <string.h>

#include "_buffers.h"
#include "_generator.h"
#include "test.h"

#define UNIT 64u
#define UNITS 4000u
#define LARGEST 8192u

static uint64_t random_state = 1;

static uint64_t below(uint64_t limit)
{
	return nvme_random_below(nvme_random_next(&random_state), limit);
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, UNIT);
}

/* Sorts the units; returns how many different ones there are. */
static uint32_t distinct(uint8_t *data, uint32_t units)
{
	uint32_t found = units != 0;

	qsort(data, units, UNIT, compare);
	for (uint32_t i = 1; i < units; i++)
		found += memcmp(data + i * UNIT, data + (i - 1) * UNIT, UNIT) != 0;
	return found;
}

/* 4 sigma of the binomial law, squared so that no root is needed. */
static int is_near(int64_t count, int64_t n, int64_t percent)
{
	int64_t off = count * 100 - n * percent;

	return off * off <= 16 * n * percent * (100 - percent);
}

/* Each job's contents are its own, though the seeds of two are a step of the generator apart. */
static void test_streams_have_nothing_in_common(void)
{
	uint8_t *data = malloc(2 * UNITS * UNIT);

	for (uint32_t job = 0; job < 2; job++) {
		struct nvme_buffers b = { .unit = UNIT, .chunk = UNIT };

		nvme_buffers_init(&b, job * NVME_RANDOM_GAMMA);
		nvme_buffers_fill(&b, data + job * UNITS * UNIT, UNITS * UNIT);
		CHECK(b.made == UNITS);
	}
	CHECK(memcmp(data + UNIT, data + UNITS * UNIT, UNIT));
	CHECK(distinct(data, 2 * UNITS) == 2 * UNITS);
	free(data);
}

/* A repeated unit is the one before it, and so many are as was asked for. */
static void test_repeat(uint32_t percent)
{
	struct nvme_buffers b = { .unit = UNIT, .chunk = UNIT, .repeat_percent = percent };
	uint8_t *data = malloc(UNITS * UNIT);
	uint32_t repeated = 0;

	nvme_buffers_init(&b, percent);
	nvme_buffers_fill(&b, data, UNITS * UNIT);
	for (uint32_t i = 1; i < UNITS; i++)
		repeated += !memcmp(data + i * UNIT, data + (i - 1) * UNIT, UNIT);
	if (percent == 100)
		CHECK(repeated == UNITS - 1);
	else
		CHECK(is_near(repeated, UNITS, percent));
	CHECK(b.made == UNITS - repeated);
	CHECK(distinct(data, UNITS) == UNITS - repeated);
	free(data);
}

/* What is repeated is in the pool, all of which comes up: the first contents of its streams. */
static void test_pool(uint32_t streams, uint64_t each)
{
	const uint64_t pool[] = { 7, 7 + NVME_RANDOM_GAMMA, 99 };
	struct nvme_buffers b = {
		.unit = UNIT, .chunk = UNIT, .repeat_percent = 100,
		.pool = pool, .pool_streams = streams, .pool_each = each,
	};
	uint32_t size = streams * (uint32_t)each;
	uint8_t *data = malloc((UNITS + size) * UNIT);

	nvme_buffers_init(&b, 7);
	nvme_buffers_fill(&b, data, UNITS * UNIT);
	CHECK(!b.made);
	for (uint32_t stream = 0; stream < streams; stream++) {
		struct nvme_buffers own = { .unit = UNIT, .chunk = UNIT };

		nvme_buffers_init(&own, pool[stream]);
		nvme_buffers_fill(&own, data + (UNITS + stream * each) * UNIT,
				  (uint32_t)each * UNIT);
	}
	CHECK(distinct(data, UNITS) == size);
	CHECK(distinct(data, UNITS + size) == size);
	free(data);
}

/* Any sizes, in memory of just that length: the dull bytes are where they belong. */
static void test_any(void)
{
	static const uint8_t pattern[] = "dull";
	uint32_t bytes = 8 * (uint32_t)(1 + below(LARGEST / 8));
	struct nvme_buffers b = {
		.unit = 1 + (uint32_t)below(LARGEST),
		.chunk = 1 + (uint32_t)below(LARGEST),
		.pattern_bytes = 4,
		.pattern = below(2) ? pattern : NULL,
		.repeat_percent = (uint32_t)below(101),
	};
	uint8_t *data = malloc(bytes), *again = malloc(bytes);

	b.dull = (uint32_t)below(b.chunk + 1);
	nvme_buffers_init(&b, below(1000));
	for (uint32_t pass = 0; pass < 2; pass++) {
		struct nvme_buffers copy = b;

		nvme_buffers_fill(&b, data, bytes);
		nvme_buffers_fill(&copy, again, bytes);
		CHECK(!memcmp(data, again, bytes));
		for (uint32_t i = 0; i < bytes; i++) {
			uint32_t at = i % b.unit % b.chunk;

			if (at < b.chunk - b.dull)
				continue;
			at -= b.chunk - b.dull;
			CHECK(data[i] == (b.pattern ? pattern[at % 4] : 0));
		}
	}
	free(data);
	free(again);
}

/* Little of each sector changes, but something does. */
static void test_scramble(void)
{
	struct nvme_buffers b = { .scramble = 1 };
	uint8_t *data = malloc(LARGEST);
	uint8_t *before = malloc(LARGEST);

	nvme_buffers_init(&b, 1);
	memset(data, 0xa5, LARGEST);
	for (uint32_t pass = 0; pass < 500; pass++) {
		memcpy(before, data, LARGEST);
		nvme_buffers_fill(&b, data, LARGEST);
		for (uint32_t start = 0; start < LARGEST; start += 512) {
			uint32_t changed = 0;

			for (uint32_t i = start; i < start + 512; i++)
				changed += data[i] != before[i];
			CHECK(changed >= 1 && changed <= 8);
		}
		for (uint32_t start = 512; start < LARGEST; start += 512)
			CHECK(memcmp(data, data + start, 512));
	}
	free(data);
	free(before);
}

int main(int argc, char **argv)
{
	unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000;

	test_streams_have_nothing_in_common();
	for (uint32_t percent = 0; percent <= 100; percent += 10)
		test_repeat(percent);
	test_pool(1, 1);
	test_pool(1, 100);
	test_pool(3, 50);
	for (unsigned long i = 0; i < cases; i++)
		test_any();
	test_scramble();
	puts("buffers_test: ok");
	return 0;
}
