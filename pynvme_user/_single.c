/* See _single.h. */
#include "_single.h"

#include "_ring_inline.h"

int nvme_single_submit(const struct nvme_transfer *transfer)
{
	const struct nvme_command_template *template = transfer->template;
	struct nvme_qpair *qp = transfer->qp;
	uint64_t blocks = transfer_blocks(transfer);
	int err;

	if (unlikely(!blocks))
		return -ERANGE;
	if (unlikely(qp->free_head == NO_CID))
		return -EAGAIN;
	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	err = sq_write_io(qp, &template->command, qp->free_head, transfer->lba,
			  (uint32_t)blocks - 1, transfer->iova, (uint32_t)transfer->length);
	if (unlikely(err))
		return err;
	sq_advance(qp);
	return tracker_take(qp, 0, UNANNOUNCED);
}

/* Figure 94: of the second half length in 31:0, type in 63:60. */
#define SGL_LAST_SEGMENT (UINT64_C(3) << 60)

/* Whether a part is one that a descriptor can tell of. */
static int part_is_legal(const struct nvme_part *part)
{
	return part->length && part->length <= UINT32_MAX && !((part->iova | part->length) & 3);
}

/*
 * Describe parts by PRP entries, of which `list` are all but the first (section 4.1.1). Returns 0,
 * -ENOTSUP where one ends or begins within a page, or -EMSGSIZE.
 */
static int sqe_set_prps(const struct nvme_qpair *qp, struct nvme_sqe *sqe,
			const struct nvme_part *parts, uint32_t count, uint64_t *list,
			uint64_t list_iova)
{
	uint64_t page = qp->page_size;
	uint64_t second = 0;
	uint32_t entries = 0;

	for (uint32_t n = 0; n < count; n++) {
		uint64_t end = parts[n].iova + parts[n].length;
		uint64_t at = n ? parts[n].iova : (parts[n].iova | (page - 1)) + 1;

		if ((n && at & (page - 1)) || (n + 1 < count && end & (page - 1)))
			return -ENOTSUP;
		for (; at < end; at += page) {
			if (entries == qp->prp_list_entries)
				return -EMSGSIZE;
			if (entries)
				list[entries] = at;
			else
				second = at;
			entries++;
		}
	}
	if (entries > 1)
		list[0] = second;
	sqe->prp1 = parts[0].iova;
	sqe->prp2 = entries > 1 ? list_iova : second;
	return 0;
}

/* Describe parts by an SGL segment of a data block each (section 4.1.2). Returns 0 or -EMSGSIZE. */
static int sqe_set_sgl(const struct nvme_qpair *qp, struct nvme_sqe *sqe,
		       const struct nvme_part *parts, uint32_t count, uint64_t *list,
		       uint64_t list_iova)
{
	if (count > qp->prp_list_entries / 2)
		return -EMSGSIZE;
	for (uint32_t n = 0; n < count; n++) {
		list[2 * n] = parts[n].iova;
		list[2 * n + 1] = parts[n].length;
	}
	sqe->flags |= PSDT_SGL;
	sqe->prp1 = list_iova;
	sqe->prp2 = count * UINT64_C(16) | SGL_LAST_SEGMENT;
	return 0;
}

int nvme_single_submit_parts(struct nvme_qpair *qp, const struct nvme_sqe *command,
			     const struct nvme_part *parts, uint32_t count)
{
	struct nvme_sqe *sqe;
	size_t at;
	int err;

	if (unlikely(qp->free_head == NO_CID))
		return -EAGAIN;
	if (unlikely(cq_is_stray(qp)))
		return -EPROTO;
	for (uint32_t n = 0; n < count; n++)
		if (!part_is_legal(&parts[n]))
			return -EINVAL;
	at = (size_t)cid_index(qp, qp->free_head) * qp->prp_list_entries;
	sqe = sq_write(qp, command, qp->free_head);
	err = sqe_set_prps(qp, sqe, parts, count, qp->prp_lists + at,
			   qp->prp_lists_iova + at * sizeof(uint64_t));
	if (err == -ENOTSUP && qp->use_sgl)
		err = sqe_set_sgl(qp, sqe, parts, count, qp->prp_lists + at,
				  qp->prp_lists_iova + at * sizeof(uint64_t));
	if (err)
		return err;
	sq_advance(qp);
	return tracker_take(qp, 0, UNANNOUNCED);
}

int nvme_single_reap(struct nvme_reaped *reaped, uint64_t timeout_ns)
{
	struct nvme_qpair *qp = reaped->qp;
	int count = nvme_qpair_reap(qp, reaped->completions, qp->depth, timeout_ns);
	uint32_t other = 0;

	for (int n = 0; n < count; n++) {
		const struct nvme_completion *done = &reaped->completions[n];

		reaped->cids[n] = done->cid;
		reaped->latency_ns[n] = done->latency_ns;
		other |= done->status | done->dw0 | done->dw1;
	}
	reaped->plain = !other;
	return count;
}
