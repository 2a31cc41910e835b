/*
 * Several benchmarks in one thread, for the sanitizers and valgrind: they share a generator and their
 * results, and each has a controller that completes what it likes when it likes.
 *
 * Usage: many_test [PERCENT], how much of the work to do.
 */
#include "_bench_many.h"
#include "null_controller.h"
#include "test.h"

#define REGION 1000u
#define MOST 9u

struct crowd {
	struct pair pairs[MOST];
	struct nvme_bench *benches[MOST];
	struct nvme_bench_member *members;
	struct nvme_generator *generator;
	struct nvme_bench_result *results;
	uint32_t count;
};

static void crowd_init(struct crowd *crowd, uint32_t count, uint64_t ios)
{
	*crowd = (struct crowd){ .count = count };
	crowd->members = allocate(count, sizeof(*crowd->members));
	crowd->results = allocate(4, sizeof(*crowd->results));
	crowd->generator = allocate(1, sizeof(*crowd->generator));
	crowd->generator->workload = (struct nvme_workload){
		.region = REGION, .blocks = UINT64_MAX >> 2, .ios = ios,
		.order = NVME_ORDER_SEQUENTIAL, .direction = NVME_DIRECTION_READ,
		.sizes[0] = { .low = 1, .high = 1, .align = 1 },
	};
	nvme_generator_init(crowd->generator);
	for (uint32_t direction = 0; direction < 4; direction++)
		nvme_bench_result_clear(&crowd->results[direction]);
	for (uint32_t i = 0; i < count; i++) {
		struct nvme_bench *bench = allocate(1, sizeof(*bench));
		uint32_t depth = 1 + i * 3;

		pair_init(&crowd->pairs[i], depth, i * 20, 16, 0);
		bench->generator = crowd->generator;
		bench->slots = allocate(depth, sizeof(*bench->slots));
		bench->batches = allocate(depth + 1, sizeof(*bench->batches));
		bench->results = crowd->results;
		bench->depth = depth;
		bench->block_shift = 9;
		bench->block_bytes = 512;
		bench->fast_directions = 2;
		bench->writes_left = UINT64_MAX;
		bench->throttled = i % 2;
		crowd->benches[i] = bench;
		crowd->members[i] = (struct nvme_bench_member){ .qp = &crowd->pairs[i].qp, .bench = bench };
	}
}

static void crowd_free(struct crowd *crowd)
{
	for (uint32_t i = 0; i < crowd->count; i++) {
		pair_free(&crowd->pairs[i]);
		free(crowd->benches[i]->slots);
		free(crowd->benches[i]->batches);
		free(crowd->benches[i]);
	}
	free(crowd->members);
	free(crowd->generator);
	free(crowd->results);
}

static uint32_t done_of(const struct crowd *crowd)
{
	uint32_t done = 0;

	for (uint32_t i = 0; i < crowd->count; i++)
		done += crowd->members[i].done == 1;
	return done;
}

/* Each I/O comes once, whichever queue it goes to, and the results are those of all. */
static void test_counts(uint32_t count, uint64_t ios)
{
	uint64_t *seen = allocate(REGION, sizeof(*seen));
	struct crowd crowd;
	uint32_t before = 0;
	uint64_t failed = 0, all = 0;

	crowd_init(&crowd, count, ios);
	while (done_of(&crowd) < count) {
		int stops = nvme_bench_run_many(crowd.members, count, 1000);

		CHECK(stops == (done_of(&crowd) > before));
		before = done_of(&crowd);
		for (uint32_t i = 0; i < count; i++) {
			struct null_controller *controller = &crowd.pairs[i].controller;

			null_controller_fetch(controller);
			CHECK(!crowd.members[i].done || !controller->count);
			for (uint32_t n = random_below(controller->count + 1); n; n--) {
				uint32_t index = random_below(controller->count);
				uint16_t status = random_below(9) ? 0 : 0x281;

				seen[controller->fetched[index].cdw10]++;
				failed += status != 0;
				null_controller_complete(controller, index, status);
			}
		}
	}
	for (uint64_t lba = 0; lba < REGION; lba++) {
		CHECK(seen[lba] == ios / REGION + (lba < ios % REGION));
		all += seen[lba];
	}
	CHECK(all == ios && crowd.results[0].failed == failed);
	CHECK(crowd.results[0].ios == ios - failed && crowd.results[0].lat.count == ios - failed);
	CHECK(crowd.results[0].slat.count == ios - failed);
	CHECK(!nvme_bench_run_many(crowd.members, count, 0));
	crowd_free(&crowd);
	free(seen);
}

/* One that meets an error has no further turn; the others go on. */
static void test_error(uint32_t count)
{
	struct crowd crowd;
	uint32_t bad = random_below(count);

	crowd_init(&crowd, count, UINT64_MAX);
	CHECK(!nvme_bench_run_many(crowd.members, count, 0));
	null_controller_fetch(&crowd.pairs[bad].controller);
	null_controller_post(&crowd.pairs[bad].controller,
			     (struct nvme_cqe){ .sqid = 1, .cid = 0xffff });
	CHECK(nvme_bench_run_many(crowd.members, count, 0) == 1);
	for (uint32_t i = 0; i < count; i++)
		CHECK(crowd.members[i].done == (i == bad ? -EPROTO : 0));
	CHECK(!nvme_bench_run_many(crowd.members, count, 0));
	crowd_free(&crowd);
}

int main(int argc, char **argv)
{
	uint64_t percent = argc > 1 ? strtoull(argv[1], NULL, 10) : 100;

	for (uint32_t count = 1; count <= MOST; count++) {
		test_counts(count, 5000 * percent / 100 + count);
		test_error(count);
	}
	puts("many_test: ok");
	return 0;
}
