/* What a write carries. See _buffers.h. */
#include "_buffers.h"
#include "_generator.h"

#include <string.h>

/* A dedupe looks for equal blocks, so a change in each of the smallest ones is enough. */
#define SECTOR 512
/* What the choices' random stream comes from: no contents have that number. */
#define NUMBER_OF_CHOICES UINT64_MAX

/* The state that makes the contents `number` of a stream. Mixed first: the seeds of jobs differ by the random step. */
static uint64_t contents_seed(uint64_t stream, uint64_t number)
{
	uint64_t seed = nvme_random_mix(stream + NVME_RANDOM_GAMMA);

	return nvme_random_mix(seed + (number + 1) * NVME_RANDOM_GAMMA);
}

void nvme_buffers_init(struct nvme_buffers *b, uint64_t seed)
{
	b->stream = seed;
	b->choices = contents_seed(seed, NUMBER_OF_CHOICES);
	b->made = 0;
}

/* Choose the contents of the next unit: new ones, or ones that may be there already. */
static uint64_t contents_next(struct nvme_buffers *b)
{
	if (b->repeat_percent &&
	    nvme_random_below(nvme_random_next(&b->choices), 100) < b->repeat_percent) {
		if (b->pool) {
			uint64_t chosen = nvme_random_below(nvme_random_next(&b->choices),
							    b->pool_streams * b->pool_each);

			return contents_seed(b->pool[chosen / b->pool_each],
					     chosen % b->pool_each);
		}
		if (b->made)
			return contents_seed(b->stream, b->made - 1);
	}
	return contents_seed(b->stream, b->made++);
}

/* Random bytes, the next of the contents whose state it is. */
static void random_fill(uint64_t *state, uint8_t *data, uint32_t bytes)
{
	uint32_t i = 0;
	uint64_t word;

	for (; i + sizeof(word) <= bytes; i += sizeof(word)) {
		word = nvme_random_next(state);
		memcpy(data + i, &word, sizeof(word));
	}
	if (i < bytes) {
		word = nvme_random_next(state);
		memcpy(data + i, &word, bytes - i);
	}
}

static void dull_fill(const struct nvme_buffers *b, uint8_t *data, uint32_t bytes)
{
	if (!b->pattern) {
		memset(data, 0, bytes);
		return;
	}
	for (uint32_t done = 0; done < bytes;) {
		uint32_t part = bytes - done < b->pattern_bytes ? bytes - done : b->pattern_bytes;

		memcpy(data + done, b->pattern, part);
		done += part;
	}
}

/* One unit: of each chunk first what is random. A chunk that the unit cuts keeps its beginning. */
static void unit_fill(const struct nvme_buffers *b, uint64_t state, uint8_t *data, uint32_t bytes)
{
	for (uint32_t start = 0; start < bytes; start += b->chunk) {
		uint32_t left = bytes - start < b->chunk ? bytes - start : b->chunk;
		uint32_t noise = left < b->chunk - b->dull ? left : b->chunk - b->dull;

		random_fill(&state, data + start, noise);
		dull_fill(b, data + start + noise, left - noise);
	}
}

/* Eight bytes in each sector, at a place that changes from write to write. */
static void scramble(struct nvme_buffers *b, uint8_t *data, uint32_t bytes)
{
	uint64_t word = nvme_random_next(&b->choices);
	uint32_t place = (uint32_t)(word >> 58) * sizeof(word);

	for (uint32_t start = 0; start < bytes; start += SECTOR) {
		memcpy(data + start + place, &word, sizeof(word));
		word += NVME_RANDOM_GAMMA;
	}
}

void nvme_buffers_fill(struct nvme_buffers *b, uint8_t *data, uint32_t bytes)
{
	if (b->scramble) {
		scramble(b, data, bytes);
		return;
	}
	for (uint32_t start = 0; start < bytes; start += b->unit) {
		uint32_t left = bytes - start < b->unit ? bytes - start : b->unit;

		unit_fill(b, contents_next(b), data + start, left);
	}
}
