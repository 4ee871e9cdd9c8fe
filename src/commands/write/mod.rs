//! Writing to machines: off unless the owner allows it, tag by tag, and then within his bounds.
//!
//! ```text
//! wish -> permission in force? -> bounds, pace -> journal -> interlocks, value now, step -> write once -> read back
//! ```
//!
//! A permission is for one register of one device behind one endpoint, with one encoding and scale. All of that is in
//! its *pin*, which stands in the owner's own file: whatever else changes, by a pushed configuration or a new profile,
//! the permission is not in force until the owner has renewed the pin on site.

pub mod guard;
pub mod lease;
pub mod lock;
mod perform;
pub mod permission;

pub use guard::{Ticket, Wish, WriteGuard};
pub use permission::{Permission, resolve};
