#include "filter.h"
#include "arguments.h"
#include "path.h"

#define MOST_ARGUMENTS 256

static __always_inline void name_cwd(struct bpfd_event *e, struct task_struct *task) {
  struct fs_struct *fs;
  struct path path = {};
  bpfd_read(fs, task->fs);
  bpfd_read(path, fs->pwd);
  bpfd_path_string(e, cwd, path);
}

static __always_inline void name_parent(struct bpfd_event *e, struct task_struct *task) {
  struct task_struct *parent;
  bpfd_read(parent, task->real_parent);
  bpfd_kernel_string(e, parent, parent->comm);
}

/* The new program's arguments lie one after the other on its new stack; the kernel has just written them. */
static __always_inline void copy_arguments(struct bpfd_event *e, struct mm_struct *mm) {
  unsigned long begin = 0, end = 0;
  bpfd_read(begin, mm->arg_start);
  bpfd_read(end, mm->arg_end);
  u64 length = end - begin;
  bpfd_barrier(length);
  if (length > BPFD_LENGTH_argv) {
    length = BPFD_LENGTH_argv;
    e->argv_truncated = 1;
  }
  if (length == 0)
    return;
  if (bpf_probe_read_user(e->argv, length, (void *)begin)) {
    e->argv[0] = '?';
    length = 2;
  }
  e->bpfd_length[BPFD_NUMBER_argv] = length - 1;
}

TRACEPOINT_PROBE(sched, sched_process_exec) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  struct mm_struct *mm;
  struct file *file;
  struct path path = {};
  bpfd_kernel_string(e, filename, (char *)args + (args->data_loc_filename & 0xffff));
  bpfd_read(mm, task->mm);
  copy_arguments(e, mm);
  bpfd_read(file, mm->exe_file);
  bpfd_read(path, file->f_path);
  bpfd_path_string(e, path, path);
  name_cwd(e, task);
  name_parent(e, task);
  return bpfd_submit(args, e);
}

/* A failed call's arguments are still the caller's array of pointers. */
static __always_inline void gather_arguments(struct bpfd_event *e, const char *const *array) {
  u16 *written = &e->bpfd_length[BPFD_NUMBER_argv];
  const char *argument = 0;
#pragma nounroll
  for (int number = 0; number < MOST_ARGUMENTS; number++) {
    if (bpf_probe_read_user(&argument, sizeof(argument), &array[number]) || !argument)
      goto ended;
    u64 at = *written;
    bpfd_barrier(at);
    if (at >= BPFD_LENGTH_argv)
      break;
    long got = bpf_probe_read_user_str(e->argv + at, BPFD_LENGTH_argv, argument);
    if (got < 0) {
      e->argv[at] = '?';
      e->argv[at + 1] = 0;
      got = 2;
    }
    *written += got;
  }
  e->argv_truncated = 1;
ended:
  if (*written > BPFD_LENGTH_argv) {
    *written = BPFD_LENGTH_argv;
    e->argv_truncated = 1;
  }
  if (*written)
    *written -= 1;
}

static __always_inline int failed(void *args, long result, const char *filename, const char *const *argv) {
  if (result >= 0)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct task_struct *task = (struct task_struct *)bpf_get_current_task();
  e->return_value = result;
  bpfd_user_string(e, filename, filename);
  gather_arguments(e, argv);
  name_cwd(e, task);
  name_parent(e, task);
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_execve) {
  struct pt_regs *registers = bpfd_registers();
  return failed(args, args->ret, (void *)bpfd_argument(registers, 0), (void *)bpfd_argument(registers, 1));
}

TRACEPOINT_PROBE(syscalls, sys_exit_execveat) {
  struct pt_regs *registers = bpfd_registers();
  return failed(args, args->ret, (void *)bpfd_argument(registers, 1), (void *)bpfd_argument(registers, 2));
}
