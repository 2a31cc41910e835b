/*
 * Data verification: the table, filling and the quick check. See _verify.h for what each function
 * does and does not do; _verify_fault.c names the fault where the quick check does not hold.
 *
 * Ordering: a table word is stored before the caller's doorbell, which has a full barrier before
 * it, and after the caller saw the completion. A killed process's stores are in the page cache up
 * to the last one that it made, so the table never acknowledges what was not acknowledged, and
 * never lacks a write that the device may have been told of.
 */
#include "_verify.h"
#include "_checksum.h"

#include <string.h>

#define GOLDEN_RATIO UINT64_C(0x9e3779b97f4a7c15) /* 2^64 divided by it, odd */
#define MULTIPLIER_1 UINT64_C(0xbf58476d1ce4e5b9)
#define MULTIPLIER_2 UINT64_C(0x94d049bb133111eb)

/* --- the table ----------------------------------------------------------------------------- */

/* Words are read and written by one thread, and looked at by others: no tearing is all it needs. */
static inline uint64_t word_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void word_store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline uint64_t behind_more(uint32_t behind, int shift)
{
	return (uint64_t)(behind < FAR_BEHIND ? behind + 1 : FAR_BEHIND) << shift;
}

/* The word once one more generation is issued, with a writer outstanding. */
static inline uint64_t word_issue(uint64_t word)
{
	uint32_t unacknowledged = word & WORD_KNOWN ? WORD_UNACKNOWLEDGED(word) : FAR_BEHIND;
	uint32_t unseen = word & WORD_KNOWN ? WORD_UNSEEN(word) : FAR_BEHIND;

	return (uint32_t)(WORD_ISSUED(word) + 1) |
	       behind_more(unacknowledged, WORD_UNACKNOWLEDGED_SHIFT) |
	       behind_more(unseen, WORD_UNSEEN_SHIFT) | WORD_KNOWN | WORD_WRITER |
	       (word & (WORD_ZEROED | WORD_DEALLOCATED | WORD_TRIMMED));
}

/* The word once the generation that was issued last is acknowledged. */
static inline uint64_t word_acknowledge(uint64_t word)
{
	return word & ~(WORD_BEHIND_MASK << WORD_UNACKNOWLEDGED_SHIFT | WORD_ZEROED |
			WORD_DEALLOCATED);
}

static inline uint64_t trim_flag(int kind)
{
	return kind == NVME_VERIFY_WRITE_ZEROES ? WORD_ZEROED : WORD_DEALLOCATED;
}

/* Find the words of a range. Returns their number, or -EINVAL. */
static inline int64_t find_words(const struct nvme_verify *v, uint64_t lba, uint32_t blocks,
				 uint64_t **words)
{
	uint64_t relative = lba - v->first_lba;
	uint64_t index = relative / v->interval_blocks;
	uint64_t count = blocks / v->interval_blocks;

	if (lba < v->first_lba || relative % v->interval_blocks || blocks % v->interval_blocks ||
	    !blocks || index >= v->intervals || count > v->intervals - index)
		return -EINVAL;
	*words = v->table + index;
	return (int64_t)count;
}

/* As find_words(), and -EBUSY where an I/O stands in the way of a write. */
static inline int64_t find_free_words(const struct nvme_verify *v, uint64_t lba, uint32_t blocks,
				      uint64_t **words)
{
	int64_t count = find_words(v, lba, blocks, words);

	for (int64_t i = 0; i < count; i++)
		if (word_load(*words + i) & (WORD_WRITER | WORD_READERS))
			return -EBUSY;
	return count;
}

void nvme_verify_release(uint64_t *word, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (word[i] & (WORD_WRITER | WORD_READERS))
			word_store(word + i, word[i] & ~(WORD_WRITER | WORD_READERS));
}

/* --- what a block holds -------------------------------------------------------------------- */

/* Different for each generation of each block; the finisher is SplitMix64's. */
static inline uint64_t block_key(uint64_t seed, uint64_t lba, uint32_t generation)
{
	uint64_t key = seed + lba * GOLDEN_RATIO;

	key = (key ^ (key >> 30)) * MULTIPLIER_1;
	key += generation * GOLDEN_RATIO;
	key = (key ^ (key >> 27)) * MULTIPLIER_2;
	return key ^ (key >> 31);
}

uint32_t nvme_verify_tag(uint64_t seed, const struct nvme_verify_stamp *stamp)
{
	uint64_t command = (uint64_t)stamp->command_blocks << 32 | stamp->command_first;
	uint64_t tag = block_key(seed, stamp->lba, stamp->generation) ^
		       stamp->sequence * GOLDEN_RATIO;

	tag = (tag ^ (tag >> 32)) * MULTIPLIER_1;
	tag = (tag ^ command) * MULTIPLIER_2;
	tag = (tag ^ (tag >> 29)) * MULTIPLIER_1;
	return (uint32_t)(tag >> 32);
}

/*
 * A counter, scrambled by shifts alone: no vector unit lacks them, and the compiler makes as wide
 * stores of it as it may.
 */
static inline __attribute__((always_inline))
void scramble_words(uint8_t *out, uint64_t key, uint32_t first, uint32_t end)
{
	uint64_t counter = key + first * GOLDEN_RATIO;

	for (uint32_t i = first; i < end; i++, counter += GOLDEN_RATIO) {
		uint64_t word = counter;

		word ^= word >> 29;
		word ^= word << 21;
		word ^= word >> 13;
		memcpy(out + (size_t)i * 8, &word, sizeof(word));
	}
}

#if defined(__x86_64__)
__attribute__((target("avx2")))
static void fill_words_avx2(uint8_t *out, uint64_t key, uint32_t first, uint32_t end)
{
	scramble_words(out, key, first, end);
}
#endif

static void fill_words(uint8_t *out, uint64_t key, uint32_t first, uint32_t end)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2")) {
		fill_words_avx2(out, key, first, end);
		return;
	}
#endif
	scramble_words(out, key, first, end);
}

static void fill_pattern(const struct nvme_verify *v, uint32_t block, uint8_t *out)
{
	const uint8_t *pattern = v->offsets_count ? v->rendered : v->pattern;
	uint32_t period = v->pattern_length;
	uint32_t phase = (uint32_t)((uint64_t)block * v->block_size % period);
	uint32_t done;

	/* The first period, then twice as much each time; a period is shorter than a block. */
	memcpy(out, pattern + phase, period - phase);
	memcpy(out + period - phase, pattern, phase);
	for (done = period; done <= v->block_size / 2; done *= 2)
		memcpy(out + done, out, done);
	memcpy(out + done, out, v->block_size - done);
}

void nvme_verify_make_data(const struct nvme_verify *v, uint64_t seed, uint64_t lba,
			   uint32_t generation, uint32_t block, uint8_t *out)
{
	if (v->method == NVME_VERIFY_PATTERN || v->method == NVME_VERIFY_PATTERN_HDR)
		fill_pattern(v, block, out);
	else
		fill_words(out, block_key(seed, lba, generation),
			   nvme_verify_overhead(v, block) / 8, v->block_size / 8);
}

void nvme_verify_render(struct nvme_verify *v, uint64_t lba)
{
	uint64_t offset = lba * v->block_size;

	if (!v->offsets_count)
		return;
	memcpy(v->rendered, v->pattern, v->pattern_length);
	for (uint32_t i = 0; i < v->offsets_count; i++)
		memcpy(v->rendered + v->offsets[i], &offset, sizeof(offset));
}

uint64_t nvme_verify_checksum(const struct nvme_verify *v, const uint8_t *interval)
{
	const uint8_t *data = interval + sizeof(struct nvme_verify_header);
	size_t length = nvme_verify_interval_size(v) - sizeof(struct nvme_verify_header);

	switch (v->method) {
	case NVME_VERIFY_CRC32C:
		return checksum_crc32c(0, data, length);
	case NVME_VERIFY_XXHASH:
		return checksum_xxh64(data, length, 0);
	default:
		return 0;
	}
}

static inline uint32_t header_checksum(const struct nvme_verify_header *header)
{
	return checksum_crc32c(0, header, offsetof(struct nvme_verify_header, header_checksum));
}

int nvme_verify_header_sound(const struct nvme_verify_header *header)
{
	return header->magic == NVME_VERIFY_MAGIC && header->version == NVME_VERIFY_VERSION &&
	       header->header_checksum == header_checksum(header);
}

/* Fill interval number `index` of a command. */
static void fill_interval(struct nvme_verify *v, uint64_t lba, uint32_t generation, uint32_t index,
			  uint32_t command_blocks, uint8_t *interval)
{
	struct nvme_verify_header header = {
		.magic = NVME_VERIFY_MAGIC,
		.version = NVME_VERIFY_VERSION,
		.method = (uint8_t)v->method,
		.job = (uint16_t)v->job,
		.seed = v->seed,
		.length = nvme_verify_interval_size(v),
	};
	struct nvme_verify_stamp stamp = {
		.generation = generation,
		.sequence = v->sequence,
		.command_blocks = command_blocks,
	};

	nvme_verify_render(v, lba);
	for (uint32_t block = 0; block < v->interval_blocks; block++) {
		uint8_t *out = interval + (size_t)block * v->block_size;

		if (v->method != NVME_VERIFY_META)
			nvme_verify_make_data(v, v->seed, lba + block, generation, block, out);
		if (v->method == NVME_VERIFY_PATTERN)
			continue;
		stamp.lba = lba + block;
		stamp.command_first = index * v->interval_blocks + block;
		stamp.tag = nvme_verify_tag(v->seed, &stamp);
		memcpy(out, &stamp, sizeof(stamp));
	}
	if (v->method == NVME_VERIFY_PATTERN)
		return;
	memcpy(&header.stamp, interval, sizeof(header.stamp));
	header.checksum = nvme_verify_checksum(v, interval);
	header.header_checksum = header_checksum(&header);
	memcpy(interval, &header, sizeof(header));
}

/*
 * True if an interval is what generation `generation` of it must be, as far as the method looks.
 * False is no verdict yet.
 */
static int interval_matches(struct nvme_verify *v, uint64_t lba, uint32_t generation,
			    const uint8_t *interval)
{
	struct nvme_verify_header header;
	struct nvme_verify_stamp stamp;

	if (v->method != NVME_VERIFY_PATTERN) {
		memcpy(&header, interval, sizeof(header));
		if (header.stamp.lba != lba || header.stamp.generation != generation ||
		    header.seed != v->seed || header.method != v->method ||
		    header.length != nvme_verify_interval_size(v) ||
		    !nvme_verify_header_sound(&header) ||
		    header.checksum != nvme_verify_checksum(v, interval))
			return 0;
	}
	if (v->method == NVME_VERIFY_CRC32C || v->method == NVME_VERIFY_XXHASH)
		return 1;
	nvme_verify_render(v, lba);
	for (uint32_t block = 0; block < v->interval_blocks; block++) {
		const uint8_t *found = interval + (size_t)block * v->block_size;
		uint32_t overhead = nvme_verify_overhead(v, block);

		if (overhead) {
			memcpy(&stamp, found, sizeof(stamp));
			if (stamp.lba != lba + block || stamp.generation != generation ||
			    stamp.tag != nvme_verify_tag(v->seed, &stamp))
				return 0;
		}
		if (v->method == NVME_VERIFY_META)
			continue;
		fill_pattern(v, block, v->scratch);
		if (memcmp(found + overhead, v->scratch + overhead, v->block_size - overhead) != 0)
			return 0;
	}
	return 1;
}

/* --- what the caller does ------------------------------------------------------------------ */

int nvme_verify_init(struct nvme_verify *v)
{
	int patterned = v->method == NVME_VERIFY_PATTERN || v->method == NVME_VERIFY_PATTERN_HDR;

	if (v->method < NVME_VERIFY_CRC32C || v->method > NVME_VERIFY_META || !v->table ||
	    !v->scratch || !v->intervals || !v->interval_blocks || v->block_size < 512 ||
	    v->block_size & (v->block_size - 1) || v->job > UINT16_MAX ||
	    (uint64_t)v->interval_blocks * v->block_size > UINT32_MAX ||
	    v->unknown_rule > NVME_VERIFY_ANY_SEED || v->deallocated > NVME_VERIFY_READS_ONES)
		return -EINVAL;
	if (patterned && (!v->pattern || !v->pattern_length ||
			  v->pattern_length > NVME_VERIFY_PATTERN_MAX))
		return -EINVAL;
	for (uint32_t i = 0; patterned && i < v->offsets_count; i++)
		if (v->pattern_length < 8 || v->offsets[i] > v->pattern_length - 8)
			return -EINVAL;
	if (!patterned)
		v->offsets_count = 0;
	v->checked = 0;
	v->unknown = 0;
	return 0;
}

int nvme_verify_begin_write(struct nvme_verify *v, uint64_t lba, uint32_t blocks, void *buffer)
{
	uint8_t *interval = buffer;
	uint64_t *words;
	int64_t count = find_free_words(v, lba, blocks, &words);

	if (count < 0)
		return (int)count;
	v->sequence++;
	for (uint32_t i = 0; i < count; i++, lba += v->interval_blocks) {
		uint64_t word = word_issue(word_load(words + i));

		word_store(words + i, word);
		fill_interval(v, lba, WORD_ISSUED(word), i, blocks, interval);
		interval += nvme_verify_interval_size(v);
	}
	return 0;
}

void nvme_verify_end_write(struct nvme_verify *v, uint64_t lba, uint32_t blocks, int ok)
{
	uint64_t *words;
	int64_t count = find_words(v, lba, blocks, &words);

	for (int64_t i = 0; i < count; i++) {
		uint64_t word = word_load(words + i) & ~WORD_WRITER;

		word_store(words + i, ok ? word_acknowledge(word) : word);
	}
}

int nvme_verify_begin_trim(struct nvme_verify *v, uint64_t lba, uint32_t blocks, int kind)
{
	uint64_t *words;
	int64_t count = find_free_words(v, lba, blocks, &words);

	/*
	 * What was seen before tells nothing from here on: zeroes that stand there later may be
	 * this command's, and are then not older than what was seen.
	 */
	for (int64_t i = 0; i < count; i++)
		word_store(words + i, word_issue(word_load(words + i)) | WORD_TRIMMED |
				      trim_flag(kind) | WORD_BEHIND_MASK << WORD_UNSEEN_SHIFT);
	return count < 0 ? (int)count : 0;
}

void nvme_verify_end_trim(struct nvme_verify *v, uint64_t lba, uint32_t blocks, int kind, int ok)
{
	uint64_t *words;
	int64_t count = find_words(v, lba, blocks, &words);

	for (int64_t i = 0; i < count; i++) {
		uint64_t word = word_load(words + i) & ~WORD_WRITER;

		word_store(words + i, ok ? word_acknowledge(word) | trim_flag(kind) : word);
	}
}

int nvme_verify_begin_read(struct nvme_verify *v, uint64_t lba, uint32_t blocks)
{
	uint64_t *words;
	int64_t count = find_words(v, lba, blocks, &words);

	for (int64_t i = 0; i < count; i++) {
		uint64_t word = word_load(words + i);

		if (word & WORD_WRITER || (word & WORD_READERS) == WORD_READERS)
			return -EBUSY;
	}
	for (int64_t i = 0; i < count; i++)
		word_store(words + i, word_load(words + i) + WORD_READER);
	return count < 0 ? (int)count : 0;
}

void nvme_verify_end_read(struct nvme_verify *v, uint64_t lba, uint32_t blocks)
{
	uint64_t *words;
	int64_t count = find_words(v, lba, blocks, &words);

	for (int64_t i = 0; i < count; i++)
		word_store(words + i, word_load(words + i) - WORD_READER);
}

int nvme_verify_check(struct nvme_verify *v, uint64_t lba, uint32_t blocks, const void *buffer,
		      struct nvme_verify_fault *fault)
{
	const uint8_t *data = buffer;
	uint64_t *words;
	int64_t count = find_words(v, lba, blocks, &words);

	if (count < 0)
		return (int)count;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t word = word_load(words + i);
		uint64_t seen = word;

		if (!(word & WORD_KNOWN) && v->unknown_rule == NVME_VERIFY_SKIP) {
			v->unknown++;
			continue;
		}
		if (word & WORD_KNOWN && !WORD_UNACKNOWLEDGED(word) &&
		    !(word & (WORD_ZEROED | WORD_DEALLOCATED)) &&
		    interval_matches(v, lba + (uint64_t)i * v->interval_blocks, WORD_ISSUED(word),
				     data + (size_t)i * nvme_verify_interval_size(v)))
			seen &= ~(WORD_BEHIND_MASK << WORD_UNSEEN_SHIFT);
		else if (nvme_verify_inspect(v, lba, blocks, data, i, word, &seen, fault))
			return 1;
		v->checked++;
		if (seen != word)
			word_store(words + i, seen);
	}
	return 0;
}
