/* What every tracer's program includes: who acted, who wants it, emit.
 *
 *   struct bpfd_event *e = bpfd_begin();       NULL: not to be traced (the daemon's own)
 *   e->FIELD = number;                         numeric fields
 *   bpfd_user_string(e, FIELD, pointer);       string fields, from the process's memory
 *   bpfd_kernel_string(e, FIELD, pointer);     or from the kernel's
 *   return bpfd_submit(args, e);               asks whether anyone wants it, and emits
 *
 * `struct bpfd_event` is made from the tracer's fields by record.py, and stands before this text.
 * Programs run with preemption off, so a place for each processor is enough.
 */
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define bpfd_read(into, from) bpf_probe_read_kernel(&(into), sizeof(into), &(from))
#define bpfd_barrier(value) asm volatile("" : "+r"(value))

struct bpfd_counts {
  u64 seen;   /* events that the probe saw */
  u64 passed; /* events that some rule may want */
  u64 lost;   /* of these, events that found the ring full */
  u64 own[5]; /* for the tracer's own use; fills a cache line */
};
BPF_F_TABLE("array", u32, struct bpfd_counts, bpfd_counts, BPFD_CPUS, BPF_F_MMAPABLE);
BPF_ARRAY(bpfd_scratch, struct bpfd_event, BPFD_CPUS);
BPF_RINGBUF_OUTPUT(bpfd_ring, BPFD_RING_PAGES);

static __always_inline struct bpfd_event *bpfd_begin(void) {
  u64 id = bpf_get_current_pid_tgid();
  u32 cpu = bpf_get_smp_processor_id();
  if (id >> 32 == BPFD_SELF)
    return 0;
  struct bpfd_counts *counts = bpfd_counts.lookup(&cpu);
  struct bpfd_event *e = bpfd_scratch.lookup(&cpu);
  if (!counts || !e)
    return 0;
  counts->seen++;
  e->pid = id >> 32;
  e->tid = id;
  e->return_value = 0;
  BPFD_CLEAR_NUMBERS(e)
#pragma unroll
  for (int i = 0; i < BPFD_STRINGS; i++)
    e->bpfd_length[i] = e->bpfd_start[i] = 0;
  return e;
}

/* A string that could not be read is said to be "?": never garbage, and never mistaken for an empty one. */
static __always_inline u16 bpfd_string_length(char *place, long got) {
  if (got > 0)
    return got - 1;
  place[0] = '?';
  return 1;
}
#define bpfd_user_string(e, field, pointer)                                                                          \
  ((e)->bpfd_length[BPFD_NUMBER_##field] = bpfd_string_length(                                                       \
       (e)->field, bpf_probe_read_user_str((e)->field, BPFD_LENGTH_##field, (void *)(pointer))))
#define bpfd_kernel_string(e, field, pointer)                                                                        \
  ((e)->bpfd_length[BPFD_NUMBER_##field] = bpfd_string_length(                                                       \
       (e)->field, bpf_probe_read_kernel_str((e)->field, BPFD_LENGTH_##field, (void *)(pointer))))

#define BPFD_PACK(e, at, field)                                                                                      \
  {                                                                                                                  \
    u64 start = (e)->bpfd_start[BPFD_NUMBER_##field], length = (e)->bpfd_length[BPFD_NUMBER_##field];                \
    bpfd_barrier(start);                                                                                             \
    bpfd_barrier(length);                                                                                            \
    if (start < BPFD_LENGTH_##field && length < BPFD_LENGTH_##field) {                                               \
      bpf_probe_read_kernel((e)->bpfd_packed + at, length, (e)->field + start);                                      \
      at += length;                                                                                                  \
    } else                                                                                                           \
      (e)->bpfd_length[BPFD_NUMBER_##field] = 0;                                                                     \
  }

#ifdef BPFD_CGROUP_V1
static __always_inline u64 bpfd_cgroup(struct task_struct *task) {
  struct css_set *set;
  struct cgroup_subsys_state *state;
  struct cgroup *group;
  struct kernfs_node *node;
  u64 id = 0;
  bpfd_read(set, task->cgroups);
  bpfd_read(state, set->subsys[BPFD_CGROUP_V1]);
  bpfd_read(group, state->cgroup);
  bpfd_read(node, group->kn);
  bpfd_read(id, node->id);
  return id;
}
#else
static __always_inline u64 bpfd_cgroup(struct task_struct *task) { return bpf_get_current_cgroup_id(); }
#endif

/* Who acted, read at the moment of the event. */
static __always_inline void bpfd_identify(struct bpfd_event *e) {
  struct task_struct *task = (struct task_struct *)bpf_get_current_task(), *leader, *parent;
  u64 owner = bpf_get_current_uid_gid();
  e->time = bpf_ktime_get_ns();
  e->cgroup = bpfd_cgroup(task);
  e->uid = owner;
  e->gid = owner >> 32;
  bpfd_read(parent, task->real_parent);
  bpfd_read(e->ppid, parent->tgid);
  bpfd_read(leader, task->group_leader);
  bpfd_read(e->start, leader->start_boottime);
  bpf_get_current_comm(e->command, sizeof(e->command));
}

static __always_inline int bpfd_submit(void *context, struct bpfd_event *e) {
  u32 cpu = bpf_get_smp_processor_id();
  struct bpfd_counts *counts = bpfd_counts.lookup(&cpu);
  if (!counts)
    return 0;
  e->candidates = ~0ULL;
  counts->passed++;
  bpfd_identify(e);
  u64 at = 0;
  BPFD_PACK_STRINGS(e, at)
  if (bpfd_ring.ringbuf_output(e, at + __builtin_offsetof(struct bpfd_event, bpfd_packed), 0))
    counts->lost++;
  return 0;
}
