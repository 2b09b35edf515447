#include "filter.h"
#include "arguments.h"
#include "constant.h"
#include "descriptor.h"

#define KIND_FACILITY 0
#define KIND_LEVEL 1
#define AF_UNIX 1
#define S_IFMT 0170000 /* include/uapi/linux/stat.h */
#define S_IFSOCK 0140000
#define MOST_STEPS 256
#define MOST_PRIORITY 191 /* local7, debug: RFC 5424, 6.2.1 */
#define NAME_AT __builtin_offsetof(struct sockaddr_un, sun_path)
#define SHORTEST 8 /* of the ends that names are told by */

/* Where a call has its text: in one place, in pieces, or in messages that have pieces. */
enum shape { SHAPE_PLAIN, SHAPE_PIECES, SHAPE_MESSAGES };
#define SHAPE(e) (e)->bpfd_own[0]
#define POINTER(e) (e)->bpfd_own[1]
#define COUNT(e) (e)->bpfd_own[2]

/* A log daemon in a chroot has a longer name for it, and systemd's is /run/systemd/journal/dev-log. */
static __always_inline bool is_log(u64 end) {
  return !__builtin_memcmp(&end, "/dev/log", sizeof(end)) || !__builtin_memcmp(&end, "/dev-log", sizeof(end));
}

/* The Unix socket behind a descriptor of the current process; NULL: it is something else. The inode comes first: of what
 * programs write to, few are sockets. */
static __always_inline struct unix_sock *unix_socket_of(int descriptor) {
  struct file *file = bpfd_open_file(descriptor);
  struct inode *inode = 0;
  struct socket *socket = 0;
  struct sock *sk = 0;
  u16 mode = 0, family = 0;
  if (!file)
    return 0;
  bpfd_read(inode, file->f_inode);
  bpfd_read(mode, inode->i_mode);
  if ((mode & S_IFMT) != S_IFSOCK)
    return 0;
  bpfd_read(socket, file->private_data);
  bpfd_read(sk, socket->sk);
  bpfd_read(family, sk->__sk_common.skc_family);
  return family == AF_UNIX ? (struct unix_sock *)sk : 0;
}

/* The name that the other end is bound to, in the kernel's memory; NULL: none that programs log to. */
static __always_inline const char *connected_log(struct unix_sock *sk) {
  struct unix_sock *peer = 0;
  struct unix_address *address = 0;
  int length = 0;
  u64 end = 0;
  bpfd_read(peer, sk->peer);
  if (!peer)
    return 0;
  bpfd_read(address, peer->addr);
  if (!address)
    return 0;
  bpfd_read(length, address->len);
  const char *given = (char *)address + __builtin_offsetof(struct unix_address, name);
  if (length < (int)(NAME_AT + SHORTEST + 1))
    return 0;
  bpf_probe_read_kernel(&end, sizeof(end), given + length - 1 - SHORTEST); /* a NUL comes after it, and is counted */
  return is_log(end) ? given + NAME_AT : 0;
}

/* The same of the address that a program passed to a call, in its own memory. */
static __always_inline const char *passed_log(const char *address, u32 length) {
  char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
  u16 family = 0;
  u64 end = 0, size = length - NAME_AT + 1;
  if (bpf_probe_read_user(&family, sizeof(family), address) || family != AF_UNIX || length <= NAME_AT)
    return 0;
  bpfd_barrier(size);
  if (size > sizeof(name))
    size = sizeof(name);
  long got = bpf_probe_read_user_str(name, size, address + NAME_AT);
  if (got < SHORTEST + 1)
    return 0;
  bpf_probe_read_user(&end, sizeof(end), address + NAME_AT + got - 1 - SHORTEST);
  return is_log(end) ? address + NAME_AT : 0;
}

static __always_inline void add(struct bpfd_event *e, const void *piece, u64 length) {
  u64 at = e->bpfd_length[BPFD_NUMBER_message];
  bpfd_barrier(at);
  bpfd_barrier(length);
  if (at >= BPFD_LENGTH_message)
    return;
  if (length >= BPFD_LENGTH_message)
    length = BPFD_LENGTH_message - 1;
  if (bpf_probe_read_user(e->message + at, length, piece)) {
    e->message[at] = '?';
    length = 1;
  }
  e->bpfd_length[BPFD_NUMBER_message] = at + length;
}

/* Of several messages each is a line. A step takes a piece or the next message. `left` are the pieces at `pieces`, and `more` the messages that follow. */
static __always_inline void gather(struct bpfd_event *e, const struct iovec *pieces, u64 left,
                                   const struct mmsghdr *messages, u64 more) {
  struct iovec piece = {};
  struct user_msghdr message = {};
#pragma nounroll
  for (int step = 0; step < MOST_STEPS; step++) {
    if (left) {
      if (bpf_probe_read_user(&piece, sizeof(piece), pieces))
        return;
      add(e, piece.iov_base, piece.iov_len);
      pieces++;
      left--;
      continue;
    }
    if (!more || bpf_probe_read_user(&message, sizeof(message), messages))
      return;
    u64 at = e->bpfd_length[BPFD_NUMBER_message];
    bpfd_barrier(at);
    if (!bpfd_is_outside(at, 1, BPFD_LENGTH_message - 1)) {
      e->message[at] = '\n';
      e->bpfd_length[BPFD_NUMBER_message] = at + 1;
    }
    pieces = message.msg_iov;
    left = message.msg_iovlen;
    messages++;
    more--;
  }
}

/* Takes "<38>" from the front, and says what it means: 8 * facility + level. */
static __always_inline void take_priority(struct bpfd_event *e) {
  u16 length = e->bpfd_length[BPFD_NUMBER_message], taken = 0;
  u32 priority = 0;
  if (e->message[0] != '<')
    return;
#pragma unroll
  for (int at = 1; at < 5; at++) {
    u8 digit = e->message[at] - '0';
    if (taken || at >= length)
      continue;
    if (e->message[at] == '>' && at > 1)
      taken = at + 1;
    else if (digit > 9)
      return;
    else
      priority = 10 * priority + digit;
  }
  if (!taken || priority > MOST_PRIORITY)
    return;
  e->bpfd_start[BPFD_NUMBER_message] = taken;
  e->bpfd_length[BPFD_NUMBER_message] = length - taken;
  bpfd_constant(e, facility, KIND_FACILITY, priority / 8);
  bpfd_constant(e, level, KIND_LEVEL, priority % 8);
}

/* What is sent over a stream ends with a NUL. */
static __always_inline void end_message(struct bpfd_event *e) {
  u64 length = e->bpfd_length[BPFD_NUMBER_message];
  bpfd_barrier(length);
  if (length >= BPFD_LENGTH_message)
    length = BPFD_LENGTH_message - 1;
  u64 last = length - 1;
  bpfd_barrier(last);
  if (last < BPFD_LENGTH_message && !e->message[last])
    length = last;
  e->bpfd_length[BPFD_NUMBER_message] = length;
}

BPFD_LATE(e) {
  void *pointer = (void *)POINTER(e);
  u64 count = COUNT(e);
  if (SHAPE(e) == SHAPE_PLAIN)
    add(e, pointer, count);
  else if (SHAPE(e) == SHAPE_PIECES)
    gather(e, pointer, count, 0, 0);
  else
    gather(e, 0, 0, pointer, count);
  end_message(e);
  take_priority(e);
}

/* `address` of `length` bytes is what the call names instead of the other end; NULL or none: it names nothing. */
static __always_inline int sent(void *args, long result, struct unix_sock *sk, const char *address, u32 length,
                                enum shape shape, u64 pointer, u64 count) {
  bool passed = address && length;
  const char *name = passed ? passed_log(address, length) : connected_log(sk);
  struct bpfd_event *e = name ? bpfd_begin() : 0;
  if (!e)
    return 0;
  if (passed)
    bpfd_user_string(e, socket, name);
  else
    bpfd_kernel_string(e, socket, name);
  SHAPE(e) = shape;
  POINTER(e) = pointer;
  COUNT(e) = count;
  e->return_value = result;
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_sendto) {
  struct pt_regs *registers = bpfd_registers();
  struct unix_sock *sk = unix_socket_of(bpfd_argument(registers, 0));
  if (!sk)
    return 0;
  return sent(args, args->ret, sk, (void *)bpfd_argument(registers, 4), bpfd_argument(registers, 5), SHAPE_PLAIN,
              bpfd_argument(registers, 1), bpfd_argument(registers, 2));
}

/* Of several messages the first one's address stands for all. */
static __always_inline int sent_messages(void *args, long result, u64 count) {
  struct pt_regs *registers = bpfd_registers();
  struct unix_sock *sk = unix_socket_of(bpfd_argument(registers, 0));
  struct user_msghdr message = {};
  u64 messages = bpfd_argument(registers, 1);
  if (!sk || bpf_probe_read_user(&message, sizeof(message), (void *)messages))
    return 0;
  return sent(args, result, sk, message.msg_name, message.msg_namelen, SHAPE_MESSAGES, messages, count);
}

TRACEPOINT_PROBE(syscalls, sys_exit_sendmsg) { return sent_messages(args, args->ret, 1); }

TRACEPOINT_PROBE(syscalls, sys_exit_sendmmsg) { return sent_messages(args, args->ret, args->ret > 0 ? args->ret : 1); }

static __always_inline int written(void *args, long result, enum shape shape) {
  struct pt_regs *registers = bpfd_registers();
  struct unix_sock *sk = unix_socket_of(bpfd_argument(registers, 0));
  if (!sk)
    return 0;
  return sent(args, result, sk, 0, 0, shape, bpfd_argument(registers, 1), bpfd_argument(registers, 2));
}

TRACEPOINT_PROBE(syscalls, sys_exit_write) { return written(args, args->ret, SHAPE_PLAIN); }

TRACEPOINT_PROBE(syscalls, sys_exit_writev) { return written(args, args->ret, SHAPE_PIECES); }
