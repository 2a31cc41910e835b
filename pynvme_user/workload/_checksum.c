/* XXH64. See _checksum.h for what each function does and does not do. */
#include "_checksum.h"

#include <string.h>

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
