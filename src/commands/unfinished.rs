//! The part of the task that settles what was under way when the agent ended.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::Commands;
use super::answer::{Answer, Outcome, State};
use super::journal::Journal;
use super::reply::Reply;

/// How long reading back may take for a write of which nobody knows whether it took effect.
const LOOK_BACK: Duration = Duration::from_secs(15);

impl Commands {
    /// What was begun when the agent ended: nobody knows whether it took effect, and it is not begun again.
    pub(super) async fn settle_unfinished(&mut self) {
        let unfinished = self.journal.get().map(Journal::unfinished).unwrap_or_default();
        for entry in unfinished {
            let reason = "the agent ended while it was carried out; it is not carried out again";
            let seen = match entry.command.as_str() {
                "write" => timeout(LOOK_BACK, self.look_back(&entry.arguments)).await.unwrap_or_default(),
                _ => Value::Null,
            };
            let outcome = Outcome { state: State::Unknown, reason: Some(reason.to_owned()), ..Outcome::done(seen) };
            let (id, ended, time) = (entry.id.clone(), outcome.clone(), self.parts.clock.wall());
            if let Err(trouble) = self.with_journal(move |journal| journal.end(&id, &ended, time)).await {
                tracing::warn!(trouble, "an unfinished command stays unfinished in the journal");
            }
            let answer = Answer {
                command: Some(entry.command),
                key: Some(entry.key),
                reason: outcome.reason,
                result: outcome.result,
                ..self.bare(&entry.id, State::Unknown)
            };
            let mut outlet = self.parts.outlet.clone();
            self.answers.spawn(async move {
                let ready = outlet.wait_for(Option::is_some).await.ok().and_then(|outlet| (*outlet).clone());
                if let Some(outlet) = ready {
                    Reply::to_id(&outlet, &answer.id).send(&answer).await;
                }
            });
        }
    }
}
