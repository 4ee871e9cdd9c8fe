//! Commands from afar: verified, journalled, carried out at most once, answered.
//!
//! ```text
//! .../cmd/<id> --> gate --> journal --> carry out --> journal --> .../ack/<id>
//!                   |                       |
//!                refused                readings, alarms, log, restart
//! ```
//!
//! # Invariants
//!
//! - Nothing is carried out that did not pass every check of [`gate`], in its order, and nothing before the journal says
//!   durably that it is about to be. A command whose id is known gets its old answer, marked as a duplicate.
//! - A command that was begun when the agent ended is *unknown* afterwards. It is never begun again.
//! - What changes anything is refused while the journal cannot be read or written.
//! - Every refusal is answered, in its turn: the pace of answers is bounded, and so is the line before it.
//! - A flood costs messages, not polls: they are taken one at a time, between everything else this thread does, and what
//!   does not fit the queue is dropped and counted.
//! - Journal, audit log, leases, pace and revisions are written by threads that may block, never by that of all tasks.
//! - Without keys, and without anything that may be written, this task does not exist.

pub mod answer;
pub mod audit;
pub mod bundle;
mod configuration;
pub mod desired;
pub mod execute;
pub mod fail_point;
pub mod gate;
mod here;
mod intake;
pub mod journal;
mod lent;
mod log_file;
pub mod order;
mod refusals;
mod reply;
pub mod revisions;
mod saying;
pub mod signature;
mod unfinished;
pub mod verb;
pub mod write;
mod writes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::actions::RuleWrite;
use crate::clock::Clock;
use crate::config::RemoteConfig;
use crate::diagnostics::deeds::Deed;
use crate::diagnostics::protocol::Notice;
use crate::diagnostics::remote::RemoteStatus;
use crate::mqtt::{Inbox, Received, SessionHandle, Topics};
use answer::{Answer, Outcome, State};
use audit::Audit;
use configuration::Configurations;
use execute::Services;
use gate::{Gate, Genuine, Now, Refusal};
use journal::Journal;
use lent::Lent;
use refusals::Refusals;
use reply::Reply;
use revisions::{Reason, Revisions};
use verb::Verb;
use write::lease::Leases;
use write::lock::WriteLock;
use write::pace::Pace;
use write::{Permission, Ticket, WriteGuard};
use writes::{Returned, Returning};

/// Messages that wait to be looked at: a burst of many operators.
const MESSAGES_QUEUED: usize = 64;

/// Commands that are carried out at once.
const AT_ONCE: usize = 4;

/// Requests of the local socket that wait: what a few people ask at once.
const DEEDS_QUEUED: usize = 8;

/// How long what is under way may take when the agent stops.
const LAST_ANSWERS: Duration = Duration::from_millis(1500);

/// What only the whole agent can do.
#[derive(Debug)]
pub enum AgentOrder {
    /// Stop in order, and start again.
    Restart,
    /// Try a configuration.
    Try(TrialOrder, oneshot::Sender<Verdict>),
}

/// A configuration to be tried.
#[derive(Debug)]
pub struct TrialOrder {
    /// Where its files are; nothing for the owner's own alone.
    pub directory: Option<PathBuf>,
    /// How long it may take to prove itself.
    pub window: Duration,
    /// Which part of the devices that answered before must answer again.
    pub share: f64,
    /// Tags, `press-1/setpoint_c`, whose value has to return to a safe one: they must stay writable.
    pub leased: Vec<String>,
}

/// What became of a trial.
#[derive(Debug)]
pub enum Verdict {
    /// It proved itself, and stays in force.
    Kept,
    /// It has faults; nothing was changed.
    Refused(Vec<Reason>),
    /// It did not prove itself; the one before is in force again.
    RolledBack(Vec<Reason>),
}

/// How answers get out: changes when another broker is configured.
#[derive(Clone)]
pub struct Outlet {
    /// The session.
    pub session: SessionHandle,
    /// Topics of this gateway.
    pub topics: Topics,
}

/// What the task needs of the agent.
pub struct CommandParts {
    /// `<site>/<gateway>`.
    pub gateway: String,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who may command.
    pub config: watch::Receiver<RemoteConfig>,
    /// What may be written.
    pub permissions: watch::Receiver<Vec<Permission>>,
    /// The way out.
    pub outlet: watch::Receiver<Option<Outlet>>,
    /// What commands reach.
    pub services: Services,
    /// Where journal and counters lie.
    pub directory: PathBuf,
    /// What only the whole agent can do.
    pub orders: mpsc::Sender<AgentOrder>,
}

/// What leads into the task.
pub struct CommandDoors {
    /// For what comes from the broker.
    pub inbox: InboxSender,
    /// For what comes from the local socket.
    pub deeds: mpsc::Sender<Deed>,
    /// For what alarms want written.
    pub rule_writes: mpsc::Sender<RuleWrite>,
}

/// Where a session puts what comes for this gateway.
#[derive(Clone)]
pub struct InboxSender(mpsc::Sender<Received>);

impl InboxSender {
    /// What a session of these topics subscribes to.
    pub fn inbox(&self, topics: &Topics) -> Inbox {
        Inbox { filters: vec![topics.commands(), topics.desired()], messages: self.0.clone() }
    }
}

/// The task.
pub struct Commands {
    parts: CommandParts,
    inbox: mpsc::Receiver<Received>,
    gate: Gate,
    journal: Lent<Journal>,
    audit: Lent<Audit>,
    deeds: mpsc::Receiver<Deed>,
    rule_writes: mpsc::Receiver<RuleWrite>,
    guard: WriteGuard,
    pace: Lent<Pace>,
    configurations: Configurations,
    returning: Returning,
    returns: JoinSet<Returned>,
    running: JoinSet<Carried>,
    answers: JoinSet<()>,
    forwards: JoinSet<()>,
    refusals: Refusals,
    /// Until when the log level is another one.
    log_until: Option<Instant>,
    status: watch::Sender<Option<RemoteStatus>>,
}

/// A command that was carried out.
struct Carried {
    genuine: Genuine,
    outcome: Outcome,
    ticket: Option<Ticket>,
    to: Asker,
}

/// Who waits for the answer.
enum Asker {
    Afar(Reply),
    Here(oneshot::Sender<Result<Value, Notice>>),
    Rule(oneshot::Sender<Result<(), String>>),
}

impl Commands {
    /// Opens the journal. What was under way when the agent ended is unknown from now on. Blocks.
    pub fn new(parts: CommandParts, status: watch::Sender<Option<RemoteStatus>>) -> (Self, CommandDoors) {
        let (sender, inbox) = mpsc::channel(MESSAGES_QUEUED);
        let (deed_sender, deeds) = mpsc::channel(DEEDS_QUEUED);
        let (rule_sender, rule_writes) = mpsc::channel(DEEDS_QUEUED);
        let leases = std::fs::create_dir_all(&parts.directory).map_err(|error| error.to_string());
        let leases = leases.and_then(|()| Leases::open(&parts.directory));
        let audit = Audit::open(&parts.directory, parts.clock.wall());
        let mut concerns: Vec<String> = audit.concern().map(str::to_owned).into_iter().collect();
        let revisions = Revisions::open(&parts.directory, parts.clock.wall());
        if let Err(trouble) = &revisions {
            tracing::error!(trouble, "configurations from afar cannot be remembered: none is taken");
            concerns.push(format!(
                "the owner's own configuration is in force, and none from afar is taken: {trouble}; moving the file away \
                 begins anew"
            ));
        }
        let pace = Pace::open(&parts.directory);
        let guard = writes::guard(WriteLock::in_directory(&parts.directory), &pace, &*parts.clock);
        let journal = Journal::open(&parts.directory);
        if let Some(trouble) = journal.trouble() {
            tracing::error!(trouble, "the journal of commands cannot be used: nothing that changes anything is done");
        }
        let counters = journal.counters();
        let config_revision = revisions.as_ref().map_or(0, Revisions::revision);
        let latest = revisions.as_ref().ok().and_then(Revisions::latest);
        let refused_revision = latest.and_then(configuration::refused_revision);
        let remote = RemoteStatus::new(journal.trouble(), concerns);
        status.send_replace(Some(RemoteStatus { config_revision, refused_revision, ..remote }));
        parts.services.log.keep_lines();
        let commands = Self {
            parts,
            inbox,
            gate: Gate::new(counters),
            journal: Ok(journal).into(),
            audit: Ok(audit).into(),
            deeds,
            rule_writes,
            guard,
            pace: pace.into(),
            configurations: Configurations::new(revisions),
            returning: Returning::new(leases),
            returns: JoinSet::new(),
            running: JoinSet::new(),
            answers: JoinSet::new(),
            forwards: JoinSet::new(),
            refusals: Refusals::new(Instant::now()),
            log_until: None,
            status,
        };
        (commands, CommandDoors { inbox: InboxSender(sender), deeds: deed_sender, rule_writes: rule_sender })
    }

    /// Takes commands until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        self.guard.replace(self.parts.permissions.borrow_and_update().clone());
        self.report(None);
        self.settle_unfinished().await;
        loop {
            let next_answer = self.next_answer();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(Ok(carried)) = self.running.join_next() => self.conclude(carried).await,
                Some(_) = self.answers.join_next() => {}
                Some(_) = self.forwards.join_next() => {}
                Some(Ok((step, verdict))) = self.configurations.trials.join_next() => {
                    self.conclude_trial(step, verdict).await;
                }
                Some(_) = self.configurations.reports.join_next() => {}
                Some(Ok(returned)) = self.returns.join_next() => self.has_returned(returned).await,
                () = wait_until(next_answer) => self.answer_waiting(),
                () = wait_until(self.log_until) => self.restore_log_level(),
                () = wait_until(self.returning.next()) => self.look_at_leases(),
                Ok(()) = self.parts.permissions.changed() => {
                    self.guard.replace(self.parts.permissions.borrow_and_update().clone());
                }
                Some(wanted) = self.rule_writes.recv() => self.write_for_rule(wanted).await,
                Some(deed) = self.deeds.recv() => self.take_deed(deed).await,
                Some(received) = self.inbox.recv() => {
                    self.take(received).await;
                    // However many wait: everything else on this thread comes in between.
                    tokio::task::yield_now().await;
                }
            }
        }
        let until = Instant::now() + LAST_ANSWERS;
        while let Ok(Some(Ok(carried))) = tokio::time::timeout_at(until, self.running.join_next()).await {
            self.conclude(carried).await;
        }
        let answers = async { while self.answers.join_next().await.is_some() {} };
        let _ = timeout(until.saturating_duration_since(Instant::now()), answers).await;
        self.status.send_replace(None);
    }

    fn now(&self) -> Now {
        let clock = &self.parts.clock;
        Now { time: clock.wall(), clock: clock.state(), monotonic: clock.monotonic() }
    }

    /// Carries out what is journalled.
    async fn start(&mut self, genuine: Genuine, ticket: Option<Ticket>, to: Asker) {
        fail_point::reached("begun");
        self.gate.used(&genuine.key, genuine.order.counter);
        tracing::info!(id = genuine.order.id, key = genuine.key, command = genuine.order.command, "command accepted");
        let arguments = Some(&genuine.order.arguments).filter(|arguments| !arguments.is_null());
        let arguments = arguments.map(|arguments| format!(" {arguments}")).unwrap_or_default();
        let text = format!("{}{arguments} {}", genuine.order.command, genuine.order.id);
        self.note("command", &genuine.key, &text).await;
        self.count(|status| status.accepted += 1);
        let (services, accepted) = (self.parts.services.clone(), self.answer(&genuine, State::Accepted));
        let clock = self.parts.clock.clone();
        self.running.spawn(async move {
            let work = async {
                match &ticket {
                    Some(ticket) => services.write(ticket, &*clock).await,
                    None => services.carry_out(&genuine).await,
                }
            };
            let outcome = match &to {
                Asker::Afar(reply) => reply.while_running(accepted, work).await,
                Asker::Here(_) | Asker::Rule(_) => work.await,
            };
            Carried { genuine, outcome, ticket, to }
        });
    }

    /// Journals that the command is about to be carried out. What changes nothing is carried out without, if need be.
    async fn begin(&mut self, genuine: &Genuine) -> Result<(), Refusal> {
        let (of, time) = (genuine.clone(), self.parts.clock.wall());
        let begun = self.with_journal(move |journal| journal.begin(&of, time)).await;
        match begun {
            Err(trouble) if genuine.verb.changes() => Err(Refusal::Journal(trouble)),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Journals what came of a command, and says it.
    async fn conclude(&mut self, carried: Carried) {
        self.settle_write(&carried).await;
        let state = serde_json::to_value(carried.outcome.state).unwrap_or_default();
        let reason = carried.outcome.reason.as_deref().unwrap_or_default();
        let state = state.as_str().unwrap_or_default();
        let text = format!("{} {}: {state} {reason}", carried.genuine.order.command, carried.genuine.order.id);
        self.note("answer", &carried.genuine.key, &text).await;
        let Carried { genuine, outcome, to, .. } = carried;
        let (id, ended, time) = (genuine.order.id.clone(), outcome.clone(), self.parts.clock.wall());
        if let Err(trouble) = self.with_journal(move |journal| journal.end(&id, &ended, time)).await {
            tracing::warn!(trouble, "what came of a command is not journalled");
        }
        fail_point::reached("ended");
        tracing::info!(id = genuine.order.id, command = genuine.order.command, state = ?outcome.state, "command ended");
        self.count(|status| match outcome.state {
            State::Done => status.done += 1,
            _ => status.failed += 1,
        });
        if let (Verb::LogLevel(change), State::Done) = (&genuine.verb, outcome.state) {
            self.log_until = Some(Instant::now() + change.span.0);
        }
        let orders = (genuine.verb == Verb::Restart && outcome.state == State::Done).then(|| self.parts.orders.clone());
        let answer = Answer { reason: outcome.reason, result: outcome.result, ..self.answer(&genuine, outcome.state) };
        let reply = match to {
            Asker::Afar(reply) => reply,
            Asker::Rule(asker) => {
                let outcome = match answer.state {
                    State::Done => Ok(()),
                    _ => Err(answer.reason.unwrap_or_default()),
                };
                return drop(asker.send(outcome));
            }
            Asker::Here(asker) => return drop(asker.send(Ok(serde_json::to_value(&answer).unwrap_or_default()))),
        };
        self.answers.spawn(async move {
            reply.parts(&answer, outcome.parts).await;
            reply.send(&answer).await;
            if let Some(orders) = orders {
                // An error means that the agent stops already.
                let _ = orders.send(AgentOrder::Restart).await;
            }
        });
    }

    /// Lends the journal to a thread that may block.
    async fn with_journal(
        &mut self,
        deed: impl FnOnce(&mut Journal) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let lent = self.journal.with(|journal| {
            let outcome = deed(journal);
            (outcome, journal.trouble().map(str::to_owned))
        });
        let (outcome, trouble) = lent.await.map_err(|error| format!("the journal is lost: {error}"))?;
        self.count(|status| status.trouble = trouble);
        outcome
    }

    fn restore_log_level(&mut self) {
        self.log_until = None;
        self.parts.services.log.restore();
        tracing::info!("the log level is what it was");
    }

    fn count(&self, change: impl FnOnce(&mut RemoteStatus)) {
        self.status.send_modify(|status| change(status.get_or_insert_default()));
    }

    fn answer(&self, genuine: &Genuine, state: State) -> Answer {
        Answer {
            command: Some(genuine.order.command.clone()),
            key: Some(genuine.key.clone()),
            ..self.bare(&genuine.order.id, state)
        }
    }

    fn bare(&self, id: &str, state: State) -> Answer {
        Answer {
            id: id.to_owned(),
            gateway: self.parts.gateway.clone(),
            time: self.parts.clock.wall(),
            state,
            was: None,
            command: None,
            key: None,
            reason: None,
            result: Value::Null,
            part: None,
        }
    }
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
