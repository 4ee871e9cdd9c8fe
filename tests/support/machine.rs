//! How busy the machine is that runs a test: what a test demands of time holds for what the machine gave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(20);

/// A thread that does nothing but sleep, and sees how late it is woken.
pub struct Machine {
    stalled_ms: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    /// Begins to watch.
    pub fn watched() -> Self {
        let (stalled_ms, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (stalled_ms, is_over) = (stalled_ms.clone(), is_over.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    let asleep = Instant::now();
                    std::thread::sleep(TICK);
                    let late = asleep.elapsed().saturating_sub(TICK);
                    stalled_ms.fetch_max(late.as_millis() as u64, Ordering::Relaxed);
                }
            }
        });
        Self { stalled_ms, is_over, thread: Some(thread) }
    }

    /// The longest that it let a thread wait that had something to do.
    pub fn longest_stall(&self) -> Duration {
        Duration::from_millis(self.stalled_ms.load(Ordering::Relaxed))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It does nothing that could panic.
        self.thread.take().map(JoinHandle::join);
    }
}
