/*
 * mbx_write - the MBX back end of compat/ by hand, for tests with UW's c-client
 * as the judge.
 *
 *	mbx_write FILE <COMMANDS
 *
 * Reads commands, one a line, and answers each with one line: "ok" and results,
 * or "no" and the error's name. Messages are looked up by UID in a fresh scan,
 * and in another when UW has moved them since.
 *
 *	list			"ok UID:UIDONDISK:FLAGS:KEYWORD%KEYWORD:SIZE .."
 *	flag UID CHANGE...	+\Seen -\Draft +Label ...; keywords are made
 *	keyword NAME		"ok SLOT"
 *	expunge UID
 *	append PATH UID CHANGE...	0: no UID wanted; "ok UID"
 *	reserve UID
 *	renumber UIDVALIDITY UIDLAST UID...	all messages, in their order
 *	assign, begin, end, sync
 *	touch			waits until it is due
 *
 * IO_STOP_AT=n stops it before its n-th step (compat/io.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/mbx.h"

enum { TRIES = 5 };

struct found {
	uint32_t uid; /* to be looked for; 0: print all */
	bool is_there;
	struct msg msg;
	const struct keywords *names;
};

static struct box *box;

static void print_msg(const struct msg *m, const struct keywords *names)
{
	const char *between = "";

	(void)printf(" %u:%u:%x:", m->uid, m->uid_disk, m->flags);
	for (unsigned i = 0; i < KEYWORD_SLOTS; i++)
		if (m->keywords >> i & 1) {
			(void)printf("%s%s", between, names->name[i]);
			between = "%";
		}
	(void)printf(":%" PRIu64, m->size);
}

static int see(const struct msg *m, const char *name, void *arg)
{
	struct found *f = arg;

	(void)name;
	if (f->uid == 0)
		print_msg(m, f->names);
	if (m->uid == f->uid) {
		f->is_there = true;
		f->msg = *m;
	}
	return 0;
}

static int look_up(uint32_t uid, struct msg *out)
{
	struct scan scan = { .uidnext = 0 };
	struct found f = { .uid = uid, .names = &scan.keywords };
	int ret = box->ops->scan(box, &scan, see, &f);

	if (ret == 0 && scan.damage.kind != DAMAGE_NONE) {
		(void)fprintf(stderr, "mbx_write: %s\n", scan.damage.text);
		return -EUCLEAN;
	}
	if (ret == 0 && uid && !f.is_there)
		return -ENOENT;
	if (out)
		*out = f.msg;
	return ret;
}

static uint32_t next_number(void)
{
	const char *word = strtok(NULL, " \n");

	return word ? (uint32_t)strtoul(word, NULL, 10) : 0;
}

static uint32_t system_flag(const char *name)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} flags[] = {
		{ "\\Seen", MSG_SEEN },		{ "\\Deleted", MSG_DELETED },
		{ "\\Flagged", MSG_FLAGGED },	{ "\\Draft", MSG_DRAFT },
		{ "\\Answered", MSG_ANSWERED }, { "\\Old", MSG_OLD },
	};

	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (strcmp(flags[i].name, name) == 0)
			return flags[i].bit;
	return 0;
}

/* The rest of the line. */
static int next_changes(struct flag_change *c)
{
	const char *word;

	*c = (struct flag_change){ .set = 0 };
	while ((word = strtok(NULL, " \n"))) {
		bool set = *word++ == '+';
		uint32_t bit = system_flag(word);
		unsigned slot = 0;
		int ret;

		if (bit) {
			*(set ? &c->set : &c->clear) |= bit;
			continue;
		}
		ret = box->ops->keyword(box, word, &slot);
		if (ret < 0)
			return ret;
		*(set ? &c->keywords_set : &c->keywords_clear) |= UINT32_C(1)
			<< slot;
	}
	return 0;
}

static int do_flag(void)
{
	uint32_t uid = next_number();
	struct flag_change c;
	struct msg m;
	int ret = look_up(uid, &m);

	if (ret == 0)
		ret = next_changes(&c);
	if (ret < 0)
		return ret;
	ret = box->ops->flag(box, &m, NULL, &c, &m);
	for (int i = 1; i < TRIES && ret == -ESTALE; i++) {
		ret = look_up(uid, &m);
		if (ret == 0)
			ret = box->ops->flag(box, &m, NULL, &c, &m);
	}
	return ret;
}

static int do_keyword(void)
{
	const char *name = strtok(NULL, " \n");
	unsigned slot = 0;
	int ret = box->ops->keyword(box, name ? name : "", &slot);

	return ret < 0 ? ret : (int)slot;
}

static int do_expunge(void)
{
	uint32_t uid = next_number();
	struct msg m;
	int ret = -ESTALE;

	for (int i = 0; i < TRIES && ret == -ESTALE; i++) {
		ret = look_up(uid, &m);
		if (ret == 0)
			ret = box->ops->expunge(box, &m, NULL);
	}
	return ret;
}

static int do_append(void)
{
	const char *path = strtok(NULL, " \n");
	AUTO_FD int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct msg want = { .uid = next_number(), .date = 1234567890 };
	struct flag_change c;
	struct msg got;
	int ret;

	if (fd < 0)
		return -ENOENT;
	ret = next_changes(&c);
	if (ret < 0)
		return ret;
	want.flags = c.set;
	want.keywords = c.keywords_set;
	ret = box->ops->append(box, fd, &want, &got);
	return ret < 0 ? ret : (int)got.uid;
}

static int do_touch(void)
{
	while (box->touch_due > time(NULL))
		(void)usleep(5000);
	return box->ops->touch(box);
}

static int do_assign(void)
{
	return box->ops->assign(box);
}

static int do_reserve(void)
{
	const char *uid = strtok(NULL, " \n");

	return uid ? box->ops->reserve(box, (uint32_t)strtoul(uid, NULL, 10))
		   : -EINVAL;
}

struct renumbering {
	struct number list[64];
	size_t count;
};

static int add_number(const struct msg *m, const char *name, void *arg)
{
	struct renumbering *r = arg;
	uint32_t uid = next_number();

	(void)name;
	if (uid == 0 || r->count == ARRAY_LEN(r->list))
		return -EINVAL;
	r->list[r->count++] = (struct number){ .off = m->off,
					       .uid_disk = m->uid_disk,
					       .uid = uid };
	return 0;
}

static int do_renumber(void)
{
	struct renumbering r = { .count = 0 };
	struct numbering n = { .list = r.list };
	struct scan scan = { .uidnext = 0 };
	int ret;

	n.uidvalidity = next_number();
	n.uidlast = next_number();
	ret = box->ops->scan(box, &scan, add_number, &r);
	n.count = r.count;
	return ret < 0 ? ret : box->ops->renumber(box, &n);
}

static int do_begin(void)
{
	return box->ops->begin(box);
}

static int do_end(void)
{
	box->ops->end(box, NULL);
	return 0;
}

static int do_sync(void)
{
	return box->ops->sync(box);
}

static const struct {
	const char *name;
	int (*run)(void);
	bool prints;
} commands[] = {
	{ "flag", do_flag, false },	    { "keyword", do_keyword, true },
	{ "expunge", do_expunge, false },   { "append", do_append, true },
	{ "touch", do_touch, false },	    { "assign", do_assign, false },
	{ "begin", do_begin, false },	    { "end", do_end, false },
	{ "sync", do_sync, false },	    { "reserve", do_reserve, false },
	{ "renumber", do_renumber, false },
};

static void answer(char *line)
{
	const char *verb = strtok(line, " \n");
	int ret = -EINVAL;
	bool prints = false;

	if (verb && strcmp(verb, "list") == 0) {
		(void)printf("ok");
		ret = look_up(0, NULL);
		(void)printf(ret < 0 ? " broken\n" : "\n");
		return;
	}
	for (size_t i = 0; verb && i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, verb) != 0)
			continue;
		ret = commands[i].run();
		prints = commands[i].prints;
		break;
	}
	if (ret < 0)
		(void)printf("no %s\n", strerrorname_np(-ret));
	else if (prints)
		(void)printf("ok %d\n", ret);
	else
		(void)printf("ok\n");
}

int main(int argc, char **argv)
{
	const struct mbx_options opt = { .lock_dir = "/tmp",
					 .lock_ms = 30000,
					 .owner = (uid_t)-1,
					 .group = (gid_t)-1 };
	struct pattern root;
	struct store *store;
	char line[4096];
	int ret;

	if (argc != 2 || pattern_init(&root, argv[1]) < 0) {
		(void)fprintf(stderr, "usage: mbx_write FILE <COMMANDS\n");
		return 2;
	}
	io_stop_init();
	ret = mbx_store_new(&root, "", &opt, &store);
	if (ret == 0)
		ret = store->ops->open(store, "", &box);
	if (ret < 0) {
		(void)fprintf(stderr, "mbx_write: %s: %s\n", argv[1],
			      strerrorname_np(-ret));
		return 1;
	}
	while (fgets(line, sizeof(line), stdin)) {
		answer(line);
		(void)fflush(stdout);
	}
	box->ops->close(box);
	store->ops->free(store);
	pattern_fini(&root);
	return 0;
}
