//! The agent as a service: signals, the service manager, the configuration file.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Agent;
use super::notify::Notifier;
use crate::config::{self, Config};

/// How the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Told to stop; everything polled is stored or delivered.
    Stopped,
    /// Told twice: stopped at once.
    Hurried,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs the agent until SIGTERM or SIGINT. SIGHUP reads the configuration at `path` again.
///
/// Fails when a task ends by itself: systemd restarts the service then.
pub async fn run(path: &Path, config: Config) -> anyhow::Result<Ended> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
    };
    let notifier = Notifier::from_environment();
    let mut agent = Agent::start(config).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "lineside started");
    notifier.ready("polling");
    let mut watchdog = tokio::time::interval(notifier.watchdog.unwrap_or(Duration::from_secs(3600)));
    let failed = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break None,
            _ = signals.interrupt.recv() => break None,
            _ = signals.hang_up.recv() => {
                notifier.reloading();
                reload(&mut agent, path).await;
                notifier.ready("polling");
            }
            end = agent.failure() => break Some(end),
            _ = watchdog.tick() => notifier.alive(),
        }
    };
    notifier.stopping();
    tracing::info!("lineside is stopping");
    let stored = tokio::select! {
        stored = agent.shutdown() => stored,
        () = signals.stop() => return Ok(Ended::Hurried),
    };
    match failed {
        Some(end) => bail!("task {:?} ended: {}", end.name, end.panic.unwrap_or_else(|| "without reason".to_owned())),
        None if stored => Ok(Ended::Stopped),
        None => bail!("the store could not be closed"),
    }
}

/// A configuration with faults changes nothing; the faults go to the log.
async fn reload(agent: &mut Agent, path: &Path) {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            for fault in &error.faults {
                tracing::error!(%fault, "configuration not reloaded");
            }
            return;
        }
    };
    match agent.reload(loaded).await {
        Ok(ignored) if ignored.is_empty() => tracing::info!("configuration reloaded"),
        Ok(ignored) => {
            tracing::warn!(sections = ignored.join(", "), "configuration reloaded; these sections need a restart");
        }
        Err(error) => tracing::error!(%error, "configuration reloaded in part only"),
    }
}
