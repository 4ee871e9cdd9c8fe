//! Problems of the store.

use super::{Area, Problem, Severity};
use crate::diagnostics::Status;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    not_writable(status).into_iter().chain(open_commit_not_kept(status)).collect()
}

/// Where the owner switched it off, that is no problem.
fn open_commit_not_kept(status: &Status) -> Option<Problem> {
    let open_commit = &status.store.open_commit;
    let reason = open_commit.not_kept_because.as_deref()?;
    let text = format!("a kill of the agent costs readings that are not yet stored: {reason}");
    let problem = Problem::new(Area::Store, Severity::Minor, "open-commit-not-kept", text);
    let remedy = "give the agent a directory of its own in memory, with open_commit in [store], or make room there";
    Some(problem.since(open_commit.not_kept_since).remedy(remedy))
}

fn not_writable(status: &Status) -> Option<Problem> {
    let store = &status.store;
    if store.writable {
        return None;
    }
    let reason = store.not_writable_because.as_deref().unwrap_or("no reason is known");
    let since = store.not_writable_since.map(|since| format!(" since {since}")).unwrap_or_default();
    let text = format!(
        "{reason}: the store cannot be written{since}; {} KiB of the newest records wait in memory, {} have been \
         delivered without being stored",
        store.waiting_bytes.div_ceil(1024),
        store.delivered_unstored
    );
    let problem = Problem::new(Area::Store, Severity::Critical, "store-not-writable", text);
    Some(problem.since(store.not_writable_since).remedy("make room or replace the disk"))
}
