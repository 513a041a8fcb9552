#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "compat/log.h"
#include "compat/text.h"
#include "tools/cmd.h"
#include "tools/mounted.h"

/* ---- talking to the daemon ----------------------------------------------- */

static int connect_to(const char *index)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (text_path(addr.sun_path, sizeof(addr.sun_path), "%s/control",
		      index) < 0)
		return -ENAMETOOLONG;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return base_steal_fd(&fd);
}

static json_t *ask(int fd, const char *request)
{
	size_t len = strlen(request);
	json_error_t err;
	json_t *reply;

	if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
		return NULL;
	reply = json_loadfd(fd, JSON_DISABLE_EOF_CHECK, &err);
	if (!reply)
		log_err("status: the daemon's answer is not JSON at octet %d",
			err.position);
	return reply;
}

/* ---- for people ---------------------------------------------------------- */

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* Users choose names, and what a terminal takes for a command must not reach
 * it. What people write stays as it is: blanks, quotes, backslashes. */
static char *printable(const char *s)
{
	static const char as_it_is[] = " \"\\";
	char *out = malloc(4 * strlen(s) + 1), *to = out;

	if (!out)
		return NULL;
	*to = '\0';
	while (*s) {
		size_t len = strcspn(s, as_it_is);

		(void)text_escape(s, len, to, 4 * len + 1);
		to += strlen(to);
		s += len;
		for (; *s && strchr(as_it_is, *s); s++)
			*to++ = *s;
		*to = '\0';
	}
	return out;
}

static void print_word(const char *before, const char *s, const char *after)
{
	AUTO_FREE char *word = printable(s);

	(void)printf("%s%s%s", before, word ? word : "", after);
}

static void print_text(const char *before, const json_t *o, const char *key,
		       const char *after)
{
	print_word(before, text(o, key), after);
}

/* "1180 in MBX", "24 in store", "1180 in MBX + 24 in store" */
static void print_counts(const json_t *folder)
{
	const json_t *legacy = json_object_get(folder, "legacy");
	const json_t *store = json_object_get(folder, "store");
	json_int_t in_store = number(store, "messages");

	if (!legacy)
		(void)printf("%lld in store", (long long)in_store);
	else if (!json_object_get(legacy, "messages"))
		(void)printf("not looked at yet");
	else
		(void)printf("%lld in MBX (%lld unseen)",
			     (long long)number(legacy, "messages"),
			     (long long)number(legacy, "unseen"));
	if (legacy && in_store > 0)
		(void)printf(" + %lld in store", (long long)in_store);
}

static void print_damage(const json_t *damage, const json_t *legacy)
{
	print_text("      damage (", damage, "kind", ")");
	(void)printf(" at offset %lld", (long long)number(damage, "offset"));
	print_text(": ", damage, "text", "\n");
	print_text("      in ", legacy, "path", "\n");
}

static void print_locked(const json_t *locked)
{
	if (!locked)
		return;
	(void)printf("      locked for %.1f s",
		     (double)number(locked, "ms") / 1000);
	print_text(" by ", locked, "by", "\n");
}

/* What a mirror has to say, if anything was delivered. */
static void print_delivered(const json_t *d)
{
	const json_t *one;
	size_t i;

	if (number(d, "files") == 0)
		return;
	if (strcmp(text(d, "mirror"), "off") == 0) {
		(void)printf("      delivered: %lld, not mirrored\n",
			     (long long)number(d, "files"));
		return;
	}
	(void)printf("      delivered: %lld, in the MBX: %lld",
		     (long long)number(d, "files"),
		     (long long)number(d, "mirrored"));
	if (number(d, "no_uid") > 0)
		(void)printf(", without a UID yet: %lld",
			     (long long)number(d, "no_uid"));
	if (number(d, "waiting") > 0)
		(void)printf(", waiting: %lld (%.1f s)",
			     (long long)number(d, "waiting"),
			     (double)number(d, "lag_ms") / 1000);
	print_text(*text(d, "waits_for") ? ": " : "", d, "waits_for", "\n");
	json_array_foreach(json_object_get(d, "refused"), i, one)
	{
		print_text("      not in the MBX: ", one, "name", ": ");
		print_text("", one, "why", "\n");
	}
}

static void print_disagreements(const json_t *legacy)
{
	const json_t *one;
	size_t i;

	if (number(legacy, "uid_disagreements") > 0)
		(void)printf(
			"      messages with another UID at Dovecot: %lld\n",
			(long long)number(legacy, "uid_disagreements"));
	json_array_foreach(json_object_get(legacy, "disagreements"), i, one)
	{
		print_text("        ", one, "name", ": ");
		(void)printf("%lld at Dovecot, ",
			     (long long)number(one, "dovecot"));
		if (number(one, "mbx") > 0)
			(void)printf("%lld in the MBX: ",
				     (long long)number(one, "mbx"));
		else
			(void)printf("not in the MBX: ");
		print_text("", one, "why", "\n");
	}
}

static void print_folder(const json_t *folder)
{
	const json_t *legacy = json_object_get(folder, "legacy");
	const json_t *damage = json_object_get(folder, "damage");
	AUTO_FREE char *name = printable(text(folder, "name"));
	AUTO_FREE char *phase = printable(text(folder, "phase"));
	AUTO_FREE char *state = printable(text(folder, "state"));
	json_t *word;
	size_t i;

	(void)printf("  %-30s %-7s %-10s ", name ? name : "",
		     phase ? phase : "", state ? state : "");
	print_counts(folder);
	(void)printf("\n");
	if (json_is_true(json_object_get(folder, "renamed")))
		print_text("      renamed: the mailbox is called ", legacy,
			   "name", "\n");
	json_array_foreach(json_object_get(legacy, "keywords_not_shown"), i,
			   word)
	{
		if (json_is_string(word))
			print_word("      keyword only in the MBX: ",
				   json_string_value(word), "\n");
	}
	json_array_foreach(json_object_get(legacy, "keywords_kept_out"), i,
			   word)
	{
		if (json_is_string(word))
			print_word("      keyword that the MBX cannot hold: ",
				   json_string_value(word), "\n");
	}
	print_locked(json_object_get(folder, "locked"));
	print_delivered(json_object_get(folder, "delivered"));
	print_disagreements(legacy);
	if (damage)
		print_damage(damage, legacy);
}

static void print_watch(const json_t *watch)
{
	if (!watch)
		return;
	print_text("  watched by ", watch, "how", "");
	if (json_object_get(watch, "why"))
		print_text(" (", watch, "why", ")");
	if (number(watch, "places") > 0)
		(void)printf(", places: %lld",
			     (long long)number(watch, "places"));
	if (number(watch, "events") > 0)
		(void)printf(", events: %lld, the last %lld s ago",
			     (long long)number(watch, "events"),
			     (long long)time(NULL) -
				     (long long)number(watch, "last_event"));
	(void)printf("\n");
}

static void print_watches(const json_t *watch)
{
	print_text("watch      ", watch, "mode", "");
	if (strcmp(text(watch, "mode"), "off") != 0)
		(void)printf(", watches: %lld of %lld, users polled: %lld, "
			     "folders woken: %lld times",
			     (long long)number(watch, "watches"),
			     (long long)number(watch, "watches_max"),
			     (long long)number(watch, "users_polled"),
			     (long long)number(watch, "wakes"));
	(void)printf("\n");
}

static void print_spool(const json_t *spool)
{
	if (!spool)
		return;
	(void)printf("  %lld octets wait", (long long)number(spool, "octets"));
	print_text(" in ", spool, "path", "");
	print_text(*text(spool, "why") ? ": " : "", spool, "why", "");
	print_text(*text(spool, "locked_by") ? " by " : "", spool, "locked_by",
		   "\n");
}

static void print_user(const json_t *user)
{
	size_t i;
	json_t *item;

	if (json_is_false(json_object_get(user, "attached"))) {
		print_text("user ", user, "name", ": not looked at yet\n");
		return;
	}
	if (*text(user, "name")) {
		print_text("user ", user, "name", "");
		(void)printf(" (%lld:%lld)\n", (long long)number(user, "uid"),
			     (long long)number(user, "gid"));
	}
	if (json_object_get(user, "error"))
		print_text("  ", user, "error", "\n");
	print_watch(json_object_get(user, "watch"));
	print_spool(json_object_get(user, "spool"));
	json_array_foreach(json_object_get(user, "folders"), i, item)
	{
		print_folder(item);
	}
	json_array_foreach(json_object_get(user, "not_served"), i, item)
	{
		print_text("  not shown: ", item, "path", ": ");
		print_text("", item, "why", "\n");
	}
}

static void print_locks(const json_t *locks)
{
	if (number(locks, "taken") == 0)
		return;
	(void)printf("UW's locks held %lld times: half of them up to %.1f ms, "
		     "99 of 100 up to %.1f ms, the longest %.1f ms\n",
		     (long long)number(locks, "taken"),
		     (double)number(locks, "median_us") / 1000,
		     (double)number(locks, "p99_us") / 1000,
		     (double)number(locks, "longest_us") / 1000);
}

static void print_all(const json_t *status)
{
	size_t i;
	json_t *user;

	print_text("mountpoint ", status, "mountpoint", "\n");
	print_text("store      ", status, "store", "\n");
	print_text("index      ", status, "index", "\n");
	print_watches(json_object_get(status, "watch"));
	print_locks(json_object_get(status, "locks"));
	json_array_foreach(json_object_get(status, "users"), i, user)
	{
		print_user(user);
	}
}

/* ---- the command --------------------------------------------------------- */

static int show(const char *mountpoint, const struct mounted *m, bool as_json)
{
	AUTO_FD int fd = connect_to(m->index);
	json_t *reply;
	int code = 0;

	if (fd < 0) {
		log_err("status: %s: the daemon does not answer on "
			"%s/control: %s; only root and the user who mounted it "
			"may ask",
			mountpoint, m->index, strerrordesc_np(-fd));
		return fd == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
	}
	reply = ask(fd, "{\"command\":\"status\"}\n");
	if (!reply)
		return EX_UNAVAILABLE;
	if (as_json)
		code = json_dumpf(reply, stdout, JSON_INDENT(2)) < 0 ||
				putchar('\n') < 0
			? EX_IOERR
			: 0;
	else
		print_all(reply);
	if (json_object_get(reply, "error")) {
		AUTO_FREE char *why = printable(text(reply, "error"));

		log_err("status: %s", why ? why : "");
		code = EX_UNAVAILABLE;
	}
	json_decref(reply);
	return fflush(stdout) != 0 ? EX_IOERR : code;
}

static int run(int argc, char **argv)
{
	const char *mountpoint = NULL;
	struct mounted m;
	bool as_json = false;
	int ret;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			as_json = true;
		else if (argv[i][0] == '-')
			return cmd_usage(&cmd_status, "unknown option");
		else if (mountpoint)
			return cmd_usage(&cmd_status, "one MOUNTPOINT only");
		else
			mountpoint = argv[i];
	}
	if (!mountpoint)
		return cmd_usage(&cmd_status, "no MOUNTPOINT");
	ret = mounted_find(mountpoint, &m);
	if (ret < 0) {
		log_err("status: %s: %s", mountpoint,
			ret == -ENOENT ? "janusmail is not mounted there"
				       : strerrordesc_np(-ret));
		return ret == -ENOENT ? EX_UNAVAILABLE : cmd_exit_status(ret);
	}
	ret = show(mountpoint, &m, as_json);
	mounted_fini(&m);
	return ret;
}

const struct cmd cmd_status = {
	.name = "status",
	.run = run,
	.summary = "users, folders, counts, damage of a mounted store",
	.usage = "[--json] MOUNTPOINT\n\n"
		 "  --json   one JSON document, for programs\n\n"
		 "examples:\n"
		 "  janusmail status /srv/mail\n"
		 "  janusmail status --json /srv/mail | jq '.users[].folders[]"
		 " | select(.state != \"ok\")'\n",
};
