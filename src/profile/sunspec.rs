//! Maps that a device lays out itself: SunSpec models, one behind the other.
//!
//! A SunSpec device begins with a marker, then holds models: an id, a length, and as many registers. Which models
//! there are, and where, differs from device to device and from firmware to firmware, so a profile names points by
//! model and offset, and where they are is known once the chain was walked (SunSpec Device Information Model 1.1, 6).

use super::point::{Point, Registers, WordOrder};
use super::variant::FirmwareMap;
use super::version::VersionRange;

/// Registers of the id and the length that begin each model.
pub const HEADER: u16 = 2;
/// Where a map may begin, in the order in which they are tried (SunSpec Device Information Model 1.1, 3.2).
pub const BASES: [u16; 3] = [40000, 50000, 0];
/// The common model: who the device is.
pub const COMMON: u16 = 1;
/// What stands at its begin: `SunS`.
pub const MARK: [u16; 2] = [0x5375, 0x6E53];

/// A model as a device has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelAt {
    /// Which model.
    pub id: u16,
    /// Protocol address of its id.
    pub address: u16,
    /// Registers behind id and length.
    pub length: u16,
}

/// What a profile wants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMap {
    /// Models with this layout.
    pub ids: Vec<u16>,
    /// Which of the models with these ids on a device, from 1: a device may have several meters.
    pub instance: usize,
    /// Index in the profile, and the point; its address counts from the id of the model.
    pub points: Vec<(usize, Point)>,
}

impl ModelMap {
    /// Registers behind id and length up to the last point.
    fn length(&self) -> u16 {
        let end = |(_, point): &(usize, Point)| point.address.saturating_add(point.encoding.width());
        self.points.iter().map(end).max().unwrap_or(HEADER).saturating_sub(HEADER)
    }
}

/// The map of a device with the models of `chain`. What it does not have, or has too short, is absent. Where several
/// of its models offer a point, the first of the chain gives it.
pub fn place(models: &[ModelMap], points: &[Point], chain: &[ModelAt]) -> FirmwareMap {
    let mut map = FirmwareMap {
        name: name(chain),
        models: Vec::new(),
        versions: VersionRange::default(),
        points: points.to_vec(),
        absent: vec![true; points.len()],
    };
    for (position, at) in chain.iter().enumerate() {
        for model in models.iter().filter(|model| model.ids.contains(&at.id)) {
            let earlier = chain[..position].iter().filter(|earlier| model.ids.contains(&earlier.id)).count();
            if earlier + 1 == model.instance {
                place_model(&mut map, model, *at);
            }
        }
    }
    map
}

fn place_model(map: &mut FirmwareMap, model: &ModelMap, at: ModelAt) {
    let has = |point: &Point| {
        let end = u32::from(point.address) + u32::from(point.encoding.width());
        end <= u32::from(at.length) + u32::from(HEADER) && u32::from(at.address) + end <= 1 << 16
    };
    let has_index = |wanted: usize| model.points.iter().any(|(index, point)| *index == wanted && has(point));
    for (index, point) in &model.points {
        if map.absent[*index] && has(point) && point.scale_factor.is_none_or(has_index) {
            map.absent[*index] = false;
            map.points[*index] = Point { address: at.address + point.address, ..point.clone() };
        }
    }
}

/// The models of a chain in words: `models 1, 103, 160`.
pub fn name(chain: &[ModelAt]) -> String {
    let ids: Vec<String> = chain.iter().map(|at| at.id.to_string()).collect();
    match ids.as_slice() {
        [] => "no model".to_owned(),
        [one] => format!("model {one}"),
        several => format!("models {}", several.join(", ")),
    }
}

/// How many models of `chain`, but the common one, have points in `models`.
pub fn coverage(models: &[ModelMap], chain: &[ModelAt]) -> usize {
    let is_read = |(position, at): &(usize, &ModelAt)| {
        let earlier =
            |model: &ModelMap| chain[..*position].iter().filter(|other| model.ids.contains(&other.id)).count();
        at.id != COMMON && models.iter().any(|model| model.ids.contains(&at.id) && earlier(model) + 1 == model.instance)
    };
    chain.iter().enumerate().filter(is_read).count()
}

/// A chain with every model once, as no device has it: what can be said of a device that was not heard yet.
pub(super) fn every_model(models: &[ModelMap]) -> Vec<ModelAt> {
    let mut address = BASES[0] + 2;
    let mut chain = Vec::new();
    for model in models {
        let Some(id) = model.ids.first() else { continue };
        chain.push(ModelAt { id: *id, address, length: model.length() });
        address = address.saturating_add(HEADER + model.length());
    }
    chain
}

/// The cheapest request that shows whether a device with such a map answers.
pub fn probe() -> Registers {
    Registers { address: BASES[0], count: 2 }
}

/// Every SunSpec value has its most significant register first (SunSpec Device Information Model 1.1, 4.1).
pub(super) const WORD_ORDER: WordOrder = WordOrder::HighFirst;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Protocol, file};

    const PROFILE: &str = r#"
        manufacturer = "any"
        model = "SunSpec"
        [modbus]
        table = "holding"
        encoding = "u16"
        [[sunspec]]
        ids = [101, 103]
        point = [
          { name = "power_w", address = 4, encoding = "i16", scale_factor = "power_factor", unit = "W" },
          { name = "power_factor", address = 5, encoding = "i16", polled = false },
          { name = "state", address = 6 },
        ]
        [[sunspec]]
        ids = [113]
        point = [{ name = "power_w", address = 8, encoding = "f32", unit = "W" }]
        [[sunspec]]
        ids = [201]
        point = [{ name = "meter_w", address = 2 }]
        [[sunspec]]
        ids = [201]
        instance = 2
        point = [{ name = "meter_2_w", address = 2 }]
    "#;

    fn placed(chain: &[(u16, u16, u16)]) -> Vec<(String, Option<u16>)> {
        let profile = file::parse("test", "test", PROFILE).unwrap();
        let Protocol::Modbus(modbus) = profile.protocol else { panic!("it is a Modbus profile") };
        let chain: Vec<ModelAt> =
            chain.iter().map(|(id, address, length)| ModelAt { id: *id, address: *address, length: *length }).collect();
        let map = place(&modbus.models, &modbus.points, &chain);
        let address = |(point, absent): (&Point, &bool)| (point.name.clone(), (!absent).then_some(point.address));
        map.points.iter().zip(&map.absent).map(address).collect()
    }

    fn addresses(chain: &[(u16, u16, u16)]) -> [Option<u16>; 5] {
        let placed: Vec<Option<u16>> = placed(chain).into_iter().map(|(_, address)| address).collect();
        placed.try_into().unwrap()
    }

    #[test]
    fn points_lie_where_their_models_are() {
        assert_eq!(addresses(&[(1, 2, 66), (103, 70, 50)]), [Some(74), Some(75), Some(76), None, None]);
        assert_eq!(addresses(&[(113, 100, 60)]), [Some(108), None, None, None, None]);
        assert_eq!(addresses(&[(201, 10, 5), (64001, 17, 3), (201, 22, 5)]), [None, None, None, Some(12), Some(24)]);
    }

    #[test]
    fn what_a_short_model_lacks_is_absent_and_so_is_what_scales_by_it() {
        // Id, length and three registers: 2, 3, 4; the scale factor at 5 is missing.
        assert_eq!(addresses(&[(103, 70, 3)]), [None, None, None, None, None]);
        assert_eq!(addresses(&[(103, 70, 4)]), [Some(74), Some(75), None, None, None]);
        assert_eq!(addresses(&[(103, 65531, 50)]), [None, None, None, None, None]);
    }

    #[test]
    fn the_first_of_two_models_that_offer_a_point_gives_it() {
        assert_eq!(addresses(&[(113, 10, 60), (103, 100, 50)])[0], Some(18));
        assert_eq!(addresses(&[(103, 100, 50), (113, 200, 60)])[0], Some(104));
    }

    #[test]
    fn a_point_that_models_keep_differently_is_a_double_in_all() {
        let profile = file::parse("test", "test", PROFILE).unwrap();
        let Protocol::Modbus(modbus) = profile.protocol else { panic!("it is a Modbus profile") };

        let kinds: Vec<crate::model::ValueKind> = modbus
            .models
            .iter()
            .flat_map(|model| &model.points)
            .filter(|(index, _)| *index == 0)
            .map(|(_, p)| p.kind())
            .collect();

        assert_eq!(kinds, [crate::model::ValueKind::F64; 2]);
    }
}
