//! The part of the task that serves the local socket.

use std::time::Duration;

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::gate::Genuine;
use super::order::Order;
use super::signature;
use super::verb::{Span, Verb};
use super::write::Wish;
use super::write::guard::Origin;
use super::{Asker, Commands, bundle};
use crate::actions::RuleWrite;
use crate::config::Role;
use crate::diagnostics::deeds::Deed;
use crate::diagnostics::protocol::{Notice, Request};

/// A write on the spot is given up when the device cannot be asked for so long.
const EXPIRY_HERE: Duration = Duration::from_secs(30);

/// Under this name all pushed rules together have the pace of one key. No key can have this name.
const PUSHED_RULES: &str = "(pushed rules)";

impl Asker {
    /// Says that it is not done.
    fn refuse(self, reason: String) {
        // Whoever asked may be gone.
        match self {
            Self::Here(asker) => drop(asker.send(Err(Notice::Refused(reason)))),
            Self::Rule(asker) => drop(asker.send(Err(reason))),
            Self::Afar(_) => {}
        }
    }
}

impl Commands {
    /// Serves the local socket: what passes there passes the same guard, and is journalled as well.
    pub(super) async fn take_deed(&mut self, deed: Deed) {
        let Deed { request, reply } = deed;
        let answer = match request {
            Request::Writes => Ok(self.shown_permissions()),
            Request::SupportBundle => Ok(bundle::document(&self.parts.services)),
            Request::ConfigHistory => self.shown_revisions(),
            Request::ConfigRollback { revision, by } => return self.roll_back_here(revision, &by, reply).await,
            Request::WritesLock { locked, by } => {
                let standing = if locked { "locked" } else { "free" };
                tracing::warn!(by, "writing from afar is {standing} from now on");
                self.note("lock", &format!("(here) {by}"), if locked { "writes off" } else { "writes on" }).await;
                let lock = self.guard.lock().clone();
                let done = spawn_blocking(move || if locked { lock.lock() } else { lock.lift() }).await;
                let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                done.map(|()| self.shown_permissions()).map_err(|error| Notice::Error(error.to_string()))
            }
            Request::Write { device, point, value, dry_run, span, by } => {
                let span = span.map(|span| Span::try_from(Value::String(span))).transpose();
                match span.map(|span| Wish { device, point, value, dry_run, span }) {
                    Ok(wish) => {
                        return self.write_for(wish, format!("(here) {by}"), Origin::Here, Asker::Here(reply)).await;
                    }
                    Err(reason) => Err(Notice::Refused(reason.to_owned())),
                }
            }
            other => Err(Notice::Refused(format!("not a deed: {other:?}"))),
        };
        // Whoever asked may be gone; then nobody misses the answer.
        let _ = reply.send(answer);
    }

    /// A rule writes within the same bounds as everybody. One that was pushed, or looks at what was, writes as the engineer
    /// who pushed it: not while writing from afar is locked, and no faster than a key.
    pub(super) async fn write_for_rule(&mut self, wanted: RuleWrite) {
        let RuleWrite { alarm, device, point, value, from_afar, reply } = wanted;
        let wish = Wish { device, point, value, dry_run: false, span: None };
        let (who, origin) = match from_afar {
            true => (format!("(pushed rule) {alarm}"), Origin::Afar(Role::Engineer)),
            false => (format!("(rule) {alarm}"), Origin::Here),
        };
        self.write_for(wish, who, origin, Asker::Rule(reply)).await;
    }

    async fn write_for(&mut self, wish: Wish, key: String, origin: Origin, asker: Asker) {
        let now = self.now();
        let arguments = serde_json::to_value(&wish).unwrap_or_default();
        let order = Order {
            id: format!("here-{:016x}", fastrand::u64(..)),
            gateway: self.parts.gateway.clone(),
            expires: now.time.after(EXPIRY_HERE),
            counter: u64::try_from(now.time.0).unwrap_or(0),
            command: "write".to_owned(),
            arguments,
        };
        let key = key.chars().take(80).collect();
        let digest = signature::digest(order.id.as_bytes());
        let genuine = Genuine { order, verb: Verb::Write(wish), key, role: Role::Engineer, digest };
        let admitted = match origin {
            Origin::Afar(_) => self.gate.pace(PUSHED_RULES, now),
            Origin::Here => Ok(()),
        };
        let ticket = admitted.and_then(|()| self.ticket(&genuine, origin));
        match self.begin_with(&genuine, ticket).await {
            Err(refusal) => {
                self.note_refusal(&refusal, &genuine.key).await;
                asker.refuse(refusal.to_string());
            }
            Ok(ticket) => self.start(genuine, ticket, asker).await,
        }
    }
}
