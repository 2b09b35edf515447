/* Names the file that a path leads to, as the kernel sees it: from its directory entry up through the mounts to the
 * root of the mount namespace. Nothing in user memory is trusted, so relative names, "..", symbolic links and
 * /proc/self/root cannot hide a file.
 *
 * The string is written backwards, the last name first, into the field's place; it ends where the place has half its
 * size. What does not fit, or lies deeper than BPFD_PATH_DEPTH names and mounts, is cut at the front and begins with "...".
 * The verifier's time grows with the square of that depth: 64 takes it 0.1 s, 256 takes 0.7 s.
 */
#define BPFD_PATH_DEPTH 64

struct bpfd_walk {
  struct mount *mount;
  struct dentry *dentry;
};

static __always_inline struct mount *bpfd_mount_of(struct vfsmount *mnt) {
  return (struct mount *)((char *)mnt - __builtin_offsetof(struct mount, mnt));
}

/* Where the file's mount shows only a part of its file system: a bind mount, a container's volume. */
static __always_inline bool bpfd_is_bind_mount(struct path *path) {
  struct dentry *shown, *whole;
  struct super_block *super;
  bpfd_read(shown, path->mnt->mnt_root);
  bpfd_read(super, path->mnt->mnt_sb);
  bpfd_read(whole, super->s_root);
  return shown != whole;
}

/* What leads up from a directory entry: its parent and its name lie side by side, and one read costs what ten bytes do. */
struct bpfd_step_up {
  struct dentry *parent;
  struct qstr name;
};
_Static_assert(__builtin_offsetof(struct dentry, d_name) ==
                   __builtin_offsetof(struct dentry, d_parent) + __builtin_offsetof(struct bpfd_step_up, name),
               "the parent and the name of a directory entry do not lie side by side");

/* Prepend the names from `dentry` up to the root; `mount` NULL: up to the file system's own root.
 * `begin` says where the string begins, at most `limit`, and is moved. It lives in a map because the verifier knows
 * nothing of what is there, and so takes each round of the loop to be like the one before. */
static __always_inline void bpfd_prepend(char *place, u64 limit, u16 *begin, struct mount *mount,
                                         struct dentry *dentry) {
  struct bpfd_step_up up = {};
  struct dentry *shown = 0;
  struct mount *above;
  u64 at, depth = 0;
  if (mount)
    bpfd_read(shown, mount->mnt.mnt_root);
next:
  bpf_probe_read_kernel(&up, sizeof(up), &dentry->d_parent);
  if (dentry == shown || dentry == up.parent) {
    if (!mount)
      return;
    bpfd_read(above, mount->mnt_parent);
    if (above == mount)
      return;
    bpfd_read(dentry, mount->mnt_mountpoint);
    mount = above;
    bpfd_read(shown, mount->mnt.mnt_root);
  } else {
    u64 length = up.name.len;
    bpfd_barrier(length);
    length &= 255;
    at = *begin;
    bpfd_barrier(at);
    at -= length;
    bpfd_barrier(at);
    if (bpfd_is_outside(at, 4, limit)) /* a slash, and room for the mark */
      goto cut;
    bpf_probe_read_kernel(place + at, length, up.name.name);
    place[at - 1] = '/';
    *begin = at - 1;
    dentry = up.parent;
  }
  if (++depth < BPFD_PATH_DEPTH)
    bpfd_again(next);
cut:
  at = *begin;
  bpfd_barrier(at);
  if (bpfd_is_outside(at, 3, limit))
    return;
  place[at - 1] = place[at - 2] = place[at - 3] = '.';
  *begin = at - 3;
}

#define BPFD_KIND_BYTES 16

/* A pipe or a namespace has no name either: it is called by the kind of its file system, "/pipefs". */
static __always_inline void bpfd_kind_name(char *place, u64 limit, u16 *begin, struct dentry *dentry) {
  char kind[BPFD_KIND_BYTES] = {};
  struct file_system_type *type;
  struct super_block *super;
  const char *name;
  bpfd_read(super, dentry->d_sb);
  bpfd_read(type, super->s_type);
  bpfd_read(name, type->name);
  u64 length = bpf_probe_read_kernel_str(kind, sizeof(kind), name) - 1;
  bpfd_barrier(length);
  if (length >= sizeof(kind))
    return;
  u64 at = limit - length;
  bpfd_barrier(at);
  if (bpfd_is_outside(at, 1, limit))
    return;
  bpf_probe_read_kernel(place + at, length, kind);
  place[at - 1] = '/';
  *begin = at - 1;
}

/* Is the mount the kernel's own, in no namespace (MNT_NS_INTERNAL, an error as a pointer, fs/mount.h)? */
static __always_inline bool bpfd_is_internal(struct mount *mount) {
  struct mnt_namespace *space;
  bpfd_read(space, mount->mnt_ns);
  return (unsigned long)space >= (unsigned long)-4095;
}

/* A file that has no path (memfd) is called by its own name; the root is "/". */
static __always_inline void bpfd_own_name(char *place, u64 limit, u16 *begin, struct mount *mount,
                                          struct dentry *dentry) {
  struct qstr name;
  char first = 0;
  bpfd_read(name, dentry->d_name);
  bpfd_read(first, *name.name);
  if ((!first || first == '/') && bpfd_is_internal(mount)) {
    bpfd_kind_name(place, limit, begin, dentry);
    return;
  }
  u64 length = name.len;
  bpfd_barrier(length);
  length &= 255;
  u64 at = limit - length;
  bpfd_barrier(at);
  if (bpfd_is_outside(at, 1, limit))
    return;
  bpf_probe_read_kernel(place + at, length, name.name);
  if (place[at] != '/') {
    at -= 1;
    place[at] = '/';
  }
  *begin = at;
}

#define bpfd_begin_path(e, field) ((e)->bpfd_start[BPFD_NUMBER_##field] = BPFD_LENGTH_##field - 1)
#define bpfd_end_path(e, field)                                                                                      \
  ((e)->bpfd_length[BPFD_NUMBER_##field] = BPFD_LENGTH_##field - 1 - (e)->bpfd_start[BPFD_NUMBER_##field])

/* The path of `path` (a kernel struct path, copied) in the mount namespace's view. */
#define bpfd_path_string(e, field, path)                                                                             \
  {                                                                                                                  \
    u64 limit = bpfd_begin_path(e, field);                                                                           \
    u16 *begin = &(e)->bpfd_start[BPFD_NUMBER_##field];                                                              \
    bpfd_prepend((e)->field, limit, begin, bpfd_mount_of((path).mnt), (path).dentry);                                \
    if (*begin == limit)                                                                                             \
      bpfd_own_name((e)->field, limit, begin, bpfd_mount_of((path).mnt), (path).dentry);                             \
    bpfd_end_path(e, field);                                                                                         \
  }

/* The path of `path` inside its own file system. */
#define bpfd_origin_string(e, field, path)                                                                           \
  {                                                                                                                  \
    u64 limit = bpfd_begin_path(e, field);                                                                           \
    bpfd_prepend((e)->field, limit, &(e)->bpfd_start[BPFD_NUMBER_##field], 0, (path).dentry);                        \
    bpfd_end_path(e, field);                                                                                         \
  }
