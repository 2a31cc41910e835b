/* Registers, the polling of queues, and the thread that does it. */
#define _GNU_SOURCE
#include "_internal.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Registers, NVMe Base 2.0 section 3.1.3. */
enum {
	CAP = 0x00,
	VS = 0x08,
	INTMS = 0x0c,
	INTMC = 0x10,
	CC = 0x14,
	CSTS = 0x1c,
	AQA = 0x24,
	ASQ = 0x28,
	ACQ = 0x30
};

#define VERSION 0x00020000u

#define CC_EN		     1u
#define CC_CSS_MPS_AMS	     0x3ff0u
#define CC_SHN		     0xc000u
#define CC_ENTRY_SIZES	     0x00ff0000u
#define CC_ENTRY_SIZES_64_16 0x00460000u
#define CSTS_RDY	     1u
#define CSTS_CFS	     2u
#define CSTS_SHST	     0x0cu
#define CSTS_SHST_COMPLETE   0x08u

#define PCI_COMMAND_MASTER	 0x0004u
#define PCI_COMMAND_INTX_DISABLE 0x0400u

#define IDLE_ROUNDS   100000u
#define IDLE_SLEEP_NS 50000

/* --- life -------------------------------------------------------------------------------- */

static uint64_t ticks_of(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * nvme_tick_rate() / 1000000000u);
}

struct controller *controller_new(const struct controller_config *config)
{
	struct controller *c;

	if (!config->doorbells || !config->blocks || config->block_shift < 9 ||
	    config->block_shift > 12 || config->mqes < 1 || config->mqes > 0xffff ||
	    config->queues < 1 || config->queues >= QUEUES_MAX || config->mdts > 16)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->config = *config;
	c->doorbells = config->doorbells;
	c->delay_ticks = ticks_of(config->delay_ns);
	c->slow_ticks = ticks_of(config->slow_ns);
	if (controller_set_fault(c, config->fault, config->fault_every, config->fault_value)) {
		free(c);
		return NULL;
	}
	for (uint32_t i = 0; i < VECTORS_MAX; i++)
		c->events[i] = -1;
	return c;
}

static void drop_queues(struct controller *c)
{
	for (uint32_t qid = 0; qid < QUEUES_MAX; qid++)
		free(c->sqs[qid].held);
	memset(c->sqs, 0, sizeof(c->sqs));
	memset(c->cqs, 0, sizeof(c->cqs));
	for (uint32_t i = 0; i < PAGE_SIZE / 4; i++)
		c->doorbells[i] = 0;
	c->live_count = 0;
	c->held = 0;
	c->busy_until = 0;
	c->aer_count = 0;
	c->created = 0;
}

void controller_free(struct controller *c)
{
	controller_stop(c);
	drop_queues(c);
	free(c->previous);
	free(c->was_read);
	free(c);
}

/* --- the running thread and its visitors --------------------------------------------------- */

/*
 * Wait until the running thread is between two rounds, and keep it there until
 * controller_leave(). A handshake instead of a lock: the thread pays one load a round.
 */
static void controller_enter(struct controller *c)
{
	__atomic_store_n(&c->entering, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&c->running, __ATOMIC_SEQ_CST) &&
	       !__atomic_load_n(&c->entered, __ATOMIC_SEQ_CST))
		sched_yield();
}

static void controller_leave(struct controller *c)
{
	__atomic_store_n(&c->entering, 0, __ATOMIC_SEQ_CST);
	/* The thread has to have gone on before the next visitor may trust `entered`. */
	while (__atomic_load_n(&c->running, __ATOMIC_SEQ_CST) &&
	       __atomic_load_n(&c->entered, __ATOMIC_SEQ_CST))
		sched_yield();
}

static void let_visitor_in(struct controller *c)
{
	__atomic_store_n(&c->entered, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&c->entering, __ATOMIC_SEQ_CST))
		sched_yield();
	__atomic_store_n(&c->entered, 0, __ATOMIC_SEQ_CST);
}

static void *run(void *context)
{
	struct controller *c = context;
	const struct timespec nap = { .tv_nsec = IDLE_SLEEP_NS };
	uint32_t idle = 0;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&c->entering, __ATOMIC_SEQ_CST)) {
			let_visitor_in(c);
			idle = 0;
		}
		if (controller_poll(c))
			idle = 0;
		else if (!c->spin && !c->held && ++idle > IDLE_ROUNDS) /* what is held is soon due */
			nanosleep(&nap, NULL);
	}
	__atomic_store_n(&c->running, 0, __ATOMIC_SEQ_CST);
	return NULL;
}

int controller_start(struct controller *c, int spin)
{
	sigset_t all, before;
	int err;

	c->spin = spin;
	c->stop = 0;
	c->running = 1;
	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&c->thread, NULL, run, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		c->running = 0;
	else
		c->started = 1;
	return -err;
}

void controller_stop(struct controller *c)
{
	if (!c->started)
		return;
	__atomic_store_n(&c->stop, 1, __ATOMIC_SEQ_CST);
	pthread_join(c->thread, NULL);
	c->started = 0;
}

/* --- memory and interrupts ----------------------------------------------------------------- */

int controller_set_page(struct controller *c, uint32_t cns, int per_namespace, const void *page)
{
	int err = -ENOSPC;

	controller_enter(c);
	if (c->page_count < PAGES_MAX) {
		struct page *new = &c->pages[c->page_count++];

		new->cns = cns;
		new->per_namespace = per_namespace;
		memcpy(new->data, page, PAGE_SIZE);
		err = 0;
	}
	controller_leave(c);
	return err;
}

static int region_add(struct controller *c, uint64_t iova, uint64_t length, void *address)
{
	if (!length || iova + length < iova)
		return -EINVAL;
	for (uint32_t i = 0; i < c->region_count; i++)
		if (iova < c->regions[i].iova + c->regions[i].length &&
		    c->regions[i].iova < iova + length)
			return -EEXIST;
	if (c->region_count == REGIONS_MAX)
		return -ENOSPC;
	c->regions[c->region_count++] = (struct region){ iova, length, address };
	return 0;
}

int controller_map(struct controller *c, uint64_t iova, uint64_t length, void *address)
{
	int err;

	controller_enter(c);
	err = region_add(c, iova, length, address);
	controller_leave(c);
	return err;
}

static void *region_remove(struct controller *c, uint64_t iova, uint64_t length)
{
	for (uint32_t i = 0; i < c->region_count; i++) {
		void *address = c->regions[i].address;

		if (c->regions[i].iova != iova || c->regions[i].length != length)
			continue;
		c->regions[i] = c->regions[--c->region_count];
		c->last_region = 0;
		for (uint32_t qid = 0; qid < QUEUES_MAX; qid++)
			if ((c->sqs[qid].entries && c->sqs[qid].iova - iova < length) ||
			    (c->cqs[qid].entries && c->cqs[qid].iova - iova < length)) {
				controller_fail(c);
				break;
			}
		return address;
	}
	return NULL;
}

void *controller_unmap(struct controller *c, uint64_t iova, uint64_t length)
{
	void *address;

	controller_enter(c);
	address = region_remove(c, iova, length);
	controller_leave(c);
	return address;
}

void controller_set_event(struct controller *c, uint32_t vector, int fd)
{
	controller_enter(c);
	if (vector < VECTORS_MAX)
		c->events[vector] = fd;
	controller_leave(c);
}

void controller_set_command(struct controller *c, uint16_t command)
{
	controller_enter(c);
	/* A function that loses the bus stops; this one says so. */
	if (c->csts & CSTS_RDY && !(command & PCI_COMMAND_MASTER))
		controller_fail(c);
	c->command = command;
	controller_leave(c);
}

/* --- registers ------------------------------------------------------------------------------ */

void controller_fail(struct controller *c)
{
	c->csts |= CSTS_CFS;
	drop_queues(c);
}

static void disable(struct controller *c)
{
	drop_queues(c);
	memset(c->features, 0, sizeof(c->features));
	c->features[0x07] = (c->config.queues - 1) * 0x10001u;
	c->csts = 0;
	c->intm = 0;
}

/* CC.EN 0 to 1 (section 3.5.1): what does not fit is CSTS.CFS. */
static void enable(struct controller *c)
{
	uint32_t sq_size = (c->aqa & 0xfff) + 1, cq_size = (c->aqa >> 16 & 0xfff) + 1;
	void *sq = controller_translate(c, c->asq, (uint64_t)sq_size * sizeof(struct nvme_sqe));
	void *cq = controller_translate(c, c->acq, (uint64_t)cq_size * sizeof(struct nvme_cqe));

	disable(c);
	/* As SPDK's target does: INTx that is on, where nobody has asked for it, is a mistake. */
	if (!(c->command & PCI_COMMAND_MASTER) || !(c->command & PCI_COMMAND_INTX_DISABLE) ||
	    c->cc & CC_CSS_MPS_AMS || (c->cc & CC_ENTRY_SIZES) != CC_ENTRY_SIZES_64_16 || !sq ||
	    !cq || c->asq % PAGE_SIZE || c->acq % PAGE_SIZE || sq_size < 2 || cq_size < 2) {
		controller_fail(c);
		return;
	}
	c->sqs[0] = (struct sq){ .entries = sq, .size = sq_size, .iova = c->asq };
	c->cqs[0] = (struct cq){
		.entries = cq, .size = cq_size, .phase = 1, .interrupts = 1, .iova = c->acq
	};
	c->live[c->live_count++] = 0;
	c->csts = CSTS_RDY;
}

static void write_cc(struct controller *c, uint32_t value)
{
	uint32_t before = c->cc;

	c->cc = value;
	if (value & CC_EN && !(before & CC_EN))
		enable(c);
	else if (!(value & CC_EN) && before & CC_EN)
		disable(c);
	/* Nothing is cached, so that a shutdown is over at once. */
	if (value & CC_SHN && !(before & CC_SHN))
		c->csts = (c->csts & ~CSTS_SHST) | CSTS_SHST_COMPLETE;
}

static int write_dword(struct controller *c, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case INTMS:
		c->intm |= value;
		break;
	case INTMC:
		c->intm &= ~value;
		break;
	case CC:
		write_cc(c, value);
		break;
	case AQA:
		c->aqa = value & 0x0fff0fff;
		break;
	case ASQ:
		c->asq = (c->asq & ~UINT64_C(0xffffffff)) | value;
		break;
	case ASQ + 4:
		c->asq = (uint32_t)c->asq | (uint64_t)value << 32;
		break;
	case ACQ:
		c->acq = (c->acq & ~UINT64_C(0xffffffff)) | value;
		break;
	case ACQ + 4:
		c->acq = (uint32_t)c->acq | (uint64_t)value << 32;
		break;
	default: /* read-only, or not there: a write is lost */
		break;
	}
	return 0;
}

static uint32_t read_dword(const struct controller *c, uint32_t offset)
{
	/* MQES, contiguous queues (16), a time-out of 5 s (31:24), NVM commands (37). */
	uint64_t cap = c->config.mqes | 1u << 16 | 10u << 24 | UINT64_C(1) << 37;

	switch (offset) {
	case CAP:
		return (uint32_t)cap;
	case CAP + 4:
		return (uint32_t)(cap >> 32);
	case VS:
		return VERSION;
	case INTMS:
	case INTMC:
		return c->intm;
	case CC:
		return c->cc;
	case CSTS:
		return c->csts;
	case AQA:
		return c->aqa;
	case ASQ:
		return (uint32_t)c->asq;
	case ASQ + 4:
		return (uint32_t)(c->asq >> 32);
	case ACQ:
		return (uint32_t)c->acq;
	case ACQ + 4:
		return (uint32_t)(c->acq >> 32);
	}
	return 0;
}

static int is_access(uint32_t offset, uint32_t width)
{
	return (width == 4 || width == 8) && !(offset % width) && offset + width <= PAGE_SIZE;
}

int controller_read(struct controller *c, uint32_t offset, uint32_t width, uint64_t *value)
{
	if (!is_access(offset, width))
		return -EINVAL;
	controller_enter(c);
	*value = read_dword(c, offset);
	if (width == 8)
		*value |= (uint64_t)read_dword(c, offset + 4) << 32;
	controller_leave(c);
	return 0;
}

int controller_write(struct controller *c, uint32_t offset, uint32_t width, uint64_t value)
{
	if (!is_access(offset, width))
		return -EINVAL;
	controller_enter(c);
	write_dword(c, offset, (uint32_t)value);
	if (width == 8)
		write_dword(c, offset + 4, (uint32_t)(value >> 32));
	controller_leave(c);
	return 0;
}

void controller_reset(struct controller *c)
{
	controller_enter(c);
	disable(c);
	c->cc = c->aqa = 0;
	c->asq = c->acq = 0;
	controller_leave(c);
}

/* --- polling --------------------------------------------------------------------------------- */

void controller_complete(struct controller *c, const struct sq *sq, uint32_t sqid, uint16_t cid,
			 uint16_t status, uint32_t dw0)
{
	struct cq *cq = &c->cqs[sq->cqid];
	uint64_t *entry = (uint64_t *)&cq->entries[cq->tail];
	uint64_t second = sq->head | (uint64_t)sqid << 16 | (uint64_t)cid << 32 |
			  (uint64_t)(uint16_t)(status << 1 | cq->phase) << 48;

	entry[0] = dw0;
	/* The phase tag comes last, in one store with its CID. */
	__atomic_store_n(&entry[1], second, __ATOMIC_RELEASE);
	if (++cq->tail == cq->size) {
		cq->tail = 0;
		cq->phase ^= 1;
	}
}

/* The host's doorbell is read only when the queue looks full: its line is the host's to write. */
static inline int cq_is_full(struct controller *c, struct cq *cq, uint32_t cqid)
{
	uint32_t next = cq->tail + 1 == cq->size ? 0 : cq->tail + 1;

	if (next != cq->head)
		return 0;
	cq->head = __atomic_load_n(&c->doorbells[2 * cqid + 1], __ATOMIC_ACQUIRE);
	return next == cq->head;
}

static void interrupt(const struct controller *c, const struct cq *cq)
{
	const uint64_t one = 1;

	if (c->events[cq->vector] >= 0)
		if (write(c->events[cq->vector], &one, sizeof(one)) < 0)
			return; /* the eventfd is full: it is readable all the more */
}

static uint32_t poll_admin(struct controller *c, uint32_t tail)
{
	struct sq *sq = &c->sqs[0];
	uint32_t count = 0;

	/* A command may fail the controller, and with it drop this queue. */
	while (sq->entries && sq->head != tail && !cq_is_full(c, &c->cqs[0], 0)) {
		struct nvme_sqe sqe = sq->entries[sq->head];
		uint32_t dw0 = 0;
		uint16_t status = controller_admin(c, &sqe, &dw0);

		sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1;
		if (status != NO_COMPLETION)
			controller_complete(c, sq, 0, sqe.cid, status, dw0);
		count++;
	}
	if (count && c->cqs[0].interrupts)
		interrupt(c, &c->cqs[0]);
	return count;
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

	while (sq->head != tail && !cq_is_full(c, cq, sq->cqid)) {
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

/* The same as poll_sq() for commands that take their time: each is fetched, held, then executed. */
static uint32_t poll_held(struct controller *c, uint32_t qid, uint32_t tail)
{
	struct sq *sq = &c->sqs[qid];
	struct cq *cq = &c->cqs[sq->cqid];
	uint64_t now = nvme_ticks();
	uint32_t count = 0, kept = 0;

	for (; sq->head != tail; sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1) {
		struct held *held = &sq->held[sq->held_count];

		if (sq->held_count == sq->size)
			break;
		held->sqe = sq->entries[sq->head];
		held->due = due_at(c, now);
		if (!sq->held_count || held->due < sq->next_due)
			sq->next_due = held->due;
		sq->held_count++;
		c->held++;
	}
	if (sq->held_count > c->log.deepest)
		c->log.deepest = sq->held_count;
	if (!sq->held_count || now < sq->next_due)
		return 0;
	sq->next_due = UINT64_MAX;
	for (uint32_t i = 0; i < sq->held_count; i++) {
		struct held *held = &sq->held[i];

		if (held->due <= now && !cq_is_full(c, cq, sq->cqid)) {
			controller_complete(c, sq, qid, held->sqe.cid, execute(c, &held->sqe), 0);
			count++;
			continue;
		}
		if (held->due < sq->next_due)
			sq->next_due = held->due;
		sq->held[kept++] = *held;
	}
	sq->held_count = kept;
	c->held -= count;
	return count;
}

static uint32_t poll_io(struct controller *c, uint32_t qid, uint32_t tail)
{
	uint32_t count = c->sqs[qid].held ? poll_held(c, qid, tail) : poll_sq(c, qid, tail);
	const struct cq *cq = &c->cqs[c->sqs[qid].cqid];

	if (count && cq->interrupts)
		interrupt(c, cq);
	return count;
}

uint32_t controller_poll(struct controller *c)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < c->live_count; i++) {
		uint32_t qid = c->live[i];
		uint32_t tail = __atomic_load_n(&c->doorbells[2 * qid], __ATOMIC_ACQUIRE);

		if (tail == c->sqs[qid].head && !c->sqs[qid].held_count)
			continue;
		if (tail >= c->sqs[qid].size) {
			controller_fail(c);
			break;
		}
		count += qid ? poll_io(c, qid, tail) : poll_admin(c, tail);
	}
	return count;
}
