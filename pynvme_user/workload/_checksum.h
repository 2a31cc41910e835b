/*
 * The checksums of verified data: CRC-32C (Castagnoli: RFC 3720, appendix B.4) and XXH64.
 *
 * Plain functions without state, safe in any thread.
 */
#ifndef PYNVME_USER_CHECKSUM_H
#define PYNVME_USER_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

/*
 * CRC-32C of `length` bytes that follow on bytes whose CRC-32C is `crc` (0: none). With the CPU's
 * instructions where it has them, which is found out once, when the library is loaded.
 */
uint32_t checksum_crc32c(uint32_t crc, const void *data, size_t length);

/* The same without special instructions: what a CPU without them gets. Returns the same. */
uint32_t checksum_crc32c_table(uint32_t crc, const void *data, size_t length);

/* XXH64 of `length` bytes, as xxHash's specification 0.1.1 describes it. */
uint64_t checksum_xxh64(const void *data, size_t length, uint64_t seed);

/* cdef: end */

#endif
