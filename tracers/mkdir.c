#include "filter.h"
#include "arguments.h"
#include "name.h"

#define DIRECTORY(e) (e)->bpfd_own[0]
#define PERMISSIONS 01777 /* what the kernel takes of the mode (do_mkdirat in fs/namei.c and mkdir(2)) */

BPFD_LATE(e) { bpfd_absolute_name(e, path, filename, DIRECTORY(e)); }

static __always_inline int made(void *args, long result, u64 directory, u64 name, u64 mode) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_user_string(e, filename, name);
  e->mode = mode & PERMISSIONS;
  e->return_value = result;
  DIRECTORY(e) = directory;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_mkdirat) {
  struct pt_regs *registers = bpfd_registers();
  return made(args, args->ret, bpfd_argument(registers, 0), bpfd_argument(registers, 1), bpfd_argument(registers, 2));
}

#ifdef BPFD_HAS_sys_exit_mkdir
TRACEPOINT_PROBE(syscalls, sys_exit_mkdir) {
  struct pt_regs *registers = bpfd_registers();
  return made(args, args->ret, BPFD_AT_FDCWD, bpfd_argument(registers, 0), bpfd_argument(registers, 1));
}
#endif
