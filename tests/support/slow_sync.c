/* Makes each sync of a process take five seconds while a file is there, as a worn card does, or not end while another is,
 * as one that hangs: preloaded before the C library.
 *
 * LINESIDE_TEST_SLOW_SYNC  the file
 * LINESIDE_TEST_HUNG_SYNC  the other file
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void dawdle(void) {
  const char *path = getenv("LINESIDE_TEST_SLOW_SYNC");
  struct timespec five = {5, 0};
  if (path && !access(path, F_OK)) nanosleep(&five, NULL);
  const char *other = getenv("LINESIDE_TEST_HUNG_SYNC");
  struct timespec moment = {0, 20000000};
  while (other && !access(other, F_OK)) nanosleep(&moment, NULL);
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

int fsync(int fd) {
  dawdle();
  return REAL("fsync", int (*)(int))(fd);
}

int fdatasync(int fd) {
  dawdle();
  return REAL("fdatasync", int (*)(int))(fd);
}
