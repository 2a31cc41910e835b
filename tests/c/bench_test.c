/*
 * The benchmark's loop for the sanitizers and valgrind: generated I/Os of random sizes, completed
 * in random batches with random statuses, and every count compared with what the controller saw.
 *
 * Usage: bench_test [PERCENT], how much of the work to do.
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "_overhead.h"
#include "null_controller.h"
#include "test.h"

#define REGION 100000u /* blocks */
#define LARGEST 96u
#define LIST_ENTRIES 16u
#define BUFFER 0x20000u /* from one slot's buffer to the next */

static uint64_t percent = 100;

static uint64_t scaled(uint64_t count)
{
	return count * percent / 100 + 1;
}

/* --- a pair and its workload ------------------------------------------------------------- */

struct job {
	struct pair pair;
	struct nvme_generator *generator;
	struct nvme_bench *bench;
};

/* `ios` random reads and writes of 1 to LARGEST blocks. Each piece is an allocation of its own. */
static void job_init(struct job *job, uint32_t depth, uint32_t spare, uint64_t ios)
{
	struct nvme_bench *bench = allocate(1, sizeof(*bench));
	struct nvme_workload *workload;

	pair_init(&job->pair, depth, spare, LIST_ENTRIES, 0);
	job->generator = allocate(1, sizeof(*job->generator));
	workload = &job->generator->workload;
	*workload = (struct nvme_workload){
		.region = REGION,
		.blocks = UINT64_MAX >> 2,
		.ios = ios,
		.seed = ios,
		.order = NVME_ORDER_UNIFORM,
		.mixed = 1,
		.rwmixread = 70,
	};
	for (uint32_t direction = 0; direction < 3; direction++)
		workload->sizes[direction] = (struct nvme_io_sizes){
			.low = 1, .high = LARGEST, .align = 1, .percentage_random = 100
		};
	nvme_generator_init(job->generator);
	bench->generator = job->generator;
	bench->slots = allocate(depth, sizeof(*bench->slots));
	bench->batches = allocate(depth + 1, sizeof(*bench->batches));
	bench->results = allocate(4, sizeof(*bench->results));
	bench->depth = depth;
	bench->block_shift = 9;
	bench->block_bytes = 512;
	bench->fast_directions = 2;
	for (uint32_t direction = 0; direction < 4; direction++) {
		bench->commands[direction] = (struct nvme_sqe){ .nsid = 1, .cdw13 = direction };
		nvme_bench_result_clear(&bench->results[direction]);
	}
	for (uint32_t index = 0; index < depth; index++)
		bench->slots[index].iova = (uint64_t)index * BUFFER + 512;
	job->bench = bench;
}

static void job_free(struct job *job)
{
	pair_free(&job->pair);
	free(job->generator);
	free(job->bench->slots);
	free(job->bench->batches);
	free(job->bench->results);
	free(job->bench);
}

/* --- counts ------------------------------------------------------------------------------ */

struct seen {
	uint64_t ios[4], blocks[4], failed[4];
};

/* Complete one of the fetched commands; returns its CID. */
static uint16_t complete_one(struct job *job, struct seen *seen)
{
	struct null_controller *controller = &job->pair.controller;
	uint32_t index = random_below(controller->count);
	const struct nvme_sqe *sqe = &controller->fetched[index];
	uint32_t blocks = (sqe->cdw12 & 0xffff) + 1;
	uint32_t direction = sqe->cdw13;
	uint16_t status = random_below(4) ? 0 : (uint16_t)random_below(0x8000);
	uint16_t cid = sqe->cid;

	CHECK(direction < 2 && blocks <= LARGEST && sqe->cdw10 + blocks <= REGION);
	pair_check_data(&job->pair, sqe, (uint64_t)pair_index(&job->pair, sqe->cid) * BUFFER + 512, blocks << 9);
	if (status & 0x7ff) {
		seen->failed[direction]++;
	} else {
		seen->ios[direction]++;
		seen->blocks[direction] += blocks;
	}
	null_controller_complete(controller, index, status);
	return cid;
}

static void check_histogram(const struct nvme_histogram *histogram, uint64_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < NVME_BUCKETS; i++)
		sum += histogram->counts[i];
	CHECK(sum == count && histogram->count == count);
	CHECK(!count || (histogram->min <= histogram->sum / count &&
			 histogram->max >= histogram->sum / count));
}

static void check_counts(const struct nvme_bench *bench, const struct seen *seen)
{
	for (uint32_t direction = 0; direction < 4; direction++) {
		const struct nvme_bench_result *result = &bench->results[direction];
		uint64_t all = seen->ios[direction] + seen->failed[direction];

		CHECK(result->ios == seen->ios[direction]);
		CHECK(result->blocks == seen->blocks[direction]);
		CHECK(result->failed == seen->failed[direction]);
		CHECK(bench->submitted[direction] == all && bench->ended[direction] == all);
		check_histogram(&result->slat, result->ios);
		check_histogram(&result->clat, result->ios);
		check_histogram(&result->lat, result->ios);
		CHECK(result->lat.sum >= result->clat.sum);
	}
}

static void test_counts(uint32_t depth, uint32_t spare, uint64_t ios)
{
	struct seen seen = { 0 };
	struct job job;
	int done;

	job_init(&job, depth, spare, ios);
	while (!(done = nvme_bench_run(&job.pair.qp, job.bench, 2000))) {
		CHECK(job.pair.qp.outstanding <= job.bench->depth);
		null_controller_fetch(&job.pair.controller);
		for (uint32_t n = random_below(depth + 1); n && job.pair.controller.count; n--)
			complete_one(&job, &seen);
	}
	CHECK(done == 1 && !job.pair.qp.outstanding && job.bench->exhausted);
	CHECK(job.pair.qp.completed == ios);
	check_counts(job.bench, &seen);
	job_free(&job);
}

/*
 * Reads and writes that arrive independently, at rates or one of them without, above what the
 * controller does: all are made, and the note of their directions is of what was submitted.
 */
static void test_arrivals(uint32_t depth, uint64_t ios)
{
	uint8_t *drawn = allocate(64, 1);
	uint64_t noted[2] = { 0 };
	struct seen seen = { 0 };
	struct job job;
	int done;

	job_init(&job, depth, 0, ios);
	job.bench->throttled = job.bench->independent = 1;
	job.bench->writes_left = UINT64_MAX;
	job.bench->drawn = drawn;
	job.bench->drawn_limit = 64;
	for (uint32_t direction = random_below(2); direction < 2; direction++)
		job.bench->rates[direction].ticks_per_io = (UINT64_C(1) << 32) + random_below(1000000);
	do {
		done = nvme_bench_run(&job.pair.qp, job.bench, 2000);
		while (job.bench->drawn_count)
			noted[drawn[--job.bench->drawn_count]]++;
		null_controller_fetch(&job.pair.controller);
		for (uint32_t n = random_below(depth + 1); n && job.pair.controller.count; n--)
			complete_one(&job, &seen);
	} while (!done);
	CHECK(done == 1 && job.bench->exhausted && job.pair.qp.completed == ios);
	CHECK(noted[0] == job.bench->submitted[0] && noted[1] == job.bench->submitted[1]);
	CHECK(ios < 100 || (noted[0] && noted[1]));
	check_counts(job.bench, &seen);
	job_free(&job);
	free(drawn);
}

/*
 * A completion that names nothing that is outstanding and announced: of another queue, of no command's
 * index, twice, of an earlier generation, or of the command that follows, where that is `in_turn`.
 */
static struct nvme_cqe foreign_completion(const struct job *job, uint16_t completed, int in_turn)
{
	const struct nvme_qpair *qp = &job->pair.qp;
	struct nvme_cqe cqe = { .sqid = 1, .cid = completed };

	switch (random_below(in_turn ? 5 : 4)) {
	case 0:
		cqe.sqid = (uint16_t)(2 + random_below(65534));
		break;
	case 1:
		cqe.cid = (uint16_t)(random_below(65536) | qp->index_mask);
		break;
	case 2:
		break;
	case 3:
		cqe.cid = (uint16_t)(completed - qp->generation * (1 + random_below(14)));
		break;
	default:
		cqe.cid = (uint16_t)(completed + qp->generation);
	}
	return cqe;
}

/* Such a completion in the middle: what was counted before it stays, and it is not believed. */
static void test_garbage(uint64_t rounds)
{
	while (rounds--) {
		uint32_t depth = 1 + random_below(70);
		uint64_t running = 0;
		uint32_t right;
		uint16_t completed = 0;
		int err = 0;
		struct seen seen = { 0 };
		struct job job;

		job_init(&job, depth, 1 + random_below(4), 10000);
		CHECK(!nvme_bench_run(&job.pair.qp, job.bench, 0));
		null_controller_fetch(&job.pair.controller);
		right = 1 + random_below(depth);
		for (uint32_t n = right; n; n--)
			completed = complete_one(&job, &seen);
		running = job.pair.controller.count;
		null_controller_post(&job.pair.controller, foreign_completion(&job, completed, right < job.pair.qp.burst));
		job.bench->bursts = random_below(2); /* the first reaps and submits apart, others in one */
		/* A turn has 64 I/Os at most, so it may take two to come to it. */
		for (int n = 0; n < 9 && !err; n++)
			err = nvme_bench_run(&job.pair.qp, job.bench, 0);
		CHECK(err == -EPROTO);
		CHECK(job.pair.qp.outstanding >= running);
		for (uint32_t direction = 0; direction < 2; direction++)
			CHECK(job.bench->results[direction].ios == seen.ios[direction] &&
			      job.bench->results[direction].failed == seen.failed[direction]);
		job_free(&job);
	}
}

/* All that is outstanding is given up, as a reset does, again and again: there is room for more. */
static void test_abandoned(uint32_t depth)
{
	struct nvme_completion *out = allocate(depth, sizeof(*out));
	struct seen seen = { 0 };
	uint64_t posted = 0, lost = 0;
	struct job job;

	job_init(&job, depth, 0, UINT64_C(1) << 40);
	for (uint32_t round = 0; round < 2 * depth + 4; round++) {
		CHECK(!nvme_bench_run(&job.pair.qp, job.bench, 0));
		null_controller_fetch(&job.pair.controller);
		for (uint32_t n = random_below(depth); n && job.pair.controller.count; n--, posted++)
			complete_one(&job, &seen);
		while (job.pair.qp.completed < posted)
			CHECK(!nvme_bench_run(&job.pair.qp, job.bench, 0));
		null_controller_fetch(&job.pair.controller);
		job.pair.controller.count = 0;
		lost += (uint64_t)nvme_qpair_abort_all(&job.pair.qp, out, 7);
		CHECK(!job.pair.qp.outstanding);
		nvme_qpair_release(&job.pair.qp);
		CHECK(!nvme_qpair_check(&job.pair.qp));
	}
	for (uint32_t direction = 0; direction < 2; direction++) {
		CHECK(job.bench->results[direction].ios == seen.ios[direction]);
		CHECK(job.bench->results[direction].failed == seen.failed[direction]);
		lost -= job.bench->submitted[direction] - job.bench->ended[direction];
	}
	CHECK(!lost);
	job_free(&job);
	free(out);
}

/* --- the log ----------------------------------------------------------------------------- */

static void *guarded;
static size_t guarded_bytes;

/* The data of a write is touched: let more pass than 32 bits of ticks, and go on. */
static void stall(int signal)
{
	uint64_t begun = nvme_ticks();

	(void)signal;
	while (nvme_ticks() - begun <= UINT64_C(0x110000000))
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	if (mprotect(guarded, guarded_bytes, PROT_READ | PROT_WRITE))
		abort();
}

/* A turn that takes seconds, since the making of its data does, is logged as long as it was. */
static void test_long_submission(void)
{
	struct nvme_bench_record records[4] = { 0 };
	struct nvme_buffers buffers = { .unit = 512, .chunk = 512 };
	struct sigaction action = { .sa_handler = stall }, before;
	struct job job;

	guarded_bytes = BUFFER;
	guarded = mmap(NULL, guarded_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(guarded != MAP_FAILED && !sigaction(SIGSEGV, &action, &before));
	job_init(&job, 2, 0, 2);
	job.generator->workload.rwmixread = 0;
	nvme_generator_init(job.generator);
	nvme_buffers_init(&buffers, 1);
	job.bench->buffers = &buffers;
	job.bench->fast_directions = 1;
	job.bench->throttled = 1;
	job.bench->writes_left = UINT64_MAX;
	job.bench->records = records;
	job.bench->record_limit = 4;
	job.bench->epoch = nvme_ticks();
	for (uint32_t cid = 0; cid < 2; cid++)
		job.bench->slots[cid].data = guarded;
	while (!nvme_bench_run(&job.pair.qp, job.bench, 0)) {
		null_controller_fetch(&job.pair.controller);
		while (job.pair.controller.count)
			null_controller_complete(&job.pair.controller, 0, 0);
	}
	CHECK(!sigaction(SIGSEGV, &before, NULL) && !munmap(guarded, guarded_bytes));
	CHECK(job.bench->record_count == 2);
	for (uint32_t i = 0; i < 2; i++) {
		const struct nvme_bench_record *record = &records[i];

		CHECK(record->slat > record->clat && record->slat >= job.bench->results[1].slat.min);
		CHECK(record->lat - record->slat - record->clat <= 1); /* each is rounded down */
	}
	job_free(&job);
}

/* --- a controller beside it -------------------------------------------------------------- */

static void test_two_threads(uint32_t depth, uint32_t spare, uint64_t ios)
{
	struct nvme_overhead *overhead = allocate(1, sizeof(*overhead));
	struct job job;
	pthread_t thread;

	job_init(&job, depth, spare, ios);
	CHECK(!pthread_create(&thread, NULL, null_controller_serve, &job.pair.controller));
	CHECK(nvme_bench_overhead(&job.pair.qp, job.bench, ios / 4, UINT64_C(60000000000),
				  overhead) == 1);
	CHECK(nvme_bench_run(&job.pair.qp, job.bench, UINT64_C(60000000000)) == 1);
	__atomic_store_n(&job.pair.controller.stop, 1, __ATOMIC_RELEASE);
	CHECK(!pthread_join(thread, NULL));
	CHECK(overhead->ios == ios / 4);
	check_histogram(&overhead->submit, ios / 4);
	check_histogram(&overhead->complete, ios / 4);
	CHECK(job.bench->results[0].ios + job.bench->results[1].ios == ios - ios / 4);
	CHECK(job.pair.qp.completed == ios);
	job_free(&job);
	free(overhead);
}

/* --- histograms -------------------------------------------------------------------------- */

/* The law by its definition: 64 buckets for each power of two, from 64 on. */
static uint32_t bucket_by_definition(uint64_t ns)
{
	uint32_t group = 0;

	while (ns >= 128) {
		ns >>= 1;
		group++;
	}
	group = group * 64 + (uint32_t)ns;
	return group < NVME_BUCKETS ? group : NVME_BUCKETS - 1;
}

static void test_buckets(uint64_t count)
{
	struct nvme_histogram *histogram = allocate(1, sizeof(*histogram));

	for (uint64_t n = 0; n < count; n++) {
		uint64_t ns = ((uint64_t)random_below(UINT32_MAX) << 32 | random_below(UINT32_MAX)) >>
			      random_below(64);
		uint32_t bucket;
		uint64_t before;

		if (n < 192)
			ns = (UINT64_C(1) << n / 3) + n % 3 - 1;
		bucket = bucket_by_definition(ns);
		before = histogram->counts[bucket];
		nvme_histogram_add(histogram, ns);
		CHECK(histogram->counts[bucket] == before + 1);
	}
	CHECK(histogram->count == count);
	nvme_histogram_clear(histogram);
	CHECK(!histogram->count && histogram->min == UINT64_MAX && !histogram->max);
	free(histogram);
}

int main(int argc, char **argv)
{
	static const uint32_t depths[] = { 1, 2, 7, 63, 64, 65, 256 };
	static const uint32_t spares[] = { 0, 300 };

	if (argc > 1)
		percent = strtoull(argv[1], NULL, 10);
	test_buckets(scaled(1000000));
	for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++)
		for (size_t s = 0; s < sizeof(spares) / sizeof(spares[0]); s++) {
			test_counts(depths[i], spares[s], scaled(20000));
			test_two_threads(depths[i], spares[s], scaled(4000));
			test_abandoned(depths[i]);
			test_arrivals(depths[i], scaled(4000));
		}
	test_garbage(scaled(2000));
	/* Not under valgrind, which takes the guarded memory for an error. */
	if (argc == 1)
		test_long_submission();
	puts("bench_test: ok");
	return 0;
}
