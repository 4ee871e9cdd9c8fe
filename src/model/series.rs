//! What the catalogue says about a series.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::reading::Value;

/// How the good values of a series are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// Signed integer as the device sent it, before scale and offset.
    Int,
    /// Unsigned integer of 64 bits as the device sent it.
    Uint,
    /// Single precision as the device sent it.
    F32,
    /// Double precision, or a number computed here (scale factor registers, text instruments).
    F64,
    /// A coil, a discrete input or one bit of a register.
    Bool,
    /// Text.
    Text,
}

/// How a stored number becomes an engineering value: `raw * multiplier / divisor + offset`.
///
/// A decimal scale such as 0.1 is kept as a divisor of 10, so that 2301 becomes 230.1 and not
/// 230.10000000000002.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Factor.
    pub multiplier: f64,
    /// Divisor, never zero.
    pub divisor: f64,
    /// Added last.
    pub offset: f64,
}

impl Scale {
    /// Raw values are engineering values.
    pub const ONE: Self = Self { multiplier: 1.0, divisor: 1.0, offset: 0.0 };

    /// A scale from its factor and offset. Factors whose inverse is a whole number become divisors.
    pub fn new(factor: f64, offset: f64) -> Self {
        let inverse = 1.0 / factor;
        let is_divisor = factor.abs() < 1.0 && (inverse - inverse.round()).abs() < 1e-9 * inverse.abs();
        if is_divisor {
            Self { multiplier: 1.0, divisor: inverse.round(), offset }
        } else {
            Self { multiplier: factor, divisor: 1.0, offset }
        }
    }

    /// The engineering value of `raw`.
    pub fn apply(&self, raw: f64) -> f64 {
        raw * self.multiplier / self.divisor + self.offset
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self::ONE
    }
}

/// One series as the catalogue lists it. Any difference makes another series with another id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesInfo {
    /// Name of the point, for example `active_power_w`.
    pub name: String,
    /// `site`, `gateway`, `device` and the labels of the device; one map for all series of a device.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Unit of the engineering value; empty when it has none.
    pub unit: String,
    /// How good values are kept.
    pub kind: ValueKind,
    /// From kept number to engineering value.
    pub scale: Scale,
    /// Meaning of each number of an enumeration; empty for all others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<i64, String>,
}

impl SeriesInfo {
    /// What a value of an enumeration means; a bit is 0 or 1. `None` where the profile says nothing.
    pub fn state(&self, value: &Value) -> Option<&str> {
        let number = match value {
            Value::Int(number) => *number,
            Value::Uint(number) => i64::try_from(*number).ok()?,
            Value::Bool(bit) => i64::from(*bit),
            Value::F32(_) | Value::F64(_) | Value::Text(_) => return None,
        };
        self.states.get(&number).map(String::as_str)
    }
}

/// `name{label="value",...}`, as in PromQL.
impl fmt::Display for SeriesInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{", self.name)?;
        for (position, (key, value)) in self.labels.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value:?}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_scales_give_decimal_values() {
        assert_eq!(Scale::new(0.1, 0.0).apply(2301.0), 230.1);
        assert_eq!(Scale::new(0.001, 0.0).apply(7.0), 0.007);
        assert_eq!(Scale::new(10.0, 0.0).apply(7.0), 70.0);
        assert_eq!(Scale::new(0.3, -5.0).apply(10.0), -2.0);
        assert_eq!(Scale::new(-0.5, 0.0).apply(3.0), -1.5);
    }

    #[test]
    fn states_are_named_for_numbers_and_bits_alike() {
        let info = SeriesInfo {
            name: "door".to_owned(),
            labels: Arc::default(),
            unit: String::new(),
            kind: ValueKind::Bool,
            scale: Scale::ONE,
            states: BTreeMap::from([(1, "open".to_owned())]),
        };

        assert_eq!(info.state(&Value::Bool(true)), Some("open"));
        assert_eq!(info.state(&Value::Int(1)), Some("open"));
        assert_eq!(info.state(&Value::Bool(false)), None);
        assert_eq!(info.state(&Value::F64(1.0)), None);
    }
}
