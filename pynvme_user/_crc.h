/*
 * CRC-16/T10-DIF, CRC-32C and CRC-64/NVME: the guards of protection information (NVM Command Set 1.1,
 * section 5.3.1), and the checksum of verified data.
 *
 * Plain functions without state, safe in any thread, of data that begins anywhere. `crc` is that of
 * the bytes that the data follows on, 0 where there are none. Each uses the CPU's instructions where
 * it has them, which is found out once, when the library is loaded. Those whose names end in _table
 * do without: what other CPUs get. Both return the same.
 */
#ifndef PYNVME_USER_CRC_H
#define PYNVME_USER_CRC_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

/* CRC-16/T10-DIF: polynomial 8BB7h, not reflected, no inversion (SBC-4). */
uint16_t checksum_crc16(uint16_t crc, const void *data, size_t length);
uint16_t checksum_crc16_table(uint16_t crc, const void *data, size_t length);

/* CRC-32C: polynomial 1EDC6F41h, reflected, inverted before and after (RFC 3720, appendix B.4). */
uint32_t checksum_crc32c(uint32_t crc, const void *data, size_t length);
uint32_t checksum_crc32c_table(uint32_t crc, const void *data, size_t length);

/* CRC-64/NVME: polynomial AD93D23594C93659h, reflected, inverted before and after. */
uint64_t checksum_crc64(uint64_t crc, const void *data, size_t length);
uint64_t checksum_crc64_table(uint64_t crc, const void *data, size_t length);

/* cdef: end */

#endif
