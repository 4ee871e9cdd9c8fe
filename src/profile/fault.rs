//! What is wrong with a profile file, said so that it can be put right without a second look.

use std::fmt;

/// One fault of a profile file: where it is, what stands there and what may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileFault {
    /// Path of the file.
    pub file: String,
    /// Line, from 1 on; `None` when the fault is not in one place.
    pub line: Option<usize>,
    /// Key with its section, `point.voltage_l1_v.encoding`; empty when the whole file is meant.
    pub key: String,
    /// What stands there, as written; `None` when nothing does.
    pub value: Option<String>,
    /// What is wrong or what is allowed.
    pub reason: String,
}

/// `firmware-profiles/x.toml:31: point.voltage_l1_v.encoding = "u17": must be one of u16, i16, ...`.
impl fmt::Display for ProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ProfileFault {}
