//! What the database takes of memory. A program of its own: the kernel counts by process.

#![cfg(test)]

use lineside::database::{Batch, Database, EngineKind};
use lineside::diagnostics::process::ProcessStatus;
use lineside::kernel;

#[test]
fn memory_stays_the_same_while_the_database_grows() {
    const VALUE_BYTES: usize = 3000;
    kernel::keep_memory_together();
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("database"), EngineKind::default()).unwrap();
    let before = ProcessStatus::now().memory_bytes;

    // As many commits as a plant of 2,500 readings a second gives in an hour.
    for number in 0_u64..9000 {
        let value: Vec<u8> = (0..VALUE_BYTES).map(|_| fastrand::u8(..)).collect();
        let mut batch = Batch::default();
        batch.put(&number.to_be_bytes(), &value);
        database.apply(batch).unwrap();
        if number % 3 == 0 {
            database.flush().unwrap();
        }
    }

    let growth = ProcessStatus::now().memory_peak_bytes - before;
    assert!(growth < 14 << 20, "grew by {growth} bytes for {} bytes of values", 9000 * VALUE_BYTES);
}
