#include "filter.h"
#include "arguments.h"
#include "socket.h"

TRACEPOINT_PROBE(syscalls, sys_exit_listen) {
  struct pt_regs *registers = bpfd_registers();
  struct sock *sk = bpfd_inet_socket_of(bpfd_argument(registers, 0));
  u16 protocol = sk ? bpfd_protocol_of(sk) : 0;
  if (!bpfd_is_tcp(protocol) && protocol != BPFD_UDP)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->return_value = args->ret;
  e->port = bpfd_local_end(sk, e->addr);
  e->backlog = (s32)bpfd_argument(registers, 1);
  bpfd_name_protocol(e, protocol);
  return bpfd_submit(args, e);
}
