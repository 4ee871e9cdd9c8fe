//! The series that rules select, with their samples and windows. Pure.
//!
//! Only what some rule selects is kept, as long as its longest window. A window that two rules have in common is kept
//! once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use promql_parser::label::Matcher;

use super::range::{RangeWindow, Shape};
use super::ring::{Pushed, Ring, Sample};
use crate::model::{Scale, SeriesId, Timestamp};

/// Labels of a series, its name among them as `__name__`.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Label that holds the name of a series.
pub const NAME: &str = "__name__";

/// A series as the rules see it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSpec {
    /// Its id in the catalogue, when it has one yet.
    pub id: Option<SeriesId>,
    /// Its labels, with the name.
    pub labels: Labels,
    /// From kept number to engineering value.
    pub scale: Scale,
    /// For so long a sample stands for the series: three of its intervals, at least timeout and retry.
    pub look_back: Duration,
}

/// A series and its samples.
#[derive(Debug)]
pub struct Series {
    /// What it is.
    pub spec: SeriesSpec,
    /// Its samples.
    pub ring: Ring,
    keep: Duration,
}

impl Series {
    /// For so long its samples are kept.
    pub fn keep(&self) -> Duration {
        self.keep
    }

    /// The sample that stands for the series at `time`.
    pub fn at(&self, time: Timestamp) -> Option<Sample> {
        self.ring.at(time).filter(|sample| time.since(sample.time) < self.spec.look_back)
    }
}

impl Series {
    /// Whether nothing stands for the series at `time`, and nobody has said that it has ended.
    pub fn is_silent(&self, time: Timestamp) -> bool {
        let has_ended = self.ring.last().is_some_and(|last| last.time <= time && !last.is_value());
        !has_ended && self.at(time).is_none()
    }
}

/// Which series an expression selects.
#[derive(Debug)]
pub struct Selector {
    /// The matchers, that of the name among them.
    matchers: Vec<Matcher>,
    keep: Duration,
    /// Positions of the series selected.
    members: Vec<usize>,
}

impl Selector {
    fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        self.matchers.iter().all(|matcher| matcher.is_match(value(&matcher.name)))
    }

    /// Positions of the series selected.
    pub fn members(&self) -> &[usize] {
        &self.members
    }
}

/// Windows of one shape over all series of a selector.
#[derive(Debug)]
struct Windows {
    key: WindowKey,
    windows: Vec<RangeWindow>,
}

/// What makes windows the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowKey {
    /// Over which series.
    pub selector: usize,
    /// What has to be known.
    pub shape: Shape,
    /// How long.
    pub span: Duration,
    /// Who moves them: those of one owner are moved at the same times, which only rise.
    pub owner: usize,
    /// How far behind the time of the evaluation they end, in milliseconds.
    pub behind: i64,
}

/// Everything that rules select.
#[derive(Debug, Default)]
pub struct LiveTable {
    series: Vec<Series>,
    by_id: HashMap<SeriesId, usize>,
    by_labels: HashMap<Labels, usize>,
    selectors: Vec<Selector>,
    windows: Vec<Windows>,
    /// Samples that were dropped because they were not newer than those before.
    pub out_of_order: u64,
}

impl LiveTable {
    /// A selector; the same one when it was asked for before. Its samples are kept for `keep` at least.
    pub fn select(&mut self, matchers: Vec<Matcher>, keep: Duration) -> usize {
        let known = self.selectors.iter().position(|selector| selector.matchers == matchers);
        let position = known.unwrap_or_else(|| {
            self.selectors.push(Selector { matchers, keep, members: Vec::new() });
            self.selectors.len() - 1
        });
        self.selectors[position].keep = self.selectors[position].keep.max(keep);
        position
    }

    /// Windows over what a selector selects; the same ones when they were asked for before.
    pub fn windows(&mut self, key: WindowKey) -> usize {
        let known = self.windows.iter().position(|windows| windows.key == key);
        known.unwrap_or_else(|| {
            self.windows.push(Windows { key, windows: Vec::new() });
            self.windows.len() - 1
        })
    }

    /// Adds a series when some selector takes it and it is not there yet. Selectors and windows are asked for first.
    pub fn add(&mut self, spec: SeriesSpec) -> Option<usize> {
        if let Some(known) = self.by_labels.get(&spec.labels).copied() {
            if let Some(id) = spec.id {
                self.by_id.insert(id, known);
            }
            self.series[known].spec = spec;
            return Some(known);
        }
        let position = self.series.len();
        let mut keep = None;
        for selector in self.selectors.iter_mut().filter(|selector| selector.takes(&spec.labels)) {
            selector.members.push(position);
            keep = keep.max(Some(selector.keep));
        }
        let keep = keep?;
        for windows in &mut self.windows {
            if self.selectors[windows.key.selector].members.last() == Some(&position) {
                windows.windows.push(RangeWindow::new(windows.key.shape, windows.key.span));
            }
        }
        if let Some(id) = spec.id {
            self.by_id.insert(id, position);
        }
        self.by_labels.insert(spec.labels.clone(), position);
        let keep = keep + spec.look_back;
        self.series.push(Series { spec, ring: Ring::default(), keep });
        Some(position)
    }

    /// Gives back room for more series: those of the configuration are all there.
    pub fn trim(&mut self) {
        self.series.shrink_to_fit();
        self.selectors.iter_mut().for_each(|selector| selector.members.shrink_to_fit());
        self.windows.iter_mut().for_each(|windows| windows.windows.shrink_to_fit());
    }

    /// The position of the series with this id, when it is selected.
    pub fn position(&self, id: SeriesId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The position of the series with these labels, when it is selected.
    pub fn position_of(&self, labels: &Labels) -> Option<usize> {
        self.by_labels.get(labels).copied()
    }

    /// Adds a sample to the series at `position`.
    pub fn push(&mut self, position: usize, sample: Sample) -> Pushed {
        let series = &mut self.series[position];
        let pushed = series.ring.push(sample);
        match pushed {
            Pushed::Kept | Pushed::BeganAnew => {
                let keep = i64::try_from(series.keep.as_millis()).unwrap_or(i64::MAX);
                series.ring.forget_until(Timestamp(sample.time.0.saturating_sub(keep)));
            }
            Pushed::OutOfOrder => self.out_of_order += 1,
        }
        pushed
    }

    /// The series at `position`.
    pub fn series(&self, position: usize) -> &Series {
        &self.series[position]
    }

    /// All series that are selected.
    pub fn all(&self) -> &[Series] {
        &self.series
    }

    /// Matchers of every selector.
    pub fn matchers(&self) -> impl Iterator<Item = &[Matcher]> {
        self.selectors.iter().map(|selector| selector.matchers.as_slice())
    }

    /// What a selector selects.
    pub fn selector(&self, selector: usize) -> &Selector {
        &self.selectors[selector]
    }

    /// Calls `found` with the position of each series and what its window says at `time`.
    pub fn evaluate(&mut self, windows: usize, time: Timestamp, mut found: impl FnMut(usize, &RangeWindow, &Ring)) {
        let Windows { key, windows } = &mut self.windows[windows];
        let end = Timestamp(time.0.saturating_sub(key.behind));
        for (window, position) in windows.iter_mut().zip(&self.selectors[key.selector].members) {
            let ring = &self.series[*position].ring;
            window.slide(ring, end);
            found(*position, window, ring);
        }
    }

    /// As [`evaluate`](Self::evaluate), for some series alone.
    pub fn evaluate_of(
        &mut self,
        windows: usize,
        time: Timestamp,
        positions: &[usize],
        mut found: impl FnMut(usize, &RangeWindow, &Ring),
    ) {
        let Windows { key, windows } = &mut self.windows[windows];
        let end = Timestamp(time.0.saturating_sub(key.behind));
        for position in positions {
            let Ok(member) = self.selectors[key.selector].members.binary_search(position) else { continue };
            let ring = &self.series[*position].ring;
            windows[member].slide(ring, end);
            found(*position, &windows[member], ring);
        }
    }

    /// Positions of the series that a selector selects, those among `only` alone.
    pub fn members<'a>(&'a self, selector: usize, only: Option<&'a [usize]>) -> impl Iterator<Item = usize> + 'a {
        let members = &self.selectors[selector].members;
        let is_member = move |position: &&usize| only.is_none() || members.binary_search(position).is_ok();
        only.unwrap_or(members).iter().filter(is_member).copied()
    }

    /// How far back windows reach, in milliseconds.
    pub fn reach(&self, windows: usize) -> i64 {
        let key = &self.windows[windows].key;
        key.behind.saturating_add(i64::try_from(key.span.as_millis()).unwrap_or(i64::MAX))
    }

    /// What makes these windows what they are.
    pub fn window_key(&self, windows: usize) -> WindowKey {
        self.windows[windows].key
    }

    /// The selector that windows are over.
    pub fn selector_of(&self, windows: usize) -> usize {
        self.windows[windows].key.selector
    }

    /// The longest time for which samples are kept.
    pub fn longest(&self) -> Duration {
        self.series.iter().map(|series| series.keep).max().unwrap_or_default()
    }

    /// Bytes that samples and windows take.
    pub fn bytes(&self) -> usize {
        let samples: usize = self.series.iter().map(|series| series.ring.bytes() + size_of::<Series>()).sum();
        let windows = self.windows.iter().flat_map(|windows| &windows.windows);
        samples + windows.map(RangeWindow::bytes).sum::<usize>()
    }
}
