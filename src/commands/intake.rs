//! The part of the task that takes commands in: every check, and the journal before anything is done.

use super::answer::Outcome;
use super::gate::{Genuine, Now, Refusal};
use super::reply::Reply;
use super::write::Ticket;
use super::write::guard::Origin;
use super::{AT_ONCE, Asker, Commands, writes};
use crate::mqtt::Received;

impl Commands {
    pub(super) async fn take(&mut self, received: Received) {
        let Some(outlet) = self.parts.outlet.borrow().clone() else { return };
        if received.topic == outlet.topics.desired() {
            return self.take_desired(&received).await;
        }
        let Some(id) = outlet.topics.command_id(&received.topic).map(str::to_owned) else { return };
        let reply = Reply::new(&outlet, &id, &received);
        self.count(|status| status.received += 1);
        let now = self.now();
        let verified = {
            let config = self.parts.config.borrow();
            self.gate.verify(&config, &self.parts.gateway, &id, (&received.payload, received.retain), now)
        };
        match verified {
            Ok(genuine) => self.take_genuine(genuine, reply, now).await,
            Err(refusal) => self.refuse(&id, None, &refusal, &reply).await,
        }
    }

    pub(super) async fn take_genuine(&mut self, genuine: Genuine, reply: Reply, now: Now) {
        let id = genuine.order.id.clone();
        if let Some(known) = self.journal.get().ok().and_then(|journal| journal.entry(&id)).cloned() {
            match known.digest == genuine.digest {
                true => self.repeat(&known, &reply),
                false => self.refuse(&id, Some(&genuine), &Refusal::IdUsed(id.clone()), &reply).await,
            }
            return;
        }
        let admitted = match self.running.len() < AT_ONCE {
            true => self.gate.admit(&genuine, now),
            false => Err(Refusal::Busy),
        };
        let ticket = match admitted {
            Ok(()) => self.ticket(&genuine, Origin::Afar(genuine.role)),
            Err(refusal) => Err(refusal),
        };
        match self.begin_with(&genuine, ticket).await {
            Err(refusal) => self.refuse(&id, Some(&genuine), &refusal, &reply).await,
            Ok(ticket) => self.start(genuine, ticket, Asker::Afar(reply)).await,
        }
    }

    /// What a write needs beside the checks of every command.
    pub(super) fn ticket(&mut self, genuine: &Genuine, origin: Origin) -> Result<Option<Ticket>, Refusal> {
        let Some(wish) = writes::wish(genuine) else { return Ok(None) };
        self.admit_write(wish, origin, Some(genuine.order.expires)).map(Some).map_err(Refusal::Write)
    }

    /// Journals a command that passed, and with a write when its value returns. Nothing is held when that fails.
    pub(super) async fn begin_with(
        &mut self,
        genuine: &Genuine,
        ticket: Result<Option<Ticket>, Refusal>,
    ) -> Result<Option<Ticket>, Refusal> {
        let mut ticket = ticket?;
        let mut begun = self.begin(genuine).await;
        if let (Ok(()), Some(ticket)) = (&begun, &mut ticket) {
            begun = self.begin_lease(ticket).await.map_err(Refusal::Journal);
        }
        if let (Ok(()), Some(ticket)) = (&begun, &ticket) {
            begun = self.note_pace(ticket).await.map_err(Refusal::Journal);
        }
        if let (Err(refusal), Some(ticket)) = (&begun, &ticket) {
            self.end_write(ticket, &Outcome::failed(refusal.to_string())).await;
        }
        begun.map(|()| ticket)
    }
}
