/*
 * An NVMe controller in software: the minimum of a correct one (NVMe Base 2.0, NVM Command Set
 * 1.0), for tests and benchmarks of the driver, and rules that make it an incorrect one.
 *
 * Its registers are read and written by calls; doorbells and all that it reaches by DMA are memory.
 * It executes commands in a thread of its own (controller_start()), or, without one, in the call
 * that rings a doorbell (controller_doorbell()), where the driver alone is to be counted.
 *
 * Without storage (`storage` NULL) reads and writes complete at once and move no data; with it
 * they do. Either way the SMART log counts them, so that a benchmark can hold its own count against
 * the controller's, and a log of its own (struct controller_log) counts more. One namespace.
 *
 * Left out: metadata, fused commands, Format, Verify, Copy, several page sizes, arbitration, events
 * of its own (controller_event() sends one). A model (`model` of the configuration) may do what of
 * these are commands.
 */
#ifndef PYNVME_USER_CONTROLLER_H
#define PYNVME_USER_CONTROLLER_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

struct controller;

#define CONTROLLER_QUEUES 512 /* with the admin queue: as many doorbells as a page has */

/*
 * What a rule does with a command. Up to CONTROLLER_KEPT_TRIM it says success, and its data is
 * wrong; only commands that can have the fault count.
 */
enum controller_action {
	CONTROLLER_EXECUTE,	/* as always: for the delay's sake */
	CONTROLLER_READ_FLIP,	/* that bit of what a read brings is wrong */
	CONTROLLER_WRITE_FLIP,	/* that bit of what a write stores is wrong */
	CONTROLLER_TORN_WRITE,	/* only so many blocks, the first, of a longer write are stored */
	CONTROLLER_LOST_WRITE,	/* nothing is stored */
	CONTROLLER_MISDIRECTED, /* stored so many blocks away */
	CONTROLLER_STALE_READ,	/* data from before the last write, where the new was read before */
	CONTROLLER_STATUS,	/* not executed: it ends with that status, without its phase tag */
	CONTROLLER_KEPT_TRIM,	/* what is deallocated stays, as the specification allows */
	CONTROLLER_KEEP,	/* not executed, nor completed before it is aborted */
	CONTROLLER_LOSE,	/* not executed, never completed, and no Abort finds it */
	CONTROLLER_TWICE,	/* executed, and completed twice */
	CONTROLLER_WRONG_CID,	/* executed, and completed with its CID exclusive-or'ed with that */
	CONTROLLER_WRONG_SQID,	/* likewise its queue's id */
	CONTROLLER_WRONG_PHASE, /* executed; its completion has the phase tag of the entry before */
	CONTROLLER_FATAL,	/* the controller fails: CSTS.CFS */
	CONTROLLER_GONE,	/* it is gone: registers read all ones, nothing is executed any more */
	CONTROLLER_ANSWER,	/* what the `answer` of the configuration says */
	CONTROLLER_ACTIONS
};

/* Which commands a rule is for. */
enum controller_queues { CONTROLLER_IO, CONTROLLER_ADMIN, CONTROLLER_ANY };

struct controller_rule {
	uint32_t action; /* enum controller_action */
	uint32_t queues; /* enum controller_queues */
	int32_t opcode;	 /* -1: any; -2: Read and Write */
	int32_t qid;	 /* of the submission queue; -1: any */
	uint64_t lba;	 /* only commands that touch one of `blocks` blocks from here on; */
	uint64_t blocks; /* 0: any command */
	uint64_t nth;	 /* from the so-manyth match on, 1 or more, */
	uint64_t every;	 /* each so-manyth, 1 or more, */
	uint64_t times;	 /* so many times; 0: for ever */
	uint64_t delay_ns;
	int64_t value;
	uint64_t seen, acted; /* matches, and how many of them the rule was for */
};

/* What `answer` says instead of a status (with DNR and More, 15 bits). */
#define CONTROLLER_ANSWER_EXECUTE 0x10000
#define CONTROLLER_ANSWER_KEEP	  0x10001
#define CONTROLLER_ANSWER_LOSE	  0x10002
#define CONTROLLER_ANSWER_FATAL	  0x10003
#define CONTROLLER_ANSWER_GONE	  0x10004

/* A command that `answer` is asked about; for as long as that lasts. */
struct controller_call {
	int64_t value; /* of the rule; 0: nobody but the model knows the command */
	uint32_t qid;
	uint32_t dw0, dw1; /* of the completion, where it is not executed: 0 at first */
	const void *sqe;   /* 64 bytes */
	const void *next;  /* the command that was announced behind it; NULL: none */
	struct controller *controller;
	uint32_t resets; /* how often the controller was enabled */
};

/* What may lie in memory of the controller's own: CMBSZ, bits 4:0 (Base 2.1, 3.1.4.12). */
enum controller_use {
	CONTROLLER_SQS = 1,
	CONTROLLER_CQS = 2,
	CONTROLLER_LISTS = 4,
	CONTROLLER_RDS = 8,
	CONTROLLER_WDS = 16
};

struct controller_config {
	uint8_t *storage; /* `blocks` blocks, the caller's; NULL: none */
	uint64_t blocks;
	uint32_t block_shift; /* log2 of the block size */
	uint32_t mqes;	      /* CAP.MQES: entries of a queue, minus 1 */
	uint32_t queues;      /* I/O queues of each kind, up to 511 */
	uint32_t mdts;	      /* 0: no limit */
	uint32_t dstrd;	      /* CAP.DSTRD, up to 10 */
	uint32_t version;     /* VS */
	uint32_t to;	      /* CAP.TO, in 500 ms */
	uint64_t delay_ns;    /* how long each I/O command takes */
	uint64_t slow_ns;     /* how long each `slow_every`th takes */
	uint32_t slow_every;  /* 0: none */
	uint32_t in_turn;     /* they take their time one after the other, not together */
	uint32_t shadow;      /* it has shadow doorbells: not with `dstrd` or `model` */
	uint32_t *doorbells;  /* the caller's: two for each queue, DSTRD apart; 4 KiB or more */
	/* Answers for rules that ask. Called without a lock of the driver's; of this header it
	 * calls controller_call_move(), controller_post() and what tells but changes nothing.
	 * May be NULL. */
	uint32_t (*answer)(void *context, struct controller_call *call);
	void *context;
	/*
	 * `answer` is a model of all that is left out here: it is asked about each admin command
	 * but those of queues and Abort, and about I/O that would be refused, and says a status,
	 * EXECUTE (of an admin command: as without a model) or KEEP.
	 */
	uint32_t model;
	/* The Controller Memory Buffer, in BAR2: `cmb_length` bytes, whole pages, the caller's; NULL:
	 * there is none. */
	uint8_t *cmb;
	uint64_t cmb_length;
	uint32_t cmb_uses; /* enum controller_use */
	uint64_t cmb_at;   /* it is always there, as before NVMe 1.4; 0: where CMBMSC says */
	/* The Persistent Memory Region, BAR3, likewise. */
	uint8_t *pmr;
	uint64_t pmr_length;
	uint32_t pmrcap; /* what PMRCAP says, but for where it is */
};

/*
 * A vendor's admin command that begins anew, as the controller was made: storage zeroed, log too,
 * no rule but the one that CDW10 (action), CDW11 (each so-many-th; 0: none), CDW13 and CDW12 (value)
 * say.
 */
#define CONTROLLER_RENEW 0xc0

#define CONTROLLER_LOG	   0xc0 /* LID of the log below, for Get Log Page */
#define CONTROLLER_PLANTED 64

/* I/O commands since the controller was made (or renewed), and where rules first acted. */
struct controller_log {
	uint64_t reads;
	uint64_t writes;
	uint64_t fua_writes; /* of these */
	uint64_t trims;	     /* Dataset Management */
	uint64_t flushes;
	uint64_t deepest;    /* most commands of one queue that took their time at once */
	uint64_t planted;    /* faults, by rules for I/O commands */
	uint64_t lbas[CONTROLLER_PLANTED]; /* where the commands begin that have them */
};

/* Make a controller, disabled. The caller frees it. NULL without memory or for a bad config. */
struct controller *controller_new(const struct controller_config *config);

/* End its thread and free it. Frees nothing that the caller gave. */
void controller_free(struct controller *c);

/*
 * How its thread waits when nothing is to be done: it never sleeps; or it looks again each 50 us,
 * where doorbells are memory of the host's; or it sleeps until controller_doorbell() wakes it.
 */
enum controller_wait { CONTROLLER_SPIN, CONTROLLER_NAP, CONTROLLER_SLEEP };

/*
 * Execute commands in a thread of the controller's own until controller_stop() or
 * controller_free(). Returns 0 or the negative errno of pthread_create().
 */
int controller_start(struct controller *c, enum controller_wait wait);

/* End that thread, if there is one; returns when it has ended. */
void controller_stop(struct controller *c);

/*
 * Ring the doorbell `address` bytes from the first: the `post` of struct nvme_doorbell. Without a
 * thread, execute what is to be done. In a forked child nothing happens. Returns 0, or -EINVAL where
 * no doorbell is.
 */
int controller_doorbell(void *controller, uint64_t address, uint32_t value);

/* All that follows may be called from any thread, while the controller runs, too. */

/*
 * Give the 4096 bytes, copied, that Identify returns for `cns`; up to 16 of them. `per_namespace`
 * pages are for namespace 1 alone. A page that is there is replaced. Returns 0 or -ENOSPC.
 */
int controller_set_page(struct controller *c, uint32_t cns, int per_namespace, const void *page);

/*
 * Add a rule. Of the rules that match a command the first acts; a fault of data acts beside one.
 * Returns its id, from 1 on, or -EINVAL, -ENOSPC for more than 64, -ENOMEM.
 */
int controller_add_rule(struct controller *c, const struct controller_rule *rule);

/* Copy a rule with its counts. Returns 0 or -ENOENT. */
int controller_get_rule(struct controller *c, uint32_t id, struct controller_rule *rule);

/* Remove a rule, or all for 0. What it keeps stays kept. Returns 0 or -ENOENT. */
int controller_remove_rule(struct controller *c, uint32_t id);

/* Let what is kept go on: each command ends with `status`; returns how many there were. */
uint32_t controller_release(struct controller *c, uint16_t status);

/*
 * Copy the 64 bytes and the queue's id of a kept command, the first having the index 0; those of
 * Asynchronous Event Request are not among them. Returns 0, or -ENOENT: there are not so many.
 */
int controller_get_kept(struct controller *c, uint32_t index, void *sqe, uint32_t *qid);

/* End a command that takes its time or is kept with that status. Returns 0 or -ENOENT. */
int controller_end(struct controller *c, uint32_t qid, uint16_t cid, uint16_t status);

/*
 * Post a completion in a submission queue's completion queue, whether a command has that CID or
 * not. Returns 0, -ENOENT without such a queue, or -EAGAIN: there is no room.
 */
int controller_post(struct controller *c, uint32_t qid, uint16_t cid, uint16_t status, uint32_t dw0);

/*
 * Tell which queues there are: for each id below CONTROLLER_QUEUES, bit 0 is a submission queue, bit
 * 1 a completion queue.
 */
void controller_get_queues(struct controller *c, uint8_t *queues);

/* End an Asynchronous Event Request with that dword 0. Returns 0, or -EAGAIN: there is none. */
int controller_event(struct controller *c, uint32_t dw0);

/*
 * Where there is a model: ask it again about each Asynchronous Event Request that is kept. `answer`
 * may call it.
 */
void controller_ask_events(struct controller *c);

/*
 * Say what namespace 1 is from now on: `blocks` 0 leaves all of its I/O to the model. `storage` as in
 * the configuration. `answer` may call it.
 */
void controller_set_namespace(struct controller *c, uint8_t *storage, uint64_t blocks,
			      uint32_t block_shift);

/* What it does wrong besides commands; a bit each. */
#define CONTROLLER_NEVER_READY	    1 /* CC.EN has no effect */
#define CONTROLLER_NEVER_DISABLED   2 /* once ready, it stays: only the bus's reset helps */
#define CONTROLLER_FATAL_AT_ENABLE  4
#define CONTROLLER_NEVER_SHUT_DOWN  8
#define CONTROLLER_IS_GONE	    16
void controller_set_quirks(struct controller *c, uint32_t quirks);

/*
 * Say what PMRSTS has from now on (NVMe Base 2.1, 3.1.4.24): ERR, HSTS, and NRDY, which stays then
 * whatever the host does.
 */
void controller_set_pmrsts(struct controller *c, uint32_t pmrsts);

/* Fail until the next reset: CSTS.CFS. */
void controller_set_fatal(struct controller *c);

void controller_get_log(struct controller *c, struct controller_log *log);

/*
 * In `answer`: move the command's data to or from the host. Returns a status, 0 for success.
 */
uint16_t controller_call_move(struct controller_call *call, int to_host, void *data,
			      uint64_t length);

/* Likewise bytes at an address that the command has elsewhere, such as MPTR. */
uint16_t controller_call_move_at(struct controller_call *call, int to_host, uint64_t iova,
				 void *data, uint64_t length);

/* Let the controller reach memory of the caller's. Returns 0, -EEXIST, -EINVAL or -ENOMEM. */
int controller_map(struct controller *c, uint64_t iova, uint64_t length, void *address);

/*
 * Take memory back; returns its address, or NULL where no such mapping is. The controller fails
 * (CSTS.CFS) if a queue of its or the shadow doorbells lie there.
 */
void *controller_unmap(struct controller *c, uint64_t iova, uint64_t length);

/* Read or write a register of 4 or 8 bytes, or half of one. Returns 0 or -EINVAL. */
int controller_read(struct controller *c, uint32_t offset, uint32_t width, uint64_t *value);
int controller_write(struct controller *c, uint32_t offset, uint32_t width, uint64_t value);

/* Tell the PCI command register. No bus master: no DMA, and enabling fails. */
void controller_set_command(struct controller *c, uint16_t command);

/* Give an interrupt vector (0 to 255) its eventfd, the caller's; -1 takes it away. */
void controller_set_event(struct controller *c, uint32_t vector, int fd);

/* Reset as the bus does: registers, queues and features as at power on. Mappings stay. */
void controller_reset(struct controller *c);

/* cdef: end */

#endif
