//! Looks at every checksum of a log.

use std::io;

use super::super::Verification;
use super::format::Deed;
use super::scan::{Found, scan};
use super::{Log, files};

impl Log {
    /// Reads every segment again. What stands behind the last batch that counts is no damage: a power cut left it.
    pub fn verify(&self) -> io::Result<Verification> {
        let mut verification = Verification::default();
        let mut damage = Vec::new();
        let mut strays = 0;
        for segment in self.ledger.segments() {
            let name = files::path(&self.directory, segment);
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut end = 0;
            let length = scan(&files::open(&self.directory, segment)?, segment, |found| {
                if found.is_stray {
                    let (from, to, changes) = (found.start, found.head.end(found.start), found.operations.len());
                    damage.push(format!("{name}: no batch can be read from {from} to {to}, but {changes} changes"));
                    strays += values(&found);
                    return;
                }
                if found.head.number >= self.next {
                    return;
                }
                // Only now is it certain that what could not be read before was once whole.
                damage.drain(..).for_each(|what| verification.add_damage(what));
                if found.is_after_damage {
                    verification.add_damage(format!("{name}: no batch can be read before {}", found.start));
                }
                if !found.is_whole {
                    verification.add_damage(in_batch(&name, &found));
                }
                verification.values += values(&found) + std::mem::take(&mut strays);
                end = found.head.end(found.start);
            })?;
            verification.bytes += length;
            if length > end {
                damage.push(format!("{name}: no batch can be read from {end} on"));
            }
        }
        Ok(verification)
    }
}

fn values(found: &Found) -> u64 {
    found.operations.iter().filter(|operation| operation.deed == Deed::Put).count() as u64
}

fn in_batch(name: &str, found: &Found) -> String {
    let (start, readable, all) = (found.start, found.operations.len(), found.head.operations);
    format!("{name}: of the batch at {start} {readable} of {all} changes can be read")
}
