/*
 * An NVMe controller in software: the minimum of a correct one (NVMe Base 2.0, NVM Command Set
 * 1.0), for tests and benchmarks of the driver.
 *
 * Its registers are read and written by calls, its doorbells and everything that it reaches by DMA
 * are memory. It polls: controller_poll() looks at every submission queue once, in a thread of its own
 * (controller_start()) or in the driver's, where the driver alone is to be counted.
 *
 * Without storage (`storage` NULL) reads and writes complete at once and move no data; with it
 * they do. Either way the SMART log counts them, so that a benchmark can hold its own count against
 * the controller's, and a log of its own (struct controller_log) counts more. One namespace.
 *
 * It can be told to take its time, and to do wrong while it says success.
 *
 * Left out: metadata, fused commands, Format, Verify, Copy, several page sizes, arbitration,
 * asynchronous events (requests are kept for ever).
 */
#ifndef PYNVME_USER_CONTROLLER_H
#define PYNVME_USER_CONTROLLER_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

struct controller;

/* What it does wrong. `fault_value` is what each says. */
enum controller_fault {
	FAULT_NONE,
	FAULT_READ_FLIP,    /* that bit of what a read brings is wrong */
	FAULT_WRITE_FLIP,   /* that bit of what a write stores is wrong */
	FAULT_TORN_WRITE,   /* only so many blocks, the first, of a longer write are stored */
	FAULT_LOST_WRITE,   /* nothing is stored */
	FAULT_MISDIRECTED,  /* stored so many blocks away */
	FAULT_STALE_READ,   /* data from before the last write, where the new data was read before */
	FAULT_STATUS,       /* a read or write fails with that status, SCT in 10:8 and SC in 7:0 */
	FAULT_KEPT,         /* what is deallocated stays, as the specification allows */
	FAULTS
};

struct controller_config {
	uint8_t *storage; /* `blocks` blocks, the caller's; NULL: none */
	uint64_t blocks;
	uint32_t block_shift; /* log2 of the block size */
	uint32_t mqes;	      /* CAP.MQES: entries of a queue, minus 1 */
	uint32_t queues;      /* I/O queues of each kind, up to 128 */
	uint32_t mdts;	      /* 0: no limit */
	uint64_t delay_ns;    /* how long each I/O command takes */
	uint64_t slow_ns;     /* how long each `slow_every`th takes */
	uint32_t slow_every;  /* 0: none */
	uint32_t in_turn;     /* they take their time one after the other, not together */
	uint32_t fault;	      /* enum controller_fault */
	uint32_t fault_every; /* in each so-many-th command that can have it */
	int64_t fault_value;
	uint32_t *doorbells;  /* one page, the caller's */
};

/*
 * A vendor's admin command that begins anew, as the controller was made: storage zeroed, log too,
 * and for the fault, CDW10 its kind, CDW11 in each so-many-th, CDW13 and CDW12 its value.
 */
#define CONTROLLER_RENEW 0xc0

#define CONTROLLER_LOG	   0xc0 /* LID of the log below, for Get Log Page */
#define CONTROLLER_PLANTED 64

/* I/O commands since the controller was made (or renewed), and where the first faults were planted. */
struct controller_log {
	uint64_t reads;
	uint64_t writes;
	uint64_t fua_writes; /* of these */
	uint64_t trims;	     /* Dataset Management */
	uint64_t flushes;
	uint64_t deepest;    /* most commands of one queue that took their time at once */
	uint64_t planted;    /* faults */
	uint64_t lbas[CONTROLLER_PLANTED]; /* where the commands begin that have them */
};

/* Make a controller, disabled. The caller frees it. NULL without memory or for a bad config. */
struct controller *controller_new(const struct controller_config *config);

/* End its thread and free it. Frees nothing that the caller gave. */
void controller_free(struct controller *c);

/*
 * All that follows, except controller_poll(), may be called while its thread runs; from one thread
 * at a time.
 */

/*
 * Give the 4096 bytes, copied, that Identify returns for `cns`; up to 16 of them. `per_namespace`
 * pages are for namespace 1 alone. Returns 0 or -ENOSPC.
 */
int controller_set_page(struct controller *c, uint32_t cns, int per_namespace, const void *page);

/* Let the controller reach memory of the caller's. Returns 0, -EEXIST, -EINVAL or -ENOSPC. */
int controller_map(struct controller *c, uint64_t iova, uint64_t length, void *address);

/*
 * Take memory back; returns its address, or NULL where no such mapping is. The controller fails
 * (CSTS.CFS) if a queue of its lies there.
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

/* Look at each queue once; returns how many commands were completed. Does not wait. */
uint32_t controller_poll(struct controller *c);

/*
 * Poll in a thread of the controller's own until controller_stop() or controller_free(). After some
 * milliseconds without a command it sleeps for 50 us between looks, unless `spin` is set. Returns 0
 * or the negative errno of pthread_create().
 */
int controller_start(struct controller *c, int spin);

/* End that thread, if there is one; returns when it has ended. */
void controller_stop(struct controller *c);

/* cdef: end */

#endif
