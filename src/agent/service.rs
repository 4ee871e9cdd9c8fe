//! The agent as a service: signals, the service manager, the configuration file.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::admission::unusable;
use super::fallback::Fallback;
use super::notify::Notifier;
use super::trial::Trial;
use super::{Agent, Event, Surroundings};
use crate::commands::AgentOrder;
use crate::commands::revisions::Revisions;
use crate::config::Config;
use crate::logging::LogHandle;
use crate::supervisor::TaskEnd;

/// How often it is looked whether a configuration has proved itself.
const LOOK_AT_TRIAL: Duration = Duration::from_millis(200);

/// How often it is looked whether the broker is reached.
const LOOK_AT_BROKER: Duration = Duration::from_secs(5);

/// How the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Told to stop; everything polled is stored or delivered.
    Stopped,
    /// Told twice: stopped at once.
    Hurried,
    /// Stopped in order, to be started again.
    Restart,
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

/// Why the agent is stopped.
enum Why {
    Told,
    Ordered,
    Failed(TaskEnd),
}

/// Runs the agent until SIGTERM or SIGINT, or until it is to be started again. SIGHUP reads the configuration at `path`
/// again. `loaded` is the configuration to start with, and why the remote one could not be laid over it.
///
/// Fails when a task ends by itself: systemd restarts the service then.
pub async fn run(path: &Path, loaded: (Config, Vec<String>), log: LogHandle) -> anyhow::Result<Ended> {
    let (config, overlay_refused) = loaded;
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
    };
    let notifier = Notifier::from_environment();
    let mut agent = Agent::start_in(Surroundings { log, config_file: Some(path.to_owned()) }, config).await?;
    agent.note_reloaded(Vec::new(), overlay_refused);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "lineside started");
    notifier.ready("polling");
    let mut watchdog = tokio::time::interval(notifier.watchdog.unwrap_or(Duration::from_secs(3600)));
    let mut fallback = Fallback::default();
    let mut brokers = tokio::time::interval(LOOK_AT_BROKER);
    brokers.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trial: Option<Trial> = None;
    let mut looks = tokio::time::interval(LOOK_AT_TRIAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let why = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Why::Told,
            _ = signals.interrupt.recv() => break Why::Told,
            _ = signals.hang_up.recv() => {
                if trial.is_some() {
                    tracing::warn!("configuration not reloaded: another one is on trial; ask again when it is settled");
                    continue;
                }
                notifier.reloading();
                reload(&mut agent, path).await;
                notifier.ready("polling");
            }
            event = agent.event() => match event {
                Event::Failed(end) => break Why::Failed(end),
                Event::Ordered(AgentOrder::Restart) => break Why::Ordered,
                Event::Ordered(AgentOrder::Try(order, reply)) => {
                    trial = match trial {
                        None => Trial::begin(&mut agent, path, order, reply).await,
                        Some(_) => trial,
                    };
                }
            },
            _ = brokers.tick(), if trial.is_none() => fallback.look(&mut agent, path).await,
            _ = looks.tick(), if trial.is_some() => trial = settle(&mut agent, trial).await,
            _ = watchdog.tick() => notifier.alive(),
        }
    };
    match why {
        // The service goes on, in the same process.
        Why::Ordered => notifier.reloading(),
        Why::Told | Why::Failed(_) => notifier.stopping(),
    }
    tracing::info!("lineside is stopping");
    let stored = tokio::select! {
        stored = agent.shutdown() => stored,
        () = signals.stop() => return Ok(Ended::Hurried),
    };
    match why {
        Why::Failed(end) => {
            bail!("task {:?} ended: {}", end.name, end.panic.unwrap_or_else(|| "without reason".to_owned()))
        }
        Why::Told if stored => Ok(Ended::Stopped),
        Why::Ordered if stored => Ok(Ended::Restart),
        Why::Told | Why::Ordered => bail!("the store could not be closed"),
    }
}

/// Keeps what has proved itself, and goes back from what cannot any more.
async fn settle(agent: &mut Agent, trial: Option<Trial>) -> Option<Trial> {
    let mut trial = trial?;
    match trial.is_over(agent) {
        None => return Some(trial),
        Some(true) => trial.keep(),
        Some(false) => trial.roll_back(agent).await,
    }
    None
}

/// A configuration with faults changes nothing; the faults go to the log.
async fn reload(agent: &mut Agent, path: &Path) {
    let loaded = match Revisions::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            for fault in &error.faults {
                tracing::error!(%fault, "configuration not reloaded");
            }
            return agent.note_refused(error.faults.iter().map(ToString::to_string).collect());
        }
    };
    let (config, troubles) = loaded;
    // The rules are read when it is put in force.
    let faults = unusable(&path.display().to_string(), &config);
    if !faults.is_empty() {
        faults.iter().for_each(|fault| tracing::error!(%fault, "configuration not reloaded"));
        return agent.note_refused(faults.iter().map(ToString::to_string).collect());
    }
    for trouble in &troubles {
        tracing::error!(trouble, "the configuration from afar is not in force, the owner's own is");
    }
    match agent.reload(config).await {
        Ok(waiting) => {
            match waiting.is_empty() {
                true => tracing::info!("configuration reloaded"),
                false => tracing::warn!(keys = waiting.join(", "), "configuration reloaded; these keys need a restart"),
            }
            agent.note_reloaded(waiting, troubles);
        }
        Err(error) => {
            tracing::error!(%error, "configuration not reloaded");
            agent.note_refused(format!("{error:#}").lines().map(str::to_owned).collect());
        }
    }
}
