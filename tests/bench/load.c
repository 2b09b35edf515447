/* Loads for the bench.
 *
 *   load loop NAME MS           opens and closes NAME as fast as it can; prints how often
 *   load pace NAME RATE MS      the same, so many times a second
 *   load stamp FOLDER COUNT US  opens FOLDER/<wall-clock nanoseconds>, so often, so many microseconds apart
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long now_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void open_once(const char *name) {
  int descriptor = openat(AT_FDCWD, name, O_RDONLY);
  if (descriptor >= 0)
    close(descriptor);
}

int main(int argc, char **argv) {
  long done = 0;
  if (argc < 4)
    return 2;
  if (strcmp(argv[1], "loop") == 0)
    for (long end = now_ns(CLOCK_MONOTONIC) + atol(argv[3]) * 1000000; now_ns(CLOCK_MONOTONIC) < end;)
      for (int i = 0; i < 500; i++, done++)
        open_once(argv[2]);
  else if (strcmp(argv[1], "pace") == 0 && argc > 4) {
    long began = now_ns(CLOCK_MONOTONIC), rate = atol(argv[3]), length = atol(argv[4]) * 1000000;
    for (long passed = 0; passed < length; passed = now_ns(CLOCK_MONOTONIC) - began)
      for (long due = passed / 1000 * rate / 1000000; done < due; done++)
        open_once(argv[2]);
  } else
    for (long count = atol(argv[3]); done < count; done++) {
      char name[4096];
      snprintf(name, sizeof(name), "%s/%ld", argv[2], now_ns(CLOCK_REALTIME));
      open_once(name);
      usleep(atol(argv[4]));
    }
  printf("%ld\n", done);
  return 0;
}
