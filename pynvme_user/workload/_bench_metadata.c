/* See _bench_metadata.h. */
#include "_bench_metadata.h"

#include "_ring_inline.h"

/* Media and Data Integrity Errors (NVM Command Set 1.1, figure 19), SCT in 10:8. */
#define GUARD_CHECK_ERROR 0x282
#define APPLICATION_TAG_CHECK_ERROR 0x283
#define REFERENCE_TAG_CHECK_ERROR 0x284

int nvme_bench_metadata_write(struct nvme_qpair *qp, const struct nvme_bench_metadata *m,
			      const struct nvme_sqe *command, uint16_t cid, uint64_t lba,
			      uint32_t first, uint32_t blocks, uint64_t iova)
{
	struct nvme_sqe *sqe = &qp->sq[qp->sq_tail];
	uint64_t tag = lba;
	int err = sq_write_io(qp, command, cid, lba, blocks - 1,
			      iova + (uint64_t)first * m->block_bytes, blocks * m->block_bytes);

	if (m->metadata_bytes)
		sqe->mptr = iova + m->offset + (uint64_t)first * m->metadata_bytes;
	if (m->ref_tag_bits) {
		if (m->ref_tag_bits < 64)
			tag &= (UINT64_C(1) << m->ref_tag_bits) - 1;
		sqe->cdw14 |= (uint32_t)tag;
		sqe->cdw3 |= (uint32_t)(tag >> 32);
	}
	return err;
}

/* Let `protection` be about an I/O whose data is there. */
static void metadata_take(struct nvme_bench_metadata *m, const struct nvme_io *io, uint8_t *data)
{
	struct nvme_protection *p = &m->protection;

	p->data = data;
	p->metadata = data + (m->metadata_bytes ? m->offset : p->block_size);
	p->blocks = io->blocks;
	p->ref_tag = m->ref_tag_bits ? io->lba : 0;
}

void nvme_bench_metadata_generate(struct nvme_bench_metadata *m, const struct nvme_io *io,
				  uint8_t *data)
{
	if (!m->is_protected)
		return;
	metadata_take(m, io, data);
	nvme_protection_generate(&m->protection);
}

uint16_t nvme_bench_metadata_check(struct nvme_bench_metadata *m, const struct nvme_io *io,
				   uint8_t *data)
{
	struct nvme_protection_fault fault;

	if (!m->is_protected || io->direction != NVME_DIRECTION_READ)
		return 0;
	metadata_take(m, io, data);
	if (!nvme_protection_check(&m->protection, &fault))
		return 0;
	if (!m->fault_count++) {
		m->fault = fault;
		m->fault_lba = io->lba + fault.block;
	}
	switch (fault.part) {
	case NVME_PROTECTION_GUARD:
		return GUARD_CHECK_ERROR;
	case NVME_PROTECTION_APP_TAG:
		return APPLICATION_TAG_CHECK_ERROR;
	default:
		return REFERENCE_TAG_CHECK_ERROR;
	}
}
