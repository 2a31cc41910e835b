/* The sequence of I/Os of one benchmark job. See _generator.h. */
#include "_generator.h"

#include <string.h>

/* Numbers of the random streams: to change one is to change every sequence. */
enum stream {
	STREAM_OFFSETS,
	STREAM_SIZES,
	STREAM_DIRECTIONS,
	STREAM_RANDOMNESS,
	STREAM_PASSES,
	STREAM_CENTER,
};

/* Each step is a bijection of 64 bits, so near seeds and clones are as far apart as any. */
static uint64_t stream_seed(const struct nvme_workload *w, enum stream stream)
{
	uint64_t seed = nvme_random_mix(w->seed + NVME_RANDOM_GAMMA);

	seed = nvme_random_mix(seed + w->clone + NVME_RANDOM_GAMMA);
	return nvme_random_mix(seed + (uint64_t)stream + NVME_RANDOM_GAMMA);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* True with a chance of so many per cent; of 100 always, of 0 never. */
static int is_chance(uint64_t *stream, uint32_t percent)
{
	return percent == 100 || nvme_random_below(nvme_random_next(stream), 100) < percent;
}

/* --- the map ----------------------------------------------------------------------------- */

static uint64_t words_of(uint64_t bits)
{
	return bits / 64 + (bits % 64 != 0);
}

uint64_t nvme_map_words(uint64_t granules)
{
	uint64_t total = 0;
	uint64_t words = granules;

	do {
		words = words_of(words);
		total += words;
	} while (words > 1);
	return total;
}

/* Make every granule free. The bits past the end of each level are used from the start. */
static void map_reset(struct nvme_generator *g)
{
	uint64_t bits = g->workload.region / g->workload.granule;
	uint64_t *level = g->workload.map;

	memset(level, 0, nvme_map_words(bits) * sizeof(*level));
	g->map_levels = 0;
	for (;;) {
		uint64_t words = words_of(bits);

		g->map_level[g->map_levels++] = level;
		if (bits % 64)
			level[words - 1] = ~UINT64_C(0) << (bits % 64);
		if (words <= 1)
			return;
		level += words;
		bits = words;
	}
}

/* Find the first free granule at or after `from`. Returns UINT64_MAX where there is none. */
static uint64_t map_find(const struct nvme_generator *g, uint64_t from)
{
	uint64_t bits = g->workload.region / g->workload.granule;

	for (uint32_t level = 0; level < g->map_levels && from < bits; level++) {
		uint64_t word = from / 64;
		uint64_t free = ~g->map_level[level][word] & (~UINT64_C(0) << (from % 64));

		if (free) {
			from = word * 64 + (uint64_t)__builtin_ctzll(free);
			while (level--) {
				free = ~g->map_level[level][from];
				from = from * 64 + (uint64_t)__builtin_ctzll(free);
			}
			return from;
		}
		/* Nothing more in this word: go on among the words after it, one level up. */
		from = word + 1;
		bits = words_of(bits);
	}
	return UINT64_MAX;
}

/* Take a word's bits; a word that is full by it is told to the levels above. */
static void map_mark(struct nvme_generator *g, uint64_t word, uint64_t bits)
{
	g->map_level[0][word] |= bits;
	for (uint32_t level = 0; level + 1 < g->map_levels; level++) {
		if (~g->map_level[level][word])
			return;
		g->map_level[level + 1][word / 64] |= UINT64_C(1) << (word % 64);
		word /= 64;
	}
}

/*
 * Take up to `count` granules from a free one on, up to the next that is used. Returns their
 * number. The end of the map is one that is used, so it is not passed.
 */
static uint64_t map_take(struct nvme_generator *g, uint64_t first, uint64_t count)
{
	uint64_t taken = 0;

	while (taken < count) {
		uint64_t word = (first + taken) / 64;
		uint64_t bit = (first + taken) % 64;
		uint64_t used = g->map_level[0][word] >> bit;
		uint64_t run = smaller(count - taken, 64 - bit);

		if (used)
			run = smaller(run, (uint64_t)__builtin_ctzll(used));
		if (!run)
			break;
		map_mark(g, word, (~UINT64_C(0) >> (64 - run)) << bit);
		taken += run;
		/* A run that ends with its word may go on in the next, where there is one. */
		if (bit + run < 64 || first + taken >= g->workload.region / g->workload.granule)
			break;
	}
	return taken;
}

/* --- permutations and distributions ------------------------------------------------------------ */

static void factor_set(struct nvme_generator *g, uint64_t factor)
{
	g->factor = factor;
	g->quotient = (uint64_t)(((unsigned __int128)factor << 64) / g->prime);
}

/*
 * Another order for each pass: from another place, with another primitive root, which the powers of
 * the first are whose exponent has no divisor in common with prime - 1 = 2 * half.
 */
static void cycle_begin(struct nvme_generator *g)
{
	uint64_t half = (g->prime - 1) / 2;
	uint64_t exponent = 2 * nvme_random_below(nvme_random_next(&g->passes), half) + 1;
	uint64_t base = g->workload.factor;
	uint64_t power = 1;

	if (exponent == half)
		exponent = 1;
	for (; exponent; exponent >>= 1) {
		if (exponent & 1)
			power = (uint64_t)((unsigned __int128)power * base % g->prime);
		base = (uint64_t)((unsigned __int128)base * base % g->prime);
	}
	factor_set(g, power);
	g->walk = 1 + nvme_random_below(nvme_random_next(&g->passes), g->prime - 1);
	g->pass_left = g->starts;
}

/* A bijection of 0..ranks - 1: what leaves the ranks is multiplied until it comes back. */
static uint64_t rank_scramble(const struct nvme_generator *g, uint64_t rank)
{
	uint64_t x = rank + 1;

	do
		x = nvme_cycle_multiply(g, x);
	while (x > g->workload.ranks);
	return x - 1;
}

/* The sum of both, modulo the ranks, of which both are below. */
static uint64_t rank_add(const struct nvme_generator *g, uint64_t a, uint64_t b)
{
	uint64_t left = g->workload.ranks - a;

	return b < left ? a + b : b - left;
}

/* Lay the hottest rank where the workload wants it; scrambling takes the others elsewhere. */
static void center_set(struct nvme_generator *g)
{
	const struct nvme_workload *w = &g->workload;
	uint64_t state = stream_seed(w, STREAM_CENTER);
	uint64_t center = w->center;

	if (center >= w->ranks)
		center = nvme_random_below(nvme_random_next(&state), w->ranks);
	g->shift = rank_add(g, center, w->ranks - 1 - rank_scramble(g, 0));
	g->shift = rank_add(g, g->shift, w->ranks > 1);
}

/* Draw a position, in units, as the table has it. */
static uint64_t law_next(struct nvme_generator *g, uint32_t direction)
{
	const struct nvme_distribution *distribution = &g->workload.distributions[direction];
	unsigned __int128 draw = (unsigned __int128)nvme_random_next(&g->walk) * distribution->count;
	uint64_t bin = (uint64_t)(draw >> 64);
	uint64_t rank, width;

	/* What is left of the draw below the column is as random as the column. */
	if ((uint32_t)(draw >> 32) >= distribution->bins[bin].threshold)
		bin = distribution->bins[bin].alias;
	rank = distribution->starts[bin];
	width = distribution->starts[bin + 1] - rank;
	if (width > 1)
		rank += nvme_random_below(nvme_random_next(&g->walk), width);
	return g->prime ? rank_add(g, rank_scramble(g, rank), g->shift) : rank;
}

/* --- one I/O ----------------------------------------------------------------------------- */

/*
 * Begin to go through the region anew. The random streams go on, so that no pass is like the last.
 */
static void pass_begin(struct nvme_generator *g)
{
	const struct nvme_workload *w = &g->workload;

	switch (w->order) {
	case NVME_ORDER_SEQUENTIAL:
		g->walk = 0;
		g->pass_left = g->starts;
		if (w->loops)
			memset(g->position, 0, sizeof(g->position));
		break;
	case NVME_ORDER_PERMUTATION:
		cycle_begin(g);
		break;
	case NVME_ORDER_MAP:
		map_reset(g);
		break;
	}
}

static uint32_t direction_next(struct nvme_generator *g)
{
	const struct nvme_workload *w = &g->workload;

	if (!w->mixed)
		return w->direction;
	return is_chance(&g->directions, w->rwmixread) ? NVME_DIRECTION_READ :
							 NVME_DIRECTION_WRITE;
}

/* Draw one of the sizes that fit into `room`, by their shares; the smallest always does. */
static uint32_t size_next(struct nvme_generator *g, const struct nvme_io_sizes *sizes,
			  uint64_t room)
{
	const struct nvme_split *split = sizes->split;
	uint32_t parts = sizes->parts;
	uint64_t draw;

	if (sizes->low == sizes->high)
		return sizes->low;
	draw = nvme_random_next(&g->sizes);
	if (!parts) {
		uint64_t count = smaller(sizes->high, room) / sizes->low;

		return sizes->low * (uint32_t)(1 + nvme_random_below(draw, count));
	}
	while (parts > 1 && split[parts - 1].blocks > room)
		parts--;
	draw = nvme_random_below(draw, split[parts - 1].until);
	while (draw >= split->until)
		split++;
	return split->blocks;
}

/* Find a random start in the region. Returns 1, or 0 when the cycle or the map is used up. */
static int start_next(struct nvme_generator *g, uint32_t direction, uint64_t *start)
{
	const struct nvme_workload *w = &g->workload;
	const struct nvme_io_sizes *sizes = &w->sizes[direction];
	uint64_t starts = g->starts_of[direction];
	uint64_t granule;

	switch (w->order) {
	case NVME_ORDER_PERMUTATION:
		if (!g->pass_left)
			return 0;
		g->pass_left--;
		*start = (nvme_cycle_next(g) - 1) * sizes->align;
		return 1;
	case NVME_ORDER_MAP:
		granule = nvme_random_below(nvme_random_next(&g->walk), w->region / w->granule);
		granule = map_find(g, granule);
		if (granule == UINT64_MAX)
			granule = map_find(g, 0);
		*start = granule * w->granule;
		return granule != UINT64_MAX;
	case NVME_ORDER_LAW:
		*start = law_next(g, direction) * w->unit / sizes->align;
		*start = smaller(*start, starts - 1) * sizes->align;
		return 1;
	default:
		*start = nvme_random_below(nvme_random_next(&g->walk), starts) * sizes->align;
		return 1;
	}
}

/*
 * The start after an I/O that ended at `end`, with what is left out between: as in fio, one that
 * lies before the region comes from its end. Returns the region's length for one that lies behind.
 */
static uint64_t skip_next(const struct nvme_workload *w, uint64_t end)
{
	int64_t start = (int64_t)end + w->skip;

	if (start < 0)
		start = (int64_t)w->region + w->skip;
	return start < 0 ? 0 : smaller((uint64_t)start, w->region);
}

/*
 * Where the first I/O begins. As in fio: backwards from an offset, as much before the region's end as
 * the region's start is from the device's.
 */
static uint64_t first_start(const struct nvme_workload *w, const struct nvme_io_sizes *sizes)
{
	uint64_t start;

	if (w->skip >= 0 || !w->base || w->base == w->region)
		return 0;
	start = skip_next(w, w->base < w->region ? w->region - w->base : 0);
	return w->region + sizes->beyond - start < sizes->high ? 0 : start;
}

/* Go on to the next zone, if all of this one is moved. Returns 1, or 0 when there is none. */
static int zone_next(struct nvme_generator *g)
{
	const struct nvme_workload *w = &g->workload;

	if (g->zone_left)
		return 1;
	g->zone_left = w->zone_move;
	g->zone += w->zone_stride;
	if (g->zone >= w->region || w->region - g->zone < g->largest)
		g->zone = 0;
	for (uint32_t direction = 0; direction < 3; direction++)
		g->position[direction] = g->zone;
	return g->zone || g->blocks_left >= g->largest;
}

/* Whether the next start is not the one after the last. */
static int random_next(struct nvme_generator *g, const struct nvme_io_sizes *sizes)
{
	const struct nvme_workload *w = &g->workload;

	if (w->order == NVME_ORDER_SEQUENTIAL || (g->run_left && g->run_left--))
		return 0;
	if (w->run)
		g->run_left = w->run - 1;
	return is_chance(&g->randomness, sizes->percentage_random);
}

/* Make one I/O of any workload. Returns 1, or 0 when the region is used up for this pass. */
static int io_make(struct nvme_generator *g, uint32_t direction, struct nvme_io *io)
{
	const struct nvme_workload *w = &g->workload;
	const struct nvme_io_sizes *sizes = &w->sizes[direction];
	uint64_t end = w->region + sizes->beyond; /* of where it may lie */
	uint64_t start, blocks;
	int is_random;

	if (w->zone_move) {
		if (!zone_next(g))
			return 0;
		end = g->zone + smaller(w->zone_range, w->region - g->zone);
	}
	is_random = random_next(g, sizes);
	start = g->position[direction];
	if (w->run_identical && !is_random && w->order != NVME_ORDER_SEQUENTIAL)
		start = g->last[direction];
	if (w->skip)
		start = start ? skip_next(w, start) : g->first[direction];
	if (!is_random && end - start < sizes->low) {
		/* In a random workload there is no end to come to; in a mix each has its own. */
		if (w->order != NVME_ORDER_SEQUENTIAL)
			is_random = 1;
		else if (w->loops || (!w->zone_move && g->blocks_left < g->largest))
			return 0;
		start = g->zone;
	}
	if (is_random && w->zone_move)
		start = g->zone + sizes->align *
			nvme_random_below(nvme_random_next(&g->walk),
					  (end - g->zone - sizes->low) / sizes->align + 1);
	else if (is_random && !start_next(g, direction, &start))
		return 0;
	blocks = size_next(g, sizes, end - start);
	if (is_random && w->order == NVME_ORDER_MAP)
		blocks = map_take(g, start / w->granule, blocks / w->granule) * w->granule;
	g->last[direction] = start;
	g->zone_left -= smaller(g->zone_left, blocks);
	g->position[direction] = start + blocks;
	g->blocks_left -= smaller(g->blocks_left, blocks);
	g->ios_left--;
	*io = (struct nvme_io){
		.lba = w->base + start,
		.blocks = (uint32_t)blocks,
		.direction = direction,
	};
	if (w->trimwrite) {
		g->pending = *io;
		g->pending.direction = NVME_DIRECTION_WRITE;
	}
	return 1;
}

/* Let the quick path run up to the next limit. Returns 1, or 0 when the region is used up. */
static int quick_refill(struct nvme_generator *g)
{
	uint64_t count = (g->blocks_left - 1) / g->blocks + 1;

	count = smaller(count, g->ios_left);
	if (g->workload.order != NVME_ORDER_UNIFORM) {
		count = smaller(count, g->pass_left);
		g->pass_left -= count;
	}
	g->blocks_left -= smaller(g->blocks_left, count * g->blocks);
	g->ios_left -= count;
	g->fast = (int64_t)count;
	return count != 0;
}

/* As fio: what is left is dropped where the largest I/O may not fit it. */
static int is_last_pass(struct nvme_generator *g)
{
	const struct nvme_workload *w = &g->workload;

	if (!w->loops)
		return g->blocks_left < g->largest;
	if (g->loops_left > 1) {
		g->loops_left--;
		return 0;
	}
	return w->blocks - g->blocks_left + g->largest > w->enough;
}

/* Go on to the next pass, as there is no further I/O in this one. */
static void pass_end(struct nvme_generator *g)
{
	if (is_last_pass(g))
		g->blocks_left = 0;
	else
		pass_begin(g);
}

struct nvme_io nvme_generator_next_slowly(struct nvme_generator *g)
{
	struct nvme_io io = g->pending;

	g->fast = 0;
	g->pending.blocks = 0;
	if (io.blocks)
		return io;
	while (g->ios_left && g->blocks_left) {
		if (g->is_quick ? quick_refill(g) && nvme_generator_next(g, &io) :
				  io_make(g, direction_next(g), &io))
			return io;
		pass_end(g);
	}
	return (struct nvme_io){ 0 };
}

int nvme_generator_next_of(struct nvme_generator *g, uint32_t direction, struct nvme_io *io)
{
	while (g->ios_left && g->blocks_left) {
		if (io_make(g, direction, io))
			return 1;
		pass_end(g);
	}
	return 0;
}

size_t nvme_generator_fill(struct nvme_generator *g, struct nvme_io *ios, size_t count)
{
	size_t made = 0;

	while (made < count && nvme_generator_next(g, &ios[made]))
		made++;
	return made;
}

size_t nvme_generator_fill_of(struct nvme_generator *g, const uint8_t *directions,
			      struct nvme_io *ios, size_t count)
{
	size_t made = 0;

	while (made < count && nvme_generator_next_of(g, directions[made], &ios[made]))
		made++;
	return made;
}

/* --- beginning --------------------------------------------------------------------------- */

static int is_used(const struct nvme_workload *w, uint32_t direction)
{
	return w->mixed ? direction != NVME_DIRECTION_TRIM : direction == w->direction;
}

static int is_quick(const struct nvme_workload *w)
{
	const struct nvme_io_sizes *sizes = &w->sizes[w->direction];

	if (w->skip || w->run > 1 || w->zone_move)
		return 0;
	if (w->mixed || w->trimwrite || sizes->low != sizes->high || sizes->align != sizes->low)
		return 0;
	if (w->order == NVME_ORDER_UNIFORM || w->order == NVME_ORDER_PERMUTATION)
		return sizes->percentage_random == 100;
	return w->order == NVME_ORDER_SEQUENTIAL;
}

void nvme_generator_init(struct nvme_generator *g)
{
	const struct nvme_workload *w = &g->workload;

	memset(g, 0, offsetof(struct nvme_generator, workload));
	g->order = w->order;
	g->direction = w->direction;
	g->is_quick = (uint32_t)is_quick(w);
	g->walk = stream_seed(w, STREAM_OFFSETS);
	g->sizes = stream_seed(w, STREAM_SIZES);
	g->directions = stream_seed(w, STREAM_DIRECTIONS);
	g->randomness = stream_seed(w, STREAM_RANDOMNESS);
	g->passes = stream_seed(w, STREAM_PASSES);
	g->ios_left = w->blocks ? w->ios : 0;
	g->blocks_left = w->blocks;
	g->zone_left = w->zone_move;
	g->loops_left = w->loops;
	for (uint32_t direction = 0; direction < 3; direction++) {
		const struct nvme_io_sizes *sizes = &w->sizes[direction];

		if (!is_used(w, direction))
			continue;
		if (w->region < sizes->low) {
			g->ios_left = 0;
			continue;
		}
		g->blocks = sizes->low;
		g->starts = (w->region + sizes->beyond - sizes->low) / sizes->align + 1;
		g->starts_of[direction] = g->starts;
		g->first[direction] = first_start(w, sizes);
		if (sizes->high > g->largest)
			g->largest = sizes->high;
	}
	if (!g->ios_left)
		return;
	g->base = w->base - (w->order == NVME_ORDER_PERMUTATION ? g->blocks : 0);
	g->prime = w->prime;
	if (w->order == NVME_ORDER_LAW && w->prime) {
		factor_set(g, w->factor);
		center_set(g);
	}
	pass_begin(g);
}
