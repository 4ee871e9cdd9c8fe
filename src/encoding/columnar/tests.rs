//! Round trips, damage below the checksum of the frame, and payloads made to be too large.

use std::sync::Arc;

use proptest::prelude::*;

use super::decode::decode_message;
use super::*;
use crate::encoding::one_set::{commits, expected, header};
use crate::encoding::{DecodeError, Withheld};
use crate::model::{CommitHeader, Fault, Observed, Row, Sequence, SeriesId, Timestamp, Value};

fn message(batch: &Batch) -> wire::Batch {
    Encoder::new().unwrap().message(batch).unwrap()
}

fn frame(message: &wire::Batch) -> Vec<u8> {
    zstd::bulk::compress(&message.encode_to_vec(), ZSTD_LEVEL).unwrap()
}

/// `seconds` commits of one row of `width` readings.
fn batch(seconds: u64, width: u32, observed: impl Fn(u64, u32) -> Observed) -> Batch {
    let series: Arc<[SeriesId]> = (1..=width).map(SeriesId).collect();
    let commit = |second: u64| {
        let observed = (0..width).map(|position| observed(second, position)).collect();
        let time = Timestamp(1_700_000_000_000 + 1000 * second.cast_signed());
        let header = CommitHeader {
            epoch: header().epoch,
            sequence: Sequence(second + 1),
            boot: BootId([1; 16]),
            clock: ClockState::Synchronised,
            wall_minus_monotonic_ms: 5,
        };
        Commit { header, records: Records::Readings(vec![Row { series: Arc::clone(&series), time, observed }]) }
    };
    Batch { header: header(), commits: (0..seconds).map(commit).collect(), withheld: Withheld::default() }
}

proptest! {
    #[test]
    fn any_commits_come_back(commits in commits(), part in prop::option::of(any::<u16>())) {
        let mut header = header();
        header.part = part.map(|first| crate::encoding::Part { first_index: first.into(), end_index: u32::MAX });
        let batch = Batch { header, commits, withheld: Withheld::default() };

        let mut encoder = Encoder::new().unwrap();
        let payload = encoder.encode(&batch).unwrap();

        prop_assert_eq!(decode(&payload).unwrap(), expected(&batch));
        prop_assert_eq!(encoder.encode(&batch).unwrap(), payload, "the same batch gives the same bytes");
    }

    #[test]
    fn damage_that_no_checksum_catches_never_panics(
        commits in commits(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = message(&Batch { header: header(), commits, withheld: Withheld::default() }).encode_to_vec();
        for (position, byte) in &damage {
            let position = position.index(bytes.len());
            bytes[position] = *byte;
        }

        if let Ok(message) = wire::Batch::decode(&*bytes) {
            let _ = decode_message(&message);
        }
    }

    #[test]
    fn damaged_numbers_never_panic(
        seed in any::<u64>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let noisy = |second: u64, position: u32| {
            let noise = (second + 1).wrapping_mul(u64::from(position) + 7).wrapping_mul(seed | 1);
            Observed::Good(Value::Int((noise >> (position * 8)).cast_signed()))
        };
        let mut message = message(&batch(40, 8, noisy));
        for (position, byte) in &damage {
            let group = position.index(message.groups.len());
            let pco = &mut message.groups[group].pco;
            let position = position.index(pco.len());
            pco[position] = *byte;
        }

        let _ = decode_message(&message);
    }
}

#[test]
fn a_large_batch_is_encoded_in_several_tables_and_groups() {
    let batch = batch(2000, 60, |second, position| {
        let noise = (second * 7919 + u64::from(position) * 104_729).wrapping_mul(2_654_435_761) >> 7;
        Observed::Good(Value::F32((noise % 4096) as f32 * 0.37))
    });

    let message = message(&batch);

    assert!(message.tables.len() > 3 && message.groups.len() > 3);
    assert!(decode(&frame(&message)).unwrap() == expected(&batch));
}

#[test]
fn a_silent_device_costs_next_to_nothing() {
    let batch = batch(60, 50, |_, _| Observed::Bad(Fault::Timeout));

    let payload = encode(&batch).unwrap();

    assert!(payload.len() < 300, "{} bytes", payload.len());
    assert_eq!(decode(&payload).unwrap(), expected(&batch));
}

#[test]
fn a_withheld_reading_is_absent_and_moves_no_identity() {
    let mut message = message(&batch(3, 2, |second, _| Observed::Good(Value::Int(second.cast_signed()))));
    // Given that the second row lacks the first of its two readings: 0 and 2 remain of 0, 1, 2.
    let column = COMMIT_AND_ROW_COLUMNS;
    let code = vec![0, wire::WITHHELD, 0];
    message.qualities = vec![wire::Quality { first_column: column as u32, count: 1, code, rows: vec![1, 1, 1] }];
    message.columns.as_mut().unwrap().slope[column] *= 2;

    let decoded = decode_message(&message).unwrap();

    let identities: Vec<_> = decoded.readings.iter().map(|reading| (reading.sequence.0, reading.index)).collect();
    assert_eq!(identities, [(1, 0), (1, 1), (2, 1), (3, 0), (3, 1)]);
}

const COMMIT_AND_ROW_COLUMNS: usize = 7;

#[test]
fn a_small_payload_cannot_claim_more_readings_than_any_gateway_sends() {
    let mut message = message(&batch(2, 3, |_, _| Observed::Good(Value::Int(1))));
    message.tables[0].rows = u32::MAX;

    let refusal = decode_message(&message).unwrap_err();

    assert_eq!(refusal, DecodeError::TooLarge { what: "readings", limit: READINGS_MAX });
}

#[test]
fn a_small_frame_cannot_unpack_without_end() {
    let bomb = zstd::bulk::compress(&vec![0; 4 * MESSAGE_BYTES_MAX], 1).unwrap();

    assert!(bomb.len() < 10_000);
    assert!(decode(&bomb).is_err());
}

#[test]
fn another_format_is_refused_by_its_number() {
    let mut message = message(&batch(1, 1, |_, _| Observed::Good(Value::Bool(true))));
    message.format = 2;

    assert_eq!(decode(&frame(&message)).unwrap_err(), DecodeError::Format(2));
}

#[test]
fn a_commit_that_would_change_its_identity_is_refused() {
    let mut foreign = batch(2, 1, |_, _| Observed::Good(Value::Bool(true)));
    foreign.header.first = Sequence(2);

    assert!(matches!(encode(&foreign), Err(EncodeError::ForeignCommit { sequence: Sequence(1), .. })));
}
