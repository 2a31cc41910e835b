/* What the files of the controller share. */
#ifndef PYNVME_USER_TESTING_INTERNAL_H
#define PYNVME_USER_TESTING_INTERNAL_H

#include <pthread.h>

#include "_ring.h"
#include "_controller.h"

#define PAGE_SIZE   4096u
#define QUEUES_MAX  129u /* with the admin queue */
#define REGIONS_MAX 128u
#define VECTORS_MAX 256u
#define PAGES_MAX   16u
#define AER_MAX	    4u

#define FORCE_UNIT_ACCESS (1u << 30) /* of a write's CDW12 */

/* Status field: SCT in 10:8, SC in 7:0, DNR in 14 (NVMe Base 2.0, section 3.3.3.2.1). */
enum status {
	SUCCESS = 0x0000,
	INVALID_OPCODE = 0x4001,
	INVALID_FIELD = 0x4002,
	DATA_TRANSFER_ERROR = 0x0004,
	ABORTED_SQ_DELETION = 0x0008,
	INVALID_NAMESPACE = 0x400b,
	COMMAND_SEQUENCE_ERROR = 0x400c,
	INVALID_SGL_DESCRIPTOR = 0x400d,
	DATA_SGL_LENGTH_INVALID = 0x400f,
	SGL_TYPE_INVALID = 0x4011,
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
	NO_COMPLETION = 0xffff, /* the command is kept */
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

struct region {
	uint64_t iova;
	uint64_t length;
	uint8_t *address;
};

struct page {
	uint32_t cns;
	int per_namespace;
	uint8_t data[PAGE_SIZE];
};

/* A command that was fetched and takes its time. */
struct held {
	struct nvme_sqe sqe;
	uint64_t due; /* ticks */
};

struct sq {
	struct nvme_sqe *entries; /* NULL: there is no such queue */
	struct held *held;	  /* room for `size`, in the order of arrival; only with a delay */
	uint32_t held_count;
	uint32_t size;
	uint32_t head;
	uint32_t cqid;
	uint64_t next_due; /* of those that are held */
	uint64_t iova;
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
};

struct controller {
	struct controller_config config;
	volatile uint32_t *doorbells;
	uint64_t delay_ticks, slow_ticks;
	uint64_t arrivals;   /* I/O commands that were given a time to take */
	uint64_t busy_until; /* with `in_turn`: when the last one of them ends */
	uint32_t held;	     /* commands of all queues that take their time */
	struct sq sqs[QUEUES_MAX];
	struct cq cqs[QUEUES_MAX];
	uint32_t live[QUEUES_MAX]; /* the submission queues that there are */
	uint32_t live_count;
	struct controller_log log;
	uint64_t candidates; /* commands that could have the fault */
	uint8_t *previous;   /* what each block held before its last write; for FAULT_STALE_READ */
	uint8_t *was_read;   /* of each block, since its last write; likewise */

	uint32_t cc, csts, aqa, intm;
	uint64_t asq, acq;
	uint16_t command; /* PCI */
	uint32_t features[256];
	uint16_t aers[AER_MAX];
	uint32_t aer_count;
	int created; /* an I/O queue was, since the reset */

	struct region regions[REGIONS_MAX];
	uint32_t region_count;
	uint32_t last_region;
	struct page pages[PAGES_MAX];
	uint32_t page_count;
	int events[VECTORS_MAX];

	pthread_t thread;
	int spin, started;
	/* The running thread and its visitors: see controller_enter(). */
	int running, stop, entering, entered;
};

/* Where `length` bytes at `iova` are here; NULL if they do not all lie in one mapping. */
void *controller_translate(struct controller *c, uint64_t iova, uint64_t length);

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
 * Set the fault that is to be planted, from now on. Returns 0, or -EINVAL or -ENOMEM, then with
 * none.
 */
int controller_set_fault(struct controller *c, uint32_t kind, uint32_t every, int64_t value);

/* Zero blocks of the storage, if there is one. */
void controller_zero_blocks(struct controller *c, uint64_t lba, uint64_t blocks);

/* Whether the turn of this command, which could have the fault, has come; notes that it has it. */
int controller_is_turn(struct controller *c, uint64_t lba);

/* Whether `kind` is to be planted in this command. */
static inline int controller_plants(struct controller *c, enum controller_fault kind, uint64_t lba)
{
	return c->config.fault == kind && controller_is_turn(c, lba);
}

/* Execute a command; a status, or NO_COMPLETION. */
uint16_t controller_io(struct controller *c, const struct nvme_sqe *sqe);
uint16_t controller_admin(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0);

/* Fail until the next reset: CSTS.CFS. */
void controller_fail(struct controller *c);

/* Write a completion. The queue has room. */
void controller_complete(struct controller *c, const struct sq *sq, uint32_t sqid, uint16_t cid,
			 uint16_t status, uint32_t dw0);

#endif
