//! The columns of stored readings, taken reading by reading. Every length was checked before it is believed.

use crate::buffer::varint::{Malformed, Reader};
use crate::model::{Quality, Value};

/// The exceptions of a stored commit, taken reading by reading.
pub struct StoredExceptions<'a> {
    reader: Reader<'a>,
    runs_left: usize,
    good: usize,
    covered: usize,
    quality: Quality,
}

impl<'a> StoredExceptions<'a> {
    /// Takes the runs from `reader` and goes to the first.
    pub fn read(reader: &mut Reader<'a>, records: usize) -> Result<Self, Malformed> {
        let runs_left = reader.count(records)?;
        let mut this = Self { reader: *reader, runs_left, good: 0, covered: 0, quality: Quality::GOOD };
        for _ in 0..3 * runs_left {
            reader.number()?;
        }
        this.next_run()?;
        Ok(this)
    }

    fn next_run(&mut self) -> Result<(), Malformed> {
        let Some(left) = self.runs_left.checked_sub(1) else {
            self.good = usize::MAX;
            return Ok(());
        };
        self.runs_left = left;
        self.good = self.reader.count(super::RECORDS_MAX)?;
        self.covered = self.reader.count(super::RECORDS_MAX)?;
        let code = self.reader.count(usize::from(u16::MAX))?;
        self.quality = Quality::from_code(code as u16).ok_or(Malformed("no such quality"))?;
        if self.covered == 0 { Err(Malformed("empty run")) } else { Ok(()) }
    }

    /// The quality of the next reading when it is not simply good.
    #[inline]
    pub fn next(&mut self) -> Result<Option<Quality>, Malformed> {
        if self.good > 0 {
            self.good -= 1;
            return Ok(None);
        }
        let quality = self.quality;
        self.covered -= 1;
        if self.covered == 0 {
            self.next_run()?;
        }
        Ok(Some(quality))
    }
}

/// The values of a stored commit, taken one by one.
pub struct StoredValues<'a> {
    ints: Reader<'a>,
    uints: Reader<'a>,
    f32s: Planes<'a, 4>,
    f64s: Planes<'a, 8>,
    bools: &'a [u8],
    bools_taken: usize,
    texts: Reader<'a>,
}

impl<'a> StoredValues<'a> {
    pub fn read(reader: &mut Reader<'a>, records: usize) -> Result<Self, Malformed> {
        let ints = reader.count(reader.len())?;
        let uints = reader.count(reader.len())?;
        let f32s = reader.count(records)?;
        let f64s = reader.count(records)?;
        let bools = reader.count(records)?;
        let texts = reader.count(reader.len())?;
        Ok(Self {
            ints: Reader::new(reader.bytes(ints)?),
            uints: Reader::new(reader.bytes(uints)?),
            f32s: Planes::read(reader, f32s)?,
            f64s: Planes::read(reader, f64s)?,
            bools: reader.bytes(bools.div_ceil(8))?,
            bools_taken: 0,
            texts: Reader::new(reader.bytes(texts)?),
        })
    }

    #[inline]
    pub fn next(&mut self, kind: u8) -> Result<Value, Malformed> {
        Ok(match kind {
            0 => Value::Int(self.ints.signed()?),
            1 => Value::Uint(self.uints.number()?),
            2 => Value::F32(f32::from_le_bytes(self.f32s.next()?)),
            3 => Value::F64(f64::from_le_bytes(self.f64s.next()?)),
            4 => {
                let byte = self.bools.get(self.bools_taken / 8).ok_or(Malformed("too few bits"))?;
                let bit = byte >> (self.bools_taken % 8) & 1;
                self.bools_taken += 1;
                Value::Bool(bit == 1)
            }
            5 => {
                let length = self.texts.count(self.texts.len())?;
                let text =
                    std::str::from_utf8(self.texts.bytes(length)?).map_err(|_| Malformed("text is not UTF-8"))?;
                Value::Text(text.into())
            }
            _ => return Err(Malformed("value of unknown kind")),
        })
    }

    pub fn finish(&self) -> Result<(), Malformed> {
        self.ints.finish()?;
        self.uints.finish()?;
        self.texts.finish()?;
        let rest = self.f32s.left() + self.f64s.left() + (self.bools.len() - self.bools_taken.div_ceil(8));
        if rest == 0 { Ok(()) } else { Err(Malformed("values left over")) }
    }
}

/// Numbers of `N` bytes whose bytes of equal significance stand together.
pub struct Planes<'a, const N: usize> {
    planes: [&'a [u8]; N],
    taken: usize,
}

impl<'a, const N: usize> Planes<'a, N> {
    pub fn read(reader: &mut Reader<'a>, count: usize) -> Result<Self, Malformed> {
        let mut planes = [&[][..]; N];
        for plane in &mut planes {
            *plane = reader.bytes(count)?;
        }
        Ok(Self { planes, taken: 0 })
    }

    #[inline]
    pub fn next(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        for (byte, plane) in bytes.iter_mut().zip(&self.planes) {
            *byte = *plane.get(self.taken).ok_or(Malformed("too few numbers"))?;
        }
        self.taken += 1;
        Ok(bytes)
    }

    pub fn left(&self) -> usize {
        self.planes[0].len() - self.taken
    }
}
