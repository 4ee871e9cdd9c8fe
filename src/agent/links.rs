//! Starts the poller of a link, whatever it speaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::Id;

use crate::buffer::Catalogue;
use crate::clock::Clock;
use crate::config::{Endpoint, LinkConfig, SelectedForward, TagConfig};
use crate::modbus::timing::{self, LinkLoad, Relief};
use crate::model::{Name, SeriesId};
use crate::poll::learned::LearnedDevices;
use crate::poll::text::TextPoller;
use crate::poll::{LinkHandle, PollCycle, Poller};
use crate::settings::show_duration;
use crate::supervisor::{Stage, Supervisor};
use crate::uplink::{ForwardRule, ForwardTable};

/// Tags named in a warning; `check --json` has them all.
const TAGS_SHOWN: usize = 3;

/// A link whose poller runs.
pub(super) struct RunningLink {
    pub config: LinkConfig,
    pub handle: LinkHandle,
    pub task: Id,
}

/// What every poller needs.
pub(super) struct Start<'a> {
    pub clock: &'a Arc<dyn Clock>,
    pub cycles: mpsc::Sender<PollCycle>,
    pub learned: &'a LearnedDevices,
}

pub(super) fn start(
    supervisor: &mut Supervisor,
    config: LinkConfig,
    series: Vec<Vec<SeriesId>>,
    start: Start<'_>,
) -> anyhow::Result<RunningLink> {
    let Start { clock, cycles, learned } = start;
    let name = format!("link {}", config.name);
    let (handle, task) = match config.endpoint {
        Endpoint::Text(_) => {
            let (poller, handle) = TextPoller::new(config.clone(), series, clock.clone(), cycles)?;
            (handle, supervisor.spawn(name, Stage::Poll, |stop| poller.run(stop)))
        }
        Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } | Endpoint::Rtu(_) => {
            let (poller, handle) = Poller::with_learned(config.clone(), series, clock.clone(), cycles, learned)?;
            (handle, supervisor.spawn(name, Stage::Poll, |stop| poller.run(stop)))
        }
    };
    Ok(RunningLink { config, handle, task })
}

/// What the catalogue says about the series of the tags is kept once; `series` holds the id of each tag of each device.
pub(super) fn share_series(links: &mut [LinkConfig], series: &[Vec<Vec<SeriesId>>], catalogue: &Catalogue) {
    let devices = links.iter_mut().zip(series).flat_map(|(link, series)| link.devices.iter_mut().zip(series));
    for (tag, id) in devices.flat_map(|(device, series)| device.tags.iter_mut().zip(series)) {
        if let Some(known) = catalogue.get(*id).filter(|known| *known == &tag.series) {
            tag.series = Arc::clone(known);
        }
    }
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
    let reliefs: Vec<String> = timing::relief(load).iter().map(|relief| proposal(link, load, relief)).collect();
    Some(format!(
        "link {} is asked for {:.0} % of its time ({:.1} requests/s, {:.0} registers/s); polls will be late or left \
         out. It would fit with {}",
        link.name,
        load.busy * 100.0,
        load.requests_per_second,
        load.registers_per_second,
        reliefs.join("; ")
    ))
}

/// `press-1 each 500ms in place of 200ms (28 tags: voltage_l1_v, voltage_l2_v, voltage_l3_v, ...)`.
fn proposal(link: &LinkConfig, load: &LinkLoad, relief: &Relief) -> String {
    let name = &load.devices[relief.device].device;
    let tags = tags_at(link, name, relief.interval);
    let shown = tags.iter().take(TAGS_SHOWN).copied().collect::<Vec<&str>>().join(", ");
    let more = if tags.len() > TAGS_SHOWN { ", ..." } else { "" };
    let (fits, interval) = (show_duration(relief.fits), show_duration(relief.interval));
    let count = if tags.len() == 1 { "1 tag".to_owned() } else { format!("{} tags", tags.len()) };
    format!("{name} each {fits} in place of {interval} ({count}: {shown}{more})")
}

/// The points that a device reads at this interval.
pub fn tags_at<'a>(link: &'a LinkConfig, device: &Name, interval: Duration) -> Vec<&'a str> {
    let Some(device) = link.devices.iter().find(|other| other.name == *device) else { return Vec::new() };
    let names = device.profile.tag_names();
    device.tags.iter().filter(|tag| tag.interval == interval).map(|tag| names[tag.point]).collect()
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
