/* See _crc.h for what each function does and does not do. */
#include "_crc.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Loads go through memcpy, since buffers have any alignment, and values are little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "NVMe and this code are little-endian");

#define CRC16_POLYNOMIAL 0x8bb7u
/* Bit-reflected. */
#define CRC32C_POLYNOMIAL 0x82f63b78u
#define CRC64_POLYNOMIAL UINT64_C(0x9a6c9329ac4bc9b5)

static inline uint64_t load64(const unsigned char *p)
{
	uint64_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

/* --- tables ---------------------------------------------------------------------------------- */

/* tables[n][byte]: the CRC of that byte with n zero bytes behind it ("slicing by 8"). */
static uint16_t crc16_tables[8][256];
static uint32_t crc32c_tables[8][256];
static uint64_t crc64_tables[8][256];

static inline uint16_t crc16_byte(uint16_t crc, unsigned char byte)
{
	return (uint16_t)((crc << 8) ^ crc16_tables[0][(crc >> 8) ^ byte]);
}

static inline uint32_t crc32c_byte(uint32_t crc, unsigned char byte)
{
	return (crc >> 8) ^ crc32c_tables[0][(crc ^ byte) & 0xff];
}

static inline uint64_t crc64_byte(uint64_t crc, unsigned char byte)
{
	return (crc >> 8) ^ crc64_tables[0][(crc ^ byte) & 0xff];
}

uint16_t checksum_crc16_table(uint16_t crc, const void *data, size_t length)
{
	const unsigned char *p = data;

	for (; length >= 8; length -= 8, p += 8) {
		uint16_t next = 0;

		/* The CRC lies over the first two bytes, its upper half over the first. */
		next ^= crc16_tables[7][p[0] ^ (crc >> 8)];
		next ^= crc16_tables[6][p[1] ^ (crc & 0xff)];
		for (int i = 2; i < 8; i++)
			next ^= crc16_tables[7 - i][p[i]];
		crc = next;
	}
	while (length--)
		crc = crc16_byte(crc, *p++);
	return crc;
}

uint32_t checksum_crc32c_table(uint32_t crc, const void *data, size_t length)
{
	const unsigned char *p = data;

	crc = ~crc;
	for (; length >= 8; length -= 8, p += 8) {
		uint64_t word = load64(p) ^ crc;

		crc = 0;
		for (int i = 0; i < 8; i++)
			crc ^= crc32c_tables[7 - i][(word >> (8 * i)) & 0xff];
	}
	while (length--)
		crc = crc32c_byte(crc, *p++);
	return ~crc;
}

uint64_t checksum_crc64_table(uint64_t crc, const void *data, size_t length)
{
	const unsigned char *p = data;

	crc = ~crc;
	for (; length >= 8; length -= 8, p += 8) {
		uint64_t word = load64(p) ^ crc;

		crc = 0;
		for (int i = 0; i < 8; i++)
			crc ^= crc64_tables[7 - i][(word >> (8 * i)) & 0xff];
	}
	while (length--)
		crc = crc64_byte(crc, *p++);
	return ~crc;
}

static void tables_init(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint16_t crc16 = (uint16_t)(byte << 8);
		uint32_t crc32c = byte;
		uint64_t crc64 = byte;

		for (int bit = 0; bit < 8; bit++) {
			crc16 = (uint16_t)((crc16 << 1) ^ (crc16 & 0x8000 ? CRC16_POLYNOMIAL : 0));
			crc32c = (crc32c >> 1) ^ (crc32c & 1 ? CRC32C_POLYNOMIAL : 0);
			crc64 = (crc64 >> 1) ^ (crc64 & 1 ? CRC64_POLYNOMIAL : 0);
		}
		crc16_tables[0][byte] = crc16;
		crc32c_tables[0][byte] = crc32c;
		crc64_tables[0][byte] = crc64;
	}
	for (int n = 1; n < 8; n++)
		for (uint32_t byte = 0; byte < 256; byte++) {
			crc16_tables[n][byte] = crc16_byte(crc16_tables[n - 1][byte], 0);
			crc32c_tables[n][byte] = crc32c_byte(crc32c_tables[n - 1][byte], 0);
			crc64_tables[n][byte] = crc64_byte(crc64_tables[n - 1][byte], 0);
		}
}

#if defined(__x86_64__)

/* --- CRC-32C with its own instruction -------------------------------------------------------- */

/*
 * The crc32 instruction gives a result after three cycles and can start each cycle: three lanes
 * fill it. A lane's CRC is moved over the bytes that follow by a multiplication with x^(8n-33),
 * reduced, of which a crc32 instruction makes a CRC again.
 */
#define LANE 256
#define MOVE_OVER_ONE_LANE 0xb9e02b86u
#define MOVE_OVER_TWO_LANES 0xdd7e3b0cu

__attribute__((target("sse4.2,pclmul")))
static inline uint64_t crc32c_move(uint64_t crc, uint32_t multiplier)
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
		crc = crc32c_move(crc, MOVE_OVER_TWO_LANES) ^
		      crc32c_move(second, MOVE_OVER_ONE_LANE) ^ third;
	}
	for (; length >= 8; length -= 8, p += 8)
		crc = _mm_crc32_u64(crc, load64(p));
	while (length--)
		crc = _mm_crc32_u8((uint32_t)crc, *p++);
	return (uint32_t)~crc;
}

/* --- the others by carry-less multiplication ------------------------------------------------- */

/*
 * 16 bytes are a polynomial A x^64 + B. Bits that lie n bits before others have the CRC of their
 * product with x^n, reduced or not: so 16 bytes are folded onto those that follow n bits behind by
 * two multiplications, A's with x^(n+64) and B's with x^n, each reduced once and for all. Four lanes
 * of 16 bytes, each folded over 64 bytes at a time, fill the multiplier. What is left in the end, 16
 * bytes that have the CRC of all before, the tables do.
 *
 * Of a reflected CRC, A is the lower half, and a product comes out one bit too low: the factors are
 * x^(n+63) and x^(n-1). Of one that is not, the bytes are turned round as they are loaded.
 */
struct fold {
	uint64_t over_64[2]; /* the factor of the lower half, and of the upper */
	uint64_t over_16[2];
};

static struct fold crc16_fold, crc64_fold;

/* x^n modulo CRC-16's polynomial. */
static uint64_t crc16_power(int n)
{
	uint32_t value = 1;

	while (n--)
		value = (value << 1) ^ (value & 0x8000 ? 0x10000 | CRC16_POLYNOMIAL : 0);
	return value;
}

/* x^n modulo CRC-64's polynomial, reflected. */
static uint64_t crc64_power(int n)
{
	uint64_t value = UINT64_C(1) << 63;

	while (n--)
		value = (value >> 1) ^ (value & 1 ? CRC64_POLYNOMIAL : 0);
	return value;
}

static void folds_init(void)
{
	crc16_fold = (struct fold){
		.over_64 = { crc16_power(512), crc16_power(512 + 64) },
		.over_16 = { crc16_power(128), crc16_power(128 + 64) },
	};
	crc64_fold = (struct fold){
		.over_64 = { crc64_power(512 + 63), crc64_power(512 - 1) },
		.over_16 = { crc64_power(128 + 63), crc64_power(128 - 1) },
	};
}

#define FOLDS __attribute__((target("ssse3,pclmul"))) static inline

FOLDS __m128i fold_load(const void *p, int turned)
{
	const __m128i order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	__m128i bytes = _mm_loadu_si128(p);

	return turned ? _mm_shuffle_epi8(bytes, order) : bytes;
}

FOLDS __m128i fold_onto(__m128i bytes, __m128i factors, __m128i next)
{
	__m128i lower = _mm_clmulepi64_si128(bytes, factors, 0x00);
	__m128i upper = _mm_clmulepi64_si128(bytes, factors, 0x11);

	return _mm_xor_si128(_mm_xor_si128(lower, upper), next);
}

/*
 * Make 16 bytes with the same CRC of the first ones of `length`, which is 64 or more. `start` lies
 * over the first 16. Returns how many bytes those are: all but 15 or fewer.
 */
FOLDS size_t fold(unsigned char *left, const unsigned char *p, size_t length, __m128i start,
		  const struct fold *factors, int turned)
{
	__m128i over_64 = _mm_loadu_si128((const __m128i *)factors->over_64);
	__m128i over_16 = _mm_loadu_si128((const __m128i *)factors->over_16);
	__m128i first = _mm_xor_si128(fold_load(p, turned), start);
	__m128i second = fold_load(p + 16, turned);
	__m128i third = fold_load(p + 32, turned);
	__m128i fourth = fold_load(p + 48, turned);
	size_t at = 64;

	for (; length - at >= 64; at += 64) {
		first = fold_onto(first, over_64, fold_load(p + at, turned));
		second = fold_onto(second, over_64, fold_load(p + at + 16, turned));
		third = fold_onto(third, over_64, fold_load(p + at + 32, turned));
		fourth = fold_onto(fourth, over_64, fold_load(p + at + 48, turned));
	}
	second = fold_onto(first, over_16, second);
	third = fold_onto(second, over_16, third);
	fourth = fold_onto(third, over_16, fourth);
	for (; length - at >= 16; at += 16)
		fourth = fold_onto(fourth, over_16, fold_load(p + at, turned));
	_mm_storeu_si128((__m128i *)left, fold_load(&fourth, turned));
	return at;
}

__attribute__((target("ssse3,pclmul")))
static uint16_t crc16_pclmul(uint16_t crc, const void *data, size_t length)
{
	unsigned char left[16];
	size_t done;

	if (length < 64)
		return checksum_crc16_table(crc, data, length);
	done = fold(left, data, length, _mm_set_epi64x((long long)((uint64_t)crc << 48), 0),
		    &crc16_fold, 1);
	crc = checksum_crc16_table(0, left, sizeof(left));
	return checksum_crc16_table(crc, (const unsigned char *)data + done, length - done);
}

__attribute__((target("ssse3,pclmul")))
static uint64_t crc64_pclmul(uint64_t crc, const void *data, size_t length)
{
	unsigned char left[16];
	size_t done;

	if (length < 64)
		return checksum_crc64_table(crc, data, length);
	done = fold(left, data, length, _mm_set_epi64x(0, (long long)~crc), &crc64_fold, 0);
	/* Of what is left the CRC is neither inverted before nor, as it is gone on with, after. */
	crc = checksum_crc64_table(~UINT64_C(0), left, sizeof(left));
	return checksum_crc64_table(crc, (const unsigned char *)data + done, length - done);
}
#endif

/* --- which of them --------------------------------------------------------------------------- */

static uint16_t (*crc16)(uint16_t crc, const void *data, size_t length) = checksum_crc16_table;
static uint32_t (*crc32c)(uint32_t crc, const void *data, size_t length) = checksum_crc32c_table;
static uint64_t (*crc64)(uint64_t crc, const void *data, size_t length) = checksum_crc64_table;

/* Before any thread can ask for a checksum. */
__attribute__((constructor))
static void crc_choose(void)
{
	tables_init();
#if defined(__x86_64__)
	folds_init();
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("pclmul"))
		return;
	if (__builtin_cpu_supports("sse4.2"))
		crc32c = crc32c_sse42;
	if (__builtin_cpu_supports("ssse3")) {
		crc16 = crc16_pclmul;
		crc64 = crc64_pclmul;
	}
#endif
}

uint16_t checksum_crc16(uint16_t crc, const void *data, size_t length)
{
	return crc16(crc, data, length);
}

uint32_t checksum_crc32c(uint32_t crc, const void *data, size_t length)
{
	return crc32c(crc, data, length);
}

uint64_t checksum_crc64(uint64_t crc, const void *data, size_t length)
{
	return crc64(crc, data, length);
}
