//! Proof that a broker passes on what it acknowledges. MQTT 3.1.1 has one acknowledgement only: a broker sends it also for
//! a message that it discards, because an access rule forbids the topic or because the message is too large for it.
//!
//! So the gateway subscribes to its own topic, publishes, and waits until exactly this message comes back. From then on an
//! acknowledgement counts as delivery on this topic, for messages up to the proven size, until the proof is old. The
//! subscription lasts as long as a message waits for its proof.
//!
//! Pure: time is an argument, and who waits for a message is a type parameter.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use super::message::{Message, Received};

/// How long the broker may take to answer a subscription.
const GRANT_TIME: Duration = Duration::from_secs(10);

/// How long after its acknowledgement a message may come back, beside a multiple of the time the acknowledgement took.
const RETURN_TIME: Duration = Duration::from_secs(5);

/// A message may come back so many times slower than it went.
const SLOWER: u32 = 3;

/// After so long one more message must come back: access rules may change under a running connection.
const COUNTS_FOR: Duration = Duration::from_secs(900);

/// Messages that wait for subscriptions. More than the uplink has under way, so that one topic does not hold up another.
const PARKED_MAX: usize = 16;

/// The proofs of one connection.
#[derive(Debug)]
pub(super) struct Proofs<W> {
    topics: Vec<TopicProofs<W>>,
}

/// The proofs of one topic, or of all topics of a filter.
#[derive(Debug)]
pub(super) struct TopicProofs<W> {
    filter: String,
    subscription: Subscribed,
    /// Largest packet that came back, in bytes, and when a packet of any size last did.
    proven: Option<(usize, Instant)>,
    parked: VecDeque<(Message, usize, W)>,
    trials: Vec<Trial<W>>,
    next_id: u64,
}

/// Whether the broker sends us what we publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscribed {
    No,
    /// A connection before this one may have left a subscription behind.
    Perhaps,
    /// The broker has to answer by then.
    Asked(Instant),
    Yes,
    Refused,
}

/// A message that has to come back.
#[derive(Debug)]
struct Trial<W> {
    id: u64,
    payload: Bytes,
    /// Of the packet.
    bytes: usize,
    sent: Instant,
    /// When it was acknowledged, the time until which it must be back.
    deadline: Option<Instant>,
    has_returned: bool,
    waiting: W,
}

/// What has to be told to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    Subscribe(String),
    Unsubscribe(String),
}

/// The end of a trial.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged<W> {
    pub waiting: W,
    /// Of the packet.
    pub bytes: usize,
    pub sent: Instant,
    pub verdict: Verdict,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker passed the message on.
    Returned,
    /// The broker acknowledged it and did not return it in time.
    Missing,
    /// The broker does not let us see what we publish.
    NotGranted,
}

impl<W> Proofs<W> {
    /// Proofs for the topics of `filters`. `session_present` says that the broker remembers subscriptions.
    pub fn new(filters: &[String], session_present: bool) -> Self {
        let subscription = if session_present { Subscribed::Perhaps } else { Subscribed::No };
        let topics = filters.iter().map(|filter| TopicProofs {
            filter: filter.clone(),
            subscription,
            proven: None,
            parked: VecDeque::new(),
            trials: Vec::new(),
            next_id: 0,
        });
        Self { topics: topics.collect() }
    }

    /// Which of the topics `topic` is, if any.
    pub fn find(&self, topic: &str) -> Option<usize> {
        self.topics.iter().position(|known| covers(&known.filter, topic))
    }

    /// The topic at `at`, as [`find`](Self::find) said.
    pub fn topic(&mut self, at: usize) -> &mut TopicProofs<W> {
        &mut self.topics[at]
    }

    /// Size of the largest packet that came back on the topic at `at`; 0 where none did of late.
    pub fn proven(&self, at: usize, now: Instant) -> usize {
        self.topics[at].proven(now)
    }

    /// Whether one more message may wait for a subscription.
    pub fn has_room(&self) -> bool {
        self.topics.iter().map(|topic| topic.parked.len()).sum::<usize>() < PARKED_MAX
    }

    /// The next thing to tell the broker, and for which topic.
    pub fn control(&mut self, now: Instant) -> Option<(usize, Control)> {
        self.topics.iter_mut().enumerate().find_map(|(at, topic)| Some((at, topic.control(now)?)))
    }

    /// The next message whose topic is subscribed, or cannot be: it is to be published.
    pub fn ready(&mut self) -> Option<(usize, Message, W)> {
        self.topics.iter_mut().enumerate().find_map(|(at, topic)| {
            let is_ready = matches!(topic.subscription, Subscribed::Yes | Subscribed::Refused);
            let (message, _, waiting) = if is_ready { topic.parked.pop_front()? } else { return None };
            Some((at, message, waiting))
        })
    }

    /// A message came in: the trial that it ends, and for which topic. `None` for what proves nothing.
    pub fn received(&mut self, received: &Received, now: Instant) -> Option<(usize, Option<Judged<W>>)> {
        let at = self.find(&received.topic)?;
        self.topics[at].returned(received, now).map(|judged| (at, judged))
    }

    /// Trials whose time is over.
    pub fn overdue(&mut self, now: Instant) -> Vec<(usize, Judged<W>)> {
        let mut judged = Vec::new();
        for (at, topic) in self.topics.iter_mut().enumerate() {
            judged.extend(topic.overdue(now).into_iter().map(|judged| (at, judged)));
        }
        judged
    }

    /// Everybody who waits here; nobody does afterwards. The connection is over.
    pub fn drain(&mut self) -> Vec<W> {
        let mut waiting = Vec::new();
        for topic in &mut self.topics {
            waiting.extend(topic.trials.drain(..).map(|trial| trial.waiting));
            waiting.extend(topic.parked.drain(..).map(|(_, _, waiting)| waiting));
        }
        waiting
    }

    /// Forgets parked messages that nobody waits for any more.
    pub fn forget(&mut self, is_abandoned: impl Fn(&W) -> bool) {
        for topic in &mut self.topics {
            topic.parked.retain(|(_, _, waiting)| !is_abandoned(waiting));
        }
    }
}

impl<W> TopicProofs<W> {
    /// Whether the acknowledgement of a packet of `bytes` that is sent now counts as delivery.
    pub fn counts(&self, bytes: usize, now: Instant) -> bool {
        self.proven(now) >= bytes
    }

    fn proven(&self, now: Instant) -> usize {
        self.proven.filter(|(_, at)| now < *at + COUNTS_FOR).map_or(0, |(bytes, _)| bytes)
    }

    /// Keeps `message`, a packet of `bytes`, until the broker has granted a subscription.
    pub fn park(&mut self, message: Message, bytes: usize, waiting: W) {
        self.parked.push_back((message, bytes, waiting));
    }

    fn control(&mut self, now: Instant) -> Option<Control> {
        let is_idle = self.parked.is_empty() && self.trials.is_empty();
        match (self.subscription, is_idle) {
            (Subscribed::No | Subscribed::Perhaps, false) => {
                self.subscription = Subscribed::Asked(now + GRANT_TIME);
                Some(Control::Subscribe(self.filter.clone()))
            }
            (Subscribed::Yes | Subscribed::Perhaps, true) => {
                self.subscription = Subscribed::No;
                Some(Control::Unsubscribe(self.filter.clone()))
            }
            (Subscribed::Refused, true) => {
                self.subscription = Subscribed::No;
                None
            }
            (Subscribed::No, true) | (Subscribed::Yes | Subscribed::Refused, false) | (Subscribed::Asked(_), _) => None,
        }
    }

    /// The broker answered the subscription.
    pub fn answered(&mut self, is_granted: bool) {
        if matches!(self.subscription, Subscribed::Asked(_)) {
            self.subscription = if is_granted { Subscribed::Yes } else { Subscribed::Refused };
        }
    }

    /// A message was handed to the client as a packet of `bytes`; the id names the trial.
    pub fn published(&mut self, payload: Bytes, bytes: usize, waiting: W, now: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.trials.push(Trial { id, payload, bytes, sent: now, deadline: None, has_returned: false, waiting });
        id
    }

    /// The broker acknowledged the message of trial `id`. The trial, where that ends it.
    pub fn acknowledged(&mut self, id: u64, now: Instant) -> Option<Judged<W>> {
        let at = self.trials.iter().position(|trial| trial.id == id)?;
        let verdict = match (self.trials[at].has_returned, self.subscription) {
            (true, _) => Verdict::Returned,
            (false, Subscribed::Yes) => {
                let trial = &mut self.trials[at];
                trial.deadline = Some(now + RETURN_TIME + SLOWER * (now - trial.sent));
                return None;
            }
            (false, Subscribed::No | Subscribed::Perhaps | Subscribed::Asked(_) | Subscribed::Refused) => {
                Verdict::NotGranted
            }
        };
        Some(self.trials.remove(at).judged(verdict))
    }

    /// The message of trial `id` was refused, or lost with its connection: who waits for it.
    pub fn given_up(&mut self, id: u64) -> Option<W> {
        let at = self.trials.iter().position(|trial| trial.id == id)?;
        Some(self.trials.remove(at).waiting)
    }

    fn returned(&mut self, received: &Received, now: Instant) -> Option<Option<Judged<W>>> {
        // What the broker kept, or sends once more, is of an earlier time and proves nothing about this connection.
        if self.subscription != Subscribed::Yes || received.retain || received.is_repeat {
            return None;
        }
        let is_same = |trial: &Trial<W>| !trial.has_returned && trial.payload == received.payload;
        let at = self.trials.iter().position(is_same)?;
        let trial = &mut self.trials[at];
        trial.has_returned = true;
        self.proven = Some((trial.bytes.max(self.proven.map_or(0, |(bytes, _)| bytes)), now));
        let is_acknowledged = trial.deadline.is_some();
        Some(is_acknowledged.then(|| self.trials.remove(at).judged(Verdict::Returned)))
    }

    fn overdue(&mut self, now: Instant) -> Vec<Judged<W>> {
        if matches!(self.subscription, Subscribed::Asked(until) if until <= now) {
            self.subscription = Subscribed::Refused;
        }
        let is_over = |trial: &mut Trial<W>| trial.deadline.is_some_and(|deadline| deadline <= now);
        let over: Vec<_> = self.trials.extract_if(.., is_over).map(|trial| trial.judged(Verdict::Missing)).collect();
        if !over.is_empty() && self.proven(now) == 0 {
            // The rights that it had are gone.
            self.proven = None;
        }
        over
    }
}

impl<W> Trial<W> {
    fn judged(self, verdict: Verdict) -> Judged<W> {
        Judged { waiting: self.waiting, bytes: self.bytes, sent: self.sent, verdict }
    }
}

/// Whether `topic` is the one of `filter`, whose last level may be `+`.
pub(super) fn covers(filter: &str, topic: &str) -> bool {
    match filter.strip_suffix('+') {
        Some(base) => topic.strip_prefix(base).is_some_and(|level| !level.is_empty() && !level.contains('/')),
        None => filter == topic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = "lineside/v1/lyon/gw-01/batch";

    fn message(payload: &str) -> Message {
        Message {
            topic: BATCH.to_owned(),
            payload: Bytes::from(payload.to_owned()),
            retain: false,
            content_type: None,
            expiry: None,
            correlation_data: None,
        }
    }

    fn echo(payload: &str) -> Received {
        Received {
            topic: BATCH.to_owned(),
            payload: Bytes::from(payload.to_owned()),
            retain: false,
            is_repeat: false,
            response_topic: None,
            correlation_data: None,
        }
    }

    fn proofs() -> Proofs<&'static str> {
        Proofs::new(&[BATCH.to_owned(), "lineside/v1/lyon/gw-01/catalogue/+".to_owned()], false)
    }

    /// Parks a message, has the subscription granted, and publishes it: the id of its trial.
    fn trial(proofs: &mut Proofs<&'static str>, payload: &'static str, now: Instant) -> u64 {
        proofs.topic(0).park(message(payload), payload.len(), payload);
        if let Some((at, Control::Subscribe(_))) = proofs.control(now) {
            proofs.topic(at).answered(true);
        }
        let (at, message, waiting) = proofs.ready().unwrap();
        let bytes = message.payload.len();
        proofs.topic(at).published(message.payload, bytes, waiting, now)
    }

    fn verdict(judged: Option<Judged<&'static str>>) -> Option<Verdict> {
        judged.map(|judged| judged.verdict)
    }

    #[test]
    fn an_acknowledgement_counts_only_after_exactly_this_message_came_back() {
        let (mut proofs, now) = (proofs(), Instant::now());
        let id = trial(&mut proofs, "readings", now);
        assert!(!proofs.topic(0).counts(8, now));
        assert_eq!(proofs.topic(0).acknowledged(id, now), None);

        assert_eq!(proofs.received(&echo("others"), now), None);
        let (_, judged) = proofs.received(&echo("readings"), now).unwrap();

        assert_eq!(verdict(judged), Some(Verdict::Returned));
        assert!(proofs.topic(0).counts(8, now) && !proofs.topic(0).counts(9, now));
        assert_eq!(proofs.control(now), Some((0, Control::Unsubscribe(BATCH.to_owned()))));
        assert_eq!(proofs.control(now), None);
    }

    #[test]
    fn an_echo_may_come_before_the_acknowledgement_and_counts_with_it() {
        let (mut proofs, now) = (proofs(), Instant::now());
        let id = trial(&mut proofs, "readings", now);

        assert_eq!(proofs.received(&echo("readings"), now), Some((0, None)));
        assert_eq!(verdict(proofs.topic(0).acknowledged(id, now)), Some(Verdict::Returned));
    }

    #[test]
    fn a_message_that_was_sent_before_the_proof_needs_its_own() {
        let (mut proofs, now) = (proofs(), Instant::now());
        let first = trial(&mut proofs, "first", now);
        let second = trial(&mut proofs, "second, larger", now);
        proofs.topic(0).acknowledged(first, now);
        proofs.topic(0).acknowledged(second, now);

        proofs.received(&echo("second, larger"), now);

        let over = proofs.overdue(now + RETURN_TIME);
        assert_eq!(over.iter().map(|(_, judged)| judged.waiting).collect::<Vec<_>>(), ["first"]);
        assert_eq!(over[0].1.verdict, Verdict::Missing);
    }

    #[test]
    fn what_the_broker_kept_or_sends_once_more_proves_nothing() {
        let (mut proofs, now) = (proofs(), Instant::now());
        trial(&mut proofs, "readings", now);

        for stale in [Received { retain: true, ..echo("readings") }, Received { is_repeat: true, ..echo("readings") }] {
            assert_eq!(proofs.received(&stale, now), None);
        }
        assert!(!proofs.topic(0).counts(1, now));
    }

    #[test]
    fn without_a_subscription_a_message_is_tried_but_not_delivered() {
        let (mut proofs, now) = (proofs(), Instant::now());
        proofs.topic(0).park(message("readings"), 8, "readings");
        assert!(matches!(proofs.control(now), Some((0, Control::Subscribe(_)))));
        assert!(proofs.ready().is_none());

        proofs.overdue(now + GRANT_TIME);
        let (at, message, waiting) = proofs.ready().unwrap();
        let id = proofs.topic(at).published(message.payload, 8, waiting, now);

        assert_eq!(verdict(proofs.topic(0).acknowledged(id, now)), Some(Verdict::NotGranted));
    }

    #[test]
    fn a_proof_is_renewed_by_one_message_of_any_size() {
        let (mut proofs, now) = (proofs(), Instant::now());
        trial(&mut proofs, "a large one", now);
        proofs.received(&echo("a large one"), now);
        let later = now + COUNTS_FOR;
        assert!(!proofs.topic(0).counts(1, later));

        trial(&mut proofs, "small", later);
        proofs.received(&echo("small"), later);

        assert!(proofs.topic(0).counts("a large one".len(), later));
    }

    #[test]
    fn a_subscription_that_an_earlier_connection_left_is_taken_back() {
        let mut proofs = Proofs::<()>::new(&[BATCH.to_owned()], true);

        assert_eq!(proofs.control(Instant::now()), Some((0, Control::Unsubscribe(BATCH.to_owned()))));
    }

    #[test]
    fn a_filter_stands_for_the_topics_one_level_below() {
        assert!(covers("a/catalogue/+", "a/catalogue/0123-1") && covers("a/batch", "a/batch"));
        for other in ["a/catalogue/", "a/catalogue/1/2", "b/catalogue/1"] {
            assert!(!covers("a/catalogue/+", other), "{other}");
        }
    }
}
