//! The maps of a device type whose registers changed with its firmware, and which of them fits.

use super::point::Point;
use super::version::{Version, VersionRange};

/// The map of some firmwares (or sibling models) of a device type.
#[derive(Debug, Clone, PartialEq)]
pub struct FirmwareMap {
    /// What it is called where it is shown: `from 2.6.2`.
    pub name: String,
    /// Models it is for; empty for all.
    pub models: Vec<String>,
    /// Firmware versions it is for.
    pub versions: VersionRange,
    /// The points, at the same indices as in the profile. Those that are absent stand as the profile has them.
    pub points: Vec<Point>,
    /// True for the points that these devices do not have.
    pub absent: Vec<bool>,
}

impl FirmwareMap {
    /// True when this map is for devices of `model`.
    fn is_for(&self, model: Option<&str>) -> bool {
        self.models.is_empty() || model.is_some_and(|model| self.models.iter().any(|known| known == model))
    }
}

/// Which map was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Index of the map.
    pub map: usize,
    /// False when the firmware is not one that the profile knows: the nearest older map stands in.
    pub is_known: bool,
}

/// The map for a device of `model` and `version`, both as far as they are known. `maps` begins with that of the
/// profile's own points, which is for every version that no other names unless it says otherwise.
///
/// Of a version in none of them, the nearest older map is chosen, or the oldest, and it is not known. When nothing is
/// known the first map stands in.
pub fn choose(maps: &[FirmwareMap], model: Option<&str>, version: Option<&Version>) -> Chosen {
    let is_model_told = model.is_some() || maps.iter().all(|map| map.models.is_empty());
    let candidates: Vec<usize> = (0..maps.len()).filter(|index| maps[*index].is_for(model)).collect();
    let is_open = |map: &FirmwareMap| map.versions == VersionRange::default();
    let Some(version) = version else {
        // Only models differ: what was found for the model goes before what is for all.
        let named = candidates.iter().copied().find(|index| !maps[*index].models.is_empty());
        let map = named.or_else(|| candidates.first().copied()).unwrap_or(0);
        let of_same_models = candidates.iter().filter(|index| maps[**index].models == maps[map].models);
        return Chosen { map, is_known: is_model_told && of_same_models.count() == 1 && is_open(&maps[map]) };
    };
    // Maps that name a model go before those for all, ranges before what is left.
    let mut ranked: Vec<usize> =
        candidates.iter().copied().filter(|index| maps[*index].versions.contains(version)).collect();
    ranked.sort_by_key(|index| (maps[*index].models.is_empty(), is_open(&maps[*index]), *index));
    if let Some(map) = ranked.first() {
        return Chosen { map: *map, is_known: is_model_told };
    }
    let starts_before = |index: &&usize| maps[**index].versions.from.as_ref().is_none_or(|from| from <= version);
    let from = |index: &&usize| maps[**index].versions.from.clone();
    let older = candidates.iter().filter(starts_before).max_by_key(from);
    let map = older.or_else(|| candidates.iter().min_by_key(from)).copied().unwrap_or(0);
    Chosen { map, is_known: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::version::Scheme;

    fn map(models: &[&str], versions: &str) -> FirmwareMap {
        FirmwareMap {
            name: versions.to_owned(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            versions: VersionRange::parse(versions, Scheme::Dotted).unwrap(),
            points: Vec::new(),
            absent: Vec::new(),
        }
    }

    fn chosen(maps: &[FirmwareMap], model: Option<&str>, version: &str) -> (usize, bool) {
        let version = Scheme::Dotted.parse(version);
        let chosen = choose(maps, model, version.as_ref());
        (chosen.map, chosen.is_known)
    }

    #[test]
    fn the_map_changes_exactly_at_the_border() {
        let maps = [map(&[], ".."), map(&[], "2.6.2..")];

        assert_eq!(chosen(&maps, None, "2.6.1"), (0, true));
        assert_eq!(chosen(&maps, None, "2.6.2"), (1, true));
        assert_eq!(chosen(&maps, None, "3"), (1, true));
        assert_eq!(chosen(&maps, None, "not read"), (0, false));
    }

    #[test]
    fn an_unknown_version_gets_the_nearest_older_map() {
        let maps = [map(&[], "1..2"), map(&[], "2..3"), map(&[], "4..5")];

        assert_eq!(chosen(&maps, None, "3.5"), (1, false));
        assert_eq!(chosen(&maps, None, "9"), (2, false));
        assert_eq!(chosen(&maps, None, "0.9"), (0, false));
    }

    #[test]
    fn a_map_of_the_model_goes_before_one_for_all() {
        let maps = [map(&[], ".."), map(&["P40"], "..1.2.1"), map(&["P40"], "1.2.1.."), map(&["P20"], "..")];

        assert_eq!(chosen(&maps, Some("P40"), "1.2.0"), (1, true));
        assert_eq!(chosen(&maps, Some("P40"), "1.2.1"), (2, true));
        assert_eq!(chosen(&maps, Some("P30"), "3.10"), (0, true));
        assert_eq!(chosen(&maps, Some("P20"), "not read"), (3, true));
        assert_eq!(chosen(&maps, Some("P40"), "not read"), (1, false));
        assert_eq!(chosen(&maps, None, "1.2.1"), (0, false));
    }
}
