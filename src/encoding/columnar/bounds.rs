//! Counts within the protobuf message, before anything is allocated for them.
//!
//! A field of two bytes can become a structure of a hundred, so a message of a few megabytes could ask a decoder for
//! gigabytes. The walk allocates nothing: it looks at the tags alone (Protocol Buffers, "Encoding").

use super::READINGS_MAX;
use crate::encoding::DecodeError;

/// Most entries of one repeated field of a batch: tables, groups, qualities, texts, gaps. One table for each shape of rows
/// is what a gateway sends.
const ENTRIES_MAX: usize = 1 << 16;

/// Most numbers in one repeated field of a part of the batch: one for each column, or each run.
const NUMBERS_MAX: usize = 2 * READINGS_MAX;

/// Numbers of fields that are looked at; no field of the batch or of its parts is above.
const FIELDS: usize = 32;

/// Fields of a batch that are messages: tables, columns, qualities, gaps, thinned, clock offsets.
const PARTS: [usize; 6] = [15, 16, 17, 19, 21, 22];

/// Refuses a message whose repeated fields hold more than any gateway sends, or whose fields run over their end.
pub(super) fn check(message: &[u8]) -> Result<(), DecodeError> {
    let mut entries = [0_usize; FIELDS];
    let mut numbers = [[0_usize; FIELDS]; FIELDS];
    walk(message, &mut |field, content| {
        count("entries of one kind", &mut entries, field, 1, ENTRIES_MAX)?;
        match content {
            Content::Bytes(part) if PARTS.contains(&field) => walk(part, &mut |inner, content| {
                let held = match content {
                    Content::Number => 1,
                    // Packed numbers: each ends with a byte without the continuation bit.
                    Content::Bytes(packed) => packed.iter().filter(|byte| **byte < 0x80).count(),
                };
                count("numbers of one kind", &mut numbers[field], inner, held, NUMBERS_MAX)
            }),
            // Groups hold compressed bytes, whose numbers are counted by their own field.
            Content::Bytes(_) | Content::Number => Ok(()),
        }
    })
}

fn count(
    what: &'static str,
    counters: &mut [usize; FIELDS],
    field: usize,
    by: usize,
    limit: usize,
) -> Result<(), DecodeError> {
    // Fields of a later version are skipped by the decoder, too.
    let Some(counter) = counters.get_mut(field) else { return Ok(()) };
    *counter = counter.saturating_add(by);
    if *counter > limit { Err(DecodeError::TooLarge { what, limit }) } else { Ok(()) }
}

enum Content<'a> {
    /// A number of any width.
    Number,
    /// Text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
}

/// Calls `see` with each field and what it holds.
fn walk<'a>(
    mut rest: &'a [u8],
    see: &mut impl FnMut(usize, Content<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = usize::try_from(tag >> 3).unwrap_or(usize::MAX);
        let content = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                Content::Number
            }
            1 => skip(&mut rest, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).unwrap_or(usize::MAX);
                Content::Bytes(split(&mut rest, length)?)
            }
            5 => skip(&mut rest, 4)?,
            other => return Err(DecodeError::damaged(format!("a protobuf field of wire type {other}"))),
        };
        see(field, content)?;
    }
    Ok(())
}

fn skip<'a>(rest: &mut &'a [u8], length: usize) -> Result<Content<'a>, DecodeError> {
    split(rest, length).map(|_| Content::Number)
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    let short = || DecodeError::damaged("a protobuf field runs over the end of its message");
    let (taken, behind) = rest.split_at_checked(length).ok_or_else(short)?;
    *rest = behind;
    Ok(taken)
}

/// Base 128, least significant group first; at most ten bytes.
fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = split(rest, 1)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(DecodeError::damaged("a protobuf number of more than ten bytes"))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::encoding::wire;

    #[test]
    fn many_small_parts_are_refused_before_they_are_read() {
        let table = wire::Table { rows: 1, series: vec![1] };
        let many = wire::Batch { tables: vec![table; ENTRIES_MAX + 1], ..wire::Batch::default() };
        let bases = vec![0; NUMBERS_MAX + 1];
        let columns = wire::Columns { base: bases, ..wire::Columns::default() };
        let long = wire::Batch { columns: Some(columns), ..wire::Batch::default() };

        for batch in [many, long] {
            assert!(matches!(check(&batch.encode_to_vec()), Err(DecodeError::TooLarge { .. })));
        }
    }

    #[test]
    fn a_field_that_runs_over_its_end_is_damage() {
        for message in [&[0x7a, 0x05, 0x00][..], &[0x80; 11], &[0x79, 1], &[0x7d, 1], &[0x7b]] {
            assert!(matches!(check(message), Err(DecodeError::Damaged(_))), "{message:?}");
        }
        assert!(check(&[]).is_ok());
    }
}
