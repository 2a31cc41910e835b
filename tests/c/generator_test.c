/*
 * Generators of random workloads, for the sanitizers and valgrind: each stays in its region and its
 * memory, covers what it has to cover, and ends.
 *
 * Usage: generator_test [WORKLOADS], how many.
 */
#include <stdlib.h>
#include <string.h>

#include "_generator.h"
#include "test.h"

#define MAX_REGION 3000u
#define BASE 1000u

static uint64_t random_state = 1;

static uint64_t below(uint64_t limit)
{
	return nvme_random_below(nvme_random_next(&random_state), limit);
}

/* --- cycles and maps --------------------------------------------------------------------- */

static int is_prime(uint64_t n)
{
	for (uint64_t i = 2; i * i <= n; i++)
		if (n % i == 0)
			return 0;
	return n > 1;
}

/* The next prime 2 q + 1 above `count` with a prime q, and its smallest primitive root. */
static void find_cycle(struct nvme_workload *w, uint64_t count)
{
	uint64_t half = count < 4 ? 2 : (count + 1) / 2;
	uint64_t power;

	while (!is_prime(half) || !is_prime(2 * half + 1))
		half++;
	w->prime = 2 * half + 1;
	for (w->factor = 2;; w->factor++) {
		power = 1;
		for (uint64_t i = 0; i < half; i++)
			power = power * w->factor % w->prime;
		if (power == w->prime - 1 && w->factor != w->prime - 1)
			return;
	}
}

/* Every start once, whatever the number of starts; twice as many in two passes. */
static void test_cycles(void)
{
	static uint8_t seen[400];
	struct nvme_generator g;
	struct nvme_io io;

	for (uint64_t starts = 1; starts < 400; starts++) {
		memset(&g, 0, sizeof(g));
		g.workload = (struct nvme_workload){
			.base = BASE, .region = starts * 8 + starts % 8,
			.blocks = 2 * starts * 8, .ios = UINT64_MAX,
			.order = NVME_ORDER_PERMUTATION, .seed = starts,
			.sizes = { { .low = 8, .high = 8, .align = 8, .percentage_random = 100 } },
		};
		find_cycle(&g.workload, starts);
		nvme_generator_init(&g);
		for (uint8_t pass = 1; pass <= 2; pass++) {
			if (pass == 1)
				memset(seen, 0, sizeof(seen));
			for (uint64_t i = 0; i < starts; i++) {
				CHECK(nvme_generator_next(&g, &io) == 1);
				CHECK(io.blocks == 8 && io.direction == 0);
				CHECK((io.lba - BASE) % 8 == 0 && (io.lba - BASE) / 8 < starts);
				CHECK(++seen[(io.lba - BASE) / 8] == pass);
			}
		}
		for (int i = 0; i < 3; i++)
			CHECK(!nvme_generator_next(&g, &io));
	}
}

/* The whole of a map of several levels, with the smallest sizes at the end. */
static void test_large_map(void)
{
	const uint64_t granules = 64 * 64 * 3 + 5;
	struct nvme_generator g = { 0 };
	struct nvme_io io;
	uint8_t *seen = calloc(granules, 1);
	uint64_t covered = 0;

	g.workload = (struct nvme_workload){
		.region = granules * 2, .granule = 2, .blocks = granules * 2,
		.ios = UINT64_MAX, .order = NVME_ORDER_MAP,
		.map = malloc(nvme_map_words(granules) * 8),
		.sizes = { { .low = 2, .high = 300, .align = 2, .percentage_random = 100 } },
	};
	CHECK(seen && g.workload.map);
	CHECK(nvme_map_words(granules) == 193 + 4 + 1);
	nvme_generator_init(&g);
	while (nvme_generator_next(&g, &io)) {
		for (uint64_t i = io.lba / 2; i < (io.lba + io.blocks) / 2; i++) {
			CHECK(i < granules && !seen[i]);
			seen[i] = 1;
			covered++;
		}
	}
	CHECK(covered == granules);
	free(g.workload.map);
	free(seen);
}

/* --- any workload ------------------------------------------------------------------------ */

struct memory {
	struct nvme_split split[2];
	struct nvme_bin bins[2];
	uint64_t bin_starts[3];
	uint64_t *map;
};

static void sizes_set(struct nvme_io_sizes *sizes, struct memory *memory, uint32_t granule)
{
	uint32_t low = granule * (uint32_t)(1 + below(4));

	*sizes = (struct nvme_io_sizes){
		.low = low,
		.high = low * (uint32_t)(1 + below(3)),
		.align = below(2) ? granule : low,
		.percentage_random = below(2) ? 100 : (uint32_t)below(101),
	};
	if (below(3))
		return;
	memory->split[0] = (struct nvme_split){ .blocks = sizes->low, .until = 30 };
	memory->split[1] = (struct nvme_split){ .blocks = sizes->high, .until = 100 };
	sizes->split = memory->split;
	sizes->parts = 2;
}

/* Fill in a workload at random. All pointers are to memory of exactly the size that they need. */
static void workload_set(struct nvme_workload *w, struct memory *memory)
{
	uint32_t granule = (uint32_t)(1 + below(5));

	*w = (struct nvme_workload){
		.base = BASE,
		.region = 1 + below(MAX_REGION),
		.blocks = 1 + below(2 * MAX_REGION),
		.ios = below(2) ? UINT64_MAX : below(100),
		.seed = below(UINT64_MAX),
		.order = (uint32_t)below(5),
		.direction = (uint32_t)below(3),
		.mixed = below(3) == 0,
		.rwmixread = (uint32_t)below(101),
		.granule = granule,
	};
	/* One split stands for all, so one set of sizes does too. */
	sizes_set(&w->sizes[0], memory, granule);
	if (w->order == NVME_ORDER_SEQUENTIAL && below(2))
		w->sizes[0].beyond = (uint32_t)below(w->sizes[0].low);
	w->sizes[1] = w->sizes[2] = w->sizes[0];
	if (!w->mixed && below(4) == 0) {
		w->trimwrite = 1;
		w->direction = NVME_DIRECTION_TRIM;
	}
	w->region += w->sizes[0].low;
	if (w->order == NVME_ORDER_MAP) {
		w->region -= w->region % granule;
		memory->map = malloc(nvme_map_words(w->region / granule) * sizeof(uint64_t));
		CHECK(memory->map);
		w->map = memory->map;
	} else if (w->order == NVME_ORDER_PERMUTATION) {
		w->sizes[0].high = w->sizes[0].align = w->sizes[0].low;
		w->sizes[0].parts = 0;
		w->sizes[1] = w->sizes[2] = w->sizes[0];
		find_cycle(w, w->region / w->sizes[0].low);
	} else if (w->order == NVME_ORDER_LAW) {
		w->unit = granule;
		w->ranks = w->region / granule;
		for (int direction = 0; direction < 3; direction++)
			w->distributions[direction] = (struct nvme_distribution){
				.bins = memory->bins, .starts = memory->bin_starts, .count = 2
			};
		w->center = below(2) ? UINT64_MAX : below(w->ranks);
		memory->bins[0] = (struct nvme_bin){ .threshold = 1u << 31, .alias = 1 };
		memory->bins[1] = (struct nvme_bin){ .threshold = UINT32_MAX, .alias = 1 };
		memory->bin_starts[0] = 0;
		memory->bin_starts[1] = below(w->ranks);
		memory->bin_starts[2] = w->ranks;
		if (below(2))
			find_cycle(w, w->ranks);
	}
}

static void check_io(const struct nvme_workload *w, const struct nvme_io *io)
{
	CHECK(io->lba >= w->base);
	CHECK(io->blocks > 0 && io->blocks <= w->sizes[0].high);
	CHECK(io->lba - w->base < w->region);
	CHECK(io->lba - w->base + io->blocks <= w->region + w->sizes[0].beyond);
	if (w->mixed)
		CHECK(io->direction <= NVME_DIRECTION_WRITE);
	else if (!w->trimwrite)
		CHECK(io->direction == w->direction);
}

/* The next I/O; of a mix that is `steered`, in a direction from here. */
static int next(struct nvme_generator *g, int steered, struct nvme_io *io)
{
	uint32_t direction = below(3) ? NVME_DIRECTION_READ : NVME_DIRECTION_WRITE;

	if (!steered)
		return nvme_generator_next(g, io);
	if (!nvme_generator_next_of(g, direction, io))
		return 0;
	CHECK(io->direction == direction);
	return 1;
}

static void test_any_workload(void)
{
	struct nvme_generator g;
	struct memory memory = { .map = NULL };
	struct nvme_io io = { 0 }, trim = { 0 };
	uint64_t moved = 0, ios = 0;
	const struct nvme_workload *w = &g.workload;
	int steered;

	memset(&g, 0xa5, sizeof(g)); /* the state is init's, whatever was there */
	workload_set(&g.workload, &memory);
	nvme_generator_init(&g);
	steered = w->mixed && below(2);
	while (next(&g, steered, &io)) {
		check_io(w, &io);
		if (w->trimwrite && ios % 2) {
			CHECK(io.direction == NVME_DIRECTION_WRITE);
			CHECK(io.lba == trim.lba && io.blocks == trim.blocks);
		} else {
			CHECK(!w->trimwrite || io.direction == NVME_DIRECTION_TRIM);
			moved += io.blocks;
		}
		trim = io;
		ios++;
		CHECK(moved <= w->blocks + w->sizes[0].high);
	}
	CHECK(ios / (w->trimwrite ? 2 : 1) <= w->ios);
	/* It came to its end for a reason: its number, or no room for the largest. */
	CHECK(ios == w->ios * (w->trimwrite ? 2 : 1) ||
	      moved + w->sizes[0].high > w->blocks);
	CHECK(!next(&g, steered, &io));
	free(memory.map);
}

static void test_nothing_fits(void)
{
	struct nvme_io io;
	struct nvme_generator g = { .workload = {
		.region = 7, .blocks = 100, .ios = UINT64_MAX,
		.order = NVME_ORDER_UNIFORM,
		.sizes = { { .low = 8, .high = 8, .align = 8, .percentage_random = 100 } },
	} };

	nvme_generator_init(&g);
	CHECK(!nvme_generator_next(&g, &io));
	g.workload.region = 8;
	nvme_generator_init(&g);
	CHECK(nvme_generator_next(&g, &io));
	g.workload.blocks = 0;
	nvme_generator_init(&g);
	CHECK(!nvme_generator_next(&g, &io));
}

int main(int argc, char **argv)
{
	unsigned long workloads = argc > 1 ? strtoul(argv[1], NULL, 10) : 5000;

	test_cycles();
	test_large_map();
	test_nothing_fits();
	for (unsigned long i = 0; i < workloads; i++)
		test_any_workload();
	puts("generator_test: ok");
	return 0;
}
