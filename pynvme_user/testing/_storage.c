/* The storage, and the faults that are planted between it and the host. */
#include "_internal.h"

#include <stdlib.h>
#include <string.h>

int controller_is_turn(struct controller *c, uint64_t lba)
{
	if (++c->candidates % c->config.fault_every)
		return 0;
	if (c->log.planted < CONTROLLER_PLANTED)
		c->log.lbas[c->log.planted] = lba;
	c->log.planted++;
	return 1;
}

int controller_set_fault(struct controller *c, uint32_t kind, uint32_t every, int64_t value)
{
	size_t blocks = c->config.blocks;

	free(c->previous);
	free(c->was_read);
	c->previous = c->was_read = NULL;
	c->config.fault = FAULT_NONE;
	c->candidates = 0;
	if (kind >= FAULTS || (kind && !every) || (kind == FAULT_TORN_WRITE && value < 1))
		return -EINVAL;
	if (kind == FAULT_STALE_READ && c->config.storage) {
		c->previous = calloc(blocks, (size_t)1 << c->config.block_shift);
		c->was_read = calloc(blocks, 1);
		if (!c->previous || !c->was_read)
			return -ENOMEM;
	}
	c->config.fault = kind;
	c->config.fault_every = every;
	c->config.fault_value = value;
	return 0;
}

static uint8_t *media_at(const struct controller *c, uint64_t lba)
{
	return c->config.storage + (lba << c->config.block_shift);
}

static void flip(const struct controller *c, uint8_t *data, uint64_t length)
{
	uint64_t bit = (uint64_t)c->config.fault_value % (8 * length);

	data[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* --- stale data ---------------------------------------------------------------------------- */

static int are_read(const struct controller *c, uint64_t lba, uint64_t blocks)
{
	for (uint64_t i = 0; i < blocks; i++)
		if (!c->was_read[lba + i])
			return 0;
	return 1;
}

/* Blocks are about to change: keep what they hold. */
static void keep_previous(struct controller *c, uint64_t lba, uint64_t blocks)
{
	if (!c->was_read)
		return;
	memcpy(c->previous + (lba << c->config.block_shift), media_at(c, lba),
	       blocks << c->config.block_shift);
	memset(c->was_read + lba, 0, blocks);
}

/* --- reads and writes ---------------------------------------------------------------------- */

uint16_t controller_read_blocks(struct controller *c, const struct nvme_sqe *sqe, uint64_t lba,
				uint64_t blocks)
{
	uint64_t length = blocks << c->config.block_shift;
	uint8_t *media = media_at(c, lba);
	uint16_t status;

	if (c->was_read) {
		if (are_read(c, lba, blocks) && controller_plants(c, FAULT_STALE_READ, lba))
			media = c->previous + (lba << c->config.block_shift);
		memset(c->was_read + lba, 1, blocks);
	}
	if (!controller_plants(c, FAULT_READ_FLIP, lba))
		return controller_move(c, sqe, TO_HOST, media, length);
	/* The storage is right, and for this one read it is not. */
	flip(c, media, length);
	status = controller_move(c, sqe, TO_HOST, media, length);
	flip(c, media, length);
	return status;
}

/* Store the first blocks of a write alone. */
static uint16_t write_torn(struct controller *c, const struct nvme_sqe *sqe, uint64_t lba,
			   uint64_t blocks)
{
	uint64_t stored = (uint64_t)c->config.fault_value << c->config.block_shift;
	uint64_t length = blocks << c->config.block_shift;
	uint8_t *rest = malloc(length - stored);
	uint16_t status;

	if (!rest)
		return DATA_TRANSFER_ERROR;
	/* What a data pointer means depends on the length of the whole transfer. */
	memcpy(rest, media_at(c, lba) + stored, length - stored);
	status = controller_move(c, sqe, FROM_HOST, media_at(c, lba), length);
	memcpy(media_at(c, lba) + stored, rest, length - stored);
	free(rest);
	return status;
}

uint16_t controller_write_blocks(struct controller *c, const struct nvme_sqe *sqe, uint64_t lba,
				 uint64_t blocks)
{
	uint64_t length = blocks << c->config.block_shift;
	/* Wraps to a number beyond all blocks where it would be below the first. */
	uint64_t elsewhere = lba + (uint64_t)c->config.fault_value;
	uint16_t status;

	if (controller_plants(c, FAULT_LOST_WRITE, lba))
		return SUCCESS;
	if (blocks > (uint64_t)c->config.fault_value && controller_plants(c, FAULT_TORN_WRITE, lba))
		return write_torn(c, sqe, lba, blocks);
	if (elsewhere < c->config.blocks && blocks <= c->config.blocks - elsewhere &&
	    controller_plants(c, FAULT_MISDIRECTED, lba))
		lba = elsewhere;
	keep_previous(c, lba, blocks);
	status = controller_move(c, sqe, FROM_HOST, media_at(c, lba), length);
	if (!status && controller_plants(c, FAULT_WRITE_FLIP, lba))
		flip(c, media_at(c, lba), length);
	return status;
}

void controller_zero_blocks(struct controller *c, uint64_t lba, uint64_t blocks)
{
	if (!c->config.storage)
		return;
	keep_previous(c, lba, blocks);
	memset(media_at(c, lba), 0, blocks << c->config.block_shift);
}
