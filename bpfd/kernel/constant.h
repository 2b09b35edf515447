/* Numbers that have a name in the kernel's headers, told by it: so a rule on the name is judged in the kernel.
 *
 *   bpfd_constant(e, request, kind, number)     the name of `number`, or its digits, into a string field
 *
 * The tracer's `loaded` fills the table (constants.py); its kinds are numbered from 0. A field for a name has room for
 * BPFD_CONSTANT_BYTES.
 */
#define BPFD_CONSTANT_BYTES 48
#define BPFD_CONSTANT_DIGITS 10

struct bpfd_constant {
  char name[BPFD_CONSTANT_BYTES];
};
struct bpfd_constant_key {
  u32 kind, number;
};
BPF_F_TABLE("hash", struct bpfd_constant_key, struct bpfd_constant, bpfd_constants, 1024, BPF_F_NO_PREALLOC);

static __always_inline struct bpfd_constant *bpfd_find_constant(u32 kind, u32 number) {
  struct bpfd_constant_key key = {kind, number};
  return bpfd_constants.lookup(&key);
}

/* Write `number` in decimal so that it ends where `place` has BPFD_CONSTANT_DIGITS bytes; how many digits. */
static __always_inline u16 bpfd_digits(char *place, u32 number) {
  u16 digits = 0;
#pragma unroll
  for (int i = 0; i < BPFD_CONSTANT_DIGITS; i++) {
    place[BPFD_CONSTANT_DIGITS - 1 - i] = '0' + number % 10;
    digits += number || !i;
    number /= 10;
  }
  return digits;
}

#define bpfd_constant(e, field, kind, number)                                                                        \
  {                                                                                                                  \
    _Static_assert(BPFD_LENGTH_##field >= BPFD_CONSTANT_BYTES, #field ": too short for a name");                     \
    struct bpfd_constant *constant = bpfd_find_constant(kind, number);                                               \
    if (constant)                                                                                                    \
      bpfd_kernel_string(e, field, constant->name);                                                                  \
    else {                                                                                                           \
      (e)->bpfd_length[BPFD_NUMBER_##field] = bpfd_digits((e)->field, number);                                       \
      (e)->bpfd_start[BPFD_NUMBER_##field] = BPFD_CONSTANT_DIGITS - (e)->bpfd_length[BPFD_NUMBER_##field];           \
    }                                                                                                                \
  }
