//! The task that takes commands from afar: there only where somebody may send any.

use std::path::PathBuf;

use tokio::sync::{mpsc, watch};
use tokio::task::Id;

use super::Agent;
use crate::commands::execute::Services;
use crate::commands::write::{Installation, Permission, resolve};
use crate::commands::{AgentOrder, CommandParts, Commands, InboxSender, Outlet};
use crate::config::RemoteConfig;
use crate::diagnostics::deeds::Deed;
use crate::diagnostics::remote::RemoteStatus;
use crate::logging::LogHandle;
use crate::mqtt::{Inbox, SessionHandle, Topics};
use crate::supervisor::Stage;

/// Orders to the agent that wait: each of them changes everything, so one at a time.
const ORDERS_QUEUED: usize = 1;

/// What the agent is given beside its configuration.
pub struct Surroundings {
    /// The log of the process.
    pub log: LogHandle,
    /// The configuration file, where there is one.
    pub config_file: Option<PathBuf>,
}

/// What connects the agent with its commands.
pub(super) struct Remote {
    pub surroundings: Surroundings,
    pub orders: mpsc::Receiver<AgentOrder>,
    order_sender: mpsc::Sender<AgentOrder>,
    config: watch::Sender<RemoteConfig>,
    outlet: watch::Sender<Option<Outlet>>,
    pub status: watch::Sender<Option<RemoteStatus>>,
    permissions: watch::Sender<Vec<Permission>>,
    pub deeds: watch::Sender<Option<mpsc::Sender<Deed>>>,
    running: Option<(Id, InboxSender)>,
}

impl Remote {
    pub fn new(surroundings: Surroundings) -> Self {
        let (order_sender, orders) = mpsc::channel(ORDERS_QUEUED);
        Self {
            surroundings,
            orders,
            order_sender,
            config: watch::Sender::default(),
            outlet: watch::Sender::default(),
            status: watch::Sender::default(),
            permissions: watch::Sender::default(),
            deeds: watch::Sender::default(),
            running: None,
        }
    }

    /// What the session subscribes to.
    pub fn inbox(&self, topics: &Topics) -> Option<Inbox> {
        let listens = self.config.borrow().is_on();
        self.running.as_ref().filter(|_| listens).map(|(_, sender)| sender.inbox(topics))
    }

    /// Answers go out here from now on.
    pub fn connect(&self, session: SessionHandle, topics: Topics) {
        self.outlet.send_replace(Some(Outlet { session, topics }));
    }
}

impl Agent {
    /// Starts or stops the commands, as the configuration says. To be called before the session is started.
    pub(super) async fn apply_remote(&mut self) {
        let wanted = self.config.remote.clone();
        match (wanted.is_on() || !self.config.writes.is_empty(), &self.remote.running) {
            (true, None) => self.start_commands(),
            (false, Some((task, _))) => {
                let task = *task;
                self.remote.running = None;
                self.remote.deeds.send_replace(None);
                self.reach.send_modify(|reach| reach.guard = None);
                self.supervisor.stop_task(task, super::reload::REPLACE_PATIENCE).await;
            }
            (true, Some(_)) | (false, None) => {}
        }
        self.remote.config.send_replace(wanted);
        self.apply_permissions();
    }

    /// What may be written, with the links that run.
    pub(super) fn apply_permissions(&self) {
        let links = self.links.iter().map(|link| &link.config).collect();
        let installation = Installation { links, groups: &self.groups };
        self.remote.permissions.send_replace(resolve(&self.config.writes, &installation));
    }

    /// Says which writing is not allowed: when the links run that belong to it.
    pub(super) fn tell_permissions(&self) {
        for permission in self.remote.permissions.borrow().iter() {
            if let Err(reason) = &permission.place {
                let (device, point) = (&permission.config.device, &permission.config.point);
                tracing::warn!(%device, point, reason, "writing is not allowed");
            }
        }
    }

    fn start_commands(&mut self) {
        let services = Services {
            board: self.board.clone(),
            directory: self.directory.subscribe(),
            rules: self.rules.clone(),
            buffer: self.buffer.clone(),
            log: self.remote.surroundings.log.clone(),
            config_file: self.remote.surroundings.config_file.clone(),
        };
        let gateway = &self.config.gateway;
        let parts = CommandParts {
            gateway: format!("{}/{}", gateway.site, gateway.id),
            clock: self.clock.clone(),
            config: self.remote.config.subscribe(),
            permissions: self.remote.permissions.subscribe(),
            outlet: self.remote.outlet.subscribe(),
            services,
            directory: self.config.store.path.join("remote"),
            orders: self.remote.order_sender.clone(),
        };
        let (commands, doors) = Commands::new(parts, self.remote.status.clone());
        let task = self.supervisor.spawn("commands", Stage::Poll, |stop| commands.run(stop));
        self.remote.deeds.send_replace(Some(doors.deeds));
        self.reach.send_modify(|reach| reach.guard = Some(doors.rule_writes));
        self.remote.running = Some((task, doors.inbox));
    }
}
