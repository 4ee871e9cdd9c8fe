//! The walk along the models of a SunSpec device: which there are, and where. Pure.

use super::Ask;
use super::Reply;
use super::inquiry::{COMMON_REGISTERS, Outcome};
use crate::profile::Table;
use crate::profile::sunspec::{BASES, HEADER, MARK, ModelAt};
use crate::profile::sunspec_lengths::expected_instead;

/// Stands where the next model would begin (SunSpec Device Information Model 1.1, 6.1).
const END: u16 = 0xFFFF;
/// A device with more models than this does not end its chain.
const MODELS_MAX: usize = 128;

/// The models of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chain {
    /// In their order.
    pub models: Vec<ModelAt>,
    /// What ended the chain instead of its end: a model with a length that this model never has. Where the next one
    /// would be is not known then, nor what is in this one.
    pub implausible: Option<ModelAt>,
}

impl Chain {
    /// Why the chain is not plausible, where it is not.
    pub(super) fn trouble(&self) -> Option<String> {
        let ModelAt { id, address, length } = self.implausible?;
        let expected = expected_instead(id, length)?;
        Some(format!(
            "has a chain of SunSpec models that is not plausible: model {id} at {address} says {length} registers, \
             it has {expected}; nothing is read from there on"
        ))
    }
}

/// The models of a device, as far as its answers tell; `None` when it has no SunSpec map, `Err` what to ask next.
///
/// What looks like no model, or is refused, ends the chain as well: what was found before can be read.
pub(super) fn walk<'a>(outcome: impl Fn(Ask) -> Option<&'a Outcome>) -> Result<Option<Chain>, Ask> {
    let Some((base, common)) = begin(&outcome)? else { return Ok(None) };
    let mut chain: Vec<ModelAt> = Vec::new();
    let mut implausible = None;
    let mut next = base.checked_add(2);
    while let (Some(address), true) = (next, chain.len() < MODELS_MAX) {
        let header = match chain.is_empty() {
            true => common.get(2..4),
            false => match outcome(header_at(address)) {
                None => return Err(header_at(address)),
                Some(Outcome::Said(Reply::Words(words))) => Some(words.as_slice()),
                Some(_) => None,
            },
        };
        let Some(&[id, length]) = header else { break };
        if id == END || id == 0 {
            break;
        }
        let model = ModelAt { id, address, length };
        if expected_instead(id, length).is_some() {
            implausible = Some(model);
            break;
        }
        chain.push(model);
        next = address.checked_add(HEADER).and_then(|address| address.checked_add(length));
    }
    Ok(Some(Chain { models: chain, implausible }))
}

/// True for the questions of a walk that are worth asking again when they were not heard: without an answer it would
/// end early, and the rest of the device would seem to be missing.
pub(super) fn needs_answer(ask: Ask) -> bool {
    matches!(ask, Ask::Registers { table: Table::HoldingRegisters, count: HEADER, .. })
}

fn header_at(address: u16) -> Ask {
    Ask::Registers { table: Table::HoldingRegisters, address, count: HEADER }
}

/// Where the map begins, and its first registers.
fn begin<'a>(outcome: &impl Fn(Ask) -> Option<&'a Outcome>) -> Result<Option<(u16, &'a [u16])>, Ask> {
    for base in BASES {
        let ask = common_model_at(base);
        match outcome(ask) {
            None => return Err(ask),
            Some(Outcome::Said(Reply::Words(words))) if words.starts_with(&MARK) => return Ok(Some((base, words))),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The read that shows the marker and the texts of the common model.
pub(super) fn common_model_at(base: u16) -> Ask {
    Ask::Registers { table: Table::HoldingRegisters, address: base, count: COMMON_REGISTERS }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Walks over `registers`; what is not there is refused.
    fn walked(base: u16, models: &[(u16, u16)]) -> (Option<Vec<(u16, u16)>>, usize) {
        let mut registers: HashMap<u16, u16> = MARK.iter().zip(base..).map(|(word, at)| (at, *word)).collect();
        let mut at = base + 2;
        for (id, length) in models {
            registers.insert(at, *id);
            registers.insert(at.wrapping_add(1), *length);
            at = at.wrapping_add(2).wrapping_add(*length);
        }
        let mut answers: Vec<(Ask, Outcome)> = Vec::new();
        loop {
            let outcome = walk(|ask| answers.iter().find(|(asked, _)| *asked == ask).map(|(_, outcome)| outcome));
            let ask = match outcome {
                Ok(chain) => {
                    return (
                        chain.map(|chain| chain.models.iter().map(|at| (at.id, at.address)).collect()),
                        answers.len(),
                    );
                }
                Err(ask) => ask,
            };
            let Ask::Registers { address, count, .. } = ask else { panic!("a walk reads registers") };
            let words: Vec<u16> =
                (0..count).map(|offset| registers.get(&address.wrapping_add(offset)).copied().unwrap_or(0)).collect();
            let is_there = registers.contains_key(&address);
            answers.push((ask, if is_there { Outcome::Said(Reply::Words(words)) } else { Outcome::Refused }));
        }
    }

    #[test]
    fn a_chain_is_walked_to_its_end_wherever_it_begins() {
        let models = [(1, 66), (103, 50), (64000, 7), (END, 0)];

        let found = |base: u16| Some(vec![(1, base + 2), (103, base + 70), (64000, base + 122)]);

        assert_eq!(walked(40000, &models), (found(40000), 4));
        assert_eq!(walked(50000, &models), (found(50000), 5));
        assert_eq!(walked(0, &models), (found(0), 6));
    }

    #[test]
    fn a_device_without_the_marker_has_no_chain() {
        assert_eq!(walked(30000, &[(1, 66), (END, 0)]), (None, 3));
    }

    #[test]
    fn a_length_that_a_model_never_has_ends_the_chain_before_it() {
        assert_eq!(walked(40000, &[(1, 66), (103, 65000), (END, 0)]).0, Some(vec![(1, 40002)]));
        assert_eq!(walked(40000, &[(1, 68), (103, 50), (END, 0)]).0, Some(vec![]));
        assert_eq!(walked(40000, &[(1, 65), (160, 48), (END, 0)]).0, Some(vec![(1, 40002), (160, 40069)]));
        let trouble = Chain { models: Vec::new(), implausible: Some(ModelAt { id: 1, address: 40002, length: 68 }) };
        let trouble = trouble.trouble().unwrap();
        assert!(trouble.contains("not plausible: model 1 at 40002 says 68 registers, it has 65 or 66"), "{trouble}");
    }

    #[test]
    fn a_chain_without_an_end_is_left_where_it_makes_no_sense() {
        assert_eq!(walked(40000, &[(1, 66), (0, 0)]).0, Some(vec![(1, 40002)]));
        assert_eq!(walked(40000, &[(1, 66)]).0, Some(vec![(1, 40002)]));
        assert_eq!(walked(40000, &[(1, 66), (64_900, 65000)]).0, Some(vec![(1, 40002), (64_900, 40070)]));
        let endless: Vec<(u16, u16)> = std::iter::repeat_n((7, 0), 1000).collect();
        assert_eq!(walked(40000, &endless).0.map(|chain| chain.len()), Some(MODELS_MAX));
    }
}
