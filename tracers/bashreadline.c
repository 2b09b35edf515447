#include "filter.h"
#include "follow.h"

/* Threads that were in readline(), and whether they still are. Two containers of one image have each a file that is
 * attached to, and both lead to the one below their overlays: then each probe is passed twice. The second return finds
 * that the first was there. Those that called longest ago make room: their line is counted, not told. */
BPF_F_TABLE("lru_hash", u32, u8, reading, 4096, 0);
#define COUNT_UNTRACKED 0

int uprobe__readline(struct pt_regs *registers) {
  u32 thread = bpf_get_current_pid_tgid();
  u8 yes = 1;
  reading.update(&thread, &yes);
  return 0;
}

int uretprobe__readline(struct pt_regs *registers) {
  u32 thread = bpf_get_current_pid_tgid();
  u64 line = PT_REGS_RC(registers);
  u8 *reads = reading.lookup(&thread);
  if (!reads)
    bpfd_count(COUNT_UNTRACKED);
  if (!reads || !*reads)
    return 0;
  *reads = 0;
  if (!line)
    return 0; /* the end of the input */
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_user_string(e, line, line);
  return bpfd_submit(registers, e);
}
