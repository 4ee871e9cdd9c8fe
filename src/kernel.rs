//! Calls into the C library that have no safe wrapper among the crates used here. The only unsafe code of the crate.

#![allow(unsafe_code)]

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
