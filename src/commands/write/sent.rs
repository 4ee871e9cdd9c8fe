//! The registers that go out for a value, and the value that they show: bounds hold for what is sent, not for what was
//! wished. Pure.

use crate::config::WriteConfig;
use crate::modbus::codec;
use crate::modbus::encode::{Quantity, encode};
use crate::model::{Observed, Scale, Value};
use crate::profile::{Encoding, Point};

/// Rounding of the scale, in parts of the largest number that takes part.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// What goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The registers, or one word 0 or 1 for a coil.
    pub words: Vec<u16>,
    /// The engineering value that they show, after scale, offset and rounding.
    pub value: f64,
}

impl Sent {
    /// The registers of `point` for `value`. A negative zero is sent as zero.
    ///
    /// # Errors
    /// The value does not fit the registers, or they would not read as a number.
    pub fn new(point: &Point, value: f64) -> Result<Self, String> {
        if point.table.holds_bits() && value != 0.0 && value != 1.0 {
            return Err("a coil is 0 or 1".to_owned());
        }
        let mut words = vec![0; usize::from(point.encoding.width())];
        encode(point, Quantity::Number(value), None, &mut words).map_err(|error| error.to_string())?;
        if matches!(point.encoding, Encoding::F16 | Encoding::F32 | Encoding::F64) && is_zero(point, &words) {
            words.fill(0);
        }
        let value = engineering(point, &words).map_err(|reason| format!("{value} cannot be sent: {reason}"))?;
        Ok(Self { words, value })
    }

    /// Whether `wished`, and what is sent for it, lie within the range of the permission.
    ///
    /// # Errors
    /// What is allowed.
    pub fn in_range(&self, wished: f64, point: &Point, config: &WriteConfig) -> Result<(), String> {
        let (least, greatest) = config.range;
        in_range(wished, config)?;
        let slack = |bound: f64| rounding(point, bound);
        if self.value >= least - slack(least) && self.value <= greatest + slack(greatest) {
            return Ok(());
        }
        let (device, name) = (&config.device, &config.point);
        let sent = self.value;
        Err(format!("{device}/{name} = {wished} would be sent as {sent}: must be {least} to {greatest}"))
    }

    /// Whether what is sent may follow the value `before`.
    ///
    /// # Errors
    /// By how much one write may change it.
    pub fn in_step(&self, before: f64, point: &Point, config: &WriteConfig) -> Result<(), String> {
        let Some(step) = config.step else { return Ok(()) };
        if (self.value - before).abs() <= step + rounding(point, before.abs().max(self.value.abs())) {
            return Ok(());
        }
        let (device, name, sent) = (&config.device, &config.point, self.value);
        Err(format!("{device}/{name} = {sent}: it is {before}, and one write may change it by {step} at most"))
    }
}

/// Whether a value that is wished lies within the range of the permission.
///
/// # Errors
/// What is allowed.
pub fn in_range(value: f64, config: &WriteConfig) -> Result<(), String> {
    let (least, greatest) = config.range;
    if value.is_finite() && (least..=greatest).contains(&value) {
        return Ok(());
    }
    Err(format!("{}/{} = {value}: must be {least} to {greatest}", config.device, config.point))
}

/// The engineering value that registers show.
///
/// # Errors
/// They show no number: not available, not finite, outside of what the profile allows.
pub fn engineering(point: &Point, words: &[u16]) -> Result<f64, String> {
    let value = match codec::decode(point, words, None) {
        Observed::Good(value) | Observed::Uncertain(value, _) => value,
        Observed::Bad(fault) => return Err(fault.to_string()),
    };
    let number = match value {
        Value::Bool(bit) => Some(f64::from(u8::from(bit))),
        other => other.number(),
    };
    let number = number.map(|number| point.listed_scale().apply(number)).filter(|number| number.is_finite());
    number.ok_or_else(|| "it shows no number".to_owned())
}

/// Whether floating point registers hold zero of either sign.
fn is_zero(point: &Point, words: &[u16]) -> bool {
    let plain = Point { scale: Scale::ONE, sentinels: Vec::new(), range: None, ..point.clone() };
    engineering(&plain, words) == Ok(0.0)
}

/// By how much a value may miss `bound` because its scale cannot be computed exactly: never as much as one step of the
/// register.
fn rounding(point: &Point, bound: f64) -> f64 {
    let parts = if matches!(point.encoding, Encoding::F32) { f64::from(f32::EPSILON) } else { ROUNDING };
    parts * (bound.abs() + point.scale.offset.abs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Role;
    use crate::model::Name;
    use crate::profile::Table;

    fn point(encoding: Encoding, scale: Scale) -> Point {
        Point { scale, ..Point::plain("setpoint", Table::HoldingRegisters, 0, encoding) }
    }

    fn config(range: (f64, f64), step: Option<f64>) -> WriteConfig {
        WriteConfig {
            device: Name::new("press-1").unwrap(),
            point: "setpoint".to_owned(),
            pin: None,
            range,
            step,
            interval: Duration::ZERO,
            role: Role::Operator,
            interlocks: Vec::new(),
            tolerance: 0.0,
            lease: None,
            function: crate::config::WriteFunction::Single,
        }
    }

    /// What is sent for a value within a range.
    fn sent(point: &Point, range: (f64, f64), value: f64) -> Result<f64, String> {
        let sent = Sent::new(point, value)?;
        sent.in_range(value, point, &config(range, None)).map(|()| sent.value)
    }

    #[test]
    fn what_is_sent_lies_within_the_range_not_only_what_was_wished() {
        let whole = point(Encoding::U16, Scale::ONE);
        let refused = |value| sent(&whole, (10.4, 59.6), value).unwrap_err();
        assert_eq!(refused(10.4), "press-1/setpoint = 10.4 would be sent as 10: must be 10.4 to 59.6");
        assert_eq!(refused(59.6), "press-1/setpoint = 59.6 would be sent as 60: must be 10.4 to 59.6");
        assert_eq!(refused(10.3), "press-1/setpoint = 10.3: must be 10.4 to 59.6");
        assert_eq!(sent(&whole, (10.4, 59.6), 10.6), Ok(11.0));
        let fives = point(Encoding::I16, Scale::new(5.0, -40.0));
        assert_eq!(sent(&fives, (-37.0, 37.0), -37.0), Ok(-35.0));
        assert!(sent(&fives, (-37.0, 37.0), 37.0).is_ok_and(|value| value == 35.0));
        assert!(sent(&fives, (-38.0, 38.0), 38.0).unwrap_err().contains("would be sent as 40"));
    }

    #[test]
    fn rounding_of_the_scale_refuses_nothing_that_is_within_the_range() {
        for tenths in -400..=400_i32 {
            let bound = f64::from(tenths) / 10.0;
            for (encoding, scale) in [
                (Encoding::I16, Scale::new(0.1, 0.0)),
                (Encoding::I16, Scale::new(0.1, -273.1)),
                (Encoding::F32, Scale::ONE),
                (Encoding::F32, Scale::new(0.1, 0.0)),
                (Encoding::F64, Scale::new(0.001, 7.0)),
            ] {
                let point = point(encoding, scale);
                assert!(sent(&point, (bound, bound), bound).is_ok(), "{encoding:?} {scale:?} {bound}");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_in_the_registers_and_negative_zeroes_do_not_go_out() {
        let everything = (f64::MIN, f64::MAX);
        let single = point(Encoding::F32, Scale::ONE);
        assert!(sent(&single, everything, 1e39).is_err());
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(sent(&single, everything, value).is_err(), "{value}");
        }
        assert!(sent(&point(Encoding::U16, Scale::ONE), everything, 65536.0).unwrap_err().contains("does not fit"));
        assert!(sent(&point(Encoding::U16, Scale::ONE), everything, -1.0).unwrap_err().contains("does not fit"));
        for value in [-0.0, -1e-60] {
            assert_eq!(Sent::new(&single, value).unwrap().words, [0, 0], "{value}");
        }
        let turned = point(Encoding::F32, Scale::new(-1.0, 0.0));
        assert_eq!(Sent::new(&turned, 0.0).unwrap().words, [0, 0]);
        let checked = Point { range: Some((0.0, 50.0)), ..point(Encoding::U16, Scale::ONE) };
        assert!(sent(&checked, everything, 51.0).unwrap_err().contains("51 cannot be sent: "));
    }

    #[test]
    fn a_step_counts_from_the_value_that_is_sent() {
        let whole = point(Encoding::U16, Scale::ONE);
        let config = config((0.0, 100.0), Some(4.4));
        let step = |value: f64, before: f64| Sent::new(&whole, value).unwrap().in_step(before, &whole, &config);
        assert!(step(14.4, 10.0).is_ok());
        assert_eq!(
            step(14.5, 10.0).unwrap_err(),
            "press-1/setpoint = 15: it is 10, and one write may change it by 4.4 at most"
        );
        let tenths = point(Encoding::I16, Scale::new(0.1, 0.0));
        let config = WriteConfig { step: Some(0.2), ..config };
        assert!(Sent::new(&tenths, 0.3).unwrap().in_step(0.1, &tenths, &config).is_ok());
    }
}
