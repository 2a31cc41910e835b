/*
 * The sequence of I/Os of one benchmark job: which block, how many blocks, which direction.
 *
 * Nothing here allocates memory, takes a lock, calls the system or computes in floating point: the
 * distributions of zipf and the like are tables that the caller made (struct nvme_bin). The same workload
 * and seed give the same sequence everywhere.
 *
 * One generator belongs to one thread.
 */
#ifndef PYNVME_USER_GENERATOR_H
#define PYNVME_USER_GENERATOR_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* One I/O. */
struct nvme_io {
	uint64_t lba;
	uint32_t blocks;
	uint32_t direction; /* enum nvme_direction */
};

enum nvme_direction {
	NVME_DIRECTION_READ,
	NVME_DIRECTION_WRITE,
	NVME_DIRECTION_TRIM,
};

/* Where an I/O starts. */
enum nvme_order {
	NVME_ORDER_SEQUENTIAL, /* where the last one of its direction ended */
	NVME_ORDER_UNIFORM,    /* anywhere, as often as chance has it */
	NVME_ORDER_PERMUTATION,      /* anywhere, each start once before any comes again; one size */
	NVME_ORDER_MAP,        /* anywhere, each block once before any comes again; any sizes */
	NVME_ORDER_LAW,        /* as a table of probabilities has it */
};

/* One part of a split: this size until that percentage, summed over the parts so far. */
struct nvme_split {
	uint32_t blocks;
	uint32_t until;
};

/* The sizes of one direction's I/Os: a split, or the multiples of `low` up to `high`. */
struct nvme_io_sizes {
	const struct nvme_split *split; /* ascending in size */
	uint32_t parts;                 /* of the split; 0: the range alone counts */
	uint32_t low;                   /* blocks; the split's smallest */
	uint32_t high;                  /* the split's largest */
	uint32_t align;                 /* random starts are multiples of it in the region */
	uint32_t percentage_random;     /* the others follow the last I/O of the direction */
	uint32_t beyond;                /* blocks after the region that a sequential I/O may reach */
};

/*
 * One column of an alias table (Walker's method): the bin itself for fractions below `threshold`
 * of 2^32, `alias` for the others. A column that is all its own names itself as alias.
 */
struct nvme_bin {
	uint32_t threshold;
	uint32_t alias;
};

/* How often each rank is drawn. */
struct nvme_distribution {
	const struct nvme_bin *bins;
	const uint64_t *starts; /* the first rank of each bin, and one more for the end */
	uint64_t count;         /* of the bins */
};

/* What is to be generated. All pointers are to the caller's memory, kept as long as it is used. */
struct nvme_workload {
	uint64_t base;        /* the region's first block */
	uint64_t region;      /* its blocks; NVME_ORDER_MAP: a multiple of `granule` */
	uint64_t blocks;      /* how much is moved: the last I/O may go beyond it. Below 2^63 */
	uint64_t ios;         /* at most so many; the pair of a trimwrite counts as one */
	uint64_t seed;
	uint64_t clone;       /* which copy of the job: each has a sequence of its own */
	uint32_t order;       /* enum nvme_order */
	uint32_t direction;   /* enum nvme_direction, unless mixed */
	uint32_t mixed;       /* reads and writes, by chance */
	uint32_t rwmixread;   /* per cent of reads in a mix */
	uint32_t trimwrite;   /* each trim is followed by a write of the same blocks */
	uint32_t granule;     /* NVME_ORDER_MAP: what a bit of the map stands for, in blocks */
	uint64_t *map;        /* NVME_ORDER_MAP: nvme_map_words(region / granule) words */
	/*
	 * NVME_ORDER_PERMUTATION: a prime above the number of starts, and a primitive root of it.
	 * NVME_ORDER_LAW with scrambled ranks: a prime above the number of ranks, and a factor.
	 * The prime is below 2^63, and for a cycle (prime - 1) / 2 is prime as well.
	 */
	uint64_t prime;       /* 0: ranks are not scrambled, rank r is position r */
	uint64_t factor;
	/* NVME_ORDER_LAW */
	struct nvme_distribution distributions[3];    /* of each direction */
	uint64_t ranks;             /* the region in units */
	uint64_t center;            /* position of rank 0; UINT64_MAX: chosen by the seed */
	uint32_t unit;              /* blocks of a position */
	/* NVME_ORDER_SEQUENTIAL: left out after each I/O, in blocks; backwards if negative. */
	int64_t skip;
	/*
	 * Where not 0, a pass ends where a direction comes to the region's end. After so many it goes
	 * on only while another largest I/O is left of `enough`. 0: `blocks` alone says when.
	 */
	uint64_t loops;
	uint64_t enough; /* blocks */
	/* Random orders without a map: so many I/Os for each random start, one after another. */
	uint32_t run;               /* 0, 1: each has its own */
	uint32_t run_identical;     /* all of a run at the same place */
	/* Zones, of sequential I/O and NVME_ORDER_UNIFORM: the I/O stays in a zone until so much of
	   it is moved. All in blocks; a zone holds the largest I/O. */
	uint64_t zone_move;         /* 0: no zones */
	uint64_t zone_range;        /* the zone's length; less at the region's end */
	uint64_t zone_stride;       /* from the start of one zone to that of the next */
	struct nvme_io_sizes sizes[3]; /* by direction */
};

/* Levels of a map: each bit of one says that a word of the level below is full. 64^11 > 2^62. */
#define NVME_MAP_LEVELS 11

/* Fill in `workload`; the rest is nvme_generator_init()'s. Best aligned to 64 bytes. */
struct nvme_generator {
	/* What the quick path of nvme_generator_next() reads and writes: a cache line and a word. */
	int64_t fast;      /* I/Os that it may make before the limits are looked at again */
	uint64_t walk;     /* state of the offsets' random stream or of the cycle; or the next start */
	uint64_t starts;   /* those in the region, which are below this */
	uint64_t base;     /* the block of start 0, which may lie before the region (a cycle's) */
	uint32_t blocks;
	uint32_t direction;
	uint32_t order;
	uint32_t is_quick;
	uint64_t factor;   /* of the cycle or the scrambling, modulo the prime */
	uint64_t quotient; /* factor * 2^64 / prime, which saves the division */
	uint64_t prime;    /* 0: none */
	/* The state of all other workloads. */
	uint64_t blocks_left;
	uint64_t ios_left;
	uint64_t pass_left;   /* starts not yet used, of a cycle or a quick sequence */
	uint64_t sizes;       /* random streams, apart from each other so that one's use does */
	uint64_t directions;  /* not change what another gives */
	uint64_t randomness;
	uint64_t passes;
	uint64_t shift;       /* from a scrambled rank to its position, modulo the ranks */
	uint64_t position[3]; /* in the region: where the last I/O of each direction ended */
	uint64_t last[3];     /* and where it began */
	uint64_t first[3];    /* and with a skip, where the first of a pass begins */
	uint64_t zone;        /* start of the zone, in the region */
	uint64_t zone_left;   /* what is to be moved in it */
	uint64_t loops_left;
	uint32_t run_left;
	uint64_t starts_of[3];
	struct nvme_io pending; /* a trimwrite's write; 0 blocks: none */
	uint32_t largest;       /* I/O in blocks */
	uint32_t map_levels;
	uint64_t *map_level[NVME_MAP_LEVELS];
	struct nvme_workload workload;
};

/*
 * Begin, or begin again, the sequence of g->workload. A workload of which nothing fits its region
 * has no I/O. Clears the map, so its time grows with that.
 */
void nvme_generator_init(struct nvme_generator *g);

/* Make up to `count` I/Os. Returns their number; fewer than `count` only at the workload's end. */
size_t nvme_generator_fill(struct nvme_generator *g, struct nvme_io *ios, size_t count);

/*
 * nvme_generator_next() where the quick path ends; not for other callers. By value, so that those of
 * the quick path can keep theirs in registers. No blocks: there is no next.
 */
struct nvme_io nvme_generator_next_slowly(struct nvme_generator *g);

/*
 * Make the next I/O of a mixed workload, as nvme_generator_next() does, but of this direction: what
 * the mix is, is the caller's to say. Returns 1, or 0 when the workload is at its end.
 */
int nvme_generator_next_of(struct nvme_generator *g, uint32_t direction, struct nvme_io *io);

/* Make up to `count` I/Os of these directions, one each. Returns as nvme_generator_fill(). */
size_t nvme_generator_fill_of(struct nvme_generator *g, const uint8_t *directions,
			      struct nvme_io *ios, size_t count);

/* How many 64-bit words a map of so many granules takes. */
uint64_t nvme_map_words(uint64_t granules);

/* cdef: end */

/* --- random numbers ---------------------------------------------------------------------- */

/* 2^64 divided by the golden ratio, made odd. */
#define NVME_RANDOM_GAMMA UINT64_C(0x9e3779b97f4a7c15)

/*
 * The finaliser of SplitMix64 (Steele, Lea, Flood 2014) up to its second product. The step after
 * that would only better the low 33 bits, and here it is the high ones that count.
 */
static inline uint64_t nvme_random_mix(uint64_t state)
{
	state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
}

/* SplitMix64: one word of state, each 64-bit number once in a period of 2^64. */
static inline uint64_t nvme_random_next(uint64_t *state)
{
	*state += NVME_RANDOM_GAMMA;
	return nvme_random_mix(*state);
}

/* Bring a random word to 0..limit - 1. The bias is below limit / 2^64. */
static inline uint64_t nvme_random_below(uint64_t random, uint64_t limit)
{
	return (uint64_t)(((unsigned __int128)random * limit) >> 64);
}

/*
 * x times the factor modulo the prime, for x below the prime. The quotient is at most one too
 * small, so the low words suffice (Shoup's multiplication).
 */
static inline uint64_t nvme_cycle_multiply(const struct nvme_generator *g, uint64_t x)
{
	uint64_t quotient = nvme_random_below(x, g->quotient);
	uint64_t product = x * g->factor - quotient * g->prime;
	uint64_t reduced = product - g->prime;

	/* By its sign, which the compiler takes for a conditional move: a branch would be a toss. */
	return (int64_t)reduced < 0 ? product : reduced;
}

/*
 * The powers of a primitive root pass through 1..prime - 1, each once: a random order that needs no
 * memory of what has been. Those above the number of starts are passed over; there are few. Counts
 * from 1.
 */
static inline uint64_t nvme_cycle_next(struct nvme_generator *g)
{
	uint64_t x = nvme_cycle_multiply(g, g->walk);

	while (__builtin_expect(x > g->starts, 0))
		x = nvme_cycle_multiply(g, x);
	g->walk = x;
	return x;
}

/*
 * Make the next I/O. Returns 1, or 0 when the workload is at its end: its size, its number of I/Os
 * or its map is used up. Quick for one direction, one
 * size, and starts that are in sequence, uniform or a cycle.
 */
static inline int nvme_generator_next(struct nvme_generator *g, struct nvme_io *io)
{
	uint64_t start;

	/* Counted down and tested in one, at -1; the slow path puts it right. */
	if (__builtin_expect(--g->fast < 0, 0)) {
		*io = nvme_generator_next_slowly(g);
		return io->blocks != 0;
	}
	if (g->order == NVME_ORDER_UNIFORM)
		start = nvme_random_below(nvme_random_next(&g->walk), g->starts);
	else if (g->order > NVME_ORDER_UNIFORM)
		start = nvme_cycle_next(g);
	else
		start = g->walk++;
	io->lba = g->base + start * g->blocks;
	io->blocks = g->blocks;
	io->direction = g->direction;
	return 1;
}

_Static_assert(offsetof(struct nvme_generator, prime) == 64, "the quick path's cache line");

#endif
