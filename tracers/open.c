#include "filter.h"
#include "arguments.h"
#include "name.h"

#define O_CREAT_WRONLY_TRUNC 01101
#define O_CREAT_OR_TMPFILE (0100 | 020000000)
#define O_WRITES (01 | 02 | 0100 | 01000) /* O_WRONLY, O_RDWR, O_CREAT, O_TRUNC */
#define O_PATH 010000000                  /* with it the kernel does not look at those (open(2)) */

/* What the late step has to know: where the name starts, or that it has to read the arguments that the probe left. */
enum kept { DIRECTORY, ARGUMENTS_LEFT };

static __always_inline void keep_flags(struct bpfd_event *e, u64 flags) {
  e->flags = flags;
  e->writes = flags & O_WRITES && !(flags & O_PATH);
}

static __always_inline void tell_opened(struct bpfd_event *e, int descriptor) {
  struct path path;
  struct inode *inode;
  u16 mode = 0;
  if (!bpfd_file_of(descriptor, &path))
    return;
  bpfd_read(inode, path.dentry->d_inode);
  bpfd_read(mode, inode->i_mode);
  e->file_type = mode >> 12;
  bpfd_path_string(e, path, path);
  if (bpfd_is_bind_mount(&path))
    bpfd_origin_string(e, origin, path);
}

BPFD_LATE(e) {
  if (e->bpfd_own[ARGUMENTS_LEFT]) {
    struct pt_regs *registers = bpfd_registers();
    e->bpfd_own[DIRECTORY] = bpfd_argument(registers, 0);
    e->mode = bpfd_argument(registers, 3);
  }
  if (!(e->flags & O_CREAT_OR_TMPFILE))
    e->mode = 0; /* the kernel does not look at it (open(2)), and neither do we: it may be anything */
  e->mode &= 07777;
  if (e->return_value >= 0)
    tell_opened(e, e->return_value);
  else
    bpfd_absolute_name(e, path, filename, e->bpfd_own[DIRECTORY]);
}

/* The one call that nearly all programs use: what can wait is left for later. */
TRACEPOINT_PROBE(syscalls, sys_exit_openat) {
  struct bpfd_view view;
  struct task_struct *task = bpf_get_current_task_btf();
  struct bpfd_event *e = bpfd_begin_view(task, &view);
  if (!e)
    return 0;
  struct pt_regs *registers = bpfd_registers_of(task);
  bpfd_user_string(e, filename, bpfd_argument(registers, 1));
  keep_flags(e, (u32)bpfd_argument(registers, 2));
  e->bpfd_own[ARGUMENTS_LEFT] = 1;
  e->return_value = args->ret;
  return bpfd_submit_busy(args, e, &view);
}

static __always_inline int opened(void *args, long result, int directory, u64 name, struct open_how *how) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_user_string(e, filename, name);
  keep_flags(e, how->flags);
  e->mode = how->mode;
  e->bpfd_own[DIRECTORY] = directory;
  e->bpfd_own[ARGUMENTS_LEFT] = 0;
  e->return_value = result;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat2) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {};
  bpf_probe_read_user(&how, sizeof(how), (void *)bpfd_argument(registers, 2));
  return opened(args, args->ret, bpfd_argument(registers, 0), bpfd_argument(registers, 1), &how);
}

#ifdef BPFD_HAS_sys_exit_open
TRACEPOINT_PROBE(syscalls, sys_exit_open) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {.flags = (u32)bpfd_argument(registers, 1), .mode = bpfd_argument(registers, 2)};
  return opened(args, args->ret, BPFD_AT_FDCWD, bpfd_argument(registers, 0), &how);
}
#endif

#ifdef BPFD_HAS_sys_exit_creat
TRACEPOINT_PROBE(syscalls, sys_exit_creat) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {.flags = O_CREAT_WRONLY_TRUNC, .mode = bpfd_argument(registers, 1)};
  return opened(args, args->ret, BPFD_AT_FDCWD, bpfd_argument(registers, 0), &how);
}
#endif
