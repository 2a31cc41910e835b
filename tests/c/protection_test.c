/*
 * Protection information in memory of exact sizes, for the sanitizers and valgrind: what is generated
 * is sound, and each bit that is flipped is a fault of the part that it is in.
 *
 * Usage: protection_test [ROUNDS [speed]], the blocks of each configuration; with a second argument,
 * what the checksums cost instead.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_crc.h"
#include "_protection.h"
#include "test.h"

static uint64_t random_state = 88172645463325252u;

/* xorshift64*: the same numbers on every run. */
static uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * UINT64_C(2685821657736338717);
}

static void random_fill(uint8_t *memory, size_t length)
{
	for (size_t i = 0; i < length; i++)
		memory[i] = (uint8_t)(random_next() >> 56);
}

/* --- checksums ----------------------------------------------------------------------------- */

static void test_checksums(void)
{
	CHECK(checksum_crc16(0, "123456789", 9) == 0xd0db);
	CHECK(checksum_crc32c(0, "123456789", 9) == 0xe3069283);
	CHECK(checksum_crc64(0, "123456789", 9) == UINT64_C(0xae8b14860a799888));
	for (size_t length = 0; length < 600; length++) {
		uint8_t *data = malloc(length ? length : 1);

		CHECK(data);
		random_fill(data, length);
		CHECK(checksum_crc16(3, data, length) == checksum_crc16_table(3, data, length));
		CHECK(checksum_crc32c(3, data, length) == checksum_crc32c_table(3, data, length));
		CHECK(checksum_crc64(3, data, length) == checksum_crc64_table(3, data, length));
		free(data);
	}
}

/* --- tuples -------------------------------------------------------------------------------- */

static const uint32_t guard_sizes[] = { 2, 4, 8 };
static const uint32_t tuple_sizes[] = { 8, 16, 16 };
static const uint32_t storage_bits[3][3] = { { 0, 8, 32 }, { 16, 40, 64 }, { 0, 16, 48 } };

/* Flip each bit of the tuples of all blocks, and see it told. */
static void check_tuples(struct nvme_protection *protection)
{
	uint32_t guard = guard_sizes[protection->guard];
	uint32_t size = tuple_sizes[protection->guard];
	struct nvme_protection_fault fault;

	for (uint64_t block = 0; block < protection->blocks; block++)
		for (uint32_t bit = 0; bit < 8 * size; bit++) {
			uint8_t *byte = protection->metadata + block * protection->metadata_stride +
					protection->offset + bit / 8;
			uint32_t part = NVME_PROTECTION_REF_TAG;

			if (bit / 8 < guard)
				part = NVME_PROTECTION_GUARD;
			else if (bit / 8 < guard + 2)
				part = NVME_PROTECTION_APP_TAG;
			else if (bit - 8 * (guard + 2) < protection->storage_bits)
				part = NVME_PROTECTION_STORAGE_TAG;
			*byte ^= (uint8_t)(0x80 >> bit % 8);
			CHECK(nvme_protection_check(protection, &fault) == 1);
			CHECK(fault.block == block && fault.part == part);
			CHECK(fault.expected != fault.found);
			protection->checks &= ~part;
			CHECK(nvme_protection_check(protection, &fault) == 0);
			protection->checks |= part;
			*byte ^= (uint8_t)(0x80 >> bit % 8);
		}
	CHECK(nvme_protection_check(protection, &fault) == 0);
}

static void test_format(uint32_t guard, uint32_t bits, uint32_t type, uint32_t size,
			uint32_t metadata_size, int first, int apart, uint64_t blocks)
{
	uint32_t offset = first ? 0 : metadata_size - tuple_sizes[guard];
	size_t data_length = blocks * (apart ? size : size + metadata_size);
	uint8_t *data = malloc(data_length);
	uint8_t *metadata = malloc(blocks * metadata_size);
	struct nvme_protection protection = {
		.data = data,
		.metadata = apart ? metadata : data + size,
		.data_stride = apart ? size : size + metadata_size,
		.metadata_stride = apart ? metadata_size : size + metadata_size,
		.blocks = blocks,
		.block_size = size,
		.offset = offset,
		.covered = offset,
		.guard = guard,
		.type = type,
		.storage_bits = bits,
		.checks = 15,
		.app_tag = (uint16_t)(random_next() & 0x7f7f),
		.app_tag_mask = 0xffff,
		.storage_tag = bits ? random_next() >> (64 - bits) : 0,
		.storage_tag_mask = UINT64_MAX,
		.ref_tag = random_next() >> 32,
	};

	CHECK(data && metadata);
	random_fill(data, data_length);
	random_fill(metadata, blocks * metadata_size);
	nvme_protection_generate(&protection);
	check_tuples(&protection);
	free(data);
	free(metadata);
}

static void test_tuples(uint64_t blocks)
{
	for (uint32_t guard = 0; guard < 3; guard++)
		for (uint32_t number = 0; number < 3; number++)
			for (uint32_t way = 0; way < 24; way++)
				test_format(guard, storage_bits[guard][number], 1 + way % 3,
					    way & 1 ? 512 : 73, tuple_sizes[guard] + way % 5,
					    way / 6 & 1, way / 12, blocks);
}

/* --- cost ---------------------------------------------------------------------------------- */

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint64_t use16(int table, const void *data, size_t length)
{
	return table ? checksum_crc16_table(0, data, length) : checksum_crc16(0, data, length);
}

static uint64_t use32(int table, const void *data, size_t length)
{
	return table ? checksum_crc32c_table(0, data, length) : checksum_crc32c(0, data, length);
}

static uint64_t use64(int table, const void *data, size_t length)
{
	return table ? checksum_crc64_table(0, data, length) : checksum_crc64(0, data, length);
}

/* In GB/s, the best of several turns over 1 MiB in pieces of a block. */
static double speed(uint64_t (*use)(int, const void *, size_t), int table, size_t block)
{
	static uint8_t data[1 << 20];
	volatile uint64_t sink = 0;
	double best = 0;

	for (int turn = 0; turn < 30; turn++) {
		double start = now_ns();
		double rate;

		for (size_t at = 0; at + block <= sizeof(data); at += block)
			sink ^= use(table, data + at, block);
		rate = (double)sizeof(data) / (now_ns() - start);
		best = rate > best ? rate : best;
	}
	return best;
}

static void measure(void)
{
	static const struct {
		const char *name;
		uint64_t (*use)(int, const void *, size_t);
	} ways[] = { { "CRC-16/T10-DIF", use16 }, { "CRC-32C", use32 }, { "CRC-64/NVME", use64 } };

	for (int i = 0; i < 3; i++)
		for (size_t block = 512; block <= 4096; block *= 8)
			printf("%-14s %4zu-byte blocks: table %5.2f GB/s, instructions %5.2f GB/s\n",
			       ways[i].name, block, speed(ways[i].use, 1, block),
			       speed(ways[i].use, 0, block));
}

int main(int argc, char **argv)
{
	if (argc > 2) {
		measure();
		return 0;
	}
	test_checksums();
	test_tuples(argc > 1 ? strtoull(argv[1], NULL, 10) : 5);
	puts("protection: ok");
	return 0;
}
