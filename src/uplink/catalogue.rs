//! Publishing the catalogue. It goes before the readings it explains, and while it is under way what was launched
//! before goes on: a delivery that is not looked after keeps its place in the queue of the session.

use super::Uplink;
use super::flight::Outcome;
use crate::model::Sequence;
use crate::mqtt::Delivery;

impl Uplink {
    /// Hands the catalogue to the session when that is due. Says whether it is under way.
    pub(super) fn publishes_catalogue(&mut self, payload_max: usize) -> bool {
        if std::mem::take(&mut self.catalogue_due) {
            let messages = self.packing(Sequence::FIRST).catalogue_messages(payload_max);
            let session = self.session.clone();
            self.cataloguing = Some(Box::pin(async move {
                for message in messages {
                    match session.publish(message).await {
                        Delivery::Acknowledged | Delivery::NoSubscribers => {}
                        Delivery::SessionLost => return Delivery::SessionLost,
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
        self.catalogue_due |= matches!(delivery, Delivery::SessionLost);
    }
}

/// Waits until the catalogue is out; for ever when it is not under way. Safe to cancel.
pub(super) async fn published(cataloguing: &mut Option<Outcome>) -> Delivery {
    match cataloguing {
        Some(outcome) => outcome.await,
        None => std::future::pending().await,
    }
}
