/* A system call's arguments at its exit, from the registers that the kernel saved at its entry. */
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
static __always_inline u64 bpfd_argument(int number) {
  struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
  u64 value = 0;
  if (number == 0)
    bpfd_read(value, registers->orig_x0);
  else
    bpfd_read(value, registers->regs[number]);
  return value;
}
#else
static __always_inline u64 bpfd_argument(int number) {
  struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
  u64 value = 0;
  switch (number) {
  case 0: bpfd_read(value, registers->di); break;
  case 1: bpfd_read(value, registers->si); break;
  case 2: bpfd_read(value, registers->dx); break;
  case 3: bpfd_read(value, registers->r10); break;
  case 4: bpfd_read(value, registers->r8); break;
  case 5: bpfd_read(value, registers->r9); break;
  }
  return value;
}
#endif
