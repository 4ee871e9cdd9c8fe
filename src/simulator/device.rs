//! The registers of one simulated Modbus device, and what it answers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::SimulatorError;
use super::fault::{Misbehaviour, Outage};
use super::memory::Memory;
use super::values::{Course, Values};
use crate::modbus::encode::{EncodeError, Quantity, encode};
use crate::profile::{Point, ReadLimits, Table};

/// Exception codes (Modbus Application Protocol 1.1b3, 7).
const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_DATA_ADDRESS: u8 = 2;
const ILLEGAL_DATA_VALUE: u8 = 3;

/// Most registers one write may carry (Modbus Application Protocol 1.1b3, 6.12).
const REGISTERS_PER_WRITE: u16 = 123;
/// Most coils one write may carry (Modbus Application Protocol 1.1b3, 6.11).
const BITS_PER_WRITE: u16 = 1968;

/// One device behind a simulated endpoint.
#[derive(Debug, Clone)]
pub struct Device {
    /// Who it answers as.
    pub unit: u8,
    /// How long it thinks before it answers.
    pub answer_delay: Duration,
    /// What is wrong with it.
    pub misbehaviour: Option<Misbehaviour>,
    /// When it is dead, counted from the start of its server.
    pub outages: Vec<Outage>,
    limits: ReadLimits,
    memory: Memory,
    /// Registers that are given only together.
    wholes: Vec<(Table, Range<u32>)>,
    points: Arc<[Point]>,
    motion: Option<Motion>,
    answered: u64,
    /// Objects of Read Device Identification; none at all when the device has no such function.
    objects: Vec<(u8, String)>,
}

/// What moves the values of a device.
#[derive(Debug, Clone)]
struct Motion {
    values: Values,
    /// Which point shows which value; those without one only drive others.
    shown_by: Vec<Option<usize>>,
    /// How often the device renews its registers.
    renewal: Duration,
    renewed_at: Duration,
}

impl Motion {
    /// The values that a point shows, with the index of the point.
    fn shown(&self) -> impl Iterator<Item = (usize, f64)> {
        let pairs = self.shown_by.iter().zip(self.values.now());
        pairs.filter_map(|(point, value)| point.map(|point| (point, *value)))
    }
}

/// What a request asked and a device granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Function code.
    pub function: u8,
    /// First item.
    pub address: u16,
    /// Items; registers or bits.
    pub count: u16,
}

impl Access {
    /// The table that the function works on.
    pub fn table(self) -> Table {
        match self.function {
            1 | 5 | 15 => Table::Coils,
            2 => Table::DiscreteInputs,
            4 => Table::InputRegisters,
            _ => Table::HoldingRegisters,
        }
    }
}

impl Device {
    /// A device that has exactly the registers of `points`, all zero, and between them such gaps as its limits let
    /// a request read along.
    pub fn new(unit: u8, points: impl Into<Arc<[Point]>>, limits: ReadLimits) -> Self {
        let points = points.into();
        let mut memory = Memory::default();
        let mut wholes = Vec::new();
        for point in points.iter() {
            memory.define(point.table, point.address, point.items());
            point.scattered.iter().for_each(|address| memory.define(point.table, *address, 1));
            if let Some(whole) = point.read_whole {
                memory.define(point.table, whole.address, whole.count);
                wholes.push((point.table, span(whole.address, whole.count)));
            }
        }
        wholes.dedup();
        memory.fill_gaps(limits.gap);
        Self {
            unit,
            answer_delay: Duration::ZERO,
            misbehaviour: None,
            outages: Vec::new(),
            limits,
            memory,
            wholes,
            points,
            motion: None,
            answered: 0,
            objects: Vec::new(),
        }
    }

    /// A device with these registers alone, `(table, first address, words)` each, and no gap that can be read along.
    pub fn of_registers<'a>(unit: u8, registers: impl IntoIterator<Item = (Table, u16, &'a [u16])>) -> Self {
        let limits = ReadLimits { registers: 125, bits: 2000, gap: 0 };
        let mut device = Self::new(unit, Vec::new(), limits);
        registers.into_iter().for_each(|(table, address, words)| device.write(table, address, words));
        device
    }

    /// Grants no more than `limits` in one request, and such gaps between its registers as they let a request read along.
    pub fn limited(mut self, limits: ReadLimits) -> Self {
        self.memory.fill_gaps(limits.gap);
        self.limits = limits;
        self
    }

    /// Answers Read Device Identification with these objects (Modbus Application Protocol 1.1b3, 6.21).
    pub fn identified<'a>(mut self, objects: impl IntoIterator<Item = (u8, &'a str)>) -> Self {
        self.objects = objects.into_iter().map(|(number, text)| (number, text.to_owned())).collect();
        self.objects.sort();
        self
    }

    /// Lets the points of these indices follow their courses; a course without a point only drives others. The
    /// registers are renewed at most each `renewal`.
    ///
    /// Fails when the first value of a course does not fit its point.
    pub fn moving(
        mut self,
        courses: Vec<(Option<usize>, Course)>,
        renewal: Duration,
        seed: u64,
    ) -> Result<Self, SimulatorError> {
        let (shown_by, courses) = courses.into_iter().unzip();
        let motion = Motion { values: Values::new(courses, seed), shown_by, renewal, renewed_at: Duration::ZERO };
        for (point, value) in motion.shown() {
            self.show(point, Quantity::Number(value))?;
        }
        self.motion = Some(motion);
        Ok(self)
    }

    /// Shows `quantity` at the point of this name.
    pub fn set(&mut self, name: &str, quantity: Quantity<'_>) -> Result<(), SimulatorError> {
        let point = self.points.iter().position(|point| point.name == name);
        self.show(point.ok_or_else(|| SimulatorError::NoSuchPoint { name: name.to_owned() })?, quantity)
    }

    /// Puts raw words (0 or 1 each in a bit table) at an address, new to the device or not.
    pub fn write(&mut self, table: Table, address: u16, words: &[u16]) {
        let count = words.len() / usize::from(table.item_words());
        self.memory.define(table, address, u16::try_from(count).unwrap_or(u16::MAX));
        if let Some(registers) = self.memory.items_mut(table, address, count) {
            registers.copy_from_slice(words);
        }
    }

    /// The words now at an access that was granted.
    pub fn words(&self, access: Access) -> &[u16] {
        self.items(access).map(|(_, words)| words).unwrap_or_default()
    }

    /// The table and the words of an access; a device may have registers of 16 and of 32 bits behind one function.
    fn items(&self, access: Access) -> Option<(Table, &[u16])> {
        let count = usize::from(access.count);
        let of = |table| self.memory.items(table, access.address, count).map(|words| (table, words));
        let long = match access.table() {
            Table::HoldingRegisters => Table::HoldingRegisters32,
            Table::InputRegisters => Table::InputRegisters32,
            table => table,
        };
        of(access.table()).or_else(|| of(long))
    }

    /// Renews the registers when it is time. `now` counts from the start of the server.
    pub fn advance(&mut self, now: Duration) {
        let Some(mut motion) = self.motion.take() else { return };
        let span = now.saturating_sub(motion.renewed_at);
        if span >= motion.renewal {
            motion.values.step(span, self.answered);
            motion.renewed_at = now;
            for (point, value) in motion.shown() {
                // A value that left its register (a counter after years) stays where it was, as in a meter that is full.
                let _full = self.show(point, Quantity::Number(value));
            }
        }
        self.motion = Some(motion);
    }

    /// True while the device is dead by its schedule.
    pub fn is_out(&self, now: Duration) -> bool {
        self.outages.iter().any(|outage| outage.covers(now))
    }

    /// Appends the answer to one request to `answer`: what was asked, or an exception with its code.
    pub fn answer(&mut self, request: &[u8], answer: &mut Vec<u8>) -> Result<Access, u8> {
        let start = answer.len();
        let result = self.serve(request, answer);
        match result {
            Ok(_) => self.answered += 1,
            Err(code) => {
                answer.truncate(start);
                answer.extend_from_slice(&[request.first().copied().unwrap_or(0) | 0x80, code]);
            }
        }
        result
    }

    fn serve(&mut self, request: &[u8], answer: &mut Vec<u8>) -> Result<Access, u8> {
        let (function, first, second, rest) = match request {
            [0x2b, 0x0e, code, object] if !self.objects.is_empty() => return self.identify(*code, *object, answer),
            [22, a, b, masks @ ..] => {
                let access = Access { function: 22, address: u16::from_be_bytes([*a, *b]), count: 1 };
                return self.write_mask(access, masks, request, answer);
            }
            [function @ (1..=6 | 15 | 16 | 23), a, b, c, d, rest @ ..] => {
                (*function, u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]), rest)
            }
            [1..=6 | 15 | 16 | 22 | 23, ..] => return Err(ILLEGAL_DATA_VALUE),
            [..] => return Err(ILLEGAL_FUNCTION),
        };
        let access = Access { function, address: first, count: second };
        match function {
            1 | 2 => self.read(access, self.limits.bits, answer),
            3 | 4 => self.read(access, self.limits.registers, answer),
            5 | 6 => self.write_one(Access { count: 1, ..access }, second, request, answer),
            15 => self.write_many(access, BITS_PER_WRITE, rest, answer),
            23 => self.read_write(access, rest, answer),
            _ => self.write_many(access, REGISTERS_PER_WRITE, rest, answer),
        }
    }

    /// As many objects as one answer holds, from `object` on.
    fn identify(&self, code: u8, object: u8, answer: &mut Vec<u8>) -> Result<Access, u8> {
        let most = match code {
            1 => 2,
            2 => 0x7f,
            3 => u8::MAX,
            _ => return Err(ILLEGAL_DATA_VALUE),
        };
        let wanted = self.objects.iter().filter(|(number, _)| (object..=most).contains(number));
        answer.extend_from_slice(&[0x2b, 0x0e, code, 0x83, 0, 0, 0]);
        for (number, text) in wanted {
            if answer.len() + 2 + text.len() > 253 {
                (answer[4], answer[5]) = (0xff, *number);
                break;
            }
            answer.extend_from_slice(&[*number, u8::try_from(text.len()).map_err(|_| ILLEGAL_DATA_VALUE)?]);
            answer.extend_from_slice(text.as_bytes());
            answer[6] += 1;
        }
        if answer[6] == 0 {
            return Err(ILLEGAL_DATA_ADDRESS);
        }
        Ok(Access { function: 0x2b, address: u16::from(object), count: 0 })
    }

    fn read(&self, access: Access, limit: u16, answer: &mut Vec<u8>) -> Result<Access, u8> {
        if access.count == 0 || access.count > limit {
            return Err(ILLEGAL_DATA_VALUE);
        }
        let count = usize::from(access.count);
        let (table, items) = self.items(access).ok_or(ILLEGAL_DATA_ADDRESS)?;
        if self.cuts_a_whole(access) {
            return Err(ILLEGAL_DATA_ADDRESS);
        }
        let length = if table.holds_bits() { count.div_ceil(8) } else { 2 * items.len() };
        answer.extend_from_slice(&[access.function, u8::try_from(length).map_err(|_| ILLEGAL_DATA_VALUE)?]);
        if access.table().holds_bits() {
            let bytes = items.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (*bit as u8 & 1)));
            answer.extend(bytes);
        } else {
            answer.extend(items.iter().flat_map(|word| word.to_be_bytes()));
        }
        Ok(access)
    }

    /// True when only some of the registers are asked that the device gives only together.
    fn cuts_a_whole(&self, access: Access) -> bool {
        let asked = span(access.address, access.count);
        self.wholes.iter().filter(|(table, _)| *table == access.table()).any(|(_, whole)| {
            let touches = asked.start < whole.end && whole.start < asked.end;
            touches && (asked.start > whole.start || asked.end < whole.end)
        })
    }

    fn write_one(&mut self, access: Access, value: u16, request: &[u8], answer: &mut Vec<u8>) -> Result<Access, u8> {
        let item = match (access.function, value) {
            (5, 0xff00) => 1,
            (5, 0) => 0,
            (5, _) => return Err(ILLEGAL_DATA_VALUE),
            (_, word) => word,
        };
        let items = self.memory.items_mut(access.table(), access.address, 1).ok_or(ILLEGAL_DATA_ADDRESS)?;
        items[0] = item;
        answer.extend_from_slice(&request[..5]);
        Ok(access)
    }

    /// Function 22: keeps the bits of the first mask, sets those of the second (Modbus Application Protocol 1.1b3, 6.16).
    fn write_mask(&mut self, access: Access, masks: &[u8], request: &[u8], answer: &mut Vec<u8>) -> Result<Access, u8> {
        let [kept_high, kept_low, set_high, set_low] = *masks else { return Err(ILLEGAL_DATA_VALUE) };
        let kept = u16::from_be_bytes([kept_high, kept_low]);
        let set = u16::from_be_bytes([set_high, set_low]);
        let items = self.memory.items_mut(Table::HoldingRegisters, access.address, 1).ok_or(ILLEGAL_DATA_ADDRESS)?;
        items[0] = items[0] & kept | set & !kept;
        answer.extend_from_slice(request);
        Ok(access)
    }

    /// Function 23: writes registers, then reads some (Modbus Application Protocol 1.1b3, 6.17).
    fn read_write(&mut self, access: Access, rest: &[u8], answer: &mut Vec<u8>) -> Result<Access, u8> {
        let [a, b, c, d, bytes @ ..] = rest else { return Err(ILLEGAL_DATA_VALUE) };
        let (address, count) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let mut unused = Vec::new();
        let written = Access { function: 16, address, count };
        self.read(Access { function: 3, ..access }, self.limits.registers, &mut unused)?;
        self.write_many(written, REGISTERS_PER_WRITE, bytes, &mut unused)?;
        let start = answer.len();
        self.read(Access { function: 3, ..access }, self.limits.registers, answer)?;
        answer[start] = 23;
        Ok(access)
    }

    fn write_many(&mut self, access: Access, limit: u16, rest: &[u8], answer: &mut Vec<u8>) -> Result<Access, u8> {
        let count = usize::from(access.count);
        let length = if access.function == 15 { count.div_ceil(8) } else { 2 * count };
        let Some((announced, bytes)) = rest.split_first() else { return Err(ILLEGAL_DATA_VALUE) };
        if count == 0 || access.count > limit || usize::from(*announced) != length || bytes.len() != length {
            return Err(ILLEGAL_DATA_VALUE);
        }
        let items = self.memory.items_mut(access.table(), access.address, count).ok_or(ILLEGAL_DATA_ADDRESS)?;
        for (position, item) in items.iter_mut().enumerate() {
            *item = if access.function == 15 {
                u16::from(bytes[position / 8] >> (position % 8) & 1)
            } else {
                u16::from_be_bytes([bytes[2 * position], bytes[2 * position + 1]])
            };
        }
        answer.push(access.function);
        answer.extend_from_slice(&access.address.to_be_bytes());
        answer.extend_from_slice(&access.count.to_be_bytes());
        Ok(access)
    }

    fn show(&mut self, index: usize, quantity: Quantity<'_>) -> Result<(), SimulatorError> {
        let points = Arc::clone(&self.points);
        let point = &points[index];
        let factor = point.scale_factor.map(|factor| {
            let factor = &points[factor];
            let words = self.memory.items(factor.table, factor.address, 1).unwrap_or(&[0]);
            words[0].cast_signed()
        });
        let shown = match point.scattered.is_empty() {
            true => {
                let words = self.memory.items_mut(point.table, point.address, usize::from(point.items()));
                words.ok_or(EncodeError::WrongKind).and_then(|words| encode(point, quantity, factor, words))
            }
            false => self.show_scattered(point, quantity, factor),
        };
        shown.map_err(|reason| SimulatorError::CannotShow { point: point.name.clone(), reason })
    }

    fn show_scattered(
        &mut self,
        point: &Point,
        quantity: Quantity<'_>,
        factor: Option<i16>,
    ) -> Result<(), EncodeError> {
        let mut words = vec![0; usize::from(point.encoding.width())];
        encode(point, quantity, factor, &mut words)?;
        for (address, word) in point.scattered.iter().zip(words) {
            self.memory.items_mut(point.table, *address, 1).ok_or(EncodeError::WrongKind)?[0] = word;
        }
        Ok(())
    }
}

/// The addresses of `count` items.
fn span(address: u16, count: u16) -> Range<u32> {
    u32::from(address)..u32::from(address) + u32::from(count)
}

#[cfg(test)]
mod tests;
