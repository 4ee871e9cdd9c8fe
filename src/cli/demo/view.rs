//! The stages while they work: redrawn on a terminal, a line each second otherwise; and what happens, as it happens.

use std::collections::VecDeque;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::consumer::Arrived;
use super::story::{Scene, Story};
use crate::cli::table::{bytes, count};
use crate::diagnostics::Status;
use crate::mqtt::SessionState;

/// One line for each stage, the title and a blank line on both sides of it.
const LINES: usize = 9;
/// Moments that the curve of the backlog shows.
const CURVE: usize = 38;

/// A view of the running demo.
pub(super) struct View {
    kind: Kind,
    story: Story,
    /// Readings that waited, the newest last.
    backlog: VecDeque<u64>,
}

enum Kind {
    Quiet,
    Lines { last_second: u64 },
    Live { lines: Vec<ProgressBar>, frame: MultiProgress, paint: Paint },
}

/// One moment of the demo.
pub(super) struct Moment<'a> {
    pub elapsed: Duration,
    /// When the broker is away: how long it still will be.
    pub broker_away_for: Option<Duration>,
    pub status: &'a Status,
    pub arrived: &'a Arrived,
}

impl View {
    /// A view that says something only when `wanted`, and redraws itself on a terminal.
    pub fn new(wanted: bool, terminal: bool) -> Self {
        let kind = match (wanted, terminal) {
            (false, _) => Kind::Quiet,
            (true, false) => Kind::Lines { last_second: u64::MAX },
            (true, true) => {
                let frame = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
                // A line that is wider than the terminal is cut, not wrapped.
                let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                let line = |_| frame.add(ProgressBar::new(1).with_style(style.clone()));
                let lines = (0..LINES).map(line).collect();
                Kind::Live { lines, frame, paint: Paint::for_stderr() }
            }
        };
        Self { kind, story: Story::default(), backlog: VecDeque::with_capacity(CURVE) }
    }

    /// Shows the state of all stages, and what is new.
    pub fn show(&mut self, moment: &Moment<'_>) {
        let news = self.story.tell(&Scene::new(moment.elapsed, moment.broker_away_for.is_none(), moment.status));
        if self.backlog.len() == CURVE {
            self.backlog.pop_front();
        }
        self.backlog.push_back(moment.status.lanes.telemetry.pending_readings);
        match &mut self.kind {
            Kind::Quiet => {}
            Kind::Lines { last_second } => {
                news.iter().for_each(|news| eprintln!("{news}"));
                if *last_second != moment.elapsed.as_secs() {
                    *last_second = moment.elapsed.as_secs();
                    eprintln!("{}", one_line(moment));
                }
            }
            Kind::Live { lines, frame, paint } => {
                for news in news {
                    // Without its terminal the demo goes on.
                    let _ = frame.println(news);
                }
                for (line, text) in lines.iter().zip(paint.stages(moment, &self.backlog)) {
                    line.set_message(text);
                }
            }
        }
    }

    /// Leaves the last picture where it is.
    pub fn end(&mut self) {
        if let Kind::Live { lines, .. } = &self.kind {
            lines.iter().for_each(ProgressBar::abandon);
            eprintln!();
        }
    }
}

fn one_line(moment: &Moment<'_>) -> String {
    let broker = if moment.broker_away_for.is_none() { "up" } else { "AWAY" };
    format!(
        "{:>5.1} s  taken {:>7}  backlog {:>6}  broker {broker:<4}  delivered {:>7}  decoded {:>7}",
        moment.elapsed.as_secs_f64(),
        count(moment.status.ingest.readings()),
        count(moment.status.lanes.telemetry.pending_readings),
        count(moment.status.uplink.readings),
        count(moment.arrived.readings),
    )
}

/// Styles of the live view; without colours all are plain.
struct Paint {
    title: Style,
    label: Style,
    good: Style,
    busy: Style,
    bad: Style,
}

impl Paint {
    fn for_stderr() -> Self {
        match anstream::AutoStream::choice(&std::io::stderr()) {
            anstream::ColorChoice::Never => Self {
                title: Style::new(),
                label: Style::new(),
                good: Style::new(),
                busy: Style::new(),
                bad: Style::new(),
            },
            anstream::ColorChoice::Auto | anstream::ColorChoice::AlwaysAnsi | anstream::ColorChoice::Always => Self {
                title: Style::new().bold(),
                label: AnsiColor::Cyan.on_default(),
                good: AnsiColor::Green.on_default(),
                busy: AnsiColor::Yellow.on_default(),
                bad: AnsiColor::Red.on_default().bold(),
            },
        }
    }

    fn stages(&self, moment: &Moment<'_>, backlog: &VecDeque<u64>) -> [String; LINES] {
        let Moment { status, arrived, .. } = moment;
        let ingest = &status.ingest;
        let waiting = status.lanes.telemetry.pending_readings;
        let stored_bytes = status.store.live_bytes as f64 / status.store.readings_stored.max(1) as f64;
        let is_away = moment.broker_away_for.is_some();
        let curve = self.text(if is_away { self.busy } else { self.good }, &format!("{:<CURVE$}", curve(backlog)));
        let title = self.text(self.title, "lineside demo");
        [
            String::new(),
            format!("{title}  {:.0} s; Ctrl-C ends it with a proof", moment.elapsed.as_secs_f64()),
            String::new(),
            self.plant(status),
            self.stage("agent", ingest.readings(), "readings taken", &self.bad_readings(ingest.bad)),
            self.stage(
                "store",
                status.store.readings_stored,
                "durable",
                &format!("{}, {stored_bytes:.1} bytes each", bytes(status.store.live_bytes)),
            ),
            self.stage("backlog", waiting, "wait", &curve),
            self.stage("broker", status.uplink.readings, "delivered", &self.broker(moment)),
            self.stage("consumer", arrived.readings, "decoded", &received(arrived)),
        ]
    }

    fn text(&self, style: Style, text: &str) -> String {
        format!("{style}{text}{style:#}")
    }

    fn stage(&self, name: &str, number: u64, what: &str, more: &str) -> String {
        format!("  {}  {:>9} {what:<16}  {more}", self.text(self.label, &format!("{name:<8}")), count(number))
    }

    fn plant(&self, status: &Status) -> String {
        let scene = Scene::new(Duration::ZERO, true, status);
        let answering = scene.polled.saturating_sub(scene.dead.len());
        let well = self.text(self.good, &"●".repeat(answering));
        let ill = self.text(self.bad, &"○".repeat(scene.devices - answering));
        let dead: Vec<&str> = scene.dead.iter().map(String::as_str).collect();
        let dead = if dead.is_empty() { String::new() } else { format!(" dead: {}", dead.join(", ")) };
        let more = format!("{well}{ill}{}", self.text(self.bad, &dead));
        self.stage("plant", answering as u64, &format!("devices of {}", scene.devices), &more)
    }

    fn bad_readings(&self, bad: u64) -> String {
        match bad {
            0 => self.text(self.good, "all of them good"),
            bad => self.text(self.busy, &format!("{} of them bad, with the reason", count(bad))),
        }
    }

    fn broker(&self, moment: &Moment<'_>) -> String {
        if let Some(rest) = moment.broker_away_for {
            return self.text(self.bad, &format!("AWAY for {:.0} s more", rest.as_secs_f64().ceil()));
        }
        match moment.status.mqtt.as_ref().map(|mqtt| &mqtt.state) {
            Some(SessionState::Connected(_)) => self.text(self.good, "connected"),
            Some(SessionState::Connecting { .. }) | None => self.text(self.busy, "connecting"),
        }
    }
}

fn received(arrived: &Arrived) -> String {
    if arrived.batches == 0 {
        return "waits for the first batch".to_owned();
    }
    let wire_bytes = arrived.payload_bytes as f64 / arrived.readings.max(1) as f64;
    let alarms = if arrived.alarms == 1 { "alarm" } else { "alarms" };
    format!("{} batches, {wire_bytes:.1} bytes each, {} {alarms}", count(arrived.batches), count(arrived.alarms))
}

/// `▁▃▆█▂`: each moment in its height, the highest as high as a line is.
fn curve(backlog: &VecDeque<u64>) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = backlog.iter().max().copied().unwrap_or(0).max(1);
    let height = |waiting: &u64| usize::try_from(waiting * (HEIGHTS.len() as u64 - 1) / most).unwrap_or(0);
    backlog.iter().map(|waiting| HEIGHTS[height(waiting)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_of_the_backlog_rises_to_its_highest_moment() {
        assert_eq!(curve(&VecDeque::from([0, 70, 700, 350])), "▁▁█▄");
        assert_eq!(curve(&VecDeque::from([0])), "▁");
        assert_eq!(curve(&VecDeque::new()), "");
    }
}
