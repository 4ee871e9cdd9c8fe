//! The words of the field: what every other module talks about.
//!
//! No I/O, no clock, no async, no other module of this crate.

pub mod alarm;
pub mod clock_offset;
pub mod go_regex;
pub mod ids;
pub mod promql;
pub mod reading;
pub mod record;
pub mod selection;
mod series;
pub mod thinned;
pub mod time;

pub use alarm::{AlarmReading, AlarmRecord, AlarmState, Priority, Transition};
pub use clock_offset::{ClockOffset, ClockOffsets};
pub use ids::{BootId, Epoch, Identity, Lane, Name, NameError, Sequence, SeriesId, UnitId, UnitIdError};
pub use reading::{Doubt, Fault, Observed, Quality, Row, Value};
pub use record::{Commit, CommitHeader, Gap, GapReason, Records};
pub use selection::{Selection, SelectionError};
pub use series::{Scale, SeriesInfo, ValueKind};
pub use thinned::{Aggregate, Replaced, Summary, Thinned, Window};
pub use time::{ClockState, Timestamp};
