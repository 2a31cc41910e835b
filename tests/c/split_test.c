/*
 * I/Os of several commands, for the sanitizers and valgrind: generated I/Os of random sizes, cut into
 * commands that are completed in random order with random statuses. Each I/O is followed, command by
 * command, and every count compared with what the controller saw.
 *
 * Usage: split_test [PERCENT], how much of the work to do.
 */
#include <string.h>

#include "_bench_split.h"
#include "null_controller.h"
#include "test.h"

#define REGION 100000u /* blocks */
#define LARGEST 96u
#define BUFFER 0x20000u /* from one slot's buffer to the next */
#define RANGE_BYTES 16u

static uint64_t percent = 100;

static uint64_t scaled(uint64_t count)
{
	return count * percent / 100 + 1;
}

/* --- a pair, its workload, and what the controller sees ----------------------------------- */

/* An I/O as the controller sees it; by its slot. */
struct followed {
	struct nvme_io io;
	uint32_t seen;	      /* blocks of the commands that came */
	uint32_t outstanding; /* commands without a completion */
	uint32_t is_open;
	uint32_t has_failed;
};

struct job {
	struct pair pair;
	struct nvme_generator *generator;
	struct nvme_bench *bench;
	struct nvme_bench_split split;
	struct nvme_generator *again; /* makes the same I/Os, for the test */
	struct followed *followed;
	uint8_t *ranges;
	uint32_t coming; /* the slot whose commands come now */
	uint32_t open;	 /* I/Os */
	uint64_t ios[4], blocks[4], failed[4], begun[4];
};

struct shape {
	uint32_t depth;	 /* of the queue */
	uint32_t spare;	 /* entries of the completion queue */
	uint32_t ios;	 /* outstanding */
	uint32_t blocks; /* of a command */
	uint32_t direction;
	uint32_t mixed;
	uint32_t trimwrite;
	uint32_t in_order;
	uint32_t list_entries;
};

static void job_init(struct job *job, struct shape shape, uint64_t ios)
{
	struct nvme_bench *bench = allocate(1, sizeof(*bench));
	struct nvme_workload *workload;

	*job = (struct job){ .bench = bench };
	pair_init(&job->pair, shape.depth, shape.spare, shape.list_entries, 0);
	job->generator = allocate(1, sizeof(*job->generator));
	job->again = allocate(1, sizeof(*job->again));
	job->followed = allocate(shape.ios, sizeof(*job->followed));
	job->ranges = allocate(shape.ios, RANGE_BYTES);
	workload = &job->generator->workload;
	*workload = (struct nvme_workload){
		.region = REGION,
		.blocks = UINT64_MAX >> 2,
		.ios = ios,
		.seed = ios,
		.order = NVME_ORDER_UNIFORM,
		.direction = shape.direction,
		.mixed = shape.mixed,
		.trimwrite = shape.trimwrite,
		.rwmixread = 50,
	};
	for (uint32_t direction = 0; direction < 3; direction++)
		workload->sizes[direction] = (struct nvme_io_sizes){
			.low = 1, .high = LARGEST, .align = 1, .percentage_random = 100
		};
	job->again->workload = *workload;
	nvme_generator_init(job->generator);
	nvme_generator_init(job->again);
	bench->generator = job->generator;
	bench->slots = allocate(shape.ios, sizeof(*bench->slots));
	bench->results = allocate(4, sizeof(*bench->results));
	bench->depth = shape.ios;
	bench->block_shift = 9;
	bench->block_bytes = 512;
	bench->writes_left = UINT64_MAX;
	for (uint32_t direction = 0; direction < 4; direction++) {
		bench->commands[direction] = (struct nvme_sqe){ .nsid = 1, .cdw13 = direction };
		nvme_bench_result_clear(&bench->results[direction]);
	}
	for (uint32_t index = 0; index < shape.ios; index++) {
		bench->slots[index].iova = (uint64_t)index * BUFFER + 512;
		bench->slots[index].data = job->ranges + (size_t)index * RANGE_BYTES;
	}
	job->split = (struct nvme_bench_split){
		.bench = bench,
		.ios = allocate(shape.ios, sizeof(*job->split.ios)),
		.count = shape.ios,
		.command_blocks = shape.blocks,
		.in_order = shape.in_order,
	};
	nvme_bench_split_init(&job->split);
}

static void job_free(struct job *job)
{
	pair_free(&job->pair);
	free(job->generator);
	free(job->again);
	free(job->followed);
	free(job->ranges);
	free(job->bench->slots);
	free(job->bench->results);
	free(job->bench);
	free(job->split.ios);
}

/* A command is the next piece of the I/O that comes, or the first of the next one. */
static void follow(struct job *job, const struct nvme_sqe *sqe)
{
	uint32_t direction = sqe->cdw13;
	uint32_t slot = (uint32_t)(sqe->prp1 / BUFFER);
	uint32_t blocks = (sqe->cdw12 & 0xffff) + 1;
	struct followed *one = &job->followed[job->coming];

	if (!one->is_open || one->seen == one->io.blocks) {
		one = &job->followed[slot];
		job->coming = slot;
		CHECK(slot < job->split.count && !one->is_open);
		*one = (struct followed){ .is_open = 1 };
		CHECK(nvme_generator_next(job->again, &one->io));
		job->begun[one->io.direction]++;
		job->open++;
	}
	CHECK(job->coming == slot && direction == one->io.direction);
	one->outstanding++;
	if (direction == NVME_DIRECTION_TRIM) {
		uint64_t lba;

		memcpy(&lba, job->ranges + (size_t)slot * RANGE_BYTES + 8, sizeof(lba));
		CHECK(lba == one->io.lba && one->outstanding == 1);
		one->seen = one->io.blocks;
		return;
	}
	CHECK(sqe->cdw10 == one->io.lba + one->seen);
	pair_check_data(&job->pair, sqe, (uint64_t)slot * BUFFER + 512 + (one->seen << 9), blocks << 9);
	one->seen += blocks;
	CHECK(one->seen == one->io.blocks ||
	      (one->seen < one->io.blocks && blocks == job->split.command_blocks));
	CHECK(blocks <= job->split.command_blocks);
	CHECK(!job->split.in_order || direction != NVME_DIRECTION_WRITE || one->outstanding == 1);
}

static void fetch(struct job *job)
{
	uint32_t before = job->pair.controller.count;

	null_controller_fetch(&job->pair.controller);
	for (; before < job->pair.controller.count; before++)
		follow(job, &job->pair.controller.fetched[before]);
	CHECK(job->open <= job->bench->depth);
}

/* Complete one of the fetched commands, and return its CID; where it was an I/O's last, that ends. */
static uint16_t complete_one(struct job *job)
{
	struct null_controller *controller = &job->pair.controller;
	uint32_t index = random_below(controller->count);
	uint16_t status = random_below(8) ? 0 : (uint16_t)random_below(0x8000);
	struct followed *one = &job->followed[controller->fetched[index].prp1 / BUFFER];
	uint32_t direction = one->io.direction;
	uint16_t cid = controller->fetched[index].cid;

	one->has_failed |= (status & 0x7ff) != 0;
	null_controller_complete(controller, index, status);
	if (--one->outstanding || one->seen < one->io.blocks)
		return cid;
	one->is_open = 0;
	job->open--;
	if (one->has_failed) {
		job->failed[direction]++;
	} else {
		job->ios[direction]++;
		job->blocks[direction] += one->io.blocks;
	}
	return cid;
}

/* What is counted is what the controller saw; `lost` have not ended. */
static void check_counts(const struct job *job, uint64_t lost)
{
	uint64_t missing = 0;

	for (uint32_t direction = 0; direction < 4; direction++) {
		const struct nvme_bench_result *result = &job->bench->results[direction];

		CHECK(result->ios == job->ios[direction]);
		CHECK(result->blocks == job->blocks[direction]);
		CHECK(result->failed == job->failed[direction]);
		CHECK(job->bench->submitted[direction] == job->begun[direction]);
		CHECK(result->slat.count == result->ios);
		CHECK(result->clat.count == result->ios && result->lat.count == result->ios);
		CHECK(result->lat.sum >= result->clat.sum);
		missing += job->bench->submitted[direction] - job->bench->ended[direction];
	}
	CHECK(missing == lost);
}

static int run(struct job *job, uint64_t timeout_ns)
{
	return nvme_bench_split_run(&job->pair.qp, &job->split, timeout_ns);
}

/* --- to the end -------------------------------------------------------------------------- */

static void test_counts(struct shape shape, uint64_t ios)
{
	struct job job;
	uint64_t all = 0;
	int done;

	job_init(&job, shape, ios);
	while (!(done = run(&job, 2000))) {
		fetch(&job);
		for (uint32_t n = random_below(shape.depth + 1); n && job.pair.controller.count; n--)
			complete_one(&job);
	}
	CHECK(done == 1 && !job.pair.qp.outstanding && !job.open && job.bench->exhausted);
	for (uint32_t direction = 0; direction < 4; direction++)
		all += job.begun[direction];
	CHECK(all == ios << shape.trimwrite);
	check_counts(&job, 0);
	CHECK(!nvme_qpair_check(&job.pair.qp));
	job_free(&job);
}

/* Once it is to stop, no I/O begins, and those that have begun get all of their commands. */
static void test_stop(struct shape shape)
{
	struct job job;
	uint64_t begun;

	job_init(&job, shape, UINT64_C(1) << 40);
	for (uint32_t round = 0; round < 20; round++) {
		CHECK(!run(&job, 0));
		fetch(&job);
		if (job.pair.controller.count)
			complete_one(&job);
	}
	begun = job.begun[0] + job.begun[1] + job.begun[2];
	job.bench->stop = 1;
	while (!run(&job, 0)) {
		fetch(&job);
		if (job.pair.controller.count)
			complete_one(&job);
	}
	CHECK(!job.open && begun == job.begun[0] + job.begun[1] + job.begun[2]);
	check_counts(&job, 0);
	job_free(&job);
}

/* --- what goes wrong --------------------------------------------------------------------- */

/* All that is outstanding is given up, as a reset does, again and again: there is room for more. */
static void test_abandoned(struct shape shape)
{
	struct nvme_completion *out = allocate(shape.depth, sizeof(*out));
	struct job job;

	job_init(&job, shape, UINT64_C(1) << 40);
	for (uint32_t round = 0; round < 50; round++) {
		for (uint32_t n = random_below(2 * shape.depth); n--;) {
			CHECK(!run(&job, 0));
			fetch(&job);
			if (job.pair.controller.count)
				complete_one(&job);
		}
		while (job.pair.qp.outstanding > job.pair.controller.count) {
			CHECK(!run(&job, 0));
			fetch(&job);
		}
		job.pair.controller.count = 0;
		nvme_qpair_abort_all(&job.pair.qp, out, 7);
		nvme_qpair_release(&job.pair.qp);
		nvme_bench_split_fail_rest(&job.split);
		CHECK(run(&job, 0) == 1);
		job.bench->stop = 0;
		for (uint32_t i = 0; i < shape.ios; i++)
			if (job.followed[i].is_open)
				job.failed[job.followed[i].io.direction]++;
		job.open = 0;
		memset(job.followed, 0, shape.ios * sizeof(*job.followed));
		check_counts(&job, 0);
	}
	job_free(&job);
	free(out);
}

/*
 * A completion that names no command that is outstanding, after some that are right: of another queue,
 * of no command's index, twice, of an earlier generation, or of the command that follows, where that is
 * not announced. What was counted before it stays, and no I/O ends by it.
 */
static void test_garbage(struct shape shape, uint64_t rounds)
{
	while (rounds--) {
		struct nvme_cqe cqe = { .sqid = 1 };
		uint32_t right, left;
		struct job job;
		int err = 0;

		shape.spare = 1 + random_below(4);
		job_init(&job, shape, UINT64_C(1) << 40);
		CHECK(!run(&job, 0));
		fetch(&job);
		right = 1 + random_below(job.pair.controller.count);
		for (uint32_t n = right; n; n--)
			cqe.cid = complete_one(&job);
		left = job.pair.controller.count;
		switch (random_below(right < 64 ? 5 : 4)) {
		case 0:
			cqe.sqid = (uint16_t)(2 + random_below(65534));
			break;
		case 1:
			cqe.cid = (uint16_t)(random_below(65536) | job.pair.qp.index_mask);
			break;
		case 2:
			break;
		case 3:
			cqe.cid = (uint16_t)(cqe.cid - job.pair.qp.generation * (1 + random_below(14)));
			break;
		default:
			cqe.cid = (uint16_t)(cqe.cid + job.pair.qp.generation);
		}
		null_controller_post(&job.pair.controller, cqe);
		/* A turn has 64 commands at most, so it may take two to come to it. */
		for (uint32_t n = 0; n < 9 && !err; n++)
			err = run(&job, 0);
		CHECK(err == -EPROTO);
		CHECK(job.pair.qp.outstanding >= left);
		for (uint32_t direction = 0; direction < 3; direction++)
			CHECK(job.bench->results[direction].ios == job.ios[direction] &&
			      job.bench->results[direction].failed == job.failed[direction]);
		job_free(&job);
	}
}

/* One that is there before anything is outstanding: nothing is submitted on top of it. */
static void test_stray(struct shape shape)
{
	struct job job;

	job_init(&job, shape, UINT64_C(1) << 40);
	null_controller_post(&job.pair.controller, (struct nvme_cqe){ .sqid = 1 });
	CHECK(run(&job, 0) == -EPROTO && run(&job, 0) == -EPROTO);
	CHECK(!job.pair.qp.outstanding && !null_controller_fetch(&job.pair.controller));
	job_free(&job);
}

/*
 * Commands of 20 blocks at 512 bytes behind a page's beginning: two PRP list entries hold the first of
 * an I/O and not the second, which begins 2,560 bytes behind one. What was submitted ends as failed.
 */
static void test_not_written(uint32_t list_entries, uint64_t failed)
{
	struct shape shape = { .depth = 8, .ios = 2, .blocks = 20, .list_entries = list_entries };
	struct job job;

	job_init(&job, shape, 1);
	for (uint32_t way = 0; way < 2; way++) {
		struct nvme_generator *generator = way ? job.again : job.generator;

		generator->workload.sizes[0] = (struct nvme_io_sizes){
			.low = 60, .high = 60, .align = 1, .percentage_random = 100
		};
		nvme_generator_init(generator);
	}
	CHECK(run(&job, 0) == -EMSGSIZE);
	null_controller_fetch(&job.pair.controller);
	CHECK(job.pair.qp.outstanding == failed && job.pair.controller.count == failed);
	while (job.pair.controller.count)
		null_controller_complete(&job.pair.controller, 0, 0);
	CHECK(run(&job, 0) == !failed);
	CHECK(run(&job, 0) == 1);
	CHECK(job.bench->submitted[0] == failed && job.bench->ended[0] == failed);
	CHECK(job.bench->results[0].failed == failed && !job.bench->results[0].ios);
	CHECK(!failed || job.bench->errors[0].status == 0x371);
	job_free(&job);
}

int main(int argc, char **argv)
{
	static const struct shape shapes[] = {
		{ .depth = 1, .ios = 1, .blocks = 1, .mixed = 1 },
		{ .depth = 1, .ios = 9, .blocks = 7, .mixed = 1 },
		{ .depth = 3, .ios = 2, .blocks = 95, .mixed = 1 },
		{ .depth = 7, .ios = 7, .blocks = 16, .mixed = 1 },
		{ .depth = 64, .ios = 8, .blocks = 16, .mixed = 1, .in_order = 1 },
		{ .depth = 96, .ios = 1, .blocks = 1, .direction = NVME_DIRECTION_WRITE },
		{ .depth = 256, .ios = 100, .blocks = 8, .mixed = 1 },
		{ .depth = 20, .ios = 5, .blocks = 10, .direction = NVME_DIRECTION_TRIM,
		  .trimwrite = 1 },
	};

	if (argc > 1)
		percent = strtoull(argv[1], NULL, 10);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct shape shape = shapes[i];

		shape.list_entries = 16;
		test_counts(shape, scaled(5000));
		test_stop(shape);
		test_abandoned(shape);
		test_garbage(shape, scaled(300));
		test_stray(shape);
	}
	test_not_written(1, 0);
	test_not_written(2, 1);
	puts("split_test: ok");
	return 0;
}
