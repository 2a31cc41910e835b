/* See _batch.h. */
#include "_batch.h"

#include "_ring_inline.h"

/* NVM Command Set 1.0, section 3.2, figure 14; Base 2.0, figure 391. */
enum {
	OPCODE_FLUSH = 0x00,
	OPCODE_WRITE = 0x01,
	OPCODE_READ = 0x02,
	OPCODE_WRITE_UNCORRECTABLE = 0x04,
	OPCODE_COMPARE = 0x05,
	OPCODE_WRITE_ZEROES = 0x08,
	OPCODE_VERIFY = 0x0c,
};

/* NLB has 16 bits, zero-based. */
#define MOST_BLOCKS 0x10000u

/* One load: another thread may write to the caller's arrays meanwhile. */
static inline uint64_t column_at(const struct nvme_column *column, uint64_t i)
{
	return __atomic_load_n(&column->words[i * column->step], __ATOMIC_RELAXED);
}

static inline int moves_data(uint64_t opcode)
{
	return opcode == OPCODE_READ || opcode == OPCODE_WRITE || opcode == OPCODE_COMPARE;
}

/* An I/O of a batch, as it was when it was looked at. */
struct io {
	uint64_t opcode;
	uint64_t lba;
	uint64_t blocks;
	uint64_t iova; /* of what moves data */
};

/* Look at I/O `i`. Returns 0, or why it cannot be described. */
static inline int batch_look(const struct nvme_qpair *qp, const struct nvme_batch *b, uint64_t i,
			     struct io *io)
{
	uint64_t opcode = io->opcode = column_at(&b->opcodes, i);
	uint64_t lba = io->lba = column_at(&b->lbas, i);
	uint64_t blocks = io->blocks = column_at(&b->blocks, i);
	uint64_t page = qp->page_size;
	uint64_t offset, length, end;

	io->iova = 0;
	if (unlikely(column_at(&b->tags, i) > UINT32_MAX))
		return NVME_BATCH_TAG;
	if (unlikely(opcode == OPCODE_FLUSH))
		return lba || blocks ? NVME_BATCH_RANGE : 0;
	if (unlikely(!moves_data(opcode) && opcode != OPCODE_WRITE_ZEROES &&
		     opcode != OPCODE_WRITE_UNCORRECTABLE && opcode != OPCODE_VERIFY))
		return NVME_BATCH_OPCODE;
	if (unlikely(!blocks || lba > b->block_count || blocks > b->block_count - lba))
		return NVME_BATCH_RANGE;
	if (unlikely(!moves_data(opcode)))
		return blocks > MOST_BLOCKS ? NVME_BATCH_BLOCKS : 0;
	if (unlikely(blocks > b->max_blocks))
		return NVME_BATCH_BLOCKS;
	offset = column_at(&b->offsets, i);
	length = blocks << b->block_shift;
	if (unlikely(offset > b->length || length > b->length - offset))
		return NVME_BATCH_OFFSET;
	io->iova = b->iova + offset;
	if (unlikely(io->iova & 3))
		return NVME_BATCH_ALIGNMENT;
	end = (io->iova & (page - 1)) + length;
	if (unlikely(!qp->use_sgl && end > 2 * page &&
		     end > (1 + (uint64_t)qp->prp_list_entries) * page))
		return NVME_BATCH_PAGES;
	return 0;
}

/* Write an I/O without fault at the tail, under `cid`, and move the tail on. */
static inline void batch_write(struct nvme_qpair *qp, const struct nvme_batch *b,
			       const struct nvme_sqe *command, uint16_t cid, const struct io *io)
{
	struct nvme_sqe *sqe = sq_write(qp, command, cid);

	sqe->opc = (uint8_t)io->opcode;
	if (likely(io->blocks)) {
		*(dword_pair *)&sqe->cdw10 = io->lba;
		sqe->cdw12 = (uint32_t)(io->blocks - 1) |
			     (io->opcode == OPCODE_WRITE_UNCORRECTABLE ? 0 : (uint32_t)b->fua);
		if (likely(moves_data(io->opcode)))
			(void)sqe_set_data(qp, sqe, io->iova,
					   (uint32_t)(io->blocks << b->block_shift));
	}
	sq_advance(qp);
}

/*
 * First all is written that there is room for, beyond the tail that the device knows; then, with no
 * fault in any of it, the CIDs are taken.
 */
int nvme_batch_submit(struct nvme_qpair *qp, struct nvme_batch *b)
{
	struct nvme_sqe command = { .nsid = (uint32_t)b->nsid };
	uint32_t tail = qp->sq_tail;
	uint16_t cid = qp->free_head;
	uint64_t taken = 0;
	uint64_t now;
	int err;

	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	for (uint64_t i = 0; i < b->count; i++) {
		struct io io;
		int fault = batch_look(qp, b, i, &io);

		if (unlikely(fault)) {
			qp->sq_tail = tail;
			b->bad = i;
			return NVME_BATCH_REFUSED - fault;
		}
		if (likely(cid != NO_CID)) {
			batch_write(qp, b, &command, cid, &io);
			cid = tracker_of(qp, cid)->next_free;
			taken++;
		}
	}
	now = ticks_now();
	for (uint64_t i = 0; i < taken; i++)
		tracker_take(qp, (uint32_t)column_at(&b->tags, i), now);
	err = sq_ring(qp);
	return err ? err : (int)taken;
}

int nvme_batch_reap(struct nvme_qpair *qp, struct nvme_outcomes *out, uint64_t timeout_ns)
{
	int count = nvme_qpair_reap(qp, out->scratch, qp->depth, timeout_ns);
	uint64_t failed = 0;

	for (int n = 0; n < count; n++) {
		const struct nvme_completion *done = &out->scratch[n];

		out->tags[n] = done->user;
		out->status[n] = done->status;
		out->latency_ns[n] = done->latency_ns;
		failed += (done->status & STATUS_CODE_AND_TYPE) != 0;
	}
	out->failed = failed;
	out->count = count < 0 ? 0 : (uint64_t)count;
	return count;
}

uint32_t nvme_batch_indices(const struct nvme_qpair *qp, uint16_t *indices, uint32_t count)
{
	uint16_t cid = qp->free_head;
	uint32_t n = 0;

	for (; n < count && cid != NO_CID; n++) {
		indices[n] = (uint16_t)cid_index(qp, cid);
		cid = tracker_of(qp, cid)->next_free;
	}
	return n;
}
