//! A lane as it is put together again after damage: from what the database still says about it, from the mark beside the
//! database, and from the commits that are there.

use std::ops::ControlFlow;

use super::lane::LaneState;
use super::loaded::{commit_key, sequence_of};
use super::mark::Noted;
use super::ranges::Ranges;
use super::room::Run;
use super::store::at;
use super::tally::{Tallies, Tally};
use crate::database::{Database, DatabaseError};
use crate::model::{Gap, GapReason, Lane};

/// A lane after damage.
#[derive(Debug)]
pub struct Reckoned {
    /// The lane. What is missing counts as dropped.
    pub state: LaneState,
    /// Gap records for what is missing.
    pub gaps: Vec<Gap>,
    /// How many are missing of those that are known to have been, and that were to be delivered.
    pub lost: u64,
    /// How many are missing of the history: they were delivered.
    pub lost_history: u64,
    /// Commits that were dropped and are there again, because the removal is lost.
    pub revived: Vec<u64>,
}

/// Reckons `lane` of `database`. `stored` is what it says of the lane, if that can be read. `passed_over` sequences may
/// have been given after all that is known.
pub fn reckon(
    database: &Database,
    lane: Lane,
    stored: Option<&LaneState>,
    noted: Option<&Noted>,
    passed_over: u64,
) -> Result<Reckoned, DatabaseError> {
    let of_mark = noted.map(|noted| &noted.lanes[at(lane)]);
    let mut state = joined(lane, stored, of_mark);
    let (mut present, mut revived, mut records) = (Ranges::default(), Vec::new(), 0);
    database.visit(&commit_key(lane, 0), &commit_key(lane, u64::MAX), |key, value| {
        let sequence = sequence_of(key);
        let tally = Tally::of_stored(value);
        records += tally.records;
        state.next = state.next.max(sequence + 1);
        if has(&state.dropped, sequence) {
            revived.push(sequence);
            return ControlFlow::Continue(());
        }
        present.insert(sequence, sequence);
        state.stored.add(tally);
        if !has(&state.settled, sequence) {
            state.pending.add(Tallies::of_stored(value));
        }
        ControlFlow::Continue(())
    })?;
    state.records_ever = state.records_ever.max(records);
    let knows_settled = stored.is_some() || noted.is_some_and(|noted| noted.is_full);
    if !knows_settled && let Some((first, _)) = present.iter().next() {
        // What is before everything that is there was delivered: history goes oldest first.
        state.settle(1, first - 1);
    }
    let known_next = state.next;
    state.next += if state.last() > 0 { passed_over } else { 0 };
    let missing = missing(&state, &present);
    let lost_records = lost_records(&state, stored, noted, lane);
    let gap = |(first, last): &(u64, u64)| {
        let mut run = Run::missing(*first, *last);
        // How they are spread over several runs nobody knows.
        run.records = if missing.len() == 1 { lost_records } else { 0 };
        Ok(run.among_neighbours(database, lane)?.gap(lane, GapReason::Damaged))
    };
    let gaps = missing.iter().map(gap).collect::<Result<_, DatabaseError>>()?;
    missing.iter().for_each(|(first, last)| state.drop_run(*first, *last));
    let lost = missing.iter().map(|(first, last)| (last + 1).min(known_next).saturating_sub(*first)).sum();
    let known = known_best(stored, noted, lane).map_or(0, |known| known.stored.commits);
    let lost_history = known.saturating_sub(state.stored.commits + lost);
    Ok(Reckoned { state, gaps, lost, lost_history, revived })
}

/// How many of the records that were to be delivered are not there.
fn lost_records(state: &LaneState, stored: Option<&LaneState>, noted: Option<&Noted>, lane: Lane) -> u64 {
    let Some(newest) = known_best(stored, noted, lane) else { return 0 };
    let noted_lane = noted.map(|noted| &noted.lanes[at(lane)]);
    let ever = noted_lane.map_or(0, |noted| noted.records_ever.saturating_sub(newest.records_ever));
    newest.pending.raw.records.saturating_sub(state.pending.raw.records) + ever
}

/// The newer of what the database says of the lane and what is noted.
fn known_best<'a>(stored: Option<&'a LaneState>, noted: Option<&'a Noted>, lane: Lane) -> Option<&'a LaneState> {
    let full = noted.filter(|noted| noted.is_full).map(|noted| &noted.lanes[at(lane)]);
    stored.into_iter().chain(full).max_by_key(|known| known.next)
}

/// What is known about the lane from both, without any commit.
fn joined(lane: Lane, stored: Option<&LaneState>, noted: Option<&LaneState>) -> LaneState {
    let mut state = LaneState::new(lane);
    for known in stored.into_iter().chain(noted) {
        state.next = state.next.max(known.next);
        state.records_ever = state.records_ever.max(known.records_ever);
        known.settled.iter().for_each(|(first, last)| state.settled.insert(first, last));
        known.dropped.iter().for_each(|(first, last)| state.dropped.insert(first, last));
    }
    let settled: Vec<(u64, u64)> = state.settled.iter().collect();
    settled.iter().for_each(|(first, last)| state.dropped.remove(*first, *last));
    state
}

/// Sequences that were given, and are neither there nor accounted for.
fn missing(state: &LaneState, present: &Ranges) -> Vec<(u64, u64)> {
    let mut accounted = present.clone();
    for (first, last) in state.settled.iter().chain(state.dropped.iter()) {
        accounted.insert(first, last);
    }
    let mut missing = Vec::new();
    let mut from = 1;
    loop {
        let first = accounted.first_absent(from);
        if first >= state.next {
            return missing;
        }
        let last = accounted.first_present(first).map_or(state.next, |next| next.min(state.next)) - 1;
        missing.push((first, last));
        from = last + 1;
    }
}

fn has(ranges: &Ranges, sequence: u64) -> bool {
    ranges.first_absent(sequence) != sequence
}
