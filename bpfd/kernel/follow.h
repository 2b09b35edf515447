/* For tracers whose probes follow programs by name, `uprobe:bash,sh:readline`: tells the daemon (follow.py) of each program
 * of such a name that starts, unless it knows the file already. */
struct bpfd_file {
  u64 device, inode, size, generation;
};
struct bpfd_newcomer {
  struct bpfd_file file;
  u64 pid;
};
BPF_F_TABLE("lru_hash", struct bpfd_file, u32, bpfd_known, 4096, 0);
BPF_RINGBUF_OUTPUT(bpfd_newcomers, 4);

TRACEPOINT_PROBE(sched, sched_process_exec) {
  struct task_struct *task = bpf_get_current_task_btf();
  struct bpfd_newcomer newcomer = {};
  u64 name[2] = {};
  bpf_get_current_comm(name, sizeof(name));
  if (!BPFD_IS_FOLLOWED(name[0], name[1]))
    return 0;
  struct mm_struct *mm = task->mm;
  struct file *file = mm ? mm->exe_file : 0;
  if (!file)
    return 0;
  struct inode *inode = file->f_inode;
  newcomer.file.device = inode->i_sb->s_dev;
  newcomer.file.inode = inode->i_ino;
  newcomer.file.size = inode->i_size;
  newcomer.file.generation = inode->i_generation;
  if (bpfd_known.lookup(&newcomer.file))
    return 0;
  newcomer.pid = task->tgid;
  /* One that finds no room is told when the file is run the next time. */
  bpfd_newcomers.ringbuf_output(&newcomer, sizeof(newcomer), 0);
  return 0;
}
