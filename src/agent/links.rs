//! Starts the poller of a link, whatever it speaks.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::Id;

use crate::clock::Clock;
use crate::config::{Endpoint, LinkConfig, SelectedForward, TagConfig};
use crate::modbus::timing::{self, DeviceLoad, LinkLoad};
use crate::model::SeriesId;
use crate::poll::text::TextPoller;
use crate::poll::{LinkHandle, PollCycle, Poller};
use crate::supervisor::{Stage, Supervisor};
use crate::uplink::{ForwardRule, ForwardTable};

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

/// What is sent of which series; `series` holds the id of each tag of each device. What a rule records is meant only by
/// a selector with its name: whoever sends less of a device does not mean what he has calculated of it.
pub(super) fn forward_table(
    links: &[LinkConfig],
    series: &[Vec<Vec<SeriesId>>],
    selected: &[SelectedForward],
) -> ForwardTable {
    let devices = links.iter().zip(series).flat_map(|(link, series)| link.devices.iter().zip(series));
    let tags = devices.flat_map(|(device, series)| device.tags.iter().zip(series));
    let rule = |(tag, id): (&TagConfig, &SeriesId)| {
        let forward = tag.forward.clone()?;
        Some((*id, ForwardRule { forward, scale: tag.series.scale }))
    };
    let named = selected.iter().filter(|selected| selected.select.is_named());
    ForwardTable {
        tags: tags.filter_map(rule).collect(),
        named: named.map(|selected| (selected.select.clone(), selected.forward.clone())).collect(),
    }
}

/// What a person should know before the configuration runs: links that cannot keep their schedule, and those on which
/// answers come too late to be taken. Estimates.
pub fn warnings<'a>(links: impl IntoIterator<Item = &'a LinkConfig>) -> Vec<String> {
    let of_link = |link: &LinkConfig| {
        let load = timing::load(link).ok()?;
        Some([overload(link, &load), hasty(link, &load)])
    };
    links.into_iter().filter_map(of_link).flatten().flatten().collect()
}

fn overload(link: &LinkConfig, load: &LinkLoad) -> Option<String> {
    if load.fits() {
        return None;
    }
    let busiest = load.devices.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    Some(format!(
        "link {} is asked for {:.0} % of its time ({:.1} requests/s, {:.0} registers/s); polls will be late or left \
         out. {} takes the most, {:.0} %: lengthen its intervals or read fewer points",
        link.name,
        load.busy * 100.0,
        load.requests_per_second,
        load.registers_per_second,
        busiest.device,
        share(busiest) * 100.0
    ))
}

fn hasty(link: &LinkConfig, load: &LinkLoad) -> Option<String> {
    let expected = load.slowest_answer.filter(|expected| *expected > link.timeout)?;
    Some(format!(
        "link {} waits {} ms for an answer that is expected to take up to {} ms, and would take it for missing: lengthen \
         timeout",
        link.name,
        link.timeout.as_millis(),
        expected.as_millis() + 1
    ))
}

/// Part of the link's time that a device takes with what it is polled for at intervals.
fn share(device: &DeviceLoad) -> f64 {
    let scheduled = device.groups.iter().filter(|group| !group.interval.is_zero());
    scheduled.map(|group| group.round_time.as_secs_f64() / group.interval.as_secs_f64()).sum()
}
