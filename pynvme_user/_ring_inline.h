/*
 * The steps that the I/O path is made of, for the loops in _ring.c and _bench.c to inline.
 *
 * Cache lines, which decide the speed of a device that answers at once (another core's, over
 * vfio-user): a 4 KiB I/O that is submitted and reaped touches one line of the submission queue, a
 * quarter of one of the completion queue, a quarter of one of the trackers, the doorbells' line
 * once per batch, and the two lines of struct nvme_qpair, which stay in the first-level cache. The
 * tracker's line is touched at submission and at completion only; CIDs are taken last in, first
 * out, so that a shallow queue uses few of these lines. The PRP lists' memory is touched by
 * transfers of more than two pages alone.
 *
 * Ordering, in one place:
 *  - a command is written before the doorbell that announces it: device_barrier() stands before
 *    every doorbell; a shadow doorbell's store must also precede the load of its event index
 *    (NVMe Base 2.0, section 5.8 and appendix B.5), which takes a full barrier;
 *  - a completion's status word, which carries the phase tag, is loaded with acquire order before
 *    anything else of the entry is read; what lies in the same eight bytes comes with it.
 */
#ifndef PYNVME_USER_RING_INLINE_H
#define PYNVME_USER_RING_INLINE_H

#include "_ring.h"

#define NO_CID UINT16_MAX

/* SC in 7:0 and SCT in 10:8 of the status field: success is both, whole, being 0. */
#define STATUS_CODE_AND_TYPE 0x7ff

/* SQE flags, PSDT (figure 87): the data pointer is an SGL, metadata a contiguous buffer. */
#define PSDT_SGL 0x40

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* Entries of the rings are read and written in words of eight bytes. */
typedef uint64_t __attribute__((may_alias)) ring_word;

/* --- time -------------------------------------------------------------------------------- */

/* 32.32 fixed point; set by nvme_tick_rate(). */
extern uint64_t nvme_ns_per_tick;
extern uint64_t nvme_ticks_per_ns;

static inline uint64_t ticks_now(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return nvme_ticks();
#endif
}

static inline uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * nvme_ns_per_tick) >> 32);
}

/* Up to 2^62: a time that never comes is the caller's "forever". */
static inline uint64_t ns_to_ticks(uint64_t ns)
{
	uint64_t ticks = (uint64_t)(((unsigned __int128)ns * nvme_ticks_per_ns) >> 32);

	return ns >> 60 ? UINT64_C(1) << 62 : ticks;
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

/* All earlier stores to memory are visible to the device before any later store to it. */
static inline void device_barrier(void)
{
#if defined(__x86_64__)
	/* Stores are not reordered, neither among memory nor with an uncached register's. */
	__asm__ volatile("" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("dmb oshst" ::: "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline int doorbell_write(struct nvme_doorbell *db, uint32_t value)
{
	db->writes++;
	if (likely(db->mmio != NULL)) {
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

static inline int doorbell_update(struct nvme_doorbell *db, uint32_t value)
{
	uint32_t old = db->value;

	db->value = value;
	device_barrier();
	if (unlikely(db->shadow != NULL)) {
		*db->shadow = value;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!doorbell_needed((uint16_t)*db->event_index, (uint16_t)value, (uint16_t)old))
			return 0;
	}
	return doorbell_write(db, value);
}

/* --- submission -------------------------------------------------------------------------- */

/* Where a command's data lies, as the command says it. */
struct data_pointer {
	uint64_t prp1;
	uint64_t prp2;
	uint64_t flags; /* PSDT, in byte 1 of the command */
};

/*
 * A PRP list for all pages but the first, or an SGL data block; see nvme_qpair_submit(). Returns 0
 * or -EMSGSIZE. Not inline: what needs it is larger than two pages.
 */
int nvme_data_describe(const struct nvme_qpair *qp, struct data_pointer *data, uint16_t cid,
		       uint64_t iova, uint32_t length);

/*
 * Describe `length` bytes at `iova` (section 4.1.1): the first PRP entry may start anywhere in its
 * page, all others start a page. Two pages need no list. Returns 0, -EINVAL or -EMSGSIZE.
 */
static inline int data_set(const struct nvme_qpair *qp, struct data_pointer *data, uint16_t cid,
			   uint64_t iova, uint32_t length)
{
	uint64_t first = qp->page_size - (iova & (qp->page_size - 1)); /* bytes up to its end */

	if (unlikely(iova & 3))
		return -EINVAL;
	data->prp1 = iova;
	data->prp2 = 0;
	data->flags = 0;
	if (likely(length <= first))
		return 0;
	if (length > first + qp->page_size)
		return nvme_data_describe(qp, data, cid, iova, length);
	data->prp2 = iova + first;
	return 0;
}

/*
 * Write the entry at the tail: `command` with its CID, its data pointer and, in CDW10 and 11, an
 * LBA. Eight stores of eight bytes that fill the line. Does not move the tail.
 */
static inline void sq_write_io(const struct nvme_qpair *qp, const struct nvme_sqe *command,
			       uint16_t cid, const struct data_pointer *data, uint64_t lba,
			       uint32_t cdw12)
{
	const ring_word *from = (const ring_word *)command;
	ring_word *to = (ring_word *)&qp->sq[qp->sq_tail];

	to[0] = from[0] | data->flags << 8 | (uint64_t)cid << 16;
	to[1] = from[1];
	to[2] = from[2];
	to[3] = data->prp1;
	to[4] = data->prp2;
	to[5] = lba;
	to[6] = (from[6] & ~(uint64_t)UINT32_MAX) | cdw12;
	to[7] = from[7];
}

static inline void sq_advance(struct nvme_qpair *qp)
{
	uint32_t tail = qp->sq_tail + 1;

	qp->sq_tail = tail == qp->entries ? 0 : tail;
}

static inline int sq_ring(struct nvme_qpair *qp)
{
	if (qp->sq_tail == qp->sq_doorbell.value)
		return 0;
	return doorbell_update(&qp->sq_doorbell, qp->sq_tail);
}

/* --- trackers ---------------------------------------------------------------------------- */

/* Take the next free CID. The caller has seen that there is one. */
static inline uint16_t tracker_take(struct nvme_qpair *qp, uint32_t user, uint64_t now)
{
	uint16_t cid = qp->free_head;
	struct nvme_tracker *tracker = &qp->trackers[cid];

	qp->free_head = tracker->next_free;
	qp->outstanding++;
	tracker->submitted = now;
	tracker->user = user;
	tracker->outstanding = 1;
	return cid;
}

static inline void tracker_free(struct nvme_qpair *qp, struct nvme_tracker *tracker, uint16_t cid)
{
	tracker->outstanding = 0;
	tracker->next_free = qp->free_head;
	qp->free_head = cid;
	qp->outstanding--;
}

/* --- completion -------------------------------------------------------------------------- */

/* The second half of a completion queue entry, all that most completions need, in one load. */
struct cqe_end {
	uint16_t sqid;
	uint16_t cid;
	uint16_t status; /* without the phase tag */
};

/*
 * Whether the device has written the CQ's next entry, judged by the phase tag alone; its second
 * half then is in `end`, and all later loads of the entry are ordered after this one.
 */
static inline int cq_peek(const struct nvme_qpair *qp, struct cqe_end *end)
{
	const ring_word *word = (const ring_word *)&qp->cq[qp->cq_head] + 1;
	uint64_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	end->sqid = (uint16_t)(value >> 16);
	end->cid = (uint16_t)(value >> 32);
	end->status = (uint16_t)(value >> 49);
	return (value >> 48 & 1) == qp->phase;
}

/* Whether the device has written the entry `ahead` of the next one. Orders nothing. */
static inline int cq_is_ready(const struct nvme_qpair *qp, uint32_t ahead)
{
	uint32_t at = qp->cq_head + ahead;
	uint16_t phase = qp->phase;

	if (at >= qp->cq_entries) {
		at -= qp->cq_entries;
		phase ^= 1;
	}
	return (__atomic_load_n(&qp->cq[at].status, __ATOMIC_RELAXED) & 1) == phase;
}

static inline void cq_advance(struct nvme_qpair *qp)
{
	uint32_t head = qp->cq_head + 1;

	qp->cq_unreported++;
	if (unlikely(head == qp->cq_entries)) {
		head = 0;
		qp->phase ^= 1;
	}
	qp->cq_head = head;
}

/* The tracker of the command that a completion names, or NULL if it names none that is ours. */
static inline struct nvme_tracker *cqe_tracker(const struct nvme_qpair *qp,
					       const struct cqe_end *end)
{
	struct nvme_tracker *tracker;

	if (unlikely(end->sqid != qp->qid || end->cid >= qp->depth))
		return NULL;
	tracker = &qp->trackers[end->cid];
	return likely(tracker->outstanding) ? tracker : NULL;
}

/* The slow end of cq_report(): the doorbell, and the interrupt where there is one. */
void nvme_cq_report(struct nvme_qpair *qp);

/*
 * Tell the device what was reaped, once it has to know: while `cq_slack` entries or fewer are
 * unreported, the queue has room for all that is outstanding. A register's write is spared so.
 */
static inline void cq_report(struct nvme_qpair *qp)
{
	if (qp->cq_unreported > qp->cq_slack)
		nvme_cq_report(qp);
}

/*
 * End a turn of a loop that reaped `n` completions, and learn from it how many are worth waiting
 * for at once: see nvme_cq_await(). A turn of one says that the device is slower than the loop.
 */
static inline void cq_reaped(struct nvme_qpair *qp, uint32_t n)
{
	uint32_t more = n < 2 ? 1 : 2 * n;

	qp->gather = (uint16_t)(more < qp->gather_max ? more : qp->gather_max);
	cq_report(qp);
}

/*
 * Wait until a completion is there or the time `end` has come, in ticks: spinning, or sleeping
 * where there is an interrupt. Returns whether there is one. While it spins, the clock is the
 * time-stamp counter: no system call.
 *
 * A device that answers faster than the loop turns, as one in another core's cache does, is first
 * left alone until `gather` entries are there: to look at the line that it is about to write costs
 * both sides, and larger turns mean fewer doorbells. GATHER_NS at most.
 */
int nvme_cq_await(const struct nvme_qpair *qp, uint64_t end);

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "NVMe's structures are little-endian; this core writes them as the machine's own words"
#endif

#endif
