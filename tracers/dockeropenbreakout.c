#include "filter.h"
#include "arguments.h"
#include "constant.h"
#include "name.h"

struct insider {
  u64 origin; /* the mount namespace where the first program was started; 0: where the thread is met first */
  u64 space;  /* the one whose beginning this thread has kept; 0: none */
};
/* Threads of programs that were started inside a container, or that descend from one. The runtime's own process, on its
 * way into the container, is none of them, and neither is the host's: for those an open costs one look. */
#define COUNT_UNTRACKED 0
#define MOST_INSIDERS 131072
BPF_F_TABLE("hash", u32, struct insider, insiders, MOST_INSIDERS, BPF_F_NO_PREALLOC);
struct beginning {
  u64 newest;  /* of the namespace's mounts, when the first program was started there: later ones came while it ran */
  u64 threads; /* that keep this; it goes with the last of them */
};
BPF_F_TABLE("hash", u64, struct beginning, begun, 16384, BPF_F_NO_PREALLOC);
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

/* Have one more thread keep a namespace's beginning, if it is known. */
static __always_inline bool share(u64 id) {
  struct beginning *known = begun.lookup(&id);
  if (known)
    __sync_fetch_and_add(&known->threads, 1);
  return known != 0;
}

/* Keep a namespace's beginning for a thread: this is it, unless it is known. Gives its number, or 0 where there is no room,
 * or nothing that would be asked. */
static __always_inline u64 keep(struct mnt_namespace *space, u64 id) {
#ifdef BPFD_HAS_MOUNT_IDS
  struct beginning first = {newest_mount(space), 1};
  if (share(id) || !begun.insert(&id, &first) || share(id)) /* another processor may have been quicker */
    return id;
  bpfd_count(COUNT_UNTRACKED);
#endif
  return 0;
}

/* A thread keeps it no longer. */
static __always_inline void let_go(u64 id) {
  struct beginning *known = id ? begun.lookup(&id) : 0;
  if (!known)
    return;
  __sync_fetch_and_add(&known->threads, -1);
  if (!known->threads)
    begun.delete(&id);
}

static __always_inline void track(u32 thread, struct insider *as) {
  if (!insiders.update(&thread, as))
    return;
  let_go(as->space);
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
  struct insider now = {}, *was = insiders.lookup(&before);
  if (was)
    now = *was;
  else if (on_host())
    return 0;
  if (before != thread)
    insiders.delete(&before); /* the thread goes on under the number of the first, which has ended */
  if (is_host_space(space)) {
    if (was)
      track(thread, &now);
    return 0;
  }
  u64 here = space_id(space);
  if (now.space != here) {
    let_go(now.space);
    now.space = keep(space, here);
  }
  if (!now.origin)
    now.origin = here;
  track(thread, &now);
  return 0;
}

TRACEPOINT_PROBE(sched, sched_process_fork) {
  u32 parent = args->parent_pid, child = args->child_pid;
  struct insider *found = insiders.lookup(&parent), *stale;
  if (!found)
    return 0;
  struct insider born = *found;
  stale = insiders.lookup(&child);
  if (stale)
    let_go(stale->space); /* of one whose end was not seen */
  if (born.space && !share(born.space))
    born.space = 0;
  track(child, &born);
  return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exit) {
  u32 thread = bpf_get_current_task_btf()->pid;
  struct insider *found = insiders.lookup(&thread);
  if (!found)
    return 0;
  let_go(found->space);
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
  u64 id = space_id(here), number = 0;
  struct beginning *known = begun.lookup(&id);
  bpfd_read(number, mount->mnt_id_unique);
  if (known && number > known->newest)
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
  struct insider *insider = insiders.lookup(&thread);
  struct path path;
  if (!insider || descriptor < 0 || on_host())
    return 0;
  if (!insider->origin && !is_host_space(task->nsproxy->mnt_ns)) {
    u64 here = space_id(task->nsproxy->mnt_ns);
    insider->origin = here;
    insider->space = keep(task->nsproxy->mnt_ns, here);
  }
  if (!bpfd_file_of(descriptor, &path))
    return 0;
  enum reason reason = why(task, insider->origin, &path);
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
