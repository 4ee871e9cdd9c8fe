//! `lineside status --device`: all about one device.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::super::screen::{write_problems, write_wrapped};
use super::super::table::{Table, count};
use super::super::{Exit, Failure, write_json, written};
use super::{list, number, problems, text};
use crate::diagnostics::problems::{About, Problem};
use crate::modbus::exception::speaker;
use crate::model::Fault;

/// Shows the device called `name`. Exit code 1 when it does not answer, or is not what its profile is for.
pub(super) fn show(status: &Value, name: &str, as_json: bool) -> Result<Exit, Failure> {
    let devices = || list(&status["links"]).flat_map(|link| list(&link["devices"]).map(move |device| (link, device)));
    let Some((link, device)) = devices().find(|(_, device)| device["name"] == name) else {
        let names: Vec<String> = devices().map(|(_, device)| text(&device["name"])).collect();
        return Err(Failure::Refused(format!("no device {name:?}; devices are {}", names.join(", "))));
    };
    let is_its = |problem: &Problem| problem.about.as_ref().and_then(About::device) == Some(name);
    let problems: Vec<Problem> = problems(status).into_iter().filter(is_its).collect();
    let mut out = anstream::stdout().lock();
    written(match as_json {
        true => write_json(&mut out, device),
        false => {
            let mut text = Vec::new();
            write(&mut text, link, device, &problems)
                .and_then(|()| write_wrapped(&mut out, &String::from_utf8_lossy(&text)))
        }
    })?;
    let is_well = !problems.iter().any(|problem| problem.severity.is_trouble()) && device["state"] == "answering";
    Ok(if is_well { Exit::Done } else { Exit::Findings })
}

/// How it behaves, in words. The agent takes a device for well until it is silent; people want to know whether it was ever
/// heard.
pub(super) fn state(device: &Value) -> String {
    if device["state"] == "answering" && device["last_answer"].is_null() {
        return "not heard yet".to_owned();
    }
    text(&device["state"]).replace('_', " ")
}

fn write(out: &mut impl Write, link: &Value, device: &Value, problems: &[Problem]) -> io::Result<()> {
    let bold = Style::new().bold();
    let alert = if device["state"] == "answering" { Style::new() } else { AnsiColor::Red.on_default() };
    let state = state(device);
    writeln!(
        out,
        "{bold}{}{bold:#}  on {} ({})  {alert}{state}{alert:#}",
        text(&device["name"]),
        text(&link["name"]),
        text(&link["endpoint"])
    )?;
    if let Some(error) = device["last_error"].as_str() {
        writeln!(out, "  last failure  {error}")?;
    }
    write_identity(out, &device["identity"])?;
    write_counters(out, device)?;
    write_learned(out, &device["learned"])?;
    match problems.is_empty() {
        true => Ok(()),
        false => write_problems(out, problems),
    }
}

fn write_identity(out: &mut impl Write, identity: &Value) -> io::Result<()> {
    if identity.is_null() {
        return Ok(());
    }
    let or = |key: &str, instead: &str| identity[key].as_str().unwrap_or(instead).to_owned();
    writeln!(
        out,
        "  identity      {}: model {}, firmware {}, map {}{}",
        text(&identity["state"]).replace('_', " "),
        or("model", "not told"),
        or("firmware", "not told"),
        or("map", "the only one"),
        identity["reason"].as_str().map(|reason| format!("; it {reason}")).unwrap_or_default()
    )
}

fn write_counters(out: &mut impl Write, device: &Value) -> io::Result<()> {
    let mut table = Table::new(["requests", "answers", "timeouts", "bad CRC", "frames", "exceptions", "late", "link"]);
    let keys =
        ["requests", "answers", "timeouts", "crc_errors", "bad_frames", "exceptions", "stale_dropped", "link_failures"];
    table.row(keys.map(|key| count(number(&device[key]))));
    table.write(out, 2)?;
    for (code, times) in device["exceptions_by_code"].as_object().into_iter().flatten() {
        let code: u8 = code.parse().unwrap_or(0);
        writeln!(out, "  {} from {}: {}", Fault::Exception(code), speaker(code), count(number(times)))?;
    }
    let stray = number(&device["stray_bytes"]);
    if stray > 0 {
        let (around, answers) = (count(number(&device["stray_answers"])), count(number(&device["answers"])));
        writeln!(out, "  stray bytes   {} around {around} of {answers} answers, dropped", count(stray))?;
    }
    let anew = number(&device["asked_anew"]);
    if anew > 0 {
        writeln!(out, "  asked anew    {} times, as the connection was closed before the answer", count(anew))?;
    }
    let trip = &device["round_trip"];
    let ms = |key: &str| format!("{:.1} ms", number(&trip[key]) as f64 / 1000.0);
    // What speaks by itself answers without having been asked.
    if number(&device["answers"]) == 0 || number(&device["requests"]) == 0 {
        return Ok(());
    }
    let mut table = Table::new(["round trip", "shortest", "mean", "50 % in", "95 % in", "99 % in", "longest"]);
    let figures = ["min_us", "mean_us", "p50_us", "p95_us", "p99_us", "max_us"].map(ms);
    let [min, mean, half, p95, p99, max] = figures;
    table.row([String::new(), min, mean, half, p95, p99, max]);
    table.write(out, 2)
}

fn write_learned(out: &mut impl Write, learned: &Value) -> io::Result<()> {
    let ms = |key: &str| format!("{:.1} ms", number(&learned[key]) as f64 / 1000.0);
    if number(&learned["answers"]) == 0 {
        return writeln!(out, "  learned       nothing yet");
    }
    writeln!(
        out,
        "  learned       begins to answer after {} (slowest of late {}), waited for {} ms; longest block {} registers",
        ms("turnaround_us"),
        ms("slowest_us"),
        number(&learned["timeout_ms"]),
        number(&learned["accepted_max"])
    )?;
    let lessons = &learned["lessons"];
    if let Some(most) = lessons["registers_max"].as_u64() {
        writeln!(out, "                takes no more than {most} registers in one request")?;
    }
    for refused in list(&lessons["refused"]) {
        let (address, code) = (number(&refused["address"]), u8::try_from(number(&refused["code"])).unwrap_or(0));
        let last = address + number(&refused["count"]).saturating_sub(1);
        let table = text(&refused["table"]).replace('_', " ");
        writeln!(out, "                refuses {table} {address} to {last}: {}", Fault::Exception(code))?;
    }
    for seam in list(&lessons["seams"]) {
        let (before, behind) = (number(&seam["before"]), number(&seam["behind"]));
        let table = text(&seam["table"]).replace('_', " ");
        writeln!(out, "                does not give {table} {before} and {behind} in one answer")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_that_was_never_heard_is_not_called_answering() {
        assert_eq!(state(&json!({ "state": "answering", "last_answer": null })), "not heard yet");
        assert_eq!(state(&json!({ "state": "answering", "last_answer": "2026-11-25T06:00:00Z" })), "answering");
        assert_eq!(state(&json!({ "state": "backed_off", "last_answer": null })), "backed off");
    }
}
