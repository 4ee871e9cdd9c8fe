//! Learning from a device how it may be asked, a few requests at a time: other devices keep their turns.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::round::Round;
use super::{Device, Poller};
use crate::modbus::PollError;
use crate::modbus::exception::{Treatment, treatment};
use crate::modbus::lessons::{Lessons, Refused, Search};
use crate::modbus::plan::Block;
use crate::poll::learned::{Learned, Patience};

/// Requests of a search in one turn on the link.
const ASKED_PER_TURN: u32 = 4;
/// What is refused is asked for once more so often, one request for each look: the device may have been starting, an option
/// may have been installed, a firmware loaded.
const LOOK_AGAIN_FIRST: Duration = Duration::from_secs(45);
/// After so many looks that found nothing, they become less and less frequent.
const LOOKS_AT_FIRST: u32 = 40;
/// Most time between two looks.
const LOOK_AGAIN_MOST: Duration = Duration::from_secs(3600);
/// A search that found nothing is not repeated before.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The learning of one device that is under way.
#[derive(Default)]
pub(super) struct Study {
    searches: Vec<Search>,
    /// Something else was given in the same round: a device that refuses everything has another trouble than registers
    /// that are not there.
    is_heard: bool,
    not_before: Option<Instant>,
    look: Option<Look>,
}

/// When what is refused is asked for once more.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    wait: Duration,
    /// Looks that found nothing since something was found.
    in_vain: u32,
}

impl Look {
    fn new(now: Instant) -> Self {
        Self { at: now + LOOK_AGAIN_FIRST, wait: LOOK_AGAIN_FIRST, in_vain: 0 }
    }

    /// The next one, after one that found nothing.
    fn later(self, now: Instant) -> Self {
        let in_vain = self.in_vain + 1;
        let wait = if in_vain < LOOKS_AT_FIRST { self.wait } else { (2 * self.wait).min(LOOK_AGAIN_MOST) };
        Self { at: now + wait, wait, in_vain }
    }
}

impl Study {
    /// A device that was away may have become another one in what it gives: it is looked at as at first.
    pub(super) fn look_soon(&mut self) {
        self.look = None;
    }
}

impl Device {
    /// How long an answer of this device is waited for.
    pub(super) fn patience(&self, bounds: Patience) -> Duration {
        // After a failure the device gets all the time there is.
        if self.health.is_well() { self.learned.patience(bounds) } else { bounds.most }
    }
}

impl Poller {
    /// Begins to find out what is refused in these blocks. True when that takes more requests, after which it is worth
    /// asking again.
    pub(super) fn begin_study(&mut self, device: usize, group: usize, round: &Round) -> bool {
        let (now, refused) = (Instant::now(), &round.refused);
        let known = &mut self.devices[device];
        if refused.is_empty() || known.study.not_before.is_some_and(|moment| now < moment) {
            return false;
        }
        if !known.study.searches.is_empty() {
            return true;
        }
        known.study.is_heard = round.is_given;
        let mut at_once = Lessons::default();
        for (index, code) in refused {
            let Block { table, address, count, .. } = known.plan.groups[group].blocks[*index].block;
            match treatment(*code) {
                Treatment::Avoid if known.study.is_heard => {
                    at_once.refused.push(Refused { table, address, count, code: *code });
                }
                Treatment::Divide => {
                    let block = &known.plan.groups[group].blocks[*index].block;
                    known.study.searches.push(Search::new(block, *code, |point| known.plan.width(point.point)));
                }
                Treatment::Avoid | Treatment::Report | Treatment::AskAgain | Treatment::Unreachable => {}
            }
        }
        self.learn(device, at_once);
        // A block of one point needs no search: it is what is refused.
        while self.devices[device].study.searches.last().is_some_and(|search| search.next().is_none()) {
            self.end_search(device);
        }
        !self.devices[device].study.searches.is_empty()
    }

    /// Goes on with the searches of a device. Break while there is more to ask.
    pub(super) async fn study(&mut self, device: usize, stop: &CancellationToken) -> ControlFlow<()> {
        let mut words = Vec::new();
        let on = self.devices[device].identity.asked_on();
        for _ in 0..ASKED_PER_TURN {
            let Some(search) = self.devices[device].study.searches.last() else { return ControlFlow::Continue(()) };
            let Some(wanted) = search.next() else {
                self.end_search(device);
                continue;
            };
            let outcome = self.ask(device, wanted, on, &mut words, stop).await;
            let search = self.devices[device].study.searches.last_mut();
            match (outcome, search) {
                (Ok(()), Some(search)) => search.take(None),
                (Err(PollError::Exception(code)), Some(search)) if treatment(code) == Treatment::Divide => {
                    search.take(Some(code));
                }
                // Neither yes nor no: the next poll shows whether the device is there.
                _ => {
                    self.devices[device].study.searches.clear();
                    return ControlFlow::Continue(());
                }
            }
        }
        match self.devices[device].study.searches.is_empty() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn end_search(&mut self, device: usize) {
        let study = &mut self.devices[device].study;
        let Some(search) = study.searches.pop() else { return };
        match search.conclude(study.is_heard) {
            Some(found) if !found.is_empty() => self.learn(device, found),
            Some(_) | None => study.not_before = Some(Instant::now() + SEARCH_AGAIN_AFTER),
        }
    }

    /// From now on the device is asked by what was found.
    fn learn(&mut self, device: usize, found: Lessons) {
        if found.is_empty() {
            return;
        }
        let mut lessons = Lessons::clone(&self.devices[device].learned.lessons);
        lessons.add(found);
        let name = &self.devices[device].plan.name;
        let (refused, seams) = (lessons.refused.len(), lessons.seams.len());
        tracing::info!(
            link = %self.link, device = %name, refused, seams, registers_max = lessons.registers_max,
            "device refuses part of what it is asked for; it is avoided from now on"
        );
        self.follow(device, lessons);
    }

    fn follow(&mut self, device: usize, lessons: Lessons) {
        let known = &mut self.devices[device];
        known.learned.lessons = Arc::new(lessons);
        known.plan.follow(Arc::clone(&known.learned.lessons));
        self.show_learned(device);
    }

    /// Now and then, after a poll: is what was refused first still refused? What is given is asked for from then on, and
    /// the next one is asked at once: what came back seldom came back alone. Break while there is more to ask.
    pub(super) async fn look_again(
        &mut self,
        device: usize,
        group: usize,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        let known = &mut self.devices[device];
        let look = known.study.look.get_or_insert_with(|| Look::new(Instant::now()));
        if Instant::now() < look.at || known.plan.groups[group].refused.is_none() {
            return ControlFlow::Continue(());
        }
        let on = known.identity.asked_on();
        for _ in 0..ASKED_PER_TURN {
            let first = self.devices[device].learned.lessons.refused.first().copied();
            let Some(Refused { table, address, count, .. }) = first.filter(|_| !stop.is_cancelled()) else {
                return ControlFlow::Continue(());
            };
            let outcome = self.ask(device, (table, address, count), on, &mut Vec::new(), stop).await;
            let mut lessons = Lessons::clone(&self.devices[device].learned.lessons);
            let (now, look) = (Instant::now(), &mut self.devices[device].study.look);
            match outcome {
                Ok(()) => {
                    lessons.refused.remove(0);
                    *look = Some(Look { at: now, ..Look::new(now) });
                }
                Err(_) => {
                    lessons.refused.rotate_left(1);
                    *look = look.map(|look| look.later(now));
                }
            }
            let is_given = outcome.is_ok();
            self.follow(device, lessons);
            if !is_given {
                return ControlFlow::Continue(());
            }
        }
        ControlFlow::Break(())
    }

    /// Drops what was learned of a device. True when there was something.
    pub(super) fn forget(&mut self, device: usize) -> bool {
        let known = &mut self.devices[device];
        let was_known = !known.learned.is_empty();
        known.learned = Learned { of: known.learned.of.clone(), ..Learned::default() };
        known.study = Study::default();
        self.follow(device, Lessons::default());
        self.publish_status(Instant::now());
        was_known
    }

    /// What was learned belongs to a firmware: another one is met without prejudice.
    pub(super) fn learn_identity(&mut self, device: usize) {
        let identity = self.status.devices[device].identity.as_ref();
        let firmware = identity.and_then(|identity| identity.firmware.as_deref()).unwrap_or_default();
        let map = identity.and_then(|identity| identity.map.as_deref()).unwrap_or_default();
        let known = &mut self.devices[device];
        if known.learned.belongs_to(firmware, map) {
            return;
        }
        let lessons = Lessons::default();
        if !known.learned.lessons.is_empty() {
            tracing::info!(link = %self.link, device = %known.plan.name, firmware, "what was learned is of another firmware: dropped");
        }
        self.follow(device, lessons);
    }

    pub(super) fn show_learned(&mut self, device: usize) {
        let known = &self.devices[device];
        self.status.devices[device].learned = known.learned.status(self.patience);
    }
}
