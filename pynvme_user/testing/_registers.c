/* Registers, and what writing them does. */
#include "_internal.h"

#include <stdlib.h>
#include <string.h>

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

#define CC_EN		     1u
#define CC_CSS		     0x0070u
#define CC_CSS_ALL	     0x0060u
#define CC_MPS_AMS	     0x3f80u
#define CC_SHN		     0xc000u
#define CC_ENTRY_SIZES	     0x00ff0000u
#define CC_ENTRY_SIZES_64_16 0x00460000u
#define CSTS_SHST	     0x0cu
#define CSTS_SHST_COMPLETE   0x08u

#define PCI_COMMAND_MASTER	 0x0004u
#define PCI_COMMAND_INTX_DISABLE 0x0400u

void controller_fail(struct controller *c)
{
	c->csts |= CSTS_CFS;
	controller_drop_queues(c);
}

/* Where a queue of the administrator's lies; NULL where none may. */
static void *admin_queue(struct controller *c, uint64_t iova, uint64_t length,
			 enum controller_use use)
{
	void *entries = controller_translate(c, iova, length);

	return entries && controller_may(c, use) ? entries : NULL;
}

static void disable(struct controller *c)
{
	controller_drop_queues(c);
	memset(c->features, 0, sizeof(c->features));
	c->features[0x07] = (c->config.queues - 1) * 0x10001u;
	c->csts = 0;
	c->intm = 0;
}

/* The NVM command set, or, where a model has others, all. */
static int is_command_set(const struct controller *c)
{
	uint32_t css = c->cc & CC_CSS;

	return !css || (c->config.model && css == CC_CSS_ALL);
}

/* CC.EN 0 to 1 (section 3.5.1): what does not fit is CSTS.CFS. */
static void enable(struct controller *c)
{
	uint32_t sq_size = (c->aqa & 0xfff) + 1, cq_size = (c->aqa >> 16 & 0xfff) + 1;
	void *sq = admin_queue(c, c->asq, (uint64_t)sq_size * sizeof(struct nvme_sqe),
			       CONTROLLER_SQS);
	void *cq = admin_queue(c, c->acq, (uint64_t)cq_size * sizeof(struct nvme_cqe),
			       CONTROLLER_CQS);

	disable(c);
	c->resets++;
	/* As SPDK's target does: INTx that is on, where nobody has asked for it, is a mistake. */
	if (!(c->command & PCI_COMMAND_MASTER) || !(c->command & PCI_COMMAND_INTX_DISABLE) ||
	    c->cc & CC_MPS_AMS || !is_command_set(c) || (c->cc & CC_ENTRY_SIZES) != CC_ENTRY_SIZES_64_16 || !sq ||
	    !cq || c->asq % PAGE_SIZE || c->acq % PAGE_SIZE || sq_size < 2 || cq_size < 2) {
		controller_fail(c);
		return;
	}
	c->sqs[0] = (struct sq){
		.entries = sq,
		.held = calloc(sq_size, sizeof(struct held)),
		.size = sq_size,
		.next_due = NEVER,
		.iova = c->asq,
	};
	if (!c->sqs[0].held || c->quirks & CONTROLLER_FATAL_AT_ENABLE) {
		controller_fail(c);
		return;
	}
	c->cqs[0] = (struct cq){
		.entries = cq, .size = cq_size, .phase = 1, .interrupts = 1, .iova = c->acq
	};
	controller_connect_sq(c, 0);
	controller_connect_cq(c, 0);
	c->live[c->live_count++] = 0;
	c->csts = CSTS_RDY;
}

static void write_cc(struct controller *c, uint32_t value)
{
	uint32_t before = c->cc;

	c->cc = value;
	if (value & CC_EN && !(before & CC_EN)) {
		if (!(c->quirks & CONTROLLER_NEVER_READY) && !(c->csts & CSTS_RDY))
			enable(c);
	} else if (!(value & CC_EN) && before & CC_EN) {
		if (!(c->quirks & CONTROLLER_NEVER_DISABLED))
			disable(c);
	}
	/* Nothing is cached, so that a shutdown is over at once. */
	if (value & CC_SHN && !(before & CC_SHN) && !(c->quirks & CONTROLLER_NEVER_SHUT_DOWN))
		c->csts = (c->csts & ~CSTS_SHST) | CSTS_SHST_COMPLETE;
}

static void write_dword(struct controller *c, uint32_t offset, uint32_t value)
{
	if (c->quirks & CONTROLLER_IS_GONE)
		return;
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
	default:
		controller_own_memory_write(c, offset, value);
	}
}

static uint32_t read_dword(const struct controller *c, uint32_t offset)
{
	/* MQES, contiguous queues (16), the time-out (31:24), DSTRD (35:32), NVM commands (37) and,
	 * with a model, others (43). */
	uint64_t cap = c->config.mqes | 1u << 16 | c->config.to << 24 |
		       (uint64_t)c->config.dstrd << 32 | UINT64_C(1) << 37 |
		       (uint64_t)(c->config.model != 0) << 43;

	if (c->quirks & CONTROLLER_IS_GONE)
		return UINT32_MAX;
	switch (offset) {
	case CAP:
		return (uint32_t)cap;
	case CAP + 4:
		return (uint32_t)(cap >> 32) | controller_own_memory_cap(c);
	case VS:
		return c->config.version;
	case INTMS:
	case INTMC:
		return c->intm;
	case CC:
		return c->cc;
	case CSTS:
		return __atomic_load_n(&c->csts, __ATOMIC_ACQUIRE);
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
	return controller_own_memory_read(c, offset);
}

static int is_access(uint32_t offset, uint32_t width)
{
	return (width == 4 || width == 8) && !(offset % width) && offset + width <= PAGE_SIZE;
}

int controller_read(struct controller *c, uint32_t offset, uint32_t width, uint64_t *value)
{
	if (!is_access(offset, width))
		return -EINVAL;
	/* As hardware does, at any time: what is read changes in one store. */
	*value = read_dword(c, offset);
	if (width == 8)
		*value |= (uint64_t)read_dword(c, offset + 4) << 32;
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
	controller_own_memory_reset(c);
	controller_leave(c);
}

void controller_set_quirks(struct controller *c, uint32_t quirks)
{
	controller_enter(c);
	c->quirks = quirks;
	controller_leave(c);
}

void controller_set_fatal(struct controller *c)
{
	controller_enter(c);
	controller_fail(c);
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
