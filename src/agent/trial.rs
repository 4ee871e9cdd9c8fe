//! A configuration on trial: it has to reach the broker, and the devices that answered before have to answer again.
//! Otherwise the one before is in force again, by the agent alone.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Agent;
use crate::commands::fail_point;
use crate::commands::revisions::Reason;
use crate::commands::write::{Installation, endangered};
use crate::commands::{TrialOrder, Verdict};
use crate::config::{self, Config, OVERLAY_FILE};
use crate::diagnostics::Status;
use crate::model::{Name, Observed, Row};
use crate::mqtt::SessionState;
use crate::poll::status::DeviceState;
use crate::rules::spec::GroupSpec;

/// Pause before a device that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// One trial under way.
pub(super) struct Trial {
    previous: Config,
    until: Instant,
    share: f64,
    must_reach_broker: bool,
    expected: HashSet<String>,
    answered: HashSet<String>,
    /// Which devices answered before it: after a way back none may have been asked yet.
    answering: HashSet<String>,
    asking: JoinSet<String>,
    reply: oneshot::Sender<Verdict>,
}

impl Trial {
    /// Puts a configuration in force for now. Nothing is different when it is refused.
    pub async fn begin(
        agent: &mut Agent,
        path: &Path,
        order: TrialOrder,
        reply: oneshot::Sender<Verdict>,
    ) -> Option<Self> {
        let refused = |reasons: Vec<Reason>, reply: oneshot::Sender<Verdict>| {
            // Whoever waits for it may be gone.
            let _ = reply.send(Verdict::Refused(reasons));
            None
        };
        let previous = agent.config_in_force();
        let config = match load(path, &order, (&previous, &agent.groups)) {
            Ok(config) => config,
            Err(reasons) => return refused(reasons, reply),
        };
        let before = agent.board().snapshot();
        let renewed = agent.links_to_renew(&config);
        let broker_differs = previous.mqtt != config.mqtt;
        match agent.reload(config).await {
            Ok(waiting) => agent.note_reloaded(waiting, Vec::new()),
            Err(error) => return refused(vec![Reason::new(OVERLAY_FILE, "", format!("{error:#}"))], reply),
        }
        fail_point::reached("config-applied");
        let expected: HashSet<String> =
            agent.devices_of(&renewed).filter(|name| agent.answering.contains(name)).collect();
        let mut asking = JoinSet::new();
        for name in &expected {
            if let Some((link, device)) = agent.link_of(name) {
                asking.spawn(async move {
                    loop {
                        if link.read_device(&device).await.is_ok_and(|rows| make_sense(&rows)) {
                            return device.to_string();
                        }
                        sleep(ASK_AGAIN).await;
                    }
                });
            }
        }
        let must_reach_broker = broker_differs || is_connected(&before);
        let (until, share) = (Instant::now() + order.window, order.share);
        tracing::info!(devices = expected.len(), window = ?order.window, "configuration on trial");
        let (answered, answering) = (HashSet::new(), agent.answering.clone());
        Some(Self { previous, until, share, must_reach_broker, expected, answered, answering, asking, reply })
    }

    /// Whether it has proved itself, or cannot any more.
    pub fn is_over(&mut self, agent: &Agent) -> Option<bool> {
        while let Some(Ok(name)) = self.asking.try_join_next() {
            self.answered.insert(name);
        }
        let enough = self.answered.len() as f64 >= self.share * self.expected.len() as f64;
        let reached = !self.must_reach_broker || is_connected(&agent.board().snapshot());
        match (enough && reached, Instant::now() >= self.until) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// It stays in force.
    pub fn keep(self) {
        tracing::info!("configuration kept");
        let _ = self.reply.send(Verdict::Kept);
    }

    /// The one before is in force again.
    pub async fn roll_back(mut self, agent: &mut Agent) {
        let reasons = self.reasons(&agent.board().snapshot());
        self.asking.shutdown().await;
        for reason in &reasons {
            tracing::warn!(key = reason.key, reason = reason.reason, "configuration rolled back");
        }
        if let Err(error) = agent.reload(self.previous).await {
            tracing::error!(%error, "the configuration before could not be put in force again without a restart");
        }
        agent.answering = self.answering;
        let _ = self.reply.send(Verdict::RolledBack(reasons));
    }

    fn reasons(&self, now: &Status) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.must_reach_broker && !is_connected(now) {
            let why = match now.mqtt.as_ref().map(|mqtt| &mqtt.state) {
                Some(SessionState::Connecting { last_error: Some(error), .. }) => error.clone(),
                Some(_) | None => "no connection".to_owned(),
            };
            reasons.push(Reason::new(OVERLAY_FILE, "mqtt.url", format!("the broker was not reached: {why}")));
        }
        for name in self.expected.difference(&self.answered) {
            let device = now.links.iter().flat_map(|link| &link.devices).find(|device| device.name.as_str() == name);
            let why = device.and_then(|device| {
                let identity = device.identity.as_ref().and_then(|identity| identity.reason.clone());
                identity.or_else(|| device.last_error.clone())
            });
            let why = why.unwrap_or_else(|| "most of its readings are bad".to_owned());
            let reason = format!("it does not make sense now, and answered before or was not asked yet: {why}");
            reasons.push(Reason::new(OVERLAY_FILE, &format!("device {name}"), reason));
        }
        reasons.sort_by(|a, b| a.key.cmp(&b.key));
        reasons
    }
}

/// The configuration that is to be tried, as `check` and `run` would take it, unless a permission to write would rest on
/// something else than with `previous` or the owner's own.
fn load(path: &Path, order: &TrialOrder, (previous, groups): (&Config, &[GroupSpec])) -> Result<Config, Vec<Reason>> {
    let told = |error: config::ConfigError| error.faults.into_iter().map(Reason::from).collect::<Vec<_>>();
    let base = config::load(path).map_err(told)?;
    let Some(directory) = &order.directory else { return Ok(base) };
    let config = config::lay_over(&base, directory).map_err(told)?;
    let new_groups = super::load_rules(&config).map_err(|faults| {
        let named = faults.into_iter().map(Reason::from);
        named.map(|reason| Reason { file: config::named(&reason.file, directory), ..reason }).collect::<Vec<_>>()
    })?;
    let own_groups = super::rules_of(&base);
    let after = installation(&config, &new_groups);
    let mut found = endangered(&base.writes, &installation(&base, &own_groups), &after, &order.leased);
    found.extend(endangered(&base.writes, &installation(previous, groups), &after, &order.leased));
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    let reason = |(tag, reason): (String, String)| {
        let reason = format!(
            "the owner allows to write this tag, and the pin of that would not hold any more: {reason}; the owner changes \
             it on site"
        );
        Reason::new(OVERLAY_FILE, &format!("write {tag}"), reason)
    };
    if found.is_empty() { Ok(config) } else { Err(found.into_iter().map(reason).collect()) }
}

fn installation<'a>(config: &'a Config, groups: &'a [GroupSpec]) -> Installation<'a> {
    Installation { links: config.links.iter().collect(), groups }
}

fn is_connected(status: &Status) -> bool {
    status.mqtt.as_ref().is_some_and(|mqtt| matches!(mqtt.state, SessionState::Connected(_)))
}

/// Which devices answer, those included that did and were not asked since their link was renewed: of two changes in
/// one second the second has to prove itself as well. Where none is known to have answered, all that were not asked yet
/// count: a change that nobody has to prove would be kept whatever it says.
pub(super) fn answering(now: &Status, before: &HashSet<String>) -> HashSet<String> {
    let devices = now.links.iter().flat_map(|link| &link.devices);
    let answers = devices.filter(|device| match (device.last_answer, &device.last_error) {
        (Some(_), _) => device.state == DeviceState::Answering,
        (None, Some(_)) => false,
        (None, None) => before.is_empty() || before.contains(device.name.as_str()),
    });
    answers.map(|device| device.name.to_string()).collect()
}

/// At least half of what a device was asked for has a value.
fn make_sense(rows: &[Row]) -> bool {
    let observed = || rows.iter().flat_map(|row| &row.observed);
    let good = observed().filter(|observed| !matches!(observed, Observed::Bad(_))).count();
    good > 0 && 2 * good >= observed().count()
}

impl Agent {
    /// The whole configuration in force, links included.
    pub(super) fn config_in_force(&self) -> Config {
        let links = self.links.iter().map(|link| link.config.clone()).collect();
        Config { links, ..self.config.clone() }
    }

    /// Names of the links of `config` that do not run as they are there.
    fn links_to_renew(&self, config: &Config) -> HashSet<Name> {
        let runs = |wanted: &&config::LinkConfig| self.links.iter().any(|link| link.config == **wanted);
        config.links.iter().filter(|link| !runs(link)).map(|link| link.name.clone()).collect()
    }

    fn devices_of(&self, links: &HashSet<Name>) -> impl Iterator<Item = String> {
        let renewed = self.links.iter().filter(|link| links.contains(&link.config.name));
        renewed.flat_map(|link| link.config.devices.iter().map(|device| device.name.to_string()))
    }

    fn link_of(&self, device: &str) -> Option<(crate::poll::LinkHandle, Name)> {
        self.links.iter().find_map(|link| {
            let found = link.config.devices.iter().find(|known| known.name.as_str() == device)?;
            Some((link.handle.clone(), found.name.clone()))
        })
    }
}
