#include "fs/options.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

enum { ARGS = 32 };

static struct options opt;
static char err[400];

static int parse_list(va_list ap)
{
	char *argv[ARGS] = { strdup("janusmaild") };
	const char *arg;
	int argc = 1;
	int ret;

	err[0] = '\0';
	while ((arg = va_arg(ap, const char *))) {
		cr_assert_lt(argc, ARGS - 1);
		argv[argc++] = strdup(arg);
	}
	ret = options_parse(argc, argv, &opt, err, sizeof(err));
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return ret;
}

/* Arguments up to a NULL; must be good. The caller calls options_fini(). */
static void take(const char *first, ...)
{
	va_list ap;
	int ret;

	(void)first;
	va_start(ap, first);
	ret = parse_list(ap);
	va_end(ap);
	cr_assert_eq(ret, 0, "%d: %s", ret, err);
}

/* @want: what the message must hold. */
static void refuse(const char *want, ...)
{
	va_list ap;
	int ret;

	va_start(ap, want);
	ret = parse_list(ap);
	va_end(ap);
	options_fini(&opt);
	cr_expect_eq(ret, -EINVAL, "%d instead of: %s", ret, want);
	cr_expect_not_null(strstr(err, want), "\"%s\" is not in \"%s\"", want,
			   err);
	cr_expect(err[strlen(err) - 1] != '.' || strstr(err, "=..."), "%s",
		  err);
}

#define TAKE(...) take("", __VA_ARGS__, (char *)NULL)
#define REFUSE(want, ...) refuse(want, __VA_ARGS__, (char *)NULL)
/* One -o list, and the rest of a good command line. */
#define TAKE_O(list) TAKE("-o", "store=/s,index=/i," list, "/m")
#define REFUSE_O(want, list) REFUSE(want, "-o", "store=/s,index=/i," list, "/m")

TEST(options, takes_every_option)
{
	TAKE("-o", "inbox=/tmp/%u/INBOX,folders=/tmp/%u/mail", "-o",
	     "subscriptions=/tmp/%u/.subs,control=/tmp/%u/ctl,store=/srv/new",
	     "-o", "index=/var/i,dots=escape,owner=5000:5001", "-o",
	     "lockdir=/run/lock,lockwait=7,scan=touch,readdirplus", "-o",
	     "mirror=off,mbxmax=2g,watch=poll,watches=500,poll=3", "-f",
	     "/srv/mail");
	cr_assert_eq(opt.inbox_count, 1);
	cr_expect_str_eq(opt.inbox[0].text, "/tmp/%u/INBOX");
	cr_expect(opt.has_folders && opt.has_subscriptions && opt.has_control);
	cr_expect_str_eq(opt.folders.text, "/tmp/%u/mail");
	cr_expect_str_eq(opt.subscriptions.text, "/tmp/%u/.subs");
	cr_expect_str_eq(opt.control.text, "/tmp/%u/ctl");
	cr_expect_str_eq(opt.store, "/srv/new");
	cr_expect_str_eq(opt.index, "/var/i");
	cr_expect_str_eq(opt.mountpoint, "/srv/mail");
	cr_expect_eq(opt.dots, DOTS_ESCAPE);
	cr_expect(opt.has_owner);
	cr_expect_eq(opt.owner_uid, 5000);
	cr_expect_eq(opt.owner_gid, 5001);
	cr_expect_str_eq(opt.lockdir, "/run/lock");
	cr_expect_eq(opt.lock_ms, 7000);
	cr_expect_eq(opt.scan, SCAN_TOUCH);
	cr_expect(opt.readdirplus);
	cr_expect(opt.mirror_off);
	cr_expect_eq(opt.mbx_max, UINT64_C(1) << 31);
	cr_expect_eq(opt.watch, WATCH_POLL);
	cr_expect_eq(opt.watches_max, 500);
	cr_expect_eq(opt.poll_ms, 3000);
	cr_expect(opt.multi);
	cr_expect(opt.foreground);
	cr_expect_not(opt.debug);
	cr_expect_null(opt.fuse_opts);
	options_fini(&opt);
}

TEST(options, has_the_defaults_that_the_manual_says)
{
	TAKE_O("");
	cr_expect_eq(opt.inbox_count, 0);
	cr_expect_not(opt.has_folders);
	cr_expect_not(opt.has_subscriptions);
	cr_expect_not(opt.has_control);
	cr_expect_not(opt.has_owner);
	cr_expect_eq(opt.dots, DOTS_UNDERSCORE);
	cr_expect_eq(opt.scan, SCAN_BACKGROUND);
	cr_expect_eq(opt.lock_ms, 10000);
	cr_expect_str_eq(opt.lockdir, "/tmp");
	cr_expect_not(opt.mirror_off);
	cr_expect_eq(opt.mbx_max, 0);
	cr_expect_not(opt.readdirplus || opt.foreground || opt.debug);
	cr_expect_not(opt.multi);
	options_fini(&opt);
}

TEST(options, the_index_lies_below_var_lib_for_root_only)
{
	if (geteuid() != 0) {
		REFUSE("index=DIR", "-o", "store=/s", "/srv/mail");
		return;
	}
	TAKE("-o", "store=/s", "/srv/mail");
	cr_expect_str_eq(opt.index, "/var/lib/janusmail/srv-mail");
	options_fini(&opt);
	TAKE("-o", "store=/s", "/srv/mail///");
	cr_expect_str_eq(opt.index, "/var/lib/janusmail/srv-mail");
	options_fini(&opt);
}

TEST(options, takes_the_letters_that_mount_passes_on)
{
	TAKE("-fsnv", "-o", "store=/s,index=/i", "/m");
	cr_expect(opt.foreground);
	options_fini(&opt);
	TAKE("-d", "-ostore=/s,index=/i", "/m");
	cr_expect(opt.foreground && opt.debug);
	options_fini(&opt);
}

TEST(options, help_and_version_need_nothing_else)
{
	static const char *const help[] = { "-h", "--help", "-fh" };
	static const char *const version[] = { "-V", "--version" };

	for (size_t i = 0; i < ARRAY_LEN(help); i++) {
		TAKE(help[i]);
		cr_expect(opt.show_help);
		cr_expect_not(opt.show_version);
		options_fini(&opt);
	}
	for (size_t i = 0; i < ARRAY_LEN(version); i++) {
		TAKE(version[i]);
		cr_expect(opt.show_version);
		cr_expect_not(opt.show_help);
		options_fini(&opt);
	}
}

TEST(options, the_help_names_every_option)
{
	static const char *const names[] = {
		"store=",   "inbox=",	 "folders=", "subscriptions=",
		"control=", "index=",	 "dots=",    "owner=",
		"lockdir=", "lockwait=", "scan=",    "MOUNTPOINT",
		"mirror=",  "mbxmax=",	 "watch=",   "watches=",
		"poll=",    "-f",	 "-d",	     "--version",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		cr_expect_not_null(strstr(options_help(), names[i]), "%s",
				   names[i]);
}

TEST(options, source_is_the_store)
{
	TAKE("/srv/new", "/srv/mail", "-o", "index=/i");
	cr_expect_str_eq(opt.store, "/srv/new");
	cr_expect_str_eq(opt.mountpoint, "/srv/mail");
	options_fini(&opt);
	TAKE("none", "/srv/mail", "-o", "index=/i,store=/srv/new");
	cr_expect_str_eq(opt.store, "/srv/new");
	options_fini(&opt);
	/* mount(8) gives both: the option is the more deliberate one. */
	TAKE("/dev/fuse", "/srv/mail", "-o", "index=/i,store=/srv/new");
	cr_expect_str_eq(opt.store, "/srv/new");
	options_fini(&opt);
}

TEST(options, refuses_a_command_line_that_lacks_something)
{
	REFUSE("no MOUNTPOINT", "-f");
	REFUSE("no MOUNTPOINT", "-o", "store=/s");
	REFUSE("store=DIR", "/m");
	REFUSE("store=DIR", "none", "/m");
	REFUSE("-o needs", "/m", "-o");
	REFUSE("too many words: /c", "/a", "/b", "/c");
}

TEST(options, paths_are_made_absolute_and_plain)
{
	char cwd[PATH_MAX], want[PATH_MAX + 8];

	cr_assert_eq(chdir(fixture_dir()), 0);
	cr_assert_not_null(getcwd(cwd, sizeof(cwd)));
	TAKE("-o", "store=new/,index=/,lockdir=//x//", "mnt");
	(void)snprintf(want, sizeof(want), "%s/new", cwd);
	cr_expect_str_eq(opt.store, want);
	(void)snprintf(want, sizeof(want), "%s/mnt", cwd);
	cr_expect_str_eq(opt.mountpoint, want);
	cr_expect_str_eq(opt.index, "/");
	cr_expect_str_eq(opt.lockdir, "//x");
	options_fini(&opt);
}

TEST(options, a_comma_in_a_value_is_escaped)
{
	TAKE_O("inbox=/tmp/a\\,b,folders=/tmp/c\\\\d,fsname=x\\,y");
	cr_expect_str_eq(opt.inbox[0].text, "/tmp/a,b");
	cr_expect_str_eq(opt.folders.text, "/tmp/c\\d");
	options_fini(&opt);
	TAKE_O("inbox=/tmp/a\\b");
	cr_expect_str_eq(opt.inbox[0].text, "/tmp/a\\b");
	options_fini(&opt);
}

TEST(options, what_fstab_adds_is_left_out)
{
	TAKE_O("defaults,_netdev,nofail,auto,noauto,rw,user,nouser,users,"
	       "x-systemd.automount,x-gvfs-show,,");
	cr_expect_null(opt.fuse_opts);
	options_fini(&opt);
}

TEST(options, options_of_fuse_are_passed_on)
{
	TAKE_O("ro,nosuid,nodev,noexec,noatime,fsname=janus,max_read=131072");
	cr_expect_str_eq(opt.fuse_opts,
			 "ro,nosuid,nodev,noexec,noatime,"
			 "fsname=janus,max_read=131072");
	options_fini(&opt);
	/* These two are set, or not, by what is right. */
	TAKE_O("allow_other,default_permissions");
	cr_expect_null(opt.fuse_opts);
	options_fini(&opt);
}

TEST(options, commas_for_fuse_stay_escaped)
{
	TAKE_O("ro,context=\"system_u:object_r:mail_t:s0:c1\\,c2\",nodev");
	cr_expect_str_eq(opt.fuse_opts,
			 "ro,context=\"system_u:object_r:mail_t:s0:c1\\,c2\","
			 "nodev");
	options_fini(&opt);
	TAKE_O("fsname=a\\\\b\\,,ro");
	cr_expect_str_eq(opt.fuse_opts, "fsname=a\\\\b\\,,ro");
	options_fini(&opt);
}

/* It would meet the allow_other that root's mounts always have. */
TEST(options, allow_root_is_for_those_who_are_not_root)
{
	uid_t was = geteuid();

	if (was == 0) {
		REFUSE_O("-o allow_root: what root mounts is for all users",
			 "allow_root");
		cr_assert_eq(seteuid(65534), 0);
	}
	TAKE_O("ro,allow_root");
	cr_expect_str_eq(opt.fuse_opts, "ro,allow_root");
	options_fini(&opt);
	cr_assert_eq(seteuid(was), 0);
}

TEST(options, auto_unmount_is_refused_with_the_reason)
{
	REFUSE_O("auto_unmount is refused: after a crash", "auto_unmount");
}

TEST(options, what_is_not_known_is_refused_by_name)
{
	REFUSE_O("unknown option -o inbx=/tmp/x", "inbx=/tmp/x");
	REFUSE_O("unknown option -o big_writes", "big_writes");
	REFUSE_O("unknown option -o storex=1", "storex=1");
	REFUSE_O("unknown option -o INBOX=/tmp/x", "INBOX=/tmp/x");
	REFUSE("unknown option -x", "-x");
	REFUSE("unknown option --frobnicate", "--frobnicate");
	REFUSE("--help", "-fz");
}

TEST(options, errors_say_what_to_write)
{
	REFUSE_O("inbox needs a value: inbox=...", "inbox");
	REFUSE_O("index= needs a directory", "index=");
	REFUSE_O("write underscore or escape", "dots=slash");
	REFUSE_O("write underscore or escape", "dots=");
	REFUSE_O("write background or touch", "scan=no");
	REFUSE_O("whole seconds, 0 to 3600", "lockwait=1.5");
	REFUSE_O("whole seconds, 0 to 3600", "lockwait=3601");
	REFUSE_O("whole seconds, 0 to 3600", "lockwait=");
	REFUSE_O("whole seconds, 0 to 3600", "lockwait=-1");
	REFUSE_O("write on or off", "mirror=yes");
	REFUSE_O("write inotify, poll or off", "watch=on");
	REFUSE_O("write a number, 1 or more", "watches=0");
	REFUSE_O("write a number, 1 or more", "watches=many");
	REFUSE_O("whole seconds, 1 to 3600", "poll=0");
	REFUSE_O("whole seconds, 1 to 3600", "poll=0.5");
	REFUSE_O("write octets", "mbxmax=2t");
	REFUSE_O("write octets", "mbxmax=");
	REFUSE_O("write octets", "mbxmax=2gb");
	REFUSE_O("write octets", "mbxmax=9999999999g");
	REFUSE_O("owner=5000:5000", "owner=joe");
	REFUSE_O("owner=5000:5000", "owner=5000");
	REFUSE_O("owner=5000:5000", "owner=5000:");
	REFUSE_O("owner=5000:5000", "owner=5000:5000:5000");
	REFUSE_O("owner=5000:5000", "owner=4294967295:0");
	REFUSE_O("owner=5000:5000", "owner=-1:0");
	REFUSE_O("inbox=mail/INBOX: needs an absolute path",
		 "inbox=mail/INBOX");
	REFUSE_O("at most one %u", "folders=/tmp/%u/%u");
	REFUSE_O("%% for a per cent sign", "control=/tmp/%n");
	REFUSE_O("folders= may be given once", "folders=/tmp/a,folders=/tmp/b");
	REFUSE_O("control= may be given once", "control=/tmp/a,control=/tmp/b");
	REFUSE_O("subscriptions= may be given once",
		 "subscriptions=/tmp/a,subscriptions=/tmp/b");
}

/* Not the caller's syntax but his disk: another code than -EINVAL. */
TEST(options, a_base_that_is_not_there_is_named)
{
	char none[] = "janusmaild", o[] = "-o";
	char list[] = "store=/s,index=/i,inbox=/no/such/%u/INBOX";
	char mnt[] = "/m";
	char *argv[] = { none, o, list, mnt, NULL };

	cr_expect_eq(options_parse(4, argv, &opt, err, sizeof(err)), -ENOENT);
	cr_expect_not_null(strstr(err,
				  "inbox=/no/such/%u/INBOX: the directory "
				  "before %u cannot be opened"),
			   "%s", err);
	options_fini(&opt);
}

TEST(options, inbox_may_be_given_eight_times_in_order)
{
	TAKE_O("inbox=/tmp/1,inbox=/tmp/2,inbox=/tmp/3,inbox=/tmp/4,"
	       "inbox=/tmp/5,inbox=/tmp/6,inbox=/tmp/7,inbox=/tmp/8");
	cr_assert_eq(opt.inbox_count, 8);
	cr_expect_str_eq(opt.inbox[0].text, "/tmp/1");
	cr_expect_str_eq(opt.inbox[7].text, "/tmp/8");
	options_fini(&opt);
	REFUSE_O("8 times at most",
		 "inbox=/tmp/1,inbox=/tmp/2,inbox=/tmp/3,inbox=/tmp/4,"
		 "inbox=/tmp/5,inbox=/tmp/6,inbox=/tmp/7,inbox=/tmp/8,"
		 "inbox=/tmp/9");
}

TEST(options, patterns_with_and_without_user_do_not_mix)
{
	REFUSE_O("inbox=/tmp/b: has no %u", "inbox=/tmp/%u/a,inbox=/tmp/b");
	REFUSE_O("inbox=/tmp/b: has no %u", "inbox=/tmp/b,folders=/tmp/%u/m");
	REFUSE_O("folders=/tmp/m: has no %u", "folders=/tmp/m,inbox=/tmp/%u/a");
	REFUSE_O("control=/tmp/c: needs a %u",
		 "control=/tmp/c,inbox=/tmp/%u/a");
	REFUSE_O("%u needs inbox= or folders=", "control=/tmp/%u/c");
	TAKE_O("inbox=/tmp/%u/a,folders=/tmp/%u/m,control=/tmp/%u/c");
	cr_expect(opt.multi);
	options_fini(&opt);
	TAKE_O("inbox=/tmp/a,folders=/tmp/m,control=/tmp/c");
	cr_expect_not(opt.multi);
	options_fini(&opt);
	TAKE_O("inbox=/tmp/100%%u");
	cr_expect_not(opt.multi);
	options_fini(&opt);
}

TEST(options, subscriptions_are_looked_for_in_the_home)
{
	static const struct {
		const char *list, *want;
	} cases[] = {
		{ "inbox=/tmp/%u/INBOX", "/tmp/%u/.mailboxlist" },
		{ "folders=/tmp/%u/a/b", "/tmp/%u/.mailboxlist" },
		{ "inbox=/tmp/u-%u.d/x", "/tmp/u-%u.d/.mailboxlist" },
		{ "folders=/tmp/%u/mail///", "/tmp/%u/.mailboxlist" },
		{ "folders=/tmp/%u/%%%%%%x", "/tmp/%u/.mailboxlist" },
		{ "folders=/tmp/%%u%u/m", "/tmp/%%u%u/.mailboxlist" },
		{ "inbox=/tmp/%u,folders=/tmp/%u/m", "/tmp/%u/.mailboxlist" },
		{ "inbox=/tmp/INBOX", "/tmp/.mailboxlist" },
		{ "folders=/tmp/mail/", "/tmp/.mailboxlist" },
		{ "folders=/mail", "/.mailboxlist" },
		{ "inbox=/tmp/INBOX,subscriptions=/tmp/l", "/tmp/l" },
	};
	char list[256];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		(void)snprintf(list, sizeof(list), "store=/s,index=/i,%s",
			       cases[i].list);
		TAKE("-o", list, "/m");
		cr_expect(opt.has_subscriptions, "%s", cases[i].list);
		if (opt.has_subscriptions)
			cr_expect_str_eq(opt.subscriptions.text, cases[i].want,
					 "%s: %s", cases[i].list,
					 opt.subscriptions.text);
		options_fini(&opt);
	}
	TAKE_O("inbox=/tmp/%u");
	cr_expect_not(opt.has_subscriptions);
	options_fini(&opt);
}

TEST(options, a_home_with_a_per_cent_sign_has_subscriptions)
{
	char dir[] = "/tmp/janusmail%test-XXXXXX";
	char list[256], want[256];

	cr_assert_not_null(mkdtemp(dir));
	(void)snprintf(list, sizeof(list),
		       "store=/s,index=/i,inbox=/tmp/janusmail%%%%%s/INBOX",
		       strchr(dir, '%') + 1);
	(void)snprintf(want, sizeof(want), "%s/.mailboxlist", dir);
	TAKE("-o", list, "/m");
	cr_expect_str_eq(opt.subscriptions.text, want);
	options_fini(&opt);
	cr_expect_eq(rmdir(dir), 0);
}

TEST(options, fini_is_safe_twice)
{
	TAKE_O("inbox=/tmp/a,ro");
	options_fini(&opt);
	options_fini(&opt);
	cr_expect_null(opt.store);
}
