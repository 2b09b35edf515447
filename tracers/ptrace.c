#include "filter.h"
#include "arguments.h"
#include "pid.h"

#define PTRACE_TRACEME 0

static __always_inline void name_target(struct bpfd_event *e, u32 number) {
  struct pid *pid = bpfd_pid_of(number);
  struct task_struct *task = pid ? bpfd_task_of(pid) : 0;
  e->target = e->target_tid = number;
  if (!task)
    return;
  u32 process = 0, thread = 0;
  bpfd_read(process, task->tgid);
  bpfd_read(thread, task->pid);
  e->target = process;
  e->target_tid = thread;
  bpfd_kernel_string(e, target_command, task->comm);
}

TRACEPOINT_PROBE(syscalls, sys_exit_ptrace) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct pt_regs *registers = bpfd_registers();
  u64 request = bpfd_argument(registers, 0);
  e->request = request;
  e->return_value = args->ret;
  if (request != PTRACE_TRACEME)
    name_target(e, bpfd_argument(registers, 1));
  return bpfd_submit(args, e);
}
