//! A register map that is written in the configuration itself: `profile = "generic"`.

use std::sync::Arc;

use crate::profile::{Profile, file};
use crate::settings::{Item, Section};

/// The profile of devices whose map stands beside them.
pub(super) const GENERIC: &str = "generic";

/// What a device says about its registers, if it does.
pub(super) struct OwnMap<'s, 'i> {
    modbus: Option<Item<'s, 'i>>,
    points: Vec<Section<'s, 'i>>,
}

impl<'s, 'i> OwnMap<'s, 'i> {
    pub(super) fn take(device: &mut Section<'s, 'i>) -> Self {
        Self { modbus: device.take("modbus"), points: device.sections("point") }
    }

    /// The map as a profile, or nothing after its faults were noted.
    pub(super) fn read(self, device: &mut Section<'s, 'i>) -> Option<Arc<Profile>> {
        if self.points.is_empty() {
            device.missing("point", "at least one [[device.point]] with a name, for profile = \"generic\"");
            self.modbus.and_then(Item::section).map(Section::rest);
            return None;
        }
        let modbus = match self.modbus {
            Some(item) => item.section()?,
            // Nothing that the points have in common.
            None => device.section("modbus"),
        };
        file::of_map(GENERIC, modbus, self.points).map(Arc::new)
    }

    /// Every other profile brings its own map.
    pub(super) fn refuse(self) {
        const REASON: &str = "only with profile = \"generic\": every other profile brings its own map";
        self.points.iter().for_each(|point| point.fault(REASON));
        if let Some(item) = self.modbus {
            item.fault(REASON);
        }
    }
}
