/* The driver of a port that can switch the direction of an RS-485 transceiver: preloaded before the C library, because a
 * pseudo-terminal has none. Requests and struct are those of the kernel's own header.
 *
 * LINESIDE_TEST_RS485   a file in which the mode is written as it was set
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* What the board says: a delay that has to stay, and a level after sending that has to go. */
static struct serial_rs485 mode = {.flags = SER_RS485_RTS_AFTER_SEND, .delay_rts_before_send = 2};

int ioctl(int fd, unsigned long request, ...) {
  static int (*real)(int, unsigned long, void *);
  if (!real) real = dlsym(RTLD_NEXT, "ioctl");
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (request == TIOCGRS485) {
    memcpy(argument, &mode, sizeof mode);
    return 0;
  }
  if (request == TIOCSRS485) {
    memcpy(&mode, argument, sizeof mode);
    int file = open(getenv("LINESIDE_TEST_RS485"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t written = dprintf(file, "enabled %d, rts on send %d, rts after send %d, before %u ms, after %u ms",
                              !!(mode.flags & SER_RS485_ENABLED), !!(mode.flags & SER_RS485_RTS_ON_SEND),
                              !!(mode.flags & SER_RS485_RTS_AFTER_SEND), mode.delay_rts_before_send,
                              mode.delay_rts_after_send);
    close(file);
    return written > 0 ? 0 : -1;
  }
  return real(fd, request, argument);
}
