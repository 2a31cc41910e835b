/* See null_controller.h. */
#include "null_controller.h"

#include <stdlib.h>

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		abort();
	return memory;
}

void pair_init(struct pair *pair, uint32_t depth, uint32_t list_entries, int use_sgl)
{
	struct null_controller *controller = &pair->controller;
	struct nvme_qpair_config config;

	*controller = (struct null_controller){
		.sq = allocate(depth + 1, sizeof(struct nvme_sqe)),
		.cq = allocate(depth + 1, sizeof(struct nvme_cqe)),
		.fetched = allocate(depth + 1, sizeof(struct nvme_sqe)),
		.entries = depth + 1,
		.phase = 1,
		.qid = 1,
	};
	pair->trackers = allocate(depth, sizeof(*pair->trackers));
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

uint32_t null_controller_fetch(struct null_controller *controller)
{
	uint32_t tail = __atomic_load_n(&controller->sq_tail, __ATOMIC_ACQUIRE);
	uint32_t fetched = 0;

	for (; controller->sq_head != tail; fetched++) {
		if (controller->count == controller->entries)
			abort();
		controller->fetched[controller->count++] = controller->sq[controller->sq_head];
		controller->sq_head = (controller->sq_head + 1) % controller->entries;
	}
	return fetched;
}

void null_controller_post(struct null_controller *controller, struct nvme_cqe cqe)
{
	struct nvme_cqe *entry = &controller->cq[controller->cq_tail];
	uint16_t status = (uint16_t)((cqe.status & ~1u) | controller->phase);

	/* A full completion queue has one free entry: the head is what the host has told. */
	if ((controller->cq_tail + 1) % controller->entries ==
	    __atomic_load_n(&controller->cq_head, __ATOMIC_ACQUIRE))
		abort();
	entry->dw0 = cqe.dw0;
	entry->dw1 = cqe.dw1;
	entry->sqhd = cqe.sqhd;
	entry->sqid = cqe.sqid;
	entry->cid = cqe.cid;
	__atomic_store_n(&entry->status, status, __ATOMIC_RELEASE);
	if (++controller->cq_tail == controller->entries) {
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
