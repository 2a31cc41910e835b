/* The checksums of verified data: XXH64, and CRC-32C of _crc.h. Without state, safe in any thread. */
#ifndef PYNVME_USER_CHECKSUM_H
#define PYNVME_USER_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "_crc.h"

/* cdef: begin */

/* XXH64 of `length` bytes, as xxHash's specification 0.1.1 describes it. */
uint64_t checksum_xxh64(const void *data, size_t length, uint64_t seed);

/* cdef: end */

#endif
