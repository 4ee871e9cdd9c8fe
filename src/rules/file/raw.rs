//! What a rule file says, before it is known whether that makes sense.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tree::{At, Faults, Mapping, Node, Spot};
use crate::model::Priority;
use crate::rules::alarm::OnBad;

/// Texts by name, each with its place.
pub type Texts = BTreeMap<String, At<String>>;

/// A group of rules.
pub struct RawGroup {
    pub name: At<String>,
    pub interval: Option<At<Duration>>,
    pub query_offset: Option<At<Duration>>,
    pub limit: usize,
    pub labels: Texts,
    pub rules: Vec<RawRule>,
}

/// A rule; where there is no expression, that was noted.
pub struct RawRule {
    pub spot: Spot,
    pub alert: Option<At<String>>,
    pub record: Option<At<String>>,
    pub expr: Option<At<String>>,
    pub delay: Option<At<Duration>>,
    pub keep_firing_for: Option<At<Duration>>,
    pub labels: Texts,
    pub annotations: Texts,
    pub edge: Option<RawEdge>,
}

/// What a plant needs beyond Prometheus.
#[derive(Default)]
pub struct RawEdge {
    pub clear: Option<At<String>>,
    pub latch: bool,
    pub acknowledge: bool,
    pub priority: Option<Priority>,
    pub shelve: Option<Duration>,
    pub on_bad: OnBad,
    pub flap: Option<(usize, Duration)>,
    pub suppressed_by: Vec<String>,
    pub on_arrival: bool,
    pub window: Option<RawWindow>,
    pub on_firing: Vec<RawAction>,
    pub on_resolved: Vec<RawAction>,
}

/// What bounds a range.
pub enum RawWindow {
    Count(usize),
    Session(Duration),
    State(At<String>),
}

/// What is to be done.
pub enum RawAction {
    Write { device: At<String>, point: String, value: f64 },
    PollFaster { device: At<String>, interval: At<Duration>, lasts: At<Duration> },
    Capture { series: At<String>, before: At<Duration>, after: At<Duration> },
    Publish { topic: At<String>, payload: At<String> },
}

/// All groups of a file; what is wrong with them is noted.
pub fn groups(text: &str, faults: &mut Faults<'_>) -> Vec<RawGroup> {
    let Some(root) = Node::of(text, faults) else { return Vec::new() };
    let Some(mut root) = root.mapping("", "groups: with a list of groups", faults) else { return Vec::new() };
    let groups = root.list("groups", faults).into_iter().filter_map(|node| group(node, faults)).collect();
    root.finish(faults);
    groups
}

fn group(node: Node, faults: &mut Faults<'_>) -> Option<RawGroup> {
    let mut group = node.mapping("", "a group: name, interval, rules", faults)?;
    let name = group.required("name", faults);
    let interval = group.span("interval", faults);
    let query_offset = group.span("query_offset", faults);
    let limit = group.whole("limit", faults).map_or(0, |limit| limit.value);
    let labels = group.texts("labels", faults);
    let rules = group.list("rules", faults).into_iter().filter_map(|node| rule(node, faults)).collect();
    let spot = group.spot();
    group.finish(faults);
    // The rules of a group whose name is missing, which was noted, are looked at all the same.
    let name = name.unwrap_or_else(|| At { value: "?".to_owned(), spot });
    Some(RawGroup { name, interval, query_offset, limit, labels, rules })
}

fn rule(node: Node, faults: &mut Faults<'_>) -> Option<RawRule> {
    let mut rule = node.mapping("", "a rule: alert or record, expr", faults)?;
    let raw = RawRule {
        spot: rule.spot(),
        alert: rule.text("alert", faults),
        record: rule.text("record", faults),
        expr: rule.required("expr", faults),
        delay: rule.span("for", faults),
        keep_firing_for: rule.span("keep_firing_for", faults),
        labels: rule.texts("labels", faults),
        annotations: rule.texts("annotations", faults),
        edge: rule.take("edge").and_then(|node| edge(node, faults)),
    };
    rule.finish(faults);
    Some(raw)
}

fn edge(node: Node, faults: &mut Faults<'_>) -> Option<RawEdge> {
    const PRIORITIES: [(&str, Priority); 4] = [
        ("low", Priority::Low),
        ("medium", Priority::Medium),
        ("high", Priority::High),
        ("critical", Priority::Critical),
    ];
    const ON_BAD: [(&str, OnBad); 3] = [("hold", OnBad::Hold), ("resolve", OnBad::Resolve), ("fire", OnBad::Fire)];
    let mut edge = node.mapping("edge", "keys such as clear, latch, priority", faults)?;
    let raw = RawEdge {
        clear: edge.text("clear", faults),
        latch: edge.flag("latch", faults),
        acknowledge: edge.flag("acknowledge", faults),
        priority: edge.choice("priority", &PRIORITIES, faults),
        shelve: edge.span("shelve", faults).map(|span| span.value),
        on_bad: edge.choice("on_bad", &ON_BAD, faults).unwrap_or_default(),
        flap: edge.take("flap").and_then(|node| flap(node, faults)),
        suppressed_by: names(&mut edge, "suppressed_by", faults),
        on_arrival: edge.choice("evaluate", &[("interval", false), ("arrival", true)], faults).unwrap_or_default(),
        window: edge.take("window").and_then(|node| window(node, faults)),
        on_firing: edge.list("on_firing", faults).into_iter().filter_map(|node| action(node, faults)).collect(),
        on_resolved: edge.list("on_resolved", faults).into_iter().filter_map(|node| action(node, faults)).collect(),
    };
    edge.finish(faults);
    Some(raw)
}

fn names(edge: &mut Mapping, key: &'static str, faults: &mut Faults<'_>) -> Vec<String> {
    let names = edge.list(key, faults).into_iter();
    names.filter_map(|node| node.text(&format!("edge.{key}"), faults)).map(|name| name.value).collect()
}

fn flap(node: Node, faults: &mut Faults<'_>) -> Option<(usize, Duration)> {
    let mut flap = node.mapping("edge.flap", "{ raises: 5, within: 10m }", faults)?;
    let raises = flap.needed("raises", faults, Mapping::positive);
    let within = flap.needed("within", faults, Mapping::pause);
    flap.finish(faults);
    Some((raises?.value, within?.value))
}

fn window(node: Node, faults: &mut Faults<'_>) -> Option<RawWindow> {
    let mut window = node.mapping("edge.window", "one of count, session, state", faults)?;
    let found = match window.only(&["count", "session", "state"], faults) {
        Some("count") => window.positive("count", faults).map(|count| RawWindow::Count(count.value)),
        Some("session") => window.pause("session", faults).map(|pause| RawWindow::Session(pause.value)),
        Some(_) => window.text("state", faults).map(RawWindow::State),
        None => None,
    };
    window.finish(faults);
    found
}

fn action(node: Node, faults: &mut Faults<'_>) -> Option<RawAction> {
    const KINDS: [&str; 4] = ["write", "poll_faster", "capture", "publish"];
    let mut outer = node.mapping("", "an action such as publish: { topic: note, payload: hot }", faults)?;
    let kind = outer.only(&KINDS, faults);
    let inner = kind.and_then(|kind| outer.take(kind)?.mapping(kind, "keys with values", faults));
    outer.finish(faults);
    let (kind, mut inner) = (kind?, inner?);
    let found = match kind {
        "write" => write(&mut inner, faults),
        "poll_faster" => {
            let device = inner.required("device", faults);
            let interval = inner.needed("interval", faults, Mapping::span);
            let lasts = inner.needed("lasts", faults, Mapping::span);
            device.zip(interval.zip(lasts)).map(|(device, (interval, lasts))| RawAction::PollFaster {
                device,
                interval,
                lasts,
            })
        }
        "capture" => {
            let series = inner.required("series", faults);
            let before = inner.needed("before", faults, Mapping::span);
            let after = inner.needed("after", faults, Mapping::span);
            series.zip(before.zip(after)).map(|(series, (before, after))| RawAction::Capture { series, before, after })
        }
        _ => {
            let topic = inner.required("topic", faults);
            let payload = inner.required("payload", faults);
            topic.zip(payload).map(|(topic, payload)| RawAction::Publish { topic, payload })
        }
    };
    inner.finish(faults);
    found
}

fn write(inner: &mut Mapping, faults: &mut Faults<'_>) -> Option<RawAction> {
    let device = inner.required("device", faults);
    let point = inner.required("point", faults);
    let number = |text: &str| text.parse::<f64>().map_err(|_| "must be a number".to_owned());
    let value = inner.needed("value", faults, |inner, key, faults| inner.read(key, number, faults));
    let (device, point, value) = (device?, point?.value, value?.value);
    Some(RawAction::Write { device, point, value })
}
