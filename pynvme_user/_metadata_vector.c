/* See _metadata_vector.h. */
#include "_metadata_vector.h"

#include "_ring_inline.h"

/* Put the reference tag of a command from `lba` on into its logical block tags. */
static void sqe_set_ref_tag(struct nvme_sqe *sqe, const struct nvme_metadata_vector *v, uint64_t lba)
{
	uint64_t tag = lba + v->ref_tag_offset;

	if (!v->ref_tag_bits)
		return;
	if (v->ref_tag_bits < 64)
		tag &= (UINT64_C(1) << v->ref_tag_bits) - 1;
	sqe->cdw14 |= (uint32_t)tag;
	sqe->cdw3 |= (uint32_t)(tag >> 32);
}

/* Put the next I/O into the submission queue. Returns its CID or a negative errno. */
static int metadata_submit(struct nvme_qpair *qp, struct nvme_metadata_vector *v)
{
	const struct nvme_vector *io = &v->vector;
	uint32_t i = io->submitted;
	uint32_t at = io->slots ? cid_index(qp, qp->free_head) : i;
	uint32_t blocks = vector_blocks(io, i);
	struct nvme_sqe sqe = io->command;

	sqe.cdw10 = (uint32_t)io->lbas[i];
	sqe.cdw11 = (uint32_t)(io->lbas[i] >> 32);
	sqe.cdw12 |= blocks - 1;
	if (v->metadata)
		sqe.mptr = v->metadata[at];
	sqe_set_ref_tag(&sqe, v, io->lbas[i]);
	if (!io->iovas)
		return nvme_qpair_submit(qp, &sqe, 0, 0, i);
	return nvme_qpair_submit(qp, &sqe, io->iovas[at], blocks * v->block_bytes, i);
}

/* Fill the queue, and tell the device. Returns 0 or a negative errno. */
static int metadata_fill(struct nvme_qpair *qp, struct nvme_metadata_vector *v)
{
	int cid = 0;
	int rung;

	while (v->vector.submitted < v->vector.count && qp->free_head != NO_CID) {
		cid = metadata_submit(qp, v);
		if (cid < 0)
			break;
		v->vector.submitted++;
	}
	/* Also after an error: those before it are to be drained. */
	rung = nvme_qpair_doorbell(qp);
	return cid < 0 ? cid : rung;
}

/* Take what has completed into the arrays. */
static void metadata_reap(struct nvme_vector *io, const struct nvme_completion *done, int count)
{
	for (int n = 0; n < count; n++) {
		io->status[done[n].user] = done[n].status;
		io->latency_ns[done[n].user] = done[n].latency_ns;
		io->failed += (done[n].status & STATUS_CODE_AND_TYPE) != 0;
	}
	io->completed += (uint32_t)count;
}

int nvme_metadata_vector_run(struct nvme_qpair *qp, struct nvme_metadata_vector *v,
			     uint64_t timeout_ns)
{
	struct deadline deadline = { ticks_now(), ns_to_ticks(timeout_ns) };
	struct nvme_completion done[NVME_BURST];

	for (;;) {
		uint64_t passed = ticks_now() - deadline.start;
		int count = metadata_fill(qp, v);

		if (count || v->vector.completed == v->vector.count)
			return count ? count : 1;
		if (passed >= deadline.ticks)
			return 0;
		count = nvme_qpair_wait(qp, done, NVME_BURST,
					ticks_to_ns(deadline.ticks - passed));
		if (count <= 0)
			return count;
		metadata_reap(&v->vector, done, count);
	}
}
