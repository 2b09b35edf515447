/* Small deeds whose number is known, for tests that count. Static: it runs in any container.
 *
 *   brief open NAME COUNT     opens NAME so often, closes it each time, and prints how often
 *   brief flood NAME MS       the same for so many milliseconds
 *   brief pace NAME RATE      opens NAME so many times a second until standard input ends, and prints how often
 *   brief spawn COUNT TAG     starts itself so often, one after the other, as `brief end TAG-NUMBER`
 *   brief end ...             ends
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void open_once(const char *name) {
  int descriptor = openat(AT_FDCWD, name, O_RDONLY);
  if (descriptor >= 0)
    close(descriptor);
}

static int spawn(char *self, long count, const char *tag) {
  char name[256];
  char *words[] = {"brief", "end", name, NULL};
  for (long number = 0; number < count; number++) {
    snprintf(name, sizeof(name), "%s-%ld", tag, number);
    pid_t child = vfork();
    if (child == 0) {
      execv(self, words);
      _exit(127);
    }
    if (child < 0 || waitpid(child, NULL, 0) < 0)
      return 1;
  }
  return 0;
}

int main(int argc, char **argv) {
  long done = 0;
  if (argc < 4)
    return argc > 1 && strcmp(argv[1], "end") == 0 ? 0 : 2;
  if (strcmp(argv[1], "open") == 0)
    for (long count = atol(argv[3]); done < count; done++)
      open_once(argv[2]);
  else if (strcmp(argv[1], "flood") == 0)
    for (long end = now_ms() + atol(argv[3]); now_ms() < end;)
      for (int i = 0; i < 100; i++, done++)
        open_once(argv[2]);
  else if (strcmp(argv[1], "pace") == 0) {
    struct pollfd input = {0, POLLIN, 0};
    for (long began = now_ms(), rate = atol(argv[3]); poll(&input, 1, 1) == 0;)
      for (long due = (now_ms() - began) * rate / 1000; done < due; done++)
        open_once(argv[2]);
  } else if (strcmp(argv[1], "spawn") == 0)
    return spawn(argv[0], atol(argv[2]), argv[3]);
  printf("%ld\n", done);
  return 0;
}
