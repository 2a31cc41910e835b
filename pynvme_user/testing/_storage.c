/* The storage, and the faults that are planted between it and the host. */
#define _DEFAULT_SOURCE
#include "_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From here on a system call is cheaper than the memory. */
#define DISCARDED (1u << 20)

static uint8_t *media_at(const struct controller *c, uint64_t lba)
{
	return c->config.storage + (lba << c->config.block_shift);
}

static void flip(const struct controller_rule *rule, uint8_t *data, uint64_t length)
{
	uint64_t bit = (uint64_t)rule->value % (8 * length);

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
	const struct controller_rule *rule;
	uint16_t status;

	if (c->was_read) {
		if (are_read(c, lba, blocks) &&
		    controller_plants(c, sqe, CONTROLLER_STALE_READ, lba, blocks))
			media = c->previous + (lba << c->config.block_shift);
		memset(c->was_read + lba, 1, blocks);
	}
	rule = controller_plants(c, sqe, CONTROLLER_READ_FLIP, lba, blocks);
	if (!rule)
		return controller_move(c, sqe, TO_HOST, media, length);
	/* The storage is right, and for this one read it is not. */
	flip(rule, media, length);
	status = controller_move(c, sqe, TO_HOST, media, length);
	flip(rule, media, length);
	return status;
}

/* Store the first blocks of a write alone. */
static uint16_t write_torn(struct controller *c, const struct nvme_sqe *sqe, uint64_t lba,
			   uint64_t blocks, uint64_t stored_blocks)
{
	uint64_t stored = stored_blocks << c->config.block_shift;
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
	const struct controller_rule *rule;
	uint16_t status;

	if (controller_plants(c, sqe, CONTROLLER_LOST_WRITE, lba, blocks))
		return SUCCESS;
	rule = controller_plants(c, sqe, CONTROLLER_TORN_WRITE, lba, blocks);
	if (rule)
		return write_torn(c, sqe, lba, blocks, (uint64_t)rule->value);
	rule = controller_plants(c, sqe, CONTROLLER_MISDIRECTED, lba, blocks);
	if (rule)
		lba += (uint64_t)rule->value;
	keep_previous(c, lba, blocks);
	status = controller_move(c, sqe, FROM_HOST, media_at(c, lba), length);
	if (status)
		return status;
	rule = controller_plants(c, sqe, CONTROLLER_WRITE_FLIP, lba, blocks);
	if (rule)
		flip(rule, media_at(c, lba), length);
	return SUCCESS;
}

/* As memset() to 0; the pages of a large piece are given back. */
static void zero(uint8_t *start, uint64_t length)
{
	uint8_t *first = start + (-(uintptr_t)start & (PAGE_SIZE - 1));
	uint8_t *last = start + length - ((uintptr_t)(start + length) & (PAGE_SIZE - 1));

	if (length < DISCARDED || madvise(first, (size_t)(last - first), MADV_REMOVE)) {
		memset(start, 0, length);
		return;
	}
	memset(start, 0, (size_t)(first - start));
	memset(last, 0, (size_t)(start + length - last));
}

void controller_zero_blocks(struct controller *c, uint64_t lba, uint64_t blocks)
{
	if (!c->config.storage)
		return;
	keep_previous(c, lba, blocks);
	zero(media_at(c, lba), blocks << c->config.block_shift);
}

void controller_set_namespace(struct controller *c, uint8_t *storage, uint64_t blocks,
			      uint32_t block_shift)
{
	controller_enter(c);
	/* What was there before is of other blocks. */
	free(c->previous);
	free(c->was_read);
	c->previous = c->was_read = NULL;
	c->config.storage = storage;
	c->config.blocks = blocks;
	c->config.block_shift = block_shift;
	controller_leave(c);
}
