#include "filter.h"

TRACEPOINT_PROBE(sched, sched_process_exit) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->priority = args->prio;
  bpfd_kernel_string(e, thread, bpf_get_current_task_btf()->comm);
  return bpfd_submit(args, e);
}
