/* Arguments of system calls: buffers with a length of their own, and socket addresses. What can't be read is "?". */
#define bpfd_user_bytes(e, field, pointer, size)                                                                     \
  {                                                                                                                  \
    s64 wanted = (size);                                                                                             \
    u64 bytes = wanted < 0 ? 0 : wanted;                                                                             \
    bpfd_barrier(bytes);                                                                                             \
    if (bytes >= BPFD_LENGTH_##field)                                                                                \
      bytes = BPFD_LENGTH_##field - 1;                                                                               \
    if (bpf_probe_read_user((e)->field, bytes, (void *)(pointer)))                                                   \
      bpfd_literal(e, field, "?") else (e)->bpfd_length[BPFD_NUMBER_##field] = bytes;                                \
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

/* A socket address's bytes, and of the internet's its address and port as numbers. */
#define bpfd_socket_address(e, field, pointer, size)                                                                 \
  {                                                                                                                  \
    bpfd_user_bytes(e, field, pointer, size);                                                                        \
    struct bpfd_sockaddr *given = (void *)(e)->field;                                                                \
    u16 had = (e)->bpfd_length[BPFD_NUMBER_##field];                                                                 \
    if (had >= 8 && given->family == 2) {                                                                            \
      __builtin_memset((e)->address + 10, 0xff, 2);                                                                  \
      __builtin_memcpy((e)->address + 12, &given->ipv4, 4);                                                          \
      (e)->port = bpf_ntohs(given->port);                                                                            \
    } else if (had >= 24 && given->family == 10) {                                                                   \
      __builtin_memcpy((e)->address, given->ipv6, 16);                                                               \
      (e)->port = bpf_ntohs(given->port);                                                                            \
    }                                                                                                                \
  }
