/*
 * The qtest link against a scripted peer at the other end of a socket pair: one that is slow, that
 * answers in pieces, with garbage, too much, or not at all, and one that goes away.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "_qtest.h"
#include "test.h"

#define TIMEOUT_MS 300     /* of a link that is to time out */
#define PATIENCE_MS 60000  /* of any other: a busy machine is no failure */

struct peer {
	int fd;
	pthread_t thread;
	void (*script)(struct peer *peer);
	uint64_t lines; /* received whole */
};

static void *peer_run(void *context)
{
	struct peer *peer = context;

	peer->script(peer);
	return NULL;
}

static struct qtest_link *start(struct peer *peer, int *fd, void (*script)(struct peer *),
				int timeout_ms)
{
	struct qtest_link *link;
	int ends[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	*peer = (struct peer){ .fd = ends[1], .script = script };
	*fd = ends[0];
	CHECK(!pthread_create(&peer->thread, NULL, peer_run, peer));
	link = qtest_link_new(*fd, timeout_ms);
	CHECK(link);
	return link;
}

static void end(struct peer *peer, struct qtest_link *link, int fd)
{
	close(fd);
	CHECK(!pthread_join(peer->thread, NULL));
	if (peer->fd >= 0)
		close(peer->fd);
	qtest_link_free(link);
}

static int call(struct qtest_link *link, const char *line, char *reply, size_t size)
{
	return qtest_link_call(link, line, strlen(line), reply, size);
}

/* Wait for one line; returns 0 when the other end is closed. */
static int receive_line(struct peer *peer, char *line, size_t size)
{
	size_t length = 0;

	while (length + 1 < size && recv(peer->fd, line + length, 1, 0) == 1)
		if (line[length++] == '\n') {
			line[length] = '\0';
			peer->lines++;
			return 1;
		}
	return 0;
}

static int say(const struct peer *peer, const char *text, size_t length)
{
	return send(peer->fd, text, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static void pause_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* --- answers ----------------------------------------------------------------------------- */

/* Answer each line with "OK " and the line itself, so that an answer shows whose it is. */
static void echo(struct peer *peer)
{
	char line[300] = "OK ";

	while (receive_line(peer, line + 3, sizeof(line) - 3) && say(peer, line, strlen(line)))
		;
}

static void echo_byte_by_byte(struct peer *peer)
{
	char line[300] = "OK ";

	while (receive_line(peer, line + 3, sizeof(line) - 3))
		for (const char *at = line; *at; at++) {
			if (!say(peer, at, 1))
				return;
			pause_us(20);
		}
}

/* Hold back every answer until 100 are due, then give them in one piece. */
static void echo_in_bulk(struct peer *peer)
{
	static char answers[100 * 64];
	char line[64] = "OK ";

	for (;;) {
		size_t length = 0;

		for (int n = 0; n < 100; n++) {
			if (!receive_line(peer, line + 3, sizeof(line) - 3))
				return;
			memcpy(answers + length, line, strlen(line));
			length += strlen(line);
		}
		if (!say(peer, answers, length))
			return;
	}
}

static void check_calls(void (*script)(struct peer *), int rounds, int posts)
{
	char line[64], wanted[64], reply[64];
	struct qtest_link *link;
	uint64_t lines = 0;
	struct peer peer;
	int fd;

	link = start(&peer, &fd, script, PATIENCE_MS);
	for (int n = 0; n < rounds; n++) {
		for (int post = 0; post < posts; post++, lines++)
			CHECK(!qtest_link_post(link, 0xfe001000u + 8u * (unsigned)post,
					       (uint32_t)(n * post)));
		snprintf(line, sizeof(line), "readl 0x%x\n", n);
		snprintf(wanted, sizeof(wanted), "OK readl 0x%x", n);
		CHECK(call(link, line, reply, sizeof(reply)) == (int)strlen(wanted));
		CHECK(!strcmp(reply, wanted));
		lines++;
	}
	end(&peer, link, fd);
	CHECK(peer.lines == lines);
}

/* --- posted writes ----------------------------------------------------------------------- */

static void expect_writes(struct peer *peer)
{
	static const struct {
		uint64_t address;
		uint32_t value;
		const char *line;
	} writes[] = {
		{ 0, 0, "writel 0x0 0x0\n" },
		{ 0xfe001008, 1, "writel 0xfe001008 0x1\n" },
		{ UINT64_MAX, UINT32_MAX, "writel 0xffffffffffffffff 0xffffffff\n" },
		{ 0x10, 0x80000000, "writel 0x10 0x80000000\n" },
	};
	char line[128];

	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		CHECK(receive_line(peer, line, sizeof(line)));
		CHECK(!strcmp(line, writes[i].line));
		CHECK(say(peer, "OK\n", 3));
	}
	CHECK(receive_line(peer, line, sizeof(line)) && say(peer, "OK 0x2a\n", 8));
}

static void test_text_of_writes(void)
{
	struct qtest_link *link;
	struct peer peer;
	char reply[16];
	int fd;

	link = start(&peer, &fd, expect_writes, PATIENCE_MS);
	CHECK(!qtest_link_post(link, 0, 0));
	CHECK(!qtest_link_post(link, 0xfe001008, 1));
	CHECK(!qtest_link_post(link, UINT64_MAX, UINT32_MAX));
	CHECK(!qtest_link_post(link, 0x10, 0x80000000));
	CHECK(call(link, "end\n", reply, sizeof(reply)) == 7 && !strcmp(reply, "OK 0x2a"));
	end(&peer, link, fd);
}

/* --- the peer fails ---------------------------------------------------------------------- */

static void silent(struct peer *peer)
{
	char line[64];

	while (receive_line(peer, line, sizeof(line)))
		;
}

static void deaf(struct peer *peer)
{
	pause_us(900000);
	(void)peer;
}

static void half_an_answer(struct peer *peer)
{
	char line[64];

	CHECK(receive_line(peer, line, sizeof(line)) && say(peer, "OK 0x1", 6));
	silent(peer);
}

static void hang_up(struct peer *peer)
{
	char line[64];

	receive_line(peer, line, sizeof(line));
	close(peer->fd);
	peer->fd = -1;
}

static void hang_up_in_an_answer(struct peer *peer)
{
	char line[64];

	CHECK(receive_line(peer, line, sizeof(line)) && say(peer, "OK 0x", 5));
	close(peer->fd);
	peer->fd = -1;
}

static void never_end_a_line(struct peer *peer)
{
	char noise[500];

	memset(noise, 'x', sizeof(noise));
	while (say(peer, noise, sizeof(noise)))
		;
}

static void long_answer(struct peer *peer)
{
	char line[64];

	CHECK(receive_line(peer, line, sizeof(line)));
	say(peer, "OK 0x0123456789abcdef0123456789abcdef\n", 38);
	silent(peer);
}

static void check_failure(void (*script)(struct peer *), int expected)
{
	struct qtest_link *link;
	struct peer peer;
	char reply[16];
	int fd;

	link = start(&peer, &fd, script, expected == -ETIMEDOUT ? TIMEOUT_MS : PATIENCE_MS);
	CHECK(call(link, "readl 0x0\n", reply, sizeof(reply)) == expected);
	/* The link is dead: answers could no longer be told apart. */
	CHECK(call(link, "readl 0x0\n", reply, sizeof(reply)) == expected);
	CHECK(qtest_link_post(link, 0, 0) == expected);
	end(&peer, link, fd);
}

/* Post until the link says why not: the peer does not read, does not answer, or is gone. */
static void check_posts_fail(void (*script)(struct peer *), int expected)
{
	struct qtest_link *link;
	struct peer peer;
	int err = 0;
	int fd;

	link = start(&peer, &fd, script, expected == -ETIMEDOUT ? TIMEOUT_MS : PATIENCE_MS);
	for (int n = 0; n < 1000000 && !err; n++)
		err = qtest_link_post(link, 0x1000, (uint32_t)n);
	CHECK(err == expected);
	CHECK(qtest_link_post(link, 0, 0) == expected);
	end(&peer, link, fd);
}

static void test_end(void)
{
	struct qtest_link *link;
	struct peer peer;
	char reply[16];
	int fd;

	link = start(&peer, &fd, silent, PATIENCE_MS);
	qtest_link_end(link);
	CHECK(call(link, "readl 0x0\n", reply, sizeof(reply)) == -EPIPE);
	CHECK(qtest_link_post(link, 0, 0) == -EPIPE);
	end(&peer, link, fd);
	CHECK(peer.lines == 0);
}

/* --- many threads ------------------------------------------------------------------------ */

static void *post_and_call(void *context)
{
	char line[64], wanted[64], reply[64];

	for (int n = 0; n < 300; n++) {
		CHECK(!qtest_link_post(context, 8, (uint32_t)n));
		snprintf(line, sizeof(line), "readq %p %d\n", (void *)line, n);
		snprintf(wanted, sizeof(wanted), "OK readq %p %d", (void *)line, n);
		CHECK(call(context, line, reply, sizeof(reply)) > 0 && !strcmp(reply, wanted));
	}
	return NULL;
}

static void test_threads(void)
{
	struct qtest_link *link;
	pthread_t threads[3];
	struct peer peer;
	int fd;

	link = start(&peer, &fd, echo, PATIENCE_MS);
	for (int n = 0; n < 3; n++)
		CHECK(!pthread_create(&threads[n], NULL, post_and_call, link));
	for (int n = 0; n < 3; n++)
		CHECK(!pthread_join(threads[n], NULL));
	end(&peer, link, fd);
	CHECK(peer.lines == 3 * 600);
}

int main(void)
{
	check_calls(echo, 500, 0);
	check_calls(echo, 100, 30);
	check_calls(echo, 3, 2000);
	check_calls(echo_byte_by_byte, 10, 5);
	check_calls(echo_in_bulk, 20, 99);
	test_text_of_writes();
	check_failure(silent, -ETIMEDOUT);
	check_failure(half_an_answer, -ETIMEDOUT);
	check_failure(hang_up, -EPIPE);
	check_failure(hang_up_in_an_answer, -EPIPE);
	check_failure(never_end_a_line, -EMSGSIZE);
	check_failure(long_answer, -EMSGSIZE);
	check_posts_fail(silent, -ETIMEDOUT);
	check_posts_fail(deaf, -ETIMEDOUT);
	check_posts_fail(hang_up, -EPIPE);
	check_posts_fail(never_end_a_line, -EMSGSIZE);
	test_end();
	test_threads();
	puts("qtest_test: ok");
	return 0;
}
