/*
 * The clock of the I/O path: the processor's time-stamp counter where it can be relied on, else
 * CLOCK_MONOTONIC.
 *
 * Even an invariant counter may step, as when a virtual machine moves to another host. So an age is
 * never negative here, a wait ends early rather than late, and no command is aborted unless
 * CLOCK_MONOTONIC agrees (raw_queue.py).
 */
#ifndef PYNVME_USER_CLOCK_H
#define PYNVME_USER_CLOCK_H

#include <stdint.h>

/* cdef: begin -- the part up to "cdef: end" is also read by cffi (_ring_build.py) */

/* Nanoseconds and ticks in 32.32 fixed point. */
struct nvme_clock {
	uint64_t (*read)(void); /* NULL: the processor's counter */
	uint64_t ns_per_tick;
	uint64_t ticks_per_ns;
	uint64_t rate; /* ticks in a second; 0 until nvme_tick_rate() was called */
};

/* The one clock; nvme_tick_rate() sets it. A test may put its own in place. */
extern struct nvme_clock nvme_clock;

/* The time now, in ticks. */
uint64_t nvme_ticks(void);

/*
 * How many ticks a second has. The first call chooses the clock and measures it; it is to come
 * before any other use of the clock, and reads a file of sysfs. nvme_qpair_init() makes it.
 */
uint64_t nvme_tick_rate(void);

/* cdef: end */

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* Not looked up by name at run time: it is read for each burst of a loop. */
extern __attribute__((visibility("hidden"))) struct nvme_clock nvme_clock;

/* The processor's counter; for where nvme_clock.read is NULL. */
static inline uint64_t counter_now(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#else
	return 0;
#endif
}

static inline uint64_t ticks_now(void)
{
	return likely(!nvme_clock.read) ? counter_now() : nvme_clock.read();
}

static inline uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * nvme_clock.ns_per_tick) >> 32);
}

/* How long ago `then` was, in nanoseconds; 0 where the clock went back in between. */
static inline uint64_t ticks_age_ns(uint64_t now, uint64_t then)
{
	uint64_t age = now - then;

	return ticks_to_ns(likely((int64_t)age >= 0) ? age : 0);
}

/* Up to 2^62: a time that never comes is the caller's "forever". */
static inline uint64_t ns_to_ticks(uint64_t ns)
{
	uint64_t ticks = (uint64_t)(((unsigned __int128)ns * nvme_clock.ticks_per_ns) >> 32);

	return ns >> 60 ? UINT64_C(1) << 62 : ticks;
}

/* A time to wait for: `ticks` from `start` on. */
struct deadline {
	uint64_t start;
	uint64_t ticks;
};

/* Whether it has come; also where the clock is before its start: it went back. */
static inline int deadline_passed(struct deadline deadline, uint64_t now)
{
	return now - deadline.start >= deadline.ticks;
}

#endif
