//! Follows the epochs of the store: what the ids mean, and the state topic, have to name the one in force.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::online;
use crate::buffer::{BufferHandle, Catalogue, Watermarks};

/// The task.
pub(super) struct EpochFollower {
    pub buffer: BufferHandle,
    pub catalogue: watch::Sender<Arc<Catalogue>>,
    pub online: watch::Sender<Bytes>,
}

impl EpochFollower {
    /// Runs until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut watermarks = self.buffer.watermarks();
        let named = |marks: &Watermarks| (marks.epoch, marks.others.version);
        let mut known = named(&watermarks.borrow());
        loop {
            let changed = async { watermarks.wait_for(|marks| named(marks) != known).await.map(|marks| named(&marks)) };
            tokio::select! {
                () = stop.cancelled() => return,
                // An error means that the store is closed: nothing changes any more.
                Ok(now) = changed => known = now,
                else => return stop.cancelled().await,
            }
            match self.buffer.catalogue().await {
                Ok(catalogue) => {
                    online::amend(&self.online, "epoch", json!(known.0));
                    self.catalogue.send_replace(Arc::new(catalogue));
                }
                Err(error) => tracing::debug!(%error, "no catalogue of the new epoch"),
            }
        }
    }
}
