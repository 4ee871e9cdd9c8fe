//! `lineside demo`: the whole job in one process, on a simulated plant.
//!
//! A plant with real servers, an MQTT broker, the agent with the shipped profiles, and a consumer that decodes what
//! arrives. After ten seconds the broker goes away for five. At the end what the consumer decoded is held against the
//! plant's own log of its answers.

mod broker;
mod consumer;
mod proof;
mod story;
mod view;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::AnsiColor;
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::table::{bytes, count};
use super::{Exit, Failure};
use crate::agent::Agent;
use crate::config::{self, Config};
use crate::diagnostics::Status;
use crate::logging;
use crate::settings::parse_duration;
use crate::simulator::TextMisbehaviour;
use crate::simulator::plant::{Plant, PlantSpec};
use broker::Gate;
use consumer::{Consumer, Harvest};
use proof::Proof;
use view::{Moment, View};

/// A rule for the machines of the plant, which work for some seconds and then stand idle for some.
const RULES: &str = r#"
groups:
  - name: machines
    interval: 1s
    rules:
      - alert: MachineIdle
        expr: avg_over_time(active_power_w[3s]) < 2500
        annotations: { summary: "{{ $labels.device }} draws {{ $value }} W and does nothing" }
        edge: { clear: "avg_over_time(active_power_w[3s]) > 4000", priority: low }
"#;

/// When the broker goes away, and for how long.
const OUTAGE_AT: Duration = Duration::from_secs(10);
const OUTAGE: Duration = Duration::from_secs(5);

/// Longest wait for the backlog at the end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(20);

/// How long a line of a stream may be under way: one at 4800 baud, on a machine that does something else besides.
const LISTENING_LONGEST: Duration = Duration::from_secs(5);

/// Show the main job on a simulated plant, with a broker that goes away for five seconds.
///
/// Nothing else is needed. Ends on Ctrl-C or after --for; exit code 1 unless every reading that the plant answered
/// arrived exactly once.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How long, for example 30s or 2m; until Ctrl-C without it.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    span: Option<Duration>,
    /// Print the summary as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "must be a whole number with a unit such as 30s or 2m".to_owned())
}

/// What the demo ends with.
#[derive(Debug, Serialize)]
struct Summary {
    /// Seconds it ran.
    seconds: f64,
    /// Readings taken by the agent, good and bad.
    readings_taken: u64,
    /// Readings made durable.
    readings_stored: u64,
    /// Readings that the broker acknowledged.
    readings_delivered: u64,
    /// Readings that the consumer decoded, repeats not counted.
    readings_decoded: u64,
    /// Repeats that the consumer discarded by identity.
    repeats_discarded: u64,
    /// Alarm transitions that arrived.
    alarms: u64,
    /// Of those, how often a machine was found idle by the rule, and how often that ended.
    rule_fired: u64,
    rule_cleared: u64,
    /// Good readings in the plant's answers.
    answered: u64,
    /// Of those, not arrived.
    missing: u64,
    /// Arrived more often than answered, after deduplication.
    duplicates: u64,
    /// Same identity, different content.
    contradictions: u64,
    /// Payloads that could not be decoded.
    undecodable: u64,
    /// Bytes on the wire for each reading, repeats included.
    wire_bytes_per_reading: f64,
    /// Most memory of the whole process, plant, broker and consumer included, in bytes.
    memory_peak_bytes: u64,
    /// What is wrong, if anything.
    examples: Vec<String>,
}

impl Summary {
    fn is_clean(&self) -> bool {
        self.missing == 0
            && self.duplicates == 0
            && self.contradictions == 0
            && self.undecodable == 0
            && self.answered > 0
    }
}

impl Demo {
    pub fn run(self) -> Result<Exit, Failure> {
        // A live view and log lines do not go together; what went wrong is in the summary.
        logging::start("error,rumqttd=off");
        // Fails only when a provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(anyhow::Error::from)?;
        let directory = Scratch::new()?;
        let summary = runtime.block_on(self.play(&directory.0));
        runtime.shutdown_background();
        let summary = summary?;
        self.report(&summary).map_err(anyhow::Error::from)?;
        Ok(if summary.is_clean() { Exit::Done } else { Exit::Findings })
    }

    async fn play(&self, directory: &Path) -> anyhow::Result<Summary> {
        let plant = Plant::start(PlantSpec::default()).await?;
        let broker = broker::start()?;
        let gate = Gate::to(broker).await?;
        let consumer = Consumer::start(broker).await?;
        let config = configuration(&plant, directory, &gate)?;
        let mut agent = Agent::start(config.clone()).await?;
        let mut view = View::new(!self.json, std::io::stderr().is_terminal());
        let started = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = async {
            match self.span {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let elapsed = started.elapsed();
                    let away = (OUTAGE_AT..OUTAGE_AT + OUTAGE).contains(&elapsed);
                    gate.set_open(!away);
                    let broker_away_for = away.then(|| OUTAGE_AT + OUTAGE - elapsed);
                    let (status, arrived) = (agent.board().snapshot(), *consumer.arrived.borrow());
                    view.show(&Moment { elapsed, broker_away_for, status: &status, arrived: &arrived });
                }
                failed = agent.failure() => anyhow::bail!("task {:?} ended: {:?}", failed.name, failed.panic),
                () = &mut end => break,
                _ = &mut interrupted => break,
            }
        }
        gate.set_open(true);
        let ran = started.elapsed();
        tokio::select! {
            summary = finish(plant, agent, consumer, &config, view, ran) => summary,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted before the proof was complete"),
        }
    }

    fn report(&self, summary: &Summary) -> std::io::Result<()> {
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, summary)?;
            return writeln!(out);
        }
        writeln!(out, "\nAfter {:.0} s:", summary.seconds)?;
        let lines = [
            ("readings taken", count(summary.readings_taken)),
            ("stored", count(summary.readings_stored)),
            ("delivered", count(summary.readings_delivered)),
            ("decoded by the consumer", count(summary.readings_decoded)),
            ("repeats discarded", count(summary.repeats_discarded)),
            ("alarm transitions", count(summary.alarms)),
            ("  the rule MachineIdle fired", count(summary.rule_fired)),
            ("  and cleared", count(summary.rule_cleared)),
            ("good readings answered by the plant", count(summary.answered)),
            ("missing", count(summary.missing)),
            ("duplicates", count(summary.duplicates)),
            ("bytes per reading on the wire", format!("{:.2}", summary.wire_bytes_per_reading)),
            ("memory, everything included", bytes(summary.memory_peak_bytes)),
        ];
        for (name, figure) in lines {
            writeln!(out, "  {name:<36} {figure:>10}")?;
        }
        for example in &summary.examples {
            writeln!(out, "  {example}")?;
        }
        let (style, verdict) = match summary.is_clean() {
            true => (AnsiColor::Green.on_default().bold(), "complete: every answer of the plant arrived exactly once"),
            false => (AnsiColor::Red.on_default().bold(), "NOT complete"),
        };
        writeln!(out, "\n{style}{verdict}{style:#}")
    }
}

fn configuration(plant: &Plant, directory: &Path, gate: &Gate) -> anyhow::Result<Config> {
    let text = plant.configuration(&directory.join("store"), &format!("mqtt://{}", gate.address));
    let socket = format!("[gateway]\nsocket = {:?}", directory.join("lineside.sock"));
    std::fs::write(directory.join("rules.yml"), RULES).context("the rules of the demo")?;
    let text = text.replacen("[gateway]", &socket, 1) + "\n[rules]\nfiles = [\"rules.yml\"]\n";
    config::parse(&text, "demo.toml", directory).context("the configuration of the demo")
}

/// Quiets the plant, lets the backlog drain, stops the agent, and draws the balance.
async fn finish(
    plant: Plant,
    agent: Agent,
    consumer: Consumer,
    config: &Config,
    mut view: View,
    ran: Duration,
) -> anyhow::Result<Summary> {
    // A stream does not wait to be asked: what it says while the agent stops would count as missing.
    plant.weather().misbehave(Some(TextMisbehaviour::Silent)).await?;
    let drained = Instant::now();
    loop {
        let status = agent.board().snapshot();
        let arrived = *consumer.arrived.borrow();
        let elapsed = ran + drained.elapsed();
        view.show(&Moment { elapsed, broker_away_for: None, status: &status, arrived: &arrived });
        let has_caught_up = status.lanes.telemetry.pending_readings < status.ingest.readings() / 2
            && (has_listened(&plant, &status) || drained.elapsed() > LISTENING_LONGEST)
            && matches!(status.mqtt.as_ref().map(|mqtt| &mqtt.state), Some(crate::mqtt::SessionState::Connected(_)));
        if has_caught_up || drained.elapsed() > DRAIN_PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let board = agent.board().clone();
    agent.shutdown().await;
    let status = board.snapshot();
    let harvest = wait_for(&consumer, status.uplink.readings).await?;
    view.end();
    let proof = proof::prove(&plant, config, &harvest).await?;
    plant.stop().await;
    Ok(summary(ran, &status, &harvest, proof))
}

/// Whether the agent has heard every line of the stream: the last one may be under way.
fn has_listened(plant: &Plant, status: &Status) -> bool {
    let mut devices = status.links.iter().flat_map(|link| &link.devices);
    let heard = devices.find(|device| device.name.as_str() == "roof").map_or(0, |device| device.answers);
    heard >= plant.weather().counters().lines
}

/// What the broker has acknowledged reaches the consumer a moment later.
async fn wait_for(consumer: &Consumer, delivered: u64) -> anyhow::Result<Harvest> {
    let mut arrived = consumer.arrived.clone();
    let all = arrived.wait_for(|arrived| arrived.readings >= delivered);
    // What does not come is missing, and the summary will say so.
    let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    consumer.harvest().await
}

fn summary(ran: Duration, status: &Status, harvest: &Harvest, proof: Proof) -> Summary {
    let decoded = harvest.arrived.readings;
    Summary {
        seconds: ran.as_secs_f64(),
        readings_taken: status.ingest.readings(),
        readings_stored: status.store.readings_stored,
        readings_delivered: status.uplink.readings,
        readings_decoded: decoded,
        repeats_discarded: harvest.arrived.repeats,
        alarms: harvest.arrived.alarms,
        rule_fired: harvest.arrived.rule_fired,
        rule_cleared: harvest.arrived.rule_cleared,
        answered: proof.answered,
        missing: proof.missing,
        duplicates: proof.duplicates,
        contradictions: harvest.contradictions,
        undecodable: harvest.arrived.undecodable,
        wire_bytes_per_reading: harvest.arrived.payload_bytes as f64 / decoded.max(1) as f64,
        memory_peak_bytes: status.process.memory_peak_bytes,
        examples: proof.examples,
    }
}

/// A directory that goes when the demo ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("lineside-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost when it stays: it is below the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
