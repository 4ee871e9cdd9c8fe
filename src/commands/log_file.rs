//! A file of JSON lines, each with its checksum, each durable before it counts. Blocks.
//!
//! ```text
//! 1f0c33a9 {"begun":{...}}
//! ```
//!
//! A line that broke off at the end was never acted upon (its `fsync` had not returned) and is cut away. A line that is
//! damaged anywhere else makes the file unusable: what it said is not known any more, and nobody may guess.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A larger file is none of ours.
const FILE_MAX: u64 = 16 << 20;

/// Why a file of lines cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold what was written.
    #[error("{}: line {line} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// An open file of lines.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
}

impl LogFile {
    /// Opens the file at `path`, or makes it, and reads what it holds.
    ///
    /// # Errors
    /// It cannot be read or written, or a line before its last is damaged.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<T>), LogFileError> {
        let failed = |source| LogFileError::Io { path: path.to_owned(), source };
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        (&mut file).take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let (entries, whole) = read(&bytes).map_err(|line| LogFileError::Damaged { path: path.to_owned(), line })?;
        if whole < bytes.len() {
            tracing::warn!(file = %path.display(), "the last line broke off and is cut away");
            file.set_len(whole as u64).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        if is_new {
            sync_directory(path).map_err(failed)?;
        }
        Ok((Self { path: path.to_owned(), file, length: whole as u64 }, entries))
    }

    /// Writes one line; durable when this returns.
    ///
    /// # Errors
    /// It is not known to be durable. What was written of it is taken away again as far as that is possible.
    pub fn append(&mut self, entry: &impl Serialize) -> Result<(), LogFileError> {
        let written = line(entry).and_then(|line| {
            self.file.write_all(&line)?;
            self.file.sync_data()?;
            Ok(line.len() as u64)
        });
        match written {
            Ok(length) => {
                self.length += length;
                Ok(())
            }
            Err(source) => {
                // A half line in the middle would make the file unusable.
                let _ = self.file.set_len(self.length);
                Err(LogFileError::Io { path: self.path.clone(), source })
            }
        }
    }

    /// Puts these lines in place of all others, whole or not at all.
    ///
    /// # Errors
    /// Nothing is different then.
    pub fn rewrite<T: Serialize>(&mut self, entries: impl IntoIterator<Item = T>) -> Result<(), LogFileError> {
        let new = self.path.with_extension("new");
        let written = || -> io::Result<(File, u64)> {
            let mut bytes = Vec::new();
            for entry in entries {
                bytes.extend(line(&entry)?);
            }
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            sync_directory(&self.path)?;
            Ok((OpenOptions::new().append(true).open(&self.path)?, bytes.len() as u64))
        };
        let (file, length) = written().map_err(|source| LogFileError::Io { path: self.path.clone(), source })?;
        (self.file, self.length) = (file, length);
        Ok(())
    }

    /// Bytes it takes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// The lines of a file that somebody else may be writing; one that is not whole yet is left out.
///
/// # Errors
/// It cannot be read, or a line before its last is damaged.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, LogFileError> {
    let bytes = std::fs::read(path).map_err(|source| LogFileError::Io { path: path.to_owned(), source })?;
    let read = read(&bytes).map_err(|line| LogFileError::Damaged { path: path.to_owned(), line })?;
    Ok(read.0)
}

/// The whole lines of a file that may be damaged, and the numbers, from 1, of those that are.
///
/// # Errors
/// It cannot be read.
pub fn read_whole_lines<T: DeserializeOwned>(path: &Path) -> io::Result<(Vec<T>, Vec<usize>)> {
    let bytes = std::fs::read(path)?;
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for (number, bytes) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        match read(bytes) {
            Ok((mut found, whole)) if whole == bytes.len() => entries.append(&mut found),
            // The last one may be one that is being written.
            Ok(_) if !bytes.ends_with(b"\n") => {}
            Ok(_) | Err(_) => damaged.push(number),
        }
    }
    Ok((entries, damaged))
}

/// Makes a new name in the directory of `path` findable after a power cut.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn line(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes())
}

/// The lines of `bytes`, and how many bytes they take; the number of the damaged line otherwise.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Vec<T>, usize), usize> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map(|end| at + end);
        let entry = end.and_then(|end| parse(&bytes[at..end]));
        match (entry, end) {
            (Some(entry), Some(end)) => {
                entries.push(entry);
                at = end + 1;
            }
            // Sectors of the last append may have arrived out of order: it never counted, whatever it holds.
            (None, end) if end.is_none_or(|end| !bytes[end + 1..].contains(&b'\n')) => return Ok((entries, at)),
            (None, _) | (Some(_), None) => return Err(entries.len() + 1),
        }
    }
    Ok((entries, at))
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (crc, json) = line.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entries: &[u32]) -> Vec<u8> {
        entries.iter().flat_map(|entry| line(entry).unwrap()).collect()
    }

    #[test]
    fn what_was_appended_is_there_again_and_a_line_that_broke_off_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (mut file, none) = LogFile::open::<u32>(&path).unwrap();
        assert!(none.is_empty());
        (1..=3).for_each(|entry| file.append(&entry).unwrap());
        let whole = std::fs::read(&path).unwrap();

        for cut in 1..written(&[3]).len() {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut file, entries) = LogFile::open::<u32>(&path).unwrap();
            assert_eq!(entries, [1, 2]);
            file.append(&4).unwrap();
            assert_eq!(LogFile::open::<u32>(&path).unwrap().1, [1, 2, 4]);
        }
    }

    #[test]
    fn damage_before_the_last_line_is_not_guessed_at() {
        let bytes = written(&[1, 2, 3]);
        let mut damaged = bytes.clone();
        damaged[10] ^= 1;

        assert_eq!(read::<u32>(&damaged), Err(1));
        let mut torn = bytes.clone();
        let last = torn.len() - 2;
        torn[last] ^= 1;
        assert_eq!(read::<u32>(&torn).unwrap().0, [1, 2]);
    }

    #[test]
    fn other_lines_take_the_place_of_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (mut file, _) = LogFile::open::<u32>(&path).unwrap();
        (1..=9).for_each(|entry| file.append(&entry).unwrap());

        file.rewrite([8, 9]).unwrap();
        file.append(&10).unwrap();

        assert_eq!(LogFile::open::<u32>(&path).unwrap().1, [8, 9, 10]);
        assert_eq!(file.length(), std::fs::metadata(&path).unwrap().len());
    }
}
