#include "filter.h"
#include "arguments.h"
#include "name.h"

#define FROM(e) (e)->bpfd_own[0]
#define TO(e) (e)->bpfd_own[1]

struct name {
  u64 directory, text;
};

BPFD_LATE(e) {
  bpfd_absolute_name(e, path, filename, FROM(e));
  bpfd_absolute_name(e, new_path, new_filename, TO(e));
}

static __always_inline int renamed(void *args, long result, struct name from, struct name to, u64 flags) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_user_string(e, filename, from.text);
  bpfd_user_string(e, new_filename, to.text);
  e->flags = (u32)flags;
  e->return_value = result;
  FROM(e) = from.directory;
  TO(e) = to.directory;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_renameat2) {
  struct pt_regs *registers = bpfd_registers();
  struct name from = {bpfd_argument(registers, 0), bpfd_argument(registers, 1)};
  struct name to = {bpfd_argument(registers, 2), bpfd_argument(registers, 3)};
  return renamed(args, args->ret, from, to, bpfd_argument(registers, 4));
}

#ifdef BPFD_HAS_sys_exit_renameat
TRACEPOINT_PROBE(syscalls, sys_exit_renameat) {
  struct pt_regs *registers = bpfd_registers();
  struct name from = {bpfd_argument(registers, 0), bpfd_argument(registers, 1)};
  struct name to = {bpfd_argument(registers, 2), bpfd_argument(registers, 3)};
  return renamed(args, args->ret, from, to, 0);
}
#endif

#ifdef BPFD_HAS_sys_exit_rename
TRACEPOINT_PROBE(syscalls, sys_exit_rename) {
  struct pt_regs *registers = bpfd_registers();
  struct name from = {BPFD_AT_FDCWD, bpfd_argument(registers, 0)};
  struct name to = {BPFD_AT_FDCWD, bpfd_argument(registers, 1)};
  return renamed(args, args->ret, from, to, 0);
}
#endif
