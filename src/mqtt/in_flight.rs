//! Which publish waits for which acknowledgement.
//!
//! The client gives out packet ids on its own and tells them in the order in which messages were handed to it; an
//! acknowledgement names only the id. Here the two meet. A connection that ends takes its ids with it: what still
//! waits is drained and was not delivered.

use std::collections::VecDeque;

/// MQTT packet identifier, 1 to 65,535 (MQTT 5, 2.2.1).
pub type PacketId = u16;

/// Publishes of one connection that are not acknowledged, with whoever waits for them.
#[derive(Debug)]
pub struct InFlight<W> {
    /// Handed to the client, packet id not known yet; oldest first.
    handed: VecDeque<Entry<W>>,
    /// Sent under a packet id; oldest first.
    sent: VecDeque<(PacketId, Entry<W>)>,
    limits: Window,
    next_serial: u64,
}

/// How much may be unacknowledged at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Most unacknowledged publishes.
    pub publishes: usize,
    /// How many packet ids the client goes through before it uses the first again.
    pub packet_ids: u64,
}

#[derive(Debug)]
struct Entry<W> {
    serial: u64,
    bytes: usize,
    waiting: W,
}

impl<W> InFlight<W> {
    /// Nothing in flight yet.
    pub fn new(limits: Window) -> Self {
        Self { handed: VecDeque::new(), sent: VecDeque::new(), limits, next_serial: 0 }
    }

    /// Whether one more publish may be handed to the client.
    ///
    /// Besides the window this keeps the client from using a packet id again that is still unacknowledged, which
    /// happens when a broker acknowledges out of order and can block the client for ever.
    pub fn has_room(&self) -> bool {
        self.len() < self.limits.publishes && self.has_free_id()
    }

    /// Whether the next packet id is not in use.
    pub fn has_free_id(&self) -> bool {
        self.oldest().map_or(0, |oldest| self.next_serial - oldest.serial) < self.limits.packet_ids
    }

    /// The client was handed a packet that is no publish and takes an id of its own.
    pub fn took_id(&mut self) {
        self.next_serial += 1;
    }

    /// A publish of `bytes` was handed to the client; `waiting` wants to know what becomes of it.
    pub fn handed(&mut self, waiting: W, bytes: usize) {
        self.handed.push_back(Entry { serial: self.next_serial, bytes, waiting });
        self.next_serial += 1;
    }

    /// How many publishes the client has taken but not sent.
    pub fn unsent(&self) -> usize {
        self.handed.len()
    }

    /// The client sent the oldest handed publish under `id`. An id that is in flight already is a repetition by the
    /// client and stands for nothing new.
    pub fn sent(&mut self, id: PacketId) {
        if self.sent.iter().any(|(known, _)| *known == id) {
            return;
        }
        if let Some(entry) = self.handed.pop_front() {
            self.sent.push_back((id, entry));
        }
    }

    /// The broker answered `id`: who waits for it. `None` when nobody does.
    pub fn answered(&mut self, id: PacketId) -> Option<W> {
        let position = self.sent.iter().position(|(known, _)| *known == id)?;
        self.sent.remove(position).map(|(_, entry)| entry.waiting)
    }

    /// Takes out the publish that was sent first of those that are not answered.
    pub fn take_oldest_sent(&mut self) -> Option<W> {
        self.sent.pop_front().map(|(_, entry)| entry.waiting)
    }

    /// Size of the publish that has waited longest, in bytes.
    pub fn oldest_bytes(&self) -> Option<usize> {
        self.oldest().map(|entry| entry.bytes)
    }

    /// How many publishes are not acknowledged.
    pub fn len(&self) -> usize {
        self.handed.len() + self.sent.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everybody who still waits, oldest first. Nothing is in flight afterwards.
    pub fn drain(&mut self) -> impl Iterator<Item = W> + use<'_, W> {
        let sent = self.sent.drain(..).map(|(_, entry)| entry);
        sent.chain(self.handed.drain(..)).map(|entry| entry.waiting)
    }

    fn oldest(&self) -> Option<&Entry<W>> {
        self.sent.front().map(|(_, entry)| entry).or_else(|| self.handed.front())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_flight(publishes: usize, packet_ids: u64) -> InFlight<&'static str> {
        InFlight::new(Window { publishes, packet_ids })
    }

    #[test]
    fn an_answer_finds_the_publish_that_was_sent_under_its_id() {
        let mut in_flight = in_flight(4, 10);
        in_flight.handed("a", 1);
        in_flight.handed("b", 1);
        in_flight.sent(7);
        in_flight.sent(8);

        assert_eq!(in_flight.answered(8), Some("b"));
        assert_eq!(in_flight.answered(7), Some("a"));
        assert_eq!(in_flight.answered(7), None);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn a_repeated_id_takes_nobody_elses_place() {
        let mut in_flight = in_flight(4, 10);
        in_flight.handed("a", 1);
        in_flight.sent(1);
        in_flight.handed("b", 1);

        in_flight.sent(1);
        in_flight.sent(2);

        assert_eq!(in_flight.answered(1), Some("a"));
        assert_eq!(in_flight.answered(2), Some("b"));
    }

    #[test]
    fn the_window_closes_when_it_is_full_and_opens_on_an_answer() {
        let mut in_flight = in_flight(2, 10);
        in_flight.handed("a", 1);
        in_flight.handed("b", 1);
        in_flight.sent(1);
        assert!(!in_flight.has_room());

        in_flight.answered(1);

        assert!(in_flight.has_room());
    }

    #[test]
    fn a_lost_connection_gives_back_everybody_who_waits_in_order() {
        let mut in_flight = in_flight(4, 10);
        for waiting in ["a", "b", "c"] {
            in_flight.handed(waiting, 1);
        }
        in_flight.sent(1);

        assert_eq!(in_flight.drain().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(in_flight.is_empty());
    }

    proptest! {
        /// A client that numbers 1 to `ids` round and round, and a broker that answers in any order.
        #[test]
        fn no_packet_id_is_ever_used_twice_at_once(
            publishes in 1_usize..8,
            ids in 1_u64..12,
            answers in proptest::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut in_flight = InFlight::new(Window { publishes, packet_ids: ids });
            let mut unanswered: Vec<(PacketId, u64)> = Vec::new();
            let mut serial = 0;
            for answer in answers {
                while in_flight.has_room() {
                    let id = PacketId::try_from(serial % ids + 1).unwrap();
                    prop_assert!(unanswered.iter().all(|(used, _)| *used != id));
                    in_flight.handed(serial, 1);
                    in_flight.sent(id);
                    unanswered.push((id, serial));
                    serial += 1;
                }
                prop_assert!(!unanswered.is_empty() && unanswered.len() <= publishes);
                let (id, expected) = unanswered.swap_remove(answer.index(unanswered.len()));
                prop_assert_eq!(in_flight.answered(id), Some(expected));
            }
        }
    }
}
