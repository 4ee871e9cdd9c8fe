//! Writing to machines: off unless the owner allows it, tag by tag, and then within his bounds.
//!
//! ```text
//! wish -> permission in force? -> bounds, pace -> journal -> interlocks, value now, step -> write once -> read back
//! ```
//!
//! A permission is for one register of one device behind one endpoint, with one encoding and scale, and as long as its
//! interlocks look at what they looked at. All of that ([`basis`]) is in its *pin*, which stands in the owner's own file.
//! Whatever changes on site, the permission is not in force until the owner has renewed the pin. A pushed configuration
//! in which a pinned permission would rest on something else is refused ([`endangered`]).
//!
//! # Every way to a device
//!
//! | Bytes | Come from | Can they write? | Test |
//! |---|---|---|---|
//! | Modbus functions 1 to 4 | polls, identification, quirk probes, `read`, `poll-now`, `identify`, `scan` | no: [`modbus::frame`](crate::modbus::frame) knows no other request for words | `architecture.rs::only_known_files_send_bytes_to_devices` |
//! | Modbus function 43/14 | identification | no | the same |
//! | Modbus functions 5, 6, 15, 16 | a [`Ticket`] of the [`WriteGuard`] only | within the owner's `[[write]]` | `architecture.rs::only_the_guard_has_writes_sent` |
//! | functions 8 (diagnostics), 22, 23 | nothing | - | the same |
//! | the `ask` of a text instrument | profiles that are shipped or the owner's; from afar only what the owner's file sends there | as the owner allows | `config/pushed.rs`, `commands/pushed.rs` |
//! | handshake, wake-up | nothing: no driver sends any | - | `architecture.rs::only_known_files_send_bytes_to_devices` |
//! | RTU frames to another port or gateway | only where the owner's file has them | no | `config/pushed.rs` |
//! | a scan from afar | there is no such command | - | `commands/verb.rs` |

pub mod basis;
pub mod guard;
pub mod lease;
pub mod lock;
pub mod pace;
mod perform;
pub mod permission;
pub mod sent;

pub use basis::{Basis, Installation};
pub use guard::{Ticket, Wish, WriteGuard};
pub use permission::{Permission, endangered, resolve};
