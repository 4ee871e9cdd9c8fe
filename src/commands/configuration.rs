//! The part of the task that takes configurations: tried by the agent, remembered here, reported to whoever sent them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::desired::{self, GenuineDesired, NotTaken};
use super::gate::Refusal;
use super::lent::Lent;
use super::revisions::{Reason, Revision, Revisions, Standing};
use super::{AgentOrder, Commands, TrialOrder, Verdict, fail_point};
use crate::diagnostics::configuration::RefusedRevision;
use crate::diagnostics::protocol::Notice;
use crate::mqtt::{Bytes, Delivery, Message, Received};

/// A trial that was asked for on the spot takes no longer.
const WINDOW_HERE: Duration = Duration::from_secs(60);

/// What is known of configurations, and what is under way.
pub(super) struct Configurations {
    pub revisions: Lent<Revisions>,
    trial: Option<Revision>,
    pub trials: JoinSet<(Revision, Verdict)>,
    asker: Option<oneshot::Sender<Result<Value, Notice>>>,
    /// Hash of the last one that was refused to somebody known.
    refused: Option<String>,
    pub reports: JoinSet<()>,
}

impl Configurations {
    pub fn new(revisions: Result<Revisions, String>) -> Self {
        let (trials, reports) = (JoinSet::new(), JoinSet::new());
        Self { revisions: revisions.into(), trial: None, trials, asker: None, refused: None, reports }
    }
}

impl Commands {
    /// Takes a message on the topic of the wanted configuration; an empty one wants nothing.
    pub(super) async fn take_desired(&mut self, received: &Received) {
        if received.payload.is_empty() {
            return;
        }
        self.count(|status| status.received += 1);
        let verified = {
            let config = self.parts.config.borrow();
            desired::verify(&config, &self.parts.gateway, &received.payload)
        };
        match verified {
            Ok(genuine) => self.take_genuine_desired(genuine).await,
            Err(not_taken) => match *not_taken {
                NotTaken { refusal, genuine: None } => self.note_refusal(&refusal, "").await,
                NotTaken { refusal, genuine: Some(genuine) } => self.answer_refused(genuine, refusal).await,
            },
        }
    }

    /// Somebody known wanted it: he is not left waiting.
    async fn answer_refused(&mut self, genuine: GenuineDesired, refusal: Refusal) {
        let mut step = self.step(&genuine);
        self.note_refusal(&refusal, &step.by).await;
        // Anybody may send again what he has seen: that is answered once.
        if self.configurations.refused.replace(step.digest.clone()).as_ref() == Some(&step.digest) {
            return;
        }
        step.standing = Standing::Refused;
        step.reasons = vec![Reason::new("", "", refusal.to_string())];
        self.keep_refused(&step);
        self.report(Some(step));
    }

    fn step(&self, genuine: &GenuineDesired) -> Revision {
        Revision {
            revision: genuine.desired.revision,
            digest: genuine.digest.clone(),
            by: genuine.key.clone(),
            time: self.parts.clock.wall(),
            standing: Standing::Trial,
            reasons: Vec::new(),
        }
    }

    async fn take_genuine_desired(&mut self, mut genuine: GenuineDesired) {
        let step = self.step(&genuine);
        let revisions = match self.configurations.revisions.get() {
            Ok(revisions) => revisions,
            Err(trouble) => return self.answer_refused(genuine, Refusal::Journal(trouble)).await,
        };
        let desired = &mut genuine.desired;
        // The broker hands it out again on every connection: what became of it is known.
        if revisions.standing(&step.digest).is_some() {
            return self.report(None);
        }
        let highest = revisions.highest();
        if step.revision <= highest {
            let reason = format!("{highest} was seen already: revisions only rise");
            return self.refuse_revision(step, Reason::new("", "revision", reason)).await;
        }
        if self.configurations.trial.is_some() {
            return self.refuse_revision(step, Reason::new("", "", "another configuration is on trial")).await;
        }
        let (of, files) = (step.clone(), std::mem::take(&mut desired.files));
        let staged = self.configurations.revisions.with(move |revisions| revisions.stage(&of, &files));
        match staged.await.and_then(|staged| staged) {
            Ok(directory) => {
                fail_point::reached("config-staged");
                let (window, share) = (desired.window(), desired.share.unwrap_or(1.0));
                self.try_out(step, TrialOrder { directory: Some(directory), window, share, leased: self.leased() })
                    .await;
            }
            Err(trouble) => self.refuse_revision(step, Reason::new("", "", trouble)).await,
        }
    }

    /// Has it tried. Until it has proved itself a restart goes back to the one before.
    async fn try_out(&mut self, step: Revision, order: TrialOrder) {
        if let Err(trouble) = self.note_step(step.clone()).await {
            return self.refuse_revision(step, Reason::new("", "", trouble)).await;
        }
        fail_point::reached("config-trial");
        tracing::info!(revision = step.revision, by = step.by, "configuration is to be tried");
        self.note("configuration", &step.by, &format!("revision {} is tried", step.revision)).await;
        self.configurations.trial = Some(step.clone());
        self.report(None);
        let orders = self.parts.orders.clone();
        self.configurations.trials.spawn(async move {
            let (reply, verdict) = oneshot::channel();
            let ended = || Verdict::RolledBack(vec![Reason::new("", "", "the agent is stopping")]);
            if orders.send(AgentOrder::Try(order, reply)).await.is_err() {
                return (step, ended());
            }
            let verdict = verdict.await.unwrap_or_else(|_| ended());
            (step, verdict)
        });
    }

    /// Remembers a step; durable when this returns.
    async fn note_step(&mut self, step: Revision) -> Result<(), String> {
        self.configurations.revisions.with(move |revisions| revisions.note(step)).await?
    }

    /// Remembers what became of a trial, and says it.
    pub(super) async fn conclude_trial(&mut self, step: Revision, verdict: Verdict) {
        fail_point::reached("config-verdict");
        self.configurations.trial = None;
        let (standing, reasons) = match verdict {
            Verdict::Kept => (Standing::Confirmed, Vec::new()),
            Verdict::Refused(reasons) => (Standing::Refused, reasons),
            Verdict::RolledBack(reasons) => (Standing::RolledBack, reasons),
        };
        let step = Revision { standing, reasons, time: self.parts.clock.wall(), ..step };
        let why = step.reasons.first().map(|reason| format!(": {} {}", reason.key, reason.reason)).unwrap_or_default();
        self.note("configuration", &step.by, &format!("revision {}: {standing:?}{why}", step.revision)).await;
        if standing == Standing::Refused {
            self.count(|status| *status.refused.entry("configuration").or_default() += 1);
        }
        self.keep_refused(&step);
        let noted = self.note_step(step.clone()).await;
        fail_point::reached("config-settled");
        tracing::info!(revision = step.revision, ?standing, "configuration settled");
        if let Err(trouble) = noted {
            tracing::error!(trouble, "what became of a configuration cannot be remembered");
            if standing == Standing::Confirmed {
                self.go_back();
            }
        }
        if let Some(asker) = self.configurations.asker.take() {
            let _ = asker.send(Ok(serde_json::to_value(&step).unwrap_or_default()));
        }
        self.report(None);
    }

    /// What cannot be remembered must not stay: after a restart another one would be in force.
    fn go_back(&mut self) {
        let Ok(revisions) = self.configurations.revisions.get() else { return };
        let directory = revisions.in_force().and_then(|step| revisions.files(step));
        let (orders, order) =
            (self.parts.orders.clone(), TrialOrder { directory, window: WINDOW_HERE, share: 0.0, leased: Vec::new() });
        self.answers.spawn(async move {
            let (reply, _) = oneshot::channel();
            let _ = orders.send(AgentOrder::Try(order, reply)).await;
        });
    }

    /// Goes back to an earlier revision on the spot, or with 0 to the owner's own configuration.
    pub(super) async fn roll_back_here(
        &mut self,
        revision: u64,
        by: &str,
        asker: oneshot::Sender<Result<Value, Notice>>,
    ) {
        match self.earlier(revision, by) {
            Ok((step, order)) => {
                self.configurations.asker = Some(asker);
                self.try_out(step, order).await;
            }
            Err(reason) => drop(asker.send(Err(Notice::Refused(reason)))),
        }
    }

    fn earlier(&self, revision: u64, by: &str) -> Result<(Revision, TrialOrder), String> {
        let revisions = self.configurations.revisions.get()?;
        if self.configurations.trial.is_some() {
            return Err("another configuration is on trial".to_owned());
        }
        let by = format!("(here) {by}");
        let (time, standing, reasons) = (self.parts.clock.wall(), Standing::Trial, Vec::new());
        let (digest, directory) = if revision == 0 {
            (String::new(), None)
        } else {
            let history = revisions.history();
            let known =
                history.iter().rev().find(|step| step.revision == revision && step.standing != Standing::Refused);
            let known = known.ok_or_else(|| format!("there is no revision {revision} to go back to"))?;
            let files =
                revisions.files(known).ok_or_else(|| format!("the files of revision {revision} are not kept"))?;
            (known.digest.clone(), Some(files))
        };
        let step = Revision { revision, digest, by, time, standing, reasons };
        Ok((step, TrialOrder { directory, window: WINDOW_HERE, share: 1.0, leased: self.leased() }))
    }

    /// What was tried and what is in force, for people.
    pub(super) fn shown_revisions(&self) -> Result<Value, Notice> {
        let revisions = self.configurations.revisions.get().map_err(Notice::Error)?;
        let in_force = revisions.revision();
        let files = |step: &Revision| revisions.files(step).map(|files| files.display().to_string());
        let all = revisions.history().into_iter().map(|step| {
            let kept = files(&step);
            let mut shown = serde_json::to_value(step).unwrap_or_default();
            shown["files"] = json!(kept);
            shown
        });
        Ok(json!({ "in_force": in_force, "revisions": all.collect::<Vec<_>>() }))
    }

    /// It is not tried, and remembered only by whoever reads the report: an attacker must not fill the disk.
    async fn refuse_revision(&mut self, step: Revision, reason: Reason) {
        tracing::warn!(revision = step.revision, reason = reason.reason, "configuration refused");
        let text = format!("revision {}: {}", step.revision, reason.reason);
        self.note_refused("revision", &step.by, &text).await;
        self.count(|status| *status.refused.entry("revision").or_default() += 1);
        if let Some(asker) = self.configurations.asker.take() {
            let _ = asker.send(Err(Notice::Refused(reason.reason.clone())));
        }
        let step = Revision { standing: Standing::Refused, reasons: vec![reason], ..step };
        self.keep_refused(&step);
        self.report(Some(step));
    }

    /// Keeps for the list of problems that a revision was refused, until a later one is in force.
    fn keep_refused(&self, step: &Revision) {
        let refused = refused_revision(step);
        self.count(|status| status.refused_revision = refused);
    }

    /// Publishes what is in force and what became of the last one, retained; what is still under way gives way to it.
    pub(super) fn report(&mut self, refused: Option<Revision>) {
        let revision = self.configurations.revisions.get().as_ref().map_or(0, |revisions| revisions.revision());
        self.count(|status| status.config_revision = revision);
        let report = self.reported(refused);
        let payload = Bytes::from(report.to_string());
        let mut outlets = self.parts.outlet.clone();
        self.configurations.reports.abort_all();
        self.configurations.reports.spawn(async move {
            loop {
                let Ok(outlet) = outlets.wait_for(Option::is_some).await.map(|outlet| outlet.clone()) else { return };
                let Some(outlet) = outlet else { return };
                let message = Message {
                    topic: outlet.topics.reported(),
                    payload: payload.clone(),
                    retain: true,
                    content_type: Some("application/json"),
                    expiry: None,
                    correlation_data: None,
                };
                // A broker that is replaced meanwhile ends the wait.
                let sent = async {
                    outlet.session.connected().await?;
                    Some(outlet.session.publish(message).await)
                };
                match sent.await {
                    Some(Delivery::SessionLost) | None => tokio::time::sleep(Duration::from_secs(1)).await,
                    Some(delivery) if !delivery.is_delivered() => {
                        tracing::warn!(%delivery, "the broker does not take the report of the configuration");
                        return;
                    }
                    Some(_) => return,
                }
            }
        });
    }

    fn reported(&self, refused: Option<Revision>) -> Value {
        let (in_force, latest) = match self.configurations.revisions.get() {
            Ok(revisions) => (revisions.in_force(), refused.as_ref().or(revisions.latest())),
            Err(trouble) => {
                let reason = Reason::new("", "", trouble.clone());
                let tried = refused.as_ref().map(tried);
                return json!({ "gateway": self.parts.gateway, "state": "refused", "tried": tried, "reasons": [reason] });
            }
        };
        let state = latest.map_or(json!("own"), |step| json!(step.standing));
        json!({
            "gateway": self.parts.gateway,
            "time": self.parts.clock.wall(),
            "revision": in_force.map_or(0, |step| step.revision),
            "digest": in_force.map(|step| step.digest.clone()),
            "state": state,
            "tried": latest.map(tried),
            "reasons": latest.map(|step| step.reasons.clone()).unwrap_or_default(),
        })
    }
}

/// A revision that was refused or rolled back, as the list of problems has it.
pub(super) fn refused_revision(step: &Revision) -> Option<RefusedRevision> {
    let rolled_back = match step.standing {
        Standing::Trial | Standing::Confirmed => return None,
        Standing::RolledBack => true,
        Standing::Refused => false,
    };
    let reason = |reason: &Reason| {
        let words = [&reason.file, &reason.key, &reason.reason].into_iter().filter(|word| !word.is_empty());
        words.map(String::as_str).collect::<Vec<_>>().join(": ")
    };
    let reasons = step.reasons.iter().map(reason).collect();
    Some(RefusedRevision { revision: step.revision, by: step.by.clone(), time: step.time, rolled_back, reasons })
}

fn tried(step: &Revision) -> Value {
    json!({ "revision": step.revision, "digest": step.digest, "by": step.by })
}
