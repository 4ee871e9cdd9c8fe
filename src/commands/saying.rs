//! The part of the task that says what became of commands, and writes down who did what.

use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, State};
use super::audit::{self, AuditLine};
use super::gate::{Genuine, Refusal};
use super::journal::Entry;
use super::reply::Reply;
use super::{Commands, Refusals, order};

/// Refusals that strangers get an answer to in a second; the others are only counted.
const REFUSALS_ANSWERED: u32 = 5;

/// The same for each key: whoever has one is not to be left waiting because of strangers, and asks in good faith.
const REFUSALS_ANSWERED_OF_KEY: u32 = 50;

/// Answers on their way at once; those of a flood of refusals are left out.
const ANSWERS_AT_ONCE: usize = 16;

impl Commands {
    pub(super) fn repeat(&mut self, known: &Entry, reply: &Reply) {
        self.count(|status| status.repeated += 1);
        let end = known.end.as_ref();
        let answer = Answer {
            was: Some(end.map_or(State::Running, |end| end.state)),
            command: Some(known.command.clone()),
            key: Some(known.key.clone()),
            reason: end.and_then(|end| end.reason.clone()),
            result: end.map(|end| end.result.clone()).unwrap_or_default(),
            ..self.bare(&known.id, State::Duplicate)
        };
        self.say(answer, reply);
    }

    pub(super) async fn refuse(&mut self, id: &str, genuine: Option<&Genuine>, refusal: &Refusal, reply: &Reply) {
        self.note_refusal(refusal, genuine.map_or("", |genuine| genuine.key.as_str())).await;
        let now = Instant::now();
        if now >= self.refusals.since + Duration::from_secs(1) {
            self.refusals = Refusals { since: now, ..Refusals::new() };
        }
        let (answered, most) = match genuine {
            Some(genuine) => (self.refusals.of_keys.entry(genuine.key.clone()).or_default(), REFUSALS_ANSWERED_OF_KEY),
            None => (&mut self.refusals.answered, REFUSALS_ANSWERED),
        };
        if *answered >= most || !order::is_id(id) {
            return;
        }
        *answered += 1;
        let state = if matches!(refusal, Refusal::Expired { .. }) { State::Expired } else { State::Rejected };
        let answer = match genuine {
            Some(genuine) => self.answer(genuine, state),
            None => self.bare(id, state),
        };
        self.say(Answer { reason: Some(refusal.to_string()), ..answer }, reply);
    }

    pub(super) async fn note_refusal(&mut self, refusal: &Refusal, by: &str) {
        self.note_refused(refusal.kind(), by, &refusal.to_string()).await;
        let mut count = 0;
        self.count(|status| {
            let refused = status.refused.entry(refusal.kind()).or_default();
            *refused += 1;
            count = *refused;
        });
        match count.is_power_of_two() {
            true => tracing::warn!(kind = refusal.kind(), %refusal, refused = count, "command refused"),
            false => tracing::debug!(kind = refusal.kind(), %refusal, "command refused"),
        }
    }

    pub(super) fn say(&mut self, answer: Answer, reply: &Reply) {
        if self.answers.len() < ANSWERS_AT_ONCE {
            let reply = reply.clone();
            self.answers.spawn(async move { reply.send(&answer).await });
        }
    }

    /// Writes down who did what, and hands it on beside the alarms.
    pub(super) async fn note(&mut self, kind: &'static str, by: &str, text: &str) {
        let (time, by, text) = (self.parts.clock.wall(), by.to_owned(), text.to_owned());
        let line = self.audit.with(move |audit| audit.note(time, kind, &by, &text)).await;
        self.forward(line.ok().flatten());
    }

    /// Writes down the first refusal of a kind in a minute; the others of a flood cost no disk.
    pub(super) async fn note_refused(&mut self, kind: &str, by: &str, text: &str) {
        let time = self.parts.clock.wall();
        let due = self.audit.get_mut().ok().and_then(|audit| audit.refusal_due(time, kind));
        if let Some(more) = due {
            self.note("refusal", by, &format!("{kind}: {text}{more}")).await;
        }
    }

    fn forward(&mut self, line: Option<AuditLine>) {
        let Some(line) = line else { return };
        let buffer = self.parts.services.buffer.clone();
        self.forwards.spawn(async move {
            if let Err(error) = buffer.append_alarms(vec![audit::record(&line)]).await {
                tracing::warn!(%error, "a line of the audit log is not forwarded");
            }
        });
    }
}
