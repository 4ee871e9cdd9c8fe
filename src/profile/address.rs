//! Addresses as manuals write them, with the table as their first digit: 40001, 400001, 30013, 4x0001. Pure.
//!
//! On the wire registers of each table count from 0. Manuals that follow Modicon count from 1 and put the table in
//! front: 0 coils, 1 discrete inputs, 3 input registers, 4 holding registers (Modicon Modbus Protocol Reference Guide
//! PI-MBUS-300, chapter 1). With five digits an address reaches 9999, with six 65536.

use super::point::Table;

/// How the addresses of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// As they go on the wire, from 0.
    #[default]
    Protocol,
    /// With the table as the first digit, from 1.
    Modicon,
}

/// Table and protocol address of a number such as 40001 or 400001; `None` when no table begins with it. Numbers of up to
/// four digits are coils.
pub fn of_number(number: i128) -> Option<(Table, u16)> {
    let (digit, place) = match number {
        1..=9_999 => (0, number),
        10_001..=49_999 => (number / 10_000, number % 10_000),
        100_001..=465_536 => (number / 100_000, number % 100_000),
        _ => return None,
    };
    place_in(digit, place)
}

/// The same of text: `"40001"`, `"000017"`, `"4x0001"`, `"4x00001"`.
pub fn of_text(text: &str) -> Option<(Table, u16)> {
    if let Some((digit, place)) = text.split_once(['x', 'X']) {
        let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let fits = digit.len() == 1 && (4..=5).contains(&place.len()) && is_plain(digit) && is_plain(place);
        return if fits { place_in(digit.parse().ok()?, place.parse().ok()?) } else { None };
    }
    if !(5..=6).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (digit, place) = text.split_at(1);
    place_in(digit.parse().ok()?, place.parse().ok()?)
}

fn place_in(digit: i128, place: i128) -> Option<(Table, u16)> {
    let table = match digit {
        0 => Table::Coils,
        1 => Table::DiscreteInputs,
        3 => Table::InputRegisters,
        4 => Table::HoldingRegisters,
        _ => return None,
    };
    let address = u16::try_from(place.checked_sub(1)?).ok()?;
    Some((table, address))
}

/// What a protocol address would be if it were written as in manuals, when it looks so: 40001 to 49999 holding registers,
/// 30001 to 39999 input registers, 10001 to 19999 discrete inputs.
pub fn looks_like(address: u16) -> Option<(Table, u16)> {
    of_number(i128::from(address)).filter(|(table, _)| *table != Table::Coils)
}

/// `holding register address 2`.
pub fn in_words(table: Table, address: u16) -> String {
    let what = match table {
        Table::Coils => "coil",
        Table::DiscreteInputs => "discrete input",
        Table::HoldingRegisters => "holding register",
        Table::InputRegisters => "input register",
        Table::HoldingRegisters32 => "32-bit holding register",
        Table::InputRegisters32 => "32-bit input register",
    };
    format!("{what} address {address}")
}

/// Why a device may refuse a register at this address of a table, when the address looks like one out of a manual.
pub fn explain_refusal(table: Table, address: u16) -> Option<String> {
    let (of, counted) = looks_like(address)?;
    let first = u32::from(address) / 10_000 * 10_000 + 1;
    let elsewhere = if of == table { format!("address {counted}") } else { in_words(of, counted) };
    Some(format!("if the manual counts from {first}, this is {elsewhere}; addressing = \"modicon\" takes it so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_manuals_are_table_and_address() {
        let cases = [
            (40_001, Some((Table::HoldingRegisters, 0))),
            (49_999, Some((Table::HoldingRegisters, 9_998))),
            (400_001, Some((Table::HoldingRegisters, 0))),
            (465_536, Some((Table::HoldingRegisters, 65_535))),
            (30_013, Some((Table::InputRegisters, 12))),
            (300_013, Some((Table::InputRegisters, 12))),
            (10_001, Some((Table::DiscreteInputs, 0))),
            (1, Some((Table::Coils, 0))),
            (9_999, Some((Table::Coils, 9_998))),
            (0, None),
            (10_000, None),
            (20_001, None),
            (40_000, None),
            (50_001, None),
            (465_537, None),
            (365_537, None),
            (200_001, None),
            (-1, None),
        ];
        for (number, place) in cases {
            assert_eq!(of_number(number), place, "{number}");
        }
    }

    #[test]
    fn text_may_have_an_x_behind_the_table() {
        assert_eq!(of_text("4x0001"), Some((Table::HoldingRegisters, 0)));
        assert_eq!(of_text("3X00013"), Some((Table::InputRegisters, 12)));
        assert_eq!(of_text("0x0017"), Some((Table::Coils, 16)));
        assert_eq!(of_text("00017"), Some((Table::Coils, 16)));
        assert_eq!(of_text("000017"), Some((Table::Coils, 16)));
        assert_eq!(of_text("400001"), Some((Table::HoldingRegisters, 0)));
        for other in ["", "4x", "4x1", "4x000001", "2x0001", "4x0000", "0x10", "17", "0xFF", "40001a", "x0001"] {
            assert_eq!(of_text(other), None, "{other}");
        }
    }

    #[test]
    fn a_refusal_is_explained_where_the_address_looks_like_one_of_a_manual() {
        assert_eq!(
            explain_refusal(Table::HoldingRegisters, 40_001).as_deref(),
            Some("if the manual counts from 40001, this is address 0; addressing = \"modicon\" takes it so")
        );
        assert_eq!(
            explain_refusal(Table::HoldingRegisters, 30_013).as_deref(),
            Some(
                "if the manual counts from 30001, this is input register address 12; addressing = \"modicon\" takes it so"
            )
        );
        assert_eq!(explain_refusal(Table::HoldingRegisters, 100), None);
        assert_eq!(explain_refusal(Table::HoldingRegisters, 40_000), None);
    }
}
