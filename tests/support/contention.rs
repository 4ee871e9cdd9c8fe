//! How long the machine kept processes waiting that were ready to run: what is lost meanwhile is no fault of a bus.

use std::time::Duration;

/// Time that the threads of these processes have spent in the queue for a processor, all together
/// (`/proc/<pid>/task/<tid>/schedstat`, second number, in nanoseconds). Zero where the kernel does not count it: then
/// nothing is forgiven.
pub fn kept_waiting(processes: &[u32]) -> Duration {
    processes.iter().map(|process| waited(*process)).sum()
}

fn waited(process: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    let nanos = threads.filter_map(|thread| {
        // A thread may end while it is looked at.
        let figures = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        figures.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The same for the main thread of a process alone: the one on which an agent polls.
pub fn main_thread_kept_waiting(process: u32) -> Duration {
    let figures = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    let nanos = figures.split_whitespace().nth(1).and_then(|waited| waited.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}
