#include "filter.h"
#include "constant.h"
#include "name.h"

#define OPERATIONS 0

/* What the tracer has to know of the operations (enum io_uring_op, whose numbers stay what they are). */
#define OPENAT 18
#define STATX 21
#define OPENAT2 28
#define RENAMEAT 35
#define UNLINKAT 36
#define MKDIRAT 37
#define SYMLINKAT 38
#define LINKAT 39
/* Those that act on a descriptor's file (needs_file in io_uring/opdef.c): from READV to SYNC_FILE_RANGE, SENDMSG and so
 * on. */
#define ACTS_ON_FILE                                                                                                 \
  (1ULL << 1 | 1ULL << 2 | 1ULL << 3 | 1ULL << 4 | 1ULL << 5 | 1ULL << 6 | 1ULL << 8 | 1ULL << 9 | 1ULL << 10 |      \
   1ULL << 13 | 1ULL << 16 | 1ULL << 17 | 1ULL << 22 | 1ULL << 23 | 1ULL << 24 | 1ULL << 26 | 1ULL << 27 |           \
   1ULL << 30 | 1ULL << 33 | 1ULL << 34 | 1ULL << 40 | 1ULL << 41 | 1ULL << 43 | 1ULL << 46 | 1ULL << 47 |           \
   1ULL << 48 | 1ULL << 49 | 1ULL << 54 | 1ULL << 55 | 1ULL << 56 | 1ULL << 57 | 1ULL << 58 | 1ULL << 60 |           \
   1ULL << 61)
#define FIXED_FILE 1 /* REQ_F_FIXED_FILE: the number is one of a table that the ring has of its own */

/* What the late step has to know: which paths there are, and where they start. */
enum kept { PATHS, DIRECTORY, NEW_DIRECTORY };
enum paths { NONE, OF_FILE, OF_NAME, OF_BOTH, OF_NEW };

static __always_inline void name_file(struct bpfd_event *e, int descriptor) {
  struct path path;
  if (bpfd_file_of(descriptor, &path))
    bpfd_path_string(e, path, path);
}

BPFD_LATE(e) {
  u64 paths = e->bpfd_own[PATHS];
  if (paths == OF_FILE)
    name_file(e, e->bpfd_own[DIRECTORY]);
  if (paths == OF_NAME || paths == OF_BOTH)
    bpfd_absolute_name(e, path, filename, e->bpfd_own[DIRECTORY]);
  if (paths == OF_NEW || paths == OF_BOTH)
    bpfd_absolute_name(e, new_path, new_filename, e->bpfd_own[NEW_DIRECTORY]);
}

static __always_inline void keep(struct bpfd_event *e, enum paths paths, int directory, int new_directory) {
  e->bpfd_own[PATHS] = paths;
  e->bpfd_own[DIRECTORY] = directory;
  e->bpfd_own[NEW_DIRECTORY] = new_directory;
}

/* The kernel has copied the names already: they are what it will go by. */
#define take_name(e, field, of)                                                                                      \
  {                                                                                                                  \
    struct filename *copied = of;                                                                                    \
    const char *text = 0;                                                                                            \
    bpfd_read(text, copied->name);                                                                                   \
    bpfd_kernel_string(e, field, text);                                                                              \
  }

static __always_inline void take_one(struct bpfd_event *e, int directory, struct filename *name) {
  if (!name) { /* statx of the descriptor itself */
    keep(e, OF_FILE, directory, 0);
    return;
  }
  keep(e, OF_NAME, directory, 0);
  take_name(e, filename, name);
}

static __always_inline void take_two(struct bpfd_event *e, enum paths paths, struct io_rename *asked) {
  keep(e, paths, asked->old_dfd, asked->new_dfd);
  take_name(e, filename, asked->oldpath);
  take_name(e, new_filename, asked->newpath);
}

/* What the request asks for, as its preparation left it in the request (io_kiocb_to_cmd). */
static __always_inline void take_request(struct bpfd_event *e, struct io_kiocb *request, u8 operation) {
  union {
    struct io_open open;
    struct io_rename rename;
    struct io_unlink unlink;
    struct io_mkdir mkdir;
    struct io_statx statx;
  } asked = {};
  switch (operation) {
  case OPENAT:
  case OPENAT2:
    bpf_probe_read_kernel(&asked.open, sizeof(asked.open), &request->cmd);
    e->flags = asked.open.how.flags;
    take_one(e, asked.open.dfd, asked.open.filename);
    return;
  case STATX:
    bpf_probe_read_kernel(&asked.statx, sizeof(asked.statx), &request->cmd);
    take_one(e, asked.statx.dfd, asked.statx.filename);
    return;
  case UNLINKAT:
    bpf_probe_read_kernel(&asked.unlink, sizeof(asked.unlink), &request->cmd);
    take_one(e, asked.unlink.dfd, asked.unlink.filename);
    return;
  case MKDIRAT:
    bpf_probe_read_kernel(&asked.mkdir, sizeof(asked.mkdir), &request->cmd);
    take_one(e, asked.mkdir.dfd, asked.mkdir.filename);
    return;
  case RENAMEAT: /* struct io_link has the same members in the same places */
  case LINKAT:
  case SYMLINKAT:
    bpf_probe_read_kernel(&asked.rename, sizeof(asked.rename), &request->cmd);
    take_two(e, operation == SYMLINKAT ? OF_NEW : OF_BOTH, &asked.rename);
    return;
  }
}

TRACEPOINT_PROBE(io_uring, io_uring_submit_req) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  struct io_kiocb *request = args->req;
  u8 operation = args->opcode;
  bpfd_literal(e, action, "submit");
  bpfd_constant(e, operation, OPERATIONS, operation);
  e->request = args->user_data;
  e->polled = args->sq_thread;
  keep(e, NONE, 0, 0);
  if (operation < 64 && ACTS_ON_FILE >> operation & 1) {
    int descriptor = -1;
    bpfd_read(descriptor, request->cqe.fd);
    if (!(args->flags & FIXED_FILE))
      keep(e, OF_FILE, descriptor, 0);
  } else
    take_request(e, request, operation);
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(io_uring, io_uring_complete) {
  struct io_kiocb *request = args->req;
  if (!request)
    return 0; /* a further result of a request that goes on */
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  u8 operation = 0;
  bpfd_read(operation, request->opcode);
  bpfd_literal(e, action, "complete");
  bpfd_constant(e, operation, OPERATIONS, operation);
  e->request = args->user_data;
  e->return_value = args->res;
  keep(e, NONE, 0, 0);
  return bpfd_submit(args, e);
}

TRACEPOINT_PROBE(io_uring, io_uring_create) {
  struct bpfd_event *e = bpfd_begin();
  if (!e)
    return 0;
  bpfd_literal(e, action, "create");
  e->entries = args->sq_entries;
  e->setup_flags = args->flags;
  e->return_value = args->fd;
  keep(e, NONE, 0, 0);
  return bpfd_submit(args, e);
}
