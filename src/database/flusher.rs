//! The thread that flushes, so that the owner of a database can notice a flush that never ends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{DatabaseError, damaged};

/// When a flush takes longer than this, the engine is given a nudge: sled can sleep through its own write error.
const NUDGE: Duration = Duration::from_secs(2);

/// Slower than any card that still works. After this the owner goes on without the engine until the flush ends after all.
pub const FLUSH_LONGEST: Duration = Duration::from_secs(20);

/// Does one job after the other on a thread of its own.
#[derive(Debug)]
pub struct Flusher<T> {
    requests: Option<mpsc::SyncSender<T>>,
    answers: mpsc::Receiver<Result<(), DatabaseError>>,
    thread: Option<thread::JoinHandle<()>>,
    path: PathBuf,
}

impl<T: Send + 'static> Flusher<T> {
    /// Starts the thread for the database in `path`; `work` does one job.
    pub fn start(
        path: &Path,
        mut work: impl FnMut(T) -> Result<(), DatabaseError> + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, requested) = mpsc::sync_channel(1);
        let (answer, answers) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("store-flush".into()).spawn(move || {
            while let Ok(job) = requested.recv() {
                if answer.send(work(job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests: Some(requests), answers, thread: Some(thread), path: path.to_owned() })
    }

    /// Has `job` done and waits for its end, with a `nudge` now and then.
    pub fn flush(&self, job: T, mut nudge: impl FnMut()) -> Result<(), DatabaseError> {
        let begun = Instant::now();
        // Full means that an earlier flush is still under way; its answer is then taken for this one's error.
        self.requests.as_ref().map(|requests| requests.try_send(job).ok());
        loop {
            match self.answers.recv_timeout(NUDGE) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(damaged(&self.path, "the flushing thread ended"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() > FLUSH_LONGEST => {
                    return Err(DatabaseError::Stuck { path: self.path.clone(), waited: FLUSH_LONGEST });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => nudge(),
            }
        }
    }
}

impl<T> Drop for Flusher<T> {
    fn drop(&mut self) {
        drop(self.requests.take());
        let Some(thread) = self.thread.take() else { return };
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < NUDGE {
            thread::sleep(Duration::from_micros(100));
        }
        if thread.is_finished() {
            thread.join().ok();
        }
    }
}
