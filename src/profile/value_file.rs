//! What the raw number of a point means: scale, range, sentinels, states.
//!
//! The kind of value is `None` where the encoding has a fault: then only what is wrong with any kind is noted.

use std::collections::BTreeMap;

use super::encoding_file::refuse;
use super::point::Encoding;
use crate::model::{Scale, ValueKind};
use crate::settings::Item;

/// Scale and offset of a number.
pub(super) fn read_scale(scale: Option<Item<'_, '_>>, offset: Option<Item<'_, '_>>, kind: Option<ValueKind>) -> Scale {
    if !kind.is_none_or(is_number) {
        refuse(scale.as_ref(), "only for numbers");
        refuse(offset.as_ref(), "only for numbers");
        return Scale::ONE;
    }
    let factor = scale.and_then(|item| match item.number()? {
        0.0 => {
            item.fault("must not be 0");
            None
        }
        factor => Some(factor),
    });
    let offset = offset.and_then(|item| item.number());
    Scale::new(factor.unwrap_or(1.0), offset.unwrap_or(0.0))
}

/// `[lowest, highest]` in engineering values.
pub(super) fn read_range(item: Item<'_, '_>, kind: Option<ValueKind>) -> Option<(f64, f64)> {
    if !kind.is_none_or(is_number) {
        item.fault("only for numbers");
        return None;
    }
    let values: Vec<f64> = item.clone().list()?.iter().map(Item::number).collect::<Option<_>>()?;
    match values[..] {
        [lowest, highest] if lowest <= highest => Some((lowest, highest)),
        _ => {
            item.fault("must be [lowest, highest] in engineering values");
            None
        }
    }
}

pub(super) fn read_sentinels(item: Item<'_, '_>, encoding: Option<Encoding>) -> Vec<u64> {
    let bits = match encoding {
        Some(Encoding::Bit(_) | Encoding::Text { .. } | Encoding::WideText { .. }) => {
            item.fault("only for numbers");
            return Vec::new();
        }
        Some(Encoding::Bits { length, .. } | Encoding::SignedBits { length, .. }) => u32::from(length),
        Some(encoding) => (16 * u32::from(encoding.width())).clamp(16, 64),
        None => 64,
    };
    let most = u64::MAX >> (64 - bits);
    let read_one = |item: Item<'_, '_>| {
        let sentinel = item.any_integer().and_then(|number| u64::try_from(number).ok());
        let sentinel = sentinel.filter(|sentinel| *sentinel <= most);
        if sentinel.is_none() {
            item.fault(format!("must be the raw bits, \"0x0\" to \"{most:#X}\"").replace("0X", "0x"));
        }
        sentinel
    };
    item.list().into_iter().flatten().filter_map(read_one).collect()
}

pub(super) fn read_states(item: Item<'_, '_>, kind: Option<ValueKind>) -> BTreeMap<i64, String> {
    match kind {
        None | Some(ValueKind::Int | ValueKind::Bool) => {}
        Some(ValueKind::Uint | ValueKind::F32 | ValueKind::F64 | ValueKind::Text) => {
            item.fault("only for whole numbers of up to 32 bits, signed ones of 64, and bits");
            return BTreeMap::new();
        }
    }
    let Some(section) = item.section() else { return BTreeMap::new() };
    let read_one = |(number, item): (String, Item<'_, '_>)| {
        let number = number.parse().ok();
        if number.is_none() {
            item.fault("the key must be a whole number in quotes, such as \"0\" = \"off\"");
        }
        number.zip(item.text())
    };
    section.rest().into_iter().filter_map(read_one).collect()
}

fn is_number(kind: ValueKind) -> bool {
    match kind {
        ValueKind::Int | ValueKind::Uint | ValueKind::F32 | ValueKind::F64 => true,
        ValueKind::Bool | ValueKind::Text => false,
    }
}
