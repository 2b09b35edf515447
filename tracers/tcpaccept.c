#include "filter.h"
#include "socket.h"

static __always_inline int accepted(void *args, long descriptor) {
  struct sock *sk = descriptor < 0 ? 0 : bpfd_inet_socket_of(descriptor);
  if (!sk || !bpfd_is_tcp(bpfd_protocol_of(sk)))
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->return_value = descriptor;
  e->sport = bpfd_local_end(sk, e->saddr);
  e->dport = bpfd_remote_end(sk, e->daddr);
  bpfd_family_of(e, daddr);
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_accept4) { return accepted(args, args->ret); }

#ifdef BPFD_HAS_sys_exit_accept
TRACEPOINT_PROBE(syscalls, sys_exit_accept) { return accepted(args, args->ret); }
#endif
