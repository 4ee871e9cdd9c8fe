//! What each segment holds: how much of it is alive, and which one to give up next. Pure.

use std::collections::BTreeMap;

use super::format::Span;

/// Smallest size at which a segment is followed by a new one.
const SEGMENT_LEAST: u64 = 256 << 10;

/// Largest such size: copying what is alive in a segment must not hold up a commit for long.
const SEGMENT_MOST: u64 = 4 << 20;

/// Segments in which what is alive is spread, about.
const SEGMENTS: u64 = 16;

/// Garbage that may stand beside what is alive, as a divisor of it.
const GARBAGE_SHARE: u64 = 3;

/// One segment.
#[derive(Debug, Default)]
struct Account {
    bytes: u64,
    live: u64,
    /// Bytes of removals, by the segments in which their keys may still stand.
    removals: Vec<(Span, u64)>,
}

/// All segments.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<u32, Account>,
}

impl Ledger {
    /// Notes that `segment` is `bytes` long.
    pub fn set_bytes(&mut self, segment: u32, bytes: u64) {
        self.accounts.entry(segment).or_default().bytes = bytes;
    }

    /// The segments, lowest first.
    pub fn segments(&self) -> impl Iterator<Item = u32> + '_ {
        self.accounts.keys().copied()
    }

    /// Length of `segment`.
    pub fn bytes(&self, segment: u32) -> u64 {
        self.accounts.get(&segment).map_or(0, |account| account.bytes)
    }

    /// Notes that `bytes` of `segment` are alive.
    pub fn add_live(&mut self, segment: u32, bytes: u64) {
        self.accounts.entry(segment).or_default().live += bytes;
    }

    /// Bytes that are alive in `segment`.
    pub fn live_in(&self, segment: u32) -> u64 {
        self.accounts.get(&segment).map_or(0, |account| account.live)
    }

    /// Notes that `bytes` of `segment` are alive no more.
    pub fn take_live(&mut self, segment: u32, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(&segment) {
            account.live = account.live.saturating_sub(bytes);
        }
    }

    /// Notes a removal of `bytes` in `segment`.
    pub fn add_removal(&mut self, segment: u32, span: Span, bytes: u64) {
        let removals = &mut self.accounts.entry(segment).or_default().removals;
        match removals.iter_mut().find(|(known, _)| *known == span) {
            Some((_, sum)) => *sum += bytes,
            None => removals.push((span, bytes)),
        }
    }

    /// Forgets `segment`.
    pub fn remove(&mut self, segment: u32) {
        self.accounts.remove(&segment);
    }

    /// Whether a removal that stands in `segment` is still needed: a key it removed may stand elsewhere.
    pub fn is_needed(&self, span: Span, segment: u32) -> bool {
        span.from <= span.to && self.accounts.range(span.from..=span.to).any(|(other, _)| *other != segment)
    }

    /// The size at which a new segment begins.
    pub fn segment_bytes(&self) -> u64 {
        (self.live() / SEGMENTS).clamp(SEGMENT_LEAST, SEGMENT_MOST)
    }

    /// The segment to give up now, if there is too much garbage: the one of which most can go. Never `current`.
    pub fn to_give_up(&self, current: u32) -> Option<u32> {
        let bytes: u64 = self.accounts.values().map(|account| account.bytes).sum();
        let live = self.live();
        if bytes <= live + live / GARBAGE_SHARE + 2 * self.segment_bytes() {
            return None;
        }
        let others = self.accounts.iter().filter(|(segment, _)| **segment != current);
        let kept = others.map(|(segment, account)| (*segment, self.kept(*segment, account), account.bytes));
        // Compared as shares, without dividing. Nothing is gained where all but a tenth has to be copied.
        let best = kept.min_by(|left, right| (left.1 * right.2).cmp(&(right.1 * left.2)))?;
        (best.1 < best.2 / 10 * 9).then_some(best.0)
    }

    /// Bytes of a segment that have to be copied before it can go.
    fn kept(&self, segment: u32, account: &Account) -> u64 {
        let needed = account.removals.iter().filter(|(span, _)| self.is_needed(*span, segment));
        account.live + needed.map(|(_, bytes)| bytes).sum::<u64>()
    }

    fn live(&self) -> u64 {
        self.accounts.values().map(|account| account.live).sum()
    }
}
