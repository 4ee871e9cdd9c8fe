//! The keys that say where a point is: `address`, or `addresses` where its registers do not lie one after the other.

use super::ReadLimits;
use super::address::{self, Addressing};
use super::encoding_file::Inherited;
use super::point::{Encoding, Table, items};
use crate::settings::{Item, Section};

/// Where a point is, as far as it was read.
pub(super) struct Address<'s, 'i> {
    /// Its table: its own, that of its address, or that of all points.
    pub table: Inherited<Table>,
    written: Option<Item<'s, 'i>>,
    /// Protocol addresses; `None` when one of them has a fault, or none is written.
    places: Option<Vec<u16>>,
    is_scattered: bool,
}

/// Protocol addresses of a point.
pub(super) struct Place {
    pub address: u16,
    /// Of each register, where they are scattered.
    pub scattered: Box<[u16]>,
}

/// Takes `address` or `addresses` out of the section of a point. `own` is the table that the point names itself,
/// `default` that of all points.
pub(super) fn read<'s, 'i>(
    section: &mut Section<'s, 'i>,
    addressing: Inherited<Addressing>,
    own: Option<Inherited<Table>>,
    default: Inherited<Table>,
) -> Address<'s, 'i> {
    let (one, several) = (section.take("address"), section.take("addresses"));
    if one.is_none() && several.is_none() {
        section.missing("address", allowed(addressing));
    }
    if let (Some(_), Some(item)) = (&one, &several) {
        item.fault("address and addresses exclude each other");
    }
    let is_scattered = one.is_none() && several.is_some();
    let written = one.or(several);
    let items = match (&written, is_scattered) {
        (Some(item), true) => item.clone().list(),
        (Some(item), false) => Some(vec![item.clone()]),
        (None, _) => None,
    };
    let read: Option<Vec<(Option<Table>, u16)>> =
        items.and_then(|items| items.iter().map(|item| one_address(item, addressing)).collect());
    let table = own.unwrap_or(default);
    let by_address = read.as_ref().and_then(|places| places.iter().find_map(|(table, _)| *table));
    let table = match (by_address, &written, addressing) {
        (Some(implied), Some(item), _) => agreed(item, implied, own, default),
        // A table that the address would have said is not missing.
        (None, _, Inherited::Is(Addressing::Modicon) | Inherited::Faulty) if table == Inherited::Nothing => {
            Inherited::Faulty
        }
        (_, _, _) => table,
    };
    let same_table = read.iter().flatten().all(|(table, _)| *table == by_address);
    if let (false, Some(item)) = (same_table, &written) {
        item.fault("all registers of a point are in one table");
    }
    let places = read.filter(|_| same_table).map(|places| places.into_iter().map(|(_, address)| address).collect());
    Address { table, written, places, is_scattered }
}

/// What an address may be.
fn allowed(addressing: Inherited<Addressing>) -> &'static str {
    match addressing {
        Inherited::Is(Addressing::Modicon) => {
            "as in the manual, with the table as its first digit: 40001, 400001, \"4x0001\""
        }
        Inherited::Is(Addressing::Protocol) | Inherited::Nothing | Inherited::Faulty => {
            "0 to 65535, as it goes on the wire"
        }
    }
}

/// The table that the address says, where it does, and the protocol address; a fault when it is none.
fn one_address(item: &Item<'_, '_>, addressing: Inherited<Addressing>) -> Option<(Option<Table>, u16)> {
    let number = item.any_integer();
    let by_manual = match item.as_word() {
        Some(word) => address::of_text(word),
        None => number.and_then(address::of_number),
    };
    match addressing {
        Inherited::Is(Addressing::Modicon) => {
            let found = by_manual.map(|(table, address)| (Some(table), address));
            if found.is_none() {
                item.fault(
                    "must be an address as in manuals: 40001 or 400001 for the first holding register, 30001 input \
                     register, 10001 discrete input, \"00001\" coil, or \"4x0001\" and the like",
                );
            }
            found
        }
        Inherited::Is(Addressing::Protocol) | Inherited::Nothing => {
            let address = number.and_then(|number| u16::try_from(number).ok());
            if address.is_none() {
                let hint = by_manual.map(|(table, address)| {
                    format!(
                        "; as manuals count it is {}: say that, or addressing = \"modicon\" in [modbus]",
                        address::in_words(table, address)
                    )
                });
                item.fault(format!("must be a whole number from 0 to 65535{}", hint.unwrap_or_default()));
            }
            address.map(|address| (None, address))
        }
        // Which of the two is meant is not known.
        Inherited::Faulty => None,
    }
}

/// The table of an address that says it, when what is written beside it does not contradict.
fn agreed(
    item: &Item<'_, '_>,
    implied: Table,
    own: Option<Inherited<Table>>,
    default: Inherited<Table>,
) -> Inherited<Table> {
    let is_same = |table: Table| table.read_function() == implied.read_function();
    match (own, default) {
        (Some(Inherited::Is(table)), _) if is_same(table) => Inherited::Is(table),
        (Some(Inherited::Is(_)), _) => {
            item.fault(format!("is {} by its first digit, and table says another one", a_table(implied)));
            Inherited::Faulty
        }
        (Some(Inherited::Faulty | Inherited::Nothing), _) => Inherited::Faulty,
        (None, Inherited::Is(table)) if is_same(table) => Inherited::Is(table),
        // A number without the digit of its table reads as a coil.
        (None, Inherited::Is(table)) if implied == Table::Coils && table != Table::Coils => {
            item.fault("is a coil without a digit for its table in front: a holding register is 40001 or 400001");
            Inherited::Faulty
        }
        (None, _) => Inherited::Is(implied),
    }
}

fn a_table(table: Table) -> &'static str {
    match table {
        Table::Coils => "a coil",
        Table::DiscreteInputs => "a discrete input",
        Table::HoldingRegisters | Table::HoldingRegisters32 => "a holding register",
        Table::InputRegisters | Table::InputRegisters32 => "an input register",
    }
}

impl Address<'_, '_> {
    /// The addresses, with faults noted where a point of this encoding does not fit there; `None` when they are not known.
    pub(super) fn place(&self, table: Option<Table>, encoding: Option<Encoding>, limits: ReadLimits) -> Option<Place> {
        let (item, places) = (self.written.as_ref()?, self.places.as_ref()?);
        if self.is_scattered {
            return scattered(item, places, table, encoding);
        }
        let address = *places.first()?;
        if let (Some(encoding), Some(table)) = (encoding, table) {
            let count = items(encoding, table);
            let last = u32::from(address) + u32::from(count) - 1;
            if last > u32::from(u16::MAX) {
                item.fault(format!("the point ends at {last}, the last address is 65535"));
            }
            check_limit(item, count, limits, table);
        }
        Some(Place { address, scattered: Box::default() })
    }
}

fn scattered(item: &Item<'_, '_>, places: &[u16], table: Option<Table>, encoding: Option<Encoding>) -> Option<Place> {
    let is_wrong_table = table.is_some_and(|table| table.holds_bits() || table.item_words() > 1);
    let is_wrong_count = encoding.is_some_and(|encoding| usize::from(encoding.width()) != places.len());
    if is_wrong_table {
        item.fault("only for values of several registers of 16 bits");
    } else if let (true, Some(encoding)) = (is_wrong_count, encoding) {
        item.fault(format!("must name each register: the encoding takes {}", encoding.width()));
    } else if places.len() < 2 {
        item.fault("must name at least two registers; one is written as address");
    } else {
        return Some(Place { address: *places.first()?, scattered: places.into() });
    }
    None
}

/// A point is never split over two requests.
pub(super) fn check_limit(item: &Item<'_, '_>, registers: u16, limits: ReadLimits, table: Table) {
    let limit = limits.registers.min(table.items_per_read());
    if !table.holds_bits() && registers > limit {
        item.fault(format!("the point takes {registers} registers, but registers_max is {limit}"));
    }
}
