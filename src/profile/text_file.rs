//! The sections `[text]`, `[[text.pattern]]` and `[[point]]` of an instrument that speaks lines of text.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;

use crate::model::ValueKind;

use super::INTERVAL_MOST;
use super::point_file::name_point;
use super::text::{Checksum, LineMeaning, LinePattern, TextPoint, TextProfile};
use super::value_file::{read_range, read_scale};
use crate::settings::{Item, Section};

const CHECKSUMS: &[(&str, Checksum)] = &[("none", Checksum::None), ("nmea", Checksum::Nmea)];

const MEANINGS: &[(&str, LineMeaning)] = &[
    ("good", LineMeaning::Good),
    ("unstable", LineMeaning::Unstable),
    ("device_fault", LineMeaning::DeviceFault),
    ("not_available", LineMeaning::NotAvailable),
    ("ignore", LineMeaning::Ignore),
];

const KINDS: &[(&str, ValueKind)] =
    &[("number", ValueKind::F64), ("integer", ValueKind::Int), ("text", ValueKind::Text)];

/// Line ends of most instruments.
const FRAME_END: &str = "\r\n";
/// Long enough for an NMEA sentence (82 characters) and most reports; short enough to notice garbage.
const FRAME_MAX: i64 = 256;

/// Reads `[text]` and the points; `None` when one of them has a fault, which was noted.
pub(super) fn read(mut section: Section<'_, '_>, points: Vec<Section<'_, '_>>) -> Option<TextProfile> {
    let bytes = |item: Item<'_, '_>| match item.text()?.into_bytes() {
        empty if empty.is_empty() => {
            item.fault("must not be empty");
            None
        }
        bytes => Some(bytes),
    };
    let ask = section.take("ask").and_then(bytes);
    let frame_end = section.take("frame_end").map_or(Some(FRAME_END.into()), bytes);
    let frame_max = section.take("frame_max").map_or(Some(FRAME_MAX), |item| item.integer(1..=65536));
    let checksum = section.choice("checksum", CHECKSUMS).unwrap_or(Checksum::None);
    let interval = section.take("interval").and_then(|item| item.duration(Duration::ZERO..=INTERVAL_MOST));
    let patterns = section.sections("pattern");
    if patterns.is_empty() {
        section.missing("pattern", "at least one [[text.pattern]] with an expression");
    }
    section.finish();

    let mut names = BTreeMap::new();
    let points: Vec<_> = points
        .into_iter()
        .enumerate()
        .map(|(index, mut section)| (name_point(&mut section, index, &mut names), section))
        .collect();
    let patterns: Vec<_> = patterns.into_iter().map(read_pattern).collect();
    let expressions: Option<Vec<_>> =
        patterns.iter().map(|found| found.as_ref().map(|(_, pattern)| pattern.clone())).collect();
    let points: Vec<_> =
        points.into_iter().map(|(name, section)| read_point(section, name, expressions.as_deref())).collect();
    let complete: Option<Vec<TextPoint>> = points.into_iter().collect();
    let mut allowed: Vec<&str> = names.keys().map(String::as_str).collect();
    allowed.extend(complete.iter().flatten().filter_map(|point| Some(point.unit_group.as_ref()?.0.as_str())));
    if complete.is_some() {
        patterns.iter().flatten().for_each(|(item, pattern)| check_groups(item, pattern, &allowed));
    }
    Some(TextProfile {
        ask,
        frame_end: frame_end?,
        frame_max: usize::try_from(frame_max?).ok()?,
        checksum,
        patterns: patterns.into_iter().map(|found| found.map(|(_, pattern)| pattern)).collect::<Option<_>>()?,
        points: complete?,
        interval,
    })
}

fn read_pattern<'s, 'i>(mut section: Section<'s, 'i>) -> Option<(Item<'s, 'i>, LinePattern)> {
    let meaning = section.choice("meaning", MEANINGS).unwrap_or(LineMeaning::Good);
    let item = section.require("expression", "a regular expression in ''' quotes, with a named group for each point");
    section.finish();
    let item = item?;
    match Regex::new(&item.text()?) {
        Ok(expression) => Some((item, LinePattern { expression, meaning })),
        Err(error) => {
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or("is not a regular expression").trim();
            item.fault(reason.strip_prefix("error: ").unwrap_or(reason));
            None
        }
    }
}

/// One point; `patterns` is `None` when one of them has a fault, and whether it gives the point cannot be said.
fn read_point(
    mut section: Section<'_, '_>,
    name: Option<String>,
    patterns: Option<&[LinePattern]>,
) -> Option<TextPoint> {
    let kind = section.choice("kind", KINDS).unwrap_or(ValueKind::F64);
    let scale = section.take("scale");
    let offset = section.take("offset");
    let range = section.take("range");
    let unit = section.take("unit").and_then(|item| item.text()).unwrap_or_default();
    let unit_group = section.take("unit_group").and_then(|item| Some((item.text()?, item)));
    let unit_text = section.take("unit_text").and_then(|item| item.text());
    let carriers: Vec<&LinePattern> = match &name {
        Some(name) => gives_values(patterns.unwrap_or_default()).filter(|pattern| has_group(pattern, name)).collect(),
        None => Vec::new(),
    };
    if name.is_some() && patterns.is_some() && carriers.is_empty() {
        section.fault("is no named group in any pattern that gives values");
    }
    let unit_group = match (unit_group, unit_text) {
        (Some((group, item)), Some(text)) => {
            if !carriers.iter().all(|pattern| has_group(pattern, &group)) {
                item.fault("must be a named group in each pattern that gives this point");
            }
            Some((group, text))
        }
        (Some(_), None) => {
            section.missing("unit_text", "how the unit must read in the line");
            None
        }
        (None, Some(_)) => {
            section.missing("unit_group", "the named group that holds the unit");
            None
        }
        (None, None) => None,
    };
    section.finish();
    Some(TextPoint {
        scale: read_scale(scale, offset, Some(kind)),
        range: range.and_then(|item| read_range(item, Some(kind))),
        name: name?,
        kind,
        unit,
        unit_group,
    })
}

/// Each named group must be a point or hold the unit of one: any other would do nothing.
fn check_groups(item: &Item<'_, '_>, pattern: &LinePattern, allowed: &[&str]) {
    let mut groups = pattern.expression.capture_names().flatten();
    if pattern.meaning == LineMeaning::Ignore {
        if let Some(group) = groups.next() {
            item.fault(format!("group {group}: a line that is ignored gives nothing"));
        }
        return;
    }
    for group in groups.filter(|group| !allowed.contains(group)) {
        item.fault(format!("group {group} is no [[point]] and no unit_group of one"));
    }
}

fn gives_values(patterns: &[LinePattern]) -> impl Iterator<Item = &LinePattern> {
    patterns.iter().filter(|pattern| match pattern.meaning {
        LineMeaning::Good | LineMeaning::Unstable => true,
        LineMeaning::DeviceFault | LineMeaning::NotAvailable | LineMeaning::Ignore => false,
    })
}

fn has_group(pattern: &LinePattern, name: &str) -> bool {
    pattern.expression.capture_names().flatten().any(|group| group == name)
}
