//! What the configuration means to the rules: which files, which series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::advice::advice;
use crate::commands::write::{Basis, Installation};
use crate::config::{Condition, Config, DeviceConfig, Forward, GatewayConfig, Interlock, LinkConfig, WriteConfig};
use crate::model::{Scale, SeriesId, Timestamp};
use crate::rules::engine::{DeviceSeries, Engine, EngineError, RuleSetup, UP};
use crate::rules::file;
use crate::rules::interlock;
use crate::rules::live::{Labels, NAME, SeriesSpec};
use crate::rules::spec::{ActionSpec, GroupSpec, InterlockSpec, Place, RuleKind, RuleSpec};
use crate::rules::text::Surroundings;
use crate::rules::unmatched::{Unmatched, is_made, shown, takes, unmatched};
use crate::settings::{FileFault, show_duration};

/// A sample stands for its series this many intervals.
const LOOK_BACK_INTERVALS: u32 = 3;

/// What comes without an interval stands for its series so long.
const LOOK_BACK_OF_STREAMS: Duration = Duration::from_secs(5);

/// Whether a device answers stands for so long: one that does not is asked once a minute only.
const LOOK_BACK_OF_UP: Duration = Duration::from_secs(150);

/// The rules that a configuration names.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(config: &Config) -> Result<Vec<GroupSpec>, Vec<FileFault>> {
    let (mut groups, mut faults) = file::load_readable(&config.rules.files);
    let interlocks = interlocks(&config.writes).unwrap_or_else(|found| {
        faults.extend(found);
        Vec::new()
    });
    let refused = |error: anyhow::Error| vec![FileFault::of_file("rules", error.to_string())];
    groups.extend(aggregates(&config.links).map_err(refused)?);
    mark_origin(&mut groups, config);
    let series = specs(&config.links, None);
    let memory_limit = Some(config.rules.memory_bytes);
    let setup = RuleSetup { groups: groups.clone(), interlocks, series, memory_limit, ..setup_of(&config.gateway) };
    // Rules that can be read have faults of their own: all are said in one go.
    faults.extend(Engine::new(setup, Timestamp(0)).err().iter().flatten().map(fault_of));
    if !faults.is_empty() {
        return Err(faults);
    }
    unmatched_selectors(&groups, config).iter().for_each(|found| tracing::warn!("{found}"));
    Ok(groups)
}

/// The rules that a configuration names, as far as they can be read, and those that nobody wrote.
pub fn readable(config: &Config) -> Vec<GroupSpec> {
    let (mut groups, _) = file::load_readable(&config.rules.files);
    groups.extend(aggregates(&config.links).unwrap_or_default());
    mark_origin(&mut groups, config);
    groups
}

/// Notes in every action that writes whether it comes from afar: the rule was pushed, or what it looks at is not what the
/// owner's own file says it is.
fn mark_origin(groups: &mut [GroupSpec], config: &Config) {
    let Some(pushed) = &config.pushed else { return };
    let alerts = groups.to_vec();
    let own = pushed.own_links.as_ref().map(|links| Installation { links: links.iter().collect(), groups: &alerts });
    let now = Installation { links: config.links.iter().collect(), groups: &alerts };
    for group in groups {
        let of = GroupSpec { rules: Vec::new(), ..group.clone() };
        for rule in &mut group.rules {
            let known = rule.clone();
            let RuleKind::Alert(alert) = &mut rule.kind else { continue };
            let mut writes = alert
                .on_raised
                .iter_mut()
                .chain(&mut alert.on_cleared)
                .filter_map(|action| match action {
                    ActionSpec::Write { from_afar, .. } => Some(from_afar),
                    ActionSpec::PollFaster { .. } | ActionSpec::Capture { .. } | ActionSpec::Publish { .. } => None,
                })
                .peekable();
            if writes.peek().is_none() {
                continue;
            }
            let differs =
                |own: &Installation<'_>| Basis::of_rule(own, &of, &known) != Basis::of_rule(&now, &of, &known);
            let is_from_afar = pushed.rules || own.as_ref().is_some_and(differs);
            writes.for_each(|from_afar| *from_afar = is_from_afar);
        }
    }
}

/// A rule that cannot be put in force, as a fault of its file.
pub fn fault_of(error: &EngineError) -> FileFault {
    let place = error.place();
    let file = if place.file.is_empty() { "rules" } else { &place.file };
    let line = Some(place.line).filter(|line| *line > 0);
    FileFault { line, ..FileFault::of_file(file, error.to_string()) }
}

/// The series that a configuration has, as rules see them.
pub fn series(config: &Config) -> Vec<SeriesSpec> {
    specs(&config.links, None)
}

/// Selectors of rules that no series of the configuration can match, and what else a person should know, for people.
pub fn unmatched_selectors(groups: &[GroupSpec], config: &Config) -> Vec<String> {
    let series: Vec<Labels> = series(config).into_iter().map(|spec| spec.labels).collect();
    let warning = |found: Unmatched| {
        let place = format!("{}:{}: column {}", found.place.file, found.place.line, found.place.column);
        let meant = found.meant.map_or_else(String::new, |name| format!("; is {name} meant?"));
        format!("{place}: rule {}: no configured series matches {}{meant}", found.rule, found.selector)
    };
    let unmatched = unmatched(groups, &series).into_iter().map(warning);
    unmatched.chain(advice(groups, config)).collect()
}

/// Conditions of writes in PromQL.
fn interlocks(writes: &[WriteConfig]) -> Result<Vec<InterlockSpec>, Vec<FileFault>> {
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    for condition in conditions(writes) {
        match interlock::interlock(&condition.text) {
            Ok(spec) => all.push(spec),
            Err(reasons) => faults.extend(reasons.into_iter().map(|reason| of_place(condition, reason))),
        }
    }
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

fn conditions(writes: &[WriteConfig]) -> impl Iterator<Item = &Condition> {
    writes.iter().flat_map(|write| &write.interlocks).filter_map(|interlock| match interlock {
        Interlock::Condition(condition) => Some(condition),
        Interlock::Compared(_) => None,
    })
}

fn of_place(condition: &Condition, reason: String) -> FileFault {
    FileFault { reason, ..condition.place.clone() }
}

/// What a person should know about interlocks that are in order: a write is refused while a series is missing.
pub fn doubtful_interlocks(groups: &[GroupSpec], config: &Config) -> Vec<String> {
    let series = series(config);
    let mut doubtful = Vec::new();
    for condition in conditions(&config.writes) {
        let Ok(spec) = interlock::interlock(&condition.text) else { continue };
        let is_aggregated = interlock::is_aggregated(&spec.expression);
        for matchers in interlock::inputs(&spec.expression) {
            let found = series.iter().filter(|spec| takes(&matchers, &spec.labels)).count();
            let selector = shown(&matchers);
            let reason = match found {
                0 if is_made(&matchers, groups) => continue,
                0 => format!(
                    "there is no series {selector}, so nothing would be written (in PromQL a tag is \
                     point{{device=\"press-1\"}})"
                ),
                1 => continue,
                _ if is_aggregated => continue,
                _ => format!(
                    "{found} series match {selector}, and one that fits is enough: name the device, or max(...)"
                ),
            };
            doubtful.push(of_place(condition, reason).to_string());
        }
    }
    doubtful
}

/// Rules that nobody wrote: mean, least and greatest value of what is forwarded as aggregates.
fn aggregates(links: &[LinkConfig]) -> anyhow::Result<Vec<GroupSpec>> {
    let mut devices: BTreeMap<(Duration, &str), Vec<&str>> = BTreeMap::new();
    for device in links.iter().flat_map(|link| &link.devices) {
        for tag in &device.tags {
            if let Some(Forward::Aggregates { every }) = tag.forward.as_deref() {
                devices.entry((*every, tag.series.name.as_str())).or_default().push(device.name.as_str());
            }
        }
    }
    let mut groups: BTreeMap<Duration, GroupSpec> = BTreeMap::new();
    for ((every, name), devices) in devices {
        let group = groups.entry(every).or_insert_with(|| GroupSpec {
            name: format!("aggregates of {}", show_duration(every)),
            interval: every,
            query_offset: Duration::ZERO,
            limit: 0,
            rules: Vec::new(),
        });
        for (function, suffix) in [("avg", "avg"), ("min", "min"), ("max", "max")] {
            let every_ms = every.as_millis();
            // Names of points and devices hold nothing that would have to be quoted.
            let expression = format!(
                "{function}_over_time({{__name__=\"{name}\",device=~\"{}\"}}[{every_ms}ms])",
                devices.join("|")
            );
            let expression = crate::model::promql::parse(&expression).map_err(anyhow::Error::msg)?;
            let name = format!("{name}:{suffix}");
            group.rules.push(RuleSpec {
                place: Place::default(),
                name,
                expression,
                labels: BTreeMap::new(),
                kind: RuleKind::Record,
            });
        }
    }
    Ok(groups.into_values().collect())
}

/// Everything the engine needs; `series` holds the id of each tag of each device.
pub(super) fn setup(
    groups: &[GroupSpec],
    writes: &[WriteConfig],
    gateway: &GatewayConfig,
    links: &[LinkConfig],
    series: &[Vec<Vec<SeriesId>>],
) -> RuleSetup {
    // Those with faults were refused before; whatever is not in force allows nothing.
    let interlocks = interlocks(writes).unwrap_or_default();
    let (series, devices) = match groups.is_empty() && interlocks.is_empty() {
        true => (Vec::new(), Vec::new()),
        false => (specs(links, Some(series)), devices(links, series)),
    };
    RuleSetup { groups: groups.to_vec(), interlocks, series, devices, ..setup_of(gateway) }
}

/// Devices by what they answer.
fn devices(links: &[LinkConfig], series: &[Vec<Vec<SeriesId>>]) -> Vec<DeviceSeries> {
    let of_link = |(link, series): (&LinkConfig, &Vec<Vec<SeriesId>>)| -> Vec<DeviceSeries> {
        let device = |(device, series): (&DeviceConfig, &Vec<SeriesId>)| {
            Some(DeviceSeries { labels: up_of(device)?, series: series.clone() })
        };
        link.devices.iter().zip(series).filter_map(device).collect()
    };
    links.iter().zip(series).flat_map(of_link).collect()
}

/// `up` of the devices of a configuration over what is `stored`: the series that are made, and of which.
pub fn stored_up(config: &Config, stored: &[SeriesSpec]) -> (Vec<SeriesSpec>, Vec<DeviceSeries>) {
    let of_device = |device: &DeviceConfig| {
        let labels = up_of(device)?;
        let names: BTreeSet<&str> = device.tags.iter().map(|tag| tag.series.name.as_str()).collect();
        // What a rule records about a device is no answer of it: only its tags are. Other labels may have been edited.
        let is_of_device = |series: &&SeriesSpec| {
            let name = series.labels.get(NAME).map_or("", String::as_str);
            series.labels.get("device") == labels.get("device") && names.contains(name)
        };
        let series = stored.iter().filter(is_of_device).filter_map(|series| series.id).collect();
        Some((up_spec(labels.clone()), DeviceSeries { labels, series }))
    };
    config.links.iter().flat_map(|link| &link.devices).filter_map(of_device).unzip()
}

fn up_spec(labels: Labels) -> SeriesSpec {
    SeriesSpec { id: None, labels, scale: Scale::ONE, look_back: LOOK_BACK_OF_UP }
}

/// Labels of the series that says whether a device answers: those that all its series have.
fn up_of(device: &DeviceConfig) -> Option<Labels> {
    let mut labels = (*device.tags.first()?.series.labels).clone();
    labels.insert(NAME.to_owned(), UP.to_owned());
    Some(Arc::new(labels))
}

fn setup_of(gateway: &GatewayConfig) -> RuleSetup {
    let external: BTreeMap<String, String> = [("site", &gateway.site), ("gateway", &gateway.id)]
        .map(|(key, name)| (key.to_owned(), name.to_string()))
        .into();
    let surroundings = Surroundings { external_labels: external.clone(), ..Surroundings::default() };
    RuleSetup { external, surroundings, ..RuleSetup::default() }
}

fn specs(links: &[LinkConfig], series: Option<&[Vec<Vec<SeriesId>>]>) -> Vec<SeriesSpec> {
    let mut specs = Vec::new();
    for (link_at, link) in links.iter().enumerate() {
        for (device_at, device) in link.devices.iter().enumerate() {
            specs.extend(up_of(device).map(up_spec));
            for (tag_at, tag) in device.tags.iter().enumerate() {
                let mut labels = (*tag.series.labels).clone();
                labels.insert(NAME.to_owned(), tag.series.name.clone());
                let intervals = match tag.interval {
                    Duration::ZERO => LOOK_BACK_OF_STREAMS,
                    interval => interval * LOOK_BACK_INTERVALS,
                };
                specs.push(SeriesSpec {
                    id: series.map(|series| series[link_at][device_at][tag_at]),
                    labels: Arc::new(labels),
                    scale: tag.series.scale,
                    // A request that fails and its repetition must not look like silence.
                    look_back: intervals.max(tag.interval + 2 * link.timeout),
                });
            }
        }
    }
    specs
}
