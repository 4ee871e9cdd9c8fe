//! Problems of remote commands and configurations.

use super::{Area, Problem, Severity, digest};
use crate::diagnostics::Status;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let Some(remote) = &status.remote else { return Vec::new() };
    let trouble = remote.trouble.iter().map(|trouble| {
        let text = format!("commands that change anything are refused: {trouble}");
        Problem::new(Area::Remote, Severity::Major, "commands-refused", text)
    });
    let concerns = remote.concerns.iter().map(|concern| {
        Problem::new(Area::Remote, Severity::Major, format!("remote/{}", digest(concern)), concern.as_str())
    });
    trouble.chain(concerns).collect()
}
