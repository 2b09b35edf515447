/* What the tracers open and open32 share: an open as an event, by whichever call. */
#include "filter.h"
#include "arguments.h"
#include "name.h"

#define O_CREAT_WRONLY_TRUNC 01101
#define O_CREAT_OR_TMPFILE (0100 | 020000000)
#define O_WRONLY 01
#define O_CREAT 0100
#define O_WRITES (O_WRONLY | 02 | O_CREAT | 01000) /* O_RDWR, O_TRUNC */
#if defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
#define O_LARGEFILE 0400000 /* which the kernel adds */
#else
#define O_LARGEFILE 0100000
#endif
#define O_PATH 010000000 /* with it the kernel does not look at the others (open(2)) */

/* As VIA in open.py. */
enum via { OPENAT, OPENAT2, OPEN, CREAT, OPEN_BY_HANDLE_AT, IO_URING };

/* What the late step has to know: where the name starts; that it has to read the arguments that the probe left; that
 * the name is all there is, though the call did not fail. */
enum kept { DIRECTORY, ARGUMENTS_LEFT, NAME_ALONE };

static __always_inline void keep_flags(struct bpfd_event *e, u64 flags) {
  e->flags = flags;
  if (flags & O_PATH)
    return;
  e->reads = !(flags & O_WRONLY);
  e->writes = flags & O_WRITES ? 1 : 0;
  e->creates = flags & O_CREAT ? 1 : 0;
}

static __always_inline void tell_opened(struct bpfd_event *e, int descriptor) {
  struct path path;
  struct super_block *super;
  struct inode *inode;
  u32 device = 0;
  u16 mode = 0;
  if (!bpfd_file_of(descriptor, &path))
    return;
  bpfd_read(inode, path.dentry->d_inode);
  bpfd_read(mode, inode->i_mode);
  bpfd_read(e->inode, inode->i_ino);
  bpfd_read(super, inode->i_sb);
  bpfd_read(device, super->s_dev);
  e->device = device;
  e->file_type = mode >> 12;
  bpfd_path_string(e, path, path);
  if (bpfd_is_bind_mount(&path))
    bpfd_origin_string(e, origin, path);
}

BPFD_LATE(e) {
  if (e->bpfd_own[ARGUMENTS_LEFT]) {
    struct pt_regs *registers = bpfd_registers();
    e->bpfd_own[DIRECTORY] = bpfd_argument(registers, 0);
    e->mode = bpfd_argument(registers, 3);
  }
  if (!(e->flags & O_CREAT_OR_TMPFILE))
    e->mode = 0; /* the kernel does not look at it (open(2)), and neither do we: it may be anything */
  e->mode &= 07777;
  if (e->return_value >= 0 && !e->bpfd_own[NAME_ALONE])
    tell_opened(e, e->return_value);
  else if (e->via != OPEN_BY_HANDLE_AT)
    bpfd_absolute_name(e, path, filename, e->bpfd_own[DIRECTORY]);
}

static __always_inline void keep(struct bpfd_event *e, enum via via, long result, int directory, u64 flags, u64 mode) {
  keep_flags(e, flags);
  e->mode = mode;
  e->via = via;
  e->return_value = result;
  e->bpfd_own[DIRECTORY] = directory;
  e->bpfd_own[ARGUMENTS_LEFT] = e->bpfd_own[NAME_ALONE] = 0;
}

static __always_inline int opened(void *args, enum via via, long result, int directory, u64 name,
                                  struct open_how *how) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  if (via != OPEN_BY_HANDLE_AT)
    bpfd_user_string(e, filename, name);
  keep(e, via, result, directory, how->flags, how->mode);
  return bpfd_submit(args, e);
}
