/* A controller's life, its thread and that thread's visitors, its memory and interrupts. */
#define _GNU_SOURCE
#include "_internal.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Looks at nothing to do before the thread sleeps. Who can be woken sleeps soon: on a machine with
 * other work a thread that was asleep is run at once, and one that has spun waits for its turn.
 */
#define IDLE_ROUNDS_NAP	  100000u
#define IDLE_ROUNDS_SLEEP 2000u
#define NAP_NS		  50000u
/* What ends sooner is waited for without sleeping: a timer of the kernel's may be as late. */
#define SOON_NS 200000u

/* --- life -------------------------------------------------------------------------------- */

uint64_t controller_ticks_of(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * nvme_tick_rate() / 1000000000u);
}

struct controller *controller_new(const struct controller_config *config)
{
	struct controller *c;

	if (!config->doorbells || !config->blocks || config->block_shift < 9 ||
	    config->block_shift > 12 || config->mqes < 1 || config->mqes > 0xffff ||
	    config->queues < 1 || config->queues >= QUEUES_MAX || config->mdts > 16 ||
	    config->dstrd > 10 || config->to > 0xff || (config->model && !config->answer) ||
	    (config->shadow && (config->dstrd || config->model)) ||
	    config->cmb_length % PAGE_SIZE || config->cmb_length > CMB_MAX ||
	    config->pmr_length % PAGE_SIZE)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->here = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->here == MAP_FAILED || madvise((void *)c->here, PAGE_SIZE, MADV_WIPEONFORK)) {
		if (c->here != MAP_FAILED)
			munmap((void *)c->here, PAGE_SIZE);
		free(c);
		return NULL;
	}
	*c->here = 1;
	c->config = *config;
	c->doorbells = config->doorbells;
	c->stride = config->dstrd;
	c->delay_ticks = controller_ticks_of(config->delay_ns);
	c->slow_ticks = controller_ticks_of(config->slow_ns);
	c->one_by_one = c->delay_ticks || c->slow_ticks || config->model;
	pthread_mutex_init(&c->visitor, NULL);
	for (uint32_t i = 0; i < VECTORS_MAX; i++)
		c->events[i] = -1;
	if (config->cmb && config->cmb_at &&
	    controller_region_add(c, config->cmb_at, config->cmb_length, config->cmb,
				  config->cmb_uses)) {
		controller_free(c);
		return NULL;
	}
	return c;
}

void controller_drop_queues(struct controller *c)
{
	c->shadow = c->event_index = NULL;
	for (uint32_t qid = 0; qid < QUEUES_MAX; qid++) {
		free(c->sqs[qid].held);
		*controller_bell(c, qid, 0) = *controller_bell(c, qid, 1) = 0;
	}
	memset(c->sqs, 0, sizeof(c->sqs));
	memset(c->cqs, 0, sizeof(c->cqs));
	c->live_count = 0;
	c->busy_until = 0;
	c->created = 0;
}

void controller_free(struct controller *c)
{
	controller_stop(c);
	controller_drop_queues(c);
	pthread_mutex_destroy(&c->visitor);
	munmap((void *)c->here, PAGE_SIZE);
	free(c->regions);
	free(c->previous);
	free(c->was_read);
	free(c);
}

/* --- the thread and its visitors ----------------------------------------------------------- */

/* Whose `answer` this thread is in. */
static _Thread_local const struct controller *answering;

void controller_answering(const struct controller *c)
{
	answering = c;
}

/* The thread looks at `entering`, `stop` and the doorbells after it has set `asleep`. */
static void wake(struct controller *c)
{
	if (__atomic_exchange_n(&c->asleep, 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &c->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/*
 * Wait until the thread is between two rounds, and keep it there until controller_leave(). A
 * handshake beside the lock, which visitors have among themselves: the thread pays one load a round.
 */
void controller_enter(struct controller *c)
{
	if (answering == c)
		return;
	pthread_mutex_lock(&c->visitor);
	__atomic_store_n(&c->entering, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->running, __ATOMIC_SEQ_CST))
		wake(c);
	while (__atomic_load_n(&c->running, __ATOMIC_SEQ_CST) &&
	       !__atomic_load_n(&c->entered, __ATOMIC_SEQ_CST))
		sched_yield();
}

void controller_leave(struct controller *c)
{
	if (answering == c)
		return;
	__atomic_store_n(&c->entering, 0, __ATOMIC_SEQ_CST);
	/* The thread has to have gone on before the next visitor may trust `entered`. */
	while (__atomic_load_n(&c->running, __ATOMIC_SEQ_CST) &&
	       __atomic_load_n(&c->entered, __ATOMIC_SEQ_CST))
		sched_yield();
	pthread_mutex_unlock(&c->visitor);
}

static void let_visitor_in(struct controller *c)
{
	__atomic_store_n(&c->entered, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&c->entering, __ATOMIC_SEQ_CST))
		sched_yield();
	__atomic_store_n(&c->entered, 0, __ATOMIC_SEQ_CST);
}

/* How long nothing will be to do, unless somebody wakes us; 0: not long, do not sleep. */
static uint64_t sleep_ns(const struct controller *c)
{
	uint64_t due = controller_next_due(c), now, ns;

	if (due == NEVER)
		return c->wait == CONTROLLER_NAP ? NAP_NS : NEVER;
	now = nvme_ticks();
	if (c->wait == CONTROLLER_NAP || due <= now)
		return 0;
	ns = (uint64_t)((unsigned __int128)(due - now) * 1000000000u / nvme_tick_rate());
	return ns < SOON_NS ? 0 : ns - SOON_NS / 2;
}

/* Returns how many commands ended, with which it does not sleep. */
static uint32_t doze(struct controller *c)
{
	uint64_t ns = sleep_ns(c);
	const struct timespec limit = { .tv_sec = (time_t)(ns / 1000000000u),
					.tv_nsec = (long)(ns % 1000000000u) };
	uint32_t count = 0;

	if (!ns)
		return 0;
	__atomic_store_n(&c->asleep, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&c->stop, __ATOMIC_SEQ_CST) &&
	    !__atomic_load_n(&c->entering, __ATOMIC_SEQ_CST)) {
		int asked = controller_ask_doorbells(c);

		/* What was rung before anybody could see that we sleep. */
		count = controller_poll(c);
		if (!count && asked)
			syscall(SYS_futex, &c->asleep, FUTEX_WAIT_PRIVATE, 1,
				ns == NEVER ? NULL : &limit, NULL, 0);
	}
	__atomic_store_n(&c->asleep, 0, __ATOMIC_SEQ_CST);
	return count;
}

/* Looks at nothing to do before the thread sleeps; on the host's own CPU, each is one too many. */
static uint32_t idle_rounds(const struct controller *c)
{
	cpu_set_t cpus;

	if (c->wait == CONTROLLER_NAP)
		return IDLE_ROUNDS_NAP;
	if (!sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_COUNT(&cpus) == 1)
		return 0;
	return IDLE_ROUNDS_SLEEP;
}

static void *run(void *context)
{
	struct controller *c = context;
	uint32_t rounds = idle_rounds(c);
	uint32_t idle = 0;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&c->entering, __ATOMIC_SEQ_CST)) {
			let_visitor_in(c);
			idle = 0;
		}
		if (controller_poll(c) || c->wait == CONTROLLER_SPIN)
			idle = 0;
		else if (++idle > rounds && doze(c))
			idle = 0;
	}
	__atomic_store_n(&c->running, 0, __ATOMIC_SEQ_CST);
	return NULL;
}

int controller_start(struct controller *c, enum controller_wait wait)
{
	sigset_t all, before;
	int err;

	c->wait = wait;
	c->stop = 0;
	c->running = 1;
	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&c->thread, NULL, run, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		c->running = 0;
	else
		c->started = 1;
	return -err;
}

void controller_stop(struct controller *c)
{
	if (!c->started)
		return;
	__atomic_store_n(&c->stop, 1, __ATOMIC_SEQ_CST);
	wake(c);
	pthread_join(c->thread, NULL);
	c->started = 0;
}

void controller_settle(struct controller *c)
{
	uint64_t before, due;

	if (c->running || answering == c)
		return;
	/* What takes its time takes it here. */
	do {
		/* Before the look at them: what comes behind it is rung for. */
		controller_ask_doorbells(c);
		before = nvme_ticks();
		if (controller_poll(c))
			due = before + 1;
		else
			due = controller_next_due(c);
		/* What was due and did not end waits for room, which the host makes. */
	} while (due != NEVER && due > before);
}

int controller_doorbell(void *controller, uint64_t address, uint32_t value)
{
	struct controller *c = controller;
	size_t index = address / sizeof(*c->doorbells);

	if (address % sizeof(*c->doorbells) || index >= (size_t)(2 * QUEUES_MAX) << c->stride)
		return -EINVAL;
	if (!*c->here)
		return 0;
	if (c->started) {
		/* Before the look at `asleep`: else the thread misses this and we miss the thread. */
		__atomic_store_n(&c->doorbells[index], value, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&c->asleep, __ATOMIC_SEQ_CST))
			wake(c);
		return 0;
	}
	controller_enter(c);
	c->doorbells[index] = value;
	controller_settle(c);
	controller_leave(c);
	return 0;
}

/* --- memory and interrupts ----------------------------------------------------------------- */

int controller_set_page(struct controller *c, uint32_t cns, int per_namespace, const void *page)
{
	uint32_t at = 0;
	int err = -ENOSPC;

	controller_enter(c);
	while (at < c->page_count && c->pages[at].cns != cns)
		at++;
	if (at < PAGES_MAX) {
		c->pages[at].cns = cns;
		c->pages[at].per_namespace = per_namespace;
		memcpy(c->pages[at].data, page, PAGE_SIZE);
		c->page_count += at == c->page_count;
		err = 0;
	}
	controller_leave(c);
	return err;
}

int controller_region_add(struct controller *c, uint64_t iova, uint64_t length, void *address,
			  uint32_t uses)
{
	uint32_t at = 0;

	if (!length || iova + length < iova)
		return -EINVAL;
	while (at < c->region_count && c->regions[at].iova < iova)
		at++;
	if ((at && c->regions[at - 1].iova + c->regions[at - 1].length > iova) ||
	    (at < c->region_count && c->regions[at].iova < iova + length))
		return -EEXIST;
	if (c->region_count == c->region_room) {
		uint32_t room = c->region_room ? 2 * c->region_room : 16;
		struct region *regions = realloc(c->regions, room * sizeof(*regions));

		if (!regions)
			return -ENOMEM;
		c->regions = regions;
		c->region_room = room;
	}
	memmove(&c->regions[at + 1], &c->regions[at],
		(c->region_count - at) * sizeof(*c->regions));
	c->regions[at] = (struct region){ iova, length, address, uses };
	c->region_count++;
	return 0;
}

int controller_map(struct controller *c, uint64_t iova, uint64_t length, void *address)
{
	int err;

	controller_enter(c);
	err = controller_region_add(c, iova, length, address, ALL_USES);
	controller_leave(c);
	return err;
}

/* Whether a queue lies there, or the shadow doorbells. */
static int has_queue(const struct controller *c, uint64_t iova, uint64_t length)
{
	if (c->shadow &&
	    (c->shadow_iova - iova < length || c->event_index_iova - iova < length))
		return 1;
	for (uint32_t qid = 0; qid < QUEUES_MAX; qid++)
		if ((c->sqs[qid].entries && c->sqs[qid].iova - iova < length) ||
		    (c->cqs[qid].entries && c->cqs[qid].iova - iova < length))
			return 1;
	return 0;
}

void *controller_region_remove(struct controller *c, uint64_t iova, uint64_t length)
{
	for (uint32_t i = 0; i < c->region_count; i++) {
		void *address = c->regions[i].address;

		if (c->regions[i].iova != iova || c->regions[i].length != length)
			continue;
		c->region_count--;
		memmove(&c->regions[i], &c->regions[i + 1],
			(c->region_count - i) * sizeof(*c->regions));
		c->last_region = 0;
		if (has_queue(c, iova, length))
			controller_fail(c);
		return address;
	}
	return NULL;
}

void *controller_unmap(struct controller *c, uint64_t iova, uint64_t length)
{
	void *address;

	controller_enter(c);
	address = controller_region_remove(c, iova, length);
	controller_leave(c);
	return address;
}

void controller_set_event(struct controller *c, uint32_t vector, int fd)
{
	controller_enter(c);
	if (vector < VECTORS_MAX)
		c->events[vector] = fd;
	controller_leave(c);
}

void controller_get_log(struct controller *c, struct controller_log *log)
{
	controller_enter(c);
	*log = c->log;
	controller_leave(c);
}
