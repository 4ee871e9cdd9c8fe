//! Publishing the catalogue. It goes before the readings it explains, and while it is under way what was launched
//! before goes on: a delivery that is not looked after keeps its place in the queue of the session.

use std::time::Duration;

use tokio::time::Instant;

use super::Uplink;
use super::flight::Outcome;
use super::settling::PACKET_TOO_LARGE;
use crate::model::Sequence;
use crate::mqtt::Delivery;

/// How long a catalogue that was not seen to pass the broker rests.
const RETRY: Duration = Duration::from_secs(60);

impl Uplink {
    /// Hands the catalogue to the session when that is due. Says whether it is under way.
    pub(super) fn publishes_catalogue(&mut self, payload_aim: usize) -> bool {
        if self.catalogue_retry_at.is_some_and(|retry_at| retry_at <= Instant::now()) {
            self.catalogue_due = true;
        }
        if std::mem::take(&mut self.catalogue_due) {
            self.catalogue_retry_at = None;
            let messages = self.packing(Sequence::FIRST).catalogue_messages(payload_aim);
            let session = self.session.clone();
            self.cataloguing = Some(Box::pin(async move {
                for message in messages {
                    match session.publish(message).await {
                        Delivery::Acknowledged | Delivery::NoSubscribers => {}
                        lost @ (Delivery::SessionLost
                        | Delivery::Unproven { .. }
                        | Delivery::Refused { reason: PACKET_TOO_LARGE, .. }) => return lost,
                        refused @ (Delivery::Refused { .. } | Delivery::TooLarge { .. }) => {
                            tracing::warn!(%refused, "the broker does not take the catalogue");
                        }
                    }
                }
                Delivery::Acknowledged
            }));
        }
        self.cataloguing.is_some()
    }

    pub(super) fn settle_catalogue(&mut self, delivery: &Delivery) {
        self.cataloguing = None;
        match delivery {
            // Of a refusal for its size the session has learned which size passes.
            Delivery::SessionLost
            | Delivery::Unproven { tries_smaller: true, .. }
            | Delivery::Refused { reason: PACKET_TOO_LARGE, .. } => self.catalogue_due = true,
            // Readings go out meanwhile: the catalogue explains them whenever it comes.
            Delivery::Unproven { tries_smaller: false, .. } => {
                self.catalogue_retry_at = Some(Instant::now() + RETRY);
            }
            Delivery::Acknowledged | Delivery::NoSubscribers | Delivery::Refused { .. } | Delivery::TooLarge { .. } => {
            }
        }
    }
}

/// Waits until the catalogue is out; for ever when it is not under way. Safe to cancel.
pub(super) async fn published(cataloguing: &mut Option<Outcome>) -> Delivery {
    match cataloguing {
        Some(outcome) => outcome.await,
        None => std::future::pending().await,
    }
}
