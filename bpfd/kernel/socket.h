/* Sockets: of a descriptor, and their addresses and ports, from the kernel's own structures.
 *
 * An address has 16 bytes, an IPv4 one mapped into IPv6 (RFC 4291, 2.5.5.2), as the kernel itself keeps it for sockets of
 * both families: so it is IPv4, whichever family the program chose. */
#include "descriptor.h"

#define BPFD_AF_INET 2
#define BPFD_AF_INET6 10
#define BPFD_SOCK_RAW 3
#define BPFD_TCP 6
#define BPFD_UDP 17
#define BPFD_MPTCP 262
#define BPFD_SOCKFS 0x534F434B /* SOCKFS_MAGIC, include/uapi/linux/magic.h */
/* States of a TCP socket (include/net/tcp_states.h). */
#define BPFD_TCP_SYN_SENT 2
#define BPFD_TCP_SYN_RECV 3
#define BPFD_TCP_TIME_WAIT 6
#define BPFD_TCP_CLOSE 7
#define BPFD_TCP_NEW_SYN_RECV 12
#define bpfd_host_order(port) ((u16)__builtin_bswap16(port))

/* The socket behind a descriptor of the current process, if it is IPv4 or IPv6; else NULL. The file system tells it from
 * other files: the file of a Unix socket on disk is of the kind "socket" too. */
static __always_inline struct sock *bpfd_inet_socket_of(int descriptor) {
  struct file *file = bpfd_open_file(descriptor);
  struct inode *inode = 0;
  struct super_block *super = 0;
  struct socket *socket = 0;
  struct sock *sk = 0;
  unsigned long magic = 0;
  u16 family = 0;
  if (!file)
    return 0;
  bpfd_read(inode, file->f_inode);
  bpfd_read(super, inode->i_sb);
  bpfd_read(magic, super->s_magic);
  if (magic != BPFD_SOCKFS)
    return 0;
  bpfd_read(socket, file->private_data);
  bpfd_read(sk, socket->sk);
  bpfd_read(family, sk->__sk_common.skc_family);
  return family == BPFD_AF_INET || family == BPFD_AF_INET6 ? sk : 0;
}

/* The protocol of a socket that has ports; of a raw one, which names a protocol and has none, 0. */
static __always_inline u16 bpfd_protocol_of(struct sock *sk) {
  u16 protocol = 0, type = 0;
  bpfd_read(type, sk->sk_type);
  if (type != BPFD_SOCK_RAW)
    bpfd_read(protocol, sk->sk_protocol);
  return protocol;
}

static __always_inline bool bpfd_is_tcp(u16 protocol) { return protocol == BPFD_TCP || protocol == BPFD_MPTCP; }

static __always_inline void bpfd_map_ipv4(u8 *into, u32 address) {
  __builtin_memset(into, 0, 10);
  into[10] = into[11] = 0xff;
  __builtin_memcpy(into + 12, &address, 4);
}

static __always_inline bool bpfd_is_ipv4(const u8 *address) {
  const u32 *words = (const u32 *)address;
  return !words[0] && !words[1] && words[2] == __builtin_bswap32(0xffff);
}

/* This end of a socket: `skc_rcv_saddr` is what it is bound to, also where that is a multicast address. */
static __always_inline u16 bpfd_local_end(struct sock *sk, u8 *into) {
  u16 family = 0, port = 0;
  u32 address = 0;
  bpfd_read(family, sk->__sk_common.skc_family);
  bpfd_read(port, sk->__sk_common.skc_num);
  if (family == BPFD_AF_INET6)
    bpf_probe_read_kernel(into, 16, &sk->__sk_common.skc_v6_rcv_saddr);
  else {
    bpfd_read(address, sk->__sk_common.skc_rcv_saddr);
    bpfd_map_ipv4(into, address);
  }
  return port;
}

/* The other end. */
static __always_inline u16 bpfd_remote_end(struct sock *sk, u8 *into) {
  u16 family = 0, port = 0;
  u32 address = 0;
  bpfd_read(family, sk->__sk_common.skc_family);
  bpfd_read(port, sk->__sk_common.skc_dport);
  if (family == BPFD_AF_INET6)
    bpf_probe_read_kernel(into, 16, &sk->__sk_common.skc_v6_daddr);
  else {
    bpfd_read(address, sk->__sk_common.skc_daddr);
    bpfd_map_ipv4(into, address);
  }
  return bpfd_host_order(port);
}

/* The shortest IPv6 address that the kernel takes, without a scope: SIN6_LEN_RFC2133 in include/net/ipv6.h. */
#define BPFD_SHORTEST_IPV6 24

/* The address and port that a program passed to a call, in `length` bytes; false: there is none, not of IPv4 or IPv6, or the
 * bytes are too few for one. */
static __always_inline bool bpfd_passed_end(const void *pointer, s32 length, u8 *into, u64 *port) {
  struct sockaddr_in6 passed = {};
  struct sockaddr_in *ipv4 = (struct sockaddr_in *)&passed;
  if (length < (s32)sizeof(*ipv4) || bpf_probe_read_user(ipv4, sizeof(*ipv4), pointer))
    return false;
  *port = bpfd_host_order(passed.sin6_port);
  if (ipv4->sin_family == BPFD_AF_INET) {
    bpfd_map_ipv4(into, ipv4->sin_addr.s_addr);
    return true;
  }
  if (passed.sin6_family != BPFD_AF_INET6 || length < BPFD_SHORTEST_IPV6 ||
      bpf_probe_read_user(&passed, BPFD_SHORTEST_IPV6, pointer))
    return false;
  __builtin_memcpy(into, &passed.sin6_addr, 16);
  return true;
}

/* Fill `family` from an address. */
#define bpfd_family_of(e, address)                                                                                   \
  {                                                                                                                  \
    if (bpfd_is_ipv4((e)->address))                                                                                  \
      bpfd_literal(e, family, "AF_INET") else bpfd_literal(e, family, "AF_INET6")                                    \
  }

/* Fill `protocol`. */
#define bpfd_name_protocol(e, number)                                                                                \
  {                                                                                                                  \
    if ((number) == BPFD_TCP)                                                                                        \
      bpfd_literal(e, protocol, "tcp") else if ((number) == BPFD_UDP) bpfd_literal(                                  \
          e, protocol, "udp") else bpfd_literal(e, protocol, "mptcp")                                                \
  }
