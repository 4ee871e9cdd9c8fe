//! The files of the log: one for each segment, named by its number.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::SEGMENT_HEAD;
use super::summary;

const ENDING: &str = ".segment";

/// The numbers of the segments in `directory`, lowest first.
pub fn list(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(ENDING));
        numbers.extend(number.and_then(|number| u32::from_str_radix(number, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The file of a segment.
pub fn path(directory: &Path, segment: u32) -> PathBuf {
    directory.join(format!("{segment:08x}{ENDING}"))
}

/// Opens a segment to read it.
pub fn open(directory: &Path, segment: u32) -> io::Result<File> {
    File::open(path(directory, segment))
}

/// Opens a segment to write to it.
pub fn open_to_write(directory: &Path, segment: u32) -> io::Result<File> {
    File::options().read(true).write(true).open(path(directory, segment))
}

/// Makes a new segment. Findable after a power cut only when the directory was synced.
pub fn create(directory: &Path, segment: u32) -> io::Result<File> {
    let options = &mut File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(path(directory, segment))?;
    file.write_all_at(SEGMENT_HEAD, 0)?;
    Ok(file)
}

/// Removes a segment for good, and its summary.
pub fn remove(directory: &Path, segment: u32) -> io::Result<()> {
    summary::remove(directory, segment)?;
    fs::remove_file(path(directory, segment))?;
    sync(directory)
}

/// Makes the names in `directory` durable.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
