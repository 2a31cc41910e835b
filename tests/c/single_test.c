/*
 * Single commands against the null controller: from words, with data in parts, reaped into columns;
 * and vectors whose I/Os differ in length, or have no data. For the sanitizers and valgrind.
 *
 * Usage: single_test [ROUNDS].
 */
#include <stdlib.h>
#include <string.h>

#include "_single.h"
#include "_vector.h"
#include "null_controller.h"
#include "test.h"

#define DEPTH 7u
#define PAGE 4096u
#define ENTRIES 40u
#define MOST_PARTS 20u
#define COUNT 50u

/* --- one by one -------------------------------------------------------------------------- */

static void reaped_init(struct nvme_reaped *reaped, struct pair *pair)
{
	*reaped = (struct nvme_reaped){
		.cids = allocate(DEPTH, sizeof(uint64_t)),
		.latency_ns = allocate(DEPTH, sizeof(uint64_t)),
		.completions = pair->out,
		.qp = &pair->qp,
	};
}

static void reaped_free(struct nvme_reaped *reaped)
{
	free(reaped->cids);
	free(reaped->latency_ns);
}

/* Complete all, one of them not plain where `odd`; reap, and see that each comes once. */
static void complete_and_reap(struct pair *pair, struct nvme_reaped *reaped, uint32_t count, int odd)
{
	uint16_t cids[DEPTH];

	CHECK(!nvme_qpair_doorbell(&pair->qp));
	CHECK(null_controller_fetch(&pair->controller) == count);
	for (uint32_t n = 0; n < count; n++)
		cids[n] = pair->controller.fetched[n].cid;
	for (uint32_t n = 0; n < count; n++) {
		struct nvme_cqe cqe = { .sqid = pair->controller.qid, .cid = cids[n] };

		if (odd && n == count / 2)
			cqe.dw1 = 1;
		null_controller_post(&pair->controller, cqe);
	}
	pair->controller.count = 0;
	CHECK(nvme_single_reap(reaped, 0) == (int)count);
	CHECK(reaped->plain == !odd);
	for (uint32_t n = 0; n < count; n++)
		CHECK(reaped->cids[n] == cids[n] && reaped->completions[n].cid == cids[n] &&
		      reaped->latency_ns[n] == reaped->completions[n].latency_ns);
	CHECK(!nvme_qpair_check(&pair->qp) && !pair->qp.outstanding);
}

static void test_transfers(uint32_t rounds)
{
	const struct nvme_command_template template = {
		.command = { .opc = 2, .nsid = 3, .cdw12 = 1u << 30 },
		.block_count = 1000,
		.block_shift = 9,
		.max_blocks = 100,
	};
	struct nvme_transfer transfer = { .template = &template };
	struct nvme_reaped reaped;
	struct pair pair;

	pair_init(&pair, DEPTH, 2, ENTRIES, 0);
	reaped_init(&reaped, &pair);
	transfer.qp = &pair.qp;
	while (rounds--) {
		uint32_t count = 1 + random_below(DEPTH);

		for (uint32_t n = 0; n < count; n++) {
			uint32_t blocks = 1 + random_below(100);
			const struct nvme_sqe *sqe = &pair.qp.sq[pair.qp.sq_tail];
			int cid;

			transfer.lba = random_below(1001);
			transfer.iova = UINT64_C(0x100000000) + 512 * random_below(1 << 20);
			transfer.length = blocks * 512;
			cid = nvme_single_submit(&transfer);
			if (transfer.lba + blocks > 1000) {
				CHECK(cid == -ERANGE);
				n--;
				continue;
			}
			CHECK(cid >= 0 && sqe->cid == cid && sqe->cdw10 == transfer.lba);
			CHECK(sqe->cdw12 == (1u << 30 | (blocks - 1)) && sqe->nsid == 3);
			pair_check_data(&pair, sqe, transfer.iova, (uint32_t)transfer.length);
		}
		if (count == DEPTH)
			CHECK(nvme_single_submit(&transfer) == -EAGAIN ||
			      transfer.lba + transfer.length / 512 > 1000);
		complete_and_reap(&pair, &reaped, count, random_below(2) != 0);
	}
	reaped_free(&reaped);
	pair_free(&pair);
}

/* --- data in parts ----------------------------------------------------------------------- */

/* Walk PRPs, or the SGL segment: each byte of the parts, in their order, and nothing else. */
static void check_parts(const struct pair *pair, const struct nvme_sqe *sqe,
			const struct nvme_part *parts, uint32_t count)
{
	const uint64_t *list =
		pair->lists + (size_t)pair_index(pair, sqe->cid) * pair->list_entries;
	uint64_t list_iova = LISTS_IOVA + (uint64_t)((const char *)list - (const char *)pair->lists);
	uint64_t total = 0, pages = 0, seen = 0;

	if (sqe->flags) {
		CHECK(sqe->flags == 0x40 && sqe->prp1 == list_iova);
		CHECK(sqe->prp2 == (UINT64_C(3) << 60 | count * 16));
		for (uint32_t n = 0; n < count; n++)
			CHECK(list[2 * n] == parts[n].iova && list[2 * n + 1] == parts[n].length);
		return;
	}
	for (uint32_t n = 0; n < count; n++) {
		total += parts[n].length;
		pages += (parts[n].iova % PAGE + parts[n].length + PAGE - 1) / PAGE;
	}
	CHECK(total && pages <= ENTRIES + 1);
	for (uint32_t n = 0; n < count; n++)
		for (uint64_t at = parts[n].iova; at < parts[n].iova + parts[n].length;
		     at = at / PAGE * PAGE + PAGE, seen++)
			CHECK((!seen ? sqe->prp1 : pages == 2 ? sqe->prp2 : list[seen - 1]) == at);
	CHECK(seen == pages);
	CHECK(pages > 2 ? sqe->prp2 == list_iova : pages == 2 || !sqe->prp2);
}

/* Parts that PRPs can tell of if `whole`, else nearly so. */
static uint32_t random_parts(struct nvme_part *parts, int whole)
{
	uint32_t count = 1 + random_below(MOST_PARTS / 2);

	for (uint32_t n = 0; n < count; n++) {
		uint64_t skip = n ? 0 : 4 * random_below(PAGE / 4);
		uint64_t rest = n + 1 < count ? 0 : 4 * random_below(PAGE / 4);

		parts[n].iova = PAGE * (uint64_t)(1 + random_below(1 << 30)) + skip;
		parts[n].length = PAGE * (2 + random_below(3)) - skip - rest;
	}
	if (!whole && count > 1)
		parts[count / 2].iova += 4;
	return count;
}

static void test_parts(uint32_t rounds)
{
	const struct nvme_sqe command = { .opc = 1, .nsid = 1 };

	for (int sgl = 0; sgl < 2; sgl++) {
		struct nvme_reaped reaped;
		struct pair pair;

		pair_init(&pair, DEPTH, 0, ENTRIES, sgl);
		reaped_init(&reaped, &pair);
		for (uint32_t round = 0; round < rounds; round++) {
			int whole = random_below(2) != 0;
			struct nvme_part *parts = allocate(MOST_PARTS, sizeof(*parts));
			uint32_t count = random_parts(parts, whole);
			const struct nvme_sqe *sqe = &pair.qp.sq[pair.qp.sq_tail];
			int cid = nvme_single_submit_parts(&pair.qp, &command, parts, count);

			if (cid >= 0) {
				check_parts(&pair, sqe, parts, count);
				complete_and_reap(&pair, &reaped, 1, 0);
			} else {
				CHECK(!pair.qp.outstanding);
				CHECK(cid == -EMSGSIZE || (cid == -ENOTSUP && !sgl && !whole));
			}
			parts[count / 2].length |= 1;
			CHECK(nvme_single_submit_parts(&pair.qp, &command, parts, count) == -EINVAL);
			free(parts);
		}
		reaped_free(&reaped);
		pair_free(&pair);
	}
}

/* --- vectors ----------------------------------------------------------------------------- */

static void test_vector(int lengths, int data)
{
	uint64_t *lbas = allocate(COUNT, sizeof(*lbas));
	uint64_t *iovas = allocate(COUNT, sizeof(*iovas));
	uint32_t *each = allocate(COUNT, sizeof(*each));
	uint16_t *status = allocate(COUNT, sizeof(*status));
	uint64_t *latency_ns = allocate(COUNT, sizeof(*latency_ns));
	struct nvme_vector v = {
		.command = { .opc = data ? 1 : 8, .nsid = 1, .cdw12 = 1u << 25 },
		.lbas = lbas,
		.iovas = data ? iovas : NULL,
		.each = lengths ? each : NULL,
		.status = status,
		.latency_ns = latency_ns,
		.count = COUNT,
		.blocks = 4,
		.last_blocks = 4,
		.block_shift = 9,
	};
	struct pair pair;
	int done;

	pair_init(&pair, DEPTH, 1, ENTRIES, 0);
	for (uint32_t i = 0; i < COUNT; i++) {
		lbas[i] = (UINT64_C(1) << 40) + i;
		iovas[i] = UINT64_C(0x100000000) + i * UINT64_C(0x20000) + 512 * random_below(8);
		each[i] = 1 + random_below(data ? 64 : 0x10000);
	}
	while (!(done = nvme_vector_run(&pair.qp, &v, 1000))) {
		null_controller_fetch(&pair.controller);
		while (pair.controller.count) {
			uint32_t n = random_below(pair.controller.count);
			const struct nvme_sqe *sqe = &pair.controller.fetched[n];
			uint32_t blocks = lengths ? each[sqe->cdw10] : 4;

			CHECK(sqe->cdw11 == 1 << 8 && sqe->cdw10 < COUNT);
			CHECK(sqe->cdw12 == (1u << 25 | (blocks - 1)));
			if (data)
				pair_check_data(&pair, sqe, iovas[sqe->cdw10], blocks * 512);
			else
				CHECK(!sqe->prp1 && !sqe->prp2 && !sqe->flags);
			null_controller_complete(&pair.controller, n, sqe->cdw10 % 9 ? 0 : 0x281);
		}
	}
	CHECK(done == 1 && v.completed == COUNT && v.failed == (COUNT + 8) / 9);
	for (uint32_t i = 0; i < COUNT; i++)
		CHECK(status[i] == (i % 9 ? 0 : 0x281));
	pair_free(&pair);
	free(lbas);
	free(iovas);
	free(each);
	free(status);
	free(latency_ns);
}

int main(int argc, char **argv)
{
	uint32_t rounds = argc > 1 ? (uint32_t)atoi(argv[1]) : 100;

	test_transfers(100 * rounds);
	test_parts(100 * rounds);
	for (uint32_t round = 0; round < rounds; round++) {
		test_vector(1, 1);
		test_vector(1, 0);
		test_vector(0, 0);
		test_vector(0, 1);
	}
	return 0;
}
