//! Everything that a permission rests on, fact by fact. Its pin is the digest of them. Pure.
//!
//! | Of | Facts |
//! |---|---|
//! | the tag that is written | endpoint, unit id, register, encoding, scale, function; profile with its identification; firmware |
//! | each interlock | the expression |
//! | each series that an interlock looks at | its labels and interval; endpoint, unit id, register, encoding, scale, profile of its device |
//! | each rule that makes such a series | its expression, labels and times, and the same of what it looks at in turn |
//!
//! Whoever wants a tag written that the owner's bounds forbid would otherwise leave the tag alone and move the register
//! that the interlock reads.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use promql_parser::parser::Expr;

use crate::commands::signature::digest;
use crate::config::{DeviceConfig, Endpoint, Interlock, LinkConfig, TagConfig, WriteConfig};
use crate::modbus::write::WriteWith;
use crate::profile::{ByteOrder, Point, Protocol};
use crate::rules::engine::UP;
use crate::rules::interlock::{inputs, interlock};
use crate::rules::live::NAME;
use crate::rules::spec::{GroupSpec, RuleKind, RuleSpec};
use crate::rules::unmatched::{made_by, takes};

/// Hexadecimal digits of a pin: enough that nobody finds another basis with the same.
const PIN_DIGITS: usize = 16;

/// What is polled and which rules there are: where a permission looks for what it rests on.
#[derive(Debug, Clone)]
pub struct Installation<'a> {
    /// Links with their devices.
    pub links: Vec<&'a LinkConfig>,
    /// Rules, those included that nobody wrote.
    pub groups: &'a [GroupSpec],
}

impl<'a> Installation<'a> {
    /// The device of this name, and its link.
    pub fn device(&self, name: &str) -> Option<(&'a LinkConfig, &'a DeviceConfig)> {
        self.devices().find(|(_, device)| device.name.as_str() == name)
    }

    fn devices(&self) -> impl Iterator<Item = (&'a LinkConfig, &'a DeviceConfig)> {
        self.links.iter().flat_map(|link| link.devices.iter().map(move |device| (*link, device)))
    }
}

/// Facts, each of something: `register` of `guard/door`. The same something may have several of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    facts: BTreeMap<(String, &'static str), Vec<String>>,
}

impl Basis {
    /// What a permission to write `point`, the point of `device` with this index, rests on.
    pub fn of_permission(
        installation: &Installation<'_>,
        (link, device): (&LinkConfig, &DeviceConfig),
        point: usize,
        with: WriteWith,
        config: &WriteConfig,
    ) -> Self {
        let mut basis = Self::default();
        let tag = format!("{}/{}", config.device, config.point);
        basis.device(link, device);
        basis.note(&tag, "function", format!("{with:?}"));
        if let Protocol::Modbus(modbus) = &device.profile.protocol {
            basis.point(&tag, &modbus.points, point);
        }
        basis.interlocks(installation, config);
        basis
    }

    /// What the interlocks of a permission rest on.
    pub fn of_interlocks(installation: &Installation<'_>, config: &WriteConfig) -> Self {
        let mut basis = Self::default();
        basis.interlocks(installation, config);
        basis
    }

    /// What a rule rests on.
    pub fn of_rule(installation: &Installation<'_>, group: &GroupSpec, rule: &RuleSpec) -> Self {
        let mut basis = Self::default();
        basis.rule(installation, group, rule);
        basis
    }

    /// The pin of everything.
    pub fn pin(&self) -> String {
        let mut text = String::new();
        for ((of, what), values) in &self.facts {
            // Writing to a text never fails.
            let _ = writeln!(text, "{of:?} {what} {values:?}");
        }
        short(&text)
    }

    /// What is different in `other`, in a few words; nothing when nothing is.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let missing = |(key, _): &(&(String, &'static str), &Vec<String>)| !other.facts.contains_key(*key);
        let changed = self.facts.iter().find(|(key, values)| other.facts.get(*key).is_some_and(|its| its != *values));
        let gone = || self.facts.iter().find(missing);
        let new = || other.facts.iter().find(|(key, _)| !self.facts.contains_key(*key));
        if let Some(((of, what), values)) = changed {
            let now = &other.facts[&(of.clone(), *what)];
            return Some(format!("{what} of {of} is {} instead of {}", now.join(" and "), values.join(" and ")));
        }
        if let Some(((of, _), _)) = gone() {
            return Some(format!("{of} is not there any more"));
        }
        new().map(|((of, _), _)| format!("{of} is looked at as well"))
    }

    /// What both have and is different, in a few words.
    pub fn contradiction(&self, other: &Self) -> Option<String> {
        let common = |basis: &Self, of: &Self| Self {
            facts: basis.facts.iter().filter(|(key, _)| of.facts.contains_key(*key)).map(owned).collect(),
        };
        common(self, other).difference(&common(other, self))
    }

    /// Notes a fact; whether it is new.
    fn note(&mut self, of: &str, what: &'static str, value: String) -> bool {
        let known = self.facts.entry((of.to_owned(), what)).or_default();
        let is_new = !known.contains(&value);
        if is_new {
            known.push(value);
            known.sort();
        }
        is_new
    }

    fn interlocks(&mut self, installation: &Installation<'_>, config: &WriteConfig) {
        for written in &config.interlocks {
            self.note(&format!("interlock {written}"), "expression", written.to_string());
            match written {
                Interlock::Compared(compared) => {
                    let found = installation.device(compared.device.as_str());
                    if let Some((link, device)) = found {
                        self.series(link, device, &compared.point);
                    }
                }
                // One with faults is in force nowhere.
                Interlock::Condition(condition) => {
                    if let Ok(spec) = interlock(&condition.text) {
                        self.expression(installation, &spec.expression);
                    }
                }
            }
        }
    }

    /// Every series that an expression takes, and every rule that may make such a series.
    fn expression(&mut self, installation: &Installation<'_>, expression: &Expr) {
        for matchers in inputs(expression) {
            for (link, device) in installation.devices() {
                for tag in &device.tags {
                    let labels = labels_of(tag, &tag.series.name);
                    if takes(&matchers, &labels) {
                        self.sampled(link, device, tag, &labels);
                    }
                }
                let up = device.tags.first().map(|tag| labels_of(tag, UP));
                if up.is_some_and(|labels| takes(&matchers, &labels)) {
                    self.up(link, device);
                }
            }
            let rules = installation.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
            for (group, rule) in rules.filter(|(_, rule)| made_by(&matchers, rule)) {
                self.rule(installation, group, rule);
            }
        }
    }

    /// A series over time: how often it is sampled counts as well.
    fn sampled(
        &mut self,
        link: &LinkConfig,
        device: &DeviceConfig,
        tag: &TagConfig,
        labels: &BTreeMap<String, String>,
    ) {
        let name = &tag.series.name;
        let of = format!("{}/{name}", device.name);
        self.note(&of, "labels", format!("{labels:?}"));
        self.note(&of, "interval", format!("{:?}, timeout {:?}", tag.interval, link.timeout));
        self.series(link, device, name);
    }

    /// Whether a device answers: to what it is asked.
    fn up(&mut self, link: &LinkConfig, device: &DeviceConfig) {
        for tag in &device.tags {
            self.sampled(link, device, tag, &labels_of(tag, &tag.series.name));
        }
    }

    fn series(&mut self, link: &LinkConfig, device: &DeviceConfig, name: &str) {
        self.device(link, device);
        if let Protocol::Modbus(modbus) = &device.profile.protocol
            && let Some(index) = modbus.points.iter().position(|point| point.name == name)
        {
            self.point(&format!("{}/{name}", device.name), &modbus.points, index);
        }
    }

    fn device(&mut self, link: &LinkConfig, device: &DeviceConfig) {
        let of = device.name.as_str();
        let driver = match &link.endpoint {
            Endpoint::Rtu(serial) | Endpoint::Text(serial) if serial.rs485 => " rs485",
            Endpoint::Rtu(_) | Endpoint::Text(_) | Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } => "",
        };
        self.note(of, "endpoint", format!("{}{driver}", link.endpoint));
        self.note(of, "unit id", device.unit.map_or_else(|| "none".to_owned(), |unit| unit.to_string()));
        let profile = &device.profile;
        self.note(of, "profile", format!("{} {}", profile.id, short(&profile.content)));
        if let Some(firmware) = &device.firmware {
            self.note(of, "firmware", firmware.to_string());
        }
    }

    fn point(&mut self, of: &str, points: &[Point], index: usize) {
        let Some(point) = points.get(index) else { return };
        // In full: whatever else a point may say one day has to be looked at here.
        let Point {
            name: _,
            table,
            address,
            encoding,
            word_order,
            byte_order,
            scattered,
            scale,
            scale_factor,
            unit: _,
            sentinels,
            range,
            states: _,
            interval: _,
            polled: _,
            unsure,
            read_whole: _,
            computed,
        } = point;
        let wide = if table.item_words() > 1 { ", 32 bits" } else { "" };
        self.note(of, "register", format!("{address} (function {}{wide})", table.read_function()));
        if !scattered.is_empty() {
            self.note(of, "registers", format!("{scattered:?}"));
        }
        self.note(of, "encoding", format!("{encoding:?} {word_order:?}"));
        if *byte_order != ByteOrder::HighFirst {
            self.note(of, "byte order", format!("{byte_order:?}"));
        }
        self.note(of, "scale", format!("{}/{}+{} {computed}", scale.multiplier, scale.divisor, scale.offset));
        self.note(of, "range", format!("{range:?} {sentinels:x?} {}", unsure.is_some()));
        if let Some(factor) = scale_factor {
            self.point(&format!("scale factor of {of}"), points, *factor);
        }
    }

    /// A rule, once, and what it looks at.
    fn rule(&mut self, installation: &Installation<'_>, group: &GroupSpec, rule: &RuleSpec) {
        let of = format!("rule {}", rule.name);
        let times = format!("every {:?}, {:?} behind, limit {}", group.interval, group.query_offset, group.limit);
        let mut said = format!("{} {:?} {times}", rule.expression, rule.labels);
        let mut expressions = vec![&rule.expression];
        if let RuleKind::Alert(alert) = &rule.kind {
            let (policy, bound, by) = (&alert.policy, &alert.bound, &alert.suppressed_by);
            let _ = write!(said, " {policy:?} {bound:?} {} {by:?}", alert.on_arrival);
            if let Some(clear) = &alert.clear {
                let _ = write!(said, " until {clear}");
                expressions.push(clear);
            }
        }
        if !self.note(&of, "expression", said) {
            return;
        }
        for expression in expressions {
            self.expression(installation, expression);
        }
        if let RuleKind::Alert(alert) = &rule.kind {
            for (group, other) in
                installation.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
            {
                if other.is_alert() && alert.suppressed_by.contains(&other.name) {
                    self.rule(installation, group, other);
                }
            }
        }
    }
}

fn short(text: &str) -> String {
    digest(text.as_bytes())[..PIN_DIGITS].to_owned()
}

fn owned((key, values): (&(String, &'static str), &Vec<String>)) -> ((String, &'static str), Vec<String>) {
    (key.clone(), values.clone())
}

fn labels_of(tag: &TagConfig, name: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::clone(Arc::as_ref(&tag.series.labels));
    labels.insert(NAME.to_owned(), name.to_owned());
    labels
}
