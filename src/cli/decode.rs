//! `lineside decode`: any payload, readable.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure, reader_has_gone};
use crate::encoding;

/// Largest payload that is read, in bytes: the most one MQTT packet can carry (MQTT 5.0, 2.1.4).
const PAYLOAD_MAX: u64 = 256 << 20;

/// Print what is in a payload: a batch of any encoding, an alarm, a part of the catalogue.
#[derive(Debug, Args)]
pub(super) struct Decode {
    /// File with one payload; standard input without it or with "-".
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Decode {
    pub fn run(self) -> Result<Exit, Failure> {
        let payload = self.payload()?;
        let decoded = encoding::decode_any(&payload)
            .map_err(|error| Failure::Refused(format!("{}: {error}", self.file.display())))?;
        let mut out = anstream::stdout().lock();
        let written = match self.json {
            true => serde_json::to_writer(&mut out, &decoded).map_err(std::io::Error::from).and_then(|()| writeln!(out)),
            false => write!(out, "{decoded}"),
        };
        match written {
            Err(error) if !reader_has_gone(&error) => Err(anyhow::Error::from(error).into()),
            Ok(()) | Err(_) => Ok(Exit::Done),
        }
    }

    fn payload(&self) -> Result<Vec<u8>, Failure> {
        let refused = |error: std::io::Error| Failure::Refused(format!("{}: cannot be read: {error}", self.file.display()));
        let mut payload = Vec::new();
        let read = if self.file.as_os_str() == "-" {
            std::io::stdin().lock().take(PAYLOAD_MAX).read_to_end(&mut payload)
        } else {
            let file = std::fs::File::open(&self.file).map_err(refused)?;
            file.take(PAYLOAD_MAX).read_to_end(&mut payload)
        };
        read.map_err(refused)?;
        Ok(payload)
    }
}
