/*
 * Data verification: from a block that is not what it should be to the name of the fault. Off the
 * hot path: the quick check of _verify.c has found something to look at. See docs/verification.md
 * for the definitions that this follows.
 *
 * Each logical block is judged alone, since it is what a device writes whole: after a crash, an
 * interval whose write was not acknowledged may hold old and new blocks side by side.
 */
#include "_verify.h"
#include "_checksum.h"

#include <string.h>

#define STAMP_SIZE ((uint32_t)sizeof(struct nvme_verify_stamp))
#define HEADER_SIZE ((uint32_t)sizeof(struct nvme_verify_header))

/* So many generations either way are tried for what a wrong block may have been meant to be. */
#define GENERATIONS_TRIED 8

/* Fewer equal bytes than this may be the same in two generations by chance. */
#define TORN_BYTES_MIN 16

/* A read as it is judged: one interval of it, and what its table word asks. */
struct read_view {
	struct nvme_verify *v;
	uint64_t lba; /* of the whole read */
	uint32_t blocks;
	const uint8_t *buffer;
	uint64_t interval_lba;
	const uint8_t *interval;
	int known;
	int has_acknowledged;
	int has_seen;
	int bound; /* some generation is the oldest that may stand there: `oldest` */
	int zeroed;
	int deallocated;
	int trimmed;
	uint32_t issued;
	uint32_t acknowledged;
	uint32_t seen;
	uint32_t oldest;
};

/* What one logical block holds. */
struct block_view {
	const uint8_t *data;
	uint32_t number; /* in its interval */
	uint64_t lba;    /* where it was read */
	uint32_t found;  /* enum nvme_verify_found */
	struct nvme_verify_stamp stamp;
	struct nvme_verify_header header; /* the interval's, or its own where that is an older one's */
	int sound;                        /* the header is */
};

static int older(uint32_t generation, uint32_t than)
{
	return (int32_t)(generation - than) < 0;
}

/* --- looking ------------------------------------------------------------------------------- */

static void view_read(struct read_view *view, struct nvme_verify *v, uint64_t lba, uint32_t blocks,
		      const uint8_t *buffer, uint32_t index, uint64_t word)
{
	uint32_t unacknowledged = WORD_UNACKNOWLEDGED(word);
	uint32_t unseen = WORD_UNSEEN(word);

	*view = (struct read_view){
		.v = v,
		.lba = lba,
		.blocks = blocks,
		.buffer = buffer,
		.interval_lba = lba + (uint64_t)index * v->interval_blocks,
		.interval = buffer + (size_t)index * nvme_verify_interval_size(v),
		.known = !!(word & WORD_KNOWN),
		.zeroed = !!(word & WORD_ZEROED),
		.deallocated = !!(word & WORD_DEALLOCATED),
		.trimmed = !!(word & WORD_TRIMMED),
		.issued = WORD_ISSUED(word),
	};
	if (!view->known)
		return;
	view->has_acknowledged = unacknowledged != FAR_BEHIND;
	view->has_seen = unseen != FAR_BEHIND;
	view->bound = view->has_acknowledged || view->has_seen;
	view->acknowledged = view->issued - unacknowledged;
	view->seen = view->issued - unseen;
	view->oldest = unseen < unacknowledged ? view->seen : view->acknowledged;
}

static int all_bytes(const uint8_t *data, uint8_t value, uint32_t size)
{
	return data[0] == value && memcmp(data, data + 1, size - 1) == 0;
}

/* The seed by which a block is judged: another run's only where any is good enough. */
static uint64_t block_seed(const struct read_view *read, const struct block_view *block)
{
	return !read->known && block->sound && read->v->unknown_rule == NVME_VERIFY_ANY_SEED ?
		       block->header.seed : read->v->seed;
}

static int stamp_fits(const struct nvme_verify_stamp *stamp, uint64_t seed)
{
	return nvme_verify_tag(seed, stamp) == stamp->tag;
}

static void view_block(struct block_view *block, const struct read_view *read, uint32_t number)
{
	const struct nvme_verify *v = read->v;
	const uint8_t *data = read->interval + (size_t)number * v->block_size;
	int format_fits;

	*block = (struct block_view){ .data = data, .number = number,
				      .lba = read->interval_lba + number,
				      .found = NVME_VERIFY_FOUND_OTHER };
	if (all_bytes(data, 0x00, v->block_size))
		block->found = NVME_VERIFY_FOUND_ZEROES;
	else if (all_bytes(data, 0xff, v->block_size))
		block->found = NVME_VERIFY_FOUND_ONES;
	if (v->method == NVME_VERIFY_PATTERN)
		return;

	memcpy(&block->stamp, data, STAMP_SIZE);
	memcpy(&block->header, data, HEADER_SIZE);
	block->sound = nvme_verify_header_sound(&block->header);
	if (!block->sound) {
		memcpy(&block->header, read->interval, HEADER_SIZE);
		block->sound = nvme_verify_header_sound(&block->header);
	}
	format_fits = !block->sound || (block->header.method == v->method &&
					block->header.length == nvme_verify_interval_size(v));
	if (block->found != NVME_VERIFY_FOUND_OTHER)
		return;
	if (stamp_fits(&block->stamp, v->seed))
		block->found = format_fits ? NVME_VERIFY_FOUND_OURS : NVME_VERIFY_FOUND_FORMAT;
	else if (block->sound && stamp_fits(&block->stamp, block->header.seed))
		block->found = read->known || format_fits ? NVME_VERIFY_FOUND_EARLIER :
							    NVME_VERIFY_FOUND_FORMAT;
}

/* --- comparing ----------------------------------------------------------------------------- */

/*
 * Make the whole logical block, as it would be with `generation`, in the scratch memory. What
 * header and stamp say beyond LBA and generation is taken as it is: it has checksums of its own.
 */
static const uint8_t *make_block(const struct read_view *read, const struct block_view *block,
				 uint64_t seed, uint32_t generation)
{
	struct nvme_verify *v = read->v;
	struct nvme_verify_stamp stamp = block->stamp;

	if (v->method == NVME_VERIFY_META)
		memcpy(v->scratch, block->data, v->block_size);
	else
		nvme_verify_make_data(v, seed, block->lba, generation, block->number, v->scratch);
	if (v->method == NVME_VERIFY_PATTERN)
		return v->scratch;
	stamp.lba = block->lba;
	stamp.generation = generation;
	memcpy(v->scratch, block->data, nvme_verify_overhead(v, block->number));
	memcpy(v->scratch, &stamp, STAMP_SIZE);
	return v->scratch;
}

/* Count the bits in which a logical block is not `expected`, and tell of the first. */
static uint32_t compare_block(const struct read_view *read, const struct block_view *block,
			      const uint8_t *expected, struct nvme_verify_fault *fault)
{
	fault->wrong_bytes = 0;
	fault->wrong_bits = 0;
	for (uint32_t i = 0; i < read->v->block_size; i++) {
		uint8_t wrong = block->data[i] ^ expected[i];

		if (!wrong)
			continue;
		if (!fault->wrong_bytes++) {
			fault->first_byte = i;
			fault->expected_byte = expected[i];
			fault->found_byte = block->data[i];
		}
		fault->wrong_bits += (uint32_t)__builtin_popcount(wrong);
	}
	return fault->wrong_bits;
}

/*
 * True if all bytes that are not `generation`'s are another generation's: two writes in one
 * logical block. Sets which.
 */
static int block_is_torn(const struct read_view *read, const struct block_view *block,
			 uint64_t seed, uint32_t generation, uint32_t *other)
{
	struct nvme_verify *v = read->v;
	uint8_t *meant = v->scratch + v->block_size;

	if (v->method != NVME_VERIFY_CRC32C && v->method != NVME_VERIFY_XXHASH)
		return 0;
	memcpy(meant, make_block(read, block, seed, generation), v->block_size);
	for (uint32_t step = 1; step <= 2 * GENERATIONS_TRIED; step++) {
		uint32_t tried = step % 2 ? generation - (step + 1) / 2 : generation + step / 2;
		const uint8_t *mixed = make_block(read, block, seed, tried);
		uint32_t count = 0;
		uint32_t i;

		for (i = STAMP_SIZE; i < v->block_size; i++) {
			if (block->data[i] == meant[i])
				continue;
			if (block->data[i] != mixed[i])
				break;
			count++;
		}
		if (i == v->block_size && count >= TORN_BYTES_MIN) {
			*other = tried;
			return 1;
		}
	}
	return 0;
}

/*
 * Find the one bit of a block's header or stamp that is wrong. Returns 1 with it in `fault`, or 0
 * where no single one makes of it what may stand there.
 */
static int find_bit(const struct read_view *read, const struct block_view *block,
		    struct nvme_verify_fault *fault)
{
	uint32_t size = nvme_verify_overhead(read->v, block->number);
	struct nvme_verify_header header;
	uint8_t bytes[sizeof(header)];

	memcpy(bytes, block->data, size);
	for (uint32_t bit = 0; bit < 8 * size; bit++) {
		uint8_t wrong = bytes[bit / 8];
		int sound;

		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		memcpy(&header, bytes, size);
		sound = block->number ? stamp_fits(&header.stamp, block_seed(read, block)) :
					nvme_verify_header_sound(&header);
		if (sound && header.stamp.lba == block->lba &&
		    (!read->known || !older(header.stamp.generation, read->oldest))) {
			fault->first_byte = bit / 8;
			fault->wrong_bytes = 1;
			fault->wrong_bits = 1;
			fault->found_byte = wrong;
			fault->expected_byte = bytes[bit / 8];
			return 1;
		}
		bytes[bit / 8] = wrong;
	}
	return 0;
}

/* --- naming -------------------------------------------------------------------------------- */

static int name_fault(struct nvme_verify_fault *fault, enum nvme_verify_kind kind)
{
	fault->kind = kind;
	if (kind != NVME_VERIFY_BIT_FLIP) {
		fault->first_byte = 0;
		fault->wrong_bytes = 0;
		fault->wrong_bits = 0;
		fault->expected_byte = 0;
		fault->found_byte = 0;
	}
	return 1;
}

/* The bit flip or torn write of a block whose stamp says what the rest has to be. */
static int judge_data(const struct read_view *read, const struct block_view *block, uint64_t seed,
		      struct nvme_verify_fault *fault)
{
	uint32_t generation = block->stamp.generation;
	uint32_t other;

	if (!block->number && !block->sound) {
		find_bit(read, block, fault);
		return name_fault(fault, NVME_VERIFY_BIT_FLIP);
	}
	if (!compare_block(read, block, make_block(read, block, seed, generation), fault))
		return 0;
	if (block_is_torn(read, block, seed, generation, &other)) {
		fault->newer_lba = block->lba;
		fault->newer_generation = older(generation, other) ? other : generation;
		fault->found_generation = older(generation, other) ? generation : other;
		fault->newer_in_block = 1;
		return name_fault(fault, NVME_VERIFY_TORN_WRITE);
	}
	return name_fault(fault, NVME_VERIFY_BIT_FLIP);
}

/* --- looking around ------------------------------------------------------------------------ */

/*
 * True if a block is the part of a write that did not get there, and another part did: some block
 * of the read comes from a newer command that wrote this block too. Tells which.
 */
static int is_torn(const struct read_view *read, const struct block_view *block,
		   struct nvme_verify_fault *fault)
{
	const struct nvme_verify *v = read->v;
	/* Of another run than the table's, all is older. */
	int stamped = block->found == NVME_VERIFY_FOUND_OURS ||
		      (block->found == NVME_VERIFY_FOUND_EARLIER && !read->known);
	/* Blank blocks do not tell whether a trim made them so before that command or after it. */
	int same_interval_only = read->trimmed && (block->found == NVME_VERIFY_FOUND_ZEROES ||
						   block->found == NVME_VERIFY_FOUND_ONES);

	if (v->method == NVME_VERIFY_PATTERN)
		return 0;
	for (uint32_t i = 0; i < read->blocks; i++) {
		struct nvme_verify_stamp stamp;
		uint64_t start;

		memcpy(&stamp, read->buffer + (size_t)i * v->block_size, STAMP_SIZE);
		start = stamp.lba - stamp.command_first;
		if (stamp.lba != read->lba + i || !stamp_fits(&stamp, block_seed(read, block)) ||
		    block->lba - start >= stamp.command_blocks ||
		    (stamped && stamp.sequence <= block->stamp.sequence) ||
		    (same_interval_only && stamp.lba - read->interval_lba >= v->interval_blocks))
			continue;
		fault->newer_lba = stamp.lba;
		fault->newer_generation = stamp.generation;
		fault->command_lba = start;
		fault->command_blocks = stamp.command_blocks;
		return 1;
	}
	return 0;
}

/*
 * True if a block that is no longer anyone's is one of ours with some bits wrong. `fault` then
 * tells which.
 */
static int is_damaged(const struct read_view *read, const struct block_view *block,
		      struct nvme_verify_fault *fault)
{
	const struct nvme_verify *v = read->v;
	uint32_t limit = v->block_size * 8 / 4; /* unrelated data differs in half the bits */
	uint64_t seed = block_seed(read, block);
	uint32_t newest = read->known ? read->issued : block->header.stamp.generation;
	uint32_t best = 0;
	uint32_t least = UINT32_MAX;

	/* Nothing is left of META's blocks that could be compared. */
	if (v->method == NVME_VERIFY_META ||
	    (!read->known && !block->sound && v->method != NVME_VERIFY_PATTERN))
		return 0;
	for (uint32_t back = 0; back < GENERATIONS_TRIED; back++) {
		uint32_t wrong = compare_block(read, block,
					       make_block(read, block, seed, newest - back), fault);

		if (wrong < least) {
			least = wrong;
			best = newest - back;
		}
		if (!read->known || v->method == NVME_VERIFY_PATTERN ||
		    newest - back == read->oldest)
			break;
	}
	if (least > limit)
		return 0;
	compare_block(read, block, make_block(read, block, seed, best), fault);
	return 1;
}

/* True if a block holds the pattern with the offset of another interval. Sets whose block. */
static int pattern_is_elsewhere(const struct read_view *read, const struct block_view *block,
				struct nvme_verify_fault *fault)
{
	struct nvme_verify *v = read->v;
	uint64_t start = (uint64_t)block->number * v->block_size;
	uint64_t position = v->offsets[0];
	uint64_t offset;
	int elsewhere;

	if (position < start)
		position += (start - position + v->pattern_length - 1) / v->pattern_length *
			    v->pattern_length;
	if (position + sizeof(offset) > start + v->block_size)
		return 0;
	memcpy(&offset, block->data + (position - start), sizeof(offset));
	nvme_verify_render(v, offset / v->block_size);
	elsewhere = !(offset % v->block_size) &&
		    !compare_block(read, block, make_block(read, block, 0, 0), fault);
	nvme_verify_render(v, read->interval_lba);
	fault->found_lba = elsewhere ? offset / v->block_size + block->number : 0;
	return elsewhere;
}

/* --- judging ------------------------------------------------------------------------------- */

/* A stamp with our seed, or one that any seed was good enough for. */
static int judge_stamped(const struct read_view *read, const struct block_view *block,
			 struct nvme_verify_fault *fault)
{
	uint32_t generation = block->stamp.generation;
	uint64_t seed = block_seed(read, block);

	if (block->stamp.lba != block->lba)
		return name_fault(fault, NVME_VERIFY_MISDIRECTED_WRITE);
	if (!read->known) {
		if (judge_data(read, block, seed, fault))
			return 1;
		return is_torn(read, block, fault) ? name_fault(fault, NVME_VERIFY_TORN_WRITE) : 0;
	}
	if (older(read->issued, generation))
		return read->bound ? name_fault(fault, NVME_VERIFY_STALE_DATA) : 0;
	if (!read->bound || !older(generation, read->oldest))
		return judge_data(read, block, seed, fault);

	/* Too old: a part of a newer write in the same block is the clearest sign. */
	if (judge_data(read, block, seed, fault) && fault->kind == NVME_VERIFY_TORN_WRITE)
		return 1;
	if (read->has_seen && older(generation, read->seen))
		return name_fault(fault, NVME_VERIFY_STALE_DATA);
	if (read->deallocated)
		return 0;
	return name_fault(fault, is_torn(read, block, fault) ? NVME_VERIFY_TORN_WRITE :
							       NVME_VERIFY_LOST_WRITE);
}

static int judge_earlier(const struct read_view *read, const struct block_view *block,
			 struct nvme_verify_fault *fault)
{
	if (!read->known && read->v->unknown_rule == NVME_VERIFY_ANY_SEED)
		return judge_stamped(read, block, fault);
	if (read->known && (!read->bound || read->deallocated))
		return 0;
	return name_fault(fault, is_torn(read, block, fault) ? NVME_VERIFY_TORN_WRITE :
							       NVME_VERIFY_STALE_DATA);
}

/* All bytes 00h or all FFh. */
static int judge_blank(const struct read_view *read, const struct block_view *block,
		       struct nvme_verify_fault *fault)
{
	uint32_t zeroes = block->found == NVME_VERIFY_FOUND_ZEROES;
	uint32_t reads = read->v->deallocated;

	if (!read->known)
		return name_fault(fault, NVME_VERIFY_FOREIGN_DATA);
	if (!read->bound || (read->zeroed && zeroes))
		return 0;
	if (read->deallocated &&
	    (reads == NVME_VERIFY_READS_ANY || zeroes == (reads == NVME_VERIFY_READS_ZEROES)))
		return 0;
	if (read->has_seen)
		return name_fault(fault, NVME_VERIFY_STALE_DATA);
	return name_fault(fault, is_torn(read, block, fault) ? NVME_VERIFY_TORN_WRITE :
							       NVME_VERIFY_LOST_WRITE);
}

static int judge_other(const struct read_view *read, const struct block_view *block,
		       struct nvme_verify_fault *fault)
{
	const struct nvme_verify *v = read->v;

	if (read->known && !read->bound)
		return 0;
	/* Deallocating is advice: what was there before the first I/O of ours may still be. */
	if (read->deallocated &&
	    (v->deallocated == NVME_VERIFY_READS_ANY || read->acknowledged == 1))
		return 0;
	if (v->offsets_count && v->method == NVME_VERIFY_PATTERN &&
	    pattern_is_elsewhere(read, block, fault))
		return name_fault(fault, NVME_VERIFY_MISDIRECTED_WRITE);
	if (v->method != NVME_VERIFY_PATTERN && find_bit(read, block, fault))
		return name_fault(fault, NVME_VERIFY_BIT_FLIP);
	if (v->method != NVME_VERIFY_PATTERN_HDR && is_damaged(read, block, fault))
		return name_fault(fault, NVME_VERIFY_BIT_FLIP);
	/* Only a first write has data of others for its old part. */
	if (read->known && read->issued == 1 && is_torn(read, block, fault))
		return name_fault(fault, NVME_VERIFY_TORN_WRITE);
	/* A pattern may be an earlier run's too, so it counts last. */
	if (v->method == NVME_VERIFY_PATTERN_HDR && is_damaged(read, block, fault))
		return name_fault(fault, NVME_VERIFY_BIT_FLIP);
	return name_fault(fault, NVME_VERIFY_FOREIGN_DATA);
}

static int judge_block(const struct read_view *read, const struct block_view *block,
		       struct nvme_verify_fault *fault)
{
	*fault = (struct nvme_verify_fault){
		.found = block->found,
		.lba = block->lba,
		.known = (uint32_t)read->known,
		.has_acknowledged = (uint32_t)read->has_acknowledged,
		.has_seen = (uint32_t)read->has_seen,
		.acknowledged = read->has_acknowledged ? read->acknowledged : 0,
		.seen = read->has_seen ? read->seen : 0,
		.issued = read->issued,
	};
	if (block->found == NVME_VERIFY_FOUND_OURS || block->found == NVME_VERIFY_FOUND_EARLIER) {
		fault->found_lba = block->stamp.lba;
		fault->found_generation = block->stamp.generation;
		fault->found_sequence = block->stamp.sequence;
		fault->found_seed = read->v->seed;
	}
	if (block->sound && block->found != NVME_VERIFY_FOUND_OTHER) {
		fault->found_seed = block->header.seed;
		fault->found_method = block->header.method;
		fault->found_length = block->header.length;
		fault->found_job = block->header.job;
	}
	if (read->v->method == NVME_VERIFY_PATTERN &&
	    !compare_block(read, block, make_block(read, block, 0, 0), fault))
		return 0;

	switch (block->found) {
	case NVME_VERIFY_FOUND_OURS:
		return judge_stamped(read, block, fault);
	case NVME_VERIFY_FOUND_EARLIER:
		return judge_earlier(read, block, fault);
	case NVME_VERIFY_FOUND_ZEROES:
	case NVME_VERIFY_FOUND_ONES:
		return judge_blank(read, block, fault);
	case NVME_VERIFY_FOUND_FORMAT:
		return name_fault(fault, NVME_VERIFY_FOREIGN_DATA);
	default:
		return judge_other(read, block, fault);
	}
}

int nvme_verify_inspect(struct nvme_verify *v, uint64_t lba, uint32_t blocks,
			const uint8_t *buffer, uint32_t index, uint64_t word, uint64_t *seen,
			struct nvme_verify_fault *fault)
{
	struct read_view read;
	struct block_view block;
	uint32_t oldest = 0;
	uint32_t newest = 0;
	int whole = v->method != NVME_VERIFY_PATTERN; /* every block has a stamp that counts */

	view_read(&read, v, lba, blocks, buffer, index, word);
	nvme_verify_render(v, read.interval_lba);
	for (uint32_t number = 0; number < v->interval_blocks; number++) {
		view_block(&block, &read, number);
		if (judge_block(&read, &block, fault))
			return 1;
		whole &= block.found == NVME_VERIFY_FOUND_OURS ||
			 (!read.known && block.found == NVME_VERIFY_FOUND_EARLIER);
		if (!number || older(block.stamp.generation, oldest))
			oldest = block.stamp.generation;
		if (!number || older(newest, block.stamp.generation))
			newest = block.stamp.generation;
	}
	if (read.known && whole && !read.zeroed && !read.deallocated &&
	    !older(read.issued, newest) && read.issued - oldest < FAR_BEHIND)
		*seen = (word & ~(WORD_BEHIND_MASK << WORD_UNSEEN_SHIFT)) |
			(uint64_t)(read.issued - oldest) << WORD_UNSEEN_SHIFT;
	return 0;
}
