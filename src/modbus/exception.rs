//! What each exception code means, and what follows from it (Modbus Application Protocol 1.1b3, 7). Pure.
//!
//! | Code | Name | Speaks | What follows |
//! |---|---|---|---|
//! | 1 | illegal function | the device | the table is not asked for again before the next re-check |
//! | 2 | illegal data address | the device | the block is divided until the illegal registers are known and avoided |
//! | 3 | illegal data value | the device | the same: some devices say so to a block that is too long |
//! | 4 | server device failure | the device | the readings are bad |
//! | 5 | acknowledge | the device | asked again shortly: it works on the answer |
//! | 6 | server device busy | the device | asked again shortly: it is at something else |
//! | 7 | negative acknowledge | the device | the readings are bad |
//! | 8 | memory parity error | the device | the readings are bad |
//! | 9 | (not assigned) | the device | the readings are bad |
//! | 10 | gateway path unavailable | a gateway | no fault of the device: left alone for a while, the gateway is named |
//! | 11 | gateway target failed to respond | a gateway | a silence, heard by the gateway: left alone for a while |
//!
//! Any other code is a device that speaks its own dialect: the readings are bad.

/// What follows from an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// What was asked for is not there with this function: avoid it.
    Avoid,
    /// Something in the block is not there, or the block is too long: find out what.
    Divide,
    /// The readings are bad, and that is all.
    Report,
    /// The device has no time now: ask again shortly.
    AskAgain,
    /// A gateway speaks, not the device: it cannot reach it.
    Unreachable,
}

/// The treatments of the codes 1 to 11, in this order.
const TREATMENTS: [Treatment; 11] = [
    Treatment::Avoid,
    Treatment::Divide,
    Treatment::Divide,
    Treatment::Report,
    Treatment::AskAgain,
    Treatment::AskAgain,
    Treatment::Report,
    Treatment::Report,
    Treatment::Report,
    Treatment::Unreachable,
    Treatment::Unreachable,
];

/// What follows from the exception with this code.
pub fn treatment(code: u8) -> Treatment {
    let index = usize::from(code).wrapping_sub(1);
    TREATMENTS.get(index).copied().unwrap_or(Treatment::Report)
}

/// Who says so: a gateway on the way, or the device itself.
pub fn speaker(code: u8) -> &'static str {
    match treatment(code) {
        Treatment::Unreachable => "a gateway on the way to the device",
        Treatment::Avoid | Treatment::Divide | Treatment::Report | Treatment::AskAgain => "the device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_treated_as_what_it_is() {
        use Treatment::{AskAgain, Avoid, Divide, Report, Unreachable};
        let treatments: Vec<Treatment> = (0..=12).map(treatment).collect();

        assert_eq!(
            treatments,
            [
                Report,
                Avoid,
                Divide,
                Divide,
                Report,
                AskAgain,
                AskAgain,
                Report,
                Report,
                Report,
                Unreachable,
                Unreachable,
                Report
            ]
        );
        assert_eq!(speaker(2), "the device");
        assert_eq!(speaker(10), "a gateway on the way to the device");
    }
}
