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
