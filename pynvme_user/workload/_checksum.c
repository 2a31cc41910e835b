/* CRC-32C and XXH64. See _checksum.h for what each function does and does not do. */
#include "_checksum.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Loads go through memcpy, since buffers have any alignment, and values are little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "NVMe and this code are little-endian");

static inline uint64_t load64(const unsigned char *p)
{
	uint64_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static inline uint32_t load32(const unsigned char *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

/* --- CRC-32C ------------------------------------------------------------------------------- */

#define CRC32C_POLYNOMIAL 0x82f63b78u /* bit-reflected */

/* crc_tables[n][byte]: the CRC of that byte with n zero bytes behind it ("slicing by 8"). */
static uint32_t crc_tables[8][256];

static inline uint32_t crc_byte(uint32_t crc, unsigned char byte)
{
	return (crc >> 8) ^ crc_tables[0][(crc ^ byte) & 0xff];
}

uint32_t checksum_crc32c_table(uint32_t crc, const void *data, size_t length)
{
	const unsigned char *p = data;

	crc = ~crc;
	for (; length >= 8; length -= 8, p += 8) {
		uint64_t word = load64(p) ^ crc;

		crc = 0;
		for (int i = 0; i < 8; i++)
			crc ^= crc_tables[7 - i][(word >> (8 * i)) & 0xff];
	}
	while (length--)
		crc = crc_byte(crc, *p++);
	return ~crc;
}

#if defined(__x86_64__)
/*
 * The crc32 instruction gives a result after three cycles and can start each cycle: three lanes
 * fill it. A lane's CRC is moved over the bytes that follow by a multiplication with x^(8n-33),
 * reduced, of which a crc32 instruction makes a CRC again.
 */
#define LANE 256
#define MOVE_OVER_ONE_LANE 0xb9e02b86u
#define MOVE_OVER_TWO_LANES 0xdd7e3b0cu

__attribute__((target("sse4.2,pclmul")))
static inline uint64_t crc_move(uint64_t crc, uint32_t multiplier)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
					       _mm_cvtsi32_si128((int)multiplier), 0);

	return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul")))
static uint32_t crc32c_sse42(uint32_t start, const void *data, size_t length)
{
	const unsigned char *p = data;
	uint64_t crc = (uint32_t)~start;

	for (; length >= 3 * LANE; length -= 3 * LANE, p += 3 * LANE) {
		uint64_t second = 0;
		uint64_t third = 0;

		for (int i = 0; i < LANE; i += 8) {
			crc = _mm_crc32_u64(crc, load64(p + i));
			second = _mm_crc32_u64(second, load64(p + LANE + i));
			third = _mm_crc32_u64(third, load64(p + 2 * LANE + i));
		}
		crc = crc_move(crc, MOVE_OVER_TWO_LANES) ^ crc_move(second, MOVE_OVER_ONE_LANE) ^
		      third;
	}
	for (; length >= 8; length -= 8, p += 8)
		crc = _mm_crc32_u64(crc, load64(p));
	while (length--)
		crc = _mm_crc32_u8((uint32_t)crc, *p++);
	return (uint32_t)~crc;
}
#endif

static uint32_t (*crc32c)(uint32_t crc, const void *data, size_t length) = checksum_crc32c_table;

/* Before any thread can ask for a checksum. */
__attribute__((constructor))
static void crc_choose(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
		crc_tables[0][byte] = crc;
	}
	for (int n = 1; n < 8; n++)
		for (uint32_t byte = 0; byte < 256; byte++)
			crc_tables[n][byte] = crc_byte(crc_tables[n - 1][byte], 0);
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
		crc32c = crc32c_sse42;
#endif
}

uint32_t checksum_crc32c(uint32_t crc, const void *data, size_t length)
{
	return crc32c(crc, data, length);
}

/* --- XXH64 --------------------------------------------------------------------------------- */

#define PRIME_1 UINT64_C(0x9e3779b185ebca87)
#define PRIME_2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define PRIME_3 UINT64_C(0x165667b19e3779f9)
#define PRIME_4 UINT64_C(0x85ebca77c2b2ae63)
#define PRIME_5 UINT64_C(0x27d4eb2f165667c5)

static inline uint64_t rotate_left(uint64_t value, int bits)
{
	return (value << bits) | (value >> (64 - bits));
}

static inline uint64_t xxh64_round(uint64_t accumulator, uint64_t lane)
{
	return rotate_left(accumulator + lane * PRIME_2, 31) * PRIME_1;
}

uint64_t checksum_xxh64(const void *data, size_t length, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t hash = seed + PRIME_5;
	size_t left = length;

	if (left >= 32) {
		uint64_t lanes[4] = { seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed,
				      seed - PRIME_1 };

		for (; left >= 32; left -= 32, p += 32)
			for (int i = 0; i < 4; i++)
				lanes[i] = xxh64_round(lanes[i], load64(p + 8 * i));
		hash = rotate_left(lanes[0], 1) + rotate_left(lanes[1], 7) +
		       rotate_left(lanes[2], 12) + rotate_left(lanes[3], 18);
		for (int i = 0; i < 4; i++)
			hash = (hash ^ xxh64_round(0, lanes[i])) * PRIME_1 + PRIME_4;
	}
	hash += length;
	for (; left >= 8; left -= 8, p += 8)
		hash = rotate_left(hash ^ xxh64_round(0, load64(p)), 27) * PRIME_1 + PRIME_4;
	if (left >= 4) {
		hash = rotate_left(hash ^ (load32(p) * PRIME_1), 23) * PRIME_2 + PRIME_3;
		left -= 4;
		p += 4;
	}
	while (left--)
		hash = rotate_left(hash ^ (*p++ * PRIME_5), 11) * PRIME_1;
	hash = (hash ^ (hash >> 33)) * PRIME_2;
	hash = (hash ^ (hash >> 29)) * PRIME_3;
	return hash ^ (hash >> 32);
}
