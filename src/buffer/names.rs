//! A copy of the catalogue beside the database: without it, nobody could say what the readings of a lost one mean, and
//! a disk that can only be read would leave the gateway without ids.
//!
//! One line for each series: CRC-32C of what follows, in hexadecimal; its id; the series as JSON. The copy is written
//! before the database, so that it never lacks an id that was ever given.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::catalogue::SeriesIds;
use crate::model::SeriesId;

/// The file.
#[derive(Debug)]
pub struct NameCopy {
    path: PathBuf,
    /// Whether it is known to hold every id.
    is_current: bool,
}

impl NameCopy {
    /// The copy in the directory of the store.
    pub fn beside(directory: &Path) -> Self {
        Self { path: directory.join("catalogue"), is_current: false }
    }

    /// The ids as the copy knows them. With damage, or when the file is missing although a database `was_there`, no id
    /// is given that may have been given before.
    pub fn read(&self, was_there: bool) -> SeriesIds {
        let mut ids = SeriesIds::default();
        let mut is_whole = true;
        match fs::read_to_string(&self.path) {
            Ok(text) => {
                for line in text.lines() {
                    match entry(line) {
                        Some((id, series)) => ids.insert(id, series.as_bytes()),
                        None => is_whole = false,
                    }
                }
            }
            Err(_) => is_whole = !was_there,
        }
        if !is_whole {
            tracing::warn!(path = %self.path.display(), "the copy of the catalogue is damaged or missing");
            ids.pass_over();
        }
        ids
    }

    /// Brings the copy up to `ids`. Does nothing when it is; tries again the next time when it cannot be written.
    pub fn update(&mut self, ids: &mut SeriesIds) {
        if self.is_current {
            return;
        }
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut known = 0;
        for line in text.lines() {
            let Some((id, series)) = entry(line) else { continue };
            ids.never_again(id);
            known += usize::from(ids.get(series.as_bytes()) == Some(id));
        }
        let is_whole = text.is_empty() || text.ends_with('\n');
        self.is_current = (is_whole && known == ids.len()) || self.replace(ids).is_ok();
    }

    /// There are ids that it may not hold.
    pub fn outdate(&mut self) {
        self.is_current = false;
    }

    fn replace(&self, ids: &SeriesIds) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(lines(ids.iter()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

fn lines<'a>(series: impl Iterator<Item = (SeriesId, &'a [u8])>) -> String {
    let mut lines = String::new();
    for (id, text) in series {
        let entry = format!("{} {}", id.0, String::from_utf8_lossy(text));
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{:08x} {entry}", crc32c::crc32c(entry.as_bytes()));
    }
    lines
}

fn entry(line: &str) -> Option<(SeriesId, &str)> {
    let (checksum, entry) = line.split_once(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32c::crc32c(entry.as_bytes()) {
        return None;
    }
    let (id, series) = entry.split_once(' ')?;
    Some((SeriesId(id.parse().ok()?), series))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> SeriesIds {
        let mut ids = SeriesIds::default();
        names.iter().zip(0..).for_each(|(name, id)| ids.insert(SeriesId(id), name.as_bytes()));
        ids
    }

    fn listed(ids: &SeriesIds) -> Vec<(u32, String)> {
        let mut listed: Vec<_> =
            ids.iter().map(|(id, text)| (id.0, String::from_utf8_lossy(text).into_owned())).collect();
        listed.sort();
        listed
    }

    #[test]
    fn the_copy_is_brought_up_to_the_catalogue() {
        let directory = tempfile::tempdir().unwrap();
        let mut copy = NameCopy::beside(directory.path());
        copy.update(&mut ids(&["{\"a\"}", "{\"b c\"}"]));
        copy.outdate();
        copy.update(&mut ids(&["{\"a\"}", "{\"b c\"}", "{\"d\"}"]));

        let read = NameCopy::beside(directory.path()).read(true);

        let expected = [(0, "{\"a\"}".to_owned()), (1, "{\"b c\"}".to_owned()), (2, "{\"d\"}".to_owned())];
        assert_eq!(listed(&read), expected);
        assert_eq!(read.next_id(), SeriesId(3));
    }

    #[test]
    fn what_the_copy_may_have_lost_is_not_given_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut copy = NameCopy::beside(directory.path());
        assert_eq!(copy.read(false).next_id(), SeriesId(0));
        assert!(copy.read(true).next_id() > SeriesId(1000));
        copy.update(&mut ids(&["{\"a\"}", "{\"b\"}"]));
        let path = directory.path().join("catalogue");
        let damaged = fs::read_to_string(&path).unwrap().replace("\"b\"", "\"x\"");
        fs::write(&path, damaged).unwrap();

        let read = copy.read(true);

        assert_eq!(listed(&read), [(0, "{\"a\"}".to_owned())]);
        assert!(read.next_id() > SeriesId(1000));
        // Once the database tells, the copy is whole again.
        NameCopy::beside(directory.path()).update(&mut ids(&["{\"a\"}", "{\"b\"}"]));
        assert_eq!(listed(&copy.read(true)).len(), 2);
    }
}
