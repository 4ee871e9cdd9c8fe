//! Problems of the store.

use super::{Area, Problem, Severity};
use crate::diagnostics::Status;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let store = &status.store;
    if store.writable {
        return Vec::new();
    }
    let reason = store.not_writable_because.as_deref().unwrap_or("no reason is known");
    let text = format!(
        "the store cannot be written: {reason}; {} KiB of the newest records wait in memory, {} have been delivered \
         without being stored",
        store.waiting_bytes.div_ceil(1024),
        store.delivered_unstored
    );
    let problem = Problem::new(Area::Store, Severity::Critical, "store-not-writable", text);
    vec![problem.since(store.not_writable_since).remedy("make room or replace the disk")]
}
