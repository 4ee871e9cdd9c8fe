//! Named tasks in stages, and their ordered end.
//!
//! A task that ends before it was told to is a defect: the supervisor reports it and the agent shuts down in order.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The order in which tasks are stopped: earlier stages feed later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Pollers: no new readings.
    Poll,
    /// Ingest: what is queued reaches the store.
    Ingest,
    /// Uplink and health: what is under way is acknowledged or given up.
    Uplink,
    /// The MQTT session: says that the gateway is offline.
    Session,
    /// The local socket: answers to the end.
    Diagnostics,
}

/// How a task ended.
#[derive(Debug)]
pub struct TaskEnd {
    /// Name it was started under.
    pub name: String,
    /// True when it had been told to stop.
    pub expected: bool,
    /// What the panic said, if it panicked.
    pub panic: Option<String>,
}

struct Entry {
    name: String,
    stage: Stage,
    stop: CancellationToken,
    abort: AbortHandle,
}

/// Owns every task of the agent.
#[derive(Default)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    entries: HashMap<Id, Entry>,
}

impl Supervisor {
    /// Starts a task under a name. It ends when the token it is given is cancelled.
    pub fn spawn<F>(&mut self, name: impl Into<String>, stage: Stage, task: impl FnOnce(CancellationToken) -> F) -> Id
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let abort = self.tasks.spawn(task(stop.clone()));
        let id = abort.id();
        self.entries.insert(id, Entry { name: name.into(), stage, stop, abort });
        id
    }

    /// Waits for a task to end by itself. Safe to cancel.
    pub async fn next_end(&mut self) -> TaskEnd {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.note_end(ended),
            None => std::future::pending().await,
        }
    }

    /// Tells one task to stop and waits for it, at most `patience`; then it is aborted. True when it ended in time.
    pub async fn stop_task(&mut self, id: Id, patience: Duration) -> bool {
        self.stop(patience, |task, _| *task == id).await
    }

    /// Tells all tasks of a stage to stop and waits for them, at most `patience`. What does not end is aborted.
    pub async fn stop_stage(&mut self, stage: Stage, patience: Duration) -> bool {
        self.stop(patience, |_, entry| entry.stage == stage).await
    }

    async fn stop(&mut self, patience: Duration, concerns: impl Fn(&Id, &Entry) -> bool) -> bool {
        for (_, entry) in self.entries.iter().filter(|(id, entry)| concerns(id, entry)) {
            entry.stop.cancel();
        }
        let none_left = |entries: &HashMap<Id, Entry>| !entries.iter().any(|(id, entry)| concerns(id, entry));
        let ended = self.wait_until(patience, none_left).await;
        if !ended {
            let late: Vec<&Entry> =
                self.entries.iter().filter(|(id, entry)| concerns(id, entry)).map(|(_, entry)| entry).collect();
            let names: Vec<&str> = late.iter().map(|entry| entry.name.as_str()).collect();
            tracing::warn!(tasks = names.join(", "), ?patience, "tasks did not stop in time and are aborted");
            // They end where they wait next; nobody waits for that.
            late.iter().for_each(|entry| entry.abort.abort());
        }
        ended
    }

    async fn wait_until(&mut self, patience: Duration, done: impl Fn(&HashMap<Id, Entry>) -> bool) -> bool {
        let waiting = async {
            while !done(&self.entries) {
                let end = self.next_end().await;
                if let Some(panic) = end.panic {
                    tracing::error!(task = end.name, panic, "task panicked while stopping");
                }
            }
        };
        tokio::time::timeout(patience, waiting).await.is_ok()
    }

    fn note_end(&mut self, ended: Result<(Id, ()), JoinError>) -> TaskEnd {
        let (id, panic) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(panic_text(error))),
        };
        let entry = self.entries.remove(&id);
        let expected = entry.as_ref().is_some_and(|entry| entry.stop.is_cancelled());
        TaskEnd { name: entry.map_or_else(|| "unknown".to_owned(), |entry| entry.name), expected, panic }
    }
}

fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without text".to_owned()),
        Err(_) => "aborted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_reported_with_its_panic() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("broken", Stage::Ingest, |_| async { panic!("boom") });

        let end = supervisor.next_end().await;

        assert_eq!((end.name.as_str(), end.expected, end.panic.as_deref()), ("broken", false, Some("boom")));
    }

    #[tokio::test(start_paused = true)]
    async fn stages_stop_one_after_the_other() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("first", Stage::Poll, |stop| async move { stop.cancelled().await });
        supervisor.spawn("deaf", Stage::Session, |_| std::future::pending());

        assert!(supervisor.stop_stage(Stage::Poll, Duration::from_secs(1)).await);
        assert!(!supervisor.stop_stage(Stage::Session, Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_aborted() {
        let mut supervisor = Supervisor::default();
        let (held, released) = tokio::sync::oneshot::channel::<()>();
        let deaf = supervisor.spawn("deaf", Stage::Poll, |_| async move {
            let _held = held;
            std::future::pending().await
        });

        assert!(!supervisor.stop_task(deaf, Duration::from_secs(1)).await);

        assert!(released.await.is_err());
        assert!(supervisor.next_end().await.expected);
    }
}
