#include "filter.h"
#include "arguments.h"
#include "constant.h"
#include "name.h"
#include "pid.h"

#define NSFS_MAGIC 0x6e736673
#define PIDFS_MAGIC 0x50494446

/* The file system that a file is of, and what that file system keeps with it. */
static __always_inline u64 kind_of(struct path *path, void **kept) {
  struct super_block *super;
  struct inode *inode;
  u64 magic = 0;
  bpfd_read(inode, path->dentry->d_inode);
  bpfd_read(*kept, inode->i_private);
  bpfd_read(super, inode->i_sb);
  bpfd_read(magic, super->s_magic);
  return magic;
}

static __always_inline void name_space(struct bpfd_event *e, struct ns_common *space) {
  const struct proc_ns_operations *operations;
  const char *name;
  u32 number = 0;
  bpfd_read(number, space->inum);
  bpfd_read(operations, space->ops);
  bpfd_read(name, operations->name);
  bpfd_kernel_string(e, type, name);
  e->inode = number;
}

static __always_inline void name_target(struct bpfd_event *e, struct pid *pid) {
  struct task_struct *task = bpfd_task_of(pid);
  u32 number = 0;
  bpfd_read(number, pid->numbers[0].nr);
  e->target = number;
  if (task)
    bpfd_kernel_string(e, target_command, task->comm);
}

TRACEPOINT_PROBE(syscalls, sys_exit_setns) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct pt_regs *registers = bpfd_registers();
  struct path path;
  void *kept = 0;
  bpfd_literal(e, call, "setns");
  e->flags = (u32)bpfd_argument(registers, 1);
  e->return_value = args->ret;
  if (bpfd_file_of(bpfd_argument(registers, 0), &path)) {
    u64 magic = kind_of(&path, &kept);
    if (magic == NSFS_MAGIC)
      name_space(e, kept);
    if (magic == PIDFS_MAGIC)
      name_target(e, kept);
  }
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_unshare) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_literal(e, call, "unshare");
  e->flags = (u32)bpfd_argument(bpfd_registers(), 0);
  e->return_value = args->ret;
  return bpfd_submit(args, e);
}
