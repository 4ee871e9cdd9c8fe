//! A map that is written in the configuration itself: `profile = "generic"`.

use std::sync::Arc;

use crate::profile::{Profile, file};
use crate::settings::{Item, Section};

/// The profile of devices whose map stands beside them.
pub(super) const GENERIC: &str = "generic";

/// What a device says about its registers or its lines of text, if it does.
pub(super) struct OwnMap<'s, 'i> {
    modbus: Option<Section<'s, 'i>>,
    text: Option<Item<'s, 'i>>,
    points: Vec<Section<'s, 'i>>,
}

impl<'s, 'i> OwnMap<'s, 'i> {
    pub(super) fn take(device: &mut Section<'s, 'i>) -> Self {
        let modbus = device.has("modbus").then(|| device.section("modbus"));
        // Asked for all the same, so that both keys are known here.
        if modbus.is_none() {
            device.take("modbus");
        }
        Self { modbus, text: device.take("text"), points: device.sections("point") }
    }

    /// The map as a profile, or nothing after its faults were noted. `is_text_link` says what the link carries, where
    /// that is known.
    pub(super) fn read(self, device: &mut Section<'s, 'i>, is_text_link: Option<bool>) -> Option<Arc<Profile>> {
        if self.points.is_empty() {
            device.missing("point", "at least one [[device.point]] with a name, for profile = \"generic\"");
        }
        let profile = match (self.modbus, self.text) {
            (Some(_), Some(text)) => {
                text.fault("modbus and text exclude each other");
                None
            }
            (None, Some(text)) => file::of_lines(GENERIC, text.section()?, self.points),
            (None, None) if is_text_link == Some(true) => {
                device.missing("text", "how its lines look, [device.text] with [[device.text.pattern]]");
                None
            }
            // Without the key nothing is common to the points.
            (modbus, None) => file::of_map(GENERIC, modbus.unwrap_or_else(|| device.section("modbus")), self.points),
        };
        profile.filter(|profile| !profile.tag_names().is_empty()).map(Arc::new)
    }

    /// Every other profile brings its own map.
    pub(super) fn refuse(self) {
        const REASON: &str = "only with profile = \"generic\": every other profile brings its own map";
        self.points.iter().for_each(|point| point.fault(REASON));
        if let Some(section) = self.modbus {
            section.fault(REASON);
        }
        if let Some(item) = self.text {
            item.fault(REASON);
        }
    }
}
