/*
 * Data verification on a disk in memory: random I/O without a fault and with each fault planted,
 * for the sanitizers and valgrind.
 *
 * Usage: verify_test [IOS [nanoseconds]], the I/Os of each configuration; with a second argument,
 * what filling and checking cost instead.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_checksum.h"
#include "_verify.h"
#include "test.h"

#define DISK_INTERVALS 96u
#define MAX_INTERVALS 16u /* of one I/O */

/* xorshift64*: the same numbers on every run. */
static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(2685821657736338717)) >> 33) % limit;
}

/* --- a disk, and I/O on it ----------------------------------------------------------------- */

struct disk {
	struct nvme_verify verify;
	uint64_t words[DISK_INTERVALS];
	uint8_t *data;
	uint8_t *buffer;
	uint8_t *scratch;
	size_t size;
};

static const uint8_t pattern[] = "a pattern\0\0\0\0\0\0\0\0 with an offset";
static const uint32_t offsets[] = { 9 };

static void disk_init(struct disk *disk, uint32_t method, uint32_t block_size,
		      uint32_t interval_blocks)
{
	size_t interval = (size_t)block_size * interval_blocks;

	memset(disk, 0, sizeof(*disk));
	disk->size = interval * DISK_INTERVALS;
	disk->data = calloc(1, disk->size);
	/* Exact sizes, so that the sanitizer sees a step too far. */
	disk->buffer = calloc(1, interval * MAX_INTERVALS);
	disk->scratch = malloc(2 * (size_t)block_size);
	CHECK(disk->data && disk->buffer && disk->scratch);
	disk->verify = (struct nvme_verify){
		.table = disk->words,
		.first_lba = 1000,
		.intervals = DISK_INTERVALS,
		.seed = 0x5eed,
		.scratch = disk->scratch,
		.pattern = pattern,
		.offsets = offsets,
		.pattern_length = sizeof(pattern),
		.offsets_count = 1,
		.block_size = block_size,
		.interval_blocks = interval_blocks,
		.method = method,
		.deallocated = NVME_VERIFY_READS_ZEROES,
	};
	CHECK(!nvme_verify_init(&disk->verify));
}

static void disk_free(struct disk *disk)
{
	free(disk->data);
	free(disk->buffer);
	free(disk->scratch);
}

static uint8_t *disk_at(struct disk *disk, uint64_t lba)
{
	return disk->data + (lba - disk->verify.first_lba) * disk->verify.block_size;
}

static size_t bytes(const struct disk *disk, uint32_t blocks)
{
	return (size_t)blocks * disk->verify.block_size;
}

/* The outcome of a write: all of it, none of it, or each logical block by chance. */
enum outcome { WHOLE, NONE, SOME };

static void write_as(struct disk *disk, uint64_t lba, uint32_t blocks, enum outcome outcome, int ok)
{
	CHECK(!nvme_verify_begin_write(&disk->verify, lba, blocks, disk->buffer));
	for (uint32_t b = 0; b < blocks; b++)
		if (outcome == WHOLE || (outcome == SOME && random_below(2)))
			memcpy(disk_at(disk, lba + b), disk->buffer + bytes(disk, b),
			       disk->verify.block_size);
	nvme_verify_end_write(&disk->verify, lba, blocks, ok);
}

static void trim_as(struct disk *disk, uint64_t lba, uint32_t blocks, int kind,
		    enum outcome outcome, int ok)
{
	CHECK(!nvme_verify_begin_trim(&disk->verify, lba, blocks, kind));
	for (uint32_t b = 0; b < blocks; b++)
		if (outcome == WHOLE || (outcome == SOME && random_below(2)))
			memset(disk_at(disk, lba + b), 0, disk->verify.block_size);
	nvme_verify_end_trim(&disk->verify, lba, blocks, kind, ok);
}

/* Read; returns the kind of the fault, 0 for none. */
static uint32_t read_range(struct disk *disk, uint64_t lba, uint32_t blocks,
			   struct nvme_verify_fault *fault)
{
	int faulty;

	CHECK(!nvme_verify_begin_read(&disk->verify, lba, blocks));
	memcpy(disk->buffer, disk_at(disk, lba), bytes(disk, blocks));
	faulty = nvme_verify_check(&disk->verify, lba, blocks, disk->buffer, fault);
	CHECK(faulty == 0 || faulty == 1);
	nvme_verify_end_read(&disk->verify, lba, blocks);
	return faulty ? fault->kind : 0;
}

static uint64_t random_range(struct disk *disk, uint32_t *blocks)
{
	uint32_t count = 1 + random_below(MAX_INTERVALS);
	uint32_t first = random_below(DISK_INTERVALS - count + 1);

	*blocks = count * disk->verify.interval_blocks;
	return disk->verify.first_lba + (uint64_t)first * disk->verify.interval_blocks;
}

/* Any I/O, with any outcome that a sound device may have. */
static void sound_io(struct disk *disk)
{
	uint32_t blocks;
	uint64_t lba = random_range(disk, &blocks);
	struct nvme_verify_fault fault;

	switch (random_below(16)) {
	case 0:
		write_as(disk, lba, blocks, (enum outcome)random_below(3), 0);
		break;
	case 1:
		trim_as(disk, lba, blocks, NVME_VERIFY_WRITE_ZEROES, WHOLE, 1);
		break;
	case 2: /* advice, which need not be taken */
		trim_as(disk, lba, blocks, NVME_VERIFY_DEALLOCATE, (enum outcome)random_below(3), 1);
		break;
	case 3:
		trim_as(disk, lba, blocks, (int)random_below(2), (enum outcome)random_below(3), 0);
		break;
	case 4: case 5: case 6: case 7: case 8:
		write_as(disk, lba, blocks, WHOLE, 1);
		break;
	default:
		if (read_range(disk, lba, blocks, &fault)) {
			fprintf(stderr, "fault %u, found %u at %llu\n", fault.kind, fault.found,
				(unsigned long long)fault.lba);
			abort();
		}
	}
}

/* --- planted faults ------------------------------------------------------------------------ */

/*
 * Plant one fault of `kind` in a range that was just written, and check its name and place. The
 * range has two intervals at least, which are acknowledged twice before.
 */
static void plant(struct disk *disk, uint32_t kind)
{
	struct nvme_verify *v = &disk->verify;
	uint32_t blocks = 2 * v->interval_blocks;
	uint64_t lba = v->first_lba + (uint64_t)random_below(DISK_INTERVALS / 2 - 1) * blocks;
	uint64_t other = lba + blocks;
	uint32_t block = random_below(blocks);
	uint32_t reach = v->method != NVME_VERIFY_META ? v->block_size :
			 block % v->interval_blocks ? 32 : 64;
	uint32_t byte = random_below(reach);
	uint64_t expected_lba = lba;
	struct nvme_verify_fault fault;
	uint8_t *before = malloc(bytes(disk, blocks));

	CHECK(before);
	write_as(disk, other, blocks, WHOLE, 1);
	write_as(disk, lba, blocks, WHOLE, 1);
	write_as(disk, lba, blocks, WHOLE, 1);
	memcpy(before, disk_at(disk, lba), bytes(disk, blocks));
	switch (kind) {
	case NVME_VERIFY_BIT_FLIP:
		disk_at(disk, lba + block)[byte] ^= (uint8_t)(1u << random_below(8));
		expected_lba = lba + block;
		break;
	case NVME_VERIFY_TORN_WRITE:
		write_as(disk, lba, blocks, WHOLE, 1);
		block = 1 + random_below(blocks - 1);
		memcpy(disk_at(disk, lba), before, bytes(disk, block));
		break;
	case NVME_VERIFY_LOST_WRITE:
		write_as(disk, lba, blocks, NONE, 1);
		break;
	case NVME_VERIFY_MISDIRECTED_WRITE:
		write_as(disk, lba, blocks, WHOLE, 1);
		memcpy(disk_at(disk, other), disk_at(disk, lba), bytes(disk, blocks));
		expected_lba = lba = other;
		break;
	case NVME_VERIFY_STALE_DATA:
		write_as(disk, lba, blocks, WHOLE, 1);
		CHECK(!read_range(disk, lba, blocks, &fault));
		memcpy(disk_at(disk, lba), before, bytes(disk, blocks));
		break;
	default:
		for (size_t i = 0; i < v->block_size; i++)
			disk_at(disk, lba + block)[i] = (uint8_t)random_below(256);
		expected_lba = lba + block;
	}
	if (read_range(disk, lba, blocks, &fault) != kind || fault.lba != expected_lba) {
		fprintf(stderr, "method %u, %u x %u: planted %u at %llu, named %u at %llu\n",
			v->method, v->interval_blocks, v->block_size, kind,
			(unsigned long long)expected_lba, fault.kind,
			(unsigned long long)fault.lba);
		abort();
	}
	if (kind == NVME_VERIFY_BIT_FLIP)
		CHECK(fault.wrong_bytes == 1 && fault.wrong_bits == 1 && fault.first_byte == byte);
	write_as(disk, lba, blocks, WHOLE, 1);
	write_as(disk, other, blocks, WHOLE, 1);
	CHECK(!read_range(disk, lba, blocks, &fault));
	free(before);
}

static void test_random(uint32_t ios, uint32_t method, uint32_t block_size, uint32_t blocks)
{
	struct disk disk;

	disk_init(&disk, method, block_size, blocks);
	for (uint32_t io = 0; io < ios; io++) {
		sound_io(&disk);
		if (io % 64 == 63) {
			uint32_t kind = NVME_VERIFY_BIT_FLIP + random_below(6);

			/* The bare pattern has no generations. */
			if (method != NVME_VERIFY_PATTERN || kind == NVME_VERIFY_BIT_FLIP ||
			    kind == NVME_VERIFY_MISDIRECTED_WRITE || kind == NVME_VERIFY_FOREIGN_DATA)
				plant(&disk, kind);
		}
	}
	CHECK(disk.verify.checked > ios / 8);
	disk_free(&disk);
}

/* --- rules --------------------------------------------------------------------------------- */

static void test_overlap(void)
{
	struct disk disk;
	struct nvme_verify *v = &disk.verify;
	uint64_t before[DISK_INTERVALS];

	disk_init(&disk, NVME_VERIFY_META, 512, 2);
	CHECK(!nvme_verify_begin_write(v, 1000, 4, disk.buffer));
	memcpy(before, disk.words, sizeof(before));
	CHECK(nvme_verify_begin_write(v, 1002, 4, disk.buffer) == -EBUSY);
	CHECK(nvme_verify_begin_read(v, 1002, 4) == -EBUSY);
	CHECK(nvme_verify_begin_trim(v, 1002, 4, NVME_VERIFY_DEALLOCATE) == -EBUSY);
	CHECK(!memcmp(before, disk.words, sizeof(before)));
	nvme_verify_end_write(v, 1000, 4, 1);
	for (int i = 0; i < 127; i++)
		CHECK(!nvme_verify_begin_read(v, 1000, 2));
	CHECK(nvme_verify_begin_read(v, 1000, 2) == -EBUSY);
	CHECK(nvme_verify_begin_write(v, 1000, 2, disk.buffer) == -EBUSY);
	for (int i = 0; i < 127; i++)
		nvme_verify_end_read(v, 1000, 2);
	CHECK(!nvme_verify_begin_write(v, 1000, 2, disk.buffer));
	nvme_verify_release(disk.words, DISK_INTERVALS);
	CHECK(!nvme_verify_begin_write(v, 1000, 2, disk.buffer));
	CHECK(nvme_verify_begin_write(v, 999, 2, disk.buffer) == -EINVAL);
	CHECK(nvme_verify_begin_write(v, 1001, 2, disk.buffer) == -EINVAL);
	CHECK(nvme_verify_begin_write(v, 1000, 1, disk.buffer) == -EINVAL);
	CHECK(nvme_verify_begin_read(v, 1000, 0) == -EINVAL);
	CHECK(nvme_verify_begin_read(v, 1000 + 2 * DISK_INTERVALS - 2, 4) == -EINVAL);
	CHECK(nvme_verify_begin_read(v, UINT64_MAX - 1, 4) == -EINVAL);
	disk_free(&disk);
}

/* Generations wrap, and what was acknowledged too long ago asks nothing. */
static void test_wrap(void)
{
	struct disk disk;
	struct nvme_verify_fault fault;

	disk_init(&disk, NVME_VERIFY_CRC32C, 512, 4);
	write_as(&disk, 1000, 4, WHOLE, 1);
	disk.words[0] = (disk.words[0] & ~UINT64_C(0xffffffff)) | (UINT32_MAX - 2);
	for (int i = 0; i < 6; i++) {
		write_as(&disk, 1000, 4, WHOLE, 1);
		CHECK(!read_range(&disk, 1000, 4, &fault));
		write_as(&disk, 1000, 4, NONE, 1);
		CHECK(read_range(&disk, 1000, 4, &fault) == NVME_VERIFY_LOST_WRITE);
	}
	write_as(&disk, 1000, 4, WHOLE, 1);
	for (int i = 0; i < 2000; i++) {
		write_as(&disk, 1000, 4, i % 2 ? NONE : SOME, 0);
		if (i % 100 == 0)
			CHECK(!read_range(&disk, 1000, 4, &fault));
	}
	disk_free(&disk);
}

static void *thread_main(void *argument)
{
	struct disk *disk = argument;
	struct nvme_verify_fault fault;

	for (uint32_t io = 0; io < 2000; io++) {
		uint64_t lba = disk->verify.first_lba + io % disk->verify.intervals;

		write_as(disk, lba, 1, WHOLE, 1);
		CHECK(!read_range(disk, lba, 1, &fault));
	}
	return NULL;
}

/* Two threads share a table; their intervals lie side by side. */
static void test_threads(void)
{
	struct disk disks[2];
	pthread_t threads[2];

	for (uint32_t i = 0; i < 2; i++) {
		disk_init(&disks[i], NVME_VERIFY_XXHASH, 512, 1);
		disks[i].verify.table = disks[0].words + i;
		disks[i].verify.intervals = 1;
		disks[i].verify.first_lba += i;
		CHECK(!pthread_create(&threads[i], NULL, thread_main, &disks[i]));
	}
	for (uint32_t i = 0; i < 2; i++) {
		CHECK(!pthread_join(threads[i], NULL));
		disk_free(&disks[i]);
	}
}

static void test_checksums(void)
{
	uint8_t data[3000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)random_below(256);
	CHECK(checksum_crc32c(0, "123456789", 9) == 0xe3069283);
	CHECK(checksum_xxh64("", 0, 0) == UINT64_C(0xef46db3751d8e999));
	for (size_t length = 0; length < sizeof(data); length++)
		CHECK(checksum_crc32c(1, data + 1, length) ==
		      checksum_crc32c_table(1, data + 1, length));
}

/* --- cost ---------------------------------------------------------------------------------- */

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void measure(uint32_t ios)
{
	static const char *const names[] = { "", "crc32c", "xxhash", "pattern", "pattern_hdr",
					     "meta" };
	static const uint32_t shapes[][2] = { { 4096, 1 }, { 512, 8 }, { 512, 1 } };

	for (uint32_t method = NVME_VERIFY_CRC32C; method <= NVME_VERIFY_META; method++)
		for (size_t s = 0; s < 3; s++) {
			struct disk disk;
			struct nvme_verify_fault fault;
			uint32_t blocks = 4096 / shapes[s][0];
			double fill = 0;
			double check = 0;

			disk_init(&disk, method, shapes[s][0], shapes[s][1]);
			for (uint32_t turn = 0; turn < 2; turn++) {
				double start = now_ns();

				for (uint32_t i = 0; i < ios; i++) {
					nvme_verify_begin_write(&disk.verify, 1000, blocks,
								disk.buffer);
					nvme_verify_end_write(&disk.verify, 1000, blocks, 1);
				}
				fill = (now_ns() - start) / ios;
				start = now_ns();
				for (uint32_t i = 0; i < ios; i++) {
					nvme_verify_begin_read(&disk.verify, 1000, blocks);
					CHECK(!nvme_verify_check(&disk.verify, 1000, blocks,
								 disk.buffer, &fault));
					nvme_verify_end_read(&disk.verify, 1000, blocks);
				}
				check = (now_ns() - start) / ios;
			}
			printf("%-12s 4 KiB in %u B blocks, intervals of %u: fill %.0f ns (%.1f GB/s), "
			       "check %.0f ns (%.1f GB/s)\n", names[method], shapes[s][0],
			       shapes[s][1], fill, 4096 / fill, check, 4096 / check);
			disk_free(&disk);
		}
}

int main(int argc, char **argv)
{
	/* Logical block size and logical blocks of an interval; 1 MiB I/Os are Python's test. */
	static const uint32_t shapes[][2] = { { 512, 1 }, { 512, 3 }, { 512, 8 }, { 4096, 1 },
					      { 4096, 5 } };
	uint32_t ios = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 2000;

	if (argc > 2) {
		measure(ios);
		return 0;
	}
	test_checksums();
	test_overlap();
	test_wrap();
	test_threads();
	for (uint32_t method = NVME_VERIFY_CRC32C; method <= NVME_VERIFY_META; method++)
		for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
			test_random(ios, method, shapes[s][0], shapes[s][1]);
	printf("verify: ok\n");
	return 0;
}
