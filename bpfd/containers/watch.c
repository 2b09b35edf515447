#include "filter.h"

/* Every cgroup that comes and goes, with its path: so an event can be named after its container is gone. */
static __always_inline int changed(void *args, u64 made, int root, u64 id, const char *path) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  e->made = made;
  e->root = root;
  e->id = id;
  bpfd_kernel_string(e, path, path);
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(cgroup, cgroup_mkdir) {
  return changed(args, 1, args->root, args->id, (char *)args + (args->data_loc_path & 0xffff));
}

TRACEPOINT_PROBE(cgroup, cgroup_rmdir) {
  return changed(args, 0, args->root, args->id, (char *)args + (args->data_loc_path & 0xffff));
}
