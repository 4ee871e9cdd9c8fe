//! What people asked to be sent once more: commits of the history under their old sequences, beside what is new.

use tokio::time::Instant;

use super::flight::Shipment;
use super::forward::ForwardFilter;
use super::packing::Packer;
use super::sizing::PayloadSizes;
use super::{Uplink, UplinkError};
use crate::buffer::ReadLimit;
use crate::encoding::Order;
use crate::encoding::columnar::Encoder;
use crate::model::{Commit, Lane, Sequence};
use crate::mqtt::Message;

impl Uplink {
    /// Sends the next of what is to be sent again, one shipment at a time: what is new comes first.
    pub(super) async fn send_again(&mut self, sizes: PayloadSizes) -> Result<(), UplinkError> {
        let marks = *self.watermarks.borrow();
        for lane in Lane::ALL {
            let is_wanted = marks.lane(lane).resend_commits > 0;
            let may_send = self.progress(lane).may_retry() && !self.progress(lane).is_trying;
            if is_wanted && may_send && self.flight.has_room() && !self.flight.has_repeats() {
                self.send_some_again(lane, sizes).await?;
            }
        }
        Ok(())
    }

    async fn send_some_again(&mut self, lane: Lane, sizes: PayloadSizes) -> Result<(), UplinkError> {
        let limit = match lane {
            Lane::Alarms => ReadLimit { commits: 1, records: usize::MAX },
            Lane::Telemetry => ReadLimit { commits: usize::MAX, records: self.sizer.readings(sizes.aim) },
        };
        let commits = self.buffer.read_again(lane, Sequence::FIRST, limit).await?;
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Ok(()) };
        let epoch = first.header.epoch;
        let (first, last) = (first.header.sequence, last.header.sequence);
        let records = commits.iter().map(|commit| commit.records.count()).sum();
        let messages = match lane {
            Lane::Alarms => {
                let packing = self.packing(self.watermarks.borrow().alarms.oldest_undelivered);
                commits.iter().flat_map(|commit| packing.alarms(commit)).collect()
            }
            Lane::Telemetry => self.pack_again(commits, sizes).await?,
        };
        if messages.is_empty() {
            // Everything in it is withheld by the configuration.
            self.buffer.sent_again(lane, first, last).await?;
            return Ok(());
        }
        let (withheld, bytes, is_other, is_repeat) = (0, 0, false, true);
        let (order, sent) = (Order::Backlog, Instant::now());
        let shipment =
            Shipment { epoch, is_other, is_repeat, lane, first, last, records, withheld, bytes, order, sent };
        self.launch(shipment, messages);
        Ok(())
    }

    async fn pack_again(&mut self, commits: Vec<Commit>, sizes: PayloadSizes) -> Result<Vec<Message>, UplinkError> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new().map_err(UplinkError::Encoder)?,
        };
        // A filter of its own: what is sent again says nothing about what is worth sending now.
        let mut filter = ForwardFilter::default();
        filter.set_table(&self.forward.borrow(), &self.catalogue.borrow());
        let mut packer = Packer {
            packing: self.packing(self.watermarks.borrow().telemetry.oldest_undelivered),
            encoder,
            filter,
            sizes,
            is_backlog: true,
            covers_from: None,
            says_nothing: false,
        };
        let packing = tokio::task::spawn_blocking(move || {
            let packed = packer.pack(commits);
            (packer, packed)
        });
        let (packer, packed) = packing.await.map_err(|_| UplinkError::Stopping)?;
        self.encoder = Some(packer.encoder);
        for gap in packed.too_large {
            tracing::warn!(first = %gap.first, last = %gap.last, "a record larger than any message is not sent again");
        }
        Ok(packed.messages)
    }
}
