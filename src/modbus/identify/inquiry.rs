//! What a profile wants to know of its device: what to ask, and what the answers mean. Pure.

use super::chain::{self, Chain};
use super::{Ask, Reply};
use crate::modbus::PollError;
use crate::modbus::objects::Objects;
use crate::profile::FirmwareMap;
use crate::profile::identification::{CommonText, Form, Identification, Place, Said, VersionSource};
use crate::profile::sunspec::{BASES, MARK, ModelAt};
use crate::profile::variant::{Chosen, choose};
use crate::profile::version::Version;

/// Marker and common model up to and with `Vr`.
pub(super) const COMMON_REGISTERS: u16 = 52;

/// What a device is told that should have SunSpec models and has none.
const NO_CHAIN: &str = "has no SunSpec models: no \"SunS\" at 40000, 50000 or 0";

/// Who a device is, as far as it said.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The model, one of those the profile names.
    pub model: Option<String>,
    /// Its firmware, as read or as configured.
    pub version: Option<Version>,
    /// Index and fitness of the map; the first when the profile has none.
    pub chosen: Chosen,
    /// What that means for the readings.
    pub verdict: Verdict,
    /// The models it has, when it has such and the profile is about them.
    pub models: Vec<ModelAt>,
    /// What is odd about it although it is what the profile is for.
    pub remark: Option<String>,
}

/// What is known about a device that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the profile is for, or the profile has no way to tell; the map is that of its firmware.
    Accepted,
    /// Its firmware is not one that the profile knows, or does not say: the nearest older map stands in.
    UnknownFirmware,
    /// It is another device; what it says and what was expected.
    WrongDevice(String),
}

/// The identification of one device under way.
#[derive(Debug, Clone)]
pub struct Inquiry {
    identification: Identification,
    configured: Option<Version>,
    replies: Vec<(Ask, Outcome)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Said(Reply),
    Refused,
    Silent,
}

/// What is known about something that a device may say.
enum Lookup {
    Ask(Ask),
    Nothing,
    Said(Said),
}

impl Inquiry {
    /// Begins anew. `configured` is the version that the operator named, for devices that do not say.
    pub fn new(identification: &Identification, configured: Option<Version>) -> Self {
        Self { identification: identification.clone(), configured, replies: Vec::new() }
    }

    /// What to ask next; `None` when all is asked.
    pub fn next(&self) -> Option<Ask> {
        match self.model() {
            Err(ask) => Some(ask),
            Ok(_) => self.version().err().or_else(|| self.chain().err()),
        }
    }

    /// Notes what came of a question. Silence counts as no answer to this question alone; the next one may be heard.
    pub fn take(&mut self, ask: Ask, outcome: Result<Reply, &PollError>) {
        let outcome = match outcome {
            Ok(reply) => Outcome::Said(reply),
            Err(error) if error.is_answer() => Outcome::Refused,
            Err(_) if self.identification.walks_chain && chain::needs_answer(ask) => return,
            Err(_) => Outcome::Silent,
        };
        self.replies.push((ask, outcome));
    }

    /// On another connection the device may be another one: forgets what it said, but not which questions go unheard.
    pub fn keep_silences(&mut self) {
        self.replies.retain(|(_, outcome)| *outcome == Outcome::Silent);
    }

    /// True when the device has answered or refused at least one question.
    pub fn is_answered(&self) -> bool {
        self.replies.iter().any(|(_, outcome)| *outcome != Outcome::Silent)
    }

    /// What the answers so far mean; `maps` are those of the profile.
    pub fn conclude(&self, maps: &[FirmwareMap]) -> Identity {
        let model = self.model().ok().flatten();
        let version = self.version().ok().flatten().or_else(|| self.configured.clone());
        let chosen = match maps {
            [] => Chosen { map: 0, is_known: true },
            maps => choose(maps, model.as_deref(), version.as_ref()),
        };
        let chain = self.chain().ok();
        let trouble = chain.as_ref().and_then(|chain| chain.as_ref()?.trouble());
        let has_models =
            chain.as_ref().is_some_and(|chain| chain.as_ref().is_some_and(|chain| !chain.models.is_empty()));
        let no_models = match &trouble {
            _ if chain == Some(None) => Some(NO_CHAIN.to_owned()),
            Some(trouble) if !has_models => Some(trouble.clone()),
            Some(_) | None => None,
        };
        let verdict = match (no_models, self.contradiction()) {
            (Some(reason), _) => Verdict::WrongDevice(reason),
            (None, Some(reason)) if model.is_none() => Verdict::WrongDevice(reason),
            (None, Some(_) | None) if chosen.is_known => Verdict::Accepted,
            (None, Some(_) | None) => Verdict::UnknownFirmware,
        };
        let remark = trouble.filter(|_| has_models);
        let models = chain.flatten().unwrap_or_default().models;
        Identity { model, version, chosen, verdict, models, remark }
    }

    /// The text that the device has at `place`, when that was asked and is text.
    pub(super) fn text(&self, place: Place) -> Option<String> {
        match self.look(place) {
            Lookup::Said(Said::Text(text)) => Some(text),
            Lookup::Said(Said::Words(_)) | Lookup::Ask(_) | Lookup::Nothing => None,
        }
    }

    /// The name of the model, `None` when no mark fits, or what must be asked first.
    fn model(&self) -> Result<Option<String>, Ask> {
        for mark in &self.identification.models {
            match self.look(mark.place) {
                Lookup::Ask(ask) => return Err(ask),
                Lookup::Said(said) if mark.expected.fits(&said) => return Ok(Some(mark.name.clone())),
                Lookup::Said(_) | Lookup::Nothing => {}
            }
        }
        Ok(None)
    }

    fn version(&self) -> Result<Option<Version>, Ask> {
        for source in &self.identification.versions {
            let version = match source {
                VersionSource::Place(place) => match self.look(*place) {
                    Lookup::Ask(ask) => return Err(ask),
                    Lookup::Said(said) => said.version(self.identification.scheme),
                    Lookup::Nothing => None,
                },
                VersionSource::Probe { table, address, count, answers, refuses } => {
                    let ask = Ask::Registers { table: *table, address: *address, count: *count };
                    match self.outcome(ask) {
                        None => return Err(ask),
                        Some(Outcome::Said(_)) => Some(answers.clone()),
                        Some(Outcome::Refused) => Some(refuses.clone()),
                        Some(Outcome::Silent) => None,
                    }
                }
            };
            if version.is_some() {
                return Ok(version);
            }
        }
        Ok(None)
    }

    /// Its models, none when it has no chain of them or the profile is not about such; or what must be asked first.
    fn chain(&self) -> Result<Option<Chain>, Ask> {
        match self.identification.walks_chain {
            true => chain::walk(|ask| self.outcome(ask)),
            false => Ok(Some(Chain::default())),
        }
    }

    /// What a device said instead of what any mark expects; `None` when it said nothing.
    fn contradiction(&self) -> Option<String> {
        self.identification.models.iter().find_map(|mark| match self.look(mark.place) {
            Lookup::Said(said) => Some(format!("says {}, which is not {}", show(&said), mark.name)),
            Lookup::Ask(_) | Lookup::Nothing => None,
        })
    }

    fn outcome(&self, ask: Ask) -> Option<&Outcome> {
        self.replies.iter().find(|(asked, _)| *asked == ask).map(|(_, outcome)| outcome)
    }

    fn look(&self, place: Place) -> Lookup {
        match place {
            Place::Object(object) => self.look_for_object(object),
            Place::Registers { table, address, count, form, part } => {
                let ask = Ask::Registers { table, address, count };
                match self.outcome(ask) {
                    None => Lookup::Ask(ask),
                    Some(Outcome::Said(Reply::Words(words))) => said(words, form, part),
                    Some(_) => Lookup::Nothing,
                }
            }
            Place::SunSpec(text) => self.look_in_common_model(text),
        }
    }

    fn look_for_object(&self, object: u8) -> Lookup {
        let (code, mut from) = match object {
            0..=2 => (1, 0),
            3..=0x7f => (2, 0),
            0x80.. => (3, object),
        };
        loop {
            let ask = Ask::Objects { code, object: from };
            match self.outcome(ask) {
                None => return Lookup::Ask(ask),
                Some(Outcome::Said(Reply::Objects(Objects { objects, next }))) => {
                    if let Some((_, text)) = objects.iter().find(|(number, _)| *number == object) {
                        return text_or_nothing(text.clone());
                    }
                    match next {
                        Some(next) => from = *next,
                        None => return Lookup::Nothing,
                    }
                }
                Some(_) => return Lookup::Nothing,
            }
        }
    }

    fn look_in_common_model(&self, text: CommonText) -> Lookup {
        for address in BASES {
            let ask = chain::common_model_at(address);
            match self.outcome(ask) {
                None => return Lookup::Ask(ask),
                Some(Outcome::Said(Reply::Words(words))) if words.starts_with(&MARK) => {
                    return said(words, Form::Text, common_part(text));
                }
                Some(_) => {}
            }
        }
        Lookup::Nothing
    }
}

/// Where a text of the common model stands behind the marker, and how long it is (SunSpec model 1).
fn common_part(text: CommonText) -> (u16, u16) {
    match text {
        CommonText::Manufacturer => (2 + 2, 16),
        CommonText::Model => (2 + 18, 16),
        CommonText::Version => (2 + 42, 8),
    }
}

fn said(words: &[u16], form: Form, (first, count): (u16, u16)) -> Lookup {
    let Some(words) = words.get(usize::from(first)..usize::from(first) + usize::from(count)) else {
        return Lookup::Nothing;
    };
    let text = |bytes: Vec<u8>| {
        let text = bytes.into_iter().take_while(|byte| *byte != 0).collect();
        String::from_utf8(text).map_or(Lookup::Nothing, text_or_nothing)
    };
    match form {
        Form::Text => text(words.iter().flat_map(|word| word.to_be_bytes()).collect()),
        Form::WideText => text(words.iter().map(|word| word.to_be_bytes()[1]).collect()),
        Form::Number => Lookup::Said(Said::Words(words.to_vec())),
        Form::NumberLowFirst => Lookup::Said(Said::Words(words.iter().rev().copied().collect())),
    }
}

fn text_or_nothing(text: String) -> Lookup {
    let text = text.trim();
    let is_text = !text.is_empty() && !text.chars().any(char::is_control);
    if is_text { Lookup::Said(Said::Text(text.to_owned())) } else { Lookup::Nothing }
}

fn show(said: &Said) -> String {
    match said {
        Said::Text(text) => format!("{text:?}"),
        Said::Words(words) => words.iter().fold(0_u64, |number, word| number << 16 | u64::from(*word)).to_string(),
    }
}
