/* QEMU's qtest socket. See _qtest.h. */
#define _POSIX_C_SOURCE 200809L
#include "_qtest.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* QEMU stops reading when nobody takes its answers: take them at the latest after so many. */
#define POSTED_MAX 256

struct qtest_link {
	pthread_mutex_t mutex;
	int fd;
	int timeout_ms;
	int error;       /* 0, or why the link is dead */
	uint32_t posted; /* writes whose answers have not been taken */
	size_t start;    /* of the bytes received and not yet taken */
	size_t end;
	char buffer[4096];
};

struct qtest_link *qtest_link_new(int fd, int timeout_ms)
{
	struct qtest_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	pthread_mutex_init(&link->mutex, NULL);
	link->fd = fd;
	link->timeout_ms = timeout_ms;
	return link;
}

void qtest_link_free(struct qtest_link *link)
{
	pthread_mutex_destroy(&link->mutex);
	free(link);
}

void qtest_link_end(struct qtest_link *link)
{
	pthread_mutex_lock(&link->mutex);
	link->error = -EPIPE;
	pthread_mutex_unlock(&link->mutex);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait for `events` on the socket. Returns 0, -ETIMEDOUT or another negative errno. */
static int link_wait(const struct qtest_link *link, short events, int64_t deadline)
{
	struct pollfd pfd = { .fd = link->fd, .events = events };

	for (;;) {
		int64_t left = deadline - now_ms();
		int ready = poll(&pfd, 1, left > 0 ? (int)left : 0);

		if (ready > 0)
			return 0;
		if (ready == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int link_send(struct qtest_link *link, const char *line, size_t length)
{
	int64_t deadline = now_ms() + link->timeout_ms;

	while (length) {
		ssize_t sent = send(link->fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			line += sent;
			length -= (size_t)sent;
		} else if (errno == EAGAIN) {
			int err = link_wait(link, POLLOUT, deadline);

			if (err)
				return err;
		} else if (errno != EINTR) {
			return errno == ECONNRESET ? -EPIPE : -errno;
		}
	}
	return 0;
}

/* Receive more bytes behind those that wait. Returns 0, -EAGAIN where none are there, or why not. */
static int link_receive(struct qtest_link *link)
{
	ssize_t got;

	if (link->start == link->end) {
		link->start = link->end = 0;
	} else if (link->start && link->end == sizeof(link->buffer)) {
		memmove(link->buffer, link->buffer + link->start, link->end - link->start);
		link->end -= link->start;
		link->start = 0;
	}
	if (link->end == sizeof(link->buffer))
		return -EMSGSIZE;
	do {
		got = recv(link->fd, link->buffer + link->end, sizeof(link->buffer) - link->end,
			   MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got == 0 || (got < 0 && errno == ECONNRESET))
		return -EPIPE;
	if (got < 0)
		return -errno;
	link->end += (size_t)got;
	return 0;
}

/*
 * Take one answer line. It stays valid until the next receive. Returns its length without the
 * newline, -EAGAIN where no whole line is there, or why the link is dead.
 */
static int link_take_line(struct qtest_link *link, const char **line)
{
	for (;;) {
		const char *from = link->buffer + link->start;
		const char *newline = memchr(from, '\n', link->end - link->start);
		int err;

		if (newline) {
			*line = from;
			link->start += (size_t)(newline - from) + 1;
			return (int)(newline - from);
		}
		err = link_receive(link);
		if (err)
			return err;
	}
}

/* Take the next line, waiting until the deadline. Returns as link_take_line(), or -ETIMEDOUT. */
static int link_await_line(struct qtest_link *link, const char **line, int64_t deadline)
{
	for (;;) {
		int length = link_take_line(link, line);
		int err;

		if (length != -EAGAIN)
			return length;
		err = link_wait(link, POLLIN, deadline);
		if (err)
			return err;
	}
}

/* Skip the answers of posted writes, all of them or those that are there. */
static int link_skip_posted(struct qtest_link *link, int wait)
{
	int64_t deadline = now_ms() + link->timeout_ms;

	while (link->posted) {
		const char *line;
		int length = wait ? link_await_line(link, &line, deadline)
				  : link_take_line(link, &line);

		if (length == -EAGAIN)
			return 0;
		if (length < 0)
			return length;
		link->posted--;
	}
	return 0;
}

static int call_locked(struct qtest_link *link, const char *line, size_t length, char *reply,
		       size_t size)
{
	const char *answer;
	int err = link_send(link, line, length);
	int got;

	if (!err)
		err = link_skip_posted(link, 1);
	if (err)
		return err;
	got = link_await_line(link, &answer, now_ms() + link->timeout_ms);
	if (got < 0)
		return got;
	if ((size_t)got >= size)
		return -EMSGSIZE;
	memcpy(reply, answer, (size_t)got);
	reply[got] = '\0';
	return got;
}

int qtest_link_call(struct qtest_link *link, const char *line, size_t length, char *reply,
		    size_t size)
{
	int result;

	pthread_mutex_lock(&link->mutex);
	result = link->error;
	if (!result) {
		result = call_locked(link, line, length, reply, size);
		if (result < 0)
			link->error = result;
	}
	pthread_mutex_unlock(&link->mutex);
	return result;
}

/* Append `value` in hexadecimal. Returns the end. snprintf() would cost more than the send. */
static char *put_hex(char *at, uint64_t value)
{
	int shift = 60;

	*at++ = '0';
	*at++ = 'x';
	while (shift && !(value >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*at++ = "0123456789abcdef"[(value >> shift) & 0xf];
	return at;
}

int qtest_link_post(void *context, uint64_t address, uint32_t value)
{
	struct qtest_link *link = context;
	char line[64] = "writel ";
	char *end = put_hex(line + 7, address);
	int err;

	*end++ = ' ';
	end = put_hex(end, value);
	*end++ = '\n';

	pthread_mutex_lock(&link->mutex);
	err = link->error;
	if (!err) {
		err = link_send(link, line, (size_t)(end - line));
		if (!err) {
			link->posted++;
			if (link->posted >= POSTED_MAX / 2)
				err = link_skip_posted(link, link->posted >= POSTED_MAX);
		}
		link->error = err;
	}
	pthread_mutex_unlock(&link->mutex);
	return err;
}
