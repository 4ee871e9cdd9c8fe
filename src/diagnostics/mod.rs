//! What the agent says about itself: one snapshot of every stage, for the local socket and for the health message.

pub mod configuration;
pub mod deeds;
pub mod health;
mod lendable;
pub mod points;
pub mod problem_reporter;
pub mod problems;
pub mod process;
pub mod protocol;
pub mod remote;
pub mod socket;
pub mod stored;
pub mod wear;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::actions::ActionsStatus;
use crate::buffer::{BufferStatus, Catalogue, Watermarks};
use crate::clock::Clock;
use crate::ingest::{IngestStatus, RulesStatus};
use crate::model::{BootId, ClockState, Name, SeriesId, Timestamp};
use crate::mqtt::SessionStatus;
use crate::poll::LinkStatus;
use crate::uplink::UplinkStatus;
use configuration::ConfigurationStatus;
use points::BadPointsOfDevice;
use problems::Problem;
use process::ProcessStatus;
use wear::WearStatus;

/// Everything the agent knows about itself at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// The place.
    pub site: String,
    /// The machine.
    pub gateway: String,
    /// When this was taken.
    pub time: Timestamp,
    /// When the agent started.
    pub started: Timestamp,
    /// This boot of the machine.
    pub boot: BootId,
    /// How far the wall clock can be trusted.
    pub clock: ClockState,
    /// Everything that needs a person, the most urgent first.
    pub problems: Vec<Problem>,
    /// How the owner's file stands.
    pub configuration: ConfigurationStatus,
    /// What the configuration in force deserves a warning for.
    pub warnings: Vec<String>,
    /// Links and their devices.
    pub links: Vec<LinkStatus>,
    /// Points that give no value, by device and reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_points: Vec<BadPointsOfDevice>,
    /// Readings taken.
    pub ingest: IngestStatus,
    /// Rules evaluated, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesStatus>,
    /// What alarms asked to have done, where there are rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<ActionsStatus>,
    /// Commands from afar, where any can come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<remote::RemoteStatus>,
    /// What is kept.
    pub store: BufferStatus,
    /// How far each lane is delivered.
    pub lanes: Watermarks,
    /// What was sent.
    pub uplink: UplinkStatus,
    /// The connection to the broker and its counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<SessionStatus>,
    /// What the process takes of the machine.
    pub process: ProcessStatus,
    /// What storing wears the disk.
    pub wear: WearStatus,
}

/// The parts of the agent that change when a configuration is loaded.
#[derive(Clone, Default)]
pub struct Parts {
    /// The series of every configured tag, sorted.
    pub series: Arc<[SeriesId]>,
    /// One for each link.
    pub links: Vec<watch::Receiver<LinkStatus>>,
    /// The uplink and its session.
    pub uplink: Option<watch::Receiver<UplinkStatus>>,
    /// The connection to the broker.
    pub mqtt: Option<watch::Receiver<SessionStatus>>,
    /// What the configuration in force deserves a warning for.
    pub warnings: Vec<String>,
    /// How the owner's file stands.
    pub configuration: ConfigurationStatus,
}

/// Takes snapshots.
#[derive(Clone)]
pub struct Board {
    /// The place.
    pub site: Name,
    /// The machine.
    pub gateway: Name,
    /// When the agent started.
    pub started: Timestamp,
    /// The clock since boot when the agent started.
    pub started_monotonic: Duration,
    /// Bytes that the card bears, where the configuration says so.
    pub card_endurance_bytes: Option<u64>,
    /// Source of times.
    pub clock: Arc<dyn Clock>,
    /// What each series is called.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Readings taken.
    pub ingest: watch::Receiver<IngestStatus>,
    /// What alarms asked to have done.
    pub actions: watch::Receiver<ActionsStatus>,
    /// Rules evaluated.
    pub rules: watch::Receiver<Option<RulesStatus>>,
    /// Commands from afar.
    pub remote: watch::Receiver<Option<remote::RemoteStatus>>,
    /// What is kept.
    pub store: watch::Receiver<BufferStatus>,
    /// How far each lane is delivered.
    pub lanes: watch::Receiver<Watermarks>,
    /// Asks for the whole state on the health topic.
    pub health: health::HealthRequests,
    /// What changes with the configuration.
    pub parts: watch::Receiver<Parts>,
}

impl Board {
    /// The state of every stage now.
    pub fn snapshot(&self) -> Status {
        let parts = self.parts.borrow().clone();
        let ingest = self.ingest.borrow().clone();
        let time = self.clock.wall();
        let process = ProcessStatus::now();
        let store = self.store.borrow().clone();
        let up = self.clock.monotonic().saturating_sub(self.started_monotonic);
        let wear = WearStatus::new(&process, &store, up, self.card_endurance_bytes);
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION"),
            site: self.site.to_string(),
            gateway: self.gateway.to_string(),
            time,
            started: self.started,
            boot: self.clock.boot(),
            clock: self.clock.state(),
            problems: Vec::new(),
            configuration: parts.configuration,
            warnings: parts.warnings,
            links: parts.links.iter().map(|link| link.borrow().clone()).collect(),
            bad_points: points::lasting(&ingest.bad_points, &parts.series, &self.catalogue.borrow(), time),
            ingest,
            actions: self.rules.borrow().as_ref().map(|_| self.actions.borrow().clone()),
            rules: self.rules.borrow().clone(),
            remote: self.remote.borrow().clone(),
            store,
            lanes: *self.lanes.borrow(),
            uplink: parts.uplink.map(|uplink| uplink.borrow().clone()).unwrap_or_default(),
            mqtt: parts.mqtt.map(|mqtt| mqtt.borrow().clone()),
            process,
            wear,
        };
        status.problems = problems::list(&status);
        status
    }
}
