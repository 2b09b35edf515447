#include "filter.h"
#include "arguments.h"
#include "constant.h"
#include "descriptor.h"

enum { COMMANDS, PROGRAM_TYPES, MAP_TYPES, ATTACH_TYPES }; /* kinds of constants */
#define NAME_BYTES 16 /* BPF_OBJ_NAME_LEN */

/* The daemon's loader is its child, and ends before the daemon goes on. */
static __always_inline bool is_own(struct task_struct *task) {
  return BPFD_SELF && task->real_parent->tgid == BPFD_SELF;
}

static __always_inline void name_map(struct bpfd_event *e, struct bpf_map *map) {
  enum bpf_map_type type;
  bpfd_read(type, map->map_type);
  bpfd_constant(e, map_type, MAP_TYPES, type);
  bpfd_kernel_string(e, name, map->name);
}

static __always_inline void name_program(struct bpfd_event *e, struct bpf_prog *program) {
  enum bpf_prog_type type;
  struct bpf_prog_aux *more;
  bpfd_read(type, program->type);
  bpfd_read(more, program->aux);
  bpfd_constant(e, program_type, PROGRAM_TYPES, type);
  bpfd_kernel_string(e, name, more->name);
}

/* What a descriptor is of the two, by the name that the kernel gives such files (bpf_map_new_fd and bpf_prog_new_fd in
 * kernel/bpf/syscall.c). */
static __always_inline void name_object(struct bpfd_event *e, int descriptor) {
  struct file *file = bpfd_open_file(descriptor);
  struct dentry *entry;
  const char *given;
  void *object;
  char kind[9] = {};
  if (!file || !bpfd_is_anonymous(file))
    return;
  bpfd_read(entry, file->f_path.dentry);
  bpfd_read(given, entry->d_name.name);
  bpf_probe_read_kernel_str(kind, sizeof(kind), given);
  bpfd_read(object, file->private_data);
  if (kind[3] == '-' && kind[4] == 'm')
    name_map(e, object);
  if (kind[3] == '-' && kind[4] == 'p')
    name_program(e, object);
}

static __always_inline void take_name(struct bpfd_event *e, const char *name) {
  bpf_probe_read_kernel(e->name, NAME_BYTES, name);
  e->name[NAME_BYTES - 1] = 0;
  bpfd_kernel_string(e, name, e->name);
}

/* What each command is about, from its part of the union. */
static __always_inline void take_attributes(struct bpfd_event *e, int command, union bpf_attr *given) {
  switch (command) {
  case BPF_MAP_CREATE:
    bpfd_constant(e, map_type, MAP_TYPES, given->map_type);
    take_name(e, given->map_name);
    return;
  case BPF_PROG_LOAD:
    bpfd_constant(e, program_type, PROGRAM_TYPES, given->prog_type);
    take_name(e, given->prog_name);
    if (given->expected_attach_type)
      bpfd_constant(e, attach_type, ATTACH_TYPES, given->expected_attach_type);
    e->instructions = given->insn_cnt;
    return;
  case BPF_MAP_LOOKUP_ELEM:
  case BPF_MAP_UPDATE_ELEM:
  case BPF_MAP_DELETE_ELEM:
  case BPF_MAP_GET_NEXT_KEY:
  case BPF_MAP_LOOKUP_AND_DELETE_ELEM:
  case BPF_MAP_FREEZE:
    name_object(e, given->map_fd);
    return;
  case BPF_MAP_LOOKUP_BATCH:
  case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
  case BPF_MAP_UPDATE_BATCH:
  case BPF_MAP_DELETE_BATCH:
    name_object(e, given->batch.map_fd);
    return;
  case BPF_OBJ_PIN:
    name_object(e, given->bpf_fd);
  case BPF_OBJ_GET:
    bpfd_user_string(e, filename, given->pathname);
    return;
  case BPF_PROG_ATTACH:
  case BPF_PROG_DETACH:
    bpfd_constant(e, attach_type, ATTACH_TYPES, given->attach_type);
    name_object(e, given->attach_bpf_fd);
    return;
  case BPF_LINK_CREATE:
    bpfd_constant(e, attach_type, ATTACH_TYPES, given->link_create.attach_type);
    name_object(e, given->link_create.prog_fd);
    return;
  case BPF_RAW_TRACEPOINT_OPEN:
    name_object(e, given->raw_tracepoint.prog_fd);
    if (given->raw_tracepoint.name)
      bpfd_user_string(e, target, given->raw_tracepoint.name);
    return;
  case BPF_PROG_TEST_RUN:
    name_object(e, given->test.prog_fd);
    return;
  case BPF_OBJ_GET_INFO_BY_FD:
    name_object(e, given->info.bpf_fd);
    return;
  case BPF_PROG_GET_NEXT_ID:
  case BPF_MAP_GET_NEXT_ID:
  case BPF_BTF_GET_NEXT_ID:
  case BPF_LINK_GET_NEXT_ID:
  case BPF_PROG_GET_FD_BY_ID:
  case BPF_MAP_GET_FD_BY_ID:
  case BPF_BTF_GET_FD_BY_ID:
  case BPF_LINK_GET_FD_BY_ID:
    e->id = given->start_id;
    return;
  }
}

TRACEPOINT_PROBE(syscalls, sys_exit_bpf) {
  struct task_struct *task = bpf_get_current_task_btf();
  if (is_own(task))
    return 0;
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct pt_regs *registers = bpfd_registers_of(task);
  int command = bpfd_argument(registers, 0);
  u64 size = (u32)bpfd_argument(registers, 2);
  union bpf_attr given = {};
  bpfd_barrier(size);
  if (size > sizeof(given))
    size = sizeof(given);
  bpfd_constant(e, operation, COMMANDS, command);
  e->return_value = args->ret;
  if (!bpf_probe_read_user(&given, size, (void *)bpfd_argument(registers, 1)))
    take_attributes(e, command, &given); /* else nothing is known of them */
  return bpfd_submit(args, e);
}
