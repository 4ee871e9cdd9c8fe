/* Makes the n-th write to a file, or the n-th sync, of a process fail: preloaded before the C library.
 *
 * LINESIDE_TEST_FAIL_CALL   "write" or "sync"
 * LINESIDE_TEST_FAIL_AT     which one, counted from 1
 * LINESIDE_TEST_FAIL_SCOPE  "process": counted over all threads; "thread": that one of every thread,
 *                           six times in all: twice as often as a database is opened again before it counts as lost
 * LINESIDE_TEST_FAIL_ERROR  number of the error; a write that fails has written half of its bytes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;
static _Thread_local int calls_of_thread;
static atomic_int errors;

static int fails(const char *call, int fd) {
  const char *chosen = getenv("LINESIDE_TEST_FAIL_CALL");
  const char *at = getenv("LINESIDE_TEST_FAIL_AT");
  const char *error = getenv("LINESIDE_TEST_FAIL_ERROR");
  const char *scope = getenv("LINESIDE_TEST_FAIL_SCOPE");
  struct stat about;
  if (!chosen || !at || !error || !scope || strcmp(chosen, call) || fstat(fd, &about)) return 0;
  if (!strcmp(call, "write") && !S_ISREG(about.st_mode)) return 0;
  int number = strcmp(scope, "thread") ? atomic_fetch_add(&calls, 1) + 1 : ++calls_of_thread;
  if (number != atoi(at) || atomic_fetch_add(&errors, 1) >= 6) return 0;
  static const char met[] = "error met\n";
  if (((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(2, met, sizeof met - 1)) {}
  errno = atoi(error);
  return 1;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
  if (!fails("write", fd)) return real(fd, bytes, count, offset);
  int error = errno;
  if (real(fd, bytes, count / 2, offset)) {}
  errno = error;
  return -1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
  if (!fails("write", fd)) return real(fd, bytes, count);
  int error = errno;
  if (real(fd, bytes, count / 2)) {}
  errno = error;
  return -1;
}

int fsync(int fd) {
  return fails("sync", fd) ? -1 : REAL("fsync", int (*)(int))(fd);
}

int fdatasync(int fd) {
  return fails("sync", fd) ? -1 : REAL("fdatasync", int (*)(int))(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags) {
  int (*real)(int, off64_t, off64_t, unsigned) = dlsym(RTLD_NEXT, "sync_file_range");
  return fails("sync", fd) ? -1 : real(fd, offset, count, flags);
}
