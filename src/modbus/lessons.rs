//! What a device has taught about how it may be asked: registers it refuses, and how much one request may hold. Pure.
//!
//! A block that a device refuses is divided by a [`Search`]: the longest beginning that it accepts is found by
//! halving, what follows is asked by itself, and so on. What comes of it are [`Lessons`] for the planner, so that the
//! blocks are as long as they can be without what is illegal.

use serde::{Deserialize, Serialize};

use super::plan::{Block, BlockPoint};
use crate::profile::Table;

/// What is known of a device beyond its profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lessons {
    /// Most registers that one request may hold, where that was found to be less than the profile says.
    pub registers_max: Option<u16>,
    /// Registers or bits that are refused by themselves.
    pub refused: Vec<Refused>,
    /// Places over which no request may reach, although either side is there.
    pub seams: Vec<Seam>,
}

/// Registers or bits that a device refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which table.
    pub table: Table,
    /// Protocol address of the first, from 0.
    pub address: u16,
    /// How many.
    pub count: u16,
    /// The exception code that it answers with.
    pub code: u8,
}

/// No request may hold both of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seam {
    /// Which table.
    pub table: Table,
    /// Protocol address of the last register or bit before it.
    pub before: u16,
    /// Protocol address of the first behind it.
    pub behind: u16,
}

impl Lessons {
    /// True when nothing was learned.
    pub fn is_empty(&self) -> bool {
        self.registers_max.is_none() && self.refused.is_empty() && self.seams.is_empty()
    }

    /// The code with which registers from `start` up to, not including, `end` are refused, because of something
    /// among them.
    pub fn refusal(&self, table: Table, start: u32, end: u32) -> Option<u8> {
        let holds = |refused: &&Refused| {
            let from = u32::from(refused.address);
            refused.table == table && start <= from && from + u32::from(refused.count) <= end
        };
        self.refused.iter().find(holds).map(|refused| refused.code)
    }

    /// True when one request may hold everything from `start` up to, not including, `end`.
    pub fn allow(&self, table: Table, start: u32, end: u32) -> bool {
        let over = |seam: &Seam| seam.table == table && start <= u32::from(seam.before) && u32::from(seam.behind) < end;
        self.refusal(table, start, end).is_none() && !self.seams.iter().any(over)
    }

    /// Takes over what one search has found.
    pub fn add(&mut self, found: Lessons) {
        let Lessons { registers_max, refused, seams } = found;
        self.registers_max = match (self.registers_max, registers_max) {
            (Some(known), Some(found)) => Some(known.min(found)),
            (known, found) => known.or(found),
        };
        let is_new = |refused: &Refused| !self.refused.iter().any(|known| is_same_place(known, refused));
        let new: Vec<Refused> = refused.into_iter().filter(is_new).collect();
        self.refused.extend(new);
        let new: Vec<Seam> = seams.into_iter().filter(|seam| !self.seams.contains(seam)).collect();
        self.seams.extend(new);
    }
}

fn is_same_place(one: &Refused, other: &Refused) -> bool {
    (one.table, one.address, one.count) == (other.table, other.address, other.count)
}

/// What one point takes of a block: first and, not included, last address.
type Span = (u32, u32);

/// Finds out which part of a block is refused.
#[derive(Debug, Clone)]
pub struct Search {
    table: Table,
    spans: Vec<Span>,
    step: Step,
    /// The first span that is not settled.
    first: usize,
    /// From `first` on, so many spans are accepted together.
    accepted: usize,
    /// From `first` on, so many spans are refused together.
    refused: usize,
    /// Most registers that were accepted in one request.
    accepted_count: u32,
    /// The code of the last refusal.
    code: u8,
    /// Something was accepted.
    is_heard: bool,
    found: Lessons,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many spans from the first on.
    Beginning(usize),
    /// The span behind the longest accepted beginning, by itself.
    Alone,
    /// From this span up to and with the one behind the accepted beginning: no longer than what was accepted.
    Across(usize),
    Done,
}

impl Search {
    /// Begins with a block that was refused with `code`; `width` gives what a point takes, in registers or bits.
    pub fn new(block: &Block, code: u8, width: impl Fn(&BlockPoint) -> u16) -> Self {
        let span = |point: &BlockPoint| {
            let start = u32::from(block.address) + u32::from(point.offset / block.table.item_words());
            (start, start + u32::from(width(point)))
        };
        let mut spans: Vec<Span> = block.points.iter().map(span).collect();
        spans.sort_unstable();
        spans.dedup();
        let refused = spans.len();
        let mut search = Self {
            table: block.table,
            spans,
            step: Step::Done,
            first: 0,
            accepted: 0,
            refused,
            accepted_count: 0,
            code,
            is_heard: false,
            found: Lessons::default(),
        };
        search.narrow();
        search
    }

    /// What to ask next, as table, address and count; `None` when all is known.
    pub fn next(&self) -> Option<(Table, u16, u16)> {
        let (start, end) = match self.step {
            Step::Beginning(count) => self.reach(self.first, self.first + count),
            Step::Alone => self.reach(self.behind(), self.behind() + 1),
            Step::Across(from) => self.reach(from, self.behind() + 1),
            Step::Done => return None,
        };
        Some((self.table, u16::try_from(start).ok()?, u16::try_from(end - start).ok()?))
    }

    /// Notes the answer: accepted, or refused with this code.
    pub fn take(&mut self, refusal: Option<u8>) {
        let asked = self.next().map_or(0, |(.., count)| u32::from(count));
        match refusal {
            None => {
                self.is_heard = true;
                self.accepted_count = self.accepted_count.max(asked);
            }
            Some(code) => self.code = code,
        }
        match (self.step, refusal.is_none()) {
            (Step::Beginning(count), true) => {
                self.accepted = count;
                self.narrow();
            }
            (Step::Beginning(count), false) => {
                self.refused = count;
                self.narrow();
            }
            (Step::Alone, true) => self.look_across(),
            (Step::Alone, false) => self.refuse(self.behind()),
            (Step::Across(_), true) => {
                // Both sides go together as long as the whole is no longer: it was the length.
                self.found.registers_max = u16::try_from(self.accepted_count).ok();
                self.step = Step::Done;
            }
            (Step::Across(_), false) => self.part(),
            (Step::Done, _) => {}
        }
    }

    /// What was found; `None` while it is not known, or when the device has accepted nothing at all: then it is not
    /// single registers that are the matter.
    pub fn conclude(self, is_heard: bool) -> Option<Lessons> {
        (self.step == Step::Done && (is_heard || self.is_heard)).then_some(self.found)
    }

    fn behind(&self) -> usize {
        self.first + self.accepted
    }

    fn reach(&self, from: usize, to: usize) -> Span {
        let spans = &self.spans[from..to];
        (spans[0].0, spans.iter().map(|span| span.1).max().unwrap_or(spans[0].1))
    }

    /// Halves what is between accepted and refused; the whole first, where it was not asked yet.
    fn narrow(&mut self) {
        let left = self.spans.len() - self.first;
        self.step = match (self.accepted, self.refused) {
            (accepted, _) if accepted == left => Step::Done,
            (_, refused) if refused > left => Step::Beginning(left),
            (accepted, refused) if refused - accepted > 1 => Step::Beginning(usize::midpoint(accepted, refused)),
            (0, _) => return self.refuse(self.first),
            (_, _) => Step::Alone,
        };
    }

    /// The span is not there. What follows is asked by itself: first one, then all.
    fn refuse(&mut self, span: usize) {
        let (start, end) = self.spans[span];
        let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let (address, count) = (narrow(start), narrow(end - start));
        self.found.refused.push(Refused { table: self.table, address, count, code: self.code });
        // Whatever holds the same is refused with it.
        let rest = &self.spans[span + 1..];
        let skipped = rest.iter().take_while(|(other, until)| *other <= start && end <= *until).count();
        self.go_on(span + 1 + skipped, 0);
        // What is missing is often more than one: one by one until something is there.
        if let Step::Beginning(2..) = self.step {
            self.step = Step::Beginning(1);
        }
    }

    fn look_across(&mut self) {
        let behind = self.behind();
        let end = self.spans[behind].1;
        let fits = |from: &usize| end - self.spans[*from].0 <= self.accepted_count;
        // Bits never come near a limit of their own.
        match (self.first..behind).find(fits).filter(|_| !self.table.holds_bits()) {
            Some(from) => self.step = Step::Across(from),
            None => self.part(),
        }
    }

    /// Both sides are there, but not in one request.
    fn part(&mut self) {
        let behind = self.behind();
        let last = self.reach(self.first, behind).1 - 1;
        let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let seam = Seam { table: self.table, before: narrow(last), behind: narrow(self.spans[behind].0) };
        self.found.seams.push(seam);
        self.go_on(behind, 1);
    }

    /// Everything before `span` is settled; from there on so many are known to be accepted together.
    fn go_on(&mut self, span: usize, accepted: usize) {
        (self.first, self.accepted, self.refused) = (span, accepted, usize::MAX);
        self.narrow();
    }
}

#[cfg(test)]
mod tests;
