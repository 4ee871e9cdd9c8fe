//! A failure that says little, and what another look at the port shows about it ([`port_check`](super::port_check)).

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::failure::Failure;
use super::port_check;
use super::settings::SessionSettings;

/// What stands behind a port is looked at so often.
const COUNTS_FOR: Duration = Duration::from_secs(600);

/// What is known about one failure.
pub(super) struct Explained {
    /// The failure as it came.
    text: String,
    since: Instant,
    /// The look at the port that is under way.
    pub(super) looking: Option<oneshot::Receiver<Option<String>>>,
    /// The failure in better words.
    pub(super) better: Option<String>,
}

impl Explained {
    /// Begins a look at the port, on a thread of its own: it blocks for seconds, and nothing waits for it when the agent
    /// stops. `None` where a look shows no more than the failure says.
    pub(super) fn begin(failure: &Failure, text: &str, settings: &SessionSettings) -> Option<Self> {
        let (settings, (found, looking)) = (settings.clone(), oneshot::channel());
        let look: Box<dyn FnOnce() -> Option<String> + Send> = match failure {
            Failure::Moved { is_for_good, to: None } => {
                let is_for_good = *is_for_good;
                Box::new(move || {
                    let to = Some(port_check::named_server(&settings)?);
                    Some(Failure::Moved { is_for_good, to }.text(&settings))
                })
            }
            puzzling if puzzling.is_puzzling() => Box::new(move || port_check::look(&settings)),
            _ => return None,
        };
        let thread = std::thread::Builder::new().name("port-check".to_owned());
        // The session may be gone by then.
        thread.spawn(move || _ = found.send(look())).ok()?;
        Some(Self { text: text.to_owned(), since: Instant::now(), looking: Some(looking), better: None })
    }

    /// Whether this is still true about the failure `text`.
    pub(super) fn is_about(&self, text: &str) -> bool {
        self.text == text && self.since.elapsed() < COUNTS_FOR
    }

    /// Whether no look is under way.
    pub(super) fn is_done(&self) -> bool {
        self.looking.is_none()
    }
}

/// Waits for the look that is under way; for ever when none is. Safe to cancel.
pub(super) async fn explained(explained: &mut Option<Explained>) -> Option<String> {
    match explained.as_mut().and_then(|explained| explained.looking.as_mut()) {
        Some(looking) => looking.await.unwrap_or(None),
        None => std::future::pending().await,
    }
}
