#include "filter.h"
#include "arguments.h"
#include "constant.h"

/* Who a thread was when it called; what the call leaves is in its credentials at the exit. */
struct before {
  u32 real, effective;
};
#define COUNT_UNTRACKED 0
BPF_F_TABLE("hash", u32, struct before, callers, 4096, BPF_F_NO_PREALLOC);

#define AS_IS ((u32)-1)

static __always_inline int enter(bool group) {
  struct task_struct *task = bpf_get_current_task_btf();
  const struct cred *own = task->cred;
  u32 thread = task->pid;
  struct before was = {own->uid.val, own->euid.val};
  if (group) {
    was.real = own->gid.val;
    was.effective = own->egid.val;
  }
  if (callers.update(&thread, &was)) {
    callers.delete(&thread); /* of an earlier call, whose end was not seen */
    bpfd_count(COUNT_UNTRACKED);
  }
  return 0;
}

static __always_inline struct bpfd_event *leave(long result, bool group, u32 target) {
  struct task_struct *task = bpf_get_current_task_btf();
  const struct cred *own = task->cred;
  u32 thread = task->pid;
  struct bpfd_event *e = bpfd_begin();
  struct before *was = callers.lookup(&thread);
  if (e) {
    e->return_value = result;
    e->target = target == AS_IS ? -1 : (s64)target;
    e->new_real = group ? own->gid.val : own->uid.val;
    e->new_effective = group ? own->egid.val : own->euid.val;
    e->new_saved = group ? own->sgid.val : own->suid.val;
    e->new_filesystem = group ? own->fsgid.val : own->fsuid.val;
    e->old_real = was ? (s64)was->real : -1; /* in the call before the tracer was there, or without room: counted */
    e->old_effective = was ? (s64)was->effective : -1;
  }
  callers.delete(&thread);
  return e;
}

/* Of the ids that a call asks for, the one that counts most. */
static __always_inline u32 first_of(u32 effective, u32 real, u32 saved) {
  if (effective != AS_IS)
    return effective;
  return real != AS_IS ? real : saved;
}

#define ARGUMENT(number) ((u32)bpfd_argument(bpfd_registers(), number))
#define ONE ARGUMENT(0)
#define TWO first_of(ARGUMENT(1), ARGUMENT(0), AS_IS)
#define THREE first_of(ARGUMENT(1), ARGUMENT(0), ARGUMENT(2))

#define EXIT(name, group, target)                                                                                    \
  {                                                                                                                  \
    struct bpfd_event *e = leave(args->ret, group, target);                                                          \
    if (!e)                                                                                                          \
      return 0;                                                                                                      \
    bpfd_literal(e, call, name);                                                                                     \
    return bpfd_submit(args, e);                                                                                     \
  }

TRACEPOINT_PROBE(syscalls, sys_enter_setuid) { return enter(false); }
TRACEPOINT_PROBE(syscalls, sys_exit_setuid) EXIT("setuid", false, ONE)
TRACEPOINT_PROBE(syscalls, sys_enter_setreuid) { return enter(false); }
TRACEPOINT_PROBE(syscalls, sys_exit_setreuid) EXIT("setreuid", false, TWO)
TRACEPOINT_PROBE(syscalls, sys_enter_setresuid) { return enter(false); }
TRACEPOINT_PROBE(syscalls, sys_exit_setresuid) EXIT("setresuid", false, THREE)
TRACEPOINT_PROBE(syscalls, sys_enter_setfsuid) { return enter(false); }
TRACEPOINT_PROBE(syscalls, sys_exit_setfsuid) EXIT("setfsuid", false, ONE)
TRACEPOINT_PROBE(syscalls, sys_enter_setgid) { return enter(true); }
TRACEPOINT_PROBE(syscalls, sys_exit_setgid) EXIT("setgid", true, ONE)
TRACEPOINT_PROBE(syscalls, sys_enter_setregid) { return enter(true); }
TRACEPOINT_PROBE(syscalls, sys_exit_setregid) EXIT("setregid", true, TWO)
TRACEPOINT_PROBE(syscalls, sys_enter_setresgid) { return enter(true); }
TRACEPOINT_PROBE(syscalls, sys_exit_setresgid) EXIT("setresgid", true, THREE)
TRACEPOINT_PROBE(syscalls, sys_enter_setfsgid) { return enter(true); }
TRACEPOINT_PROBE(syscalls, sys_exit_setfsgid) EXIT("setfsgid", true, ONE)

/* A call whose end was not seen, and never will be. */
TRACEPOINT_PROBE(sched, sched_process_exit) {
  u32 thread = bpf_get_current_task_btf()->pid;
  callers.delete(&thread);
  return 0;
}
