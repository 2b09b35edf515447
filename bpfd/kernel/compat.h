/* Is the current system call one of a 32-bit program? */
static __always_inline u64 bpfd_is_compat(void) {
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
  return bpf_get_current_task_btf()->thread_info.flags >> 22 & 1; /* TIF_32BIT, arch/arm64/include/asm/thread_info.h */
#else
  return bpf_get_current_task_btf()->thread_info.status >> 1 & 1; /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
#endif
}
