/* See null_controller.h. */
#include "null_controller.h"

#include <stdlib.h>
#include <string.h>

#include "test.h"

#define PAGE 4096u

uint32_t random_below(uint32_t limit)
{
	static uint64_t state = 88172645463325252u;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * UINT64_C(2685821657736338717)) >> 33) % limit;
}

void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		abort();
	return memory;
}

void pair_init(struct pair *pair, uint32_t depth, uint32_t spare, uint32_t list_entries,
	       int use_sgl)
{
	struct null_controller *controller = &pair->controller;
	struct nvme_qpair_config config;

	*controller = (struct null_controller){
		.sq = allocate(depth + 1 + spare, sizeof(struct nvme_sqe)),
		.cq = allocate(depth + 1 + spare, sizeof(struct nvme_cqe)),
		.fetched = allocate(depth, sizeof(struct nvme_sqe)),
		.depth = depth,
		.sq_entries = depth + 1 + spare,
		.cq_entries = depth + 1 + spare,
		.phase = 1,
		.qid = 1,
	};
	pair->trackers = allocate(nvme_qpair_trackers(depth), sizeof(*pair->trackers));
	pair->out = allocate(depth, sizeof(*pair->out));
	pair->list_entries = list_entries;
	pair->lists = allocate((size_t)depth * list_entries, sizeof(*pair->lists));
	for (size_t i = 0; i < (size_t)depth * list_entries; i++)
		pair->lists[i] = CANARY;
	config = (struct nvme_qpair_config){
		.sq = controller->sq,
		.cq = controller->cq,
		.trackers = pair->trackers,
		.prp_lists = pair->lists,
		.prp_lists_iova = LISTS_IOVA,
		.prp_list_entries = list_entries,
		.page_shift = 12,
		.depth = depth,
		.sq_entries = controller->sq_entries,
		.cq_entries = controller->cq_entries,
		.qid = controller->qid,
		.use_sgl = (uint16_t)use_sgl,
	};
	if (nvme_qpair_init(&pair->qp, &config))
		abort();
	pair->qp.sq_doorbell.mmio = &controller->sq_tail;
	pair->qp.cq_doorbell.mmio = &controller->cq_head;
}

void pair_free(struct pair *pair)
{
	free(pair->controller.sq);
	free(pair->controller.cq);
	free(pair->controller.fetched);
	free(pair->trackers);
	free(pair->out);
	free(pair->lists);
}

uint32_t pair_index(const struct pair *pair, uint16_t cid)
{
	return cid & pair->qp.index_mask;
}

void pair_restart(struct pair *pair)
{
	struct null_controller *controller = &pair->controller;

	memset(controller->sq, 0, controller->sq_entries * sizeof(*controller->sq));
	memset(controller->cq, 0, controller->cq_entries * sizeof(*controller->cq));
	controller->sq_tail = controller->cq_head = controller->sq_head = controller->cq_tail = 0;
	controller->count = 0;
	controller->phase = 1;
	nvme_qpair_restart(&pair->qp);
	nvme_qpair_release(&pair->qp);
}

void pair_check_data(const struct pair *pair, const struct nvme_sqe *sqe, uint64_t iova,
		     uint32_t length)
{
	uint32_t first = PAGE - (uint32_t)(iova % PAGE);
	uint64_t next = iova + first;
	uint32_t index = pair_index(pair, sqe->cid);
	const uint64_t *list;
	uint32_t entries;

	CHECK(sqe->prp1 == iova);
	if (sqe->flags) {
		CHECK(sqe->flags == 0x40 && sqe->prp2 == length);
		return;
	}
	if (length <= first) {
		CHECK(sqe->prp2 == 0);
		return;
	}
	entries = (length - first + PAGE - 1) / PAGE;
	if (entries == 1) {
		CHECK(sqe->prp2 == next);
		return;
	}
	CHECK(entries <= pair->list_entries);
	CHECK(sqe->prp2 == LISTS_IOVA + (uint64_t)index * pair->list_entries * 8);
	list = pair->lists + (size_t)index * pair->list_entries;
	for (uint32_t i = 0; i < entries; i++)
		CHECK(list[i] == next + (uint64_t)i * PAGE);
}

uint32_t null_controller_fetch(struct null_controller *controller)
{
	uint32_t tail = __atomic_load_n(&controller->sq_tail, __ATOMIC_ACQUIRE);
	uint32_t fetched = 0;

	for (; controller->sq_head != tail; fetched++) {
		if (controller->count == controller->depth)
			abort();
		controller->fetched[controller->count++] = controller->sq[controller->sq_head];
		controller->sq_head = (controller->sq_head + 1) % controller->sq_entries;
	}
	return fetched;
}

void null_controller_post(struct null_controller *controller, struct nvme_cqe cqe)
{
	struct nvme_cqe *entry = &controller->cq[controller->cq_tail];
	uint16_t status = (uint16_t)((cqe.status & ~1u) | controller->phase);

	/* A full completion queue has one free entry: the head is what the host has told. */
	if ((controller->cq_tail + 1) % controller->cq_entries ==
	    __atomic_load_n(&controller->cq_head, __ATOMIC_ACQUIRE))
		abort();
	entry->dw0 = cqe.dw0;
	entry->dw1 = cqe.dw1;
	entry->sqhd = cqe.sqhd;
	entry->sqid = cqe.sqid;
	entry->cid = cqe.cid;
	__atomic_store_n(&entry->status, status, __ATOMIC_RELEASE);
	if (++controller->cq_tail == controller->cq_entries) {
		controller->cq_tail = 0;
		controller->phase ^= 1;
	}
}

void null_controller_complete(struct null_controller *controller, uint32_t index, uint16_t status)
{
	struct nvme_sqe done = controller->fetched[index];

	controller->fetched[index] = controller->fetched[--controller->count];
	null_controller_post(controller, (struct nvme_cqe){
						 .dw0 = done.cdw10,
						 .dw1 = ~done.cdw10,
						 .sqhd = (uint16_t)controller->sq_head,
						 .sqid = controller->qid,
						 .cid = done.cid,
						 .status = (uint16_t)(status << 1),
					 });
}

void *null_controller_serve(void *context)
{
	struct null_controller *controller = context;

	while (!__atomic_load_n(&controller->stop, __ATOMIC_ACQUIRE)) {
		null_controller_fetch(controller);
		while (controller->count)
			null_controller_complete(controller, controller->count - 1, 0);
	}
	return NULL;
}
