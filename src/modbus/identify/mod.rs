//! Which device answers, and which firmware it runs.
//!
//! An [`Inquiry`] decides what to ask next and what the answers mean; whoever owns the link asks. It never asks more
//! than the profile says, only reads, and goes on to the next source where a device refuses. [`survey`] tries every
//! profile on a device of which nothing is known.

mod chain;
mod inquiry;
mod survey;

use std::future::Future;

pub use inquiry::{Identity, Inquiry, Verdict};
pub use survey::{Found, Match, survey};

use super::client::Client;
use super::error::PollError;
use super::objects::Objects;
use crate::model::UnitId;
use crate::profile::Table;

/// One read that helps to identify a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Registers or bits.
    Registers {
        /// Which table.
        table: Table,
        /// Protocol address of the first, from 0.
        address: u16,
        /// How many.
        count: u16,
    },
    /// Identification objects from this one on.
    Objects {
        /// 1 basic, 2 regular, 3 extended.
        code: u8,
        /// The first object.
        object: u8,
    },
}

/// What a device answered to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Registers.
    Words(Vec<u16>),
    /// Objects.
    Objects(Objects),
}

/// Asks one device.
pub trait Asker {
    /// Carries out one read.
    fn ask(&mut self, ask: Ask) -> impl Future<Output = Result<Reply, PollError>> + Send;
}

/// One device behind a client.
pub struct Unit<'a> {
    /// The open connection.
    pub client: &'a mut Client,
    /// Who is asked.
    pub unit: UnitId,
}

impl Asker for Unit<'_> {
    async fn ask(&mut self, ask: Ask) -> Result<Reply, PollError> {
        match ask {
            Ask::Registers { table, address, count } => {
                let mut words = Vec::new();
                self.client.read(self.unit, table, address, count, &mut words).await?;
                Ok(Reply::Words(words))
            }
            Ask::Objects { code, object } => {
                self.client.read_objects(self.unit, code, object).await.map(Reply::Objects)
            }
        }
    }
}

#[cfg(test)]
mod tests;
