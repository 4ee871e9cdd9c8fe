//! What whoever uses the local socket wants done, on its way to the task that does it.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::protocol::{Notice, Request};

/// One request that the socket itself cannot serve.
#[derive(Debug)]
pub struct Deed {
    /// What is wanted.
    pub request: Request,
    /// The answer for the asker.
    pub reply: oneshot::Sender<Result<Value, Notice>>,
}

/// Where deeds go; nowhere where nothing may be commanded or written.
#[derive(Debug, Clone)]
pub struct Deeds(pub watch::Receiver<Option<mpsc::Sender<Deed>>>);

impl Deeds {
    /// Has it done.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub async fn have_done(&self, request: Request) -> Result<Value, Notice> {
        const OFF: &str = "nothing can be commanded or written on this gateway: its configuration has neither [[remote.key]] nor [[write]]";
        let Some(deeds) = self.0.borrow().clone() else { return Err(Notice::Refused(OFF.to_owned())) };
        let (reply, answer) = oneshot::channel();
        let stopping = || Notice::Error("the agent is stopping".to_owned());
        deeds.send(Deed { request, reply }).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}
