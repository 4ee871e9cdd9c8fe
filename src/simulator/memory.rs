//! The four tables of a device: sparse, so that an address it does not have is refused.

use crate::profile::Table;

const TABLES: [Table; 6] = [
    Table::Coils,
    Table::DiscreteInputs,
    Table::HoldingRegisters,
    Table::InputRegisters,
    Table::HoldingRegisters32,
    Table::InputRegisters32,
];

/// Registers and bits by table and address; bits are words of 0 or 1.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    coils: Vec<Span>,
    discrete_inputs: Vec<Span>,
    holding_registers: Vec<Span>,
    input_registers: Vec<Span>,
    holding_registers_32: Vec<Span>,
    input_registers_32: Vec<Span>,
}

/// Words of items at consecutive addresses, two for each where they have 32 bits. Spans of a table are in order and neither overlap nor touch.
#[derive(Debug, Clone)]
struct Span {
    first: usize,
    items: Vec<u16>,
}

impl Span {
    fn end(&self) -> usize {
        self.first + self.items.len()
    }
}

impl Memory {
    /// Makes `count` items from `address` exist; new ones are 0, others keep what they hold.
    pub fn define(&mut self, table: Table, address: u16, count: u16) {
        let words = usize::from(table.item_words());
        let spans = self.table_mut(table);
        let mut new = Span { first: usize::from(address) * words, items: vec![0; usize::from(count) * words] };
        let before = spans.partition_point(|span| span.end() < new.first);
        let touching = spans[before..].iter().take_while(|span| span.first <= new.end()).count();
        let old = &spans[before..before + touching];
        if let (Some(lowest), Some(highest)) = (old.first(), old.last()) {
            let (first, end) = (new.first.min(lowest.first), new.end().max(highest.end()));
            new = Span { first, items: vec![0; end - first] };
            for span in old {
                new.items[span.first - first..span.end() - first].copy_from_slice(&span.items);
            }
        }
        spans.splice(before..before + touching, [new]);
    }

    /// Makes the items between two spans exist wherever at most `gap` are missing.
    pub fn fill_gaps(&mut self, gap: u16) {
        for table in TABLES {
            let words = usize::from(table.item_words());
            let ends: Vec<(usize, usize)> =
                self.table(table).windows(2).map(|pair| (pair[0].end() / words, pair[1].first / words)).collect();
            for (end, next) in ends {
                if let (Ok(address), Ok(missing)) = (u16::try_from(end), u16::try_from(next - end))
                    && missing <= gap
                {
                    self.define(table, address, missing);
                }
            }
        }
    }

    /// The words of `count` items from `address`, when all of them exist.
    pub fn items(&self, table: Table, address: u16, count: usize) -> Option<&[u16]> {
        let (span, start) = locate(self.table(table), table, address)?;
        self.table(table)[span].items.get(start..start + count * usize::from(table.item_words()))
    }

    /// As [`items`](Self::items), to be changed.
    pub fn items_mut(&mut self, table: Table, address: u16, count: usize) -> Option<&mut [u16]> {
        let (span, start) = locate(self.table(table), table, address)?;
        self.table_mut(table)[span].items.get_mut(start..start + count * usize::from(table.item_words()))
    }

    fn table(&self, table: Table) -> &Vec<Span> {
        match table {
            Table::Coils => &self.coils,
            Table::DiscreteInputs => &self.discrete_inputs,
            Table::HoldingRegisters => &self.holding_registers,
            Table::InputRegisters => &self.input_registers,
            Table::HoldingRegisters32 => &self.holding_registers_32,
            Table::InputRegisters32 => &self.input_registers_32,
        }
    }

    fn table_mut(&mut self, table: Table) -> &mut Vec<Span> {
        match table {
            Table::Coils => &mut self.coils,
            Table::DiscreteInputs => &mut self.discrete_inputs,
            Table::HoldingRegisters => &mut self.holding_registers,
            Table::InputRegisters => &mut self.input_registers,
            Table::HoldingRegisters32 => &mut self.holding_registers_32,
            Table::InputRegisters32 => &mut self.input_registers_32,
        }
    }
}

/// Index of the span that holds `address`, and the position in it.
fn locate(spans: &[Span], table: Table, address: u16) -> Option<(usize, usize)> {
    let address = usize::from(address) * usize::from(table.item_words());
    let span = spans.partition_point(|span| span.first <= address).checked_sub(1)?;
    Some((span, address - spans[span].first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table::InputRegisters;

    #[test]
    fn only_what_was_defined_exists_and_only_in_its_table() {
        let mut memory = Memory::default();
        memory.define(TABLE, 10, 4);

        assert_eq!(memory.items(TABLE, 10, 4), Some(&[0; 4][..]));
        assert_eq!(memory.items(TABLE, 9, 1), None);
        assert_eq!(memory.items(TABLE, 13, 2), None);
        assert_eq!(memory.items(Table::HoldingRegisters, 10, 4), None);
    }

    #[test]
    fn spans_that_touch_or_overlap_become_one_and_keep_what_they_hold() {
        let mut memory = Memory::default();
        for (address, count) in [(10, 2), (20, 2), (14, 2)] {
            memory.define(TABLE, address, count);
            memory.items_mut(TABLE, address, 2).unwrap().fill(address);
        }

        memory.define(TABLE, 11, 10);
        memory.define(TABLE, 65535, 1);

        assert_eq!(memory.items(TABLE, 10, 12).unwrap(), [10, 10, 0, 0, 14, 14, 0, 0, 0, 0, 20, 20]);
        assert_eq!(memory.items(TABLE, 65535, 1), Some(&[0][..]));
        assert_eq!(memory.items(TABLE, 22, 1), None);
    }

    #[test]
    fn gaps_up_to_the_limit_can_be_read_along() {
        let mut memory = Memory::default();
        for address in [0, 3, 9] {
            memory.define(TABLE, address, 1);
        }

        memory.fill_gaps(2);

        assert!(memory.items(TABLE, 0, 4).is_some());
        assert!(memory.items(TABLE, 3, 2).is_none());
    }
}
