/* The polling of queues: commands are fetched, held, executed, completed. */
#include "_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void controller_complete(struct controller *c, const struct sq *sq, uint32_t sqid, uint16_t cid,
			 uint16_t status, uint64_t result)
{
	struct cq *cq = &c->cqs[sq->cqid];
	uint64_t *entry = (uint64_t *)&cq->entries[cq->tail];
	uint64_t second = sq->head | (uint64_t)sqid << 16 | (uint64_t)cid << 32 |
			  (uint64_t)(uint16_t)(status << 1 | cq->phase) << 48;

	entry[0] = result;
	/* The phase tag comes last, in one store with its CID. */
	__atomic_store_n(&entry[1], second, __ATOMIC_RELEASE);
	if (++cq->tail == cq->size) {
		cq->tail = 0;
		cq->phase ^= 1;
	}
}

/* The host's doorbell is read only when the queue looks full: its line is the host's to write. */
static inline int cq_is_full(struct cq *cq)
{
	uint32_t next = cq->tail + 1 == cq->size ? 0 : cq->tail + 1;

	if (next != cq->head)
		return 0;
	cq->head = __atomic_load_n(cq->bell, __ATOMIC_ACQUIRE);
	return next == cq->head;
}

static void interrupt(const struct controller *c, const struct cq *cq)
{
	const uint64_t one = 1;

	if (c->events[cq->vector] >= 0)
		if (write(c->events[cq->vector], &one, sizeof(one)) < 0)
			return; /* the eventfd is full: it is readable all the more */
}

static void count_other(struct controller_log *log, const struct nvme_sqe *sqe)
{
	log->writes += sqe->opc == OPC_WRITE;
	log->fua_writes += sqe->opc == OPC_WRITE && sqe->cdw12 & FORCE_UNIT_ACCESS;
	log->trims += sqe->opc == OPC_DATASET_MANAGEMENT;
	log->flushes += sqe->opc == OPC_FLUSH;
}

static inline uint16_t execute(struct controller *c, const struct nvme_sqe *sqe)
{
	if (sqe->opc == OPC_READ)
		c->log.reads++;
	else
		count_other(&c->log, sqe);
	return controller_io(c, sqe);
}

static uint32_t poll_sq(struct controller *c, uint32_t qid, uint32_t tail)
{
	struct sq *sq = &c->sqs[qid];
	struct cq *cq = &c->cqs[sq->cqid];
	uint32_t count = 0;

	while (sq->head != tail && !cq_is_full(cq)) {
		const struct nvme_sqe *sqe = &sq->entries[sq->head];
		uint16_t status = execute(c, sqe);

		sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1;
		controller_complete(c, sq, qid, sqe->cid, status, 0);
		count++;
	}
	return count;
}

/* Give a command that arrives `now` the time at which it ends. */
static uint64_t due_at(struct controller *c, uint64_t now)
{
	uint64_t takes = c->delay_ticks;
	uint64_t start = now;

	if (c->config.slow_every && ++c->arrivals % c->config.slow_every == 0)
		takes = c->slow_ticks;
	if (c->config.in_turn && c->busy_until > now)
		start = c->busy_until;
	c->busy_until = start + takes;
	return start + takes;
}

/* Fetch what was announced, and find out what becomes of it, and when. */
static void fetch(struct controller *c, uint32_t qid, uint32_t tail, uint64_t now)
{
	struct sq *sq = &c->sqs[qid];

	for (; sq->head != tail; sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1) {
		struct held *held = &sq->held[sq->held_count];

		if (sq->held_count == sq->size)
			break;
		*held = (struct held){
			.sqe = sq->entries[sq->head],
			.due = qid ? due_at(c, now) : now,
		};
		controller_judge(c, qid, held);
		if (held->due < sq->next_due)
			sq->next_due = held->due;
		sq->held_count++;
	}
	if (qid && sq->held_count > c->log.deepest)
		c->log.deepest = sq->held_count;
}

static const struct {
	uint32_t said;
	enum controller_action action;
} answers[] = {
	{ CONTROLLER_ANSWER_EXECUTE, CONTROLLER_EXECUTE },
	{ CONTROLLER_ANSWER_KEEP, CONTROLLER_KEEP },
	{ CONTROLLER_ANSWER_LOSE, CONTROLLER_LOSE },
	{ CONTROLLER_ANSWER_FATAL, CONTROLLER_FATAL },
	{ CONTROLLER_ANSWER_GONE, CONTROLLER_GONE },
};

static uint32_t call_answer(struct controller *c, uint32_t qid, struct held *held, int64_t value)
{
	const struct sq *sq = &c->sqs[qid];
	struct controller_call call = {
		.value = value,
		.qid = qid,
		.sqe = &held->sqe,
		/* They lie in the order in which they were fetched. */
		.next = held + 1 < sq->held + sq->held_count ? &held[1].sqe : NULL,
		.controller = c,
		.resets = c->resets,
	};
	uint32_t said;

	controller_answering(c);
	said = c->config.answer(c->config.context, &call);
	controller_answering(NULL);
	held->result = call.dw0 | (uint64_t)call.dw1 << 32;
	return said;
}

/* Ask `answer` about a command; what it says replaces what is to be done. */
static void ask(struct controller *c, uint32_t qid, struct held *held)
{
	uint32_t said = call_answer(c, qid, held, held->value);

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (said == answers[i].said) {
			held->action = answers[i].action;
			return;
		}
	held->action = CONTROLLER_STATUS;
	held->value = said;
}

/* Let the model execute a command; a status, or KEPT. */
static uint16_t ask_model(struct controller *c, uint32_t qid, struct held *held)
{
	uint32_t said = call_answer(c, qid, held, 0);
	uint32_t dw0 = 0;
	uint16_t status;

	if (said == CONTROLLER_ANSWER_KEEP)
		return KEPT;
	if (said == CONTROLLER_ANSWER_EXECUTE && !qid) {
		status = controller_admin_here(c, &held->sqe, &dw0);
		held->result = dw0;
		return status;
	}
	return said > 0x7fff ? INTERNAL_ERROR : (uint16_t)said;
}

uint16_t controller_call_move(struct controller_call *call, int to_host, void *data,
			      uint64_t length)
{
	return controller_move(call->controller, call->sqe, to_host ? TO_HOST : FROM_HOST, data,
			       length);
}

/* Complete a command that was executed as its rule says; the queue has room for one entry. */
static void complete_held(struct controller *c, uint32_t qid, const struct held *held,
			  uint16_t status)
{
	struct sq *sq = &c->sqs[qid];
	struct cq *cq = &c->cqs[sq->cqid];
	uint16_t cid = held->sqe.cid;
	uint32_t sqid = qid;

	if (held->action == CONTROLLER_WRONG_CID)
		cid ^= (uint16_t)held->value;
	if (held->action == CONTROLLER_WRONG_SQID)
		sqid ^= (uint32_t)held->value & 0xffff;
	if (held->action == CONTROLLER_WRONG_PHASE) {
		uint16_t phase = cq->phase;
		uint32_t tail = cq->tail;

		cq->phase ^= 1;
		controller_complete(c, sq, sqid, cid, status, held->result);
		cq->phase = cq->tail < tail ? phase ^ 1 : phase;
		return;
	}
	controller_complete(c, sq, sqid, cid, status, held->result);
	if (held->action == CONTROLLER_TWICE && !cq_is_full(cq))
		controller_complete(c, sq, sqid, cid, status, held->result);
}

/* Do with a command, whose time has come, what is to be done. */
static void end_due(struct controller *c, uint32_t qid, struct held *held)
{
	uint32_t dw0 = 0;
	uint16_t status;

	if (held->action == CONTROLLER_ANSWER) {
		ask(c, qid, held);
		/* What it has posted may have taken the room. */
		if (cq_is_full(&c->cqs[c->sqs[qid].cqid]))
			return;
	}
	switch (held->action) {
	case CONTROLLER_STATUS:
		status = (uint16_t)held->value & 0x7fff;
		break;
	case CONTROLLER_KEEP:
		status = KEPT;
		break;
	case CONTROLLER_LOSE:
		held->done = 1;
		return;
	case CONTROLLER_FATAL:
		controller_fail(c);
		return;
	case CONTROLLER_GONE:
		c->quirks |= CONTROLLER_IS_GONE;
		return;
	default:
		status = qid ? execute(c, &held->sqe) : controller_admin(c, &held->sqe, &dw0);
		held->result = dw0;
		if (status == ASKED)
			status = ask_model(c, qid, held);
	}
	if (status == KEPT) {
		held->due = NEVER;
		return;
	}
	complete_held(c, qid, held, status);
	held->done = 1;
}

/* The same as poll_sq() for commands that are looked at one by one. */
static uint32_t poll_held(struct controller *c, uint32_t qid, uint32_t tail)
{
	struct sq *sq = &c->sqs[qid];
	struct cq *cq = &c->cqs[sq->cqid];
	uint64_t now = nvme_ticks();
	uint32_t count = 0, kept = 0;

	fetch(c, qid, tail, now);
	if (now < sq->next_due)
		return 0;
	sq->next_due = NEVER;
	for (uint32_t i = 0; i < sq->held_count; i++) {
		struct held *held = &sq->held[i];

		if (held->due <= now && !cq_is_full(cq)) {
			end_due(c, qid, held);
			/* With what failed went the queue; what is gone does nothing more. */
			if (!sq->entries || c->quirks & CONTROLLER_IS_GONE)
				return count;
			count++;
		}
		if (!held->done && held->due < sq->next_due)
			sq->next_due = held->due;
	}
	/* Not before: an Abort looks for commands in its own queue, too. */
	for (uint32_t i = 0; i < sq->held_count; i++)
		if (!sq->held[i].done)
			sq->held[kept++] = sq->held[i];
	sq->held_count = kept;
	return count;
}

int controller_end_held(struct controller *c, uint32_t qid, uint16_t cid, uint16_t status)
{
	struct sq *sq = &c->sqs[qid];

	for (uint32_t i = 0; i < sq->held_count; i++) {
		struct held *held = &sq->held[i];

		if (held->done || held->sqe.cid != cid || held->action == CONTROLLER_STATUS)
			continue;
		held->action = CONTROLLER_STATUS;
		held->value = status;
		held->due = sq->next_due = 0;
		return 0;
	}
	return -ENOENT;
}

static int is_kept(const struct held *held, uint32_t qid)
{
	return held->due == NEVER && (qid || held->sqe.opc != ASYNC_EVENT_REQUEST);
}

uint32_t controller_release(struct controller *c, uint16_t status)
{
	uint32_t count = 0;

	controller_enter(c);
	for (uint32_t i = 0; i < c->live_count; i++) {
		struct sq *sq = &c->sqs[c->live[i]];

		for (uint32_t at = 0; at < sq->held_count; at++) {
			struct held *held = &sq->held[at];

			if (!is_kept(held, c->live[i]))
				continue;
			held->action = CONTROLLER_STATUS;
			held->value = status;
			held->due = sq->next_due = 0;
			count++;
		}
	}
	controller_settle(c);
	controller_leave(c);
	return count;
}

int controller_get_kept(struct controller *c, uint32_t index, void *sqe, uint32_t *qid)
{
	int err = -ENOENT;

	controller_enter(c);
	for (uint32_t i = 0; i < c->live_count && err; i++) {
		struct sq *sq = &c->sqs[c->live[i]];

		for (uint32_t at = 0; at < sq->held_count && err; at++) {
			if (!is_kept(&sq->held[at], c->live[i]) || index--)
				continue;
			memcpy(sqe, &sq->held[at].sqe, sizeof(struct nvme_sqe));
			*qid = c->live[i];
			err = 0;
		}
	}
	controller_leave(c);
	return err;
}

int controller_end(struct controller *c, uint32_t qid, uint16_t cid, uint16_t status)
{
	int err = -ENOENT;

	controller_enter(c);
	if (qid < QUEUES_MAX)
		err = controller_end_held(c, qid, cid, status);
	controller_settle(c);
	controller_leave(c);
	return err;
}

int controller_post(struct controller *c, uint32_t qid, uint16_t cid, uint16_t status, uint32_t dw0)
{
	int err = 0;

	controller_enter(c);
	if (qid >= QUEUES_MAX || !c->sqs[qid].entries) {
		err = -ENOENT;
	} else {
		const struct sq *sq = &c->sqs[qid];
		struct cq *cq = &c->cqs[sq->cqid];

		if (cq_is_full(cq))
			err = -EAGAIN;
		else
			controller_complete(c, sq, qid, cid, status, dw0);
		if (!err && cq->interrupts)
			interrupt(c, cq);
	}
	controller_leave(c);
	return err;
}

void controller_get_queues(struct controller *c, uint8_t *queues)
{
	controller_enter(c);
	for (uint32_t qid = 0; qid < QUEUES_MAX; qid++)
		queues[qid] = (uint8_t)((c->sqs[qid].entries != NULL) |
					(c->cqs[qid].entries != NULL) << 1);
	controller_leave(c);
}

int controller_event(struct controller *c, uint32_t dw0)
{
	struct sq *sq = &c->sqs[0];
	int err = -EAGAIN;

	controller_enter(c);
	for (uint32_t i = 0; i < sq->held_count && err; i++) {
		struct held *held = &sq->held[i];

		if (held->due != NEVER || held->sqe.opc != ASYNC_EVENT_REQUEST)
			continue;
		held->action = CONTROLLER_STATUS;
		held->value = SUCCESS;
		held->result = dw0;
		held->due = sq->next_due = 0;
		err = 0;
	}
	controller_settle(c);
	controller_leave(c);
	return err;
}

void controller_ask_events(struct controller *c)
{
	struct sq *sq = &c->sqs[0];

	controller_enter(c);
	for (uint32_t i = 0; i < sq->held_count; i++)
		if (sq->held[i].due == NEVER && sq->held[i].sqe.opc == ASYNC_EVENT_REQUEST)
			sq->held[i].due = sq->next_due = 0;
	controller_settle(c);
	controller_leave(c);
}

static uint32_t poll_queue(struct controller *c, uint32_t qid, uint32_t tail)
{
	const struct sq *sq = &c->sqs[qid];
	int fast = qid && !c->one_by_one && !sq->held_count;
	const struct cq *cq = &c->cqs[sq->cqid];
	uint32_t count = fast ? poll_sq(c, qid, tail) : poll_held(c, qid, tail);

	if (count && cq->interrupts)
		interrupt(c, cq);
	return count;
}

uint64_t controller_next_due(const struct controller *c)
{
	uint64_t next = NEVER;

	for (uint32_t i = 0; i < c->live_count; i++)
		if (c->sqs[c->live[i]].next_due < next)
			next = c->sqs[c->live[i]].next_due;
	return next;
}

uint32_t controller_poll(struct controller *c)
{
	uint32_t count = 0;

	if (c->quirks & CONTROLLER_IS_GONE)
		return 0;
	for (uint32_t i = 0; i < c->live_count; i++) {
		uint32_t qid = c->live[i];
		uint32_t tail = __atomic_load_n(c->sqs[qid].bell, __ATOMIC_ACQUIRE);

		if (tail == c->sqs[qid].head && c->sqs[qid].next_due == NEVER)
			continue;
		if (tail >= c->sqs[qid].size) {
			controller_fail(c);
			break;
		}
		count += poll_queue(c, qid, tail);
	}
	return count;
}
