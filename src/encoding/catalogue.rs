//! The catalogue: what the series ids of columnar batches mean, as retained JSON messages of limited size.
//!
//! Parts are filled in order of the ids, and ids only grow: new series change the last part and those after it, never
//! an older full one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::text::{FORMAT, name};
use crate::model::{Epoch, Name, Scale, SeriesId, SeriesInfo, ValueKind};

/// What `type` says in a part of the catalogue.
pub(super) const TYPE: &str = "catalogue";

/// A part of the catalogue, field by field as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CataloguePart {
    /// `catalogue`.
    #[serde(rename = "type")]
    pub message: String,
    /// 1.
    pub format: u32,
    /// Site of the gateway.
    #[serde(with = "name")]
    pub site: Name,
    /// The gateway.
    #[serde(with = "name")]
    pub gateway: Name,
    /// Life of the database that gave the ids: the same id means another series in another epoch.
    pub epoch: Epoch,
    /// Number of this part, from 1 on.
    pub part: u32,
    /// In order of their ids.
    pub series: Vec<CatalogueSeries>,
}

/// A series as the catalogue lists it. Engineering value = number * multiplier / divisor + offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogueSeries {
    /// What batches call it.
    pub id: SeriesId,
    /// Name of the point.
    pub name: String,
    /// `site`, `gateway`, `device` and the labels of the device.
    pub labels: BTreeMap<String, String>,
    /// Unit of the engineering value; empty when it has none.
    pub unit: String,
    /// How good values are kept.
    pub kind: ValueKind,
    /// Factor.
    pub multiplier: f64,
    /// Divisor, never zero.
    pub divisor: f64,
    /// Added last.
    pub offset: f64,
    /// Meaning of each number of an enumeration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<i64, String>,
}

impl CatalogueSeries {
    fn new(id: SeriesId, info: &SeriesInfo) -> Self {
        Self {
            id,
            name: info.name.clone(),
            labels: info.labels.as_ref().clone(),
            unit: info.unit.clone(),
            kind: info.kind,
            multiplier: info.scale.multiplier,
            divisor: info.scale.divisor,
            offset: info.scale.offset,
            states: info.states.clone(),
        }
    }

    /// The series without its id.
    pub fn into_info(self) -> SeriesInfo {
        SeriesInfo {
            name: self.name,
            labels: Arc::new(self.labels),
            unit: self.unit,
            kind: self.kind,
            scale: Scale { multiplier: self.multiplier, divisor: self.divisor, offset: self.offset },
            states: self.states,
        }
    }
}

/// One message of the catalogue, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPart {
    /// Last level of its topic: `<first 8 digits of the epoch>-<part>`.
    pub name: String,
    /// JSON.
    pub payload: Vec<u8>,
}

/// The whole catalogue in parts of at most `limit_bytes`. A series that alone is larger gets a part of its own.
pub fn encode<'a>(
    site: &Name,
    gateway: &Name,
    epoch: Epoch,
    series: impl IntoIterator<Item = (SeriesId, &'a SeriesInfo)>,
    limit_bytes: usize,
) -> Vec<EncodedPart> {
    let empty = CataloguePart {
        message: TYPE.to_owned(),
        format: FORMAT,
        site: site.clone(),
        gateway: gateway.clone(),
        epoch,
        part: u32::MAX,
        series: Vec::new(),
    };
    let mut entries: Vec<CatalogueSeries> =
        series.into_iter().map(|(id, info)| CatalogueSeries::new(id, info)).collect();
    entries.sort_by_key(|entry| entry.id);

    let room = limit_bytes.saturating_sub(text(&empty).len());
    let mut parts: Vec<Vec<CatalogueSeries>> = Vec::new();
    let mut used = 0;
    for entry in entries {
        let bytes = text(&entry).len() + 1;
        match parts.last_mut() {
            Some(part) if used + bytes <= room => part.push(entry),
            Some(_) | None => {
                parts.push(vec![entry]);
                used = 0;
            }
        }
        used += bytes;
    }
    let encoded = |(part, series)| {
        let payload = text(&CataloguePart { part, series, ..empty.clone() });
        EncodedPart { name: format!("{:.8}-{part}", epoch.to_string()), payload }
    };
    (1..).zip(parts).map(encoded).collect()
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("text, numbers and maps with text or whole keys are always JSON")
}

/// The part in a payload that [`encode`] made.
///
/// # Errors
/// What is wrong with the bytes, in one line.
pub fn decode(payload: &[u8]) -> Result<CataloguePart, DecodeError> {
    let part: CataloguePart =
        serde_json::from_slice(payload).map_err(|error| DecodeError::damaged(error.to_string()))?;
    if part.format == FORMAT { Ok(part) } else { Err(DecodeError::Format(part.format)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::one_set::header;

    fn info(number: u32) -> SeriesInfo {
        SeriesInfo {
            name: format!("point_{number}"),
            labels: Arc::new(BTreeMap::from([("device".to_owned(), "press-1".to_owned())])),
            unit: "V".to_owned(),
            kind: ValueKind::Int,
            scale: Scale::new(0.1, -2.5),
            states: BTreeMap::from([(-1, "stopped".to_owned()), (2, "\"running\"".to_owned())]),
        }
    }

    fn catalogue(count: u32, limit_bytes: usize) -> Vec<EncodedPart> {
        let series: Vec<_> = (1..=count).map(|number| (SeriesId(number), info(number))).collect();
        let header = header();
        encode(&header.site, &header.gateway, header.epoch, series.iter().map(|(id, info)| (*id, info)), limit_bytes)
    }

    #[test]
    fn every_part_stays_below_the_limit_and_nothing_is_left_out() {
        let parts = catalogue(100, 2000);

        let mut listed = Vec::new();
        for part in &parts {
            assert!(part.payload.len() <= 2000, "{}", part.payload.len());
            listed.extend(decode(&part.payload).unwrap().series);
        }
        assert!(parts.len() > 5);
        assert_eq!(listed.iter().map(|series| series.id.0).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
        assert_eq!(listed[41].clone().into_info(), info(42));
    }

    #[test]
    fn new_series_leave_older_full_parts_as_they_were() {
        let before = catalogue(100, 2000);
        let after = catalogue(160, 2000);

        let full = before.len() - 1;
        assert_eq!(after[..full], before[..full]);
        assert_eq!(before[0].name, format!("{}-1", &header().epoch.to_string()[..8]));
    }

    #[test]
    fn a_series_larger_than_the_limit_has_a_part_of_its_own() {
        assert_eq!(catalogue(3, 10).len(), 3);
    }
}
