//! What became of a delivery: marked, tried again with less, or kept until the broker takes it.

use tokio::sync::mpsc::error::SendError;
use tokio::time::Instant;

use super::Uplink;
use super::flight::Shipment;
use super::status;
use crate::model::{AlarmRecord, Lane};
use crate::mqtt::backoff::Backoff;
use crate::mqtt::{Delivery, Message};

/// MQTT 5, 2.4. Another size does not help.
const NOT_AUTHORISED: u8 = 0x87;
/// MQTT 5, 2.4. Another size does not help.
const TOPIC_NAME_INVALID: u8 = 0x90;
/// MQTT 5, 2.4. The session knows the size now, and the next connection has it.
pub(super) const PACKET_TOO_LARGE: u8 = 0x95;

/// Refused batches are cut to this payload at the least, in bytes.
const REFUSED_SIZE_LEAST: usize = 256;

impl Uplink {
    pub(super) fn launch(&mut self, mut shipment: Shipment, messages: Vec<Message>) {
        shipment.bytes = messages.iter().map(|message| message.payload.len()).sum();
        let session = self.session.clone();
        let outcome = async move {
            for message in messages {
                match session.publish(message).await {
                    Delivery::Acknowledged | Delivery::NoSubscribers => {}
                    failed @ (Delivery::Refused { .. }
                    | Delivery::TooLarge { .. }
                    | Delivery::Unproven { .. }
                    | Delivery::SessionLost) => return failed,
                }
            }
            Delivery::Acknowledged
        };
        self.flight.launch(shipment, Box::pin(outcome));
        self.note_flight();
    }

    fn note_flight(&self) {
        self.status.send_modify(|status| status.in_flight = self.flight.len());
    }

    pub(super) async fn settle(&mut self, shipment: Shipment, delivery: Delivery) {
        match delivery {
            delivery if shipment.is_other => self.settle_other(shipment, &delivery).await,
            Delivery::Acknowledged | Delivery::NoSubscribers => self.settle_delivered(shipment).await,
            Delivery::SessionLost => self.abandon(shipment.lane),
            Delivery::Refused { reason: PACKET_TOO_LARGE, .. } | Delivery::Unproven { tries_smaller: true, .. } => {
                self.try_smaller(shipment.lane, &delivery);
            }
            Delivery::Unproven { tries_smaller: false, .. } => {
                match shipment.lane {
                    Lane::Alarms => self.hold_alarms(),
                    Lane::Telemetry => self.abandon(Lane::Telemetry),
                }
                self.progress(shipment.lane).is_trying = true;
                self.keep(shipment.lane, &delivery).await;
            }
            Delivery::Refused { reason, .. } => {
                if !matches!(reason, NOT_AUTHORISED | TOPIC_NAME_INVALID) && shipment.lane == Lane::Telemetry {
                    // Whatever the reason is: the same bytes again would be refused again.
                    let size = self.refused_size.unwrap_or(shipment.bytes).min(shipment.bytes) / 2;
                    self.refused_size = Some(size.max(REFUSED_SIZE_LEAST));
                }
                self.abandon(shipment.lane);
                self.keep(shipment.lane, &delivery).await;
            }
            Delivery::TooLarge { .. } => {
                self.abandon(shipment.lane);
                self.keep(shipment.lane, &delivery).await;
            }
        }
        self.note_flight();
    }

    async fn settle_delivered(&mut self, shipment: Shipment) {
        let Shipment { epoch, lane, first, last, sent, .. } = shipment;
        self.is_slow = sent.elapsed() > super::SLOW;
        let noted = match shipment.is_repeat {
            true => self.buffer.sent_again(lane, first, last).await,
            false => self.buffer.delivered(epoch, lane, first, last).await,
        };
        if let Err(error) = noted {
            tracing::error!(%error, "a delivery could not be marked; it will be repeated");
        }
        let now = self.clock.wall();
        self.status.send_modify(|status| status.count_delivered(&shipment, now));
        let progress = self.progress(lane);
        progress.refusals = Backoff::default();
        progress.is_trying = false;
        if progress.is_held {
            // What is older passes now as well.
            progress.retry_at = None;
        }
        if std::mem::take(&mut progress.refused) {
            tracing::info!(%lane, "the broker takes messages again");
            self.status.send_modify(|status| status.refusing = None);
            self.raise(status::broker_takes_again(lane, now)).await;
        }
    }

    /// Sends the same records in smaller messages, at once.
    fn try_smaller(&mut self, lane: Lane, delivery: &Delivery) {
        tracing::debug!(%lane, reason = %delivery, "smaller messages are tried");
        self.abandon(lane);
        let waiting = self.watermarks.borrow().lane(lane).durable_last;
        let progress = self.progress(lane);
        progress.is_trying = true;
        // All of it has waited long enough.
        progress.backlog_until = waiting;
    }

    /// Keeps alarms that were not seen to pass the broker. Those that were never tried go out once all the same: the
    /// broker may pass them on though it does not show it.
    fn hold_alarms(&mut self) {
        let progress = &mut self.alarms;
        progress.untried = progress.untried.max(progress.live.next);
        progress.live.next = progress.untried;
        progress.is_held = true;
    }

    /// Waits before the records of `lane` are tried again, and says so.
    async fn keep(&mut self, lane: Lane, delivery: &Delivery) {
        let progress = self.progress(lane);
        if progress.may_retry() {
            progress.retry_at = Some(Instant::now() + progress.refusals.after_failure(fastrand::f64()));
        }
        let is_first = !std::mem::replace(&mut progress.refused, true);
        let reason = delivery.to_string();
        self.status.send_modify(|status| status.count_refused(&reason));
        if is_first {
            tracing::warn!(%lane, reason, "the broker does not take messages; they stay in the store");
            self.raise(status::broker_refuses(lane, &reason, self.clock.wall())).await;
        }
    }

    async fn raise(&mut self, alarm: AlarmRecord) {
        // Its own alarms go the way of those of devices; when that is closed, straight to the store.
        let Err(SendError(alarm)) = self.raised.send(alarm).await else { return };
        if let Err(error) = self.buffer.append_alarms(vec![alarm]).await {
            tracing::error!(%error, "an alarm could not be stored");
        }
    }
}
