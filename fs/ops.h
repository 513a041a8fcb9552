/*
 * ops.h - FUSE requests, translated to the view and back. Nothing else.
 *
 * A handler decodes, calls, maps the result and answers; it holds no lock when
 * it answers. No handler touches the mount, runs a child or asks for names of
 * users (the answer could need the mount).
 */
#pragma once

#include <fuse_lowlevel.h>

#include "fs/fs.h"
#include "fs/view.h"

/** ops_table - for fuse_session_new(); user data is a struct fs */
const struct fuse_lowlevel_ops *ops_table(void);

/* Shared by the ops_*.c files. */

/** ops_fs - the struct fs of a request */
struct fs *ops_fs(fuse_req_t req);
/** ops_error - answer a request with a result; what FUSE has no number for
 * becomes EIO */
void ops_error(fuse_req_t req, int ret);
/** ops_node - the node of a number; answers ESTALE and gives NULL if there is
 * none, EACCES for a message */
struct node *ops_node(fuse_req_t req, fuse_ino_t ino);
/** ops_param - an entry as the kernel wants it, with the time it may keep it */
void ops_param(const struct view_entry *e, struct fuse_entry_param *out);

struct identity;
/**
 * ops_as_caller - act as the process that made the request, all its groups
 * included
 * @owned: of a directory or file whose owner needs no group for what is to be
 * done; -1 if a group may matter to the owner too
 *
 * Return: 0, and identity_leave() is due; -EPERM.
 */
MUST_CHECK int ops_as_caller(fuse_req_t req, int owned, struct identity *was);

/** ops_again - make room if a result says that there was no descriptor; whether
 * to try again */
bool ops_again(fuse_req_t req, int ret);

/** ops_pin - node_pin(), once more if there was no descriptor */
MUST_CHECK int ops_pin(fuse_req_t req, struct node *n);
/** ops_unpin - @fd: what ops_pin() gave; an error is fine */
void ops_unpin(fuse_req_t req, struct node *n, int fd);

/** ops_control_folder - the legacy folder that a change of @name in @dir may
 * matter to, for mail_control() once the request is answered; NULL */
struct folder *ops_control_folder(const struct node *dir, const char *name);

/** ops_is_wake - whether a request is one of ours, to wake who watches a
 * directory (wake.h), and about the name for that */
bool ops_is_wake(fuse_req_t req, const char *name);

/** ops_forget_name - for shed_start(); @session: a struct fuse_session */
void ops_forget_name(void *session, uint64_t parent, const char *name);
/** ops_answer - for shed_stop() */
void ops_answer(void *session);

/** ops_close_directories - free what is still open when the mount has ended
 * and no thread serves requests any more */
void ops_close_directories(void);

/* ops_dir.c */
void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		  struct fuse_file_info *fi);

/* ops_file.c */
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		mode_t mode, struct fuse_file_info *fi);
void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	      struct fuse_file_info *fi);
void ops_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
		   off_t off, struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	       struct fuse_file_info *fi);
void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
		   off_t len, struct fuse_file_info *fi);

/* ops_name.c */
void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
	       mode_t mode);
void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       dev_t rdev);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		fuse_ino_t to_parent, const char *to_name, unsigned flags);
void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to_parent,
	      const char *to_name);
void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		 const char *name);
void ops_readlink(fuse_req_t req, fuse_ino_t ino);
