/* Arguments of system calls: buffers with a length of their own, and socket addresses.
 *
 * What is at `pointer`: `wanted` bytes; where these can't all be read, as many as the call took; else "?". Who writes from
 * a buffer that ends too soon has written what there is. NULL: nothing. */
static __always_inline u16 bpfd_take_bytes(char *place, u64 room, const void *pointer, s64 wanted, s64 taken) {
  u64 bytes = wanted < 0 ? 0 : wanted;
  bpfd_barrier(bytes);
  if (bytes >= room)
    bytes = room - 1;
  if (!pointer || !bytes)
    return 0;
  if (!bpf_probe_read_user(place, bytes, pointer))
    return bytes;
  bytes = taken < 0 ? 0 : taken;
  bpfd_barrier(bytes);
  if (!bpfd_is_outside(bytes, 1, room - 1) && bytes < (u64)wanted && !bpf_probe_read_user(place, bytes, pointer))
    return bytes;
  place[0] = '?';
  return 1;
}
#define bpfd_user_bytes(e, field, pointer, size)                                                                     \
  {                                                                                                                  \
    (e)->bpfd_length[BPFD_NUMBER_##field] =                                                                          \
        bpfd_take_bytes((e)->field, BPFD_LENGTH_##field, (void *)(pointer), size, (e)->return_value);                \
  }

static __always_inline s64 bpfd_length_at(u64 pointer) {
  s32 length = 0;
  return bpf_probe_read_user(&length, sizeof(length), (void *)pointer) ? 0 : length;
}

struct bpfd_sockaddr {
  u16 family, port;
  u32 ipv4;
  u8 ipv6[16];
};

/* A socket address's bytes, and of the internet's its address and port as numbers, where it is whole: 16 bytes for IPv4, 24
 * for IPv6, which the kernel takes without a scope (SIN6_LEN_RFC2133 in include/net/ipv6.h). */
#define bpfd_socket_address(e, field, pointer, size)                                                                 \
  {                                                                                                                  \
    bpfd_user_bytes(e, field, pointer, size);                                                                        \
    struct bpfd_sockaddr *given = (void *)(e)->field;                                                                \
    u16 had = (e)->bpfd_length[BPFD_NUMBER_##field];                                                                 \
    if (had >= 16 && given->family == 2) {                                                                            \
      __builtin_memset((e)->address + 10, 0xff, 2);                                                                  \
      __builtin_memcpy((e)->address + 12, &given->ipv4, 4);                                                          \
      (e)->port = bpf_ntohs(given->port);                                                                            \
    } else if (had >= 24 && given->family == 10) {                                                                   \
      __builtin_memcpy((e)->address, given->ipv6, 16);                                                               \
      (e)->port = bpf_ntohs(given->port);                                                                            \
    }                                                                                                                \
  }
