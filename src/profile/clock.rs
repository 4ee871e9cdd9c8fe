//! How registers hold a date and a time, and which second that is. Pure.
//!
//! The value of a clock is the number of whole seconds since 1970-01-01 00:00 UTC. A device that keeps local time needs
//! its offset from UTC; a clock that is put forward in summer has none that is always right, and is best left to UTC.

/// Where in its registers a clock has what, and how far it is ahead of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClockLayout {
    /// What the registers hold.
    pub form: ClockForm,
    /// Minutes that the clock is ahead of UTC.
    pub offset_min: i16,
}

/// What the registers of a clock hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockForm {
    /// Seconds since 1970, an unsigned number in 2 or 4 registers.
    Seconds {
        /// 2 or 4.
        registers: u16,
    },
    /// Milliseconds since 1970, an unsigned number in 4 registers; the part of a second is cut off.
    Milliseconds,
    /// `CP56Time2a` in four registers, the year first (IEC 60870-5-4, 6.8): what Schneider and Socomec call date-time.
    Cp56,
    /// Each register holds one number, or one in each byte.
    Fields {
        /// What the registers hold, in order; behind the last one unused.
        registers: [RegisterField; REGISTERS_MAX],
        /// How many there are.
        count: u16,
        /// Two decimal digits a byte, four bits each, instead of binary numbers.
        bcd: bool,
    },
}

/// Most registers of a clock that is laid out field by field.
pub const REGISTERS_MAX: usize = 8;

/// What one register of a clock holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisterField {
    /// One number.
    Whole(ClockField),
    /// One number in the high byte, one in the low byte.
    Halves(ClockField, ClockField),
}

/// One number of a date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockField {
    /// 1970 to 2099, or 0 to 99 from 2000 on.
    Year,
    /// 1 to 12.
    Month,
    /// 1 to 31.
    Day,
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
    /// 0 to 59.
    Second,
    /// Weekday, milliseconds or nothing: not looked at.
    Other,
}

/// Date and time as the fields say them.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    year: u16,
    month: u16,
    day: u16,
    hour: u16,
    minute: u16,
    second: u16,
}

/// Numbers that are no date, or no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchTime;

const NAMED: [(char, ClockField); 7] = [
    ('Y', ClockField::Year),
    ('M', ClockField::Month),
    ('D', ClockField::Day),
    ('h', ClockField::Hour),
    ('m', ClockField::Minute),
    ('s', ClockField::Second),
    ('-', ClockField::Other),
];

impl ClockForm {
    /// The form that `layout` names: `unix32`, `unix64`, `unix64-ms`, `cp56`, or the fields of the registers such as
    /// `"Y M D h m s"` (a register each) or `"YM Dh ms"` (a byte each). `None` when it is none.
    pub fn parse(layout: &str, bcd: bool) -> Option<Self> {
        match layout {
            "unix32" => return Some(Self::Seconds { registers: 2 }),
            "unix64" => return Some(Self::Seconds { registers: 4 }),
            "unix64-ms" => return Some(Self::Milliseconds),
            "cp56" => return Some(Self::Cp56),
            _ => {}
        }
        let field = |letter| NAMED.iter().find(|(name, _)| *name == letter).map(|(_, field)| *field);
        let mut registers = [RegisterField::Whole(ClockField::Other); REGISTERS_MAX];
        let mut count = 0;
        let mut seen = Vec::new();
        for word in layout.split_whitespace() {
            let fields: Vec<ClockField> = word.chars().map(field).collect::<Option<_>>()?;
            seen.extend(fields.iter().copied().filter(|field| *field != ClockField::Other));
            *registers.get_mut(count)? = match fields[..] {
                [whole] => RegisterField::Whole(whole),
                [high, low] => RegisterField::Halves(high, low),
                _ => return None,
            };
            count += 1;
        }
        let has = |field: ClockField| seen.iter().filter(|seen| **seen == field).count();
        let is_date = [ClockField::Year, ClockField::Month, ClockField::Day].into_iter().all(|field| has(field) == 1);
        let is_once =
            [ClockField::Hour, ClockField::Minute, ClockField::Second].into_iter().all(|field| has(field) <= 1);
        let count = u16::try_from(count).ok()?;
        (is_date && is_once).then_some(Self::Fields { registers, count, bcd })
    }
}

impl ClockLayout {
    /// Registers of the clock.
    pub fn registers(self) -> u16 {
        match self.form {
            ClockForm::Seconds { registers } => registers,
            ClockForm::Milliseconds | ClockForm::Cp56 => 4,
            ClockForm::Fields { count, .. } => count,
        }
    }

    /// Whole seconds since 1970 UTC of a clock that shows `words`; `number` is what they make as one number.
    ///
    /// # Errors
    ///
    /// A field is outside its range, is no decimal digit, or the month has no such day.
    pub fn seconds(self, words: &[u16], number: u64) -> Result<i64, NoSuchTime> {
        let shown = match self.form {
            ClockForm::Seconds { .. } => i64::try_from(number).map_err(|_| NoSuchTime)?,
            ClockForm::Milliseconds => i64::try_from(number / 1000).map_err(|_| NoSuchTime)?,
            ClockForm::Cp56 => cp56(words).ok_or(NoSuchTime)?.seconds()?,
            ClockForm::Fields { registers, count, bcd } => {
                let fields = registers.iter().take(usize::from(count)).zip(words);
                Fields::read(fields.map(|(field, word)| (*field, *word)), bcd).ok_or(NoSuchTime)?.seconds()?
            }
        };
        let latest = 253_402_300_799; // 9999-12-31 23:59:59
        let seconds = shown - 60 * i64::from(self.offset_min);
        if shown <= latest { Ok(seconds) } else { Err(NoSuchTime) }
    }

    /// Puts `seconds` since 1970 UTC into `words`, which are as many as the clock has registers. Where they are one
    /// number it is returned, to be put there.
    ///
    /// # Errors
    ///
    /// The clock cannot show that time.
    pub fn show(self, seconds: i64, words: &mut [u16]) -> Result<Option<u64>, NoSuchTime> {
        let shown = seconds + 60 * i64::from(self.offset_min);
        let number = u64::try_from(shown).map_err(|_| NoSuchTime)?;
        let fields = || Fields::at(shown);
        match self.form {
            ClockForm::Seconds { registers: 2 } => {
                return if number <= u64::from(u32::MAX) { Ok(Some(number)) } else { Err(NoSuchTime) };
            }
            ClockForm::Seconds { .. } => return Ok(Some(number)),
            ClockForm::Milliseconds => return number.checked_mul(1000).map(Some).ok_or(NoSuchTime),
            ClockForm::Cp56 => {
                let Fields { year, month, day, hour, minute, second } = fields()?;
                let year = year.checked_sub(2000).ok_or(NoSuchTime)?;
                let shown = [year, month << 8 | day, hour << 8 | minute, 1000 * second];
                words.iter_mut().zip(shown).for_each(|(word, shown)| *word = shown);
            }
            ClockForm::Fields { registers, count, bcd } => {
                let fields = fields()?;
                let one = |field, is_byte| fields.get(field, is_byte, bcd).ok_or(NoSuchTime);
                for (word, register) in words.iter_mut().zip(registers.iter().take(usize::from(count))) {
                    *word = match *register {
                        RegisterField::Whole(field) => one(field, false)?,
                        RegisterField::Halves(high, low) => one(high, true)? << 8 | one(low, true)?,
                    };
                }
            }
        }
        Ok(None)
    }
}

/// Year in 7 bits; month, day of the month in 5 bits; hour in 5 bits, minute in 6; milliseconds of the minute. What is
/// left of the bytes are weekday, summer time and "invalid", the highest bit of the minute.
fn cp56(words: &[u16]) -> Option<Fields> {
    let [year, date, time, milliseconds] = *words else { return None };
    let is_invalid = time & 0x80 != 0;
    let fields = Fields {
        year: 2000 + (year & 0x7F),
        month: date >> 8 & 0x0F,
        day: date & 0x1F,
        hour: time >> 8 & 0x1F,
        minute: time & 0x3F,
        second: milliseconds / 1000,
    };
    (!is_invalid).then_some(fields)
}

impl Fields {
    fn read(registers: impl Iterator<Item = (RegisterField, u16)>, bcd: bool) -> Option<Self> {
        let mut fields = Self::default();
        for (register, word) in registers {
            match register {
                RegisterField::Whole(field) => fields.set(field, word, bcd)?,
                RegisterField::Halves(high, low) => {
                    fields.set(high, word >> 8, bcd)?;
                    fields.set(low, word & 0xFF, bcd)?;
                }
            }
        }
        Some(fields)
    }

    fn set(&mut self, field: ClockField, raw: u16, bcd: bool) -> Option<()> {
        let number = || if bcd { decimal_digits(raw) } else { Some(raw) };
        match field {
            ClockField::Year => {
                let year = number()?;
                self.year = if year < 100 { 2000 + year } else { year };
            }
            ClockField::Month => self.month = number()?,
            ClockField::Day => self.day = number()?,
            ClockField::Hour => self.hour = number()?,
            ClockField::Minute => self.minute = number()?,
            ClockField::Second => self.second = number()?,
            ClockField::Other => {}
        }
        Some(())
    }

    fn at(seconds: i64) -> Result<Self, NoSuchTime> {
        let time = jiff::Timestamp::from_second(seconds).map_err(|_| NoSuchTime)?;
        let time = jiff::tz::TimeZone::UTC.to_datetime(time);
        let wide = |number: i8| u16::from(number.unsigned_abs());
        let year = time.year().unsigned_abs();
        let (month, day) = (wide(time.month()), wide(time.day()));
        let (hour, minute, second) = (wide(time.hour()), wide(time.minute()), wide(time.second()));
        if (1970..=2099).contains(&year) {
            Ok(Self { year, month, day, hour, minute, second })
        } else {
            Err(NoSuchTime)
        }
    }

    /// The number of a field as a register, or one byte of it, shows it.
    fn get(self, field: ClockField, is_byte: bool, bcd: bool) -> Option<u16> {
        let number = match field {
            ClockField::Year if is_byte => self.year.checked_sub(2000)?,
            ClockField::Year => self.year,
            ClockField::Month => self.month,
            ClockField::Day => self.day,
            ClockField::Hour => self.hour,
            ClockField::Minute => self.minute,
            ClockField::Second => self.second,
            ClockField::Other => 0,
        };
        let digit = |place: u16| (number / 10_u16.pow(u32::from(place)) % 10) << (4 * place);
        Some(if bcd { (0..4).map(digit).sum() } else { number })
    }

    fn seconds(self) -> Result<i64, NoSuchTime> {
        let small = |number: u16| i8::try_from(number).map_err(|_| NoSuchTime);
        let year = i16::try_from(self.year).ok().filter(|year| (1970..=2099).contains(year)).ok_or(NoSuchTime)?;
        let date = jiff::civil::DateTime::new(
            year,
            small(self.month)?,
            small(self.day)?,
            small(self.hour)?,
            small(self.minute)?,
            small(self.second)?,
            0,
        );
        let time = date.and_then(|date| jiff::tz::TimeZone::UTC.to_timestamp(date));
        time.map(|time| time.as_second()).map_err(|_| NoSuchTime)
    }
}

/// The number whose four decimal digits are the four bits each of `raw`; `None` when one is no digit.
pub fn decimal_digits(raw: u16) -> Option<u16> {
    [12, 8, 4, 0]
        .into_iter()
        .map(|shift| raw >> shift & 0xF)
        .try_fold(0, |number, digit| (digit <= 9).then_some(10 * number + digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(layout: &str, bcd: bool, words: &[u16]) -> Result<i64, NoSuchTime> {
        let form = ClockForm::parse(layout, bcd).unwrap();
        let number = words.iter().fold(0, |number, word| number << 16 | u64::from(*word));
        ClockLayout { form, offset_min: 0 }.seconds(words, number)
    }

    // What datetime.datetime(..., tzinfo=timezone.utc).timestamp() of Python gives.
    #[test]
    fn the_same_second_reads_the_same_in_every_layout() {
        let expected = Ok(1_709_210_096); // 2024-02-29 12:34:56
        assert_eq!(seconds("Y M D h m s", false, &[2024, 2, 29, 12, 34, 56]), expected);
        assert_eq!(seconds("Y M D h m s", false, &[24, 2, 29, 12, 34, 56]), expected);
        assert_eq!(seconds("s m h D M Y", false, &[56, 34, 12, 29, 2, 2024]), expected);
        assert_eq!(seconds("YM Dh ms", true, &[0x2402, 0x2912, 0x3456]), expected);
        assert_eq!(seconds("YM Dh ms", false, &[0x1802, 0x1D0C, 0x2238]), expected);
        assert_eq!(seconds("Y MD -h ms -", true, &[0x2024, 0x0229, 0xFF12, 0x3456, 0xFFFF]), expected);
        assert_eq!(seconds("unix32", false, &[0x65E0, 0x79F0]), expected);
        assert_eq!(seconds("unix64", false, &[0, 0, 0x65E0, 0x79F0]), expected);
        assert_eq!(seconds("unix64-ms", false, &[0, 0x018D, 0xF4DC, 0x5495]), expected);
        // Weekday 4 and the bit of summer time are not looked at.
        assert_eq!(seconds("cp56", false, &[24, 0x029D, 0x8C22, 56_789]), expected);
    }

    #[test]
    fn a_date_without_a_time_is_its_midnight_and_an_offset_is_taken_away() {
        assert_eq!(seconds("Y M D", false, &[1970, 1, 1]), Ok(0));
        assert_eq!(seconds("Y M D", false, &[2099, 12, 31]), Ok(4_102_358_400));
        let form = ClockForm::parse("Y M D h", false).unwrap();
        assert_eq!(ClockLayout { form, offset_min: 120 }.seconds(&[1970, 1, 1, 2], 0), Ok(0));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for words in
            [[2024, 13, 1, 0], [2024, 0, 1, 0], [2023, 2, 29, 0], [2024, 4, 31, 0], [2024, 1, 0, 0], [2024, 1, 1, 24]]
        {
            assert_eq!(seconds("Y M D h", false, &words), Err(NoSuchTime), "{words:?}");
        }
        assert_eq!(seconds("YM Dh ms", true, &[0x2402, 0x2912, 0x3A56]), Err(NoSuchTime));
        assert_eq!(seconds("Y M D", false, &[1969, 12, 31]), Err(NoSuchTime));
        assert_eq!(seconds("cp56", false, &[24, 0x021D, 0x0CA2, 0]), Err(NoSuchTime));
        assert_eq!(seconds("unix64", false, &[0xFFFF; 4]), Err(NoSuchTime));
    }

    proptest::proptest! {
        #[test]
        fn what_a_clock_shows_is_the_time_it_was_given(seconds in 946_684_800_i64..4_102_444_800, offset_min in -720_i16..=720) {
            let seconds = seconds.clamp(946_684_800 + 43_200, 4_102_444_799 - 43_200);
            for (layout, bcd) in [("unix32", false), ("unix64", false), ("unix64-ms", false), ("cp56", false),
                ("Y M D h m s", false), ("Y M D h m s", true), ("YM Dh ms", false), ("-Y MD hm s-", true)] {
                let clock = ClockLayout { form: ClockForm::parse(layout, bcd).unwrap(), offset_min };
                let mut words = vec![0; usize::from(clock.registers())];
                let number = clock.show(seconds, &mut words).unwrap();
                proptest::prop_assert_eq!(clock.seconds(&words, number.unwrap_or(0)), Ok(seconds), "{}", layout);
            }
        }
    }

    #[test]
    fn a_layout_needs_year_month_and_day_once() {
        for layout in ["", "Y M", "Y M D Y", "Y M D h h", "YMD", "x", "Y M D - - - - - -", "unix"] {
            assert_eq!(ClockForm::parse(layout, false), None, "{layout}");
        }
    }
}
