//! A short visit to a broker, as a command line makes it: subscribe, publish, listen, leave. No will, no session kept.

use std::collections::VecDeque;

use super::connection::{self, Answer, Event, Events, Sender, Subscription};
use super::failure::Failure;
use super::message::{Delivery, Message, Received};
use super::settings::SessionSettings;

/// A connection that ends with its owner.
pub struct Visitor {
    sender: Sender,
    events: Events,
    settings: SessionSettings,
    arrived: VecDeque<Received>,
}

/// Why a visit ended: a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VisitError(String);

impl Visitor {
    /// Connects and subscribes. The will and the probe topic of `settings` play no part.
    ///
    /// # Errors
    /// What is in the way, and where to look.
    pub async fn connect(settings: SessionSettings, filters: &[String]) -> Result<Self, VisitError> {
        let told = |failure: Failure| VisitError(failure.text(&settings));
        let (sender, mut events) = connection::open_visit(&settings).map_err(told)?;
        match events.next().await {
            Ok(Event::Up(_)) => {}
            Ok(other) => return Err(VisitError(format!("{other:?} before the connection was accepted"))),
            Err(failure) => return Err(told(failure.unanswered())),
        }
        let mut visitor = Self { sender, events, settings, arrived: VecDeque::new() };
        if filters.is_empty() {
            return Ok(visitor);
        }
        let wanted = filters.iter().map(|filter| Subscription { filter: filter.clone(), lasting: true });
        let subscribed = visitor.sender.subscribe(&wanted.collect::<Vec<_>>());
        subscribed.map_err(|_| VisitError("a topic filter is not valid".to_owned()))?;
        loop {
            match visitor.event().await? {
                Event::Subscribed { refused, .. } if refused.is_empty() => return Ok(visitor),
                Event::Subscribed { refused, .. } => {
                    let refused: Vec<&str> =
                        refused.iter().filter_map(|at| filters.get(*at)).map(String::as_str).collect();
                    let refused = refused.join(", ");
                    return Err(VisitError(format!("the broker refuses the subscription to {refused}")));
                }
                _ => {}
            }
        }
    }

    /// Publishes with QoS 1 and waits for the broker's answer.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn publish(&mut self, message: Message) -> Result<Delivery, VisitError> {
        self.sender.publish(message).map_err(|_| VisitError("the topic holds a wildcard".to_owned()))?;
        loop {
            if let Event::Answered(_, answer) = self.event().await? {
                return Ok(match answer {
                    Answer::Taken => Delivery::Acknowledged,
                    Answer::NoSubscribers => Delivery::NoSubscribers,
                    Answer::Refused { reason, text } => Delivery::Refused { reason, text },
                });
            }
        }
    }

    /// The next message. Not to be called again when it was dropped half way.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn next(&mut self) -> Result<Received, VisitError> {
        loop {
            if let Some(received) = self.arrived.pop_front() {
                return Ok(received);
            }
            self.event().await?;
        }
    }

    /// The next event; messages are put aside.
    async fn event(&mut self) -> Result<Event, VisitError> {
        match self.events.next().await {
            Ok(Event::Received(received)) => {
                self.arrived.push_back(received);
                Ok(Event::Other)
            }
            Ok(event) => Ok(event),
            Err(failure) => Err(VisitError(failure.text(&self.settings))),
        }
    }
}
