//! What was handed to the session and is not settled yet. A few deliveries are under way at once, so that a long
//! round trip does not decide the throughput; those of one lane settle in the order they were sent.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::Instant;

use crate::encoding::Order;
use crate::model::{Epoch, Lane, Sequence};
use crate::mqtt::Delivery;

/// Deliveries under way at once. Four of 100 KiB keep 1 MB/s busy over a round trip of 400 ms.
pub const DELIVERIES_MAX: usize = 4;

/// The outcome of one delivery, when all its messages are through or one is not.
pub type Outcome = Pin<Box<dyn Future<Output = Delivery> + Send>>;

/// One range of commits on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipment {
    /// Epoch of the commits.
    pub epoch: Epoch,
    /// Whether that is another epoch than the store's own.
    pub is_other: bool,
    /// Lane of the commits.
    pub lane: Lane,
    /// First commit.
    pub first: Sequence,
    /// Last commit.
    pub last: Sequence,
    /// Readings (or alarms) in them.
    pub records: usize,
    /// How many of those are not sent.
    pub withheld: usize,
    /// Bytes of all payloads.
    pub bytes: usize,
    /// Stream that they belong to.
    pub order: Order,
    /// When they were sent.
    pub sent: Instant,
    /// Whether they were delivered before, and are sent again.
    pub is_repeat: bool,
}

enum State {
    Waiting(Outcome),
    Settled(Delivery),
}

/// Shipments in the order they were sent.
#[derive(Default)]
pub struct Flight {
    entries: VecDeque<(Shipment, State)>,
}

impl Flight {
    /// Adds a shipment.
    pub fn launch(&mut self, shipment: Shipment, outcome: Outcome) {
        self.entries.push_back((shipment, State::Waiting(outcome)));
    }

    /// True when no shipment is under way.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True when one more may be launched.
    pub fn has_room(&self) -> bool {
        self.entries.len() < DELIVERIES_MAX
    }

    /// True when one more alarm may be launched: a place is kept for it.
    pub fn has_room_for_alarms(&self) -> bool {
        self.entries.len() <= DELIVERIES_MAX
    }

    /// Shipments of one lane under way.
    pub fn of(&self, lane: Lane) -> usize {
        self.entries.iter().filter(|(shipment, _)| shipment.lane == lane && !shipment.is_other).count()
    }

    /// Shipments under way.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether something that is sent again is under way.
    pub fn has_repeats(&self) -> bool {
        self.entries.iter().any(|(shipment, _)| shipment.is_repeat)
    }

    /// Records of one lane under way for the first time.
    pub fn records(&self, lane: Lane) -> usize {
        let of_lane = self
            .entries
            .iter()
            .filter(|(shipment, _)| shipment.lane == lane && !shipment.is_other && !shipment.is_repeat);
        of_lane.map(|(shipment, _)| shipment.records).sum()
    }

    /// Whether something of another epoch is under way.
    pub fn has_other(&self) -> bool {
        self.entries.iter().any(|(shipment, _)| shipment.is_other)
    }

    /// Shipments of the backlog under way.
    pub fn backlog(&self) -> usize {
        self.entries.iter().filter(|(shipment, _)| shipment.order == Order::Backlog && !shipment.is_other).count()
    }

    /// Gives up what is under way in one lane: it is still in the store and will be read again.
    pub fn abandon(&mut self, lane: Lane) {
        self.entries.retain(|(shipment, _)| shipment.lane != lane || shipment.is_other);
    }

    /// Waits until the oldest shipment of a lane is settled. Never ready while nothing is under way. Safe to cancel.
    pub async fn next(&mut self) -> (Shipment, Delivery) {
        std::future::poll_fn(|context| {
            for (_, state) in &mut self.entries {
                if let State::Waiting(outcome) = state
                    && let Poll::Ready(delivery) = outcome.as_mut().poll(context)
                {
                    *state = State::Settled(delivery);
                }
            }
            match self.take_settled() {
                Some(settled) => Poll::Ready(settled),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// The first that is settled and that none of its lane is before.
    fn take_settled(&mut self) -> Option<(Shipment, Delivery)> {
        let road = |shipment: &Shipment| (shipment.lane, shipment.is_other);
        let is_next = |at: usize| {
            let (shipment, state) = &self.entries[at];
            let mut before = self.entries.iter().take(at);
            matches!(state, State::Settled(_)) && before.all(|(other, _)| road(other) != road(shipment))
        };
        let at = (0..self.entries.len()).find(|at| is_next(*at))?;
        match self.entries.remove(at)? {
            (shipment, State::Settled(delivery)) => Some((shipment, delivery)),
            (_, State::Waiting(_)) => None,
        }
    }
}
