/*
 * The steps that the I/O path is made of, for the loops in _ring.c, _vector.c and _bench.c to inline.
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
 *    anything else of the entry is read.
 */
#ifndef PYNVME_USER_RING_INLINE_H
#define PYNVME_USER_RING_INLINE_H

#include "_ring.h"

#define NO_CID UINT16_MAX

/* The most that qp->burst may be. */
#define NVME_BURST 64u

/* A command's time before its doorbell: in the future, whatever the clock says. */
#define UNANNOUNCED (UINT64_C(1) << 63)

/* SC in 7:0 and SCT in 10:8 of the status field: success is both, whole, being 0. */
#define STATUS_CODE_AND_TYPE 0x7ff

/* SQE flags, PSDT (figure 87): the data pointer is an SGL, metadata a contiguous buffer. */
#define PSDT_SGL 0x40

/* Two dwords in one load or store: CDW10 and CDW11, the second half of a CQE. */
typedef uint64_t __attribute__((may_alias)) dword_pair;

/* --- waiting ----------------------------------------------------------------------------- */

static inline void spin_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Pause between polls. Each poll pulls the CQE's cache line away from the device and back. */
static inline void poll_pause(void)
{
	spin_pause();
	spin_pause();
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

/*
 * Fetch a line that is soon written: a store to one that the device was the last to read waits for
 * it, and all later stores behind that one. Like any prefetch it may be of memory that is not there.
 */
static inline void line_fetch(const void *line)
{
#if defined(__x86_64__)
	/* __builtin_prefetch() would fetch it to be read: not every x86-64 has this instruction, but
	 * those that do not take it for a no-op. */
	__asm__ volatile("prefetchw %0" : : "m"(*(const struct nvme_sqe *)line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/*
 * Let the cache that all cores share have a line that was just written and that the device reads
 * next: it need not fetch it from this core's own then. CLDEMOTE, a hint, which processors that do
 * not have it take for a no-op.
 */
static inline void line_pass_on(const void *line)
{
#if defined(__x86_64__)
	__asm__ volatile("cldemote %0" : : "m"(*(const struct nvme_sqe *)line));
#else
	(void)line;
#endif
}

/*
 * What nvme_sqe_set_data() does where more than one page is touched: a second PRP entry, a PRP list
 * or an SGL data block. Returns 0 or -EMSGSIZE.
 */
int nvme_sqe_set_pages(const struct nvme_qpair *qp, struct nvme_sqe *sqe, uint64_t iova,
		       uint32_t length);

/*
 * Describe `length` bytes at `iova` in an entry that has its CID: PRP entry 1 alone, for what lies in
 * one page. Returns 0, -EINVAL or -EMSGSIZE.
 */
static inline int sqe_set_data(const struct nvme_qpair *qp, struct nvme_sqe *sqe, uint64_t iova,
			       uint32_t length)
{
	uint64_t offset = iova & (uint64_t)(qp->page_size - 1);

	if (unlikely(iova & 3))
		return -EINVAL;
	sqe->prp1 = iova;
	if (unlikely(offset + length > qp->page_size))
		return nvme_sqe_set_pages(qp, sqe, iova, length);
	sqe->prp2 = 0;
	return 0;
}

/*
 * Write a command with its CID at the tail, in wide stores, and return the entry, for the caller to
 * complete. Does not move the tail, so that what cannot be completed was never there.
 */
static inline struct nvme_sqe *sq_write(const struct nvme_qpair *qp, const struct nvme_sqe *command,
					uint16_t cid)
{
	struct nvme_sqe *sqe = &qp->sq[qp->sq_tail];

	line_fetch((const char *)sqe + qp->sq_ahead);
	*sqe = *command;
	sqe->cid = cid;
	return sqe;
}

/*
 * The same for a read or write from `lba` on; `nlb` is its number of blocks, zero-based. Returns 0
 * or a negative errno.
 */
static inline int sq_write_io(const struct nvme_qpair *qp, const struct nvme_sqe *command,
			      uint16_t cid, uint64_t lba, uint32_t nlb, uint64_t iova,
			      uint32_t length)
{
	struct nvme_sqe *sqe = sq_write(qp, command, cid);

	*(dword_pair *)&sqe->cdw10 = lba;
	sqe->cdw12 = command->cdw12 | nlb;
	return sqe_set_data(qp, sqe, iova, length);
}

/*
 * The blocks of a transfer; 0 where its length is not whole blocks that one command carries, or they
 * are not all in the namespace.
 */
static inline uint64_t transfer_blocks(const struct nvme_transfer *transfer)
{
	const struct nvme_command_template *template = transfer->template;
	uint64_t blocks = transfer->length >> template->block_shift;

	if (unlikely(blocks > template->max_blocks ||
		     blocks << template->block_shift != transfer->length ||
		     transfer->lba > template->block_count ||
		     blocks > template->block_count - transfer->lba))
		return 0;
	return blocks;
}

static inline void sq_advance(struct nvme_qpair *qp)
{
	uint32_t tail = qp->sq_tail + 1;

	qp->sq_tail = tail == qp->sq_entries ? 0 : tail;
}

static inline int sq_ring(struct nvme_qpair *qp)
{
	uint32_t told = qp->sq_doorbell.value;

	if (qp->sq_tail == told)
		return 0;
	if (qp->outstanding == 1)
		line_pass_on(&qp->sq[told]);
	return doorbell_update(&qp->sq_doorbell, qp->sq_tail);
}

/* --- trackers ---------------------------------------------------------------------------- */

/* Where a CID's tracker is, its PRP list, and whatever else the caller has for each command. */
static inline uint32_t cid_index(const struct nvme_qpair *qp, uint64_t cid)
{
	return (uint32_t)cid & qp->index_mask;
}

static inline struct nvme_tracker *tracker_of(const struct nvme_qpair *qp, uint16_t cid)
{
	return &qp->trackers[cid_index(qp, cid)];
}

/* Take the next free CID. The caller has seen that there is one. */
static inline uint16_t tracker_take(struct nvme_qpair *qp, uint32_t user, uint64_t now)
{
	uint16_t cid = qp->free_head;
	struct nvme_tracker *tracker = tracker_of(qp, cid);

	qp->free_head = tracker->next_free;
	qp->outstanding++;
	tracker->submitted = now;
	tracker->user = user;
	tracker->cid = cid;
	return cid;
}

/*
 * Make the tracker of a command that was reaped, `cid`, that of the next one, whose CID is returned:
 * the same index in its next generation.
 */
static inline uint16_t tracker_retake(const struct nvme_qpair *qp, struct nvme_tracker *tracker,
				      uint16_t cid, uint32_t user, uint64_t now)
{
	uint16_t next = (uint16_t)(cid + qp->generation);

	tracker->submitted = now;
	tracker->user = user;
	tracker->cid = next;
	return next;
}

/* End the command `cid`: until the next one under its index no completion is expected there. */
static inline void tracker_free(struct nvme_qpair *qp, struct nvme_tracker *tracker, uint16_t cid)
{
	uint16_t next = (uint16_t)(cid + qp->generation);

	/* In this order: the compiler joins stores to neighbours, which costs more than it spares. */
	tracker->next_free = qp->free_head;
	qp->free_head = next;
	tracker->cid = (uint16_t)(next | qp->index_mask);
	qp->outstanding--;
}

static inline int tracker_is_outstanding(const struct nvme_qpair *qp, uint32_t index)
{
	return (qp->trackers[index].cid & qp->index_mask) == index;
}

/* --- completion -------------------------------------------------------------------------- */

/*
 * The second half of the CQ's next entry: SQHD in 15:0, SQID in 31:16, CID in 47:32, the phase tag
 * in 48, the status field above it. In one load, and exclusive-or'ed with what is expected of SQID
 * and phase tag: CQE_PHASE clear says that the device has written the entry, CQE_SQID clear that it
 * is of this queue. The load orders all later loads of the entry after it.
 */
static inline uint64_t cq_peek(const struct nvme_qpair *qp)
{
	const dword_pair *word = (const dword_pair *)&qp->cq[qp->cq_head] + 1;

	return __atomic_load_n(word, __ATOMIC_ACQUIRE) ^ qp->expected;
}

/*
 * The same for a loop that reaps: reads entries into the cache two lines ahead. A device that
 * completes in batches has written them, and their way here is as long as its batch takes.
 */
static inline uint64_t cqe_next(const struct nvme_cqe *cqe, uint64_t expected)
{
	__builtin_prefetch(cqe + 8);
	return __atomic_load_n((const dword_pair *)cqe + 1, __ATOMIC_ACQUIRE) ^ expected;
}

static inline uint64_t cq_next(const struct nvme_qpair *qp)
{
	return cqe_next(&qp->cq[qp->cq_head], qp->expected);
}

#define CQE_SQID (UINT64_C(0xffff) << 16)
#define CQE_PHASE (UINT64_C(1) << 48)

static inline uint16_t cqe_cid(uint64_t end)
{
	return (uint16_t)(end >> 32);
}

static inline uint16_t cqe_status(uint64_t end)
{
	return (uint16_t)(end >> 49);
}

/*
 * The CID of an entry that the device has written, that is of this queue and whose status is 0; of
 * any other entry more than a CID can be. One comparison judges all of it.
 */
static inline uint64_t cqe_good_cid(uint64_t end)
{
	uint64_t without_sqhd = end & ~UINT64_C(0xffff);

	return without_sqhd >> 32 | without_sqhd << 32;
}

/* Whether the device has written the entry `ahead` of the next one. Orders nothing. */
static inline int cq_is_ready(const struct nvme_qpair *qp, uint32_t ahead)
{
	uint32_t at = qp->cq_head + ahead;
	uint16_t phase = qp->expected >> 48;

	if (at >= qp->cq_entries) {
		at -= qp->cq_entries;
		phase ^= 1;
	}
	return (__atomic_load_n(&qp->cq[at].status, __ATOMIC_RELAXED) & 1) == phase;
}

static inline void cq_advance(struct nvme_qpair *qp)
{
	uint32_t head = qp->cq_head + 1;

	if (unlikely(head == qp->cq_entries)) {
		head = 0;
		qp->expected ^= CQE_PHASE;
	}
	qp->cq_head = head;
}

/* The index in a completion's CID: cid_index(qp, cqe_cid(end)). */
static inline uint32_t cqe_index(const struct nvme_qpair *qp, uint64_t end)
{
	return (uint32_t)(end >> 32) & qp->index_mask;
}

/*
 * The tracker of the command that a completion names, or NULL if it names none that is ours: of
 * another queue, free, not below the depth, or of another generation. The caller sees to it that the
 * command was announced.
 */
static inline struct nvme_tracker *cqe_tracker(const struct nvme_qpair *qp,
					       uint64_t end)
{
	struct nvme_tracker *tracker = &qp->trackers[cqe_index(qp, end)];

	return likely(!(end & CQE_SQID) && tracker->cid == cqe_cid(end)) ? tracker : NULL;
}

/* Whether the completion queue has an entry although nothing is outstanding: it names nothing. */
static inline int cq_is_stray(const struct nvme_qpair *qp)
{
	return !qp->outstanding && !(cq_peek(qp) & CQE_PHASE);
}

/* The slow end of cq_doorbell(): the doorbell, and the interrupt where there is one. */
void nvme_cq_report(struct nvme_qpair *qp);

/*
 * Tell the device that `n` were reaped, once it has to know: while `cq_slack` entries or fewer are
 * unreported, the queue has room for all that is outstanding. A register's write is spared so.
 */
static inline void cq_doorbell(struct nvme_qpair *qp, uint32_t n)
{
	qp->completed += n;
	qp->cq_unreported += n;
	if (qp->cq_unreported > qp->cq_slack)
		nvme_cq_report(qp);
}

/* Reap the one completion that cq_peek() saw. Returns its status field, or -EPROTO. */
static inline int cq_take(struct nvme_qpair *qp, uint64_t end)
{
	struct nvme_tracker *tracker = cqe_tracker(qp, end);

	if (unlikely(!tracker))
		return -EPROTO;
	tracker_free(qp, tracker, cqe_cid(end));
	cq_advance(qp);
	cq_doorbell(qp, 1);
	return cqe_status(end);
}

/*
 * End a burst of a loop that reaped `n` completions, and learn from it how many are worth waiting
 * for at once: see nvme_cq_await(). A burst of one says that the device is slower than the loop.
 */
static inline void cq_reaped(struct nvme_qpair *qp, uint32_t n)
{
	uint32_t more = n < 2 ? 1 : 2 * n;

	qp->coalesce = (uint16_t)(more < qp->coalesce_max ? more : qp->coalesce_max);
	cq_doorbell(qp, n);
}

/*
 * Wait until a completion is there or the deadline has come: spinning, or sleeping where there is an
 * interrupt. Returns when the poll that found one began, in ticks, or 0 if there is none; polls at
 * least once. While it spins, the clock is the time-stamp counter: no system call.
 *
 * What the caller does next a processor begins while the entry's line is still on its way, guessing
 * what will be in it. A clock that is read after the poll ends that, and the next command waits for
 * the line: so it is read before. Where no other program comes in between, both are the same.
 *
 * A device that answers faster than the loop bursts, as one in another core's cache does, is first
 * left alone until `coalesce` entries are there, for COALESCE_NS at most: to poll the line that it is
 * about to write costs both sides, and larger bursts mean fewer doorbells.
 */
uint64_t nvme_cq_await(const struct nvme_qpair *qp, struct deadline deadline);

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "NVMe's structures are little-endian; this core writes them as the machine's own words"
#endif

#endif
