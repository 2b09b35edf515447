#include "filter.h"
#include "arguments.h"
#include "name.h"

static __always_inline void name_opened(struct bpfd_event *e, int descriptor) {
  struct path path;
  if (!bpfd_file_of(descriptor, &path))
    return;
  bpfd_path_string(e, path, path);
  if (bpfd_is_bind_mount(&path))
    bpfd_origin_string(e, origin, path);
}

/* The calls differ in where their arguments are. */
enum call { CALL_OPENAT, CALL_OPENAT2, CALL_OPEN, CALL_CREAT };
#define CALL(e) (e)->bpfd_own[0]
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
    return BPFD_AT_FDCWD;
  default:
    e->flags = O_CREAT_WRONLY_TRUNC;
    e->mode = bpfd_argument(registers, 1);
    return BPFD_AT_FDCWD;
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
    bpfd_absolute_name(e, path, filename, directory);
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
