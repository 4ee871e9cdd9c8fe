//! Finds commits in bytes that may be anything: what is left of a database. Pure.
//!
//! A commit carries its identity and a checksum of all of it, so one that is found whole is what was stored, wherever
//! the engine put it and whatever has become of the engine's own order.

use super::commit::{ENVELOPE, Envelope, VERSION, checksum_matches};

/// What a commit begins with.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=VERSION;

/// Shows each commit in `bytes` to `found`, with where it begins. Returns how many bytes are done with: what comes after them may begin a
/// commit that ends beyond `bytes`. With `is_end` nothing comes after them.
pub fn carve(bytes: &[u8], is_end: bool, mut found: impl FnMut(usize, &Envelope, &[u8])) -> usize {
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| VERSIONS.contains(byte)) {
        at += next;
        let rest = &bytes[at..];
        if rest.len() < ENVELOPE {
            return if is_end { bytes.len() } else { at };
        }
        let Some(envelope) = Envelope::read(rest).ok().filter(Envelope::is_plausible) else {
            at += 1;
            continue;
        };
        let length = envelope.stored_length();
        match rest.get(..length) {
            Some(whole) if checksum_matches(whole) => {
                found(at, &envelope, whole);
                at += length;
            }
            None if !is_end => return at,
            Some(_) | None => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::commit::{ClockReading, Codec, seal};
    use crate::model::{BootId, ClockState, Epoch, Lane, Observed, Records, Row, Sequence, SeriesId, Timestamp, Value};

    fn commit(sequence: u64) -> Vec<u8> {
        let clock = ClockReading { boot: BootId([1; 16]), state: ClockState::Local, wall_minus_monotonic_ms: 0 };
        let observed = (0..50).map(|number| Observed::Good(Value::Int(number * 7 + sequence as i64))).collect();
        let row = Row { series: (0..50).map(SeriesId).collect(), time: Timestamp(sequence as i64), observed };
        let mut bytes = Codec::new().unwrap().encode(Lane::Telemetry, &Records::Readings(vec![row]), clock).unwrap();
        seal(&mut bytes, Epoch([9; 16]), Sequence(sequence));
        bytes
    }

    /// As a file is read: part by part.
    fn carved(bytes: &[u8], part: usize) -> Vec<u64> {
        let (mut kept, mut sequences) = (Vec::new(), Vec::new());
        let mut parts = bytes.chunks(part).peekable();
        while let Some(part) = parts.next() {
            kept.extend_from_slice(part);
            let done = carve(&kept, parts.peek().is_none(), |_, envelope, _| {
                sequences.push(envelope.header.sequence.0);
            });
            kept.drain(..done);
        }
        sequences
    }

    proptest! {
        #[test]
        fn commits_are_found_among_anything(
            between in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..200), 1..8),
            part in 1_usize..700,
        ) {
            let mut bytes = Vec::new();
            for (noise, sequence) in between.iter().zip(1..) {
                bytes.extend(noise);
                bytes.extend(commit(sequence));
            }

            prop_assert_eq!(carved(&bytes, part), (1..=between.len() as u64).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_no_commit(bytes: Vec<u8>) {
            prop_assert_eq!(carve(&bytes, true, |_, _, _| panic!("a commit in noise")), bytes.len());
        }
    }

    #[test]
    fn a_commit_with_one_bit_wrong_is_none_and_hides_no_other() {
        let mut bytes = [commit(1), commit(2), commit(3)].concat();
        let middle = commit(1).len() + 30;
        bytes[middle] ^= 4;

        assert_eq!(carved(&bytes, 100), [1, 3]);
    }
}
