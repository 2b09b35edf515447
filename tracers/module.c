#include "filter.h"
#include "arguments.h"
#include "compat.h"
#include "constant.h"
#include "name.h"

enum call { INIT_MODULE, FINIT_MODULE, DELETE_MODULE };

static __always_inline struct bpfd_event *begin(long result, enum call call, u64 flags) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->return_value = result;
  e->flags = (u32)flags ? (u64)call << 32 | (u32)flags : 0; /* a flag has another name in another call */
  return e;
}

static __always_inline int initialised(void *args, long result) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(result, INIT_MODULE, 0);
  if (!e)
    return 0;
  bpfd_literal(e, action, "init_module");
  e->size = bpfd_argument(registers, 1);
  bpfd_user_string(e, parameters, bpfd_argument(registers, 2));
  return bpfd_submit(args, e);
}

static __always_inline int initialised_from_file(void *args, long result) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(result, FINIT_MODULE, bpfd_argument(registers, 2));
  struct path path;
  if (!e)
    return 0;
  bpfd_literal(e, action, "finit_module");
  bpfd_user_string(e, parameters, bpfd_argument(registers, 1));
  if (bpfd_file_of(bpfd_argument(registers, 0), &path))
    bpfd_path_string(e, path, path);
  return bpfd_submit(args, e);
}

static __always_inline int deleted(void *args, long result) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(result, DELETE_MODULE, bpfd_argument(registers, 1));
  if (!e)
    return 0;
  bpfd_literal(e, action, "delete_module");
  bpfd_user_string(e, name, bpfd_argument(registers, 0));
  return bpfd_submit(args, e);
}

#ifdef BPFD_HAS_sys_exit_finit_module
TRACEPOINT_PROBE(syscalls, sys_exit_init_module) { return initialised(args, args->ret); }
TRACEPOINT_PROBE(syscalls, sys_exit_finit_module) { return initialised_from_file(args, args->ret); }
#ifdef BPFD_HAS_sys_exit_delete_module
TRACEPOINT_PROBE(syscalls, sys_exit_delete_module) { return deleted(args, args->ret); }
#endif

TRACEPOINT_PROBE(module, module_load) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_literal(e, action, "loaded");
  e->taints = args->taints;
  bpfd_kernel_string(e, name, (char *)args + (args->data_loc_name & 0xffff));
  return bpfd_submit(args, e);
}
#else
/* This kernel can't load modules, and has no tracepoints for these calls; who tries all the same is seen among all. */
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
#define NR_INIT_MODULE 105
#define NR_FINIT_MODULE 273
#define NR_DELETE_MODULE 106
#else
#define NR_INIT_MODULE 175
#define NR_FINIT_MODULE 313
#define NR_DELETE_MODULE 176
#endif
TRACEPOINT_PROBE(raw_syscalls, sys_exit) {
  if ((args->id != NR_INIT_MODULE && args->id != NR_FINIT_MODULE && args->id != NR_DELETE_MODULE) || bpfd_is_compat())
    return 0;
  if (args->id == NR_INIT_MODULE)
    return initialised(args, args->ret);
  if (args->id == NR_FINIT_MODULE)
    return initialised_from_file(args, args->ret);
  return deleted(args, args->ret);
}
#endif
