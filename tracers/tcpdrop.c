#define BPFD_SOMEBODY_ELSE
#include "filter.h"
#include "constant.h"
#include "socket.h"

#define KIND_REASON 0
#define KIND_STATE 1
#define ETHERNET_IPV4 0x0800
#define ETHERNET_IPV6 0x86DD
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_DESTINATION 60
#define MOST_EXTENSIONS 4
#define FRAGMENT_OFFSET 0x1fff /* include/net/ip.h */
#define TCP_FLAGS_END 14       /* of a TCP header: up to its flags */

/* A packet's IP header, as far as it is of use, and where its TCP header begins. */
struct packet {
  u8 saddr[16], daddr[16];
  const char *begin, *end; /* what lies in one piece in memory; the rest is in pages that are not looked at */
};

static __always_inline bool read_ipv4(struct packet *packet) {
  struct iphdr ip;
  if (packet->begin + sizeof(ip) > packet->end || bpf_probe_read_kernel(&ip, sizeof(ip), packet->begin))
    return false;
  if (ip.version != 4 || ip.protocol != BPFD_TCP || ip.frag_off & __builtin_bswap16(FRAGMENT_OFFSET))
    return false;
  bpfd_map_ipv4(packet->saddr, ip.saddr);
  bpfd_map_ipv4(packet->daddr, ip.daddr);
  u32 length = ip.ihl * 4; /* one that is too short is a lie: what comes next is not known */
  packet->begin = length < sizeof(ip) ? packet->end : packet->begin + length;
  return true;
}

static __always_inline bool read_ipv6(struct packet *packet) {
  struct ipv6hdr ip;
  u8 extension[2]; /* what follows, and the length in units of 8 bytes without the first */
  if (packet->begin + sizeof(ip) > packet->end || bpf_probe_read_kernel(&ip, sizeof(ip), packet->begin))
    return false;
  if (ip.version != 6)
    return false;
  __builtin_memcpy(packet->saddr, &ip.saddr, 16);
  __builtin_memcpy(packet->daddr, &ip.daddr, 16);
  packet->begin += sizeof(ip);
  u8 next = ip.nexthdr;
#pragma unroll
  for (int i = 0; i < MOST_EXTENSIONS; i++) {
    if (next != IPV6_HOP_BY_HOP && next != IPV6_ROUTING && next != IPV6_DESTINATION)
      break;
    if (packet->begin + 8 > packet->end || bpf_probe_read_kernel(extension, sizeof(extension), packet->begin))
      return false;
    next = extension[0];
    packet->begin += 8 * (extension[1] + 1);
  }
  return next == BPFD_TCP;
}

/* Is it a TCP packet? One that was not yet wrapped into IP is none. */
static __always_inline bool read_packet(struct packet *packet, struct sk_buff *skb, u16 protocol) {
  u16 network = 0;
  u32 tail = 0;
  char *head = 0;
  if (protocol != ETHERNET_IPV4 && protocol != ETHERNET_IPV6)
    return false;
  bpfd_read(head, skb->head);
  bpfd_read(network, skb->network_header);
  bpfd_read(tail, skb->tail);
  packet->begin = head + network;
  packet->end = head + tail;
  return protocol == ETHERNET_IPV4 ? read_ipv4(packet) : read_ipv6(packet);
}

/* What a socket says of itself: whose it is (the kernel keeps the user and the cgroup of who made it), and its state, if
 * it is TCP. Half sockets (a request, a connection in TIME_WAIT) have the state alone. */
static __always_inline bool read_socket(struct bpfd_event *e, struct sock *sk, u8 *state) {
  u16 family = 0;
  bpfd_read(family, sk->__sk_common.skc_family);
  bpfd_read(*state, sk->__sk_common.skc_state);
  bool is_inet = family == BPFD_AF_INET || family == BPFD_AF_INET6;
  if (is_inet && (*state == BPFD_TCP_TIME_WAIT || *state == BPFD_TCP_NEW_SYN_RECV))
    return true;
  bpfd_read(e->uid, sk->sk_uid.val);
#ifndef BPFD_CGROUP_V1
  struct cgroup *cgroup = 0;
  struct kernfs_node *node = 0;
  bpfd_read(cgroup, sk->sk_cgrp_data.cgroup);
  bpfd_read(node, cgroup->kn);
  bpfd_read(e->bpfd_cgroup_id, node->id);
#endif
  return is_inet && bpfd_is_tcp(bpfd_protocol_of(sk));
}

#define NOT_SPECIFIED 2 /* include/net/dropreason-core.h */
#ifdef BPFD_HAS_DROP_REASON
#define REASON(args) (args)->reason
#else
#define REASON(args) NOT_SPECIFIED
#endif
#ifdef BPFD_HAS_RX_SOCKET
#define RECEIVER(args) (struct sock *)(args)->rx_sk
#else
#define RECEIVER(args) (struct sock *)0
#endif

/* Was the packet used, whatever the kernel calls what it does with it? */
static __always_inline bool is_used(u32 reason) {
#ifdef BPFD_HAS_DROP_REASON
#ifdef BPFD_HAS_SKB_CONSUMED
  if (reason == SKB_CONSUMED)
    return true;
#endif
  return reason == SKB_NOT_DROPPED_YET;
#else
  return false;
#endif
}

/* Did the packet reach its socket? The kernel frees, as if they were dropped, with no reason the FIN that ends a
 * connection in TIME_WAIT (tcp_v4_rcv), and with the reason QUEUE_PURGE what lies in the queue of a socket that is no more:
 * of a sniffer's (raw) these are copies; of TCP's a FIN, with nothing in it. */
static __always_inline bool has_arrived(struct sk_buff *skb, u32 reason, bool is_tcp, u8 state) {
  if (reason == NOT_SPECIFIED && is_tcp && state == BPFD_TCP_TIME_WAIT)
    return true;
#ifdef BPFD_HAS_QUEUE_PURGE
  u32 length = 0;
  bpfd_read(length, skb->len);
  return reason == SKB_DROP_REASON_QUEUE_PURGE && (!is_tcp || !length);
#else
  return false;
#endif
}

TRACEPOINT_PROBE(skb, kfree_skb) {
  struct sk_buff *skb = (struct sk_buff *)args->skbaddr;
  struct sock *receiver = RECEIVER(args), *sk = receiver;
  struct packet packet = {};
  u8 tcp[TCP_FLAGS_END] = {}, state = 0;
  u32 reason = REASON(args);
  if (is_used(reason) || !read_packet(&packet, skb, args->protocol))
    return 0;
  struct bpfd_event *e = bpfd_nobody();
  if (!e)
    return 0;
  if (!sk)
    bpfd_read(sk, skb->sk);
  bool is_tcp = sk && read_socket(e, sk, &state);
  if ((receiver && !is_tcp) || has_arrived(skb, reason, is_tcp, state))
    return 0; /* who receives TCP packets with another socket is a sniffer, and has copies */
  e = bpfd_begin_other();
  if (!e)
    return 0;
  __builtin_memcpy(e->saddr, packet.saddr, 16);
  __builtin_memcpy(e->daddr, packet.daddr, 16);
  if (packet.begin + sizeof(tcp) <= packet.end && !bpf_probe_read_kernel(tcp, sizeof(tcp), packet.begin)) {
    e->sport = tcp[0] << 8 | tcp[1];
    e->dport = tcp[2] << 8 | tcp[3];
    e->flags = (tcp[12] & 1) << 8 | tcp[13];
  }
  if (is_tcp)
    bpfd_constant(e, state, KIND_STATE, state);
  bpfd_constant(e, reason, KIND_REASON, reason);
  return bpfd_submit(args, e);
}
