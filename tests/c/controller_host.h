/*
 * A host of the software controller: its memory, queues and registers. Each command is posted and
 * its completion taken by hand.
 */
#ifndef CONTROLLER_HOST_H
#define CONTROLLER_HOST_H

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "_controller.h"
#include "null_controller.h"
#include "test.h"

#define PAGE   4096u
#define BLOCKS 256u
#define IOVA   UINT64_C(0x7000000000)
#define PAGES  64u /* of the host: 4 of queues, 2 of shadow doorbells, the others of data */
#define SHADOW 4u  /* the first of the two */
#define DEPTH  16u
#define CMB    4u /* pages */

struct queue {
	struct nvme_sqe *sq;
	struct nvme_cqe *cq;
	uint32_t qid, tail, head;
	uint16_t phase;
};

struct host {
	struct controller *c;
	uint8_t *memory; /* PAGES, mapped at IOVA */
	uint8_t *storage;
	uint8_t *cmb;
	uint32_t *doorbells;
	struct queue admin, io;
	uint32_t stride;
	volatile uint32_t *shadow, *event_index; /* NULL: the controller is not asked for them */
	uint32_t rung; /* doorbells of I/O queues */
	int waits; /* the controller has a thread */
	uint16_t cid;
};

/* What `answer` is to say, and what it was asked. */
struct answer {
	int is_model;
	uint32_t says;
	uint32_t asked;
	int had_next;
	uint8_t data[512];
};

static uint32_t answer(void *context, struct controller_call *call)
{
	struct answer *answer = context;
	const struct nvme_sqe *sqe = call->sqe;
	uint8_t queues[CONTROLLER_QUEUES];

	answer->asked++;
	CHECK(call->value == (answer->is_model ? 0 : 77));
	CHECK(call->resets);
	answer->had_next = call->next != NULL;
	call->dw0 = 0xabcd;
	call->dw1 = 0xef;
	if (sqe->opc == 1 && !answer->is_model)
		CHECK(!controller_call_move(call, 0, answer->data, sizeof(answer->data)));
	if (sqe->opc == 2 && !answer->says)
		CHECK(!controller_call_move(call, 1, answer->data, sizeof(answer->data)));
	/* Of these it may call nothing else, but a read of its own state does no harm. */
	controller_get_queues(call->controller, queues);
	CHECK(queues[0] == 3);
	return answer->says;
}

static uint8_t *page(const struct host *host, uint32_t number)
{
	return host->memory + (size_t)number * PAGE;
}

static uint64_t iova_of(uint32_t number)
{
	return IOVA + (uint64_t)number * PAGE;
}

/* Whether the register is to be written, too: the doorbell passes the event index (appendix B.5). */
static int write_shadow(struct host *host, uint32_t index, uint16_t value)
{
	uint16_t before = (uint16_t)host->shadow[index], event;

	__atomic_store_n(&host->shadow[index], value, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = (uint16_t)__atomic_load_n(&host->event_index[index], __ATOMIC_ACQUIRE);
	return (uint16_t)(value - event - 1) < (uint16_t)(value - before);
}

static void ring(struct host *host, uint32_t qid, int cq, uint32_t value)
{
	uint64_t at = (uint64_t)((2 * qid + (uint32_t)cq) << host->stride) * 4;

	if (qid && host->shadow && !write_shadow(host, 2 * qid + (uint32_t)cq, (uint16_t)value))
		return;
	host->rung += qid > 0;
	CHECK(!controller_doorbell(host->c, at, value));
}

static void post(struct host *host, struct queue *queue, struct nvme_sqe sqe)
{
	queue->sq[queue->tail] = sqe;
	queue->tail = (queue->tail + 1) % DEPTH;
	ring(host, queue->qid, 0, queue->tail);
}

/* Take the next completion; 0 if there is none, at once or, with a thread, for a while. */
static int take(struct host *host, struct queue *queue, struct nvme_cqe *cqe, uint32_t ms)
{
	struct nvme_cqe *entry = &queue->cq[queue->head];

	for (uint32_t i = 0; (__atomic_load_n(&entry->status, __ATOMIC_ACQUIRE) & 1) != queue->phase;
	     i++) {
		if (!host->waits || i == ms * 10)
			return 0;
		usleep(100);
	}
	*cqe = *entry;
	queue->head = (queue->head + 1) % DEPTH;
	queue->phase ^= !queue->head;
	ring(host, queue->qid, 1, queue->head);
	return 1;
}

/* Run a command to its end; returns its status, with `result` its dword 0. */
static uint16_t run(struct host *host, struct queue *queue, struct nvme_sqe sqe, uint32_t *result)
{
	struct nvme_cqe cqe;

	sqe.cid = ++host->cid;
	post(host, queue, sqe);
	CHECK(take(host, queue, &cqe, 10000));
	CHECK(cqe.cid == sqe.cid);
	CHECK(cqe.sqid == queue->qid);
	if (result)
		*result = cqe.dw0;
	return cqe.status >> 1;
}

static struct nvme_sqe io(uint8_t opc, uint32_t lba, uint32_t blocks, uint32_t at)
{
	struct nvme_sqe sqe = { .opc = opc, .nsid = 1, .prp1 = iova_of(at) };

	sqe.cdw10 = lba;
	sqe.cdw12 = blocks - 1;
	if (blocks * 512 > PAGE)
		sqe.prp2 = iova_of(at + 1);
	return sqe;
}

static void write_register(struct host *host, uint32_t offset, uint32_t width, uint64_t value)
{
	CHECK(!controller_write(host->c, offset, width, value));
}

static uint32_t csts(struct host *host)
{
	uint64_t value;

	CHECK(!controller_read(host->c, 0x1c, 4, &value));
	return (uint32_t)value;
}

static struct nvme_sqe doorbell_buffer_config(uint32_t shadow, uint32_t event_index)
{
	return (struct nvme_sqe){
		.opc = 0x7c, .prp1 = iova_of(shadow), .prp2 = iova_of(event_index)
	};
}

static void use_shadow(struct host *host)
{
	host->shadow = (volatile uint32_t *)page(host, SHADOW);
	host->event_index = (volatile uint32_t *)page(host, SHADOW + 1);
}

/* Enable the controller, and make an I/O queue pair. */
static void start(struct host *host)
{
	host->admin = (struct queue){
		.sq = (void *)page(host, 0), .cq = (void *)page(host, 1), .phase = 1
	};
	host->io = (struct queue){
		.sq = (void *)page(host, 2), .cq = (void *)page(host, 3), .qid = 1, .phase = 1
	};
	memset(host->memory, 0, 4 * PAGE);
	write_register(host, 0x24, 4, (DEPTH - 1) << 16 | (DEPTH - 1));
	write_register(host, 0x28, 8, iova_of(0));
	write_register(host, 0x30, 8, iova_of(1));
	write_register(host, 0x14, 4, 0x00460001);
	CHECK(csts(host) == 1);
	if (host->shadow) {
		memset(page(host, SHADOW), 0, 2 * PAGE);
		CHECK(!run(host, &host->admin, doorbell_buffer_config(SHADOW, SHADOW + 1), NULL));
	}
	CHECK(!run(host, &host->admin,
		   (struct nvme_sqe){ .opc = 5,
				      .prp1 = iova_of(3),
				      .cdw10 = (DEPTH - 1) << 16 | 1,
				      .cdw11 = 1 },
		   NULL));
	CHECK(!run(host, &host->admin,
		   (struct nvme_sqe){ .opc = 1,
				      .prp1 = iova_of(2),
				      .cdw10 = (DEPTH - 1) << 16 | 1,
				      .cdw11 = 1 << 16 | 1 },
		   NULL));
}

static void host_init(struct host *host, struct answer *answers, int wait, uint32_t stride,
		      uint32_t shadow)
{
	struct controller_config config = {
		.blocks = BLOCKS,
		.block_shift = 9,
		.mqes = DEPTH - 1,
		.queues = 2,
		.mdts = 1,
		.dstrd = stride,
		.version = 0x20000,
		.to = 10,
		.answer = answer,
		.context = answers,
		.shadow = shadow,
		.model = (uint32_t)answers->is_model,
	};

	*host = (struct host){
		.memory = aligned_alloc(PAGE, PAGES * PAGE),
		.storage = allocate(BLOCKS, 512),
		.cmb = allocate(CMB, PAGE),
		.doorbells = allocate(1, PAGE << stride),
		.stride = stride,
		.waits = wait >= 0,
	};
	CHECK(host->memory);
	if (shadow)
		use_shadow(host);
	memset(host->memory, 0, PAGES * PAGE);
	config.storage = host->storage;
	config.cmb = host->cmb;
	config.cmb_length = CMB * PAGE;
	config.cmb_uses = CONTROLLER_WDS;
	config.doorbells = host->doorbells;
	host->c = controller_new(&config);
	CHECK(host->c);
	CHECK(!controller_map(host->c, IOVA, PAGES * PAGE, host->memory));
	for (uint32_t cns = 0; cns < 3; cns++)
		CHECK(!controller_set_page(host->c, cns, cns == 0, host->memory));
	controller_set_command(host->c, 0x406);
	if (wait >= 0)
		CHECK(!controller_start(host->c, (enum controller_wait)wait));
	start(host);
}

static void host_free(struct host *host)
{
	controller_free(host->c);
	free(host->memory);
	free(host->storage);
	free(host->cmb);
	free(host->doorbells);
}

static inline int order(struct host *host, uint32_t action, int32_t opcode, int64_t value)
{
	const struct controller_rule rule = {
		.action = action,
		.opcode = opcode,
		.qid = -1,
		.nth = 1,
		.every = 1,
		.times = 1,
		.value = value,
	};
	int id = controller_add_rule(host->c, &rule);

	CHECK(id > 0);
	return id;
}

#endif
