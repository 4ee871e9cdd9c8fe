//! Holds what the consumer decoded against what the simulated plant answered.
//!
//! Each good reading that an answer of the plant contains must have arrived exactly once, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::consumer::Harvest;
use crate::config::{Config, DeviceConfig, Endpoint};
use crate::instrument::pattern::{LineReader, LineReading};
use crate::modbus::codec;
use crate::modbus::plan::{Block, PlanPoint, PollPlan, Terms, plan};
use crate::modbus::timing;
use crate::model::Value;
use crate::profile::{ModbusProfile, Protocol};
use crate::simulator::plant::{Plant, PlantLink};
use crate::simulator::{Answer, TextPort};

/// Most wrong facts that are shown.
const EXAMPLES_MAX: usize = 8;

/// A good reading, whenever it was taken: device, point, value.
type Fact = (Arc<str>, Arc<str>, ValueKey);

/// A value that can be counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ValueKey {
    Number(u64),
    Text(Arc<str>),
}

impl From<&Value> for ValueKey {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.clone()),
            Value::Int(number) => Self::Number(number.cast_unsigned()),
            Value::Uint(number) => Self::Number(*number),
            Value::Bool(bit) => Self::Number(u64::from(*bit)),
            Value::F32(number) => Self::Number(u64::from(number.to_bits())),
            Value::F64(number) => Self::Number(number.to_bits()),
        }
    }
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Proof {
    /// Good readings in the answers of the plant.
    pub answered: u64,
    /// Those that arrived.
    pub confirmed: u64,
    /// Those that did not.
    pub missing: u64,
    /// Good readings that arrived although no answer contains them, or more often than answered.
    pub duplicates: u64,
    /// The first few that are wrong, for people.
    pub examples: Vec<String>,
}

/// Compares. The plant must not answer any more.
pub(super) async fn prove(plant: &Plant, config: &Config, harvest: &Harvest) -> anyhow::Result<Proof> {
    Ok(compare(answered_facts(plant, config).await?, arrived_facts(harvest)))
}

/// The good readings that arrived, repeats already discarded.
fn arrived_facts(harvest: &Harvest) -> impl Iterator<Item = Fact> {
    let names: HashMap<_, (Arc<str>, Arc<str>)> = harvest
        .series
        .iter()
        .map(|(key, info)| {
            let device = info.labels.get("device").map(String::as_str).unwrap_or_default();
            (*key, (Arc::from(device), Arc::from(info.name.as_str())))
        })
        .collect();
    harvest.readings.iter().filter_map(move |(identity, taken)| {
        let value = taken.observed.value()?;
        let name = names.get(&(identity.epoch, taken.series)).cloned();
        let (device, point) = name.unwrap_or_else(|| ("?".into(), format!("series {}", taken.series).into()));
        Some((device, point, value.into()))
    })
}

/// What was answered against what arrived: each fact as often here as there.
fn compare(answered: impl IntoIterator<Item = Fact>, arrived: impl IntoIterator<Item = Fact>) -> Proof {
    let mut balance: HashMap<Fact, i64> = HashMap::new();
    let mut proof = Proof::default();
    for fact in answered {
        *balance.entry(fact).or_default() += 1;
        proof.answered += 1;
    }
    for fact in arrived {
        *balance.entry(fact).or_default() -= 1;
    }
    for ((device, point, value), left) in balance.into_iter().filter(|(_, left)| *left != 0) {
        let how = if left > 0 { "missing" } else { "too many" };
        match left > 0 {
            true => proof.missing += left.unsigned_abs(),
            false => proof.duplicates += left.unsigned_abs(),
        }
        if proof.examples.len() < EXAMPLES_MAX {
            proof.examples.push(format!("{device}/{point} {value:?}: {} {how}", left.abs()));
        }
    }
    proof.confirmed = proof.answered - proof.missing;
    proof
}

async fn answered_facts(plant: &Plant, config: &Config) -> anyhow::Result<Vec<Fact>> {
    let mut facts = Vec::new();
    for link in [PlantLink::HallA, PlantLink::HallB] {
        let log = plant.endpoint(link).log().await?;
        let timeout = link_timeout(config, link.name());
        let mut devices = HashMap::new();
        for device in plant.devices().iter().filter(|device| device.link == link) {
            let configured = device_of(config, device.name);
            let asked = config.links.iter().find(|configured| configured.name.as_str() == link.name());
            let reader = configured.zip(asked).and_then(|(device, link)| RegisterReader::new(device, &link.endpoint));
            if let Some(reader) = reader {
                devices.insert(device.unit, reader);
            }
        }
        // An answer after the timeout is no answer: the agent has called it a timeout.
        for answer in log.iter().filter(|answer| answer.after < timeout) {
            if let Some(device) = devices.get(&answer.unit) {
                device.read(&answer, &mut facts);
            }
        }
    }
    for (name, port) in [("scale", plant.scale()), ("roof", plant.weather())] {
        if let Some(device) = device_of(config, name) {
            read_lines(port, device, &mut facts).await?;
        }
    }
    Ok(facts)
}

fn link_timeout(config: &Config, name: &str) -> std::time::Duration {
    config.links.iter().find(|link| link.name.as_str() == name).map_or_else(Default::default, |link| link.timeout)
}

fn device_of<'a>(config: &'a Config, name: &str) -> Option<&'a DeviceConfig> {
    config.links.iter().flat_map(|link| &link.devices).find(|device| device.name.as_str() == name)
}

/// Turns the answers of one device into facts, by the same plan that the agent follows.
struct RegisterReader<'a> {
    device: Arc<str>,
    modbus: &'a ModbusProfile,
    plan: PollPlan,
    names: Vec<Arc<str>>,
}

impl<'a> RegisterReader<'a> {
    fn new(device: &'a DeviceConfig, endpoint: &Endpoint) -> Option<Self> {
        let Protocol::Modbus(modbus) = &device.profile.protocol else { return None };
        let wanted: Vec<PlanPoint> =
            device.tags.iter().map(|tag| PlanPoint { point: tag.point, interval: tag.interval }).collect();
        let cost = timing::read_cost(endpoint, modbus.pacing);
        let plan = plan(&modbus.points, &wanted, &Terms { cost, ..Terms::fewest(modbus.limits) }).ok()?;
        let names = modbus.points.iter().map(|point| Arc::from(point.name.as_str())).collect();
        Some(Self { device: device.name.as_str().into(), modbus, plan, names })
    }

    fn read(&self, answer: &Answer<'_>, facts: &mut Vec<Fact>) {
        let access = answer.access;
        let is_asked = |block: &&Block| {
            (block.table, block.address, block.count) == (access.table(), access.address, access.count)
        };
        let Some(block) = self.plan.groups.iter().flat_map(|group| &group.blocks).find(is_asked) else { return };
        for asked in block.points.iter().filter(|point| point.wanted) {
            let point = &self.modbus.points[asked.point];
            let from = usize::from(asked.offset);
            let words = &answer.words[from..from + usize::from(point.encoding.width())];
            if let Some(value) = codec::decode(point, words, None).value() {
                facts.push((self.device.clone(), self.names[asked.point].clone(), value.into()));
            }
        }
    }
}

async fn read_lines(port: &TextPort, device: &DeviceConfig, facts: &mut Vec<Fact>) -> anyhow::Result<()> {
    let Protocol::Text(text) = &device.profile.protocol else { return Ok(()) };
    let reader = LineReader::new(text);
    let name: Arc<str> = device.name.as_str().into();
    for (_, line) in port.log().await?.lines {
        let LineReading::Points { pattern, observed } = reader.read(line.as_bytes()) else { continue };
        for (point, observed) in reader.points(pattern).iter().zip(observed) {
            if let Some(value) = observed.value() {
                facts.push((name.clone(), text.points[*point].name.as_str().into(), value.into()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::consumer::Taken;
    use crate::model::ValueKind;
    use crate::model::{Epoch, Fault, Identity, Lane, Observed, Scale, Sequence, SeriesId, SeriesInfo, Timestamp};

    const EPOCH: Epoch = Epoch([7; 16]);

    fn fact(point: &str, value: i64) -> Fact {
        ("press-1".into(), point.into(), (&Value::Int(value)).into())
    }

    /// A counter that was read five times, and a switch that was on three times.
    fn answered() -> Vec<Fact> {
        let counted = (1..=5).map(|count| fact("energy", count));
        counted.chain([1, 1, 1].map(|state| fact("running", state))).collect()
    }

    fn outcome(arrived: Vec<Fact>) -> (u64, u64, u64) {
        let proof = compare(answered(), arrived);
        assert_eq!(proof.answered, 8);
        (proof.confirmed, proof.missing, proof.duplicates)
    }

    #[test]
    fn what_arrived_once_in_any_order_is_complete() {
        let arrived = answered().into_iter().rev().collect();

        assert_eq!(outcome(arrived), (8, 0, 0));
    }

    #[test]
    fn a_reading_that_is_removed_is_missing() {
        for removed in 0..8 {
            let mut arrived = answered();
            arrived.remove(removed);

            assert_eq!(outcome(arrived), (7, 1, 0), "without {removed}");
        }
    }

    #[test]
    fn a_reading_that_is_repeated_is_a_duplicate() {
        for repeated in 0..8 {
            let mut arrived = answered();
            arrived.push(arrived[repeated].clone());

            assert_eq!(outcome(arrived), (8, 0, 1), "twice {repeated}");
        }
    }

    #[test]
    fn a_wrong_value_is_missing_and_too_many() {
        let mut arrived = answered();
        arrived[0] = fact("energy", 6);

        let proof = compare(answered(), arrived);

        assert_eq!((proof.missing, proof.duplicates), (1, 1));
        let mut examples = proof.examples;
        examples.sort();
        assert_eq!(examples, ["press-1/energy Number(1): 1 missing", "press-1/energy Number(6): 1 too many"]);
    }

    /// What a consumer has after readings of one series: (sequence, observed).
    fn harvest(readings: &[(u64, Observed)]) -> Harvest {
        let info = SeriesInfo {
            name: "energy".to_owned(),
            labels: Arc::new([("device".to_owned(), "press-1".to_owned())].into()),
            unit: String::new(),
            kind: ValueKind::Int,
            scale: Scale::ONE,
            states: Default::default(),
        };
        let reading = |(sequence, observed): &(u64, Observed)| {
            let identity = Identity { epoch: EPOCH, lane: Lane::Telemetry, sequence: Sequence(*sequence), index: 0 };
            (identity, Taken { series: SeriesId(3), time: Timestamp(1_000), observed: observed.clone() })
        };
        Harvest {
            readings: readings.iter().map(reading).collect(),
            series: [((EPOCH, SeriesId(3)), info)].into(),
            ..Harvest::default()
        }
    }

    #[test]
    fn identities_count_and_bad_readings_do_not() {
        let five = || Observed::Good(Value::Int(5));
        let arrived = harvest(&[(1, five()), (2, Observed::Bad(Fault::Timeout)), (3, five())]);

        let facts: Vec<Fact> = arrived_facts(&arrived).collect();

        assert_eq!(facts, [fact("energy", 5), fact("energy", 5)]);
        assert_eq!(compare([fact("energy", 5)], facts).duplicates, 1);
    }

    #[test]
    fn a_series_that_no_catalogue_names_is_no_confirmation() {
        let mut arrived = harvest(&[(1, Observed::Good(Value::Int(1)))]);
        arrived.series.clear();

        let proof = compare([fact("energy", 1)], arrived_facts(&arrived));

        assert_eq!((proof.missing, proof.duplicates), (1, 1));
    }
}
