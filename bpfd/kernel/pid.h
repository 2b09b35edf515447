/* Processes by their number, as the current process counts: in its own pid namespace. */

#define BPFD_XA_DEPTH 6 /* of 64 children each: more than 31 bits */

/* What stands at `index` of an array that the kernel keeps as a tree (lib/xarray.c): an entry whose lowest bits are 10
 * leads to a node, anything else is what was looked for. */
static __always_inline void *bpfd_at_index(struct xarray *array, u64 index) {
  unsigned long entry = 0;
  bpfd_read(entry, array->xa_head);
  u8 top = 0;
  if ((entry & 3) != 2)
    return index ? 0 : (void *)entry;
  bpfd_read(top, ((struct xa_node *)(entry - 2))->shift);
#define BPFD_XA_SLOTS (sizeof(((struct xa_node *)0)->slots) / sizeof(void *))
  if (index >= (u64)BPFD_XA_SLOTS << (top & 63))
    return 0;
#pragma nounroll
  for (int depth = 0; depth < BPFD_XA_DEPTH; depth++) {
    u8 shift = 0;
    struct xa_node *node = (struct xa_node *)(entry - 2);
    bpfd_read(shift, node->shift);
    u64 slot = (index >> (shift & 63)) % BPFD_XA_SLOTS;
    bpfd_read(entry, node->slots[slot]);
    if ((entry & 3) != 2)
      return (void *)entry;
  }
  return 0;
}

/* The thread that the current process knows as `number`; NULL: there is none. */
static __always_inline struct pid *bpfd_pid_of(u32 number) {
  struct task_struct *task = bpf_get_current_task_btf();
  struct pid *own = task->thread_pid;
  struct pid_namespace *space = 0;
  u32 base = 0;
  bpfd_read(space, own->numbers[own->level].ns);
  bpfd_read(base, space->idr.idr_base);
  return bpfd_at_index(&space->idr.idr_rt, number - base);
}

/* The thread (PIDTYPE_PID is 0) that a struct pid is of; NULL: it has ended. */
static __always_inline struct task_struct *bpfd_task_of(struct pid *pid) {
  struct hlist_node *first = 0;
  bpfd_read(first, pid->tasks[0].first);
  return first ? (struct task_struct *)((char *)first - __builtin_offsetof(struct task_struct, pid_links)) : 0;
}
