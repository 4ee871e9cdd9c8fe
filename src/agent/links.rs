//! Starts the poller of a link, whatever it speaks.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::Id;

use crate::clock::Clock;
use crate::config::{Endpoint, LinkConfig};
use crate::model::SeriesId;
use crate::modbus::timing;
use crate::poll::text::TextPoller;
use crate::poll::{LinkHandle, PollCycle, Poller};
use crate::supervisor::{Stage, Supervisor};

/// A link whose poller runs.
pub(super) struct RunningLink {
    pub config: LinkConfig,
    pub handle: LinkHandle,
    pub task: Id,
}

pub(super) fn start(
    supervisor: &mut Supervisor,
    config: LinkConfig,
    series: Vec<Vec<SeriesId>>,
    clock: &Arc<dyn Clock>,
    cycles: mpsc::Sender<PollCycle>,
) -> anyhow::Result<RunningLink> {
    let name = format!("link {}", config.name);
    let (handle, task) = match config.endpoint {
        Endpoint::Text(_) => {
            let (poller, handle) = TextPoller::new(config.clone(), series, clock.clone(), cycles)?;
            (handle, supervisor.spawn(name, Stage::Poll, |stop| poller.run(stop)))
        }
        Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } | Endpoint::Rtu(_) => {
            let (poller, handle) = Poller::new(config.clone(), series, clock.clone(), cycles)?;
            (handle, supervisor.spawn(name, Stage::Poll, |stop| poller.run(stop)))
        }
    };
    Ok(RunningLink { config, handle, task })
}

/// What a person should know before the configuration runs: links that cannot keep their schedule.
pub fn warnings(links: &[LinkConfig]) -> Vec<String> {
    links.iter().filter_map(timing::overload).collect()
}
