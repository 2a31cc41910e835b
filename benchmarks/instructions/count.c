/*
 * Reads through the C core against a null controller in this process, to be counted by valgrind
 * (instructions.py): `count WAY DEPTH BYTES IOS`.
 *
 * The submission doorbell is a posted one, so that the controller runs inside of the write: it
 * completes at once all that was announced. For what is measured that is a device that is never
 * waited for; against a mapped doorbell it costs the driver a call instead of a store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_ring.h"
#include "_vector.h"
#include "workload/_bench.h"

#define BLOCK_SHIFT  9
#define BLOCKS	     (UINT64_C(1) << 24)
#define PAGE	     4096u
#define LIST_ENTRIES 32u /* PRP list entries for each command: 128 KiB, as MDTS 5 has it */
#define LISTS_IOVA   UINT64_C(0x10000000000)
#define DATA_IOVA    UINT64_C(0x20000000000)
#define FOREVER	     UINT64_MAX

struct controller {
	const struct nvme_sqe *sq;
	struct nvme_cqe *cq;
	uint32_t sq_entries;
	uint32_t cq_entries;
	uint32_t sq_head;
	uint32_t cq_tail;
	uint16_t phase;
	uint64_t reads;
};

/* Complete everything up to the new tail, in order, with success. */
static int controller_doorbell(void *context, uint64_t address, uint32_t tail)
{
	struct controller *c = context;

	(void)address;
	while (c->sq_head != tail) {
		const struct nvme_sqe *sqe = &c->sq[c->sq_head];
		struct nvme_cqe *cqe = &c->cq[c->cq_tail];

		c->sq_head = c->sq_head + 1 == c->sq_entries ? 0 : c->sq_head + 1;
		cqe->sqhd = (uint16_t)c->sq_head;
		cqe->sqid = 1;
		cqe->cid = sqe->cid;
		cqe->status = c->phase;
		c->reads += sqe->opc == 2;
		if (++c->cq_tail == c->cq_entries) {
			c->cq_tail = 0;
			c->phase ^= 1;
		}
	}
	return 0;
}

/* Where a structure lies, for the count of the cache lines that are touched. */
static void *lines_new(const char *name, size_t count, size_t size)
{
	size_t length = (count * size + 4095) / 4096 * 4096;
	void *memory = aligned_alloc(4096, length);

	if (!memory)
		abort();
	memset(memory, 0, length);
	printf("region %s %p %zu\n", name, memory, count * size);
	return memory;
}

struct rig {
	struct nvme_qpair *qp;
	struct controller *controller;
	uint32_t depth;
	uint32_t blocks;
	uint32_t bytes;
	uint64_t ios;
	uint64_t *lbas;
	uint64_t *iovas; /* by CID */
	struct nvme_sqe read;
};

static void rig_init(struct rig *rig)
{
	static uint32_t cq_head;
	uint32_t sq_entries = rig->depth + 28;
	uint32_t cq_entries = 2 * rig->depth + 1 > 256 ? 2 * rig->depth + 1 : 256;
	struct nvme_qpair_config config = {
		.sq = lines_new("sq", sq_entries, sizeof(struct nvme_sqe)),
		.cq = lines_new("cq", cq_entries, sizeof(struct nvme_cqe)),
		.trackers = lines_new("trackers", nvme_qpair_trackers(rig->depth),
				      sizeof(struct nvme_tracker)),
		.prp_lists = lines_new("prp_lists", (size_t)rig->depth * LIST_ENTRIES, 8),
		.prp_lists_iova = LISTS_IOVA,
		.prp_list_entries = LIST_ENTRIES,
		.page_shift = 12,
		.depth = rig->depth,
		.sq_entries = sq_entries,
		.cq_entries = cq_entries,
		.qid = 1,
	};

	rig->qp = lines_new("qpair", 1, sizeof(*rig->qp));
	if (nvme_qpair_init(rig->qp, &config))
		abort();
	rig->controller = calloc(1, sizeof(*rig->controller));
	if (!rig->controller)
		abort();
	*rig->controller = (struct controller){
		.sq = config.sq,
		.cq = config.cq,
		.sq_entries = sq_entries,
		.cq_entries = cq_entries,
		.phase = 1,
	};
	rig->qp->sq_doorbell.post = controller_doorbell;
	rig->qp->sq_doorbell.context = rig->controller;
	rig->qp->cq_doorbell.mmio = &cq_head;
	rig->read = (struct nvme_sqe){ .opc = 2, .nsid = 1 };
	rig->lbas = lines_new("lbas", rig->ios, sizeof(*rig->lbas));
	for (uint64_t i = 0; i < rig->ios; i++)
		rig->lbas[i] = i * 7919 % (BLOCKS / rig->blocks) * rig->blocks;
	rig->iovas = lines_new("iovas", rig->depth, sizeof(*rig->iovas));
	for (uint32_t cid = 0; cid < rig->depth; cid++)
		rig->iovas[cid] = DATA_IOVA + (uint64_t)cid * (rig->bytes > PAGE ? rig->bytes : PAGE);
}

/* --- the ways ---------------------------------------------------------------------------- */

static void run_plain(struct rig *rig)
{
	struct nvme_completion *out = lines_new("completions", rig->depth, sizeof(*out));

	for (uint64_t done = 0; done < rig->ios;) {
		for (uint32_t n = 0; n < rig->depth; n++) {
			uint64_t lba = rig->lbas[done + n];

			rig->read.cdw10 = (uint32_t)lba;
			rig->read.cdw11 = (uint32_t)(lba >> 32);
			rig->read.cdw12 = rig->blocks - 1;
			if (nvme_qpair_submit(rig->qp, &rig->read, rig->iovas[n], rig->bytes, n) < 0)
				abort();
		}
		if (nvme_qpair_doorbell(rig->qp) ||
		    nvme_qpair_poll(rig->qp, out, rig->depth) != (int)rig->depth)
			abort();
		done += rig->depth;
	}
}

static void run_vector(struct rig *rig)
{
	struct nvme_vector v = {
		.command = rig->read,
		.lbas = rig->lbas,
		.iovas = rig->iovas,
		.status = lines_new("status", rig->ios, sizeof(uint16_t)),
		.latency_ns = lines_new("latency_ns", rig->ios, sizeof(uint64_t)),
		.count = (uint32_t)rig->ios,
		.blocks = rig->blocks,
		.last_blocks = rig->blocks,
		.block_shift = BLOCK_SHIFT,
		.slots = 1,
	};

	if (nvme_vector_run(rig->qp, &v, FOREVER) != 1 || v.failed)
		abort();
}

static void run_workload(struct rig *rig)
{
	struct nvme_generator *generator = lines_new("generator", 1, sizeof(*generator));
	struct nvme_bench *bench = lines_new("bench", 1, sizeof(*bench));

	generator->workload = (struct nvme_workload){
		.region = BLOCKS,
		.blocks = UINT64_MAX >> 2,
		.ios = rig->ios,
		.order = NVME_ORDER_UNIFORM,
		.direction = NVME_DIRECTION_READ,
		.sizes[NVME_DIRECTION_READ] = { .low = rig->blocks,
						.high = rig->blocks,
						.align = rig->blocks,
						.percentage_random = 100 },
	};
	nvme_generator_init(generator);
	bench->commands[NVME_DIRECTION_READ] = rig->read;
	bench->generator = generator;
	bench->slots = lines_new("slots", rig->depth, sizeof(*bench->slots));
	bench->batches = lines_new("batches", rig->depth + 1, sizeof(*bench->batches));
	for (uint32_t cid = 0; cid < rig->depth; cid++)
		bench->slots[cid].iova = rig->iovas[cid];
	bench->results = lines_new("results", 4, sizeof(*bench->results));
	for (uint32_t direction = 0; direction < 4; direction++)
		nvme_bench_result_clear(&bench->results[direction]);
	bench->depth = rig->depth;
	bench->block_shift = BLOCK_SHIFT;
	bench->fast_directions = 2;
	if (nvme_bench_run(rig->qp, bench, FOREVER) != 1 ||
	    bench->results[NVME_DIRECTION_READ].clat.count != rig->ios)
		abort();
}

static void run_transfer(struct rig *rig)
{
	for (uint64_t i = 0; i < rig->ios; i++)
		if (nvme_qpair_transfer(rig->qp, &rig->read, rig->lbas[i], rig->blocks - 1,
					rig->iovas[0], rig->bytes, FOREVER))
			abort();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(struct rig *rig);
	} ways[] = {
		{ "plain", run_plain },
		{ "vector", run_vector },
		{ "workload", run_workload },
		{ "transfer", run_transfer },
	};
	struct rig rig = { 0 };

	if (argc != 5) {
		fprintf(stderr, "usage: %s WAY DEPTH BYTES IOS\n", argv[0]);
		return 2;
	}
	rig.depth = (uint32_t)strtoul(argv[2], NULL, 0);
	rig.bytes = (uint32_t)strtoul(argv[3], NULL, 0);
	rig.blocks = rig.bytes >> BLOCK_SHIFT;
	rig.ios = strtoul(argv[4], NULL, 0) / rig.depth * rig.depth;
	rig_init(&rig);
	printf("region doorbell %p 0\n", (void *)(uintptr_t)controller_doorbell);
	printf("region init %p 0\n", (void *)(uintptr_t)nvme_qpair_init);
	for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++)
		if (!strcmp(ways[way].name, argv[1])) {
			ways[way].run(&rig);
			printf("reads %llu\n", (unsigned long long)rig.controller->reads);
			return rig.controller->reads == rig.ios ? 0 : 1;
		}
	fprintf(stderr, "there is no way '%s'\n", argv[1]);
	return 2;
}
