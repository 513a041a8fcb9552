/*
 * janusmaild: checks everything that can be checked, goes into the background,
 * opens the index (LMDB does not survive a fork), mounts, serves.
 *
 * Exit status, as mount(8) has it: 1 wrong usage, 2 system error, 4 internal
 * error, 32 the mount failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "compat/storelock.h"
#include "compat/text.h"
#include "fs/control.h"
#include "fs/folder.h"
#include "fs/lease.h"
#include "fs/lockdir.h"
#include "fs/mirror.h"
#include "fs/mountpoint.h"
#include "fs/node.h"
#include "fs/ops.h"
#include "fs/options.h"
#include "fs/process.h"
#include "fs/scanner.h"
#include "fs/shed.h"
#include "fs/snarf.h"
#include "fs/user.h"
#include "fs/watch.h"

enum { EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_INTERNAL = 4, EXIT_MOUNT = 32 };

/* ---- the new store ------------------------------------------------------- */

static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static struct places places_of(const struct fs *fs)
{
	const struct options *o = fs->opt;

	return (struct places){
		.inbox = o->inbox,
		.inbox_count = o->inbox_count,
		.folders = o->has_folders ? &o->folders : NULL,
		.subscriptions =
			o->has_subscriptions ? &o->subscriptions : NULL,
		.has_owner = o->has_owner,
		.owner_uid = o->owner_uid,
		.owner_gid = o->owner_gid,
		.multi = o->multi,
		.store_fd = fs->store_fd,
		.store = o->store,
	};
}

static int open_store(struct fs *fs)
{
	const struct options *o = fs->opt;
	struct stat st;

	fs->store_fd = open_dir(AT_FDCWD, o->store);
	if (fs->store_fd < 0) {
		log_err("store=%s: %s; make the directory first (mkdir -m 700)",
			o->store, strerrordesc_np(-fs->store_fd));
		return fs->store_fd;
	}
	if (fstat(fs->store_fd, &st) < 0)
		return -errno;
	fs->store_dev = st.st_dev;
	fs->places = places_of(fs);
	fs->state_fd = storelock_open_dir(fs->store_fd,
					  fs->multi ? STORELOCK_DIR_MULTI
						    : STORELOCK_DIR_SINGLE,
					  true);
	fs->ledgers_fd = fs->state_fd;
	if (fs->state_fd >= 0 && fs->multi)
		fs->ledgers_fd =
			storelock_open_dir(fs->state_fd, "users", true);
	if (fs->state_fd < 0 || fs->ledgers_fd < 0) {
		int ret = fs->state_fd < 0 ? fs->state_fd : fs->ledgers_fd;

		log_err("store=%s: our directory in it cannot be made: %s",
			o->store, strerrordesc_np(-ret));
		return ret;
	}
	return 0;
}

/* c-client's locks do nothing there, so neither would ours. */
static int check_legacy(const struct pattern *p)
{
	const char *name;

	if (p->base_fd < 0 || !io_is_network_fs(p->base_fd, &name))
		return 0;
	log_err("%s: lies on %s, where UW's locks do not work; run janusmail "
		"on the file server itself",
		p->text, name);
	return -EREMOTE;
}

static int check_legacies(const struct options *o)
{
	int ret = check_legacy(&o->folders);

	if (ret == 0 && o->has_spool)
		ret = check_legacy(&o->spool);
	for (unsigned i = 0; ret == 0 && i < o->inbox_count; i++)
		ret = check_legacy(&o->inbox[i]);
	return ret;
}

/* Without a %u the mountpoint itself is a Maildir++ root. */
static int make_root(struct fs *fs)
{
	struct node_role role = { .kind = NODE_USERS };
	int fd = -1, ret = 0;

	if (!fs->multi) {
		role.kind = NODE_MAIL;
		ret = user_find(fs, "", &role.user);
		if (ret < 0)
			return ret;
		fd = openat(fs->store_fd, ".", O_PATH | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	fs->nodes = nodes_new(fd, &role);
	if (fs->nodes)
		return 0;
	base_auto_close(&fd);
	return -ENOMEM;
}

static int fs_open(struct fs *fs, const struct options *opt)
{
	int ret;

	*fs = (struct fs){ .opt = opt,
			   .multi = opt->multi,
			   .store_fd = -1,
			   .state_fd = -1,
			   .ledgers_fd = -1,
			   .lock_fd = -1 };
	ret = check_legacies(opt);
	if (ret == 0)
		ret = open_store(fs);
	if (ret == 0)
		ret = index_open(opt->index, false, &fs->index);
	if (ret == 0)
		ret = fs->lock_fd =
			storelock_take(fs->state_fd, opt->store, "mounted on",
				       opt->mountpoint);
	if (ret < 0)
		return ret; /* all say why */
	index_sign(fs->index, opt->mountpoint);
	fs->users = users_new();
	return fs->users ? make_root(fs) : -ENOMEM;
}

static void fs_close(struct fs *fs)
{
	nodes_free(fs->nodes);
	folder_free_all();
	users_free(fs->users);
	index_close(fs->index);
	if (fs->ledgers_fd != fs->state_fd)
		base_auto_close(&fs->ledgers_fd);
	base_auto_close(&fs->lock_fd);
	base_auto_close(&fs->state_fd);
	base_auto_close(&fs->store_fd);
}

/* ---- FUSE ---------------------------------------------------------------- */

/* default_permissions always: the kernel checks modes and owners. allow_other
 * without it would let one user's permission serve another. */
static struct fuse_session *make_session(const struct options *o, struct fs *fs)
{
	char source[PATH_MAX + 32], all[3 * PATH_MAX];
	char *argv[] = { (char[]){ "janusmaild" }, (char[]){ "-o" }, all,
			 NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *se;
	size_t at = 0;

	(void)snprintf(source, sizeof(source), "janusmail:%s", o->index);
	(void)snprintf(all, sizeof(all), "default_permissions%s%s%s,fsname=",
		       geteuid() == 0 ? ",allow_other" : "",
		       o->fuse_opts ? "," : "",
		       o->fuse_opts ? o->fuse_opts : "");
	at = strlen(all);
	for (const char *c = source; *c && at < sizeof(all) - 64; c++) {
		if (*c == ',' || *c == '\\')
			all[at++] = '\\';
		all[at++] = *c;
	}
	(void)snprintf(all + at, sizeof(all) - at, ",subtype=janusmail%s",
		       o->debug ? ",debug" : "");
	se = fuse_session_new(&args, ops_table(), sizeof(*ops_table()), fs);
	fuse_opt_free_args(&args);
	return se;
}

static int serve(struct fuse_session *se)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int ret;

	if (!config)
		return -ENOMEM;
	/* A descriptor a thread: requests do not queue behind each other. */
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_idle_threads(config, 8);
	fuse_loop_cfg_set_max_threads(config, 64);
	ret = fuse_session_loop_mt(se, config);
	fuse_loop_cfg_destroy(config);
	return ret;
}

/* ---- going into the background ------------------------------------------- */

/* The parent waits for the child's word and exits with it. */
static int daemonize(void)
{
	int fds[2];
	unsigned char code = EXIT_INTERNAL;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		(void)close(fds[1]);
		if (read(fds[0], &code, 1) != 1)
			code = EXIT_INTERNAL;
		_exit(code);
	}
	(void)close(fds[0]);
	(void)setsid();
	return fds[1];
}

static void report(int *pipe_fd, int code)
{
	unsigned char c = (unsigned char)code;
	int null;

	if (*pipe_fd < 0)
		return;
	/* From here on nobody reads our stderr. */
	if (code == 0) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null >= 0) {
			(void)dup2(null, STDIN_FILENO);
			(void)dup2(null, STDOUT_FILENO);
			(void)dup2(null, STDERR_FILENO);
			base_auto_close(&null);
		}
		log_to_syslog("janusmaild");
	}
	if (write(*pipe_fd, &c, 1) != 1)
		log_warn("the parent process is gone");
	base_auto_close(pipe_fd);
}

static void prepare_process(void)
{
	/* UW's lock files must be 0666 from their first moment, and the
	 * kernel has applied the caller's umask to modes already. */
	(void)umask(0);
	if (chdir("/") < 0)
		log_warn("cannot go to /: %s", strerrordesc_np(errno));
	process_prepare();
	(void)signal(SIGPIPE, SIG_IGN);
}

/* ---- main ---------------------------------------------------------------- */

/* A signal must reach the thread that serves, or nobody would notice it: our
 * other threads start with signals blocked. */
struct threads {
	struct shed *shed;
	struct control *control;
	struct scanner *scanner;
};

static int start_threads(struct fs *fs, struct fuse_session *se,
			 struct threads *t)
{
	sigset_t all, was;
	int ret;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &was);
	ret = shed_start(fs->nodes, process_files(), ops_forget_name, se,
			 &t->shed);
	if (ret == 0)
		ret = lease_start();
	if (ret == 0)
		ret = mirror_start(fs);
	if (ret == 0)
		ret = snarf_start(fs);
	if (ret == 0)
		ret = control_start(fs, &t->control);
	if (ret == 0)
		ret = watch_start(fs);
	if (ret == 0)
		ret = scanner_start(fs, &t->scanner);
	(void)pthread_sigmask(SIG_SETMASK, &was, NULL);
	return ret;
}

static int run_mounted(struct fs *fs, struct fuse_session *se, int *pipe_fd)
{
	struct threads t = { .shed = NULL };
	int ret = start_threads(fs, se, &t);

	if (ret == 0) {
		log_info("%s: mounted", fs->opt->mountpoint);
		report(pipe_fd, 0);
		ret = serve(se);
		/* A signal is a clean end. */
		ret = ret > 0 ? 0 : ret;
	}
	watch_stop(ops_answer, se);
	shed_stop(t.shed, ops_answer);
	scanner_stop(t.scanner);
	control_stop(t.control);
	snarf_stop();
	mirror_stop();
	lease_stop();
	return ret;
}

static struct fuse_session *the_session;

/* A clean end. Requests that wait for a lock of UW end at once, too. */
static void on_signal(int sig)
{
	(void)sig;
	mbxlock_cancel();
	fuse_session_exit(the_session);
}

/* Without SA_RESTART: the thread that waits for the end has to notice. */
static int handle_signals(struct fuse_session *se)
{
	struct sigaction act = { .sa_handler = on_signal };

	the_session = se;
	(void)sigemptyset(&act.sa_mask);
	return sigaction(SIGTERM, &act, NULL) < 0 ||
			sigaction(SIGINT, &act, NULL) < 0 ||
			sigaction(SIGHUP, &act, NULL) < 0
		? -errno
		: 0;
}

static int run(const struct options *opt, int *pipe_fd)
{
	struct fuse_session *se = NULL;
	int code = EXIT_SYSTEM;
	struct fs fs;

	if (fs_open(&fs, opt) == 0)
		se = make_session(opt, &fs);
	if (se && handle_signals(se) == 0) {
		code = EXIT_MOUNT;
		if (fuse_session_mount(se, opt->mountpoint) == 0) {
			code = run_mounted(&fs, se, pipe_fd) < 0 ? EXIT_SYSTEM
								 : 0;
			fuse_session_unmount(se);
			log_info("%s: unmounted", opt->mountpoint);
		} else {
			log_err("%s: cannot be mounted; as root, or with "
				"fusermount3 (package fuse3)?",
				opt->mountpoint);
		}
	}
	if (se)
		fuse_session_destroy(se);
	ops_close_directories();
	fs_close(&fs);
	return code;
}

int main(int argc, char **argv)
{
	struct options opt;
	char err[512] = "";
	int ret = options_parse(argc, argv, &opt, err, sizeof(err));
	int pipe_fd = -1, code;

	log_trace_init();
	io_stop_init();
	if (ret < 0) {
		log_err("%s", err);
		options_fini(&opt);
		return ret == -ENOMEM ? EXIT_SYSTEM : EXIT_USAGE;
	}
	if (opt.show_help || opt.show_version) {
		ret = printf("%s",
			     opt.show_help ? options_help()
					   : "janusmaild " JANUSMAIL_VERSION
					     "\n");
		options_fini(&opt);
		return ret < 0 ? EXIT_SYSTEM : 0;
	}
	if (mountpoint_check(&opt) < 0 || lockdir_check(&opt) < 0) {
		options_fini(&opt);
		return EXIT_MOUNT;
	}
	if (!opt.foreground)
		pipe_fd = daemonize();
	if (!opt.foreground && pipe_fd < 0) {
		log_err("cannot go into the background: %s",
			strerrordesc_np(-pipe_fd));
		options_fini(&opt);
		return EXIT_SYSTEM;
	}
	prepare_process();
	code = run(&opt, &pipe_fd);
	report(&pipe_fd, code);
	options_fini(&opt);
	return code;
}
