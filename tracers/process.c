#include "filter.h"
#include "constant.h"

#define CLONE_THREAD 0x10000
#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h */
/* The parts of a wait status (wait(2)). */
#define STATUS_SIGNAL(status) ((status) & 0x7f)
#define STATUS_CORE 0x80
#define STATUS_CODE(status) (((status) >> 8) & 0xff)

TRACEPOINT_PROBE(task, task_newtask) {
  if (args->clone_flags & CLONE_THREAD)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_literal(e, action, "fork");
  e->child = args->pid;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(sched, sched_process_exec) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_literal(e, action, "exec");
  bpfd_kernel_string(e, filename, (char *)args + (args->data_loc_filename & 0xffff));
  return bpfd_submit(args, e);
}

/* What wait(2) will say of the process: one code for all threads, or the first one's (wait_task_zombie in
 * kernel/exit.c). */
static __always_inline u32 status_of(struct task_struct *task) {
  struct signal_struct *shared = task->signal;
  if (shared->flags & SIGNAL_GROUP_EXIT)
    return shared->group_exit_code;
  return task->group_leader->exit_code;
}

#ifdef BPFD_HAS_GROUP_DEAD
#define IS_LAST(args, task) (args)->group_dead
#else
#define IS_LAST(args, task) ((task)->signal->live.counter == 0)
#endif

TRACEPOINT_PROBE(sched, sched_process_exit) {
  struct task_struct *task = bpf_get_current_task_btf();
  if (!IS_LAST(args, task))
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  u32 status = status_of(task);
  bpfd_literal(e, action, "exit");
  e->exit_code = STATUS_CODE(status);
  e->core_dumped = (status & STATUS_CORE) != 0;
  e->duration = bpf_ktime_get_boot_ns() - task->group_leader->start_boottime;
  e->signal = STATUS_SIGNAL(status);
  return bpfd_submit(args, e);
}
