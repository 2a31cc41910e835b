/*
 * Data verification: what a write puts into its blocks, what a read must find there, and the name
 * of the fault where it does not.
 *
 * The unit is the verify interval, one or more logical blocks. Each interval begins with a header
 * (struct nvme_verify_header), and each further logical block of it with a stamp, the header's
 * first 32 bytes: so every logical block tells whose it is and which write it comes from, and a
 * write that a device tore between any two of its blocks shows. The rest is pseudo-random data
 * made of seed, LBA and generation, so that it can be made again to find the wrong bits.
 *
 * The table has one 64-bit word for each interval: which generations of it were issued,
 * acknowledged and seen. Every step is one plain store of one word, with no system call, so that
 * a process killed between any two leaves a table that is true; one that is mapped from a file
 * outlives the process. See docs/verification.md for the layouts and the definitions of faults.
 *
 * One struct nvme_verify belongs to one thread. Several may share a table if their threads work on
 * different intervals.
 */
#ifndef PYNVME_USER_VERIFY_H
#define PYNVME_USER_VERIFY_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

#define NVME_VERIFY_MAGIC 0x3156564e /* "NVV1" */
#define NVME_VERIFY_VERSION 1
#define NVME_VERIFY_PATTERN_MAX 512 /* bytes, as in fio */

/*
 * A table word, from bit 0: the generation issued (32), how far behind it the one acknowledged is
 * (10), how far the one seen (10), then one bit each for known, zeroed, deallocated, ever trimmed
 * and writing, and the number of readers (7). 0: nothing was ever issued. Generations wrap; NEVER
 * for how far behind one is stands for "none, or too long ago", and asks nothing of a block.
 */
#define NVME_VERIFY_NEVER 0x3ff

enum nvme_verify_method {
	NVME_VERIFY_CRC32C = 1,
	NVME_VERIFY_XXHASH,      /* XXH64 */
	NVME_VERIFY_PATTERN,     /* nothing but the pattern: no header, no stamps */
	NVME_VERIFY_PATTERN_HDR, /* the pattern behind header and stamps */
	NVME_VERIFY_META,        /* header and stamps; other bytes are neither written nor checked */
};

/* What is asked of an interval of which the table knows nothing. */
enum nvme_verify_unknown {
	NVME_VERIFY_SKIP,      /* nothing: counted in `unknown`, and never a fault */
	NVME_VERIFY_SAME_SEED, /* a sound header with our seed, of any generation */
	NVME_VERIFY_ANY_SEED,  /* a sound header of any seed and generation */
};

/* What a deallocated block reads as: DLFEAT bits 2:0, NVM Command Set 1.0, figure 97. */
enum nvme_verify_deallocated {
	NVME_VERIFY_READS_ANY,    /* not reported */
	NVME_VERIFY_READS_ZEROES, /* all bytes 00h */
	NVME_VERIFY_READS_ONES,   /* all bytes FFh */
};

enum nvme_verify_trim {
	NVME_VERIFY_DEALLOCATE,  /* Dataset Management, AD: advice, so older data may stay */
	NVME_VERIFY_WRITE_ZEROES /* Write Zeroes: all bytes 00h from then on */
};

enum nvme_verify_kind {
	NVME_VERIFY_BIT_FLIP = 1,
	NVME_VERIFY_TORN_WRITE,
	NVME_VERIFY_LOST_WRITE,
	NVME_VERIFY_MISDIRECTED_WRITE,
	NVME_VERIFY_STALE_DATA,
	NVME_VERIFY_FOREIGN_DATA
};

/* What a logical block was found to hold. */
enum nvme_verify_found {
	NVME_VERIFY_FOUND_OURS = 1, /* a stamp with our seed */
	NVME_VERIFY_FOUND_EARLIER,  /* a stamp with another seed, named by a sound header */
	NVME_VERIFY_FOUND_ZEROES,
	NVME_VERIFY_FOUND_ONES,
	NVME_VERIFY_FOUND_FORMAT,   /* a sound header of another method or interval size */
	NVME_VERIFY_FOUND_OTHER
};

/* The first 32 bytes of each logical block. All integers are little-endian. */
struct nvme_verify_stamp {
	uint64_t lba;
	uint32_t generation;     /* how many writes the interval has had, this one included; wraps */
	uint32_t tag;            /* made of the seed and all other members */
	uint64_t sequence;       /* number of the write command, which rises with time */
	uint32_t command_first;  /* logical blocks of the same command before this one */
	uint32_t command_blocks; /* logical blocks of the command */
};

/* The first 64 bytes of each interval. */
struct nvme_verify_header {
	struct nvme_verify_stamp stamp;
	uint32_t magic;
	uint8_t version;
	uint8_t method;
	uint16_t job;
	uint64_t seed;
	uint64_t checksum;        /* of all bytes of the interval behind the header; 0: none */
	uint32_t length;          /* of the interval in bytes */
	uint32_t header_checksum; /* CRC-32C of the 60 bytes before it */
};

/*
 * The configuration is the caller's, who keeps the memory that it points to; nvme_verify_init()
 * sets the rest.
 */
struct nvme_verify {
	/* configuration */
	uint64_t *table;          /* `intervals` words, zero before first use */
	uint64_t first_lba;       /* of the first interval */
	uint64_t intervals;
	uint64_t seed;
	uint64_t sequence;        /* of the last write command; a later run starts above it */
	uint8_t *scratch;         /* two logical blocks, for the thread's own use */
	const uint8_t *pattern;   /* of the pattern methods */
	const uint32_t *offsets;  /* where in it 8 bytes are the interval's byte offset: fio's %o */
	uint32_t pattern_length;  /* 1 to NVME_VERIFY_PATTERN_MAX */
	uint32_t offsets_count;
	uint32_t block_size;      /* bytes: a power of two from 512 */
	uint32_t interval_blocks; /* logical blocks of an interval */
	uint32_t method;          /* enum nvme_verify_method */
	uint32_t unknown_rule;    /* enum nvme_verify_unknown */
	uint32_t deallocated;     /* enum nvme_verify_deallocated */
	uint32_t job;             /* number of the job, at most 65535 */
	uint32_t trim_kind;       /* enum nvme_verify_trim: what the trims of nvme_bench are */
	/* facts */
	uint64_t checked;         /* intervals that held what they must */
	uint64_t unknown;         /* intervals that were read and not judged */
	/* the pattern with the offsets of one interval in it */
	uint8_t rendered[512];
};

/*
 * The first fault of a read. Which members mean something depends on `kind` and `found`; the
 * others are 0.
 */
struct nvme_verify_fault {
	uint32_t kind;              /* enum nvme_verify_kind */
	uint32_t found;             /* enum nvme_verify_found */
	uint64_t lba;               /* the logical block */
	/* what the table asks of it */
	uint32_t known;             /* 0: the table knows nothing of it */
	uint32_t has_acknowledged;
	uint32_t has_seen;
	uint32_t acknowledged;
	uint32_t seen;
	uint32_t issued;
	/* what it holds */
	uint64_t found_lba;
	uint64_t found_seed;
	uint64_t found_sequence;
	uint32_t found_generation;
	uint32_t found_method;
	uint32_t found_length;
	uint32_t found_job;
	/* a bit flip: of the logical block's bytes, those that differ from what was written */
	uint32_t first_byte;
	uint32_t wrong_bytes;       /* 0: several bits of its header or stamp, not known which */
	uint32_t wrong_bits;
	uint32_t expected_byte;     /* at first_byte */
	uint32_t found_byte;
	/* a torn write: a logical block that holds the newer part, and the whole command */
	uint64_t newer_lba;
	uint32_t newer_generation;
	uint32_t newer_in_block;    /* old and new part lie in the one logical block `lba` */
	uint64_t command_lba;
	uint32_t command_blocks;
};

/*
 * Check a configuration and make it ready. Returns 0, or -EINVAL for one that cannot be (see the
 * members). Does not touch the table.
 */
int nvme_verify_init(struct nvme_verify *v);

/*
 * Begin to write `blocks` logical blocks: takes the next generation of each interval and fills
 * `buffer` for it. Returns 0, -EINVAL unless the range is of whole intervals of the table, or
 * -EBUSY when an I/O of any of them is outstanding; then nothing has changed. Call it before the
 * command is submitted, and nvme_verify_end_write() once, whatever became of the command.
 */
int nvme_verify_begin_write(struct nvme_verify *v, uint64_t lba, uint32_t blocks, void *buffer);

/*
 * End a write that nvme_verify_begin_write() allowed. `ok` only if the command completed with
 * success; else the blocks may hold either generation from then on.
 */
void nvme_verify_end_write(struct nvme_verify *v, uint64_t lba, uint32_t blocks, int ok);

/* The same for a command that deallocates or zeroes; `kind` is an enum nvme_verify_trim. */
int nvme_verify_begin_trim(struct nvme_verify *v, uint64_t lba, uint32_t blocks, int kind);
void nvme_verify_end_trim(struct nvme_verify *v, uint64_t lba, uint32_t blocks, int kind, int ok);

/*
 * Begin to read: keeps writes off until nvme_verify_end_read(). Returns as begin_write; reads of
 * the same interval do not exclude each other, up to 127.
 */
int nvme_verify_begin_read(struct nvme_verify *v, uint64_t lba, uint32_t blocks);
void nvme_verify_end_read(struct nvme_verify *v, uint64_t lba, uint32_t blocks);

/*
 * Judge what a successful read brought, between begin_read and end_read. Returns 0, or 1 with the
 * first fault in `fault` (what follows that interval is not judged), or -EINVAL as begin_read. Does
 * not change `buffer`.
 */
int nvme_verify_check(struct nvme_verify *v, uint64_t lba, uint32_t blocks, const void *buffer,
		      struct nvme_verify_fault *fault);

/*
 * Forget that I/Os of `count` words from `word` are outstanding: for a table that a process left
 * behind. Their writes stay issued and unacknowledged.
 */
void nvme_verify_release(uint64_t *word, uint64_t count);

/* cdef: end */

_Static_assert(sizeof(struct nvme_verify_stamp) == 32, "stamp");
_Static_assert(sizeof(struct nvme_verify_header) == 64, "header");

/* The parts of a table word. */
#define WORD_ISSUED(word) ((uint32_t)(word))
#define WORD_UNACKNOWLEDGED_SHIFT 32
#define WORD_UNSEEN_SHIFT 42
#define WORD_BEHIND_MASK UINT64_C(0x3ff)
#define FAR_BEHIND ((uint32_t)NVME_VERIFY_NEVER)
#define WORD_KNOWN (UINT64_C(1) << 52)
#define WORD_ZEROED (UINT64_C(1) << 53)      /* zeroes are allowed */
#define WORD_DEALLOCATED (UINT64_C(1) << 54) /* what DLFEAT says, and older data, are allowed */
#define WORD_TRIMMED (UINT64_C(1) << 55)     /* stays: blank is no sign of "never written" */
#define WORD_WRITER (UINT64_C(1) << 56)
#define WORD_READER (UINT64_C(1) << 57)      /* one of up to 127 */
#define WORD_READERS (UINT64_C(127) << 57)
#define WORD_UNACKNOWLEDGED(word) ((uint32_t)((word) >> WORD_UNACKNOWLEDGED_SHIFT & \
					      WORD_BEHIND_MASK))
#define WORD_UNSEEN(word) ((uint32_t)((word) >> WORD_UNSEEN_SHIFT & WORD_BEHIND_MASK))

/* Between _verify.c, which fills and checks, and _verify_fault.c, which names faults. */

static inline uint32_t nvme_verify_interval_size(const struct nvme_verify *v)
{
	return v->interval_blocks * v->block_size;
}

/* The first bytes of logical block `block` of an interval that the method does not fill. */
static inline uint32_t nvme_verify_overhead(const struct nvme_verify *v, uint32_t block)
{
	if (v->method == NVME_VERIFY_PATTERN)
		return 0;
	return block ? sizeof(struct nvme_verify_stamp) : sizeof(struct nvme_verify_header);
}

/* True if a header is sound in itself; whether it is ours is not looked at. */
int nvme_verify_header_sound(const struct nvme_verify_header *header);

/* The tag that a stamp must have; its own is not looked at. */
uint32_t nvme_verify_tag(uint64_t seed, const struct nvme_verify_stamp *stamp);

/*
 * Make the data of a logical block, behind its header or stamp, at `out` (a whole block). Of the
 * pattern methods, for the interval whose pattern nvme_verify_render() made; not for META.
 */
void nvme_verify_make_data(const struct nvme_verify *v, uint64_t seed, uint64_t lba,
			   uint32_t generation, uint32_t block, uint8_t *out);

/* Put the byte offset of the interval at `lba` into the pattern. */
void nvme_verify_render(struct nvme_verify *v, uint64_t lba);

/* The checksum that a header carries for the interval at `interval`. */
uint64_t nvme_verify_checksum(const struct nvme_verify *v, const uint8_t *interval);

/*
 * Judge interval number `index` of a read, whose table word is `word`, without haste. Returns 0
 * and sets `seen` to the word with what was seen in it, or returns 1 with the fault.
 */
int nvme_verify_inspect(struct nvme_verify *v, uint64_t lba, uint32_t blocks,
			const uint8_t *buffer, uint32_t index, uint64_t word, uint64_t *seen,
			struct nvme_verify_fault *fault);

#endif
