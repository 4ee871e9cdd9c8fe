//! Problems of remote commands and configurations.

use super::{Area, Problem, Severity, digest, joined};
use crate::diagnostics::Status;
use crate::diagnostics::configuration::RefusedRevision;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let Some(remote) = &status.remote else { return Vec::new() };
    let trouble = remote.trouble.iter().map(|trouble| {
        let text = format!("commands that change anything are refused: {trouble}");
        Problem::new(Area::Remote, Severity::Major, "commands-refused", text)
    });
    let concerns = remote.concerns.iter().map(|concern| {
        Problem::new(Area::Remote, Severity::Major, format!("remote/{}", digest(concern)), concern.as_str())
    });
    trouble.chain(concerns).chain(remote.refused_revision.as_ref().map(refused)).collect()
}

fn refused(refused: &RefusedRevision) -> Problem {
    let RefusedRevision { revision, by, time, rolled_back, reasons } = refused;
    let became = if *rolled_back { "was rolled back" } else { "was refused" };
    let text = format!("configuration revision {revision} of {by} {became}: {}", joined(reasons));
    Problem::new(Area::Remote, Severity::Major, format!("revision-refused/{revision}"), text)
        .since(Some(*time))
        .remedy("push a higher revision without the fault, or `lineside config rollback` to settle on an earlier one")
}
