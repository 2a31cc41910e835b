/*
 * What comes next of a list of I/Os, and what is noted of it, for the sanitizers and valgrind: at times
 * of the test's own, against what the list says.
 *
 * Usage: due_test [PERCENT], how much of the work to do.
 */
#include <string.h>

#include "_bench.h"
#include "null_controller.h"
#include "test.h"

#define MOST 100u
#define NOTES 4u

static uint64_t percent = 100;

struct job {
	struct nvme_bench *bench;
	struct nvme_io *ios;
	uint64_t *due; /* ascending, from 0 on; equal ones among them */
	uint32_t count;
};

static void job_init(struct job *job)
{
	uint64_t at = 0;

	job->count = 1 + random_below(MOST);
	job->ios = allocate(job->count, sizeof(*job->ios));
	job->due = allocate(job->count, sizeof(*job->due));
	for (uint32_t i = 0; i < job->count; i++) {
		job->ios[i] = (struct nvme_io){
			.lba = i, .blocks = 1 + random_below(9), .direction = random_below(3)
		};
		at += random_below(50);
		job->due[i] = at;
	}
	job->bench = allocate(1, sizeof(*job->bench));
	job->bench->writes_left = UINT64_MAX;
	job->bench->list = job->ios;
	job->bench->list_count = job->count;
}

static void job_free(struct job *job)
{
	free(job->bench);
	free(job->ios);
	free(job->due);
}

static int is_same(struct nvme_io a, struct nvme_io b)
{
	return a.lba == b.lba && a.blocks == b.blocks && a.direction == b.direction;
}

/* Each at its time, counted from the first look; late ones begin when they were due, or let to. */
static void test_times(void)
{
	uint64_t first = 1 + random_below(1000000);
	uint64_t now = first, held = random_below(2) ? first + random_below(200) : 0;
	struct job job;

	job_init(&job);
	job.bench->list_due = job.due;
	job.bench->held_until = held;
	for (uint32_t i = 0; i < job.count;) {
		struct nvme_bench_slot slot = { .start = now };
		uint64_t at = first + job.due[i];
		int found = nvme_bench_due(random_below(9), job.bench, now, &slot);

		if (at > now) {
			CHECK(!found && job.bench->wake == at && job.bench->list_next == i);
			now += random_below(3) ? at - now : 1 + random_below(120);
			continue;
		}
		if (at > held)
			held = at;
		CHECK(found == 1 && is_same(slot.io, job.ios[i]));
		CHECK(slot.start == held && job.bench->held_until == held);
		CHECK(job.bench->list_next == ++i && !job.bench->exhausted);
		now += random_below(20);
	}
	CHECK(!nvme_bench_due(0, job.bench, now, &(struct nvme_bench_slot){ 0 }));
	CHECK(job.bench->exhausted);
	job_free(&job);
}

/* Without times, as fast as it goes. */
static void test_order(void)
{
	struct job job;

	job_init(&job);
	for (uint32_t i = 0; i < job.count; i++) {
		struct nvme_bench_slot slot = { .start = 7 + i };

		CHECK(nvme_bench_due(i, job.bench, 7 + i, &slot) == 1);
		CHECK(is_same(slot.io, job.ios[i]) && slot.start == 7 + i && !job.bench->exhausted);
	}
	CHECK(!nvme_bench_due(0, job.bench, 9, &(struct nvme_bench_slot){ 0 }));
	CHECK(job.bench->exhausted);
	job_free(&job);
}

/* Only what is submitted is noted, with the time of that; and without room for it, nothing is. */
static void test_notes(void)
{
	struct nvme_bench_issued *issued = allocate(NOTES, sizeof(*issued));
	uint32_t noted = 0, done = 0;
	uint64_t now = 1000;
	struct job job;

	job_init(&job);
	job.bench->issued = issued;
	job.bench->issued_limit = NOTES;
	for (uint32_t direction = 0; direction < 3; direction++)
		job.bench->rates[direction].ticks_per_io = (UINT64_C(30) << 32) * (direction + 1);
	while (!job.bench->exhausted) {
		struct nvme_bench_slot slot = { .start = now };
		int found = nvme_bench_due(0, job.bench, now, &slot);

		CHECK(!found || noted < NOTES);
		if (noted == NOTES) {
			CHECK(job.bench->issued_count == NOTES && job.bench->wake > now + INT32_MAX);
			noted = job.bench->issued_count = 0;
			continue;
		}
		if (found) {
			CHECK(is_same(slot.io, job.ios[done++]));
			CHECK(issued[noted].at == now && is_same(issued[noted].io, slot.io));
			noted++;
		}
		CHECK(job.bench->issued_count == noted);
		now += 1 + random_below(20);
	}
	CHECK(done == job.count);
	job_free(&job);
	free(issued);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		percent = strtoull(argv[1], NULL, 10);
	for (uint64_t n = 0; n < 2000 * percent / 100 + 1; n++) {
		test_times();
		test_order();
		test_notes();
	}
	puts("due_test: ok");
	return 0;
}
