/*
 * NVMe queue pairs: the polled submission and completion rings (NVMe Base 2.0, section 3.3).
 *
 * Plain C11 without Python, so that it can be tested, sanitised and read alone. Nothing here
 * allocates memory, takes a lock or calls the system, except where that is asked for: a doorbell
 * may be a posted message where the device has no memory-mapped one (struct nvme_doorbell), and a
 * queue pair may sleep for its interrupt (struct nvme_interrupt).
 *
 * One queue pair belongs to one thread.
 */
#ifndef PYNVME_USER_RING_H
#define PYNVME_USER_RING_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "_clock.h"

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* Submission queue entry, NVMe Base 2.0 figure 86. */
struct nvme_sqe {
	uint8_t opc;
	uint8_t flags; /* FUSE 1:0, PSDT 7:6 */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2;
	uint32_t cdw3;
	uint64_t mptr;
	uint64_t prp1; /* PRP entry 1, or the SGL descriptor's address */
	uint64_t prp2; /* PRP entry 2, or the SGL descriptor's length and type */
	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};

/* Completion queue entry, NVMe Base 2.0 figure 90. */
struct nvme_cqe {
	uint32_t dw0;
	uint32_t dw1;
	uint16_t sqhd;
	uint16_t sqid;
	uint16_t cid;
	uint16_t status; /* phase tag in bit 0, the status field above it */
};

/*
 * A doorbell register. `mmio` where it is mapped; otherwise `post` sends the write to `address`
 * without waiting and returns 0 or a negative errno. With shadow doorbells (Doorbell Buffer
 * Config, section 5.8) the value goes to `shadow`, and the register is written only when the
 * controller asked for it through `event_index`.
 */
struct nvme_doorbell {
	volatile uint32_t *mmio;
	int (*post)(void *context, uint64_t address, uint32_t value);
	void *context;
	uint64_t address;
	volatile uint32_t *shadow;
	volatile uint32_t *event_index;
	uint32_t value;  /* what the device was told last */
	uint64_t writes; /* to the register, by store or by message: a fact for benchmarks */
};

/*
 * How a completion queue's interrupt is waited for. `event_fd` becomes readable when it fires, and
 * `event_size` bytes read from it make it wait for the next one: an eventfd has 8, /dev/uioN 4.
 *
 * An interrupt that the kernel masks when it fires (INTx) is armed again by writing `rearm_size`
 * bytes of `rearm_value` to `rearm_fd`, at `rearm_offset` unless that is negative. `masked` then
 * tells, to all queue pairs that share the interrupt, that this is still to be done.
 */
struct nvme_interrupt {
	int event_fd; /* -1: none, the queue is polled */
	int event_size;
	int rearm_fd; /* -1: nothing to do, and `masked` is NULL */
	int rearm_size;
	int64_t rearm_offset;
	uint64_t rearm_value;
	uint32_t *masked;
	uint32_t shared; /* with other queue pairs, which may take the event before this one */
};

/*
 * What is known of a command. Four to a cache line, found by the index in the low bits of its CID.
 *
 * The bits above the index are a generation, which moves on whenever a command has its outcome: a
 * completion counts only if its CID is the one that the tracker expects, so that a duplicate or a
 * late one is told from the next command's. There are 65536 / nvme_qpair_trackers(depth)
 * generations: up to depth 4,095 sixteen, beyond depth 32,767 one.
 */
struct nvme_tracker {
	uint64_t submitted; /* in ticks, at the doorbell; before it UNANNOUNCED */
	uint32_t user;      /* the caller's number for the command */
	uint16_t cid;       /* expected; while none is, the next one with every bit of the index set */
	uint16_t next_free; /* the free list's link, a CID; of a tracker that is in no list, its own */
};

/* One reaped completion, for the caller. */
struct nvme_completion {
	uint64_t latency_ns; /* from submission to the reaping poll */
	uint32_t user;
	uint32_t dw0;
	uint32_t dw1;
	uint16_t cid;
	uint16_t status; /* the 15-bit status field, without the phase tag */
};

/*
 * A queue pair. The caller owns all memory that is pointed to and keeps it for the life of the
 * pair. `depth` commands can be outstanding; both queues have depth + 1 entries or more, so neither
 * can overflow and the submission head need not be looked at.
 */
struct nvme_qpair {
	/* the first line: what every submission and completion reads or writes */
	struct nvme_sqe *sq;
	struct nvme_cqe *cq;
	struct nvme_tracker *trackers;
	uint32_t sq_tail;
	uint32_t cq_head;
	uint32_t sq_entries;
	uint32_t cq_entries;
	uint32_t index_mask;     /* of a CID; no command has it as its index, so FFFFh is never sent */
	uint32_t outstanding;
	uint64_t expected;       /* of a new completion's second half: see cq_peek() */
	uint32_t page_size;      /* 4 KiB << CC.MPS */
	uint16_t free_head;      /* CID of the next command; LIFO: its lines are still in the cache */
	uint16_t generation;     /* what a CID's next generation adds to it, or 0 */
	/* a line each: once per batch, and more seldom */
	struct nvme_doorbell sq_doorbell;
	struct nvme_doorbell cq_doorbell;
	uint64_t completed;       /* a fact for benchmarks */
	uint32_t depth;
	uint32_t cq_unreported;   /* reaped entries that the device was not told of */
	uint32_t cq_slack;        /* entries that may stay so: cq_entries - depth - 1, or 0 */
	/* for transfers of more than two pages */
	uint64_t *prp_lists;      /* `prp_list_entries` for each CID */
	uint32_t prp_list_entries;
	uint32_t use_sgl;         /* one data block descriptor instead of a PRP list */
	uint64_t prp_lists_iova;
	uint16_t coalesce;          /* completions worth waiting for at once: see nvme_cq_await() */
	uint16_t coalesce_max;      /* what that may grow to: depth / 4 up to COALESCE, or 1 */
	uint32_t sq_ahead;        /* bytes from the tail to the entry that is fetched, not in use either */
	uint32_t burst;            /* completions, or commands to a doorbell, of a loop's burst at most */
	/* read when there is nothing to reap */
	struct nvme_interrupt interrupt;
	uint64_t spin_ns; /* with an interrupt: spin for so long before sleeping */
	int error;        /* of a completion doorbell that could not be sent; stays */
};

/* What nvme_qpair_init() needs; see struct nvme_qpair for the members of the same name. */
struct nvme_qpair_config {
	void *sq;
	void *cq;
	struct nvme_tracker *trackers; /* nvme_qpair_trackers(depth) of them */
	const uint16_t *cids;          /* to begin with, one for each of the depth; NULL: generation 0 */
	uint64_t *prp_lists;
	uint64_t prp_lists_iova;
	uint32_t prp_list_entries;
	uint32_t page_shift;
	uint32_t depth;
	uint32_t sq_entries; /* depth + 1 or more; what is more lets the tail's lines be fetched early */
	uint32_t cq_entries; /* depth + 1 or more; what is more spares completion doorbells */
	uint16_t qid;
	uint16_t use_sgl;
	uint16_t plain_cids; /* all of generation 0, for a controller that wants CIDs below the depth */
};

/* A read-like command of a namespace: all that its transfers have in common. */
struct nvme_command_template {
	struct nvme_sqe command; /* opcode, nsid, cdw12 (without NLB) and cdw13 of each */
	uint64_t block_count;    /* of the namespace */
	uint32_t block_shift;    /* log2 of the block size in bytes */
	uint32_t max_blocks;     /* what one command carries; 65536 at most */
};

/*
 * One transfer, as the caller writes it into memory: for Python, to which each argument of a call is
 * dear. The first four words are of each, the others stay. All pointed to is the caller's.
 */
struct nvme_transfer {
	const struct nvme_command_template *template;
	uint64_t lba;
	uint64_t iova;
	uint64_t length; /* in bytes */
	struct nvme_qpair *qp;
	uint64_t timeout_ns;
};

/* How many trackers a queue pair of a depth of 1..65535 has: the power of two above the depth. */
uint32_t nvme_qpair_trackers(uint32_t depth);

/*
 * Initialise a queue pair on zeroed ring memory, for polling. Returns 0, or -EINVAL for a depth
 * outside 1..65535, a queue that is not larger than that or larger than 65536 entries, or a page
 * size outside 4 KiB..128 MiB. Does not talk to the device, and leaves both
 * doorbells for the caller to fill in.
 */
int nvme_qpair_init(struct nvme_qpair *qp, const struct nvme_qpair_config *config);

/*
 * Begin anew on queues that the controller made again and that are zeroed. No command may be
 * outstanding: see nvme_qpair_abort_all(). The CIDs go on where they were.
 */
void nvme_qpair_restart(struct nvme_qpair *qp);

/*
 * Let waits sleep for an interrupt once they have spun for `spin_ns`. From then on the device is
 * told of each batch of completions at once: its interrupt depends on it.
 */
void nvme_qpair_use_interrupt(struct nvme_qpair *qp, const struct nvme_interrupt *interrupt,
			      uint64_t spin_ns);

/*
 * Put one command into the submission queue; the command's CID and, for length > 0, its data
 * pointer are filled in for `length` bytes at `iova` (contiguous, dword-aligned). length 0 leaves
 * the data pointer as the caller made it. Returns the CID, -EAGAIN if no CID is free, -EINVAL for a
 * misaligned address, -EMSGSIZE if the PRP list cannot hold it, -EPROTO if nothing is outstanding
 * and the completion queue has an entry all the same. Does NOT ring the doorbell.
 */
int nvme_qpair_submit(struct nvme_qpair *qp, const struct nvme_sqe *command, uint64_t iova,
		      uint32_t length, uint32_t user);

/*
 * Tell the device of everything submitted; the commands' time begins. Returns 0, or a negative errno
 * if a posted doorbell could not be sent. Does nothing when the tail has not moved.
 */
int nvme_qpair_doorbell(struct nvme_qpair *qp);

/*
 * With a shadow doorbell, write the register whatever the event index says. For the rare case that
 * a controller and its shadow doorbells lost a wake-up; called from slow paths only. Returns as
 * nvme_qpair_doorbell(). Does nothing without a shadow doorbell: the register has the tail already, and
 * to write a value twice is an error there.
 */
int nvme_qpair_kick(struct nvme_qpair *qp);

/*
 * Run one command that reads or writes `length` bytes at `iova`, and wait for it: `command` with
 * `lba` in CDW10 and 11 and `cdw12`. Returns its 15-bit status field, or -ETIME if it was submitted
 * and has not completed within `timeout_ns`: it is outstanding then. Else nothing was submitted:
 * -EBUSY if other commands are outstanding, or as nvme_qpair_submit(). -EPROTO, of either kind, and
 * the errno of a doorbell as nvme_qpair_poll().
 */
int nvme_qpair_transfer(struct nvme_qpair *qp, const struct nvme_sqe *command, uint64_t lba,
			uint32_t cdw12, uint64_t iova, uint32_t length, uint64_t timeout_ns);

/*
 * Run a transfer by nvme_qpair_transfer(). Returns what that does, or -ERANGE, nothing submitted, if
 * its length is not whole blocks that one command carries, or they are not all in the namespace.
 */
int nvme_transfer_run(const struct nvme_transfer *transfer);

/*
 * Reap up to `max` completions into `out` and tell the device once. Returns their number, which
 * may be 0, or -EPROTO for a completion that names no outstanding command, one that was not announced
 * or another queue (the entry is left in place: the controller is to be reset), or the negative errno
 * of an earlier doorbell once no completion is left. Does not wait.
 */
int nvme_qpair_poll(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max);

/*
 * As nvme_qpair_poll(), but waits until there is at least one completion or `timeout_ns` passed;
 * 0 then means that time ran out. Spins; with an interrupt, spins for `spin_ns` and then sleeps.
 */
int nvme_qpair_wait(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max,
		    uint64_t timeout_ns);

/*
 * Wait as nvme_qpair_wait(), but take nothing: 1 once a completion is there, 0 after `timeout_ns`.
 * For a thread beside the one that the queue pair belongs to: it changes nothing, and what it reads
 * while that one reaps makes it return early at worst, or look once more.
 */
int nvme_qpair_await(const struct nvme_qpair *qp, uint64_t timeout_ns);

/*
 * Reap what there is, tell the device of everything submitted, and where there was nothing wait for
 * up to `timeout_ns` (0: look once more). In this order, since what is completed before the doorbell
 * is no completion of what the doorbell announces. Returns as nvme_qpair_wait().
 */
int nvme_qpair_reap(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max,
		    uint64_t timeout_ns);

/*
 * End every outstanding command, into `out` (room for `depth`), with `status` in each. Only for a
 * caller that knows that the device's DMA has stopped. Returns their number. Their CIDs are not given
 * out again before nvme_qpair_release(): to be called once the caller has handed over the outcomes.
 */
int nvme_qpair_abort_all(struct nvme_qpair *qp, struct nvme_completion *out, uint16_t status);

/*
 * Set the time of every announced command to now: the clock stepped, and their ages say nothing.
 */
void nvme_qpair_restamp(struct nvme_qpair *qp);

/* Make the CIDs of abandoned commands free. Looks at every tracker: for slow paths. */
void nvme_qpair_release(struct nvme_qpair *qp);

/*
 * Find the command that was announced the longest ago. Returns its CID and sets `age_ns`, or -1 where
 * there is none. Looks at every tracker: for slow paths.
 */
int nvme_qpair_oldest(const struct nvme_qpair *qp, uint64_t *age_ns);

/*
 * See whether each CID is either outstanding or, once, in the free list. Returns 0 or -EPROTO. Looks
 * at every tracker: for tests.
 */
int nvme_qpair_check(const struct nvme_qpair *qp);

/* Sizes and offsets of sqe and cqe as the compiler laid them out, for the test against spec/. */
uint32_t nvme_layout(const char *structure, const char *member);

/* cdef: end */

_Static_assert(sizeof(struct nvme_sqe) == 64, "SQE");
_Static_assert(sizeof(struct nvme_cqe) == 16, "CQE");
_Static_assert(sizeof(struct nvme_tracker) == 16, "four trackers to a cache line");
_Static_assert(offsetof(struct nvme_qpair, sq_doorbell) == 64, "the hot members fill one line");
_Static_assert(sizeof(struct nvme_doorbell) == 64, "a doorbell fills one line");

#endif
