/* The pids of processes that acted, given to strangers at once. Static.
 *
 *   reuse NAME COUNT
 *
 * So often a process opens NAME and ends, and the next one gets its pid: clone3(2) with set_tid, for root. Prints how
 * many strangers got one. When standard input ends: how many of them live; then it ends them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t act_and_end(const char *name) {
  pid_t child = fork();
  if (child == 0) {
    syscall(SYS_openat, AT_FDCWD, name, O_RDONLY);
    _exit(0);
  }
  if (child < 0 || waitpid(child, NULL, 0) != child)
    exit(1);
  return child;
}

static pid_t stranger(pid_t pid) {
  struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
  pid_t child = syscall(SYS_clone3, &args, sizeof(args));
  if (child == 0)
    for (;;)
      pause();
  return child;
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  long count = atol(argv[2]), strangers = 0, alive = 0;
  pid_t *pids = calloc(count, sizeof(*pids));
  for (long number = 0; pids && number < count; number++) {
    pid_t pid = stranger(act_and_end(argv[1]));
    if (pid > 0) /* not so if somebody else was given it meanwhile */
      pids[strangers++] = pid;
  }
  printf("%ld\n", strangers);
  fflush(stdout);
  while (getchar() != EOF)
    ;
  for (long number = 0; number < strangers; number++) {
    alive += waitpid(pids[number], NULL, WNOHANG) == 0;
    kill(pids[number], SIGKILL);
  }
  printf("%ld\n", alive);
  return 0;
}
