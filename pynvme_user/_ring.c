/*
 * NVMe queue pairs. See _ring.h for what each function does and does not do.
 *
 * Ordering, in one place:
 *  - a command is written before the doorbell that announces it: a full barrier stands before
 *    every doorbell, since a shadow doorbell's store must also precede the load of its event
 *    index (NVMe Base 2.0, section 5.8 and appendix B.5);
 *  - a completion's status word, which carries the phase tag, is loaded with acquire order before
 *    anything else of the entry is read.
 */
#define _POSIX_C_SOURCE 200809L
#include "_ring.h"

#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE_LIST_ENTRIES(qp, cid) ((qp)->prp_lists + (size_t)(cid) * (qp)->prp_list_entries)
#define NO_CID UINT16_MAX

/* SC in 7:0 and SCT in 10:8 of the status field: success is both, whole, being 0. */
#define STATUS_CODE_AND_TYPE 0x7ff

/* SQE flags, PSDT (figure 87): the data pointer is an SGL, metadata a contiguous buffer. */
#define PSDT_SGL 0x40

/*
 * Who shares an interrupt may have its event taken by another queue pair between its last look at
 * the queue and its sleep: it looks again after so long.
 */
#define SHARED_SLEEP_NS 1000000

/* Clock reads are about 20 ns each: a spinning loop looks at the time once in so many rounds. */
#define SPINS_PER_CLOCK_READ 64

/* --- time -------------------------------------------------------------------------------- */

static uint64_t tick_rate;
static uint64_t ns_per_tick; /* 32.32 fixed point */

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t nvme_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#else
	return clock_ns();
#endif
}

uint64_t nvme_tick_rate(void)
{
	if (!tick_rate) {
		uint64_t ns = clock_ns();
		uint64_t ticks = nvme_ticks();
		uint64_t elapsed;

		/* 5 ms against a clock good to 100 ns: an error of 2 in 100,000. */
		while ((elapsed = clock_ns() - ns) < 5000000)
			;
		ticks = nvme_ticks() - ticks;
		tick_rate = (uint64_t)((unsigned __int128)ticks * 1000000000u / elapsed);
		ns_per_tick = (uint64_t)(((unsigned __int128)elapsed << 32) / ticks);
	}
	return tick_rate;
}

static inline uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * ns_per_tick) >> 32);
}

static inline void spin_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* --- doorbells --------------------------------------------------------------------------- */

static inline int doorbell_write(struct nvme_qpair *qp, struct nvme_doorbell *db, uint32_t value)
{
	qp->doorbell_writes++;
	if (db->mmio) {
		*db->mmio = value;
		return 0;
	}
	return db->post(db->context, db->address, value);
}

/*
 * True if the step from `old` to `new` passed the controller's event index. Ring indices wrap at
 * the queue's size, not at 2^16, so the distances are taken in 16 bits as the specification's
 * appendix B.5 does: a spurious doorbell is harmless, a missing one is not.
 */
static inline int doorbell_needed(uint16_t event_index, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event_index - 1) < (uint16_t)(new - old);
}

static inline int doorbell_update(struct nvme_qpair *qp, struct nvme_doorbell *db, uint32_t value)
{
	uint32_t old = db->value;

	db->value = value;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (db->shadow) {
		*db->shadow = value;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!doorbell_needed((uint16_t)*db->event_index, (uint16_t)value, (uint16_t)old))
			return 0;
	}
	return doorbell_write(qp, db, value);
}

/* --- submission -------------------------------------------------------------------------- */

int nvme_qpair_init(struct nvme_qpair *qp, const struct nvme_qpair_config *config)
{
	if (config->depth < 1 || config->depth > UINT16_MAX || config->page_shift < 12 ||
	    config->page_shift > 27)
		return -EINVAL;

	*qp = (struct nvme_qpair){
		.sq = config->sq,
		.cq = config->cq,
		.trackers = config->trackers,
		.prp_lists = config->prp_lists,
		.prp_lists_iova = config->prp_lists_iova,
		.prp_list_entries = config->prp_list_entries,
		.page_shift = config->page_shift,
		.entries = config->depth + 1,
		.depth = config->depth,
		.use_sgl = config->use_sgl,
		.qid = config->qid,
		.phase = 1,
		.interrupt = { .event_fd = -1, .rearm_fd = -1 },
	};
	for (uint32_t cid = 0; cid < qp->depth; cid++)
		qp->trackers[cid] = (struct nvme_tracker){
			.next_free = cid + 1 < qp->depth ? (uint16_t)(cid + 1) : NO_CID,
		};
	nvme_tick_rate();
	return 0;
}

/*
 * PRP entries for `length` bytes at `iova` (section 4.1.1): the first may start anywhere in its
 * page, all others start a page. Two pages need no list. Returns 0, or -EMSGSIZE.
 */
static inline int sqe_set_prps(const struct nvme_qpair *qp, struct nvme_sqe *sqe, uint16_t cid,
			       uint64_t iova, uint32_t length)
{
	uint64_t page = UINT64_C(1) << qp->page_shift;
	uint64_t next = (iova | (page - 1)) + 1;
	uint64_t end = iova + length;

	sqe->prp1 = iova;
	if (end <= next) {
		sqe->prp2 = 0;
	} else if (end <= next + page) {
		sqe->prp2 = next;
	} else {
		uint64_t *list = PAGE_LIST_ENTRIES(qp, cid);
		uint64_t count = (end - next + page - 1) >> qp->page_shift;

		if (count > qp->prp_list_entries)
			return -EMSGSIZE;
		for (uint64_t i = 0; i < count; i++)
			list[i] = next + (i << qp->page_shift);
		sqe->prp2 = qp->prp_lists_iova + (uint64_t)cid * qp->prp_list_entries * 8;
	}
	return 0;
}

static inline int sqe_set_data(const struct nvme_qpair *qp, struct nvme_sqe *sqe, uint16_t cid,
			       uint64_t iova, uint32_t length)
{
	if (iova & 3)
		return -EINVAL;
	/* An SGL pays only where PRPs would need a list in memory. */
	if (qp->use_sgl && length > (2u << qp->page_shift)) {
		sqe->flags |= PSDT_SGL;
		sqe->prp1 = iova;
		sqe->prp2 = length; /* figure 94: length in 31:0, type 0h (data block) in 63:60 */
		return 0;
	}
	return sqe_set_prps(qp, sqe, cid, iova, length);
}

int nvme_qpair_submit(struct nvme_qpair *qp, const struct nvme_sqe *command, uint64_t iova,
		      uint32_t length, uint32_t user)
{
	struct nvme_tracker *tracker;
	struct nvme_sqe *sqe;
	uint16_t cid;
	int err;

	if (qp->outstanding == qp->depth)
		return -EAGAIN;

	cid = qp->free_head;
	tracker = &qp->trackers[cid];
	sqe = &qp->sq[qp->sq_tail];
	*sqe = *command;
	sqe->cid = cid;
	if (length) {
		err = sqe_set_data(qp, sqe, cid, iova, length);
		if (err)
			return err;
	}

	qp->free_head = tracker->next_free;
	qp->outstanding++;
	tracker->outstanding = 1;
	tracker->user = user;
	tracker->submitted = nvme_ticks();
	if (++qp->sq_tail == qp->entries)
		qp->sq_tail = 0;
	return cid;
}

int nvme_qpair_ring(struct nvme_qpair *qp)
{
	if (qp->sq_tail == qp->sq_doorbell.value)
		return 0;
	return doorbell_update(qp, &qp->sq_doorbell, qp->sq_tail);
}

int nvme_qpair_kick(struct nvme_qpair *qp)
{
	if (!qp->sq_doorbell.shadow)
		return 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return doorbell_write(qp, &qp->sq_doorbell, qp->sq_tail);
}

/* --- completion -------------------------------------------------------------------------- */

/*
 * The CQ's next entry if the device has written it, judged by the phase tag alone; else NULL.
 * The tag's load orders all later loads of the entry after it.
 */
static inline const struct nvme_cqe *cq_peek(const struct nvme_qpair *qp)
{
	const struct nvme_cqe *cqe = &qp->cq[qp->cq_head];
	uint16_t status = __atomic_load_n(&cqe->status, __ATOMIC_ACQUIRE);

	return (status & 1) == qp->phase ? cqe : NULL;
}

static inline void cq_advance(struct nvme_qpair *qp)
{
	if (++qp->cq_head == qp->entries) {
		qp->cq_head = 0;
		qp->phase ^= 1;
	}
}

/* The tracker of the command that a completion names, or NULL if it names none that is ours. */
static inline struct nvme_tracker *cqe_tracker(const struct nvme_qpair *qp,
					       const struct nvme_cqe *cqe)
{
	struct nvme_tracker *tracker;

	if (cqe->sqid != qp->qid || cqe->cid >= qp->depth)
		return NULL;
	tracker = &qp->trackers[cqe->cid];
	return tracker->outstanding ? tracker : NULL;
}

static inline void tracker_free(struct nvme_qpair *qp, struct nvme_tracker *tracker, uint16_t cid)
{
	tracker->outstanding = 0;
	tracker->next_free = qp->free_head;
	qp->free_head = cid;
	qp->outstanding--;
}

/*
 * Let the kernel pass the next interrupt, if it masked the last one. Called once the completions
 * were reaped and the device told: before, its line is still asserted and would fire again. A
 * failure is not looked at: the device is gone then, or the wait's slices, of which the caller
 * looks at the device's health in between, stand in.
 */
static void interrupt_rearm(const struct nvme_interrupt *interrupt)
{
	ssize_t written;

	if (!interrupt->masked || !__atomic_exchange_n(interrupt->masked, 0, __ATOMIC_ACQ_REL))
		return;
	if (interrupt->rearm_offset < 0)
		written = write(interrupt->rearm_fd, &interrupt->rearm_value,
				(size_t)interrupt->rearm_size);
	else
		written = pwrite(interrupt->rearm_fd, &interrupt->rearm_value,
				 (size_t)interrupt->rearm_size, (off_t)interrupt->rearm_offset);
	(void)written;
}

/* A doorbell that cannot be sent does not undo the completions: the error is kept for later. */
static inline void cq_ring(struct nvme_qpair *qp)
{
	int err = doorbell_update(qp, &qp->cq_doorbell, qp->cq_head);

	if (err)
		qp->error = err;
	interrupt_rearm(&qp->interrupt);
}

int nvme_qpair_poll(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max)
{
	const struct nvme_cqe *cqe;
	uint32_t count = 0;
	uint64_t now;

	if (!max || !cq_peek(qp))
		return qp->error;

	now = nvme_ticks();
	while (count < max && (cqe = cq_peek(qp))) {
		struct nvme_tracker *tracker = cqe_tracker(qp, cqe);

		if (!tracker) {
			/* What was reaped before it still counts; the next poll finds it again. */
			if (!count)
				return -EPROTO;
			break;
		}
		out[count++] = (struct nvme_completion){
			.latency_ns = ticks_to_ns(now - tracker->submitted),
			.user = tracker->user,
			.dw0 = cqe->dw0,
			.dw1 = cqe->dw1,
			.cid = cqe->cid,
			.status = cqe->status >> 1,
		};
		tracker_free(qp, tracker, cqe->cid);
		cq_advance(qp);
	}
	qp->completed += count;
	cq_ring(qp);
	return (int)count;
}

/*
 * Sleep until the interrupt fires or `timeout_ns` passed. May return early. An interrupt that
 * fired before is not lost: its descriptor is readable until it is read here.
 */
static void interrupt_sleep(const struct nvme_interrupt *interrupt, uint64_t timeout_ns)
{
	struct pollfd pfd = { .fd = interrupt->event_fd, .events = POLLIN };
	uint64_t count;

	if (interrupt->shared && timeout_ns > SHARED_SLEEP_NS)
		timeout_ns = SHARED_SLEEP_NS;
	if (poll(&pfd, 1, (int)(timeout_ns / 1000000) + 1) <= 0) {
		/* Whoever took the last event had nothing to reap, or has not come to it. */
		interrupt_rearm(interrupt);
		return;
	}
	/* Another queue pair may share the interrupt and have read it: then there is nothing. */
	if (read(interrupt->event_fd, &count, (size_t)interrupt->event_size) > 0 &&
	    interrupt->masked)
		__atomic_store_n(interrupt->masked, 1, __ATOMIC_RELEASE);
}

/*
 * Wait until a completion is there or `timeout_ns` passed: spinning, or sleeping where there is
 * an interrupt and `spin_ns` did not help. Returns whether there is one. While it spins, the
 * clock is nvme_ticks(): no system call.
 */
static int cq_await(const struct nvme_qpair *qp, uint64_t timeout_ns)
{
	int sleeps = qp->interrupt.event_fd >= 0;
	uint64_t start = nvme_ticks();

	for (uint32_t spins = 1;; spins++) {
		uint64_t spent;

		if (cq_peek(qp))
			return 1;
		spin_pause();
		if (spins % SPINS_PER_CLOCK_READ && !sleeps)
			continue;
		spent = ticks_to_ns(nvme_ticks() - start);
		if (spent >= timeout_ns)
			return 0;
		if (sleeps && spent >= qp->spin_ns)
			interrupt_sleep(&qp->interrupt, timeout_ns - spent);
	}
}

int nvme_qpair_wait(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max,
		    uint64_t timeout_ns)
{
	if (!cq_await(qp, timeout_ns))
		return qp->error;
	return nvme_qpair_poll(qp, out, max);
}

int nvme_qpair_abandon(struct nvme_qpair *qp, struct nvme_completion *out, uint16_t status)
{
	uint64_t now = nvme_ticks();
	int count = 0;

	for (uint32_t cid = 0; cid < qp->depth; cid++) {
		struct nvme_tracker *tracker = &qp->trackers[cid];

		if (!tracker->outstanding)
			continue;
		out[count++] = (struct nvme_completion){
			.latency_ns = ticks_to_ns(now - tracker->submitted),
			.user = tracker->user,
			.cid = (uint16_t)cid,
			.status = status,
		};
		tracker_free(qp, tracker, (uint16_t)cid);
	}
	return count;
}

int nvme_qpair_oldest(const struct nvme_qpair *qp, uint64_t *age_ns)
{
	uint64_t now = nvme_ticks();
	uint64_t oldest = 0;
	int found = -1;

	for (uint32_t cid = 0; cid < qp->depth; cid++) {
		const struct nvme_tracker *tracker = &qp->trackers[cid];

		if (tracker->outstanding && (found < 0 || now - tracker->submitted > oldest)) {
			oldest = now - tracker->submitted;
			found = (int)cid;
		}
	}
	if (found >= 0)
		*age_ns = ticks_to_ns(oldest);
	return found;
}

/* --- vectors ----------------------------------------------------------------------------- */

/* Fill the queue from the vector and ring once. Returns 0 or a negative errno. */
static inline int vector_submit(struct nvme_qpair *qp, struct nvme_vector *v)
{
	struct nvme_sqe command = v->command;

	while (v->submitted < v->count && qp->outstanding < qp->depth) {
		uint32_t i = v->submitted;
		uint32_t blocks = i + 1 == v->count ? v->last_blocks : v->blocks;
		uint64_t iova = v->iovas[v->slots ? qp->free_head : i];
		int cid;

		command.cdw10 = (uint32_t)v->lbas[i];
		command.cdw11 = (uint32_t)(v->lbas[i] >> 32);
		command.cdw12 = v->command.cdw12 | (blocks - 1);
		cid = nvme_qpair_submit(qp, &command, iova, blocks << v->block_shift, i);
		if (cid < 0)
			return cid;
		v->submitted++;
	}
	return nvme_qpair_ring(qp);
}

/* Reap what is there into the vector's arrays. Returns 0 or a negative errno. */
static inline int vector_reap(struct nvme_qpair *qp, struct nvme_vector *v)
{
	uint64_t now = nvme_ticks();
	const struct nvme_cqe *cqe;

	while ((cqe = cq_peek(qp))) {
		struct nvme_tracker *tracker = cqe_tracker(qp, cqe);
		uint16_t status = cqe->status >> 1;

		if (!tracker)
			return -EPROTO;
		v->status[tracker->user] = status;
		v->latency_ns[tracker->user] = ticks_to_ns(now - tracker->submitted);
		v->failed += (status & STATUS_CODE_AND_TYPE) != 0;
		v->completed++;
		qp->completed++;
		tracker_free(qp, tracker, cqe->cid);
		cq_advance(qp);
	}
	cq_ring(qp);
	return qp->error;
}

int nvme_vector_run(struct nvme_qpair *qp, struct nvme_vector *v, uint64_t timeout_ns)
{
	uint64_t start = nvme_ticks();

	for (;;) {
		uint64_t spent = ticks_to_ns(nvme_ticks() - start);
		int err = vector_submit(qp, v);

		if (err)
			return err;
		if (v->completed == v->count)
			return 1;
		if (spent >= timeout_ns || !cq_await(qp, timeout_ns - spent))
			return 0;
		err = vector_reap(qp, v);
		if (err)
			return err;
	}
}

/* --- layout ------------------------------------------------------------------------------ */

uint32_t nvme_layout(const char *structure, const char *member)
{
#define MEMBER(type, name) { #type, #name, offsetof(struct nvme_##type, name) }
	static const struct {
		const char *structure;
		const char *member;
		uint32_t offset;
	} members[] = {
		MEMBER(sqe, opc), MEMBER(sqe, flags), MEMBER(sqe, cid),   MEMBER(sqe, nsid),
		MEMBER(sqe, cdw2),   MEMBER(sqe, cdw3),  MEMBER(sqe, mptr),  MEMBER(sqe, prp1),
		MEMBER(sqe, prp2),   MEMBER(sqe, cdw10), MEMBER(sqe, cdw11), MEMBER(sqe, cdw12),
		MEMBER(sqe, cdw13),  MEMBER(sqe, cdw14), MEMBER(sqe, cdw15), MEMBER(cqe, dw0),
		MEMBER(cqe, dw1),    MEMBER(cqe, sqhd),  MEMBER(cqe, sqid),  MEMBER(cqe, cid),
		MEMBER(cqe, status),
	};
#undef MEMBER

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (!strcmp(members[i].structure, structure) && !strcmp(members[i].member, member))
			return members[i].offset;
	return UINT32_MAX;
}
