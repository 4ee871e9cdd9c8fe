//! `up`: 1 where a device answers and 0 where it does not, as Prometheus has it. Made of the readings, so a back-test and
//! a restart find it too, and only where a rule selects it.

use std::collections::HashMap;

use super::Labels;
use crate::model::{Fault, Observed, Row, SeriesId};
use crate::rules::live::LiveTable;
use crate::rules::ring::Sample;

/// Exception codes of a gateway that does not reach the device (Modbus Application Protocol 1.1b3, 7).
const GATEWAY_EXCEPTIONS: [u8; 2] = [0x0A, 0x0B];

/// Name of the series.
pub const UP: &str = "up";

/// A device and the series that its answers give.
#[derive(Debug, Clone)]
pub struct DeviceSeries {
    /// Labels of its `up`, the name among them.
    pub labels: Labels,
    /// Its series.
    pub series: Vec<SeriesId>,
}

/// Which devices answer.
#[derive(Debug, Default)]
pub(super) struct Up {
    /// For each series of a device whose `up` is selected: where that is.
    of: HashMap<SeriesId, usize>,
}

impl Up {
    /// Takes the devices whose `up` some rule selects: `table` has them then.
    pub fn new(devices: Vec<DeviceSeries>, table: &LiveTable) -> Self {
        let mut of = HashMap::new();
        for device in devices {
            if let Some(position) = table.position_of(&device.labels) {
                of.extend(device.series.into_iter().map(|id| (id, position)));
            }
        }
        Self { of }
    }

    /// Whether the `up` that some rule selects is made of this series.
    pub fn is_made_of(&self, id: SeriesId) -> bool {
        self.of.contains_key(&id)
    }

    /// What a row says about its device; nothing where it cannot be told, or was told at this time already.
    pub fn sample(&self, row: &Row, table: &LiveTable) -> Option<(usize, Sample)> {
        if self.of.is_empty() {
            return None;
        }
        let position = *self.of.get(row.series.first()?)?;
        if table.series(position).ring.last().is_some_and(|last| last.time == row.time) {
            return None;
        }
        let value = answered(&row.observed)?;
        Some((position, Sample { time: row.time, value: f64::from(u8::from(value)) }))
    }
}

/// Whether a device answered, by what a row observed. A damaged frame tells neither: something was heard.
pub fn answered(observed: &[Observed]) -> Option<bool> {
    let answer = |observed: &Observed| match observed {
        Observed::Good(_) | Observed::Uncertain(..) => Some(true),
        Observed::Bad(Fault::Exception(code)) => Some(!GATEWAY_EXCEPTIONS.contains(code)),
        Observed::Bad(Fault::Timeout | Fault::LinkDown | Fault::WrongDevice) => Some(false),
        Observed::Bad(
            Fault::NotAvailable
            | Fault::NotANumber
            | Fault::OutOfRange
            | Fault::BadScaleFactor
            | Fault::DeviceFault
            | Fault::NotInFirmware,
        ) => Some(true),
        Observed::Bad(Fault::WrongUnit | Fault::WrongAnswer | Fault::BadChecksum | Fault::Garbage | Fault::NoMatch) => {
            None
        }
    };
    observed.iter().filter_map(answer).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value;

    #[test]
    fn a_device_is_up_when_anything_of_it_answers() {
        let good = || Observed::Good(Value::Int(1));
        let bad = Observed::Bad;
        for (observed, expected) in [
            (vec![good(), good()], Some(true)),
            (vec![bad(Fault::OutOfRange)], Some(true)),
            (vec![bad(Fault::Exception(2))], Some(true)),
            (vec![bad(Fault::Timeout), bad(Fault::Timeout)], Some(false)),
            (vec![bad(Fault::LinkDown)], Some(false)),
            (vec![bad(Fault::Exception(0x0B))], Some(false)),
            (vec![bad(Fault::BadChecksum)], None),
            (vec![bad(Fault::BadChecksum), good()], Some(true)),
        ] {
            assert_eq!(answered(&observed), expected, "{observed:?}");
        }
    }
}
