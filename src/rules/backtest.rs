//! Rules over the past: when they would have raised an alarm, for how long, and how often too often. Pure.
//!
//! The engine that runs live takes the stored readings in their order; windows and delays that began before the time
//! that is asked about are filled from what lies before it. What people did then is not done again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::engine::{Engine, EngineError, Outcome, RuleSetup};
use super::spec::{GroupSpec, RuleKind};
use super::thinned::{Summaries, Summarized};
use crate::model::{AlarmRecord, AlarmState, Priority, Row, Thinned, Timestamp};

/// Evaluations wait so long for readings, as live.
const SETTLE: Duration = Duration::from_millis(100);

/// A pause between readings longer than this is a hole, however long samples stand for their series.
const HOLE_LEAST: Duration = Duration::from_secs(5);

/// Episodes of one alarm that are kept one by one; more are counted.
const EPISODES_MAX: usize = 10_000;

/// Raised so often within [`FLAP_WITHIN`], an alarm flaps.
const FLAP_RAISES: usize = 4;

/// See [`FLAP_RAISES`].
const FLAP_WITHIN: Duration = Duration::from_secs(3600);

/// Delays that people write.
const DELAYS: [u64; 12] = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/// Once from raised to cleared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Episode {
    /// When it was raised; before the time asked about if it was active then.
    pub raised: Timestamp,
    /// When it was cleared; nothing when it is still active.
    pub cleared: Option<Timestamp>,
    /// What decided it.
    pub value: Option<f64>,
    /// What people would have read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What one alarm would have done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlarmPast {
    /// Name of the alarm.
    pub name: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// How soon somebody would have had to act.
    pub priority: Priority,
    /// How often it would have been raised.
    pub raised: usize,
    /// For how long it would have been active within the time asked about, in seconds.
    pub active_s: f64,
    /// The longest episode, in seconds.
    pub longest_s: f64,
    /// Raised so often in an hour that nobody looks any more.
    pub flaps: bool,
    /// With such a delay it would have been raised less often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
    /// One by one, oldest first.
    pub episodes: Vec<Episode>,
}

/// A delay that would have helped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Advice {
    /// The whole `for` of the rule, in seconds.
    pub delay_s: f64,
    /// How often it would have been raised then.
    pub raised: usize,
}

/// What the rules would have done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Past {
    /// Readings that a rule selects.
    pub readings: u64,
    /// Series that a rule selects.
    pub series: usize,
    /// Times without readings, longer than samples stand for their series.
    pub holes: Vec<(Timestamp, Timestamp)>,
    /// Times of which only summaries are left, because the store was full: rules were not tried there.
    pub summarized: Vec<Summarized>,
    /// Alarms that would have been raised, those most often first.
    pub alarms: Vec<AlarmPast>,
    /// Alerting rules that would never have raised any.
    pub silent: Vec<String>,
    /// Results of recording rules: how many.
    pub recorded: BTreeMap<String, u64>,
    /// Rules that could not be evaluated at the end, and why.
    pub failing: Vec<(String, String)>,
}

/// Takes the past, reading by reading.
pub struct Backtest {
    engine: Engine,
    groups: Vec<GroupSpec>,
    from: Timestamp,
    to: Timestamp,
    begin: Timestamp,
    newest: Option<Timestamp>,
    holes: Vec<(Timestamp, Timestamp)>,
    summaries: Summaries,
    readings: u64,
    alarms: BTreeMap<(String, BTreeMap<String, String>), AlarmPast>,
    recorded: BTreeMap<String, u64>,
}

impl Backtest {
    /// Rules over the time from `from` to `to`.
    ///
    /// # Errors
    /// Every rule that cannot be evaluated.
    pub fn new(setup: RuleSetup, from: Timestamp, to: Timestamp) -> Result<Self, Vec<EngineError>> {
        let groups = setup.groups.clone();
        let delay = groups.iter().flat_map(|group| &group.rules).map(|rule| match &rule.kind {
            RuleKind::Alert(alert) => alert.policy.delay + alert.policy.keep_firing,
            RuleKind::Record => Duration::ZERO,
        });
        // Rules that record are asked first by those that look at their results.
        let warm_up = delay.max().unwrap_or_default();
        // The evaluation at `from` itself is the first that counts.
        let begin = earlier(from, warm_up + Duration::from_millis(1));
        let engine = Engine::new(setup, begin)?;
        Ok(Self {
            engine,
            groups,
            from,
            to,
            begin,
            newest: None,
            holes: Vec::new(),
            summaries: Summaries::default(),
            readings: 0,
            alarms: BTreeMap::new(),
            recorded: BTreeMap::new(),
        })
    }

    /// Readings are needed from then on.
    pub fn needs_from(&self) -> Timestamp {
        earlier(self.begin, self.engine.longest())
    }

    /// Takes a stored row. Rows come in the order in which they were stored.
    pub fn take(&mut self, row: &Row) {
        if row.time >= self.to {
            return;
        }
        let pause = self.engine.shortest_look_back().unwrap_or_default().max(HOLE_LEAST);
        let seen = self.newest.unwrap_or(row.time);
        if row.time.since(seen) > pause {
            self.engine.note_hole(seen, row.time);
            self.engine.break_delays();
            if row.time > self.from {
                self.holes.push((seen.max(self.from), row.time));
            }
        }
        self.newest = Some(seen.max(row.time));
        let mut outcome = Outcome::default();
        self.engine.advance(earlier(row.time, SETTLE), &mut outcome);
        if row.time < self.begin {
            self.engine.take_history(std::slice::from_ref(row));
        } else {
            self.engine.take(std::slice::from_ref(row), &mut outcome);
            self.readings += row.series.iter().filter(|id| self.engine.selects(**id)).count() as u64;
        }
        self.note(outcome);
    }

    /// Takes note of summaries that a full store has in the place of readings; `corrected` sets times right.
    pub fn take_thinned(&mut self, thinned: &Thinned, corrected: impl Fn(Timestamp) -> Timestamp) {
        let Self { engine, summaries, .. } = self;
        summaries.take(thinned, |id| engine.selects(id), corrected);
    }

    /// What came of it.
    pub fn finish(mut self) -> Past {
        let mut outcome = Outcome::default();
        self.engine.advance(self.to, &mut outcome);
        self.note(outcome);
        if let Some(newest) = self.newest.filter(|newest| self.to.since(*newest) > HOLE_LEAST) {
            self.holes.push((newest.max(self.from), self.to));
        }
        let delays = self.delays();
        let (from, to) = (self.from, self.to);
        let mut alarms: Vec<AlarmPast> = self
            .alarms
            .into_values()
            .filter(|alarm| alarm.episodes.iter().any(|it| it.cleared.is_none_or(|at| at > from)))
            .collect();
        for alarm in &mut alarms {
            alarm.sum_up(from, to, delays.get(&alarm.name).copied().unwrap_or_default());
        }
        alarms.sort_by(|a, b| (b.raised, &a.name, &a.labels).cmp(&(a.raised, &b.name, &b.labels)));
        let rules = self.groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.is_alert());
        let is_silent = |name: &&String| !alarms.iter().any(|alarm| alarm.name == **name);
        let silent = rules.map(|rule| &rule.name).filter(is_silent).cloned().collect();
        Past {
            readings: self.readings,
            series: self.engine.status().series,
            holes: self.holes,
            summarized: self.summaries.within(self.begin, self.to),
            silent,
            recorded: self.recorded,
            failing: self.engine.failing().into_iter().map(|failing| (failing.rule, failing.reason)).collect(),
            alarms,
        }
    }

    fn delays(&self) -> BTreeMap<String, Duration> {
        let rules = self.groups.iter().flat_map(|group| &group.rules);
        let delay = rules.filter_map(|rule| match &rule.kind {
            RuleKind::Alert(alert) => Some((rule.name.clone(), alert.policy.delay)),
            RuleKind::Record => None,
        });
        delay.collect()
    }

    fn note(&mut self, outcome: Outcome) {
        for record in outcome.alarms {
            self.note_alarm(record);
        }
        for result in outcome.recorded.iter().filter(|result| result.time >= self.from) {
            let name = result.labels.get(super::live::NAME).cloned().unwrap_or_default();
            *self.recorded.entry(name).or_default() += 1;
        }
    }

    fn note_alarm(&mut self, record: AlarmRecord) {
        let key = (record.name.clone(), record.labels.clone());
        let alarm = self.alarms.entry(key).or_insert_with(|| AlarmPast {
            name: record.name,
            labels: record.labels,
            priority: record.priority,
            raised: 0,
            active_s: 0.0,
            longest_s: 0.0,
            flaps: false,
            advice: None,
            episodes: Vec::new(),
        });
        let is_active = matches!(record.state, AlarmState::UnacknowledgedActive | AlarmState::AcknowledgedActive);
        let is_full = alarm.episodes.len() >= EPISODES_MAX;
        let open = alarm.episodes.last_mut().filter(|episode| episode.cleared.is_none());
        match (is_active, open) {
            (true, None) if !is_full => alarm.episodes.push(Episode {
                raised: record.time,
                cleared: None,
                value: record.value,
                annotations: record.annotations,
            }),
            (false, Some(episode)) => episode.cleared = Some(record.time),
            (true, _) | (false, None) => {}
        }
    }
}

impl AlarmPast {
    fn sum_up(&mut self, from: Timestamp, to: Timestamp, delay: Duration) {
        self.episodes.retain(|episode| episode.cleared.is_none_or(|cleared| cleared > from));
        let within = |episode: &Episode| episode.cleared.unwrap_or(to).since(episode.raised.max(from));
        self.raised = self.episodes.iter().filter(|episode| episode.raised >= from).count();
        self.active_s = self.episodes.iter().map(|episode| within(episode).as_secs_f64()).sum();
        self.longest_s = self.episodes.iter().map(|episode| within(episode).as_secs_f64()).fold(0.0, f64::max);
        let raised: Vec<Timestamp> = self.episodes.iter().map(|episode| episode.raised).collect();
        self.flaps = raised.windows(FLAP_RAISES).any(|some| some[FLAP_RAISES - 1].since(some[0]) <= FLAP_WITHIN);
        self.advice = if self.flaps { self.advised(to, delay) } else { None };
    }

    /// The shortest delay that halves the raises at least, and leaves the longest episode.
    fn advised(&self, to: Timestamp, delay: Duration) -> Option<Advice> {
        let lasted = |episode: &Episode| episode.cleared.unwrap_or(to).since(episode.raised) + delay;
        let mut candidates = DELAYS.into_iter().map(Duration::from_secs).filter(|longer| *longer > delay);
        candidates.find_map(|longer| {
            let raised = self.episodes.iter().filter(|episode| lasted(episode) >= longer).count();
            let helps = raised * 2 <= self.episodes.len() && raised > 0;
            helps.then_some(Advice { delay_s: longer.as_secs_f64(), raised })
        })
    }
}

fn earlier(time: Timestamp, span: Duration) -> Timestamp {
    Timestamp(time.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Observed, Scale, SeriesId, Value};
    use crate::rules::file::parse;
    use crate::rules::live::{NAME, SeriesSpec};

    const SECOND: i64 = 1000;

    fn past(rules: &str, from: i64, to: i64, value: impl Fn(i64) -> Option<f64>) -> Past {
        let labels = [(NAME, "t"), ("device", "a")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let look_back = Duration::from_secs(3);
        let spec = SeriesSpec { id: Some(SeriesId(0)), labels: Arc::new(labels.into()), scale: Scale::ONE, look_back };
        let groups = parse(&format!("groups: [{{name: g, interval: 1s, rules: [{rules}]}}]"), "r.yml").unwrap();
        let setup = RuleSetup { groups, series: vec![spec], ..RuleSetup::default() };
        let mut test = Backtest::new(setup, Timestamp(from * SECOND), Timestamp(to * SECOND)).unwrap();
        for second in test.needs_from().0.div_euclid(SECOND).max(0)..=to {
            if let Some(value) = value(second) {
                let observed = vec![Observed::Good(Value::F64(value))];
                test.take(&Row { series: [SeriesId(0)].into(), time: Timestamp(second * SECOND), observed });
            }
        }
        test.finish()
    }

    #[test]
    fn alarms_of_the_past_are_found_with_how_long_and_how_often() {
        let hot =
            |second: i64| Some(if (100..130).contains(&second) || (300..310).contains(&second) { 90.0 } else { 20.0 });
        let found =
            past("{alert: Hot, expr: t > 80}, {alert: Never, expr: t > 100}, {record: 'r:t', expr: t}", 50, 400, hot);

        let [alarm] = found.alarms.as_slice() else { panic!("{found:?}") };
        assert_eq!((alarm.raised, alarm.active_s, alarm.longest_s, alarm.flaps), (2, 40.0, 30.0, false));
        assert_eq!(alarm.episodes[0].raised, Timestamp(100 * SECOND));
        assert_eq!(alarm.episodes[1].cleared, Some(Timestamp(310 * SECOND)));
        assert_eq!((found.silent, found.recorded["r:t"]), (vec!["Never".to_owned()], 351));
        assert!(found.holes.is_empty());
    }

    #[test]
    fn windows_and_delays_reach_back_before_the_time_that_is_asked_about() {
        let hot = |second: i64| Some(if second >= 95 { 90.0 } else { 80.0 });

        let found = past("{alert: Hot, expr: 'min_over_time(t[10s]) > 85', for: 20s}", 120, 130, hot);

        // Only hot readings in the window from 104 s on, and that for 20 s.
        assert_eq!(found.alarms[0].episodes[0].raised, Timestamp(124 * SECOND));
    }

    #[test]
    fn an_alarm_that_flaps_comes_with_a_delay_that_would_help() {
        let shaky = |second: i64| Some(if second % 60 < 4 || second > 900 { 90.0 } else { 20.0 });

        let found = past("{alert: Hot, expr: t > 80}", 60, 1000, shaky);

        let alarm = &found.alarms[0];
        assert!(alarm.flaps && alarm.raised > 10, "{alarm:?}");
        assert_eq!(alarm.advice, Some(Advice { delay_s: 5.0, raised: 1 }));
        assert_eq!(alarm.episodes.last().unwrap().cleared, None);
    }

    #[test]
    fn a_time_without_readings_is_said() {
        let gap = |second: i64| (!(100..160).contains(&second)).then_some(20.0);

        let found = past("{alert: Hot, expr: t > 80}", 50, 200, gap);

        assert_eq!(found.holes, [(Timestamp(99 * SECOND), Timestamp(160 * SECOND))]);
    }
}
