#include "open.h"

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
  e->bpfd_own[NAME_ALONE] = 0;
  e->return_value = args->ret;
  return bpfd_submit_busy(args, e, &view);
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat2) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {};
  bpf_probe_read_user(&how, sizeof(how), (void *)bpfd_argument(registers, 2));
  return opened(args, OPENAT2, args->ret, bpfd_argument(registers, 0), bpfd_argument(registers, 1), &how);
}

#ifdef BPFD_HAS_sys_exit_open
TRACEPOINT_PROBE(syscalls, sys_exit_open) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {.flags = (u32)bpfd_argument(registers, 1), .mode = bpfd_argument(registers, 2)};
  return opened(args, OPEN, args->ret, BPFD_AT_FDCWD, bpfd_argument(registers, 0), &how);
}
#endif

#ifdef BPFD_HAS_sys_exit_creat
TRACEPOINT_PROBE(syscalls, sys_exit_creat) {
  struct pt_regs *registers = bpfd_registers();
  struct open_how how = {.flags = O_CREAT_WRONLY_TRUNC, .mode = bpfd_argument(registers, 1)};
  return opened(args, CREAT, args->ret, BPFD_AT_FDCWD, bpfd_argument(registers, 0), &how);
}
#endif

#ifdef BPFD_HAS_sys_exit_open_by_handle_at
TRACEPOINT_PROBE(syscalls, sys_exit_open_by_handle_at) {
  struct open_how how = {.flags = (u32)bpfd_argument(bpfd_registers(), 2)};
  return opened(args, OPEN_BY_HANDLE_AT, args->ret, 0, 0, &how);
}
#endif

#if defined(BPFD_HAS_io_uring_submit_req) && defined(BPFD_HAS_io_uring_complete) &&                                    \
    defined(BPFD_HAS_io_uring_cqe_overflow) && defined(BPFD_HAS_IO_OPEN_NAME)
#define REQUEST_OPENAT 18 /* enum io_uring_op, whose numbers stay what they are */
#define REQUEST_OPENAT2 28
#define REQUEST_SILENT (1 << 6) /* REQ_F_CQE_SKIP: no word of success */
enum counted { NAMELESS, ORPHANED };

/* What a request asked for, until it is complete: by then the kernel has given the name back. */
struct asked {
  u64 ring, user_data, flags, process;
  u32 mode;
  int directory, slot;
  char name[BPFD_LENGTH_filename];
};
struct asked_by {
  u64 ring, user_data;
};
BPF_F_TABLE("hash", u64, struct asked, asked_of, 1024, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct asked_by, u64, request_of, 1024, BPF_F_NO_PREALLOC);
BPF_ARRAY(asking, struct asked, BPFD_CPUS);

static __always_inline void recall(struct bpfd_event *e, struct asked *asked, long result) {
  bpfd_kernel_string(e, filename, asked->name);
  keep(e, IO_URING, result, asked->directory, asked->flags, asked->mode);
  e->bpfd_own[NAME_ALONE] = asked->slot != 0;
}

/* One that is told now: no word comes when it is done. */
static __always_inline int told_at_once(void *args, struct asked *asked) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  recall(e, asked, 0);
  e->bpfd_own[NAME_ALONE] = 1;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(io_uring, io_uring_submit_req) {
  u32 cpu = bpf_get_smp_processor_id();
  u8 operation = args->opcode;
  if (operation != REQUEST_OPENAT && operation != REQUEST_OPENAT2)
    return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  struct asked *asked = asking.lookup(&cpu);
  struct io_kiocb *request = args->req;
  struct io_open open = {};
  const char *name = 0;
  if (!asked || task->tgid == BPFD_SELF)
    return 0;
  bpf_probe_read_kernel(&open, sizeof(open), &request->cmd);
  bpfd_read(name, open.filename->name);
  asked->ring = (u64)args->ctx;
  asked->user_data = args->user_data;
  asked->flags = open.how.flags & ~O_LARGEFILE;
  asked->process = task->tgid;
  asked->mode = open.how.mode;
  asked->directory = open.dfd;
  asked->slot = open.file_slot;
  if (bpf_probe_read_kernel_str(asked->name, sizeof(asked->name), name) < 0)
    *(u16 *)asked->name = '?';
  if (args->flags & REQUEST_SILENT)
    return told_at_once(args, asked);
  struct asked_by by = {asked->ring, asked->user_data};
  u64 key = (u64)request;
  asked_of.update(&key, asked);
  request_of.update(&by, &key);
  return 0;
}

static __always_inline void forget(struct asked *asked, u64 key) {
  struct asked_by by = {asked->ring, asked->user_data};
  u64 *latest = request_of.lookup(&by);
  if (latest && *latest == key)
    request_of.delete(&by);
  asked_of.delete(&key);
}

static __always_inline int completed(void *args, u64 key, struct asked *asked, long result) {
  struct bpfd_event *e = 0;
  if (!asked || asked->process == bpf_get_current_task_btf()->tgid)
    e = bpfd_begin();
  else
    bpfd_count(ORPHANED);
  if (e && asked)
    recall(e, asked, result);
  else if (e) {
    bpfd_count(NAMELESS);
    bpfd_literal(e, filename, "?");
    keep(e, IO_URING, result, BPFD_AT_FDCWD, 0, 0);
  }
  if (asked)
    forget(asked, key);
  return e ? bpfd_submit(args, e) : 0;
}

TRACEPOINT_PROBE(io_uring, io_uring_complete) {
  struct io_kiocb *request = args->req;
  u64 key = (u64)request;
  u8 operation = 0;
  if (!request)
    return 0; /* a further result of a request that goes on */
  bpfd_read(operation, request->opcode);
  if (operation != REQUEST_OPENAT && operation != REQUEST_OPENAT2)
    return 0;
  return completed(args, key, asked_of.lookup(&key), args->res);
}

/* The program did not take its results: this one waits in a list, and is not told as complete. */
TRACEPOINT_PROBE(io_uring, io_uring_cqe_overflow) {
  struct asked_by by = {(u64)args->ctx, args->user_data};
  u64 *latest = request_of.lookup(&by);
  int result = 0;
  if (!latest)
    return 0;
  u64 key = *latest;
  struct asked *asked = asked_of.lookup(&key);
  bpfd_read(result, ((struct io_kiocb *)key)->cqe.res);
  if (!asked || result != args->res)
    return 0; /* another request, which the program calls the same */
  return completed(args, key, asked, result);
}
#endif
