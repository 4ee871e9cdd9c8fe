//! A further broker that cannot be reached any more: the owner's own stays the fallback.

use std::path::Path;

use tokio::time::Instant;

use super::Agent;
use crate::config::{self, Config};
use crate::mqtt::SessionState;

/// Since when there is no broker.
#[derive(Default)]
pub(super) struct Fallback {
    lost_since: Option<Instant>,
}

impl Fallback {
    /// Goes over to the broker of the owner's file at `path` when the one in use is another and was away for too long.
    /// It stays there until a configuration is loaded again.
    pub async fn look(&mut self, agent: &mut Agent, path: &Path) {
        if agent.is_connected() {
            self.lost_since = None;
            return;
        }
        let now = Instant::now();
        let since = *self.lost_since.get_or_insert(now);
        if now < since + agent.config.mqtt.fallback_after {
            return;
        }
        self.lost_since = Some(now);
        let Ok(own) = config::load(path) else { return };
        if own.mqtt == agent.config.mqtt {
            return;
        }
        tracing::warn!(
            host = agent.config.mqtt.host,
            own = own.mqtt.host,
            "the further broker is not reached: over to the owner's own"
        );
        let config = Config { mqtt: own.mqtt, ..agent.config_in_force() };
        if let Err(error) = agent.reload(config).await {
            tracing::error!(%error, "the owner's broker cannot be used");
        }
    }
}

impl Agent {
    /// Whether the broker is reached now.
    pub(super) fn is_connected(&self) -> bool {
        let parts = self.parts.borrow();
        parts.mqtt.as_ref().is_some_and(|mqtt| matches!(mqtt.borrow().state, SessionState::Connected(_)))
    }
}
