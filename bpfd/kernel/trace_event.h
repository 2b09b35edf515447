/* The record of a trace event, field by field: what the kernel's own tracing would print. */
#define BPFD_NUMBER_AT(args, type, offset) (*(volatile type *)((char *)(args) + (offset)))
/* Where an array lies that the record holds elsewhere: its place in the low half, its length in the high one. */
#define BPFD_PLACE_AT(args, offset, base) ((char *)(args) + (base) + (BPFD_NUMBER_AT(args, u32, offset) & 0xffff))

/* Bytes as they are; what can't be read is empty. */
#define bpfd_kernel_bytes(e, field, pointer, size)                                                                   \
  {                                                                                                                  \
    u64 bytes = (size);                                                                                              \
    bpfd_barrier(bytes);                                                                                             \
    if (bytes >= BPFD_LENGTH_##field)                                                                                \
      bytes = BPFD_LENGTH_##field - 1;                                                                               \
    (e)->bpfd_length[BPFD_NUMBER_##field] =                                                                          \
        bpf_probe_read_kernel((e)->field, bytes, (void *)(pointer)) ? 0 : bytes;                                     \
  }
#define bpfd_dynamic_bytes(e, field, args, offset, base)                                                             \
  bpfd_kernel_bytes(e, field, BPFD_PLACE_AT(args, offset, base), BPFD_NUMBER_AT(args, u32, offset) >> 16)
/* A text in an array of its own, which need not end with a NUL. */
#define bpfd_array_text(e, field, args, offset, size)                                                                \
  {                                                                                                                  \
    bpf_probe_read_kernel((e)->field, size, (char *)(args) + (offset));                                              \
    (e)->field[size] = 0;                                                                                            \
    bpfd_kernel_string(e, field, (e)->field);                                                                        \
  }
#define bpfd_ipv4_at(e, field, args, offset)                                                                         \
  {                                                                                                                  \
    __builtin_memset((e)->field + 10, 0xff, 2);                                                                      \
    bpf_probe_read_kernel((e)->field + 12, 4, (char *)(args) + (offset));                                            \
  }
#define bpfd_ipv6_at(e, field, args, offset) bpf_probe_read_kernel((e)->field, 16, (char *)(args) + (offset))
