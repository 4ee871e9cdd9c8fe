//! What the process takes of the machine, as the kernel counts it.

use serde::Serialize;

/// Memory, processor time and disk writes of this process. Zero where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ProcessStatus {
    /// Memory in use now, in bytes.
    pub memory_bytes: u64,
    /// Most memory ever in use, in bytes.
    pub memory_peak_bytes: u64,
    /// Processor time used, in seconds.
    pub cpu_seconds: f64,
    /// Bytes handed to block devices.
    pub written_bytes: u64,
}

impl ProcessStatus {
    /// The figures of this moment, from `/proc/self`.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        Self {
            memory_bytes: field(&status, "VmRSS:") * 1024,
            memory_peak_bytes: field(&status, "VmHWM:") * 1024,
            cpu_seconds: cpu_ticks(&stat) as f64 / rustix::param::clock_ticks_per_second() as f64,
            written_bytes: field(&io, "write_bytes:"),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time: fields 14 and 15 of `proc(5)`; the name in field 2 may hold blanks.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let status = ProcessStatus::now();
        assert!(status.memory_bytes > 1 << 20, "{status:?}");
        assert!(status.memory_peak_bytes >= status.memory_bytes, "{status:?}");
        assert_eq!(cpu_ticks("1 (a b) c) S 1 1 1 0 -1 4 5 6 7 8 30 12 0 0"), 42);
    }
}
