#include "filter.h"
#include "arguments.h"
#include "constant.h"
#include "name.h"

/* Threads of programs that were started inside a container, or that descend from one, with the mount namespace where that
 * was; 0: where they are met first. The runtime's own process, on its way into the container, is none of them, and neither
 * is the host's: for those an open costs one look. */
#define COUNT_UNTRACKED 0
#define MOST_INSIDERS 131072
BPF_F_TABLE("hash", u32, u64, insiders, MOST_INSIDERS, BPF_F_NO_PREALLOC);
/* The newest mount of each namespace when the first program was started there: later ones came while it ran. */
BPF_F_TABLE("lru_hash", u64, u64, begun, 16384, 0);
/* The number of the host's mount namespace. */
BPF_ARRAY(host_space, u32, 1);

#define DEEP 64

/* What tells a mount namespace from every other, also from those that are gone: the number of its root's mount. */
static __always_inline u64 space_id(struct mnt_namespace *space) {
#ifdef BPFD_HAS_MOUNT_IDS
  struct mount *root;
  u64 id = 0;
  bpfd_read(root, space->root);
  bpfd_read(id, root->mnt_id_unique);
  return id;
#else
  u32 number = 0;
  bpfd_read(number, space->ns.inum);
  return number;
#endif
}

/* A namespace's mounts are sorted by their numbers, and numbers grow: the newest is at the right. */
static __always_inline u64 newest_mount(struct mnt_namespace *space) {
  u64 id = 0;
#ifdef BPFD_HAS_MOUNT_IDS
  struct rb_node *node, *right;
  bpfd_read(node, space->mounts.rb_node);
#pragma nounroll
  for (int i = 0; i < DEEP && node; i++) {
    bpfd_read(right, node->rb_right);
    if (!right)
      break;
    node = right;
  }
  if (node) {
    struct mount *mount = (struct mount *)((char *)node - __builtin_offsetof(struct mount, mnt_node));
    bpfd_read(id, mount->mnt_id_unique);
  }
#endif
  return id;
}

static __always_inline void begin_space(struct mnt_namespace *space, u64 id) {
  u64 newest = newest_mount(space);
  if (!begun.lookup(&id))
    begun.update(&id, &newest);
}

static __always_inline void track(u32 thread, u64 origin) {
  if (insiders.update(&thread, &origin))
    bpfd_count(COUNT_UNTRACKED);
}

static __always_inline bool is_host_space(struct mnt_namespace *space) {
  int zero = 0;
  u32 number = 0, *host = host_space.lookup(&zero);
  bpfd_read(number, space->ns.inum);
  return host && *host == number;
}

/* Is the current process the host's, as far as is known? */
static __always_inline bool on_host(void) {
  u64 cgroup = bpfd_cgroup();
  u32 *scope = bpfd_scope.lookup(&cgroup);
  return scope && *scope == BPFD_SCOPE_HOST;
}

TRACEPOINT_PROBE(sched, sched_process_exec) {
  struct task_struct *task = bpf_get_current_task_btf();
  u32 thread = task->pid, before = args->old_pid;
  struct mnt_namespace *space = task->nsproxy->mnt_ns;
  u64 id = 0, *origin = insiders.lookup(&before);
  if (origin)
    id = *origin;
  else if (on_host())
    return 0;
  if (before != thread)
    insiders.delete(&before); /* the thread goes on under the number of the first, which has ended */
  if (is_host_space(space)) {
    if (origin)
      track(thread, id);
    return 0;
  }
  u64 here = space_id(space);
  begin_space(space, here);
  if (!id)
    id = here;
  track(thread, id);
  return 0;
}

TRACEPOINT_PROBE(sched, sched_process_fork) {
  u32 parent = args->parent_pid, child = args->child_pid;
  u64 *found = insiders.lookup(&parent);
  if (!found)
    return 0;
  track(child, *found);
  return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exit) {
  u32 thread = bpf_get_current_task_btf()->pid;
  if (insiders.lookup(&thread))
    insiders.delete(&thread);
  return 0;
}

/* The kernel's own file systems say what the reader may know anyway; /dev has devices, and those have guards of their own. */
static __always_inline bool is_harmless(u64 magic, u32 mode) {
  switch (magic) {
  case 0x9fa0:     /* proc */
  case 0x62656572: /* sysfs */
  case 0x27e0eb:   /* cgroup */
  case 0x63677270: /* cgroup2 */
  case 0x1cd1:     /* devpts */
  case 0x19800202: /* mqueue */
    return true;
  }
  return (mode & 0170000) == 0020000;
}

/* Does the file lie outside of what its mount shows? A handle leads anywhere in the file system. */
static __always_inline bool is_outside(struct dentry *dentry, struct dentry *shown) {
  struct dentry *parent;
#pragma nounroll
  for (int depth = 0; depth < DEEP; depth++) {
    if (dentry == shown)
      return false;
    bpfd_read(parent, dentry->d_parent);
    if (parent == dentry)
      return true;
    dentry = parent;
  }
  return false;
}

enum reason { INSIDE, HOST_NAMESPACE, OTHER_NAMESPACE, OUTSIDE_MOUNT, MOUNTED_LATER };
#define REQUIRES_DISK 1 /* FS_REQUIRES_DEV */

/* A file of the task's own mount namespace. */
static __always_inline enum reason why_here(struct mnt_namespace *here, struct mount *mount, struct dentry *dentry,
                                            struct super_block *super) {
  struct file_system_type *type;
  struct dentry *shown, *whole;
  int flags = 0;
  bpfd_read(type, super->s_type);
  bpfd_read(flags, type->fs_flags);
  if (!(flags & REQUIRES_DISK))
    return INSIDE;
  bpfd_read(shown, mount->mnt.mnt_root);
  bpfd_read(whole, super->s_root);
  if (shown != whole && is_outside(dentry, shown))
    return OUTSIDE_MOUNT;
#ifdef BPFD_HAS_MOUNT_IDS
  u64 id = space_id(here), number = 0, *newest = begun.lookup(&id);
  bpfd_read(number, mount->mnt_id_unique);
  if (newest && number > *newest)
    return MOUNTED_LATER;
#endif
  return INSIDE;
}

static __always_inline enum reason why(struct task_struct *task, u64 origin, struct path *path) {
  struct mount *mount = bpfd_mount_of(path->mnt);
  struct mnt_namespace *here = task->nsproxy->mnt_ns, *space;
  struct super_block *super, *own;
  struct inode *inode;
  u64 magic = 0;
  u16 mode = 0;
  bpfd_read(inode, path->dentry->d_inode);
  bpfd_read(mode, inode->i_mode);
  bpfd_read(super, path->dentry->d_sb);
  bpfd_read(magic, super->s_magic);
  bpfd_read(space, mount->mnt_ns);
  if (is_harmless(magic, mode) || (unsigned long)space >= (unsigned long)-4095)
    return INSIDE;
  if (is_host_space(here))
    return HOST_NAMESPACE;
  if (space == here)
    return why_here(here, mount, path->dentry, super);
  own = task->fs->root.mnt->mnt_sb;
  if (super == own || (space && space_id(space) == origin))
    return INSIDE;
  return OTHER_NAMESPACE;
}

static __always_inline int opened(void *args, long descriptor, u64 name) {
  struct task_struct *task = bpf_get_current_task_btf();
  u32 thread = task->pid;
  u64 *origin = insiders.lookup(&thread);
  struct path path;
  if (!origin || descriptor < 0 || on_host())
    return 0;
  if (!*origin && !is_host_space(task->nsproxy->mnt_ns)) {
    *origin = space_id(task->nsproxy->mnt_ns);
    begin_space(task->nsproxy->mnt_ns, *origin);
  }
  if (!bpfd_file_of(descriptor, &path))
    return 0;
  enum reason reason = why(task, *origin, &path);
  if (reason == INSIDE)
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  if (reason == HOST_NAMESPACE)
    bpfd_literal(e, reason, "host-namespace");
  if (reason == OTHER_NAMESPACE)
    bpfd_literal(e, reason, "other-namespace");
  if (reason == OUTSIDE_MOUNT)
    bpfd_literal(e, reason, "outside-mount");
  if (reason == MOUNTED_LATER)
    bpfd_literal(e, reason, "mounted-later");
  e->return_value = descriptor;
  if (name)
    bpfd_user_string(e, filename, name);
  return bpfd_submit(args, e);
}

BPFD_LATE(e) {
  struct path path;
  if (!bpfd_file_of(e->return_value, &path))
    return;
  bpfd_path_string(e, path, path);
  if (bpfd_is_bind_mount(&path))
    bpfd_origin_string(e, origin, path);
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat) {
  return opened(args, args->ret, bpfd_argument(bpfd_registers(), 1));
}

TRACEPOINT_PROBE(syscalls, sys_exit_openat2) {
  return opened(args, args->ret, bpfd_argument(bpfd_registers(), 1));
}

TRACEPOINT_PROBE(syscalls, sys_exit_open_by_handle_at) { return opened(args, args->ret, 0); }

#ifdef BPFD_HAS_sys_exit_open
TRACEPOINT_PROBE(syscalls, sys_exit_open) { return opened(args, args->ret, bpfd_argument(bpfd_registers(), 0)); }
#endif

#ifdef BPFD_HAS_sys_exit_creat
TRACEPOINT_PROBE(syscalls, sys_exit_creat) { return opened(args, args->ret, bpfd_argument(bpfd_registers(), 0)); }
#endif
