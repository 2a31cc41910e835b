/* Data pointers, and the I/O commands that use them. */
#include "_internal.h"

#include <string.h>

#define LIST_ENTRIES (PAGE_SIZE / 8)
/* Enough for any transfer in page-sized pieces; a list that goes on is one that runs in circles. */
#define SGL_DESCRIPTORS_MAX (1u << 17)

enum sgl_type { SGL_DATA_BLOCK = 0, SGL_SEGMENT = 2, SGL_LAST_SEGMENT = 3 };

/* SGL descriptor, NVMe Base 2.0 figure 94. */
struct sgl {
	uint64_t address;
	uint32_t length;
	uint8_t reserved[3];
	uint8_t type; /* type 7:4, subtype 3:0 */
};

void *controller_translate(struct controller *c, uint64_t iova, uint64_t length)
{
	/* A queue's data mostly lies where the last piece did. */
	const struct region *region;
	uint32_t low = 0, high = c->region_count;

	if (!high)
		return NULL;
	region = &c->regions[c->last_region];
	if (iova - region->iova >= region->length) {
		while (high - low > 1) {
			uint32_t middle = (low + high) / 2;

			if (c->regions[middle].iova <= iova)
				low = middle;
			else
				high = middle;
		}
		region = &c->regions[low];
		if (iova - region->iova >= region->length)
			return NULL;
		c->last_region = low;
	}
	if (length > region->length - (iova - region->iova))
		return NULL;
	return region->address + (iova - region->iova);
}

static uint16_t move_piece(struct controller *c, enum move move, uint8_t *media, uint64_t iova,
			   uint64_t length)
{
	void *host = controller_translate(c, iova, length);

	if (!host)
		return DATA_TRANSFER_ERROR;
	if (!controller_may(c, move == TO_HOST ? CONTROLLER_RDS : CONTROLLER_WDS))
		return INVALID_USE_OF_CMB;
	switch (move) {
	case TO_HOST:
		memcpy(host, media, length);
		return SUCCESS;
	case FROM_HOST:
		memcpy(media, host, length);
		return SUCCESS;
	case COMPARE:
		return memcmp(media, host, length) ? COMPARE_FAILURE : SUCCESS;
	}
	return INVALID_FIELD;
}

/* PRP entries: NVMe Base 2.0, section 4.1.1. */
static uint16_t move_prps(struct controller *c, const struct nvme_sqe *sqe, enum move move,
			  uint8_t *media, uint64_t length)
{
	uint64_t first = PAGE_SIZE - sqe->prp1 % PAGE_SIZE;
	uint64_t list = sqe->prp2;
	uint16_t status;

	if (sqe->prp1 & 3)
		return PRP_OFFSET_INVALID;
	if (first > length)
		first = length;
	status = move_piece(c, move, media, sqe->prp1, first);
	media += first;
	length -= first;
	if (status || !length)
		return status;
	if (length <= PAGE_SIZE)
		return sqe->prp2 % PAGE_SIZE ? PRP_OFFSET_INVALID
					     : move_piece(c, move, media, sqe->prp2, length);
	if (list & 7)
		return PRP_OFFSET_INVALID;
	while (length) {
		uint64_t count = LIST_ENTRIES - list % PAGE_SIZE / 8;
		uint64_t needed = (length + PAGE_SIZE - 1) / PAGE_SIZE;
		/* The last entry of a page that cannot describe all is the next page's address. */
		uint64_t here = needed > count ? count - 1 : needed;
		const uint64_t *entries =
		    controller_translate(c, list, (here + (needed > count)) * 8);

		if (!entries)
			return DATA_TRANSFER_ERROR;
		if (!controller_may(c, CONTROLLER_LISTS))
			return INVALID_USE_OF_CMB;
		for (uint64_t i = 0; i < here; i++) {
			uint64_t piece = length < PAGE_SIZE ? length : PAGE_SIZE;

			if (entries[i] % PAGE_SIZE)
				return PRP_OFFSET_INVALID;
			status = move_piece(c, move, media, entries[i], piece);
			if (status)
				return status;
			media += piece;
			length -= piece;
		}
		if (needed > count) {
			list = entries[count - 1];
			if (list % PAGE_SIZE)
				return PRP_OFFSET_INVALID;
		}
	}
	return SUCCESS;
}

/*
 * SGLs: NVMe Base 2.0, section 4.1.2. The bytes described have to be exactly the transfer's. A
 * segment is one descriptor, the command's own, or what a segment descriptor, always the last of
 * its segment, leads to; none comes after a last segment.
 */
static uint16_t move_sgl(struct controller *c, const struct nvme_sqe *sqe, enum move move,
			 uint8_t *media, uint64_t length)
{
	const uint8_t *at = (const uint8_t *)&sqe->prp1;
	uint64_t left = 1; /* descriptors in this segment */
	int last = 0;

	for (uint32_t seen = 0; seen < SGL_DESCRIPTORS_MAX; seen++) {
		struct sgl sgl;
		uint16_t status;

		memcpy(&sgl, at, sizeof(sgl));
		at += sizeof(sgl);
		left--;
		switch (sgl.type) {
		case SGL_DATA_BLOCK << 4:
			if (sgl.length > length)
				return DATA_SGL_LENGTH_INVALID;
			status = move_piece(c, move, media, sgl.address, sgl.length);
			if (status)
				return status;
			media += sgl.length;
			length -= sgl.length;
			if (!left)
				return length ? DATA_SGL_LENGTH_INVALID : SUCCESS;
			break;
		case SGL_SEGMENT << 4:
		case SGL_LAST_SEGMENT << 4:
			if (left || last || !sgl.length || sgl.length % sizeof(sgl) ||
			    sgl.address & 7)
				return INVALID_SGL_DESCRIPTOR;
			last = sgl.type == SGL_LAST_SEGMENT << 4;
			left = sgl.length / sizeof(sgl);
			at = controller_translate(c, sgl.address, sgl.length);
			if (!at)
				return DATA_TRANSFER_ERROR;
			if (!controller_may(c, CONTROLLER_LISTS))
				return INVALID_USE_OF_CMB;
			break;
		default:
			return SGL_TYPE_INVALID;
		}
	}
	return INVALID_SGL_DESCRIPTOR;
}

uint16_t controller_call_move_at(struct controller_call *call, int to_host, uint64_t iova,
				 void *data, uint64_t length)
{
	return move_piece(call->controller, to_host ? TO_HOST : FROM_HOST, data, iova, length);
}

uint16_t controller_move(struct controller *c, const struct nvme_sqe *sqe, enum move move,
			 uint8_t *media, uint64_t length)
{
	switch (sqe->flags >> 6) {
	case 0:
		return move_prps(c, sqe, move, media, length);
	case 1:
	case 2: /* no metadata: where it would lie makes no difference */
		return move_sgl(c, sqe, move, media, length);
	}
	return INVALID_FIELD;
}

/* Dataset Management, NVM Command Set 1.0 section 3.2.3: what is deallocated reads as zeros. */
static uint16_t deallocate(struct controller *c, const struct nvme_sqe *sqe)
{
	struct {
		uint32_t attributes;
		uint32_t blocks;
		uint64_t lba;
	} ranges[256];
	uint32_t count = (sqe->cdw10 & 0xff) + 1;
	uint16_t status;

	if (!c->config.blocks)
		return controller_refused(c, LBA_OUT_OF_RANGE);
	status = controller_move(c, sqe, FROM_HOST, (uint8_t *)ranges, count * sizeof(ranges[0]));
	if (status)
		return status;
	for (uint32_t i = 0; i < count; i++)
		if (ranges[i].lba > c->config.blocks ||
		    ranges[i].blocks > c->config.blocks - ranges[i].lba)
			return controller_refused(c, LBA_OUT_OF_RANGE);
	for (uint32_t i = 0; i < count && sqe->cdw11 & 4; i++)
		if (!controller_plants(c, sqe, CONTROLLER_KEPT_TRIM, ranges[i].lba,
				       ranges[i].blocks))
			controller_zero_blocks(c, ranges[i].lba, ranges[i].blocks);
	return SUCCESS;
}

uint16_t controller_io(struct controller *c, const struct nvme_sqe *sqe)
{
	uint64_t lba = (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
	uint64_t blocks = (sqe->cdw12 & 0xffff) + 1;
	uint64_t length = blocks << c->config.block_shift;

	if (sqe->flags & 3) /* no fused commands */
		return controller_refused(c, INVALID_FIELD);
	if (sqe->opc == OPC_FLUSH && sqe->nsid == 0xffffffff)
		return SUCCESS;
	if (sqe->nsid != 1)
		return controller_refused(c, INVALID_NAMESPACE);
	switch (sqe->opc) {
	case OPC_FLUSH: /* nothing is kept back */
		return c->config.blocks ? SUCCESS : controller_refused(c, INVALID_NAMESPACE);
	case OPC_WRITE:
	case OPC_READ:
	case OPC_COMPARE:
		if (c->config.mdts && length > (uint64_t)PAGE_SIZE << c->config.mdts)
			return controller_refused(c, INVALID_FIELD);
		break;
	case OPC_WRITE_ZEROES:
		break;
	case OPC_DATASET_MANAGEMENT:
		return deallocate(c, sqe);
	default:
		return controller_refused(c, INVALID_OPCODE);
	}
	if (lba >= c->config.blocks || blocks > c->config.blocks - lba)
		return controller_refused(c, LBA_OUT_OF_RANGE);
	if (!c->config.storage)
		return SUCCESS;
	switch (sqe->opc) {
	case OPC_WRITE:
		return controller_write_blocks(c, sqe, lba, blocks);
	case OPC_READ:
		return controller_read_blocks(c, sqe, lba, blocks);
	case OPC_COMPARE:
		return controller_move(c, sqe, COMPARE,
				       c->config.storage + (lba << c->config.block_shift), length);
	}
	controller_zero_blocks(c, lba, blocks);
	return SUCCESS;
}
