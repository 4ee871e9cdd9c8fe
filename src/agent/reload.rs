//! Another configuration in place of the one in force: all of it or nothing.

use tokio::time::Duration;

use super::{Agent, listed, load_rules, online, trial};
use crate::config::{Config, FixedKeys, fixed_keys};
use crate::diagnostics::configuration::{RefusedReload, WaitingKeys};
use crate::mqtt::Topics;

/// For an uplink or a session that is replaced: longer than both take to say goodbye.
pub(super) const REPLACE_PATIENCE: Duration = Duration::from_millis(2500);

impl Agent {
    /// Replaces the configuration, all of it or nothing. Keys that belong to the start of the process (store, socket,
    /// clock) stay as they are until a restart; those that differ are returned. Another identity is refused.
    ///
    /// # Errors
    /// What cannot be put in force; everything is as before.
    pub async fn reload(&mut self, mut config: Config) -> anyhow::Result<Vec<&'static str>> {
        let FixedKeys { identity, others } = fixed_keys(&self.config, &config);
        if let Some(reason) = other_identity(&identity) {
            anyhow::bail!(reason);
        }
        // What can fail comes first.
        let groups = load_rules(&config).map_err(|faults| {
            faults.iter().for_each(|fault| tracing::error!(%fault, "rules not reloaded; those in force stay"));
            anyhow::anyhow!(listed(&faults))
        })?;
        let is_switched = self.config.remote.is_on() != config.remote.is_on();
        let uplink_differs = self.config.mqtt != config.mqtt || is_switched;
        if uplink_differs {
            let topics = Topics::new(&config.mqtt.prefix, &self.config.gateway.site, &self.config.gateway.id)?;
            online::session_settings(&config.mqtt, &topics, &self.config.gateway).check()?;
        }
        self.register_series(&mut config.links).await?;
        self.answering = trial::answering(&self.board.snapshot(), &self.answering);
        self.groups = groups;
        // What cannot be changed while the agent runs stays.
        let own = std::mem::replace(&mut self.config, config);
        (self.config.gateway, self.config.clock, self.config.store) = (own.gateway, own.clock, own.store);
        self.apply_remote().await;
        if uplink_differs {
            for task in std::mem::take(&mut self.uplink_tasks) {
                self.supervisor.stop_task(task, REPLACE_PATIENCE).await;
            }
            self.start_uplink().await?;
        }
        self.apply_links().await?;
        self.apply_permissions();
        self.tell_permissions();
        Ok(others)
    }

    /// Keeps what became of the owner's file for the list of problems: keys that wait for a restart, and why the remote
    /// configuration could not be laid over it.
    pub(super) fn note_reloaded(&self, waiting: Vec<&'static str>, overlay_refused: Vec<String>) {
        let now = self.clock.wall();
        self.parts.send_modify(|parts| {
            let status = &mut parts.configuration;
            let since = status.restart.as_ref().map_or(now, |before| before.since);
            status.restart = (!waiting.is_empty()).then_some(WaitingKeys { since, keys: waiting });
            status.refused = None;
            status.overlay_refused = overlay_refused;
        });
    }

    /// Keeps why the owner's file was not put in force, until a later one is.
    pub(super) fn note_refused(&self, reasons: Vec<String>) {
        let time = self.clock.wall();
        self.parts.send_modify(|parts| parts.configuration.refused = Some(RefusedReload { time, reasons }));
    }
}

/// Why nothing of a configuration with another identity is put in force.
fn other_identity(differs: &[(&'static str, String, String)]) -> Option<String> {
    let (key, now, then) = differs.first()?;
    let keys = differs.iter().map(|(key, _, _)| *key).collect::<Vec<_>>().join(" and ");
    Some(format!(
        "{key} = {then:?}: the running agent is {now:?}, and {keys} cannot change while it runs, for series, topics and \
         client id carry it; nothing of the file is in force: restart the service, or put {now:?} back"
    ))
}
