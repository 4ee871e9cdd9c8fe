//! Builds every task from a [`Config`], joins their channels and runs them until told to stop.
//!
//! The only place that joins channels. A configuration can be replaced while it runs: links that did not change keep
//! their pollers, and with them their schedules, connections and queued readings.

mod admission;
mod advice;
mod epochs;
mod fallback;
pub mod learned;
mod links;
mod notify;
mod online;
mod reload;
mod remote;
mod rules;
mod runtime_directory;
pub mod service;
mod trial;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::Id;
use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use crate::actions::{ACTIONS_QUEUED, Actions, Reach};
use crate::buffer::{self, BufferHandle, BufferSettings, BufferThread, Catalogue};
use crate::clock::{Clock, SystemClock};
use crate::commands::AgentOrder;
use crate::config::{ClockTrust, Config, LinkConfig};
use crate::diagnostics::deeds::Deeds;
use crate::diagnostics::health::{HealthReporter, HealthRequests};
use crate::diagnostics::problem_reporter::ProblemReporter;
use crate::diagnostics::socket::{Directory, Services, SocketServer};
use crate::diagnostics::{Board, Parts};
use crate::ingest::{Ingest, LiveHandle, RuleParts, RulesHandle};
use crate::logging::LogHandle;
use crate::model::{SeriesId, SeriesInfo};
use crate::mqtt::{Session, Topics};
use crate::poll::PollCycle;
use crate::poll::learned::LearnedDevices;
use crate::rules::spec::GroupSpec;
use crate::settings::FileFault;
use crate::supervisor::{Stage, Supervisor, TaskEnd};
use crate::uplink::{ForwardTable, Uplink, UplinkSettings};
pub use admission::admit;
use epochs::EpochFollower;
use learned::Keeper;
use links::{RunningLink, Start};
pub use links::{tags_at, warnings};
pub use online::check_broker;
use remote::Remote;
pub use remote::Surroundings;
pub use rules::{
    doubtful_interlocks, fault_of as rule_fault, load as load_rules, readable as rules_of, series as rule_series,
    stored_up, unmatched_selectors,
};

/// Cycles between the pollers and ingest: five seconds of fifty devices at ten cycles a second, the longest flush seen
/// on a slow card.
const CYCLES_QUEUED: usize = 2500;

/// How often the thread of the store is looked at.
const LOOK_AT_STORE: Duration = Duration::from_secs(1);

/// By when each stage has to end, counted from the request to stop: together less than five seconds. Stages mostly end
/// at once, and what they leave is there for the later ones. A request in hand may take its two seconds: what a device
/// answers to it is stored.
const POLL_UNTIL: Duration = Duration::from_millis(2200);
const INGEST_UNTIL: Duration = Duration::from_millis(2700);
const UPLINK_UNTIL: Duration = Duration::from_millis(4000);
const SESSION_UNTIL: Duration = Duration::from_millis(4300);
const DIAGNOSTICS_UNTIL: Duration = Duration::from_millis(4500);

/// Beyond its timeout, what a link that is taken out of service needs to hand on its readings.
const POLL_PATIENCE: Duration = Duration::from_millis(1500);

/// A running agent.
pub struct Agent {
    config: Config,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    buffer: BufferHandle,
    buffer_thread: BufferThread,
    cycles: mpsc::Sender<PollCycle>,
    live: LiveHandle,
    links: Vec<RunningLink>,
    /// Devices that answered when the configuration was last replaced.
    answering: HashSet<String>,
    /// What is known of devices that are not polled now.
    learned: LearnedDevices,
    uplink_tasks: Vec<Id>,
    board: Board,
    parts: watch::Sender<Parts>,
    directory: watch::Sender<Directory>,
    catalogue: watch::Sender<Arc<Catalogue>>,
    rules: RulesHandle,
    /// The rules in force.
    groups: Vec<GroupSpec>,
    forward: watch::Sender<Arc<ForwardTable>>,
    /// What actions of rules can reach.
    reach: watch::Sender<Reach>,
    /// Payload of the state topic.
    online: watch::Sender<Bytes>,
    remote: Remote,
}

/// What happens to an agent that nobody told to stop.
#[derive(Debug)]
pub enum Event {
    /// A task ended by itself: a defect.
    Failed(TaskEnd),
    /// Somebody afar wants what only the whole agent can do.
    Ordered(AgentOrder),
}

impl Agent {
    /// Starts an agent that has no log and no file of its own.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_in(Surroundings { log: LogHandle::none(), config_file: None }, config).await
    }

    /// Opens the store and starts every task. Nothing is left running when it fails.
    pub async fn start_in(surroundings: Surroundings, config: Config) -> anyhow::Result<Self> {
        let groups = load_rules(&config).map_err(|faults| anyhow::anyhow!(listed(&faults)))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(config.clock == ClockTrust::Local));
        let settings = BufferSettings {
            path: config.store.path.clone(),
            limit_bytes: config.store.limit_bytes,
            commit_interval: config.store.commit_interval,
            commit_interval_max: config.store.commit_interval_max,
            engine: config.store.engine,
            when_full: config.store.when_full,
        };
        let wal = runtime_directory::open_commit_place(&config);
        let (buffer_thread, buffer) = buffer::open_with_wal(settings, wal, clock.clone())?;
        let learned = learned::load(&learned::place(&config.store.path));
        let catalogue = Arc::new(buffer.catalogue().await?);
        let (cycles, queue) = mpsc::channel(CYCLES_QUEUED);
        let catalogue = watch::Sender::new(catalogue);
        let (asked, actions) = mpsc::channel(ACTIONS_QUEUED);
        let reach = watch::Sender::new(Reach::default());
        let actions = Actions::new(actions, buffer.clone(), clock.clone(), reach.subscribe(), catalogue.clone());
        let rule_parts =
            RuleParts { buffer: buffer.clone(), clock: clock.clone(), catalogue: catalogue.clone(), actions: asked };
        let (ingest, live, rules) = Ingest::new(queue, rule_parts);
        let parts = watch::Sender::new(Parts::default());
        let file = surroundings.config_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        parts.send_modify(|parts| parts.configuration.file = file);
        let remote = Remote::new(surroundings);
        let board = Board {
            site: config.gateway.site.clone(),
            gateway: config.gateway.id.clone(),
            started: clock.wall(),
            started_monotonic: clock.monotonic(),
            card_endurance_bytes: config.store.card_endurance_bytes,
            clock: clock.clone(),
            catalogue: catalogue.subscribe(),
            ingest: ingest.status(),
            rules: rules.status(),
            actions: actions.status(),
            remote: remote.status.subscribe(),
            store: buffer.status(),
            lanes: buffer.watermarks(),
            health: HealthRequests::default(),
            parts: parts.subscribe(),
        };
        let mut supervisor = Supervisor::default();
        supervisor.spawn("ingest", Stage::Ingest, |stop| ingest.run(stop));
        supervisor.spawn("actions", Stage::Uplink, |stop| actions.run(stop));
        let mut agent = Self {
            config,
            clock,
            supervisor,
            buffer,
            buffer_thread,
            cycles,
            live,
            links: Vec::new(),
            answering: HashSet::new(),
            learned,
            uplink_tasks: Vec::new(),
            board,
            parts,
            directory: watch::Sender::new(Directory::default()),
            catalogue,
            rules,
            groups,
            forward: watch::Sender::default(),
            reach,
            online: watch::Sender::default(),
            remote,
        };
        if let Err(error) = agent.start_rest().await {
            agent.shutdown().await;
            return Err(error);
        }
        Ok(agent)
    }

    async fn start_rest(&mut self) -> anyhow::Result<()> {
        self.start_socket()?;
        self.follow_epochs();
        // Before the uplink: the first catalogue and the first health message name every series and link.
        self.apply_links().await?;
        let keeper = Keeper::new(learned::place(&self.config.store.path), self.parts.subscribe(), self.learned.clone());
        self.supervisor.spawn("learned", Stage::Uplink, |stop| keeper.run(stop));
        self.apply_remote().await;
        self.tell_permissions();
        self.start_uplink().await
    }

    fn start_socket(&mut self) -> anyhow::Result<()> {
        let services = Services {
            board: self.board.clone(),
            live: self.live.clone(),
            buffer: self.buffer.clone(),
            directory: self.directory.subscribe(),
            rules: self.rules.clone(),
            deeds: Deeds(self.remote.deeds.subscribe()),
        };
        let path = &self.config.gateway.socket;
        let server = SocketServer::bind(path, services)
            .with_context(|| format!("gateway.socket = {:?}: cannot listen", path.display().to_string()))?;
        self.supervisor.spawn("diagnostics", Stage::Diagnostics, |stop| server.run(stop));
        Ok(())
    }

    fn follow_epochs(&mut self) {
        let (buffer, catalogue) = (self.buffer.clone(), self.catalogue.clone());
        let follower = EpochFollower { buffer, catalogue, online: self.online.clone() };
        self.supervisor.spawn("epochs", Stage::Uplink, |stop| follower.run(stop));
        let (online, remote) = (self.online.clone(), self.remote.status.subscribe());
        self.supervisor.spawn("revisions", Stage::Uplink, |stop| online::follow_revisions(online, remote, stop));
    }

    async fn start_uplink(&mut self) -> anyhow::Result<()> {
        let mqtt = &self.config.mqtt;
        let topics = Topics::new(&mqtt.prefix, &self.config.gateway.site, &self.config.gateway.id)?;
        let epoch = self.catalogue.borrow().epoch;
        let settings = online::session_settings(mqtt, &topics, &self.config.gateway);
        let revision = online::revision(self.remote.status.borrow().as_ref());
        self.online.send_replace(online::announcement(&self.config, &*self.clock, epoch, revision));
        let (session, handle) =
            Session::new(settings, self.online.subscribe(), self.remote.inbox(&topics), self.clock.clone())?;
        self.remote.connect(handle.clone(), topics.clone());
        let settings = UplinkSettings {
            site: self.config.gateway.site.clone(),
            gateway: self.config.gateway.id.clone(),
            batch: mqtt.batch,
            backlog: mqtt.backlog,
            topics: topics.clone(),
        };
        let uplink = Uplink::new(
            settings,
            self.buffer.clone(),
            handle.clone(),
            self.clock.clone(),
            self.catalogue.subscribe(),
            self.forward.subscribe(),
            self.rules.raised(),
        );
        let health = HealthReporter::new(self.board.clone(), handle.clone(), topics.health(), mqtt.health);
        let problems = ProblemReporter::new(self.board.clone(), handle.clone(), topics.problems());
        self.reach.send_modify(|reach| reach.broker = Some((handle.clone(), topics.clone())));
        self.parts.send_modify(|parts| {
            parts.uplink = Some(uplink.status());
            parts.mqtt = Some(handle.status());
        });
        self.uplink_tasks = vec![
            self.supervisor.spawn("uplink", Stage::Uplink, |stop| uplink.run(stop)),
            self.supervisor.spawn("problems", Stage::Uplink, |stop| problems.run(stop)),
            self.supervisor.spawn("session", Stage::Session, |stop| session.run(stop)),
        ];
        let health = health.map(|health| self.supervisor.spawn("health", Stage::Uplink, |stop| health.run(stop)));
        self.uplink_tasks.extend(health);
        Ok(())
    }

    /// Makes the running links those of the configuration: starts what is new, stops what is gone, and leaves alone
    /// what is the same.
    async fn apply_links(&mut self) -> anyhow::Result<()> {
        // The running links keep what they were started with; a second copy of every series is not worth its memory.
        let mut wanted = std::mem::take(&mut self.config.links);
        let series = self.register_series(&mut wanted).await?;
        let mut tags: Vec<SeriesId> = series.iter().flatten().flatten().copied().collect();
        tags.sort_unstable();
        self.parts.send_modify(|parts| parts.series = tags.into());
        self.forward.send_replace(Arc::new(links::forward_table(&wanted, &series, &self.config.forward)));
        let setup = rules::setup(&self.groups, &self.config.writes, &self.config.gateway, &wanted, &series);
        if let Err(errors) = self.rules.replace(setup).await {
            errors.iter().for_each(|error| tracing::error!(%error, "rules are not in force"));
        }
        self.learned.append(&mut learned::of_links(&self.parts.borrow()));
        let (kept, gone): (Vec<RunningLink>, Vec<RunningLink>) =
            std::mem::take(&mut self.links).into_iter().partition(|running| wanted.contains(&running.config));
        for link in gone {
            tracing::info!(link = %link.config.name, "link stopped");
            self.supervisor.stop_task(link.task, POLL_PATIENCE + link.config.timeout).await;
        }
        let mut kept: HashMap<String, RunningLink> =
            kept.into_iter().map(|link| (link.config.name.to_string(), link)).collect();
        for (config, series) in wanted.into_iter().zip(series) {
            let running = match kept.remove(config.name.as_str()) {
                Some(running) => running,
                None => {
                    let start = Start { clock: &self.clock, cycles: self.cycles.clone(), learned: &self.learned };
                    let running = links::start(&mut self.supervisor, config, series, start)?;
                    tracing::info!(link = %running.config.name, endpoint = %running.config.endpoint, "link started");
                    running
                }
            };
            self.links.push(running);
        }
        self.announce_links();
        Ok(())
    }

    /// The ids of the series of each tag of each device. What is said of a series stands in the catalogue; the links
    /// share it from there.
    async fn register_series(&self, links: &mut [LinkConfig]) -> anyhow::Result<Vec<Vec<Vec<SeriesId>>>> {
        let mut all = Vec::with_capacity(links.len());
        for link in links.iter() {
            let mut devices = Vec::with_capacity(link.devices.len());
            for device in &link.devices {
                let series = device.tags.iter().map(|tag| SeriesInfo::clone(&tag.series)).collect();
                devices.push(self.buffer.register(series).await?);
            }
            all.push(devices);
        }
        let catalogue = self.buffer.catalogue().await?;
        links::share_series(links, &all, &catalogue);
        self.catalogue.send_replace(Arc::new(catalogue));
        Ok(all)
    }

    fn announce_links(&self) {
        let links = self.links.iter().map(|link| (link.config.name.to_string(), link.handle.clone())).collect();
        let mut devices = HashMap::new();
        let mut reach = HashMap::new();
        for link in &self.links {
            for device in &link.config.devices {
                devices.insert(device.name.to_string(), link.config.name.to_string());
                reach.insert(device.name.to_string(), link.handle.clone());
            }
        }
        self.reach.send_modify(|known| known.devices = reach);
        let catalogue = Some(self.catalogue.borrow().clone());
        self.directory.send_replace(Directory { links, devices, catalogue });
        let warnings = links::warnings(self.links.iter().map(|link| &link.config));
        for warning in &warnings {
            tracing::warn!(warning, "the configuration asks for more than a link can do");
        }
        self.parts.send_modify(|parts| {
            parts.links = self.links.iter().map(|link| link.handle.status()).collect();
            parts.warnings = warnings;
        });
    }

    /// Takes snapshots of every stage.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Waits for the first task that ends although nobody told it to, the thread of the store among them. Safe to
    /// cancel.
    pub async fn failure(&mut self) -> TaskEnd {
        failed(&mut self.supervisor, &self.buffer_thread).await
    }

    /// Waits for what happens by itself. Safe to cancel.
    pub async fn event(&mut self) -> Event {
        tokio::select! {
            Some(order) = self.remote.orders.recv() => Event::Ordered(order),
            end = failed(&mut self.supervisor, &self.buffer_thread) => Event::Failed(end),
        }
    }

    /// Stops stage after stage: what was polled is stored or delivered when this returns. False when the store could
    /// not be closed.
    pub async fn shutdown(mut self) -> bool {
        let begun = Instant::now();
        let left = |until: Duration| until.saturating_sub(begun.elapsed());
        self.supervisor.stop_stage(Stage::Poll, left(POLL_UNTIL)).await;
        self.links.clear();
        drop(self.cycles);
        self.supervisor.stop_stage(Stage::Ingest, left(INGEST_UNTIL)).await;
        if let Err(error) = self.buffer.flush().await {
            tracing::error!(%error, "the last readings could not be made durable");
        }
        self.supervisor.stop_stage(Stage::Uplink, left(UPLINK_UNTIL)).await;
        self.supervisor.stop_stage(Stage::Session, left(SESSION_UNTIL)).await;
        self.supervisor.stop_stage(Stage::Diagnostics, left(DIAGNOSTICS_UNTIL)).await;
        let closed = self.buffer.close().await;
        // The thread ends right after it has answered.
        let closed = closed.and(self.buffer_thread.join());
        if let Err(error) = &closed {
            tracing::error!(%error, "the store could not be closed");
        }
        closed.is_ok()
    }
}

/// Waits for a task, or the thread of the store, that ends although nobody told it to.
async fn failed(supervisor: &mut Supervisor, store: &BufferThread) -> TaskEnd {
    loop {
        tokio::select! {
            end = supervisor.next_end() => if !end.expected {
                return end;
            },
            () = ended(store) => {
                let why = "the database hangs or failed for good, as the log says; a new process opens it again";
                return TaskEnd { name: "store".to_owned(), expected: false, panic: Some(why.to_owned()) };
            }
        }
    }
}

/// Waits for the end of the thread.
async fn ended(thread: &BufferThread) {
    while !thread.is_finished() {
        tokio::time::sleep(LOOK_AT_STORE).await;
    }
}

fn listed(faults: &[FileFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest wait for something that is certain to happen.
    const CERTAIN: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_end_of_the_thread_of_the_store_is_an_event() {
        let directory = tempfile::tempdir().unwrap();
        let text = "gateway = { site = \"lyon\", id = \"gw-01\", socket = \"socket\" }\n\
                    store = { path = \"store\" }\n\
                    mqtt = { url = \"mqtt://127.0.0.1:1\" }\n\
                    link = [{ name = \"hall\", tcp = \"127.0.0.1:1\" }]\n\
                    device = [{ name = \"meter\", link = \"hall\", unit_id = 1, profile = \"abb-b23\" }]\n";
        let config = crate::config::parse(text, "lineside.toml", directory.path()).unwrap();
        let mut agent = Agent::start(config).await.unwrap();

        agent.buffer.close().await.unwrap();

        let event = tokio::time::timeout(CERTAIN, agent.event()).await.expect("an agent without a store goes on");
        let Event::Failed(end) = event else { panic!("{event:?}") };
        assert_eq!(end.name, "store", "{end:?}");
    }
}
