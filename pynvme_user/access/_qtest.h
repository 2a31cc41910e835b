/*
 * QEMU's qtest socket as a way to device registers: lines of text, one answer to each, in order.
 *
 * In C because doorbells are rung from the polled loops, without the GIL and without waiting for
 * the answer; the answers of such posted writes are counted and skipped later. One link serves
 * all queue pairs of a controller, so each call takes its mutex.
 */
#ifndef PYNVME_USER_QTEST_H
#define PYNVME_USER_QTEST_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

struct qtest_link;

/*
 * Make a link on a connected stream socket, which stays the caller's. `timeout_ms` bounds every
 * wait for QEMU. Returns NULL if there is no memory.
 */
struct qtest_link *qtest_link_new(int fd, int timeout_ms);

/* Free a link. No queue pair may use it any more. Does not close the socket. */
void qtest_link_free(struct qtest_link *link);

/*
 * End a link: every later call fails with -EPIPE. To be called before the socket is closed, whose
 * number may soon be another file's. Does not close it.
 */
void qtest_link_end(struct qtest_link *link);

/*
 * Send one command line and wait for its answer. `reply` gets the answer without its newline,
 * NUL-terminated. Returns the answer's length, or -ETIMEDOUT, -EPIPE when QEMU is gone, or
 * -EMSGSIZE for an answer that does not fit. After an error the link is dead: every later call
 * returns the same error, since answers could no longer be told apart.
 */
int qtest_link_call(struct qtest_link *link, const char *line, size_t length, char *reply,
		    size_t size);

/* Write a 32-bit register without waiting for the answer: the `post` of struct nvme_doorbell. */
int qtest_link_post(void *link, uint64_t address, uint32_t value);

/* cdef: end */

#endif
