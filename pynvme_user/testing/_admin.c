/* The admin commands (NVMe Base 2.0, section 5). */
#include "_internal.h"

#include <stdlib.h>
#include <string.h>

#define FEATURE_NUMBER_OF_QUEUES 0x07
#define LOG_SMART		 0x02

static uint8_t zeros[PAGE_SIZE];

/* --- queues ------------------------------------------------------------------------------ */

static void *queue_memory(struct controller *c, const struct nvme_sqe *sqe, uint32_t entry_size,
			  enum controller_use use, uint16_t *status)
{
	uint32_t size = (sqe->cdw10 >> 16) + 1;
	uint64_t length = (uint64_t)size * entry_size;
	void *memory;

	if (size < 2 || size > c->config.mqes + 1) {
		*status = INVALID_QUEUE_SIZE;
		return NULL;
	}
	/* CAP.CQR: contiguous, so that PRP 1 is the whole queue. */
	if (!(sqe->cdw11 & 1)) {
		*status = INVALID_FIELD;
		return NULL;
	}
	if (sqe->prp1 % PAGE_SIZE) {
		*status = PRP_OFFSET_INVALID;
		return NULL;
	}
	memory = controller_translate(c, sqe->prp1, length);
	if (memory && !controller_may(c, use)) {
		*status = INVALID_USE_OF_CMB;
		return NULL;
	}
	*status = memory ? SUCCESS : DATA_TRANSFER_ERROR;
	return memory;
}

/* The queue that a command names, if there may be such a one; 0 otherwise. */
static uint32_t queue_id(const struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t qid = sqe->cdw10 & 0xffff;

	return qid <= c->config.queues ? qid : 0;
}

static uint16_t create_cq(struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t qid = queue_id(c, sqe);
	struct nvme_cqe *entries;
	uint16_t status;

	if (!qid || c->cqs[qid].entries)
		return INVALID_QID;
	if (sqe->cdw11 >> 16 >= VECTORS_MAX)
		return INVALID_VECTOR;
	entries = queue_memory(c, sqe, sizeof(struct nvme_cqe), CONTROLLER_CQS, &status);
	if (!entries)
		return status;
	c->created = 1;
	*controller_bell(c, qid, 1) = 0;
	c->cqs[qid] = (struct cq){
		.entries = entries,
		.size = (sqe->cdw10 >> 16) + 1,
		.phase = 1,
		.vector = (uint16_t)(sqe->cdw11 >> 16),
		.interrupts = sqe->cdw11 >> 1 & 1,
		.iova = sqe->prp1,
	};
	controller_connect_cq(c, qid);
	return SUCCESS;
}

static uint16_t create_sq(struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t qid = queue_id(c, sqe);
	uint32_t cqid = sqe->cdw11 >> 16;
	uint32_t size = (sqe->cdw10 >> 16) + 1;
	struct nvme_sqe *entries;
	struct held *held;
	uint16_t status;

	if (!qid || c->sqs[qid].entries)
		return INVALID_QID;
	if (!cqid || cqid > c->config.queues || !c->cqs[cqid].entries)
		return CQ_INVALID;
	entries = queue_memory(c, sqe, sizeof(struct nvme_sqe), CONTROLLER_SQS, &status);
	if (!entries)
		return status;
	/* Pages of it come to be when a command is held there. */
	held = calloc(size, sizeof(*held));
	if (!held)
		return INTERNAL_ERROR;
	*controller_bell(c, qid, 0) = 0;
	c->sqs[qid] = (struct sq){
		.entries = entries,
		.held = held,
		.size = size,
		.cqid = cqid,
		.next_due = NEVER,
		.iova = sqe->prp1,
	};
	controller_connect_sq(c, qid);
	c->cqs[cqid].sqs++;
	c->live[c->live_count++] = qid;
	return SUCCESS;
}

static int cq_has_room(const struct controller *c, uint32_t cqid)
{
	const struct cq *cq = &c->cqs[cqid];

	return (cq->tail + 1) % cq->size != *cq->bell;
}

static uint16_t delete_sq(struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t qid = queue_id(c, sqe);
	struct sq *sq = &c->sqs[qid];
	uint32_t tail;

	if (!qid || !sq->entries)
		return INVALID_QID;
	tail = *sq->bell;
	/* What was not executed: as much as its completion queue has room for. */
	for (uint32_t i = 0; i < sq->held_count && cq_has_room(c, sq->cqid); i++)
		controller_complete(c, sq, qid, sq->held[i].sqe.cid, ABORTED_SQ_DELETION, 0);
	while (sq->head != tail && tail < sq->size && cq_has_room(c, sq->cqid)) {
		uint16_t cid = sq->entries[sq->head].cid;

		sq->head = (sq->head + 1) % sq->size;
		controller_complete(c, sq, qid, cid, ABORTED_SQ_DELETION, 0);
	}
	c->cqs[sq->cqid].sqs--;
	free(sq->held);
	*sq = (struct sq){ 0 };
	for (uint32_t i = 0; i < c->live_count; i++)
		if (c->live[i] == qid)
			c->live[i] = c->live[--c->live_count];
	return SUCCESS;
}

static uint16_t delete_cq(struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t qid = queue_id(c, sqe);

	if (!qid || !c->cqs[qid].entries)
		return INVALID_QID;
	if (c->cqs[qid].sqs)
		return INVALID_QUEUE_DELETION;
	c->cqs[qid] = (struct cq){ 0 };
	return SUCCESS;
}

/* --- the others -------------------------------------------------------------------------- */

static uint16_t identify(struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t cns = sqe->cdw10 & 0xff;
	int is_list = cns == 0x02 || cns == 0x07;

	if (sqe->cdw11 >> 24) /* CSI: the NVM Command Set alone */
		return INVALID_FIELD;
	for (uint32_t i = 0; i < c->page_count; i++) {
		struct page *page = &c->pages[i];

		if (page->cns != cns)
			continue;
		if (page->per_namespace && sqe->nsid != 1)
			return INVALID_NAMESPACE;
		if (is_list && sqe->nsid >= 0xfffffffe)
			return INVALID_NAMESPACE;
		/* A list has the namespaces above NSID. */
		return controller_move(c, sqe, TO_HOST, is_list && sqe->nsid ? zeros : page->data,
				       PAGE_SIZE);
	}
	return INVALID_FIELD;
}

/* SMART / Health Information (section 5.16.1.3): nothing wrong, and the commands counted. */
static void fill_smart_log(const struct controller *c, uint8_t *log)
{
	const uint16_t kelvin = 300;

	memcpy(log + 1, &kelvin, sizeof(kelvin));
	log[3] = 100; /* spare */
	memcpy(log + 64, &c->log.reads, sizeof(c->log.reads));
	memcpy(log + 80, &c->log.writes, sizeof(c->log.writes));
}

/*
 * The three logs that are mandatory, of which two are zeros: no error, no firmware slot; and our
 * own.
 */
static uint16_t get_log_page(struct controller *c, const struct nvme_sqe *sqe)
{
	uint32_t lid = sqe->cdw10 & 0xff;
	uint64_t length = (((uint64_t)(sqe->cdw11 & 0xffff) << 16 | sqe->cdw10 >> 16) + 1) * 4;
	uint8_t log[PAGE_SIZE] = { 0 };

	if ((lid < 1 || lid > 3) && lid != CONTROLLER_LOG)
		return INVALID_LOG_PAGE;
	if (length > sizeof(log) || sqe->cdw12 || sqe->cdw13) /* no offset: LPA says so */
		return INVALID_FIELD;
	if (lid == LOG_SMART)
		fill_smart_log(c, log);
	if (lid == CONTROLLER_LOG)
		memcpy(log, &c->log, sizeof(c->log));
	return controller_move(c, sqe, TO_HOST, log, length);
}

static int feature_exists(uint32_t fid)
{
	return fid <= 0x0b && 1u << fid & 0x0fb6; /* not 0, LBA ranges (3), write cache (6) */
}

static uint16_t set_features(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0)
{
	uint32_t fid = sqe->cdw10 & 0xff;
	uint32_t granted = c->config.queues - 1;
	uint32_t sqs = sqe->cdw11 & 0xffff, cqs = sqe->cdw11 >> 16;

	if (!feature_exists(fid))
		return INVALID_FIELD;
	if (sqe->cdw10 >> 31)
		return NOT_SAVEABLE;
	if (fid != FEATURE_NUMBER_OF_QUEUES) {
		c->features[fid] = sqe->cdw11;
		return SUCCESS;
	}
	if (sqs == 0xffff || cqs == 0xffff)
		return INVALID_FIELD;
	if (c->created)
		return COMMAND_SEQUENCE_ERROR;
	*dw0 = c->features[fid] = (sqs < granted ? sqs : granted) | (cqs < granted ? cqs : granted)
									<< 16;
	return SUCCESS;
}

static uint16_t get_features(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0)
{
	uint32_t fid = sqe->cdw10 & 0xff;

	if (!feature_exists(fid))
		return INVALID_FIELD;
	switch (sqe->cdw10 >> 8 & 7) {
	case 0: /* current; saved is the same as default where nothing can be saved */
		*dw0 = c->features[fid];
		return SUCCESS;
	case 1:
	case 2:
		*dw0 = fid == FEATURE_NUMBER_OF_QUEUES ? (c->config.queues - 1) * 0x10001u : 0;
		return SUCCESS;
	case 3:
		*dw0 = 4; /* changeable, for all namespaces, not saveable */
		return SUCCESS;
	}
	return INVALID_FIELD;
}

static uint16_t renew(struct controller *c, const struct nvme_sqe *sqe)
{
	const struct controller_rule rule = {
		.action = sqe->cdw10,
		.opcode = sqe->cdw10 == CONTROLLER_STATUS ? -2 : -1,
		.qid = -1,
		.nth = sqe->cdw11,
		.every = sqe->cdw11,
		.value = (int64_t)((uint64_t)sqe->cdw13 << 32 | sqe->cdw12),
	};

	controller_rules_clear(c);
	if (sqe->cdw11 && controller_rule_add(c, &rule) < 0)
		return INVALID_FIELD;
	memset(&c->log, 0, sizeof(c->log));
	controller_zero_blocks(c, 0, c->config.blocks);
	return SUCCESS;
}

/* Abort (section 5.1): what takes its time or is kept can be. A completion comes for both. */
static uint16_t abort_command(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0)
{
	uint32_t sqid = sqe->cdw10 & 0xffff;

	*dw0 = sqid >= QUEUES_MAX ||
	       controller_end_held(c, sqid, (uint16_t)(sqe->cdw10 >> 16), ABORTED_BY_REQUEST);
	return SUCCESS;
}

static uint16_t keep_event_request(const struct controller *c)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->sqs[0].held_count; i++)
		count += c->sqs[0].held[i].due == NEVER &&
			 c->sqs[0].held[i].sqe.opc == ASYNC_EVENT_REQUEST;
	return count == AER_MAX ? AER_LIMIT_EXCEEDED : KEPT;
}

/* Queues, Abort and the command to begin anew are no affair of a model's. */
static int is_only_here(const struct nvme_sqe *sqe)
{
	switch (sqe->opc) {
	case 0x00:
	case 0x01:
	case 0x04:
	case 0x05:
	case 0x08:
	case CONTROLLER_RENEW:
		return 1;
	}
	return 0;
}

uint16_t controller_admin(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0)
{
	return c->config.model && !is_only_here(sqe) ? ASKED : controller_admin_here(c, sqe, dw0);
}

uint16_t controller_admin_here(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0)
{
	if (sqe->flags & 3)
		return INVALID_FIELD;
	switch (sqe->opc) {
	case 0x00:
		return delete_sq(c, sqe);
	case 0x01:
		return create_sq(c, sqe);
	case 0x02:
		return get_log_page(c, sqe);
	case 0x04:
		return delete_cq(c, sqe);
	case 0x05:
		return create_cq(c, sqe);
	case 0x06:
		return identify(c, sqe);
	case 0x08:
		return abort_command(c, sqe, dw0);
	case 0x09:
		return set_features(c, sqe, dw0);
	case 0x0a:
		return get_features(c, sqe, dw0);
	case 0x7c:
		return controller_configure_doorbells(c, sqe);
	case CONTROLLER_RENEW:
		return renew(c, sqe);
	case ASYNC_EVENT_REQUEST:
		return keep_event_request(c);
	}
	return INVALID_OPCODE;
}
