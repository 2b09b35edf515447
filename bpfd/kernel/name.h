/* Names as programs pass them to system calls, and the files and directories that their descriptors lead to.
 *
 *   bpfd_file_of(descriptor, &path)                    the file behind a descriptor of the current process
 *   bpfd_absolute_name(e, path, filename, directory)   `filename` made absolute, into the field `path`
 *
 * The name is joined to the directory that it starts from, and not followed: what is a symbolic link stays one, and
 * `.` and `..` are for Python to take out (bpfd/tracers/names.py).
 */
#include "descriptor.h"
#include "path.h"

#define BPFD_AT_FDCWD -100

/* The path of the file behind a descriptor of the current process. */
static __always_inline bool bpfd_file_of(int descriptor, struct path *path) {
  struct file *file = bpfd_open_file(descriptor);
  return file && !bpfd_read(*path, file->f_path);
}

/* The directory that a name with this first character starts from: the root that the process has (chroot), or the
 * descriptor, or the working directory. */
static __always_inline bool bpfd_start_of(char first, int directory, struct path *path) {
  struct fs_struct *fs = bpf_get_current_task_btf()->fs;
  if (first == '/') {
    path->mnt = fs->root.mnt;
    path->dentry = fs->root.dentry;
    return true;
  }
  if (directory != BPFD_AT_FDCWD)
    return bpfd_file_of(directory, path);
  path->mnt = fs->pwd.mnt;
  path->dentry = fs->pwd.dentry;
  return true;
}

/* `name`, of `length` bytes and less than `most`, behind its directory, so that it ends at `limit`. Where there is no
 * such directory it is "?"; a name that could not be read is "?" alone, for nobody knows where it starts from. */
static __always_inline void bpfd_make_absolute(char *place, u64 limit, u16 *begin, const char *name, u64 length,
                                               u64 most, int directory) {
  struct path start;
  bpfd_barrier(length);
  if (length >= most)
    return;
  u64 at = limit - length;
  bpfd_barrier(at);
  if (bpfd_is_outside(at, 2, limit))
    return;
  bpf_probe_read_kernel(place + at, length, name);
  *begin = at;
  if (bpfd_is_unread(name, length))
    return;
  if (name[0] != '/' || !length) {
    place[at - 1] = '/';
    *begin = at - 1;
  }
  if (bpfd_start_of(length ? name[0] : 0, directory, &start))
    bpfd_prepend(place, limit, begin, bpfd_mount_of(start.mnt), start.dentry);
  else {
    place[at - 2] = '?';
    *begin = at - 2;
  }
}

/* The string field `name` made absolute, into the string field `field`, which must be longer: it has room for the
 * directory in front. `directory` is a descriptor, or BPFD_AT_FDCWD. */
#define bpfd_absolute_name(e, field, name, directory)                                                                \
  {                                                                                                                  \
    u64 limit = bpfd_begin_path(e, field);                                                                           \
    bpfd_make_absolute((e)->field, limit, &(e)->bpfd_start[BPFD_NUMBER_##field], (e)->name,                          \
                       (e)->bpfd_length[BPFD_NUMBER_##name], BPFD_LENGTH_##name, directory);                         \
    bpfd_end_path(e, field);                                                                                         \
  }
