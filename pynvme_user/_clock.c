/* See _clock.h. */
#define _POSIX_C_SOURCE 200809L
#include "_clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define SOURCES "/sys/devices/system/clocksource/clocksource0/available_clocksource"

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Until nvme_tick_rate() chose, so that a clock that is read too early is a slow one, no wrong one. */
struct nvme_clock nvme_clock = {
	.read = clock_ns,
	.ns_per_tick = UINT64_C(1) << 32,
	.ticks_per_ns = UINT64_C(1) << 32,
};

uint64_t nvme_ticks(void)
{
	return ticks_now();
}

#if defined(__x86_64__)
/* Whether the kernel found the counters of all CPUs to agree: it takes it off its list otherwise. */
static int kernel_lists_tsc(void)
{
	FILE *file = fopen(SOURCES, "re");
	char line[256] = "";
	int listed = 0;

	if (!file)
		return 0;
	if (fgets(line, sizeof(line), file))
		for (char *save, *word = strtok_r(line, " \n", &save); word;
		     word = strtok_r(NULL, " \n", &save))
			listed |= !strcmp(word, "tsc");
	fclose(file);
	return listed;
}

static int has_counter(void)
{
	unsigned int eax, ebx, ecx, edx;

	/* Advanced Power Management Information: the counter's rate never changes, nor does it stop. */
	return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && edx & 1u << 8 && kernel_lists_tsc();
}
#elif defined(__aarch64__)
/* The architecture's counter is one for all CPUs, at one rate. */
static int has_counter(void)
{
	return 1;
}
#else
static int has_counter(void)
{
	return 0;
}
#endif

/*
 * The time on both clocks at the same moment: of a few readings the one in which least time passed,
 * so that a thread that loses its CPU in between does not count it.
 */
static void read_clocks(uint64_t *ns, uint64_t *ticks)
{
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < 16; i++) {
		uint64_t before = clock_ns();
		uint64_t now = ticks_now();
		uint64_t span = clock_ns() - before;

		if (span >= shortest)
			continue;
		shortest = span;
		*ns = before + span / 2;
		*ticks = now;
	}
}

/* Measure the counter: 5 ms against clocks read together to 50 ns, an error of 2 in 100,000. */
static int counter_measure(void)
{
	uint64_t ns = 0, ticks = 0, end_ns = 0, end_ticks = 0;

	read_clocks(&ns, &ticks);
	while (clock_ns() - ns < 5000000)
		;
	read_clocks(&end_ns, &end_ticks);
	ns = end_ns - ns;
	ticks = end_ticks - ticks;
	/* Between 1 MHz and 100 GHz; anything else is a counter that stepped meanwhile. */
	if (ticks / 1000 > ns / 10 || ticks < ns / 1000)
		return 0;
	nvme_clock.rate = (uint64_t)((unsigned __int128)ticks * 1000000000u / ns);
	nvme_clock.ns_per_tick = (uint64_t)(((unsigned __int128)ns << 32) / ticks);
	nvme_clock.ticks_per_ns = (uint64_t)(((unsigned __int128)ticks << 32) / ns);
	return 1;
}

uint64_t nvme_tick_rate(void)
{
	if (nvme_clock.rate)
		return nvme_clock.rate;
	if (has_counter()) {
		nvme_clock.read = NULL;
		if (counter_measure())
			return nvme_clock.rate;
		nvme_clock.read = clock_ns;
	}
	return nvme_clock.rate = 1000000000;
}
