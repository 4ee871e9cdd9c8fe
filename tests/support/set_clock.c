/* A wall clock that a test sets, and a kernel that says what the test wants about it: preloaded before the C library.
 *
 * LINESIDE_TEST_CLOCK   a file of two 64-bit integers: milliseconds added to the wall clock; 1 when it is synchronised
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *clock_file;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("LINESIDE_TEST_CLOCK");
  int fd = path ? open(path, O_RDONLY) : -1;
  if (fd < 0) return;
  void *mapped = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) clock_file = mapped;
  close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, now);
  if (id == CLOCK_REALTIME && clock_file && result == 0) {
    int64_t nanoseconds = now->tv_nsec + clock_file[0] % 1000 * 1000000;
    now->tv_sec += clock_file[0] / 1000;
    if (nanoseconds < 0) { nanoseconds += 1000000000; now->tv_sec -= 1; }
    if (nanoseconds >= 1000000000) { nanoseconds -= 1000000000; now->tv_sec += 1; }
    now->tv_nsec = nanoseconds;
  }
  return result;
}

int ntp_adjtime(struct timex *state) {
  int synchronised = clock_file && clock_file[1];
  state->status = synchronised ? 0 : STA_UNSYNC;
  return synchronised ? TIME_OK : TIME_ERROR;
}
