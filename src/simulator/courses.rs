//! Courses that make the points of any profile move like the machine behind them.

use std::time::Duration;

use super::values::Course;
use crate::model::ValueKind;
use crate::profile::{Encoding, Point};

/// How busy the machine is, 0.15 idle and 1 working: the first value, which powers and vibrations follow.
const MACHINE: usize = 0;

/// A course for every point that can show a number; values without a point drive others.
pub fn courses(points: &[Point]) -> Vec<(Option<usize>, Course)> {
    let mut courses = vec![(None, Course::Switch { states: vec![1.0, 0.15], dwell: Duration::from_secs(7) })];
    let (counters, others): (Vec<usize>, Vec<usize>) = (0..points.len())
        .filter(|index| points[*index].encoding.kind() != ValueKind::Text)
        .partition(|index| points[*index].unit.ends_with("Wh") || points[*index].unit.ends_with("varh"));
    courses.extend(others.iter().map(|index| (Some(*index), measured(&points[*index]))));
    for index in counters {
        let counter = counter(points, index, &courses);
        courses.push((Some(index), counter));
    }
    courses
}

/// A measured value, by its unit, or by its name where it has none.
fn measured(point: &Point) -> Course {
    let is_phase = ["_l1", "_l2", "_l3"].iter().any(|phase| point.name.contains(phase));
    let phases = if is_phase { 1.0 } else { 3.0 };
    let kilo = if point.unit.starts_with('k') { 0.001 } else { 1.0 };
    match point.unit.trim_start_matches('k') {
        "V" if point.name.contains("_ll_") || point.name.matches("_l").count() > 1 => walk(400.0, 1.5, 30),
        "V" => walk(230.0, 1.0, 30),
        "A" => follow(12.0, 0.05),
        "W" => follow(2600.0 * phases * kilo, 20.0 * kilo),
        "VA" => follow(2800.0 * phases * kilo, 20.0 * kilo),
        "var" => follow(900.0 * phases * kilo, 10.0 * kilo),
        "Hz" if point.name.starts_with("frequency") => walk(50.0, 0.02, 10),
        "Hz" => walk(29.5, 0.3, 20),
        "%" => walk(2.0, 0.2, 30),
        "deg" => walk(21.0, 1.0, 30),
        "°C" => walk(41.5, 0.4, 120),
        "°F" => walk(106.7, 0.7, 120),
        "mm/s" => follow(2.4, 0.02),
        "in/s" => follow(0.094, 0.001),
        "g" => follow(0.6, 0.008),
        _ => without_unit(point),
    }
}

fn without_unit(point: &Point) -> Course {
    let dwell = Duration::from_secs(5);
    if !point.states.is_empty() {
        return Course::Switch { states: point.states.keys().map(|state| *state as f64).collect(), dwell };
    }
    match point.encoding {
        Encoding::Bit(_) => Course::Switch { states: vec![0.0, 1.0], dwell },
        // 2026-01-01
        Encoding::Clock(_) => Course::Constant(1_767_225_600.0),
        _ if point.name.contains("power_factor") => walk(0.93, 0.005, 20),
        _ if point.name.contains("kurtosis") => walk(3.0, 0.1, 20),
        _ if point.name.contains("crest_factor") => walk(3.5, 0.15, 20),
        _ => Course::Constant(1.0),
    }
}

/// An energy counter adds up the power of its phases; what is exported stands still.
fn counter(points: &[Point], index: usize, courses: &[(Option<usize>, Course)]) -> Course {
    let point = &points[index];
    let kilo = if point.unit.starts_with('k') { 0.001 } else { 1.0 };
    let start = match point.encoding.width() {
        // A counter of one register counts a day.
        1 => point.scale.apply(100.0),
        _ => 48_000_000.0 * kilo + 1_000.0 * kilo * index as f64,
    };
    let phase = ["_l1", "_l2", "_l3"].into_iter().find(|phase| point.name.contains(phase));
    let power_unit = point.unit.trim_start_matches('k').trim_end_matches('h');
    let feeds = |candidate: &Point| {
        let same_phase = match phase {
            Some(phase) => candidate.name.contains(phase),
            None => !["_l1", "_l2", "_l3"].iter().any(|phase| candidate.name.contains(phase)),
        };
        candidate.unit.trim_start_matches('k') == power_unit && same_phase && !candidate.name.contains("_max")
    };
    let source = courses.iter().position(|(shown, _)| shown.is_some_and(|shown| feeds(&points[shown])));
    match source {
        Some(source) if !point.name.contains("export") => {
            let source_kilo = match courses[source].0 {
                Some(shown) if points[shown].unit.starts_with('k') => 1000.0,
                Some(_) | None => 1.0,
            };
            Course::Counter { start, source, per_hour: source_kilo * kilo }
        }
        Some(_) | None => Course::Constant(start),
    }
}

fn walk(mean: f64, spread: f64, memory_s: u64) -> Course {
    Course::Walk { mean, spread, memory: Duration::from_secs(memory_s) }
}

fn follow(factor: f64, noise: f64) -> Course {
    Course::Follow { source: MACHINE, factor, noise }
}
