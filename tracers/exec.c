#include "filter.h"
#include "arguments.h"
#include "path.h"

/* What is cut has its mark from Python. However short the arguments are, so many are more than the kernel judges: a text
 * with a mark is always left to Python. */
#define MOST_ARGUMENTS (BPFD_WALK + 1)

static __always_inline void name_cwd(struct bpfd_event *e, struct task_struct *task) {
  struct path path = {task->fs->pwd.mnt, task->fs->pwd.dentry};
  bpfd_path_string(e, cwd, path);
}

static __always_inline void name_parent(struct bpfd_event *e, struct task_struct *task) {
  struct task_struct *parent = task->real_parent->group_leader;
  bpfd_kernel_string(e, parent, parent->comm);
  e->parent_duration = bpf_ktime_get_boot_ns() - parent->start_boottime;
}

/* The new program's arguments lie one after the other on its new stack; the kernel has just written them. */
static __always_inline void copy_arguments(struct bpfd_event *e, struct mm_struct *mm) {
  unsigned long begin = mm->arg_start;
  u64 length = mm->arg_end - begin;
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

BPFD_LATE(e) {
  bpfd_name_ancestors(e, (struct task_struct *)bpf_get_current_task());
  if (e->ancestors_length)
    bpfd_kernel_string(e, ancestors, e->bpfd_ancestors);
}

/* Is the file in no directory any more, or was in none ever? Some file systems count no links, so a name counts too. */
static __always_inline bool is_fileless(struct file *file) {
  struct dentry *dentry = file->f_path.dentry;
  return !file->f_inode->i_nlink && !dentry->d_hash.pprev;
}

/* Its arguments are the task, its number before, and what there is to know of the program (include/trace/events/sched.h). */
RAW_TRACEPOINT_PROBE(sched_process_exec) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  struct mm_struct *mm = task->mm;
  struct file *file = mm->exe_file;
  struct linux_binprm *asked = (struct linux_binprm *)ctx->args[2];
  const char *name = 0, *interpreter = 0;
  struct path path = {file->f_path.mnt, file->f_path.dentry};
  bpfd_read(name, asked->filename);
  bpfd_read(interpreter, asked->interp);
  bpfd_kernel_string(e, filename, name);
  if (interpreter != name)
    bpfd_kernel_string(e, interpreter, interpreter);
  e->fileless = is_fileless(file);
  copy_arguments(e, mm);
  bpfd_path_string(e, path, path);
  name_cwd(e, task);
  name_parent(e, task);
  return bpfd_submit(ctx, e);
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
    /* One byte more than is kept, to see what is cut. */
    long got = bpf_probe_read_user_str(e->argv + at, BPFD_LENGTH_argv + 1, argument);
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
  struct task_struct *task = bpf_get_current_task_btf();
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
