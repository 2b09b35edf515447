#include "open.h"
#include "compat.h"

/* Arguments of 32-bit calls, whose registers and numbers are others (syscall_32.tbl and syscall.tbl of the architectures). */
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
#define ARGUMENT(registers, number) ((u32)bpfd_argument(registers, number))
#define CALL_OPENAT 322
#define CALL_OPEN_BY_HANDLE_AT 371
#else
#define ARGUMENT_0 bx
#define ARGUMENT_1 cx
#define ARGUMENT_2 dx
#define ARGUMENT_3 si
#define ARGUMENT(registers, number) ((u32)(registers)->ARGUMENT_##number)
#define CALL_OPENAT 295
#define CALL_OPEN_BY_HANDLE_AT 342
#endif
#define CALL_OPEN 5
#define CALL_CREAT 8
#define CALL_OPENAT2 437

static __always_inline int of_call(void *context, u32 call, struct pt_regs *registers, long result) {
  struct open_how how = {.flags = ARGUMENT(registers, 1), .mode = ARGUMENT(registers, 2)};
  switch (call) {
  case CALL_OPEN:
    return opened(context, OPEN, result, BPFD_AT_FDCWD, ARGUMENT(registers, 0), &how);
  case CALL_CREAT:
    how.mode = how.flags;
    how.flags = O_CREAT_WRONLY_TRUNC;
    return opened(context, CREAT, result, BPFD_AT_FDCWD, ARGUMENT(registers, 0), &how);
  case CALL_OPENAT:
    how.flags = ARGUMENT(registers, 2);
    how.mode = ARGUMENT(registers, 3);
    return opened(context, OPENAT, result, ARGUMENT(registers, 0), ARGUMENT(registers, 1), &how);
  case CALL_OPENAT2:
    bpf_probe_read_user(&how, sizeof(how), (void *)(u64)ARGUMENT(registers, 2));
    return opened(context, OPENAT2, result, ARGUMENT(registers, 0), ARGUMENT(registers, 1), &how);
  case CALL_OPEN_BY_HANDLE_AT:
    how.flags = ARGUMENT(registers, 2);
    how.mode = 0;
    return opened(context, OPEN_BY_HANDLE_AT, result, 0, 0, &how);
  }
  return 0;
}

/* It runs at every call of the machine, and is left at once by nearly all of them. */
RAW_TRACEPOINT_PROBE(sys_exit) {
  if (!bpfd_is_compat())
    return 0;
  struct pt_regs *registers = bpfd_registers();
  return of_call(ctx, bpfd_call_number(registers), registers, ctx->args[1]);
}
