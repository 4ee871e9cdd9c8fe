//! The part of the task that says what became of commands, and writes down who did what.

use tokio::time::Instant;

use super::Commands;
use super::answer::{Answer, State};
use super::audit::{self, AuditLine};
use super::gate::{Genuine, Refusal};
use super::journal::Entry;
use super::refusals::Sender;
use super::reply::Reply;

/// Answers on their way at once; the others wait.
const ANSWERS_AT_ONCE: usize = 16;

/// Longest id that an answer is published under, in bytes: longer than one that a command may have, so that its sender
/// learns that.
const ANSWERED_ID_MAX: usize = 128;

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
        self.say(Sender::Known, answer, reply);
    }

    pub(super) async fn refuse(&mut self, id: &str, genuine: Option<&Genuine>, refusal: &Refusal, reply: &Reply) {
        self.note_refusal(refusal, genuine.map_or("", |genuine| genuine.key.as_str())).await;
        if !is_answerable(id) {
            return;
        }
        let state = if matches!(refusal, Refusal::Expired { .. }) { State::Expired } else { State::Rejected };
        let answer = match genuine {
            Some(genuine) => self.answer(genuine, state),
            None => self.bare(id, state),
        };
        let sender = if genuine.is_some() { Sender::Known } else { Sender::Stranger };
        self.say(sender, Answer { reason: Some(refusal.to_string()), ..answer }, reply);
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

    /// Has an answer published, at once or in its turn.
    fn say(&mut self, sender: Sender, answer: Answer, reply: &Reply) {
        if !self.refusals.wait(sender, answer, reply.clone()) {
            self.count(|status| status.unanswered += 1);
        }
        self.answer_waiting();
    }

    /// When the next waiting answer is due, and there is room for it.
    pub(super) fn next_answer(&self) -> Option<Instant> {
        self.refusals.due().filter(|_| self.answers.len() < ANSWERS_AT_ONCE)
    }

    /// Publishes the waiting answers that are due.
    pub(super) fn answer_waiting(&mut self) {
        while self.answers.len() < ANSWERS_AT_ONCE
            && let Some((answer, reply)) = self.refusals.take(Instant::now())
        {
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

/// Whether an answer can be published under this id, whether or not a command may have it.
fn is_answerable(id: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '+' | '#' | '/');
    (1..=ANSWERED_ID_MAX).contains(&id.len()) && id.chars().all(is_plain)
}
