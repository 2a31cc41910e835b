/*
 * NVMe queue pairs. See _ring.h for what each function does and does not do, and _ring_inline.h for
 * the steps of the I/O path and their order in memory.
 */
#define _POSIX_C_SOURCE 200809L
#include "_ring_inline.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

/*
 * Who shares an interrupt may have its event taken by another queue pair between its last poll of
 * the queue and its sleep: it polls again after so long.
 */
#define SHARED_SLEEP_NS 1000000

/*
 * How many completions a loop waits for at once at most, and for how long. More than a quarter of
 * the queue would leave the device without work; more than this gains nothing.
 */
#define COALESCE 32
#define COALESCE_NS 1000

/* How many entries ahead of the tail one is fetched at most. */
#define SQ_AHEAD 4u

/*
 * What a loop that keeps a queue full does at most between two doorbells and two looks at the clock:
 * half the queue, so that the device is at work on the one half while the loop is on the other.
 */
static uint32_t burst_of(uint32_t depth)
{
	uint32_t half = (depth + 1) / 2;

	return half < NVME_BURST ? half : NVME_BURST;
}

/* --- submission -------------------------------------------------------------------------- */

uint32_t nvme_qpair_trackers(uint32_t depth)
{
	return UINT32_C(2) << (31 - __builtin_clz(depth));
}

/*
 * Expect no completion and make all CIDs free. `cids` are the first of each index. What is not below
 * the depth is never expected: its trackers name another index.
 */
static void trackers_init(struct nvme_qpair *qp, const uint16_t *cids)
{
	for (uint32_t index = 0; index <= qp->index_mask; index++)
		qp->trackers[index].cid = (uint16_t)(index ^ qp->index_mask);
	qp->free_head = NO_CID;
	for (uint32_t index = qp->depth; index-- > 0;) {
		uint16_t cid = (uint16_t)(cids ? (cids[index] & ~qp->index_mask) | index : index);

		qp->trackers[index].cid = (uint16_t)(cid | qp->index_mask);
		qp->trackers[index].next_free = qp->free_head;
		qp->free_head = cid;
	}
}

int nvme_qpair_init(struct nvme_qpair *qp, const struct nvme_qpair_config *config)
{
	uint32_t coalesce = config->depth / 4 < COALESCE ? config->depth / 4 : COALESCE;
	uint32_t spare = config->sq_entries - config->depth - 1;
	uint32_t trackers;

	if (config->depth < 1 || config->depth > UINT16_MAX || config->sq_entries <= config->depth ||
	    config->sq_entries > UINT16_MAX + 1 || config->cq_entries <= config->depth ||
	    config->cq_entries > UINT16_MAX + 1 || config->page_shift < 12 ||
	    config->page_shift > 27)
		return -EINVAL;

	trackers = nvme_qpair_trackers(config->depth);
	*qp = (struct nvme_qpair){
		.sq = config->sq,
		.cq = config->cq,
		.trackers = config->trackers,
		.sq_entries = config->sq_entries,
		.cq_entries = config->cq_entries,
		.cq_slack = config->cq_entries - config->depth - 1,
		.depth = config->depth,
		.index_mask = trackers - 1,
		.generation = config->plain_cids ? 0 : (uint16_t)trackers,
		.expected = CQE_PHASE | (uint64_t)config->qid << 16,
		.use_sgl = config->use_sgl,
		.coalesce = 1,
		.coalesce_max = (uint16_t)(coalesce ? coalesce : 1),
		.sq_ahead = (spare < SQ_AHEAD ? spare : SQ_AHEAD) * (uint32_t)sizeof(struct nvme_sqe),
		.burst = burst_of(config->depth),
		.page_size = UINT32_C(1) << config->page_shift,
		.prp_list_entries = config->prp_list_entries,
		.prp_lists = config->prp_lists,
		.prp_lists_iova = config->prp_lists_iova,
		.interrupt = { .event_fd = -1, .rearm_fd = -1 },
	};
	trackers_init(qp, config->plain_cids ? NULL : config->cids);
	nvme_tick_rate();
	return 0;
}

void nvme_qpair_restart(struct nvme_qpair *qp)
{
	qp->sq_tail = qp->cq_head = 0;
	qp->sq_doorbell.value = qp->cq_doorbell.value = 0;
	qp->expected |= CQE_PHASE;
	qp->cq_unreported = 0;
	qp->coalesce = 1;
	qp->error = 0;
}

void nvme_qpair_use_interrupt(struct nvme_qpair *qp, const struct nvme_interrupt *interrupt,
			      uint64_t spin_ns)
{
	qp->interrupt = *interrupt;
	qp->spin_ns = spin_ns;
	qp->cq_slack = 0;
	qp->coalesce = qp->coalesce_max = 1;
}

int nvme_sqe_set_pages(const struct nvme_qpair *qp, struct nvme_sqe *sqe, uint64_t iova,
		       uint32_t length)
{
	uint64_t page = qp->page_size;
	uint64_t next = (iova | (page - 1)) + 1;
	uint64_t end = iova + length;
	size_t at = (size_t)cid_index(qp, sqe->cid) * qp->prp_list_entries;
	uint64_t *list = qp->prp_lists + at;

	if (end <= next + page) {
		sqe->prp2 = next;
		return 0;
	}
	if (qp->use_sgl) {
		sqe->flags |= PSDT_SGL;
		sqe->prp2 = length; /* figure 94: length in 31:0, type 0h (data block) in 63:60 */
		return 0;
	}
	if (end - next > qp->prp_list_entries * page)
		return -EMSGSIZE;
	do {
		*list++ = next;
		next += page;
	} while (next < end);
	sqe->prp2 = qp->prp_lists_iova + at * sizeof(*list);
	return 0;
}

int nvme_qpair_submit(struct nvme_qpair *qp, const struct nvme_sqe *command, uint64_t iova,
		      uint32_t length, uint32_t user)
{
	struct nvme_sqe *sqe;

	if (unlikely(qp->free_head == NO_CID))
		return -EAGAIN;
	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	sqe = sq_write(qp, command, qp->free_head);
	if (length) {
		int err = sqe_set_data(qp, sqe, iova, length);

		if (unlikely(err))
			return err;
	}
	sq_advance(qp);
	return tracker_take(qp, user, UNANNOUNCED);
}

/* Let the time of the commands in [sqe, end) begin. */
static inline void sq_stamp(const struct nvme_qpair *qp, const struct nvme_sqe *sqe,
			    const struct nvme_sqe *end, uint64_t now)
{
	for (; sqe != end; sqe++)
		tracker_of(qp, sqe->cid)->submitted = now;
}

int nvme_qpair_doorbell(struct nvme_qpair *qp)
{
	const struct nvme_sqe *first = qp->sq + qp->sq_doorbell.value;
	const struct nvme_sqe *tail = qp->sq + qp->sq_tail;
	uint64_t now;

	if (first == tail)
		return 0;
	now = ticks_now();
	if (unlikely(first > tail)) {
		sq_stamp(qp, first, qp->sq + qp->sq_entries, now);
		first = qp->sq;
	}
	sq_stamp(qp, first, tail, now);
	return sq_ring(qp);
}

int nvme_qpair_kick(struct nvme_qpair *qp)
{
	if (!qp->sq_doorbell.shadow)
		return 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return doorbell_write(&qp->sq_doorbell, qp->sq_doorbell.value);
}

/* --- completion -------------------------------------------------------------------------- */

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
void nvme_cq_report(struct nvme_qpair *qp)
{
	int err = doorbell_update(&qp->cq_doorbell, qp->cq_head);

	qp->cq_unreported = 0;
	if (err)
		qp->error = err;
	interrupt_rearm(&qp->interrupt);
}

int nvme_qpair_poll(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max)
{
	uint64_t end = cq_next(qp);
	uint32_t count = 0;
	uint64_t now;

	if (!max || end & CQE_PHASE)
		return qp->error;

	now = ticks_now();
	do {
		const struct nvme_cqe *cqe = &qp->cq[qp->cq_head];
		struct nvme_tracker *tracker = cqe_tracker(qp, end);
		uint64_t age;

		if (unlikely(!tracker))
			break;
		age = now - tracker->submitted;
		if (unlikely((int64_t)age < 0)) {
			if (tracker->submitted == UNANNOUNCED)
				break;
			age = 0; /* the clock went back */
		}
		out[count++] = (struct nvme_completion){
			.latency_ns = ticks_to_ns(age),
			.user = tracker->user,
			.dw0 = cqe->dw0,
			.dw1 = cqe->dw1,
			.cid = cqe_cid(end),
			.status = cqe_status(end),
		};
		tracker_free(qp, tracker, cqe_cid(end));
		cq_advance(qp);
		end = cq_next(qp);
	} while (count < max && !(end & CQE_PHASE));
	/* What was reaped before a wrong one still counts; the next poll finds that again. */
	if (unlikely(!count))
		return -EPROTO;
	cq_doorbell(qp, count);
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

/* As nvme_cq_await(), where there is an interrupt to sleep for once `spin_ns` did not help. */
static uint64_t cq_await_interrupt(const struct nvme_qpair *qp, struct deadline deadline)
{
	uint64_t start = ticks_now();

	for (uint64_t now = start;; now = ticks_now()) {
		if (!(cq_peek(qp) & CQE_PHASE))
			return now;
		if (deadline_passed(deadline, now))
			return 0;
		if (ticks_to_ns(now - start) < qp->spin_ns)
			spin_pause();
		else
			interrupt_sleep(&qp->interrupt,
					ticks_to_ns(deadline.ticks - (now - deadline.start)));
	}
}

/* Let the device write `coalesce` entries before the first is looked at; not for long. */
static void cq_coalesce(const struct nvme_qpair *qp)
{
	uint32_t last = qp->coalesce - 1u;
	struct deadline deadline = { 0 };

	while (!cq_is_ready(qp, last)) {
		uint64_t now = ticks_now();

		if (!deadline.ticks)
			deadline = (struct deadline){ now, ns_to_ticks(COALESCE_NS) };
		else if (deadline_passed(deadline, now))
			return;
		spin_pause();
	}
}

/* As nvme_cq_await(). A function of its own: to one that calls no other, registers cost nothing. */
static __attribute__((noinline)) uint64_t cq_await_slowly(const struct nvme_qpair *qp,
							  struct deadline deadline)
{
	if (qp->interrupt.event_fd >= 0)
		return cq_await_interrupt(qp, deadline);
	if (qp->coalesce > 1 && qp->outstanding >= qp->coalesce)
		cq_coalesce(qp);
	for (;;) {
		uint64_t now = ticks_now();

		if (!(cq_peek(qp) & CQE_PHASE))
			return now;
		if (deadline_passed(deadline, now))
			return 0;
		poll_pause();
	}
}

uint64_t nvme_cq_await(const struct nvme_qpair *qp, struct deadline deadline)
{
	if (nvme_clock.read || qp->interrupt.event_fd >= 0 ||
	    (qp->coalesce > 1 && qp->outstanding >= qp->coalesce))
		return cq_await_slowly(qp, deadline);
	for (;;) {
		uint64_t now = counter_now();

		if (!(cq_peek(qp) & CQE_PHASE))
			return now;
		if (deadline_passed(deadline, now))
			return 0;
		poll_pause();
	}
}

int nvme_qpair_wait(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max,
		    uint64_t timeout_ns)
{
	if (!nvme_cq_await(qp, (struct deadline){ ticks_now(), ns_to_ticks(timeout_ns) }))
		return qp->error;
	return nvme_qpair_poll(qp, out, max);
}

int nvme_qpair_await(const struct nvme_qpair *qp, uint64_t timeout_ns)
{
	return nvme_cq_await(qp, (struct deadline){ ticks_now(), ns_to_ticks(timeout_ns) }) != 0;
}

int nvme_qpair_reap(struct nvme_qpair *qp, struct nvme_completion *out, uint32_t max,
		    uint64_t timeout_ns)
{
	int count = nvme_qpair_poll(qp, out, max);
	int err = count < 0 ? count : nvme_qpair_doorbell(qp);

	/* What was reaped counts, as it does where its own doorbell cannot be sent. */
	if (err && count > 0)
		qp->error = err;
	if (err || count)
		return count ? count : err;
	return timeout_ns ? nvme_qpair_wait(qp, out, max, timeout_ns) :
			    nvme_qpair_poll(qp, out, max);
}

int nvme_qpair_transfer(struct nvme_qpair *qp, const struct nvme_sqe *command, uint64_t lba,
			uint32_t cdw12, uint64_t iova, uint32_t length, uint64_t timeout_ns)
{
	struct nvme_tracker *tracker;
	uint64_t now;
	int err;

	if (unlikely(qp->outstanding))
		return -EBUSY;
	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	err = sq_write_io(qp, command, qp->free_head, lba, cdw12, iova, length);
	if (unlikely(err))
		return err;
	sq_advance(qp);
	tracker = tracker_of(qp, tracker_take(qp, 0, 0));
	err = sq_ring(qp);
	/* The device is at work already. */
	now = tracker->submitted = ticks_now();
	if (unlikely(err))
		return err;
	if (unlikely(!nvme_cq_await(qp, (struct deadline){ now, ns_to_ticks(timeout_ns) })))
		return -ETIME;
	return cq_take(qp, cq_peek(qp));
}

int nvme_transfer_run(const struct nvme_transfer *transfer)
{
	const struct nvme_sqe *command = &transfer->template->command;
	uint64_t blocks = transfer_blocks(transfer);

	if (unlikely(!blocks))
		return -ERANGE;
	return nvme_qpair_transfer(transfer->qp, command, transfer->lba,
				   command->cdw12 | (uint32_t)(blocks - 1), transfer->iova,
				   (uint32_t)transfer->length, transfer->timeout_ns);
}

int nvme_qpair_abort_all(struct nvme_qpair *qp, struct nvme_completion *out, uint16_t status)
{
	uint64_t now = nvme_ticks();
	int count = 0;

	for (uint32_t index = 0; index < qp->depth; index++) {
		struct nvme_tracker *tracker = &qp->trackers[index];

		if (!tracker_is_outstanding(qp, index))
			continue;
		out[count++] = (struct nvme_completion){
			.latency_ns = ticks_age_ns(now, tracker->submitted),
			.user = tracker->user,
			.cid = tracker->cid,
			.status = status,
		};
		/* As tracker_free() does, but into no list. */
		tracker->next_free = (uint16_t)(tracker->cid + qp->generation);
		tracker->cid = (uint16_t)(tracker->next_free | qp->index_mask);
		qp->outstanding--;
	}
	return count;
}

void nvme_qpair_release(struct nvme_qpair *qp)
{
	for (uint32_t index = 0; index < qp->depth; index++) {
		struct nvme_tracker *tracker = &qp->trackers[index];
		uint16_t cid = tracker->next_free;

		if (tracker_is_outstanding(qp, index) || cid_index(qp, cid) != index)
			continue;
		tracker->next_free = qp->free_head;
		qp->free_head = cid;
	}
}

void nvme_qpair_restamp(struct nvme_qpair *qp)
{
	uint64_t now = nvme_ticks();

	for (uint32_t index = 0; index < qp->depth; index++)
		if (tracker_is_outstanding(qp, index) &&
		    qp->trackers[index].submitted != UNANNOUNCED)
			qp->trackers[index].submitted = now;
}

int nvme_qpair_oldest(const struct nvme_qpair *qp, uint64_t *age_ns)
{
	uint64_t now = nvme_ticks();
	int found = -1;

	for (uint32_t index = 0; index < qp->depth; index++) {
		const struct nvme_tracker *tracker = &qp->trackers[index];
		uint64_t age = ticks_age_ns(now, tracker->submitted);

		if (!tracker_is_outstanding(qp, index) || tracker->submitted == UNANNOUNCED ||
		    (found >= 0 && age <= *age_ns))
			continue;
		*age_ns = age;
		found = tracker->cid;
	}
	return found;
}

int nvme_qpair_check(const struct nvme_qpair *qp)
{
	uint32_t outstanding = 0;
	uint32_t abandoned = 0;
	uint32_t free = 0;

	for (uint32_t index = 0; index < qp->depth; index++) {
		int running = tracker_is_outstanding(qp, index);

		outstanding += (uint32_t)running;
		abandoned += !running && cid_index(qp, qp->trackers[index].next_free) == index;
	}
	for (uint32_t cid = qp->free_head; cid != NO_CID; cid = qp->trackers[cid_index(qp, cid)].next_free)
		if (cid_index(qp, cid) >= qp->depth || tracker_is_outstanding(qp, cid_index(qp, cid)) ||
		    ++free > qp->depth)
			return -EPROTO;
	return outstanding == qp->outstanding && outstanding + abandoned + free == qp->depth ?
		       0 :
		       -EPROTO;
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
