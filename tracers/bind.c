#include "filter.h"
#include "arguments.h"
#include "socket.h"

TRACEPOINT_PROBE(syscalls, sys_exit_bind) {
  struct pt_regs *registers = bpfd_registers();
  struct sock *sk = bpfd_inet_socket_of(bpfd_argument(registers, 0));
  u16 protocol = sk ? bpfd_protocol_of(sk) : 0;
  if (!bpfd_is_tcp(protocol) && protocol != BPFD_UDP)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->return_value = args->ret;
  if (args->ret == 0)
    e->port = bpfd_local_end(sk, e->addr);
  else if (!bpfd_passed_end((void *)bpfd_argument(registers, 1), bpfd_argument(registers, 2), e->addr, &e->port))
    return 0;
  bpfd_name_protocol(e, protocol);
  return bpfd_submit(args, e);
}
