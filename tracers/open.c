#include "filter.h"
#include "arguments.h"
#include "path.h"

/* The file behind a descriptor of the current process. */
static __always_inline bool file_of(int descriptor, struct path *path) {
  struct fdtable *table = bpf_get_current_task_btf()->files->fdt;
  struct file **open_files = table->fd, *file = 0;
  if ((u32)descriptor >= table->max_fds)
    return false; /* what lies behind the table is no file */
  bpfd_read(file, open_files[descriptor]);
  if (!file)
    return false;
  return !bpfd_read(*path, file->f_path);
}

/* The directory that a relative name starts from. */
static __always_inline bool directory_of(int descriptor, struct path *path) {
  struct fs_struct *fs = bpf_get_current_task_btf()->fs;
  if (descriptor >= 0)
    return file_of(descriptor, path);
  path->mnt = fs->pwd.mnt;
  path->dentry = fs->pwd.dentry;
  return true;
}

static __always_inline void name_opened(struct bpfd_event *e, int descriptor) {
  struct path path;
  if (!file_of(descriptor, &path))
    return;
  bpfd_path_string(e, path, path);
  if (bpfd_is_bind_mount(&path))
    bpfd_origin_string(e, origin, path);
}

/* What was asked for, made absolute: the directory and the name. Where there is no such directory it is "?". */
static __always_inline void name_missing(struct bpfd_event *e, int directory) {
  struct path path;
  u64 limit = bpfd_begin_path(e, path), length = e->bpfd_length[BPFD_NUMBER_filename];
  u16 *begin = &e->bpfd_start[BPFD_NUMBER_path];
  bpfd_barrier(length);
  if (length >= BPFD_LENGTH_filename)
    return;
  u64 at = limit - length;
  bpfd_barrier(at);
  if (at > limit || at < 2)
    return;
  bpf_probe_read_kernel(e->path + at, length, e->filename);
  *begin = at;
  if (e->filename[0] != '/') {
    e->path[at - 1] = '/';
    *begin = at - 1;
    if (directory_of(directory, &path))
      bpfd_prepend(e->path, limit, begin, bpfd_mount_of(path.mnt), path.dentry);
    else {
      e->path[at - 2] = '?';
      *begin = at - 2;
    }
  }
  bpfd_end_path(e, path);
}

/* The calls differ in where their arguments are. */
enum call { CALL_OPENAT, CALL_OPENAT2, CALL_OPEN, CALL_CREAT };
#define CALL(e) (e)->bpfd_own[0]
#define AT_FDCWD -100
#define O_CREAT_WRONLY_TRUNC 01101
#define O_CREAT_OR_TMPFILE (0100 | 020000000)

static __always_inline int read_arguments(struct bpfd_event *e) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {};
  switch (CALL(e)) {
  case CALL_OPENAT:
    e->flags = (u32)bpfd_argument(registers, 2);
    e->mode = bpfd_argument(registers, 3);
    return bpfd_argument(registers, 0);
  case CALL_OPENAT2:
    bpf_probe_read_user(&how, sizeof(how), (void *)bpfd_argument(registers, 2));
    e->flags = how.flags;
    e->mode = how.mode;
    return bpfd_argument(registers, 0);
  case CALL_OPEN:
    e->flags = (u32)bpfd_argument(registers, 1);
    e->mode = bpfd_argument(registers, 2);
    return AT_FDCWD;
  default:
    e->flags = O_CREAT_WRONLY_TRUNC;
    e->mode = bpfd_argument(registers, 1);
    return AT_FDCWD;
  }
}

BPFD_LATE(e) {
  int directory = read_arguments(e);
  if (!(e->flags & O_CREAT_OR_TMPFILE))
    e->mode = 0; /* the kernel does not look at it (open(2)), and neither do we: it may be anything */
  e->mode &= 07777;
  if (e->return_value >= 0)
    name_opened(e, e->return_value);
  else
    name_missing(e, directory);
}

static __always_inline int opened(void *args, long result, enum call call, u64 name) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_user_string(e, filename, name);
  CALL(e) = call;
  e->return_value = result;
  return bpfd_submit(args, e);
}

/* The one call that nearly all programs use. */
TRACEPOINT_PROBE(syscalls, sys_exit_openat) {
  struct bpfd_view view;
  struct task_struct *task = bpf_get_current_task_btf();
  struct bpfd_event *e = bpfd_begin_view(task, &view);
  if (!e)
    return 0;
  bpfd_user_string(e, filename, bpfd_argument(bpfd_registers_of(task), 1));
  CALL(e) = CALL_OPENAT;
  e->return_value = args->ret;
  return bpfd_submit_busy(args, e, &view);
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat2) {
  return opened(args, args->ret, CALL_OPENAT2, bpfd_argument(bpfd_registers(), 1));
}

#ifdef BPFD_HAS_sys_exit_open
TRACEPOINT_PROBE(syscalls, sys_exit_open) {
  return opened(args, args->ret, CALL_OPEN, bpfd_argument(bpfd_registers(), 0));
}
#endif

#ifdef BPFD_HAS_sys_exit_creat
TRACEPOINT_PROBE(syscalls, sys_exit_creat) {
  return opened(args, args->ret, CALL_CREAT, bpfd_argument(bpfd_registers(), 0));
}
#endif
