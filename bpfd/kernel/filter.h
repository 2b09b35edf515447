/* What every tracer's program includes: who acted, who wants it, emit.
 *
 *   struct bpfd_event *e = bpfd_begin();       NULL: nobody can want it
 *   e->FIELD = number;                         numeric fields
 *   bpfd_user_string(e, FIELD, pointer);       string fields, from the process's memory
 *   bpfd_kernel_string(e, FIELD, pointer);     or from the kernel's
 *   bpfd_literal(e, FIELD, "text");            or as it stands in the program
 *   return bpfd_submit(args, e);               asks whether anyone wants it, and emits
 *
 * What is dear to find out can wait until the rules' other clauses hold: the tracer names the field `late=True`, and
 * its file has `BPFD_LATE(e) { ... }`, which fills those fields; e->bpfd_own[] carries what it needs to know.
 *
 * Where it is not the current process that acted, see "Somebody else" below.
 *
 * `struct bpfd_event` is made from the tracer's fields by record.py, and stands before this text. Programs run with
 * preemption off, so a place for each processor is enough. From bpfd_submit on, a chain of tail calls does the work, a
 * program a step, so that the verifier looks at each step once, however many probes and fields a tracer has.
 */
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define bpfd_read(into, from) bpf_probe_read_kernel(&(into), sizeof(into), &(from))
#define bpfd_barrier(value) asm volatile("" : "+r"(value))
/* Go round a loop once more. Before Linux 6.7 (10e14e9652bf, "bpf: fix control-flow graph checking in privileged mode") a
 * program may go back by a jump alone, and the compiler likes to put a loop's end right before its beginning. */
#define bpfd_again(label)                                                                                            \
  {                                                                                                                  \
    asm goto("goto %l0" : : : : label);                                                                              \
    __builtin_unreachable();                                                                                         \
  }
/* Of a variable the verifier is to know no more than that bits outside `mask` are 0: it follows each value that it can
 * tell from others through all of a loop that is left. */
#define bpfd_forget(value, mask)                                                                                     \
  {                                                                                                                  \
    bpfd_barrier(value);                                                                                             \
    (value) &= (mask);                                                                                               \
    bpfd_barrier(value);                                                                                             \
  }
/* The same for what an answer says of its operands: this is arithmetic, and tells nothing. */
#define bpfd_is_negative(number)                                                                                     \
  ({                                                                                                                 \
    u64 sign = (u64)(number) >> 63;                                                                                  \
    bpfd_barrier(sign);                                                                                              \
    sign;                                                                                                            \
  })
/* Is a variable less than `low` or more than `high`? In two steps: of both the compiler makes a subtraction that wraps,
 * which the verifier of Linux 6.12 does not follow. */
#define bpfd_is_outside(value, low, high)                                                                            \
  ({                                                                                                                 \
    bool outside = true;                                                                                             \
    if ((value) <= (high)) {                                                                                         \
      bpfd_barrier(value);                                                                                           \
      if ((value) >= (low))                                                                                          \
        outside = false;                                                                                             \
    }                                                                                                                \
    outside;                                                                                                         \
  })

struct bpfd_counts {
  u64 seen;   /* events that the probe saw */
  u64 passed; /* events that some rule may want */
  u64 lost;   /* of these, events that found the ring full */
  u64 own[5]; /* for the tracer's own use, see bpfd_count; fills a cache line */
};
BPF_F_TABLE("array", u32, struct bpfd_counts, bpfd_counts, BPFD_CPUS, BPF_F_MMAPABLE);
/* bcc makes code that prints what each of its tables holds, part by part: for large ones that takes as long as all the
 * rest. Characters it takes for a text. */
#define BPFD_ROOM_FOR(type)                                                                                          \
  {                                                                                                                  \
    char bytes[sizeof(type)];                                                                                        \
  } __attribute__((aligned(8)))
struct bpfd_event_room BPFD_ROOM_FOR(struct bpfd_event);
BPF_ARRAY(bpfd_scratch, struct bpfd_event_room, BPFD_CPUS);
BPF_RINGBUF_OUTPUT(bpfd_ring, BPFD_RING_PAGES);

static __always_inline u64 bpfd_cgroup(void) {
#ifdef BPFD_CGROUP_V1
  return bpf_get_current_task_btf()->cgroups->subsys[BPFD_CGROUP_V1]->cgroup->kn->id;
#else
  return bpf_get_current_cgroup_id();
#endif
}

/* The rules of the tracer as the daemon laid them out (image.py), in pages of one array map: the first has the head and
 * the sieves and rows that are walked most, the others the automata's other ones, what they find, and the numbers'
 * intervals. A new set of rules is a new array, put into bpfd_rules in one step. An event is judged by one set alone: if
 * another came meanwhile, by none, and Python judges it. */
#define BPFD_PAGE_WORDS 16384
#define BPFD_TEXTS 16
#define BPFD_NUMBERS 32
#define BPFD_MASKS 2048
#define BPFD_SCOPES 32
#define BPFD_ORDER 32
#define BPFD_WALK 512 /* longer texts are left to Python */
#define BPFD_HIT 0x80000000
#define BPFD_END 1 /* the class of a text's end */
#define BPFD_INNER_MAP 0x1000

struct bpfd_mask {
  u64 wanted, refused, undecided;
};
struct bpfd_text_plan {
  u64 free;
  u32 start, root;
};
/* Where in a text no pattern begins, see sieve.py. */
struct bpfd_sieve {
  u32 table, mask;
  u8 shift, ahead, shortest, kind, padding[4];
};
#define BPFD_BYTES 1
#define BPFD_BLOCKS 2
struct bpfd_number_plan {
  u64 free;
  u32 used, page, count, padding;
};
struct bpfd_bound {
  u64 lower, wanted;
};
/* What to do next: a step, and for texts which one, by which plan, and whether the next step adds to what is found. */
struct bpfd_order {
  u8 step, text, plan, more;
};
struct bpfd_head {
  u64 bits;
  u32 generation, scoped, masks, wants_ancestors;
  u64 scope[BPFD_SCOPES];
  u64 kill, stop, interrupt; /* bits of rules that have the kernel send a signal */
  struct bpfd_order order[BPFD_ORDER];
  struct bpfd_text_plan text[BPFD_TEXTS];
  struct bpfd_number_plan number[BPFD_NUMBERS];
  u8 classes[BPFD_TEXTS][256];
  u64 asks[BPFD_TEXTS]; /* bits of rules that look at the text */
  struct bpfd_sieve sieve[BPFD_TEXTS];
};
struct bpfd_page {
  union {
    u32 entry[BPFD_PAGE_WORDS];
    struct bpfd_bound bound[BPFD_PAGE_WORDS / 4];
    struct bpfd_mask mask[BPFD_MASKS];
    struct bpfd_head head;
  };
};
_Static_assert(__builtin_offsetof(struct bpfd_head, order) == 304, "image.py");
_Static_assert(__builtin_offsetof(struct bpfd_head, text) == 432, "image.py");
_Static_assert(__builtin_offsetof(struct bpfd_head, number) == 688, "image.py");
_Static_assert(__builtin_offsetof(struct bpfd_head, classes) == 1456, "image.py");
_Static_assert(__builtin_offsetof(struct bpfd_head, asks) == 5552, "image.py");
_Static_assert(__builtin_offsetof(struct bpfd_head, sieve) == 5680, "image.py");
_Static_assert(sizeof(struct bpfd_head) <= 8192, "image.py");

struct bpfd_page_room BPFD_ROOM_FOR(struct bpfd_page);
BPF_F_TABLE("array", u32, struct bpfd_page_room, bpfd_pages, 1, BPF_F_MMAPABLE | BPFD_INNER_MAP);
BPF_ARRAY_OF_MAPS(bpfd_rules, "bpfd_pages", 1);
/* The runtime of each cgroup, as an index of bpfd_head.scope; one that is not there is not known yet. */
BPF_F_TABLE("hash", u64, u32, bpfd_scope, 65536, BPF_F_NO_PREALLOC);

#define BPFD_STEP_EMIT 0
#define BPFD_STEP_NUMBERS 1
#define BPFD_STEP_TEXT 2
#define BPFD_STEP_LATE 3
BPF_PROG_ARRAY(bpfd_steps, 4);

static __always_inline struct bpfd_page *bpfd_page(void *image, u32 number) {
  return (struct bpfd_page *)bpf_map_lookup_elem_((u64)image, &number);
}

static __always_inline struct bpfd_event *bpfd_current(void) {
  u32 cpu = bpf_get_smp_processor_id();
  return (struct bpfd_event *)bpfd_scratch.lookup(&cpu);
}

/* Count one more of the tracer's `counts`, by its place among them. */
static __always_inline void bpfd_count(u32 number) {
  u32 cpu = bpf_get_smp_processor_id();
  struct bpfd_counts *counts = bpfd_counts.lookup(&cpu);
  if (counts && number < 5)
    counts->own[number]++;
}

static __always_inline u64 bpfd_in_scope(struct bpfd_event *e, struct bpfd_head *head, u64 cgroup) {
  u32 *scope = bpfd_scope.lookup(&cgroup);
  if (!scope) {
    e->bpfd_exact = 0;
    return head->bits;
  }
  return head->scope[*scope & (BPFD_SCOPES - 1)];
}

/* Say what the rules want next, from their set `page`. */
static __always_inline void bpfd_order_next(struct bpfd_event *e, struct bpfd_page *page) {
  struct bpfd_order *order = &page->head.order[e->bpfd_step & (BPFD_ORDER - 1)];
  e->bpfd_step++;
  e->bpfd_do = order->step;
  e->bpfd_text = order->text;
  e->bpfd_plan = order->plan;
  if (!e->bpfd_more)
    e->bpfd_wanted = e->bpfd_refused = e->bpfd_undecided = 0;
  e->bpfd_more = order->more;
}

/* The rules changed while an event was being judged: Python judges it, by those in force then. */
static __always_inline void bpfd_judge_none(struct bpfd_event *e) {
  e->bpfd_candidates = ~0ULL;
  e->bpfd_generation = 0;
  e->bpfd_exact = 0;
  e->bpfd_do = BPFD_STEP_EMIT;
}

/* Is the event of somebody else than the current process? Never, in programs that do not ask for it. */
#ifdef BPFD_SOMEBODY_ELSE
#define BPFD_OF_OTHER(e) (e)->bpfd_of_other
#else
#define BPFD_OF_OTHER(e) false
#endif

/* The rules as a program found them when it began; NULL: none yet. */
struct bpfd_view {
  void *image;
  struct bpfd_page *first;
};

/* Begin an event of the current `task`, or, where there is none, of somebody else; NULL: no rule can want it. */
static __always_inline struct bpfd_event *bpfd_begin_of(struct task_struct *task, struct bpfd_view *view) {
  u32 cpu = bpf_get_smp_processor_id();
  int zero = 0;
  struct bpfd_counts *counts = bpfd_counts.lookup(&cpu);
  struct bpfd_event *e = (struct bpfd_event *)bpfd_scratch.lookup(&cpu);
  if (!counts || !e)
    return 0;
  counts->seen++;
  if (task) {
    e->pid = task->tgid;
    e->tid = task->pid;
    e->bpfd_of_other = 0;
    e->ancestors_length = 0;
  }
  e->return_value = 0;
  e->bpfd_step = e->bpfd_more = e->bpfd_is_late = 0;
  e->bpfd_exact = ~0ULL;
  view->image = bpfd_rules.lookup(&zero);
  view->first = view->image ? bpfd_page(view->image, 0) : 0;
  if (view->first) {
    struct bpfd_head *head = &view->first->head;
    e->bpfd_generation = head->generation;
    e->bpfd_candidates = head->bits;
    if (head->scoped)
      e->bpfd_candidates &= bpfd_in_scope(e, head, task ? bpfd_cgroup() : e->bpfd_cgroup_id);
    if (!e->bpfd_candidates)
      return 0;
    bpfd_order_next(e, view->first);
  } else
    bpfd_judge_none(e);
  BPFD_CLEAR_NUMBERS(e)
#pragma unroll
  for (int i = 0; i < BPFD_STRINGS; i++)
    e->bpfd_length[i] = e->bpfd_start[i] = 0;
  return e;
}

/* Begin an event of the current `task`; NULL: it is the daemon's own, or no rule can want it, whatever it says. */
static __always_inline struct bpfd_event *bpfd_begin_view(struct task_struct *task, struct bpfd_view *view) {
  return task->tgid == BPFD_SELF ? 0 : bpfd_begin_of(task, view);
}

static __always_inline struct bpfd_event *bpfd_begin(void) {
  struct bpfd_view view;
  return bpfd_begin_view(bpf_get_current_task_btf(), &view);
}

/* Do what was said to be next. */
static __always_inline int bpfd_go_on(void *context, struct bpfd_event *e) {
  if (e->bpfd_do == BPFD_STEP_TEXT)
    bpfd_steps.call(context, BPFD_STEP_TEXT);
  if (e->bpfd_do == BPFD_STEP_NUMBERS)
    bpfd_steps.call(context, BPFD_STEP_NUMBERS);
  /* What is dear to find out is found out now, also where no rule asks about it: it belongs to the event. */
  if (BPFD_HAS_LATE && !e->bpfd_is_late) {
    e->bpfd_is_late = 1;
    bpfd_steps.call(context, BPFD_STEP_LATE);
  }
  bpfd_steps.call(context, BPFD_STEP_EMIT);
  return 0;
}

static __always_inline int bpfd_next(void *context, struct bpfd_event *e) {
  int zero = 0;
  void *image = bpfd_rules.lookup(&zero);
  struct bpfd_page *page = image ? bpfd_page(image, 0) : 0;
  if (page && page->head.generation == e->bpfd_generation)
    bpfd_order_next(e, page);
  else
    bpfd_judge_none(e);
  return bpfd_go_on(context, e);
}

static __always_inline int bpfd_submit(void *context, struct bpfd_event *e) { return bpfd_go_on(context, e); }

static __always_inline u16 bpfd_command_length(const char *command) {
  u16 length = 0;
#pragma unroll
  for (int i = 0; i < 15; i++)
    length += command[i] && length == i;
  return length;
}

/* A table that is not whole can't judge; it does not happen. */
static __always_inline bool bpfd_give_up(struct bpfd_event *e) {
  e->bpfd_undecided = 1;
  e->bpfd_exact = 0;
  return true;
}

/* From one row to the next. What is rare is asked once: is the row in another page, or has it found something? */
#define BPFD_WALK_STEP(symbol)                                                                                       \
  {                                                                                                                  \
    u64 entry = page->entry[(row + (symbol)) & (BPFD_PAGE_WORDS - 1)];                                               \
    row = entry & ~BPFD_HIT;                                                                                         \
    if (entry / BPFD_PAGE_WORDS != at) {                                                                             \
      at = row / BPFD_PAGE_WORDS;                                                                                    \
      page = bpfd_page(image, at);                                                                                   \
      if (!page)                                                                                                     \
        return bpfd_give_up(e);                                                                                      \
      if (entry & BPFD_HIT) {                                                                                        \
        struct bpfd_page *masks = bpfd_page(image, head->masks);                                                     \
        if (!masks)                                                                                                  \
          return bpfd_give_up(e);                                                                                    \
        struct bpfd_mask *mask = &masks->mask[page->entry[row & (BPFD_PAGE_WORDS - 1)] & (BPFD_MASKS - 1)];          \
        e->bpfd_wanted |= mask->wanted;                                                                              \
        e->bpfd_refused |= mask->refused;                                                                            \
        e->bpfd_undecided |= mask->undecided;                                                                        \
      }                                                                                                              \
    }                                                                                                                \
  }

/* May a block be among those that patterns have near their begin? Two bits of one word tell. */
#define BPFD_IN_SIEVE(number)                                                                                        \
  ({                                                                                                                 \
    u32 word = table->entry[(sieve->table + ((number) >> 10)) & (BPFD_PAGE_WORDS - 1)];                              \
    word >> ((number) >> 5 & 31) & word >> ((number) & 31) & 1;                                                      \
  })
/* Does a pattern begin with the byte that is so far ahead? */
#define BPFD_BEGINS(ahead) begins[(u8)text[i + (ahead)]]

/* Walk one text through its automaton, and narrow the candidates by what is found; false: none is left. Where the text
 * lies goes through the map: the verifier knows nothing of what is there, and so takes all fields to be alike. */
static __always_inline bool bpfd_judge_text(struct bpfd_event *e, void *image, struct bpfd_page *first) {
  struct bpfd_head *head = &first->head;
  if (e->bpfd_text == 0) {
    if (!BPFD_OF_OTHER(e))
      bpf_get_current_comm(e->command, sizeof(e->command));
    e->bpfd_base = __builtin_offsetof(struct bpfd_event, command);
    e->bpfd_size = bpfd_command_length(e->command);
  }
  BPFD_LOCATE_TEXT(e)
  u32 plan = e->bpfd_plan & (BPFD_TEXTS - 1), base = e->bpfd_base;
  u64 size = e->bpfd_size;
  u64 row = head->text[plan].start, root = head->text[plan].root & ~BPFD_HIT, at = row / BPFD_PAGE_WORDS;
  u8 *classes = head->classes[plan];
  struct bpfd_page *page = at ? bpfd_page(image, at) : first;
  struct bpfd_sieve *sieve = &head->sieve[plan];
  u32 table_at = sieve->table / BPFD_PAGE_WORDS, shift = sieve->shift & 31;
  u64 ahead = sieve->ahead & 3, shortest = sieve->shortest;
  struct bpfd_page *table = table_at ? bpfd_page(image, table_at) : first;
  bpfd_barrier(base);
  bpfd_barrier(size);
  if (!page || !table || size >= BPFD_WALK || base > sizeof(*e) - 2 * BPFD_WALK - 8) {
    e->bpfd_undecided = 1;
    goto found;
  }
  char *text = (char *)e + base;
  u8 *begins = (u8 *)table + (sieve->table * 4 & (sizeof(*table) - 256));
  e->bpfd_place = 0;
  u64 i = *(volatile u32 *)&e->bpfd_place; /* 0, of which the verifier does not know */
#pragma nounroll
  for (u64 turn = 0; turn < BPFD_WALK; turn++) {
    bpfd_forget(i, 2 * BPFD_WALK - 1);
    bpfd_forget(row, ~BPFD_HIT);
    if (row == root) {
      row = root; /* the processor guesses that it is, and need not wait until it knows */
      bpfd_barrier(row);
      if (bpfd_is_negative(size - shortest - i))
        break;
      u8 kind = *(volatile u8 *)&sieve->kind;
      if (kind == BPFD_BLOCKS) {
        u32 block = (*(u32 *)(text + i + ahead) | 0x20202020) & sieve->mask;
        u32 number = block * 0x9e3779b1 >> shift;
        if (!BPFD_IN_SIEVE(number)) {
          i += ahead + 1;
          continue;
        }
      } else if (kind == BPFD_BYTES && !(BPFD_BEGINS(0) | BPFD_BEGINS(1) | BPFD_BEGINS(2) | BPFD_BEGINS(3))) {
        i += 4;
        continue;
      }
    } else if (bpfd_is_negative(size - 1 - i))
      break;
    BPFD_WALK_STEP(classes[(u8)text[i]])
    i++;
  }
  BPFD_WALK_STEP(BPFD_END)
found:
  if (!e->bpfd_more) {
    if (e->bpfd_undecided)
      e->bpfd_exact &= ~head->asks[plan];
    else
      e->bpfd_candidates &= (head->text[plan].free | e->bpfd_wanted) & ~e->bpfd_refused;
  }
  return e->bpfd_candidates;
}

int bpfd_text(void *context) {
  struct bpfd_event *e = bpfd_current();
  int zero = 0;
  if (!e)
    return 0;
  void *image = bpfd_rules.lookup(&zero);
  struct bpfd_page *first = image ? bpfd_page(image, 0) : 0;
  if (first && first->head.generation == e->bpfd_generation && !bpfd_judge_text(e, image, first))
    return 0;
  return bpfd_next(context, e);
}

/* Submit, and judge the first text here and not in a step of its own: a third faster, for the verifier to look at in
 * each probe that does so. For calls that come a hundred thousand times a second. */
static __always_inline int bpfd_submit_busy(void *context, struct bpfd_event *e, struct bpfd_view *view) {
  if (e->bpfd_do != BPFD_STEP_TEXT || !view->first)
    return bpfd_go_on(context, e);
  if (!bpfd_judge_text(e, view->image, view->first))
    return 0;
  return bpfd_next(context, e);
}

/* The interval that a number lies in, by halves. Place and key live in a map, where the verifier does not follow them:
 * it would take every way through the halves for a way of its own. */
static __always_inline void bpfd_look_up(struct bpfd_event *e, void *image, struct bpfd_number_plan *plan, u64 key) {
  struct bpfd_page *page = bpfd_page(image, plan->page);
  volatile u32 *place = &e->bpfd_place;
  volatile u64 *sought = &e->bpfd_key;
  if (!page)
    return;
  *place = 0;
  *sought = key;
#pragma nounroll
  for (u32 step = BPFD_PAGE_WORDS / 8; step; step /= 2) {
    u32 next = *place + step;
    if (next < plan->count && page->bound[next & (BPFD_PAGE_WORDS / 4 - 1)].lower <= *sought)
      *place = next;
  }
  e->bpfd_candidates &= plan->free | page->bound[*place & (BPFD_PAGE_WORDS / 4 - 1)].wanted;
}
#define BPFD_KEY_s64(value) ((u64)(value) ^ (1ULL << 63))
#define BPFD_KEY_u64(value) ((u64)(value))
#define BPFD_KEY_bool(value) ((u64)(value))
#define BPFD_ASK_NUMBER(e, image, head, at, key)                                                                     \
  if ((head)->number[at].used)                                                                                       \
    bpfd_look_up(e, image, &(head)->number[at], key);

int bpfd_numbers(void *context) {
  struct bpfd_event *e = bpfd_current();
  int zero = 0;
  if (!e)
    return 0;
  void *image = bpfd_rules.lookup(&zero);
  struct bpfd_page *page = image ? bpfd_page(image, 0) : 0;
  if (page && page->head.generation == e->bpfd_generation) {
    struct bpfd_head *head = &page->head;
    if (e->bpfd_is_late) {
      BPFD_ASK_LATE_NUMBERS(e, image, head)
    } else {
      u64 owner = BPFD_OF_OTHER(e) ? e->uid | (u64)e->gid << 32 : bpf_get_current_uid_gid();
      BPFD_ASK_NUMBER(e, image, head, 0, e->pid)
      BPFD_ASK_NUMBER(e, image, head, 1, (u32)owner)
      BPFD_ASK_NUMBER(e, image, head, 2, owner >> 32)
      BPFD_ASK_NUMBER(e, image, head, 3, BPFD_KEY_s64(e->return_value))
      BPFD_ASK_NUMBERS(e, image, head)
    }
    if (!e->bpfd_candidates)
      return 0;
  }
  return bpfd_next(context, e);
}

/* A string that could not be read is said to be "?": never garbage, and never mistaken for an empty one. What stands
 * behind it tells it from a string that is a question mark, which ends with NUL. */
#define BPFD_UNREAD 1
#define bpfd_is_unread(text, length) ((length) == 1 && (text)[1] == BPFD_UNREAD)
static __always_inline u16 bpfd_string_length(char *place, long got) {
  if (got > 0)
    return got - 1;
  place[0] = '?';
  place[1] = BPFD_UNREAD;
  return 1;
}
#define bpfd_user_string(e, field, pointer)                                                                          \
  ((e)->bpfd_length[BPFD_NUMBER_##field] = bpfd_string_length(                                                       \
       (e)->field, bpf_probe_read_user_str((e)->field, BPFD_LENGTH_##field, (void *)(pointer))))
#define bpfd_kernel_string(e, field, pointer)                                                                        \
  ((e)->bpfd_length[BPFD_NUMBER_##field] = bpfd_string_length(                                                       \
       (e)->field, bpf_probe_read_kernel_str((e)->field, BPFD_LENGTH_##field, (void *)(pointer))))

#define bpfd_literal(e, field, text)                                                                                 \
  {                                                                                                                  \
    __builtin_memcpy((e)->field, text, sizeof(text));                                                                \
    (e)->bpfd_length[BPFD_NUMBER_##field] = sizeof(text) - 1;                                                        \
  }

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

/* The commands of the parent and up, as text: what called fork may be a thread with a name of its own, so of each process
 * it is that of the first thread. Like a path, it grows in a map, where the verifier does not follow it. */
#define BPFD_ANCESTORS 256
#define BPFD_GENERATIONS 16
static __always_inline void bpfd_name_ancestors(struct bpfd_event *e, struct task_struct *task) {
#pragma nounroll
  for (int generation = 0; generation < BPFD_GENERATIONS; generation++) {
    u32 number = 0;
    bpfd_read(task, task->real_parent);
    bpfd_read(number, task->pid);
    if (!number) /* the idle task, of which pid 1 is a child */
      return;
    bpfd_read(task, task->group_leader);
    u64 at = e->ancestors_length;
    bpfd_barrier(at);
    if (at >= BPFD_ANCESTORS - 16)
      return;
    if (at)
      e->bpfd_ancestors[at++] = ' ';
    long got = bpf_probe_read_kernel_str(e->bpfd_ancestors + at, 16, task->comm);
    if (got > 1)
      e->ancestors_length = at + got - 1;
  }
}

/* Who acted, read at the moment of the event. */
static __always_inline void bpfd_identify_current(struct bpfd_event *e) {
  struct task_struct *task = bpf_get_current_task_btf();
  struct task_struct *leader = task->group_leader, *parent = task->real_parent->group_leader;
  struct pid *pid = leader->thread_pid;
  u64 owner = bpf_get_current_uid_gid();
  u32 level = pid->level;
  e->bpfd_cgroup_id = bpfd_cgroup();
  e->uid = owner;
  e->gid = owner >> 32;
  e->ppid = parent->tgid;
  e->bpfd_born = leader->start_boottime;
  e->ns_pid = e->pid;
  if (level)
    bpfd_read(e->ns_pid, pid->numbers[level].nr);
#ifdef BPFD_HAS_PIDFS
  e->bpfd_inode = pid->ino;
#else
  e->bpfd_inode = 0;
#endif
  bpf_get_current_comm(e->command, sizeof(e->command));
  bpfd_read(e->bpfd_parent, parent->comm);
}

/* What the kernel never sends a signal to: programs by the file they run, processes by their number (device 0), what
 * is in a cgroup by its number (device ~0). */
struct bpfd_protected_key {
  u64 device, number;
};
BPF_F_TABLE("hash", struct bpfd_protected_key, u32, bpfd_protected, 1024, BPF_F_NO_PREALLOC);

static __always_inline bool bpfd_is_protected(struct task_struct *task, u64 cgroup) {
  struct bpfd_protected_key key = {0, task->tgid};
  struct mm_struct *mm = task->mm;
  if (task->tgid == 1 || !mm || bpfd_protected.lookup(&key))
    return true;
  struct file *file = mm->exe_file;
  if (!file)
    return true;
  key.device = file->f_inode->i_sb->s_dev;
  key.number = file->f_inode->i_ino;
  if (bpfd_protected.lookup(&key))
    return true;
  key.device = ~0ULL;
  key.number = cgroup;
  return bpfd_protected.lookup(&key) != 0;
}

/* Send the signal that a rule asks for, if the kernel has decided the rule all by itself. Returns the signal, or 0. It
 * is delivered before the process is back from its system call. */
static __always_inline u16 bpfd_send(struct bpfd_event *e, struct bpfd_head *head) {
  u16 signal = 0;
  u64 sure = e->bpfd_candidates & e->bpfd_exact;
  if (!sure || head->generation != e->bpfd_generation || BPFD_OF_OTHER(e))
    return 0; /* a signal would reach the current process */
  if (sure & head->interrupt)
    signal = 2;
  if (sure & head->stop)
    signal = 19;
  if (sure & head->kill)
    signal = 9;
  if (!signal || bpfd_is_protected(bpf_get_current_task_btf(), e->bpfd_cgroup_id) || bpf_send_signal(signal))
    return 0;
  return signal;
}

int bpfd_emit(void *context) {
  u32 cpu = bpf_get_smp_processor_id();
  int zero = 0;
  struct bpfd_counts *counts = bpfd_counts.lookup(&cpu);
  struct bpfd_event *e = (struct bpfd_event *)bpfd_scratch.lookup(&cpu);
  if (!counts || !e)
    return 0;
  counts->passed++;
  e->bpfd_time = bpf_ktime_get_boot_ns();
  if (!BPFD_OF_OTHER(e))
    bpfd_identify_current(e);
  void *image = bpfd_rules.lookup(&zero);
  struct bpfd_page *page = image ? bpfd_page(image, 0) : 0;
  e->bpfd_signal = page ? bpfd_send(e, &page->head) : 0;
  bool wants_ancestors = !page || page->head.wants_ancestors;
  if (wants_ancestors && !BPFD_OF_OTHER(e) && !e->ancestors_length) /* else the tracer has named them for itself */
    bpfd_name_ancestors(e, (struct task_struct *)bpf_get_current_task());
  u64 at = wants_ancestors ? e->ancestors_length : 0;
  bpfd_barrier(at);
  if (at >= BPFD_ANCESTORS)
    at = 0;
  bpf_probe_read_kernel(e->bpfd_packed, at, e->bpfd_ancestors);
  e->ancestors_length = at;
  BPFD_PACK_STRINGS(e, at)
#ifdef BPFD_PREEMPTIBLE
  /* Uprobes run with preemption on (bpf_prog_run_array_uprobe, include/linux/bpf.h): another may have taken the place. */
  if (*(volatile u32 *)&e->tid != (u32)bpf_get_current_pid_tgid()) {
    counts->lost++;
    return 0;
  }
#endif
  if (bpfd_ring.ringbuf_output(e, at + __builtin_offsetof(struct bpfd_event, bpfd_packed), 0))
    counts->lost++;
  return 0;
}

/* Somebody else. What the kernel does on its own account (timers, packets that come in) it does in whatever process it
 * interrupted. A tracer of such things says `#define BPFD_SOMEBODY_ELSE` before it includes this file, and
 *
 *   bpfd_remember(&kept);                      who the current process is, to be kept in a map of the tracer's own
 *
 *   struct bpfd_event *e = bpfd_nobody();      an event of no process at all; NULL: there is no room
 *   bpfd_recall(e, &kept);                     of the one that was kept; or fill in what is known, such as e->uid
 *   e = bpfd_begin_other();                    in place of bpfd_begin(); only then are the fields filled in
 */
#ifdef BPFD_SOMEBODY_ELSE
#define BPFD_NO_USER (~0U)                      /* (uid_t)-1, which the kernel gives to nobody */
struct bpfd_somebody {
  char head[__builtin_offsetof(struct bpfd_event, bpfd_parent) + 16];
  char ancestors[BPFD_ANCESTORS];
};

static __always_inline void bpfd_remember(struct bpfd_somebody *kept) {
  struct bpfd_event *e = bpfd_current();
  struct task_struct *task = bpf_get_current_task_btf();
  int zero = 0;
  if (!e)
    return;
  e->pid = task->tgid;
  e->tid = task->pid;
  e->ancestors_length = 0;
  bpfd_identify_current(e);
  void *image = bpfd_rules.lookup(&zero);
  struct bpfd_page *page = image ? bpfd_page(image, 0) : 0;
  if (!page || page->head.wants_ancestors) {
    bpfd_name_ancestors(e, (struct task_struct *)bpf_get_current_task());
    bpf_probe_read_kernel(kept->ancestors, sizeof(kept->ancestors), e->bpfd_ancestors);
  }
  bpf_probe_read_kernel(kept->head, sizeof(kept->head), e);
}

static __always_inline void bpfd_recall(struct bpfd_event *e, struct bpfd_somebody *kept) {
  bpf_probe_read_kernel(e, sizeof(kept->head), kept->head);
  if (e->ancestors_length)
    bpf_probe_read_kernel(e->bpfd_ancestors, sizeof(kept->ancestors), kept->ancestors);
}

static __always_inline struct bpfd_event *bpfd_nobody(void) {
  struct bpfd_event *e = bpfd_current();
  if (!e)
    return 0;
  __builtin_memset(e, 0, sizeof(((struct bpfd_somebody *)0)->head));
  e->uid = e->gid = BPFD_NO_USER;
  e->bpfd_of_other = 1;
  return e;
}

static __always_inline struct bpfd_event *bpfd_begin_other(void) {
  struct bpfd_view view;
  return bpfd_begin_of(0, &view);
}
#endif

/* The step that fills the late fields; the tracer's file writes its body. */
#define BPFD_LATE(e)                                                                                                 \
  static __always_inline void bpfd_fill_late(struct bpfd_event *e);                                                  \
  int bpfd_late(void *context) {                                                                                     \
    struct bpfd_event *e = bpfd_current();                                                                           \
    if (!e)                                                                                                          \
      return 0;                                                                                                      \
    bpfd_fill_late(e);                                                                                               \
    return bpfd_next(context, e);                                                                                    \
  }                                                                                                                  \
  static __always_inline void bpfd_fill_late(struct bpfd_event *e)
