//! One page of stored commits.

use std::ops::ControlFlow;

use super::{HistorySpan, Page, StoredCommit};
use crate::buffer::commit::{Envelope, Kind};
use crate::buffer::loaded::{commit_key, sequence_of};
use crate::database::{Database, DatabaseError};
use crate::model::{ClockOffsets, Lane, Sequence};

/// Bytes of commits in one page: what an export holds in memory.
const PAGE_BYTES: usize = 256 << 10;

/// Bytes looked at for one page, wanted or not: the store does nothing else meanwhile, some 5 ms.
const LOOKED_AT: usize = 2 << 20;

/// The commits of `lane` in `span` from `from` to `last`; times are compared as `offsets` correct them.
pub fn page(
    database: &Database,
    offsets: &ClockOffsets,
    lane: Lane,
    span: HistorySpan,
    from: Sequence,
    last: Sequence,
) -> Result<Page, DatabaseError> {
    let first = from.max(span.first);
    let last = last.min(span.last);
    let mut page = Page::default();
    if first > last {
        return Ok(page);
    }
    let (mut taken, mut looked_at) = (0, 0);
    database.visit(&commit_key(lane, first.0), &commit_key(lane, last.0), |key, value| {
        let sequence = Sequence(sequence_of(key));
        if taken >= PAGE_BYTES || looked_at >= LOOKED_AT {
            page.next = Some(sequence);
            return ControlFlow::Break(());
        }
        looked_at += value.len();
        if is_wanted(value, span, offsets) {
            taken += value.len();
            page.commits.push(StoredCommit { sequence, bytes: value.to_vec() });
        }
        ControlFlow::Continue(())
    })?;
    Ok(page)
}

/// Whether the commit may hold what is wanted; of what is damaged nobody knows.
fn is_wanted(value: &[u8], span: HistorySpan, offsets: &ClockOffsets) -> bool {
    Envelope::read(value).map_or(true, |envelope| {
        (!span.gaps_only || envelope.kind == Kind::Gap)
            && offsets.correct(&envelope.header, envelope.last_time) >= span.from
            && offsets.correct(&envelope.header, envelope.first_time) < span.until
    })
}
