/*
 * Shadow doorbells: Doorbell Buffer Config (NVMe Base 2.0, section 5.8, and appendix B.5). The host
 * writes an I/O queue's doorbell to its memory, and the register only where the doorbell passes the
 * event index, which is written here: each time that the controller stops to look.
 */
#include "_internal.h"

static uint32_t load(const volatile uint32_t *bell)
{
	return __atomic_load_n(bell, __ATOMIC_ACQUIRE);
}

static void ask(volatile uint32_t *event, const volatile uint32_t *bell)
{
	if (event)
		__atomic_store_n(event, load(bell), __ATOMIC_RELEASE);
}

static int is_asked(const volatile uint32_t *event, const volatile uint32_t *bell)
{
	return !event || load(event) == load(bell);
}

void controller_connect_sq(struct controller *c, uint32_t qid)
{
	struct sq *sq = &c->sqs[qid];
	int shadowed = qid && c->shadow;

	sq->bell = shadowed ? &c->shadow[2 * qid] : controller_bell(c, qid, 0);
	sq->event = shadowed ? &c->event_index[2 * qid] : NULL;
	ask(sq->event, sq->bell);
}

void controller_connect_cq(struct controller *c, uint32_t qid)
{
	struct cq *cq = &c->cqs[qid];
	int shadowed = qid && c->shadow;

	cq->bell = shadowed ? &c->shadow[2 * qid + 1] : controller_bell(c, qid, 1);
	cq->event = shadowed ? &c->event_index[2 * qid + 1] : NULL;
	ask(cq->event, cq->bell);
}

/* The admin queue keeps its registers, as hosts have it. */
uint16_t controller_configure_doorbells(struct controller *c, const struct nvme_sqe *sqe)
{
	void *shadow, *event_index;

	if (!c->config.shadow)
		return INVALID_OPCODE;
	if ((sqe->prp1 | sqe->prp2) % PAGE_SIZE)
		return INVALID_FIELD;
	shadow = controller_translate(c, sqe->prp1, PAGE_SIZE);
	event_index = controller_translate(c, sqe->prp2, PAGE_SIZE);
	if (!shadow || !event_index)
		return DATA_TRANSFER_ERROR;
	c->shadow = shadow;
	c->event_index = event_index;
	c->shadow_iova = sqe->prp1;
	c->event_index_iova = sqe->prp2;
	for (uint32_t qid = 1; qid < QUEUES_MAX; qid++) {
		/* Those that there are go on where they stand. */
		if (c->sqs[qid].entries) {
			c->shadow[2 * qid] = load(c->sqs[qid].bell);
			controller_connect_sq(c, qid);
		}
		if (c->cqs[qid].entries) {
			c->shadow[2 * qid + 1] = load(c->cqs[qid].bell);
			controller_connect_cq(c, qid);
		}
	}
	return SUCCESS;
}

int controller_ask_doorbells(const struct controller *c)
{
	if (!c->shadow)
		return 1;
	for (uint32_t i = 0; i < c->live_count; i++) {
		const struct sq *sq = &c->sqs[c->live[i]];
		const struct cq *cq = &c->cqs[sq->cqid];

		ask(sq->event, sq->bell);
		ask(cq->event, cq->bell);
	}
	/* The host stores its doorbell, then looks at the event index: one of us sees the other. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < c->live_count; i++) {
		const struct sq *sq = &c->sqs[c->live[i]];
		const struct cq *cq = &c->cqs[sq->cqid];

		if (!is_asked(sq->event, sq->bell) || !is_asked(cq->event, cq->bell))
			return 0;
	}
	return 1;
}
