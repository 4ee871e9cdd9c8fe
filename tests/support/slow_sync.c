/* Makes each sync of a process take five seconds while a file is there, as a worn card does: preloaded before the C
 * library.
 *
 * LINESIDE_TEST_SLOW_SYNC  the file
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
