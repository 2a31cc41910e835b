/*
 * Vectors of blocks with metadata against the null controller: what each command says of its memory
 * and tags, in any order of completions, and how a vector ends; for the sanitizers and valgrind.
 *
 * Usage: metadata_vector_test [ROUNDS].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_metadata_vector.h"
#include "null_controller.h"
#include "test.h"

#define COUNT 40u
#define DEPTH 7u
#define BLOCKS 3u
#define LAST_BLOCKS 2u
#define STORAGE_TAG 0xab000000u
#define SHORT_NS 1000

/* Arrays of exact sizes, so that the sanitizer sees a step too far. */
struct work {
	struct nvme_metadata_vector vector;
	uint64_t *lbas, *iovas, *metadata, *latency_ns;
	uint16_t *status;
	uint16_t wanted[COUNT];
};

static void work_init(struct work *work, uint32_t slots, uint32_t ref_tag_bits)
{
	uint32_t places = slots ? DEPTH : COUNT;

	memset(work, 0, sizeof(*work));
	work->lbas = allocate(COUNT, sizeof(uint64_t));
	work->iovas = allocate(places, sizeof(uint64_t));
	work->metadata = allocate(places, sizeof(uint64_t));
	work->latency_ns = allocate(COUNT, sizeof(uint64_t));
	work->status = allocate(COUNT, sizeof(uint16_t));
	for (uint32_t i = 0; i < COUNT; i++)
		work->lbas[i] = ((uint64_t)random_below(1 << 20) << 20) + i;
	for (uint32_t i = 0; i < places; i++) {
		work->iovas[i] = UINT64_C(0x100000000) + i * 0x10000;
		work->metadata[i] = UINT64_C(0x900000000) + i * 0x100;
	}
	work->vector = (struct nvme_metadata_vector){
		.vector = {
			.command = { .opc = 2, .nsid = 5, .cdw2 = 9, .cdw12 = 7u << 26,
				     .cdw14 = ref_tag_bits == 24 ? STORAGE_TAG : 0, .cdw15 = 3 },
			.lbas = work->lbas,
			.iovas = work->iovas,
			.status = work->status,
			.latency_ns = work->latency_ns,
			.count = COUNT,
			.blocks = BLOCKS,
			.last_blocks = LAST_BLOCKS,
			.block_shift = 9,
			.slots = slots,
		},
		.metadata = work->metadata,
		.ref_tag_offset = UINT64_MAX - 4, /* 5 below the LBA */
		.ref_tag_bits = ref_tag_bits,
		.block_bytes = 520,
	};
}

static void work_free(struct work *work)
{
	free(work->lbas);
	free(work->iovas);
	free(work->metadata);
	free(work->latency_ns);
	free(work->status);
}

/* Which I/O a command is of: LBAs tell. */
static uint32_t io_of(const struct work *work, const struct nvme_sqe *sqe)
{
	uint64_t lba = (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;

	for (uint32_t i = 0; i < COUNT; i++)
		if (work->lbas[i] == lba)
			return i;
	CHECK(!"an LBA of none");
	return 0;
}

static void check_command(const struct pair *pair, const struct work *work,
			  const struct nvme_sqe *sqe)
{
	const struct nvme_metadata_vector *v = &work->vector;
	uint32_t i = io_of(work, sqe);
	uint32_t at = v->vector.slots ? pair_index(pair, sqe->cid) : i;
	uint32_t blocks = i == COUNT - 1 ? LAST_BLOCKS : BLOCKS;
	uint64_t tag = work->lbas[i] - 5;

	if (v->ref_tag_bits < 64)
		tag &= (UINT64_C(1) << v->ref_tag_bits) - 1;
	CHECK(sqe->cdw12 == (7u << 26 | (blocks - 1)));
	CHECK(sqe->mptr == (v->metadata ? work->metadata[at] : 0));
	CHECK(sqe->cdw2 == 9 && sqe->cdw15 == 3 && sqe->nsid == 5 && sqe->opc == 2);
	CHECK(sqe->cdw3 == (uint32_t)(tag >> 32));
	CHECK(sqe->cdw14 == (v->vector.command.cdw14 | (uint32_t)tag));
	pair_check_data(pair, sqe, work->iovas[at], blocks * v->block_bytes);
}

static void test_vector(uint32_t slots, uint32_t ref_tag_bits, int apart)
{
	struct pair pair;
	struct work work;
	uint32_t failed = 0;
	int ended;

	pair_init(&pair, DEPTH, 2, 8, 0);
	work_init(&work, slots, ref_tag_bits);
	if (!apart)
		work.vector.metadata = NULL;
	while (!(ended = nvme_metadata_vector_run(&pair.qp, &work.vector, SHORT_NS))) {
		struct null_controller *controller = &pair.controller;
		uint32_t before = controller->count;

		null_controller_fetch(controller);
		for (uint32_t n = before; n < controller->count; n++)
			check_command(&pair, &work, &controller->fetched[n]);
		for (uint32_t n = 1 + random_below(DEPTH); n && controller->count; n--) {
			uint32_t index = random_below(controller->count);
			uint32_t i = io_of(&work, &controller->fetched[index]);

			work.wanted[i] = random_below(3) ? 0 : 0x282;
			failed += work.wanted[i] != 0;
			null_controller_complete(controller, index, work.wanted[i]);
		}
	}
	CHECK(ended == 1);
	CHECK(work.vector.vector.completed == COUNT && work.vector.vector.failed == failed);
	CHECK(!memcmp(work.status, work.wanted, sizeof(work.wanted)));
	CHECK(!pair.qp.outstanding && !nvme_qpair_check(&pair.qp));
	work_free(&work);
	pair_free(&pair);
}

/* What cannot be described ends it with an error; what was before it is drained. */
static void test_refused(void)
{
	struct pair pair;
	struct work work;

	pair_init(&pair, DEPTH, 2, 8, 0);
	work_init(&work, 0, 32);
	work.iovas[3] += 2;
	CHECK(nvme_metadata_vector_run(&pair.qp, &work.vector, SHORT_NS) == -EINVAL);
	CHECK(pair.qp.outstanding == 3 && work.vector.vector.submitted == 3);
	work.vector.vector.count = work.vector.vector.submitted;
	CHECK(!nvme_metadata_vector_run(&pair.qp, &work.vector, SHORT_NS));
	CHECK(null_controller_fetch(&pair.controller) == 3);
	while (pair.controller.count)
		null_controller_complete(&pair.controller, 0, 0);
	CHECK(nvme_metadata_vector_run(&pair.qp, &work.vector, 1000000000) == 1);
	CHECK(!pair.qp.outstanding);
	/* A completion although nothing is outstanding. */
	work.vector.vector.count = COUNT;
	null_controller_post(&pair.controller, (struct nvme_cqe){ .cid = 1, .sqid = 1 });
	CHECK(nvme_metadata_vector_run(&pair.qp, &work.vector, SHORT_NS) == -EPROTO);
	work_free(&work);
	pair_free(&pair);
}

int main(int argc, char **argv)
{
	static const uint32_t bits[] = { 0, 24, 32, 48, 64 };
	long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 100;

	for (long round = 0; round < rounds; round++)
		for (uint32_t slots = 0; slots < 2; slots++)
			for (int apart = 0; apart < 2; apart++)
				for (uint32_t n = 1; n < 5; n++)
					test_vector(slots, bits[n], apart);
	test_refused();
	puts("metadata vectors: ok");
	return 0;
}
