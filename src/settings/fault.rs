//! What is wrong with a file, said so that it can be put right without a second look.

use std::fmt;

use serde::Serialize;

/// One fault of a file: where it is, what stands there and what may stand there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFault {
    /// The file, as the user named it.
    pub file: String,
    /// Line, from 1 on; `None` when the fault is not in one place.
    pub line: Option<usize>,
    /// Key with its section, `device[2].unit_id`; empty when the whole file is meant.
    pub key: String,
    /// What stands there, as written; `None` when nothing does.
    pub value: Option<String>,
    /// What is wrong or what is allowed.
    pub reason: String,
    /// What the section is called, such as `device press-1`, where its number alone says little.
    pub section: Option<String>,
}

impl FileFault {
    /// A fault of the file as a whole.
    pub fn of_file(file: &str, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            value: None,
            reason: reason.into(),
            section: None,
        }
    }
}

/// `lineside.toml:14: device[2].unit_id = 0: must be 1 to 247 (device press-1)`.
impl fmt::Display for FileFault {
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
        f.write_str(&self.reason)?;
        match &self.section {
            Some(section) => write!(f, " ({section})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FileFault {}
