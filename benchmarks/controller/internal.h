/* What the files of the controller share. */
#ifndef NVME_CONTROLLER_INTERNAL_H
#define NVME_CONTROLLER_INTERNAL_H

#include "_ring.h"
#include "controller.h"

#define PAGE_SIZE   4096u
#define QUEUES_MAX  129u /* with the admin queue */
#define REGIONS_MAX 128u
#define VECTORS_MAX 256u
#define PAGES_MAX   16u
#define AER_MAX	    4u

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

struct sq {
	struct nvme_sqe *entries; /* NULL: there is no such queue */
	uint64_t *arrived;	  /* when each was seen first, in ticks; only with a delay */
	uint32_t size;
	uint32_t head;
	uint32_t seen; /* up to where `arrived` is known */
	uint32_t cqid;
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
	uint64_t delay_ticks;
	struct sq sqs[QUEUES_MAX];
	struct cq cqs[QUEUES_MAX];
	uint32_t live[QUEUES_MAX]; /* the submission queues that there are */
	uint32_t live_count;
	uint64_t reads, writes; /* since it was made */

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

/* Execute a command; a status, or NO_COMPLETION. */
uint16_t controller_io(struct controller *c, const struct nvme_sqe *sqe);
uint16_t controller_admin(struct controller *c, const struct nvme_sqe *sqe, uint32_t *dw0);

/* Fail until the next reset: CSTS.CFS. */
void controller_fail(struct controller *c);

/* Write a completion. The queue has room. */
void controller_complete(struct controller *c, const struct sq *sq, uint32_t sqid, uint16_t cid,
			 uint16_t status, uint32_t dw0);

#endif
