#include "filter.h"
#include "arguments.h"
#include "constant.h"
#include "name.h"

#define MS_BIND 0x1000
#define MS_MOVE 0x2000
#define MS_MGC_VAL 0xC0ED0000 /* which old programs set, and the kernel takes out */

enum call { MOUNT, UMOUNT, MOVE_MOUNT, FSMOUNT, OPEN_TREE, MOUNT_SETATTR, PIVOT_ROOT, OPEN_TREE_ATTR };
/* What the late step has to know: where the names start from, and whether the source is a path. */
enum kept { SOURCE_IS_PATH, SOURCE_DIRECTORY, TARGET_DIRECTORY };

BPFD_LATE(e) {
  if (e->bpfd_own[SOURCE_IS_PATH] && e->bpfd_length[BPFD_NUMBER_source])
    bpfd_absolute_name(e, source_path, source, e->bpfd_own[SOURCE_DIRECTORY]);
  if (e->bpfd_length[BPFD_NUMBER_target])
    bpfd_absolute_name(e, path, target, e->bpfd_own[TARGET_DIRECTORY]);
}

static __always_inline struct bpfd_event *begin(long result, enum call call, u64 flags) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->return_value = result;
  /* The calls' flags have other names: the call stands above them. */
  e->flags = flags ? (u64)call << 32 | (u32)flags : 0;
  e->bpfd_own[SOURCE_IS_PATH] = 0;
  e->bpfd_own[SOURCE_DIRECTORY] = e->bpfd_own[TARGET_DIRECTORY] = BPFD_AT_FDCWD;
  return e;
}

#define take(e, field, pointer)                                                                                      \
  if (pointer)                                                                                                       \
    bpfd_user_string(e, field, pointer);

TRACEPOINT_PROBE(syscalls, sys_exit_mount) {
  struct pt_regs *registers = bpfd_registers();
  u64 source = bpfd_argument(registers, 0), fstype = bpfd_argument(registers, 2), flags = bpfd_argument(registers, 3);
  if ((flags & 0xffff0000) == MS_MGC_VAL)
    flags &= 0xffff;
  struct bpfd_event *e = begin(args->ret, MOUNT, flags);
  if (!e)
    return 0;
  bpfd_literal(e, call, "mount");
  e->bpfd_own[SOURCE_IS_PATH] = (flags & (MS_BIND | MS_MOVE)) != 0;
  take(e, source, source);
  take(e, fstype, fstype);
  bpfd_user_string(e, target, bpfd_argument(registers, 1));
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_umount) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, UMOUNT, bpfd_argument(registers, 1));
  if (!e)
    return 0;
  bpfd_literal(e, call, "umount");
  bpfd_user_string(e, target, bpfd_argument(registers, 0));
  return bpfd_submit(args, e);
}

/* The device and the kind of file system of what a descriptor leads to. */
static __always_inline void name_mounted(struct bpfd_event *e, int descriptor) {
  struct file_system_type *type;
  struct super_block *super;
  struct path path;
  const char *name;
  if (!bpfd_file_of(descriptor, &path))
    return;
  bpfd_read(name, bpfd_mount_of(path.mnt)->mnt_devname);
  if (name)
    bpfd_kernel_string(e, source, name);
  bpfd_read(super, path.mnt->mnt_sb);
  bpfd_read(type, super->s_type);
  bpfd_read(name, type->name);
  bpfd_kernel_string(e, fstype, name);
}

/* What is to be mounted by a descriptor of fsopen(2), if it is one: such files are called "[fscontext]". */
static __always_inline void name_planned(struct bpfd_event *e, int descriptor) {
  struct file *file = bpfd_open_file(descriptor);
  struct fs_context *plan;
  struct file_system_type *type;
  struct dentry *entry;
  const char *name;
  char kind[4] = {};
  if (!file || !bpfd_is_anonymous(file))
    return;
  bpfd_read(entry, file->f_path.dentry);
  bpfd_read(name, entry->d_name.name);
  bpf_probe_read_kernel(kind, sizeof(kind), name);
  if (kind[0] != '[' || kind[1] != 'f' || kind[2] != 's' || kind[3] != 'c')
    return;
  bpfd_read(plan, file->private_data);
  bpfd_read(type, plan->fs_type);
  bpfd_read(name, type->name);
  bpfd_kernel_string(e, fstype, name);
  bpfd_read(name, plan->source);
  if (name)
    bpfd_kernel_string(e, source, name);
}

TRACEPOINT_PROBE(syscalls, sys_exit_fsmount) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, FSMOUNT, bpfd_argument(registers, 1));
  if (!e)
    return 0;
  bpfd_literal(e, call, "fsmount");
  e->attributes_set = (u32)bpfd_argument(registers, 2);
  if (args->ret >= 0)
    name_mounted(e, args->ret);
  else
    name_planned(e, bpfd_argument(registers, 0));
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(syscalls, sys_exit_move_mount) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, MOVE_MOUNT, bpfd_argument(registers, 4));
  if (!e)
    return 0;
  bpfd_literal(e, call, "move_mount");
  e->bpfd_own[SOURCE_IS_PATH] = 1;
  e->bpfd_own[SOURCE_DIRECTORY] = (int)bpfd_argument(registers, 0);
  e->bpfd_own[TARGET_DIRECTORY] = (int)bpfd_argument(registers, 2);
  bpfd_user_string(e, source, bpfd_argument(registers, 1));
  if (!e->bpfd_length[BPFD_NUMBER_source]) {
    e->bpfd_own[SOURCE_IS_PATH] = 0;
    name_mounted(e, bpfd_argument(registers, 0));
  }
  bpfd_user_string(e, target, bpfd_argument(registers, 3));
  return bpfd_submit(args, e);
}

static __always_inline void name_tree(struct bpfd_event *e, struct pt_regs *registers) {
  e->bpfd_own[SOURCE_IS_PATH] = 1;
  e->bpfd_own[SOURCE_DIRECTORY] = (int)bpfd_argument(registers, 0);
  bpfd_user_string(e, source, bpfd_argument(registers, 1));
}

/* What is asked for in the `struct mount_attr` at `address`. */
static __always_inline void name_attributes(struct bpfd_event *e, u64 address) {
  struct mount_attr asked = {};
  bpf_probe_read_user(&asked, sizeof(asked), (void *)address);
  e->attributes_set = asked.attr_set;
  e->attributes_cleared = asked.attr_clr;
}

TRACEPOINT_PROBE(syscalls, sys_exit_open_tree) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, OPEN_TREE, bpfd_argument(registers, 2));
  if (!e)
    return 0;
  bpfd_literal(e, call, "open_tree");
  name_tree(e, registers);
  return bpfd_submit(args, e);
}

#ifdef BPFD_HAS_sys_exit_open_tree_attr
TRACEPOINT_PROBE(syscalls, sys_exit_open_tree_attr) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, OPEN_TREE_ATTR, bpfd_argument(registers, 2));
  if (!e)
    return 0;
  bpfd_literal(e, call, "open_tree_attr");
  name_attributes(e, bpfd_argument(registers, 3)); /* a null pointer asks for nothing */
  name_tree(e, registers);
  return bpfd_submit(args, e);
}
#endif

#ifdef BPFD_HAS_sys_exit_mount_setattr
TRACEPOINT_PROBE(syscalls, sys_exit_mount_setattr) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, MOUNT_SETATTR, bpfd_argument(registers, 2));
  if (!e)
    return 0;
  bpfd_literal(e, call, "mount_setattr");
  name_attributes(e, bpfd_argument(registers, 3));
  e->bpfd_own[TARGET_DIRECTORY] = (int)bpfd_argument(registers, 0);
  bpfd_user_string(e, target, bpfd_argument(registers, 1));
  return bpfd_submit(args, e);
}
#endif

TRACEPOINT_PROBE(syscalls, sys_exit_pivot_root) {
  struct pt_regs *registers = bpfd_registers();
  struct bpfd_event *e = begin(args->ret, PIVOT_ROOT, 0);
  if (!e)
    return 0;
  bpfd_literal(e, call, "pivot_root");
  bpfd_user_string(e, source, bpfd_argument(registers, 0));
  bpfd_user_string(e, target, bpfd_argument(registers, 1));
  return bpfd_submit(args, e);
}
