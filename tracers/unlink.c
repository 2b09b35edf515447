#include "filter.h"
#include "arguments.h"
#include "name.h"

#define DIRECTORY(e) (e)->bpfd_own[0]
#define AT_REMOVEDIR 0x200

BPFD_LATE(e) { bpfd_absolute_name(e, path, filename, DIRECTORY(e)); }

static __always_inline int removed(void *args, long result, u64 directory, u64 name, u64 flags) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_user_string(e, filename, name);
  e->flags = (u32)flags;
  e->return_value = result;
  DIRECTORY(e) = directory;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_unlinkat) {
  struct pt_regs *registers = bpfd_registers();
  return removed(args, args->ret, bpfd_argument(registers, 0), bpfd_argument(registers, 1),
                 bpfd_argument(registers, 2));
}

#ifdef BPFD_HAS_sys_exit_unlink
TRACEPOINT_PROBE(syscalls, sys_exit_unlink) {
  return removed(args, args->ret, BPFD_AT_FDCWD, bpfd_argument(bpfd_registers(), 0), 0);
}
#endif

#ifdef BPFD_HAS_sys_exit_rmdir
TRACEPOINT_PROBE(syscalls, sys_exit_rmdir) {
  return removed(args, args->ret, BPFD_AT_FDCWD, bpfd_argument(bpfd_registers(), 0), AT_REMOVEDIR);
}
#endif
