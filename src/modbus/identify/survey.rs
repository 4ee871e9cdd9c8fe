//! Who is there? Every profile tried on a device of which nothing is known.

use std::sync::Arc;

use super::inquiry::{Inquiry, Verdict};
use super::{Ask, Asker, Reply};
use crate::modbus::PollError;
use crate::profile::identification::{CommonText, Expected, Identification, ModelMark, Place, VersionSource};
use crate::profile::sunspec;
use crate::profile::{Profile, Protocol};

/// What a device says about itself, and the profiles that fit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Who makes it.
    pub vendor: Option<String>,
    /// What it is called.
    pub product: Option<String>,
    /// Its firmware, as it writes it.
    pub version: Option<String>,
    /// The profiles that recognise it, those with a known firmware first.
    pub matches: Vec<Match>,
}

/// A profile that recognises a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Id of the profile.
    pub profile: String,
    /// Which model of the profile.
    pub model: String,
    /// Its firmware, as the profile reads it.
    pub version: Option<String>,
    /// The variant of the map; `None` when the profile has only one.
    pub map: Option<String>,
    /// False when the profile does not know this firmware.
    pub is_known: bool,
}

/// Asks a device who it is: its identification objects, the SunSpec common model, then what each of `profiles` looks
/// at. Each question is asked once; all of them only read.
///
/// # Errors
///
/// When the device does not answer at all, or the link breaks.
pub async fn survey(device: &mut impl Asker, profiles: &[Arc<Profile>]) -> Result<Found, PollError> {
    let mut asked = Asked::default();
    let mut found = Found::default();
    let objects = [Place::Object(0), Place::Object(1), Place::Object(2)];
    let common = [CommonText::Manufacturer, CommonText::Model, CommonText::Version].map(Place::SunSpec);
    for [vendor, product, version] in [objects, common] {
        let mut texts = Vec::new();
        for place in [vendor, product, version] {
            texts.push(asked.text(device, place).await?);
        }
        if found.vendor.is_none() && found.product.is_none() {
            found.version = texts.pop().flatten();
            found.product = texts.pop().flatten();
            found.vendor = texts.pop().flatten();
        }
    }
    let mut by_chain: Vec<(usize, usize, Match)> = Vec::new();
    for profile in profiles {
        let Protocol::Modbus(modbus) = &profile.protocol else { continue };
        if modbus.identification.models.is_empty() && !modbus.identification.walks_chain {
            continue;
        }
        let mut inquiry = Inquiry::new(&modbus.identification, None);
        asked.answer(device, &mut inquiry).await?;
        let identity = inquiry.conclude(&modbus.maps);
        let covered = sunspec::coverage(&modbus.models, &identity.models);
        if identity.model.is_none() && covered > 0 {
            let found = Match {
                profile: profile.id.clone(),
                model: sunspec::name(&identity.models),
                version: identity.version.as_ref().map(ToString::to_string),
                map: None,
                is_known: true,
            };
            by_chain.push((covered, modbus.points.len(), found));
        }
        if let Some(model) = identity.model {
            found.matches.push(Match {
                profile: profile.id.clone(),
                model,
                version: identity.version.map(|version| version.to_string()),
                map: modbus.maps.get(identity.chosen.map).map(|map| map.name.clone()),
                is_known: identity.verdict == Verdict::Accepted,
            });
        }
    }
    by_chain.sort_by_key(|(covered, points, _)| (std::cmp::Reverse(*covered), *points));
    found.matches.sort_by_key(|found| !found.is_known);
    // A profile that knows the very model goes before one for all devices with such a chain.
    found.matches.extend(by_chain.into_iter().map(|(.., found)| found));
    if asked.heard || asked.replies.is_empty() { Ok(found) } else { Err(asked.silence()) }
}

/// All that was asked so far.
#[derive(Default)]
struct Asked {
    replies: Vec<(Ask, Result<Reply, PollError>)>,
    /// The device has answered something.
    heard: bool,
}

/// Questions that may stay without an answer before a device counts as silent.
const SILENT_MAX: usize = 2;

impl Asked {
    /// Asks what `inquiry` wants to know, as far as it is not known yet.
    async fn answer(&mut self, device: &mut impl Asker, inquiry: &mut Inquiry) -> Result<(), PollError> {
        while let Some(ask) = inquiry.next() {
            if !self.replies.iter().any(|(known, _)| *known == ask) {
                self.ask(device, ask).await?;
            }
            let reply = self.replies.iter().find(|(known, _)| *known == ask);
            if let Some((_, reply)) = reply {
                inquiry.take(ask, reply.as_ref().cloned());
            }
            // It wants an answer to this, and gets none: what it knows has to do.
            if inquiry.next() == Some(ask) {
                break;
            }
        }
        Ok(())
    }

    async fn ask(&mut self, device: &mut impl Asker, ask: Ask) -> Result<(), PollError> {
        let reply = device.ask(ask).await;
        match reply {
            Err(error) if error.ends_session() => return Err(error),
            reply => {
                self.heard |= reply.as_ref().map_or_else(PollError::is_answer, |_| true);
                self.replies.push((ask, reply));
            }
        }
        if !self.heard && self.replies.len() >= SILENT_MAX { Err(self.silence()) } else { Ok(()) }
    }

    /// The last thing that went wrong.
    fn silence(&mut self) -> PollError {
        self.replies.pop().and_then(|(_, reply)| reply.err()).unwrap_or(PollError::Stopped)
    }

    /// The text at `place`, whatever it says.
    async fn text(&mut self, device: &mut impl Asker, place: Place) -> Result<Option<String>, PollError> {
        let any = ModelMark { name: String::new(), place, expected: Expected::Text(vec![String::new()]) };
        let wanted =
            Identification { models: vec![any], versions: vec![VersionSource::Place(place)], ..Default::default() };
        let mut inquiry = Inquiry::new(&wanted, None);
        self.answer(device, &mut inquiry).await?;
        Ok(inquiry.text(place))
    }
}
