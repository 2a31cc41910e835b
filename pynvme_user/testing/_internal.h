/* What the files of the controller share. */
#ifndef PYNVME_USER_TESTING_INTERNAL_H
#define PYNVME_USER_TESTING_INTERNAL_H

#include <pthread.h>

#include "_ring.h"
#include "_controller.h"

#define PAGE_SIZE   4096u
#define QUEUES_MAX  ((uint32_t)CONTROLLER_QUEUES)
#define VECTORS_MAX 256u
#define PAGES_MAX   16u
#define RULES_MAX   64u
#define CMB_MAX	    (UINT64_C(1) << 30)
#define AER_MAX	    4u

#define NEVER UINT64_MAX

#define FORCE_UNIT_ACCESS (1u << 30) /* of a write's CDW12 */

/* Status field: SCT in 10:8, SC in 7:0, DNR in 14 (NVMe Base 2.0, section 3.3.3.2.1). */
enum status {
	SUCCESS = 0x0000,
	INVALID_OPCODE = 0x4001,
	INVALID_FIELD = 0x4002,
	DATA_TRANSFER_ERROR = 0x0004,
	INTERNAL_ERROR = 0x4006,
	ABORTED_BY_REQUEST = 0x0007,
	ABORTED_SQ_DELETION = 0x0008,
	INVALID_NAMESPACE = 0x400b,
	COMMAND_SEQUENCE_ERROR = 0x400c,
	INVALID_SGL_DESCRIPTOR = 0x400d,
	DATA_SGL_LENGTH_INVALID = 0x400f,
	SGL_TYPE_INVALID = 0x4011,
	INVALID_USE_OF_CMB = 0x4012,
	PRP_OFFSET_INVALID = 0x4013,
	LBA_OUT_OF_RANGE = 0x4080,
	CQ_INVALID = 0x4100,
	INVALID_QID = 0x4101,
	INVALID_QUEUE_SIZE = 0x4102,
	AER_LIMIT_EXCEEDED = 0x4105,
	INVALID_VECTOR = 0x4108,
	INVALID_LOG_PAGE = 0x4109,
	INVALID_QUEUE_DELETION = 0x410c,
	NOT_SAVEABLE = 0x410d,
	COMPARE_FAILURE = 0x0285,
	KEPT = 0xffff,	/* no status: the command is kept */
	ASKED = 0xfffe, /* nor this: the model says it */
};

/* I/O commands, NVM Command Set 1.0 figure 19, and Flush. */
enum opcode {
	OPC_FLUSH = 0x00,
	OPC_WRITE = 0x01,
	OPC_READ = 0x02,
	OPC_COMPARE = 0x05,
	OPC_WRITE_ZEROES = 0x08,
	OPC_DATASET_MANAGEMENT = 0x09,
};

#define ASYNC_EVENT_REQUEST 0x0c /* an admin command */

/* CSTS, NVMe Base 2.0 section 3.1.3.6. */
#define CSTS_RDY 1u
#define CSTS_CFS 2u

struct region {
	uint64_t iova;
	uint64_t length;
	uint8_t *address;
	uint32_t uses; /* enum controller_use */
};

#define ALL_USES UINT32_MAX /* of the host's memory */

struct page {
	uint32_t cns;
	int per_namespace;
	uint8_t data[PAGE_SIZE];
};

/* A command that was fetched and does not end at once. */
struct held {
	struct nvme_sqe sqe;
	uint64_t due;	 /* ticks; NEVER: kept */
	int64_t value;	 /* of the rule */
	uint32_t action; /* enum controller_action */
	uint64_t result; /* dwords 0 and 1 of its completion */
	int done;
};

struct rule {
	struct controller_rule rule;
	uint32_t id;
	uint64_t delay; /* ticks */
};

struct sq {
	struct nvme_sqe *entries; /* NULL: there is no such queue */
	struct held *held;	  /* room for `size`, in the order of arrival */
	uint32_t held_count;
	uint32_t size;
	uint32_t head;
	uint32_t cqid;
	uint64_t next_due; /* of those that are held */
	uint64_t iova;
	const volatile uint32_t *bell; /* its tail: the doorbell, or the host's shadow of it */
	volatile uint32_t *event;      /* with a shadow: its event index; else NULL */
};

struct cq {
	struct nvme_cqe *entries; /* NULL: there is no such queue */
	uint32_t size;
	uint32_t tail;
	uint32_t head; /* as last read from the doorbell */
	uint32_t sqs;  /* submission queues that complete here */
	uint16_t phase;
	uint16_t vector;
	int interrupts; /* Interrupts Enabled */
	uint64_t iova;
	const volatile uint32_t *bell; /* its head, likewise */
	volatile uint32_t *event;
};

struct controller {
	struct controller_config config;
	volatile uint32_t *doorbells;
	uint32_t stride; /* of doorbells: log2 of how many apart */
	uint64_t delay_ticks, slow_ticks;
	uint64_t arrivals;   /* I/O commands that were given a time to take */
	uint64_t busy_until; /* with `in_turn`: when the last one of them ends */
	int one_by_one;	     /* I/O commands take time, or there are rules */
	struct sq sqs[QUEUES_MAX];
	struct cq cqs[QUEUES_MAX];
	uint32_t live[QUEUES_MAX]; /* the submission queues that there are */
	uint32_t live_count;
	struct controller_log log;
	struct rule rules[RULES_MAX];
	uint32_t rule_count;
	uint32_t last_rule; /* the id given last */
	uint8_t *previous;  /* what each block held before its last write; for stale reads */
	uint8_t *was_read;  /* of each block, since its last write; likewise */

	uint32_t cc, csts, aqa, intm;
	uint64_t cmbmsc;
	uint32_t cmbsts;
	uint64_t pmrmsc; /* PMRMSCU, PMRMSCL */
	uint32_t pmrctl, pmr_invalid;
	uint32_t pmrsts; /* of it, what does not come from the host */
	uint64_t asq, acq;
	uint16_t command; /* PCI */
	uint32_t quirks;
	uint32_t features[256];
	int created; /* an I/O queue was, since the reset */
	uint32_t resets;
	/* Of the host, each a page; NULL until Doorbell Buffer Config. */
	volatile uint32_t *shadow, *event_index;
	uint64_t shadow_iova, event_index_iova;

	struct region *regions; /* by IOVA */
	uint32_t region_count, region_room;
	uint32_t last_region;
	struct page pages[PAGES_MAX];
	uint32_t page_count;
	int events[VECTORS_MAX];

	/* A page of its own, of which a forked child finds zeros: there, nothing runs. */
	volatile int *here;
	pthread_t thread;
	int started;
	enum controller_wait wait;
	/* The thread and its visitors: see controller_enter(). */
	pthread_mutex_t visitor;
	int running, stop, entering, entered;
	int asleep; /* a futex */
};

/* The doorbell of a submission queue; the next is its completion queue's. */
static inline volatile uint32_t *controller_bell(const struct controller *c, uint32_t qid, int cq)
{
	return &c->doorbells[(size_t)(2 * qid + (cq != 0)) << c->stride];
}

uint16_t controller_configure_doorbells(struct controller *c, const struct nvme_sqe *sqe);

/* Say where a queue's doorbell is that has just been made. */
void controller_connect_sq(struct controller *c, uint32_t qid);
void controller_connect_cq(struct controller *c, uint32_t qid);

/*
 * With shadow doorbells: ask the host for the doorbell behind each value that stands there now. Returns
 * 0 if one of them has changed meanwhile, for which no doorbell may come.
 */
int controller_ask_doorbells(const struct controller *c);

/*
 * Let the caller alone see and change the controller until controller_leave(): the thread is
 * between two rounds then. In `answer`, where the caller is in the midst of one, nothing happens.
 */
void controller_enter(struct controller *c);
void controller_leave(struct controller *c);

/* Without a thread: do what is to be done now. Entered. */
void controller_settle(struct controller *c);

/* Tell whose `answer` this thread is about to call; NULL afterwards. */
void controller_answering(const struct controller *c);

/* Look at each queue once; returns how many commands ended. Does not wait. */
uint32_t controller_poll(struct controller *c);

/* When the next command ends that takes its time, in ticks; NEVER. */
uint64_t controller_next_due(const struct controller *c);

uint64_t controller_ticks_of(uint64_t ns);

/* Take all queues away, with what is in them, and the shadow doorbells. */
void controller_drop_queues(struct controller *c);

/* Where `length` bytes at `iova` are here; NULL if they do not all lie in one mapping. */
void *controller_translate(struct controller *c, uint64_t iova, uint64_t length);

/* Whether what controller_translate() has just found may be used so. */
static inline int controller_may(const struct controller *c, enum controller_use use)
{
	return (c->regions[c->last_region].uses & use) != 0;
}

/* Add a region, or remove one and tell where it is here: see controller_map(). Entered. */
int controller_region_add(struct controller *c, uint64_t iova, uint64_t length, void *address,
			  uint32_t uses);
void *controller_region_remove(struct controller *c, uint64_t iova, uint64_t length);

/* The registers of memory of the controller's own; of others 0, and a write is lost. */
uint32_t controller_own_memory_read(const struct controller *c, uint32_t offset);
void controller_own_memory_write(struct controller *c, uint32_t offset, uint32_t value);

/* Bits 63:32 of CAP that tell of it. */
uint32_t controller_own_memory_cap(const struct controller *c);

/* Forget where the host has put it, as at power on. */
void controller_own_memory_reset(struct controller *c);

/* What becomes of the bytes that a command's data pointer describes. */
enum move { TO_HOST, FROM_HOST, COMPARE };

/* Move or compare `length` bytes between `media` and a command's data pointer; a status. */
uint16_t controller_move(struct controller *c, const struct nvme_sqe *sqe, enum move move,
			 uint8_t *media, uint64_t length);

/*
 * The same for `blocks` blocks at `lba` and the storage, with the fault that is to be planted. The
 * range is inside of the namespace.
 */
uint16_t controller_read_blocks(struct controller *c, const struct nvme_sqe *sqe, uint64_t lba,
				uint64_t blocks);
uint16_t controller_write_blocks(struct controller *c, const struct nvme_sqe *sqe, uint64_t lba,
				 uint64_t blocks);

/*
 * The first rule, in the order of their making, with that fault of data for an I/O command and these
 * blocks of it, whose turn it is: counted and logged. NULL: none.
 */
const struct controller_rule *controller_plants(struct controller *c, const struct nvme_sqe *sqe,
						enum controller_action action, uint64_t lba,
						uint64_t blocks);

/* Find the rule for a command that arrives; EXECUTE without delay where there is none. */
void controller_judge(struct controller *c, uint32_t qid, struct held *held);

int controller_rule_add(struct controller *c, const struct controller_rule *rule);

/* Remove all rules. */
void controller_rules_clear(struct controller *c);

/* Zero blocks of the storage, if there is one. */
void controller_zero_blocks(struct controller *c, uint64_t lba, uint64_t blocks);

/* Execute a command; a status, KEPT, or ASKED: the model does, if it does not leave it to here. */
uint16_t controller_io(struct controller *c, const struct nvme_sqe *sqe);
uint16_t controller_admin(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0);
uint16_t controller_admin_here(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0);

/* What a command ends with that is not for this file: `status`, or what the model says. */
static inline uint16_t controller_refused(const struct controller *c, enum status status)
{
	return c->config.model ? ASKED : status;
}

/* Fail until the next reset: CSTS.CFS. */
void controller_fail(struct controller *c);

/* Write a completion. The queue has room. */
void controller_complete(struct controller *c, const struct sq *sq, uint32_t sqid, uint16_t cid,
			 uint16_t status, uint64_t result);

/* End a command that is held, or fetched next, with a status soon; -ENOENT where there is none. */
int controller_end_held(struct controller *c, uint32_t qid, uint16_t cid, uint16_t status);

#endif
