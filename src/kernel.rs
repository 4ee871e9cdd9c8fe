//! Calls into the C library that have no safe wrapper among the crates used here. The only unsafe code of the crate.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

/// Whether a time daemon disciplines the clock, by `STA_UNSYNC` of `adjtimex(2)`; `None` when the kernel does not tell,
/// as under a sandbox that filters the call.
pub fn clock_is_disciplined() -> Option<bool> {
    // SAFETY: `timex` is a plain C struct for which all zeroes is a valid value; with `modes` = 0 the call only
    // reads the kernel's state and writes it into the struct it was given, which outlives the call.
    let (clock_state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::ntp_adjtime(&mut timex), timex.status)
    };
    (clock_state >= 0).then_some(clock_state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

/// Keeps the memory of a process with a dozen mostly idle threads together: one heap for all of them instead of one
/// each, and large blocks given back at once. Saves about 4 MB of 20; to be called before threads are started.
pub fn keep_memory_together() {
    const LARGE_BLOCK: libc::c_int = 128 << 10;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers and changes nothing but parameters of the allocator; no other thread
    // exists that could allocate meanwhile. A value it does not like is refused by its result and changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BLOCK);
    }
}

/// Gives free memory between blocks in use back to the system. Encoding a batch needs a few MB for a moment, and what
/// stays in use between its pieces would keep them. Takes well under a millisecond for a heap of 10 MB.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes an integer, locks the allocator itself and touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the driver of a serial port switch the direction of an RS-485 transceiver: RTS on while it sends, off otherwise
/// (Linux, `Documentation/driver-api/serial/serial-rs485.rst`).
///
/// # Errors
/// When the driver has no such mode, as those of most USB adapters, which switch by themselves.
pub fn switch_rs485_by_driver(port: &impl AsRawFd) -> io::Result<()> {
    /// `struct serial_rs485` of `linux/serial.h`.
    #[repr(C)]
    #[derive(Default)]
    struct SerialRs485 {
        flags: u32,
        delay_rts_before_send: u32,
        delay_rts_after_send: u32,
        padding: [u32; 5],
    }
    const ENABLED: u32 = 1 << 0;
    const RTS_ON_SEND: u32 = 1 << 1;
    const RTS_AFTER_SEND: u32 = 1 << 2;
    #[cfg(target_os = "linux")]
    {
        let mut mode = SerialRs485::default();
        // SAFETY: the descriptor is open as long as its owner is borrowed; the call writes one `serial_rs485` into a struct of
        // exactly that layout, which outlives it.
        let known = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCGRS485, &raw mut mode) };
        if known < 0 {
            return Err(io::Error::last_os_error());
        }
        // What the board says of delays stays.
        mode.flags = (mode.flags | ENABLED | RTS_ON_SEND) & !RTS_AFTER_SEND;
        // SAFETY: as above; the call only reads the struct.
        let switched = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSRS485, &raw mut mode) };
        if switched < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (port, SerialRs485::default(), ENABLED, RTS_ON_SEND, RTS_AFTER_SEND);
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_whose_driver_has_no_rs485_mode_says_so() {
        let (reader, _writer) = std::io::pipe().unwrap();

        assert!(super::switch_rs485_by_driver(&reader).is_err());
    }
}
