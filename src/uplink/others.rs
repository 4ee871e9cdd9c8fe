//! What goes out under another epoch than the store's own: the newest readings while the disk takes nothing, and what
//! was saved from a database that is no more. One delivery at a time, beside the two lanes.

use tokio::time::Instant;

use super::flight::Shipment;
use super::forward::ForwardFilter;
use super::packing::Packer;
use super::sizing::PayloadSizes;
use super::{Uplink, UplinkError};
use crate::buffer::{OtherCommits, ReadLimit};
use crate::encoding::Order;
use crate::model::Lane;
use crate::mqtt::Delivery;
use crate::mqtt::backoff::Backoff;

/// How far the uplink has come with what is of other epochs.
#[derive(Default)]
pub(super) struct OtherProgress {
    /// When readings that are not under way yet were first seen.
    waiting_since: Option<Instant>,
    /// Not before this, after a refusal.
    retry_at: Option<Instant>,
    refusals: Backoff,
    refused: bool,
}

impl OtherProgress {
    /// What waits has waited since `since`.
    pub fn hurry(&mut self, since: Option<Instant>) {
        self.waiting_since = since;
    }

    /// A new connection may take what the one before refused.
    pub fn start_over(&mut self) {
        self.retry_at = None;
    }
}

impl Uplink {
    /// When something of another epoch is due, if nothing changes until then.
    pub(super) fn others_deadline(&self) -> Option<Instant> {
        if self.flight.has_other() {
            return None;
        }
        let batch = self.others.waiting_since.map(|since| since + self.settings.batch.max_age);
        batch.max(self.others.retry_at)
    }

    fn others_are_due(&mut self, sizes: PayloadSizes) -> bool {
        let marks = self.watermarks.borrow().others;
        if marks.commits == 0 {
            self.others.waiting_since = None;
        }
        if self.flight.has_other() || self.others.retry_at.is_some_and(|retry_at| retry_at > Instant::now()) {
            return false;
        }
        let is_full = marks.readings >= self.sizer.readings(sizes.aim) as u64;
        let is_old = marks.commits > 0
            && self.others.waiting_since.get_or_insert_with(Instant::now).elapsed() >= self.settings.batch.max_age;
        marks.alarms > 0 || is_full || is_old
    }

    /// Sends what is due.
    pub(super) async fn send_others(&mut self, sizes: PayloadSizes) -> Result<(), UplinkError> {
        if !self.flight.has_room() || !self.others_are_due(sizes) {
            return Ok(());
        }
        let limit = ReadLimit { commits: usize::MAX, records: self.sizer.readings(sizes.aim) };
        let Some(found) = self.buffer.read_other(limit).await? else {
            self.others.waiting_since = None;
            return Ok(());
        };
        match found.lane {
            Lane::Alarms => self.send_other_alarms(found),
            Lane::Telemetry => self.send_other_batch(found, sizes).await,
        }
    }

    fn send_other_alarms(&mut self, found: OtherCommits) -> Result<(), UplinkError> {
        let packing = self.packing(found.oldest_undelivered);
        let messages = found.commits.iter().flat_map(|commit| packing.alarms(commit)).collect();
        if let Some(shipment) = shipment_of(&found) {
            self.launch(shipment, messages);
        }
        Ok(())
    }

    async fn send_other_batch(&mut self, found: OtherCommits, sizes: PayloadSizes) -> Result<(), UplinkError> {
        self.others.waiting_since = None;
        let Some(mut shipment) = shipment_of(&found) else { return Ok(()) };
        // What is live goes on where the lane of the store left off; what is old must not disturb that.
        let mut filter =
            if found.is_live { std::mem::take(&mut self.telemetry.live.filter) } else { ForwardFilter::default() };
        filter.set_table(&self.forward.borrow_and_update(), &self.catalogue.borrow());
        let packer = Packer {
            packing: self.packing(found.oldest_undelivered),
            encoder: self.take_encoder()?,
            filter,
            sizes,
            is_backlog: !found.is_live,
            covers_from: None,
            // Without a message nothing would be delivered, and nothing would say so.
            says_nothing: true,
        };
        let (packed, filter) = self.pack(packer, found.commits).await?;
        if found.is_live {
            self.telemetry.live.filter = filter;
        }
        for gap in packed.too_large {
            tracing::error!(records = gap.records, "readings of another epoch are larger than the broker takes");
        }
        shipment.withheld = packed.withheld;
        self.launch(shipment, packed.messages);
        Ok(())
    }

    pub(super) async fn settle_other(&mut self, shipment: Shipment, delivery: &Delivery) {
        let Shipment { epoch, lane, first, last, .. } = shipment;
        match delivery {
            Delivery::Acknowledged | Delivery::NoSubscribers => {
                if let Err(error) = self.buffer.delivered(epoch, lane, first, last).await {
                    tracing::error!(%error, "a delivery could not be marked; it will be repeated");
                }
                self.others.refusals = Backoff::default();
                let now = self.clock.wall();
                self.status.send_modify(|status| status.count_delivered(&shipment, now));
                if std::mem::take(&mut self.others.refused) {
                    tracing::info!("the broker takes what is of another epoch again");
                    self.status.send_modify(|status| status.refusing = None);
                }
            }
            // Still in the store, and read again.
            Delivery::SessionLost => self.telemetry.live.filter.start_over(),
            // Less goes out at once.
            Delivery::Unproven { tries_smaller: true, .. } => self.telemetry.live.filter.start_over(),
            Delivery::TooLarge { .. } | Delivery::Refused { .. } | Delivery::Unproven { .. } => {
                self.telemetry.live.filter.start_over();
                let wait = self.others.refusals.after_failure(fastrand::f64());
                self.others.retry_at = Some(Instant::now() + wait);
                let reason = delivery.to_string();
                if !std::mem::replace(&mut self.others.refused, true) {
                    tracing::warn!(%epoch, reason, "the broker refuses what is of another epoch");
                }
                self.status.send_modify(|status| status.count_refused(&reason));
            }
        }
    }
}

fn shipment_of(found: &OtherCommits) -> Option<Shipment> {
    let (first, last) = (found.commits.first()?.header.sequence, found.commits.last()?.header.sequence);
    let records = found.commits.iter().map(|commit| commit.records.count()).sum();
    let (epoch, lane) = (found.epoch, found.lane);
    let order = if found.is_live { Order::Live } else { Order::Backlog };
    let sent = Instant::now();
    let (withheld, bytes, is_repeat) = (0, 0, false);
    Some(Shipment { epoch, is_other: true, is_repeat, lane, first, last, records, withheld, bytes, order, sent })
}
