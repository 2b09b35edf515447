/* A system call's number, and its arguments at its exit, from the registers that the kernel saved at its entry. */
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
#define BPFD_CALL_NUMBER syscallno
#define BPFD_ARGUMENT_0 orig_x0
#define BPFD_ARGUMENT_1 regs[1]
#define BPFD_ARGUMENT_2 regs[2]
#define BPFD_ARGUMENT_3 regs[3]
#define BPFD_ARGUMENT_4 regs[4]
#define BPFD_ARGUMENT_5 regs[5]
#else
#define BPFD_CALL_NUMBER orig_ax
#define BPFD_ARGUMENT_0 di
#define BPFD_ARGUMENT_1 si
#define BPFD_ARGUMENT_2 dx
#define BPFD_ARGUMENT_3 r10
#define BPFD_ARGUMENT_4 r8
#define BPFD_ARGUMENT_5 r9
#endif
#define bpfd_registers_of(task) ((struct pt_regs *)bpf_task_pt_regs(task))
#define bpfd_registers() bpfd_registers_of(bpf_get_current_task_btf())
#define bpfd_argument(registers, number) ((u64)(registers)->BPFD_ARGUMENT_##number)
#define bpfd_call_number(registers) ((u64)(registers)->BPFD_CALL_NUMBER)
