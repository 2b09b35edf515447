/* The open file behind a descriptor of the current process; NULL: there is none. Another thread may have put another
 * file in its place since the call began. */
static __always_inline struct file *bpfd_open_file(int descriptor) {
  struct fdtable *table = bpf_get_current_task_btf()->files->fdt;
  struct file **open_files = table->fd, *file = 0;
  if ((u32)descriptor >= table->max_fds)
    return 0; /* what lies behind the table is no file */
  bpfd_read(file, open_files[descriptor]);
  return file;
}

#define BPFD_ANON_INODE_FS 0x09041934 /* ANON_INODE_FS_MAGIC, include/uapi/linux/magic.h */

/* Is it a file that the kernel made and named itself (anon_inode_getfd)? Files of other kinds may be called anything. */
static __always_inline bool bpfd_is_anonymous(struct file *file) {
  struct inode *inode = 0;
  struct super_block *super = 0;
  unsigned long magic = 0;
  bpfd_read(inode, file->f_inode);
  bpfd_read(super, inode->i_sb);
  bpfd_read(magic, super->s_magic);
  return magic == BPFD_ANON_INODE_FS;
}
