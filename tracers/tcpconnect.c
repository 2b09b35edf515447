#define BPFD_SOMEBODY_ELSE
#include "filter.h"
#include "arguments.h"
#include "socket.h"

#define COUNT_UNTRACKED 0
#define MOST_ATTEMPTS 16384
#define PF_IO_WORKER 0x10 /* include/linux/sched.h */
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
#define CALL_CONNECT 203
#else
#define CALL_CONNECT 42
#endif
/* include/uapi/asm-generic/errno.h, include/linux/errno.h */
#define EINTR 4
#define ECONNABORTED 103
#define ECONNRESET 104
#define EISCONN 106
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EALREADY 114
#define EINPROGRESS 115
#define ECANCELED 125
#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516

/* A connection that is being made: who makes it, by the socket. */
struct attempt {
  struct bpfd_somebody who;
  u64 crossed; /* the other end connects at the same time: it goes on by way of SYN_RECV */
};
BPF_F_TABLE("hash", u64, struct attempt, attempts, MOST_ATTEMPTS, BPF_F_NO_PREALLOC);
BPF_ARRAY(attempt_room, struct attempt, BPFD_CPUS);
/* The socket whose attempt began in the call of connect that a thread is in. */
BPF_F_TABLE("hash", u32, u64, calls, MOST_ATTEMPTS, BPF_F_NO_PREALLOC);

/* io_uring's workers have the registers of the call that started them. */
static __always_inline bool in_connect(struct task_struct *task) {
  return !(task->flags & PF_IO_WORKER) && bpfd_call_number(bpfd_registers_of(task)) == CALL_CONNECT;
}

static __always_inline int begun(u64 socket) {
  struct task_struct *task = bpf_get_current_task_btf();
  u32 cpu = bpf_get_smp_processor_id(), thread = task->pid;
  struct attempt *room = attempt_room.lookup(&cpu);
  if (!room || task->tgid == BPFD_SELF)
    return 0;
  bpfd_remember(&room->who);
  if (attempts.update(&socket, room))
    bpfd_count(COUNT_UNTRACKED);
  if (in_connect(task))
    calls.update(&thread, &socket);
  return 0;
}

/* The kernel gave up before it sent anything (no port was free): the call itself brings the error. */
static __always_inline bool is_left_to_call(u64 socket) {
  u32 thread = bpf_get_current_pid_tgid();
  u64 *called = calls.lookup(&thread);
  if (!called || *called != socket)
    return false;
  calls.delete(&thread);
  return true;
}

TRACEPOINT_PROBE(sock, inet_sock_set_state) {
  u64 socket = (u64)args->skaddr;
  int error = 0;
  if (args->protocol != BPFD_TCP)
    return 0;
  if (args->newstate == BPFD_TCP_SYN_SENT)
    return begun(socket);
  if (args->oldstate != BPFD_TCP_SYN_SENT && args->oldstate != BPFD_TCP_SYN_RECV)
    return 0;
  struct attempt *attempt = attempts.lookup(&socket);
  /* SYN_RECV is usual for a connection that comes in: then what is found is left of another socket in that place. */
  if (!attempt || (args->oldstate == BPFD_TCP_SYN_RECV && !attempt->crossed))
    return 0;
  if (args->newstate == BPFD_TCP_SYN_RECV) {
    attempt->crossed = 1;
    return 0;
  }
  if (args->newstate == BPFD_TCP_CLOSE) {
    bpfd_read(error, ((struct sock *)socket)->sk_err);
    if (!error && is_left_to_call(socket)) {
      attempts.delete(&socket);
      return 0;
    }
    if (!error)
      error = ECANCELED;
  }
  struct bpfd_event *e = bpfd_nobody();
  if (!e)
    return 0;
  bpfd_recall(e, &attempt->who);
  attempts.delete(&socket);
  e = bpfd_begin_other();
  if (!e)
    return 0;
  e->return_value = -error;
  e->sport = args->sport;
  e->dport = args->dport;
  __builtin_memcpy(e->saddr, args->saddr_v6, 16);
  __builtin_memcpy(e->daddr, args->daddr_v6, 16);
  bpfd_family_of(e, daddr);
  return bpfd_submit(args, e);
}

/* Does a call without an attempt of its own only ask what became of one before? */
static __always_inline bool is_only_asking(long error) {
  switch (error) {
  case EINTR:
  case ECONNABORTED:
  case ECONNRESET:
  case EISCONN:
  case ETIMEDOUT:
  case ECONNREFUSED:
  case EALREADY:
  case EINPROGRESS:
    return true;
  default:
    return error >= ERESTARTSYS && error <= ERESTART_RESTARTBLOCK;
  }
}

/* A call that failed before anything was sent; of the others the socket tells. */
TRACEPOINT_PROBE(syscalls, sys_exit_connect) {
  u32 thread = bpf_get_current_pid_tgid();
  if (!calls.delete(&thread) || args->ret >= 0 || is_only_asking(-args->ret))
    return 0;
  struct pt_regs *registers = bpfd_registers();
  struct sock *sk = bpfd_inet_socket_of(bpfd_argument(registers, 0));
  if (!sk || !bpfd_is_tcp(bpfd_protocol_of(sk)))
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e || !bpfd_passed_end((void *)bpfd_argument(registers, 1), bpfd_argument(registers, 2), e->daddr, &e->dport))
    return 0;
  e->return_value = args->ret;
  e->sport = bpfd_local_end(sk, e->saddr);
  bpfd_family_of(e, daddr);
  return bpfd_submit(args, e);
}
