/* Mapped BARs that survive the removal of their device. See _bar.h. */
#define _GNU_SOURCE
#include "_bar.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BARS_MAX 256

/* Read by the signal handler: a length of 0 is a free entry. */
static struct {
	_Atomic uintptr_t start;
	_Atomic size_t length;
} bars[BARS_MAX];

static int ones = -1; /* a memfd of one page of all ones */
static size_t page_size;
static struct sigaction previous;

static int is_guarded(uintptr_t address)
{
	for (size_t i = 0; i < BARS_MAX; i++) {
		size_t length = atomic_load(&bars[i].length);

		if (length && address - atomic_load(&bars[i].start) < length)
			return 1;
	}
	return 0;
}

/*
 * Only calls that are safe in a signal handler. The page is replaced by one mmap(), so that no
 * other thread can see it half done; private, so that a store does not change what others read.
 */
static void handle_sigbus(int number, siginfo_t *info, void *context)
{
	uintptr_t address = (uintptr_t)info->si_addr;
	int saved = errno;

	if (is_guarded(address) &&
	    mmap((void *)(address & ~(page_size - 1)), page_size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED, ones, 0) != MAP_FAILED) {
		errno = saved;
		return;
	}
	errno = saved;
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(number, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(number);
	} else {
		/* The fault comes again on return, and then ends the process as it would have. */
		signal(SIGBUS, SIG_DFL);
	}
}

static int install_handler(void)
{
	struct sigaction action = { .sa_sigaction = handle_sigbus, .sa_flags = SA_SIGINFO };
	unsigned char page[4096];
	int made, fd;

	page_size = (size_t)sysconf(_SC_PAGESIZE);
	made = memfd_create("bar-all-ones", MFD_CLOEXEC);
	if (made < 0)
		return -errno;
	fd = fcntl(made, F_DUPFD_CLOEXEC, 3); /* what is printed must not go there */
	close(made);
	if (fd < 0)
		return -EMFILE;
	memset(page, 0xff, sizeof(page));
	for (size_t written = 0; written < page_size; written += sizeof(page)) {
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page)) {
			close(fd);
			return -EIO;
		}
	}
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &previous)) {
		int err = -errno;

		close(fd);
		return err;
	}
	ones = fd;
	return 0;
}

int bar_guard(void *address, size_t length)
{
	if (ones < 0) {
		int err = install_handler();

		if (err)
			return err;
	}
	for (size_t i = 0; i < BARS_MAX; i++) {
		if (atomic_load(&bars[i].length))
			continue;
		atomic_store(&bars[i].start, (uintptr_t)address);
		atomic_store(&bars[i].length, length);
		return 0;
	}
	return -ENOSPC;
}

void bar_unguard(void *address)
{
	for (size_t i = 0; i < BARS_MAX; i++)
		if (atomic_load(&bars[i].start) == (uintptr_t)address)
			atomic_store(&bars[i].length, 0);
}
