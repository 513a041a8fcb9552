#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "compat/log.h"
#include "compat/text.h"
#include "fs/status.h"

enum {
	REQUEST_MAX = 65536,
	PATIENCE_MS = 5000, /* for a client to say or take something */
	BACKLOG = 8,
};

struct control {
	struct fs *fs;
	struct sockaddr_un addr;
	int sock;
	int stop; /* an eventfd */
	atomic_bool stopping;
	pthread_t thread;
};

static int wait_for(const struct control *c, int fd, short what, int ms)
{
	struct pollfd p[2] = { { .fd = fd, .events = what },
			       { .fd = c->stop, .events = POLLIN } };
	int n = poll(p, 2, ms);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (n == 0)
		return -ETIMEDOUT;
	return p[1].revents ? -ECANCELED : 0;
}

/* One line, without its end. Return: octets; -errno. */
static ssize_t read_line(const struct control *c, int fd, char *buf,
			 size_t size)
{
	size_t len = 0;

	while (len < size) {
		int ret = wait_for(c, fd, POLLIN, PATIENCE_MS);
		ssize_t n;
		char *end;

		if (ret < 0)
			return ret;
		n = read(fd, buf + len, size - len);
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		len += (size_t)n;
		end = memchr(buf, '\n', len);
		if (end)
			return end - buf;
	}
	return -EMSGSIZE;
}

static void write_all(const struct control *c, int fd, const char *p,
		      size_t len)
{
	while (len > 0 && wait_for(c, fd, POLLOUT, PATIENCE_MS) == 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

static bool is_allowed(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
		(cred.uid == 0 || cred.uid == geteuid());
}

/* NULL when the daemon is to end. */
static json_t *answer(const struct control *c, const char *line, size_t len)
{
	json_t *request = json_loadb(line, len, 0, NULL);
	const char *command =
		json_string_value(json_object_get(request, "command"));
	json_t *reply;

	if (!command)
		reply = json_pack("{s:s}", "error",
				  "not a request: {\"command\": ...} expected");
	else if (strcmp(command, "status") == 0)
		reply = status_json(c->fs, &c->stopping);
	else
		reply = json_pack("{s:s}", "error", "unknown command");
	json_decref(request);
	return reply;
}

static void serve(const struct control *c, int fd)
{
	AUTO_FREE char *line = malloc(REQUEST_MAX);
	AUTO_FREE char *text = NULL;
	json_t *reply;
	ssize_t len;

	if (!line || !is_allowed(fd))
		return;
	len = read_line(c, fd, line, REQUEST_MAX);
	if (len < 0)
		return;
	reply = answer(c, line, (size_t)len);
	text = json_dumps(reply, JSON_COMPACT);
	json_decref(reply);
	if (!text)
		return;
	write_all(c, fd, text, strlen(text));
	write_all(c, fd, "\n", 1);
}

static void *run(void *arg)
{
	const struct control *c = arg;

	for (;;) {
		int ret = wait_for(c, c->sock, POLLIN, -1);
		AUTO_FD int fd = -1;

		if (ret == -EAGAIN)
			continue;
		if (ret < 0)
			return NULL;
		fd = accept4(c->sock, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			serve(c, fd);
	}
}

static int open_socket(struct control *c)
{
	c->addr.sun_family = AF_UNIX;
	if (text_path(c->addr.sun_path, sizeof(c->addr.sun_path), "%s/control",
		      c->fs->opt->index) < 0) {
		log_err("control: %s/control: too long for a socket; choose a "
			"shorter index=",
			c->fs->opt->index);
		return -ENAMETOOLONG;
	}
	c->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->sock < 0)
		return -errno;
	/* We own the index, so a socket that is there is a dead one's. */
	(void)unlink(c->addr.sun_path);
	if (bind(c->sock, (const struct sockaddr *)&c->addr, sizeof(c->addr)) <
		    0 ||
	    chmod(c->addr.sun_path, 0600) < 0 || listen(c->sock, BACKLOG) < 0) {
		log_err("control: %s: %s", c->addr.sun_path,
			strerrordesc_np(errno));
		return -errno;
	}
	return 0;
}

static void control_free(struct control *c)
{
	base_auto_close(&c->sock);
	base_auto_close(&c->stop);
	free(c);
}

int control_start(struct fs *fs, struct control **out)
{
	struct control *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return -ENOMEM;
	c->fs = fs;
	c->sock = -1;
	c->stop = eventfd(0, EFD_CLOEXEC);
	ret = c->stop < 0 ? -errno : open_socket(c);
	if (ret == 0)
		ret = -pthread_create(&c->thread, NULL, run, c);
	if (ret < 0) {
		control_free(c);
		return ret;
	}
	*out = c;
	return 0;
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	atomic_store(&c->stopping, true);
	(void)eventfd_write(c->stop, 1);
	(void)pthread_join(c->thread, NULL);
	(void)unlink(c->addr.sun_path);
	control_free(c);
}
