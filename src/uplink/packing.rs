//! Commits to messages: encodes, and cuts what is too large for the broker. Pure.

use std::sync::Arc;

use super::forward::ForwardFilter;
use super::sizing::PayloadSizes;
use crate::buffer::Catalogue;
use crate::config::BatchEncoding;
use crate::encoding::catalogue::EncodedPart;
use crate::encoding::columnar::{self, Encoder};
use crate::encoding::{self, Batch, BatchHeader, EncodeError, Order, json};
use crate::model::{Commit, Gap, GapReason, Lane, Name, Records, Sequence, Timestamp};
use crate::mqtt::{Message, Topics};

/// What every message of the gateway says beside its records.
#[derive(Clone)]
pub(super) struct Packing {
    pub site: Name,
    pub gateway: Name,
    pub topics: Topics,
    pub encoding: BatchEncoding,
    pub catalogue: Arc<Catalogue>,
    pub oldest_undelivered: Sequence,
}

/// The messages of some commits.
pub(super) struct Packed {
    pub messages: Vec<Message>,
    /// Size of the payload before it was cut, in bytes.
    pub largest_uncut: usize,
    /// Records that no message can carry.
    pub too_large: Vec<Gap>,
    /// Readings that are not sent.
    pub withheld: usize,
}

/// Packs telemetry. Owns the encoder for as long as it works.
pub(super) struct Packer {
    pub packing: Packing,
    pub encoder: Encoder,
    pub filter: ForwardFilter,
    pub sizes: PayloadSizes,
    pub is_backlog: bool,
    /// Commits before these that were withheld whole: the batch covers them too.
    pub covers_from: Option<Sequence>,
    /// A batch without any reading goes out too, to say what it covers.
    pub says_nothing: bool,
}

impl Packer {
    /// One message, or as many as the size demands; none when nothing of the commits is to be sent.
    pub fn pack(&mut self, commits: Vec<Commit>) -> Packed {
        let mut packed = Packed { messages: Vec::new(), largest_uncut: 0, too_large: Vec::new(), withheld: 0 };
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return packed };
        let mut header = self.packing.header(Lane::Telemetry, first, last, self.is_backlog);
        header.first = self.covers_from.unwrap_or(header.first);
        let withheld = self.filter.withhold(&commits);
        packed.withheld = withheld.len();
        let batch = Batch { header, commits, withheld };
        // Aggregates say what they replace, even if none of them is sent.
        let replaces = batch.commits.iter().any(|commit| matches!(commit.records, Records::Thinned(_)));
        if batch.records() > 0 || replaces || self.says_nothing {
            self.pack_batch(batch, &mut packed);
        }
        packed
    }

    fn pack_batch(&mut self, batch: Batch, packed: &mut Packed) {
        let payload = match self.encode(&batch) {
            Ok(payload) => Some(payload),
            Err(EncodeError::TooLarge { .. }) => None,
            Err(error) => {
                tracing::error!(%error, "a batch cannot be encoded");
                packed.too_large.push(gap_of(&batch));
                return;
            }
        };
        let bytes = payload.as_ref().map_or(0, Vec::len);
        packed.largest_uncut = packed.largest_uncut.max(bytes);
        match payload {
            Some(payload) if bytes <= self.sizes.aim => packed.messages.push(self.message(payload)),
            payload => match (batch.halves(), payload) {
                (Ok((earlier, later)), _) => {
                    self.pack_batch(earlier, packed);
                    self.pack_batch(later, packed);
                }
                // The size aimed at is a guess; what is lost for it would be lost for nothing.
                (Err(_), Some(payload)) if bytes <= self.sizes.most => packed.messages.push(self.message(payload)),
                (Err(single), _) => packed.too_large.push(gap_of(&single)),
            },
        }
    }

    fn message(&self, payload: Vec<u8>) -> Message {
        let content_type = match self.packing.encoding {
            BatchEncoding::Columnar => columnar::CONTENT_TYPE,
            BatchEncoding::Json => json::CONTENT_TYPE,
        };
        message(self.packing.topics.batch(), payload, false, content_type)
    }

    fn encode(&mut self, batch: &Batch) -> Result<Vec<u8>, EncodeError> {
        match self.packing.encoding {
            BatchEncoding::Columnar => self.encoder.encode(batch),
            BatchEncoding::Json => json::encode(batch, &|id| self.packing.catalogue.get(id).cloned()),
        }
    }
}

impl Packing {
    fn header(&self, lane: Lane, first: &Commit, last: &Commit, is_backlog: bool) -> BatchHeader {
        BatchHeader {
            site: self.site.clone(),
            gateway: self.gateway.clone(),
            epoch: first.header.epoch,
            lane,
            first: first.header.sequence,
            last: last.header.sequence,
            oldest_undelivered: self.oldest_undelivered,
            order: if is_backlog { Order::Backlog } else { Order::Live },
            part: None,
        }
    }

    /// One message for each alarm of a commit.
    pub fn alarms(&self, commit: &Commit) -> Vec<Message> {
        let header = self.header(Lane::Alarms, commit, commit, false);
        let to_message = |payload| message(self.topics.alarm(), payload, false, json::CONTENT_TYPE);
        match encoding::alarm::encode(&header, commit) {
            Ok(payloads) => payloads.into_iter().map(to_message).collect(),
            Err(error) => {
                tracing::error!(%error, "a commit of alarms cannot be encoded");
                Vec::new()
            }
        }
    }

    /// The retained messages of the catalogue.
    pub fn catalogue_messages(&self, payload_max: usize) -> Vec<Message> {
        let catalogue = &self.catalogue;
        let to_message =
            |part: EncodedPart| message(self.topics.catalogue(&part.name), part.payload, true, json::CONTENT_TYPE);
        let epochs = std::iter::once(catalogue.epoch).chain(catalogue.others.iter().copied());
        let parts = epochs.flat_map(|epoch| {
            let series = catalogue.series.iter().map(|(id, info)| (*id, info.as_ref()));
            encoding::catalogue::encode(&self.site, &self.gateway, epoch, series, payload_max)
        });
        parts.map(to_message).collect()
    }
}

fn message(topic: String, payload: Vec<u8>, retain: bool, content_type: &'static str) -> Message {
    Message {
        topic,
        payload: payload.into(),
        retain,
        content_type: Some(content_type),
        expiry: None,
        correlation_data: None,
    }
}

/// The gap record for alarms of `commit` that no message can carry.
pub(super) fn gap_of_alarms(commit: &Commit, alarms: usize) -> Gap {
    let times = match &commit.records {
        Records::Alarms(alarms) => alarms.iter().map(|alarm| alarm.time).collect(),
        Records::Readings(_) | Records::Thinned(_) | Records::Gap(_) | Records::ClockOffset(_) => Vec::new(),
    };
    Gap {
        lane: Lane::Alarms,
        first: commit.header.sequence,
        last: commit.header.sequence,
        records: alarms as u64,
        first_time: times.iter().min().copied().unwrap_or_default(),
        last_time: times.iter().max().copied().unwrap_or_default(),
        reason: GapReason::TooLarge,
    }
}

/// The gap record for a batch that cannot be sent.
fn gap_of(batch: &Batch) -> Gap {
    let times = batch.commits.iter().flat_map(|commit| -> Vec<Timestamp> {
        match &commit.records {
            Records::Readings(rows) => rows.iter().map(|row| row.time).collect(),
            Records::Thinned(thinned) => thinned.aggregates.iter().map(|aggregate| aggregate.start).collect(),
            Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => Vec::new(),
        }
    });
    let times: Vec<Timestamp> = times.collect();
    Gap {
        lane: Lane::Telemetry,
        first: batch.header.first,
        last: batch.header.last,
        records: batch.commits.iter().map(|commit| commit.records.count() as u64).sum(),
        first_time: times.iter().min().copied().unwrap_or_default(),
        last_time: times.iter().max().copied().unwrap_or_default(),
        reason: GapReason::TooLarge,
    }
}
