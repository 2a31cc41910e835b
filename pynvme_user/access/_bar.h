/*
 * Mapped BARs that survive the removal of their device.
 *
 * When a device goes away, the kernel may take its BARs out of the address space; the next load or
 * store there is a SIGBUS. Registers of a device that is gone read as all ones: so does a guarded
 * BAR from then on, page by page, and stores to it are lost, as they would be on the bus.
 */
#ifndef PYNVME_USER_BAR_H
#define PYNVME_USER_BAR_H

#include <stddef.h>

/* cdef: begin */

/*
 * Guard `length` bytes mapped at `address`, both multiples of the page size. The first guard
 * installs a handler for SIGBUS, which passes on every fault that is not in a guarded BAR. Returns
 * 0, -ENOSPC where too many are guarded, or the negative errno of what else failed. Not
 * thread-safe against itself and bar_unguard().
 */
int bar_guard(void *address, size_t length);

/* End a guard, before the memory is unmapped. Does nothing for an address that has none. */
void bar_unguard(void *address);

/* cdef: end */

#endif
