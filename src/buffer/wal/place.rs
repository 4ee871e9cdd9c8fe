//! Where the write-ahead log is, and whether that place can be trusted.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, statfs};
use rustix::process::geteuid;

use crate::buffer::place::io_text;

/// Magic numbers of file systems that live in memory: tmpfs and ramfs (`linux/magic.h`).
const IN_MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];

/// Others may write: they could put readings into the log that nobody took.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory like /tmp, in which only the owner of a file may replace it.
const STICKY: u32 = 0o1000;

/// Where the write-ahead log of a store may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalPlace {
    /// There is none: a kill costs what the open commit holds.
    Off,
    /// In the first of these directories that can be used.
    In(Vec<PathBuf>),
}

/// Whether files in `directory` are kept in memory, and cost no flash.
pub fn is_in_memory(directory: &Path) -> bool {
    // The type of the field differs between architectures.
    statfs(directory).is_ok_and(|disk| IN_MEMORY.contains(&(i128::from(disk.f_type) & 0xffff_ffff)))
}

/// The name of the log of the store in the directory `store`: several stores may share a directory.
pub fn name(store: &Path) -> String {
    let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    format!("lineside-open-commit-{:08x}", crc32c::crc32c(store.as_os_str().as_encoded_bytes()))
}

/// Opens the log `name` in `directory`, made if need be, for this process alone.
///
/// # Errors
/// Why it cannot be used, for people.
pub fn open(directory: &Path, name: &str) -> Result<File, String> {
    let refused = |path: &Path, reason: &str| format!("{}: {reason}", path.display());
    let of_system = |path: &Path, error: &io::Error| refused(path, &io_text(error));
    let about = directory.metadata().map_err(|error| of_system(directory, &error))?;
    let us = geteuid().as_raw();
    if !about.is_dir() {
        return Err(refused(directory, "is no directory"));
    }
    if about.uid() != us && about.uid() != 0 {
        return Err(refused(directory, &format!("belongs to user {}, not to the agent", about.uid())));
    }
    if about.mode() & WRITABLE_BY_OTHERS != 0 && about.mode() & STICKY == 0 {
        return Err(refused(directory, "other users may write to it"));
    }
    let path = directory.join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: File = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file.into(),
        Err(rustix::io::Errno::LOOP) => return Err(refused(&path, "is a symbolic link")),
        Err(error) => return Err(of_system(&path, &error.into())),
    };
    let about = file.metadata().map_err(|error| of_system(&path, &error))?;
    if !about.is_file() || about.nlink() != 1 {
        return Err(refused(&path, "is no plain file of its own"));
    }
    if about.uid() != us {
        return Err(refused(&path, &format!("belongs to user {}, not to the agent", about.uid())));
    }
    if about.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refused(&path, "other users may write to it"));
    }
    lock(&file).map_err(|error| of_system(&path, &error))?;
    if !is_at(&file, &path) {
        return Err(refused(&path, "in use by another process"));
    }
    Ok(file)
}

/// Makes an empty log beside `path`, which is to take its place.
pub fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR)?.into();
    lock(&file)?;
    Ok((file, new))
}

/// Unlocked by the system when the process ends, however it does.
fn lock(file: &File) -> io::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::other("in use by another process")),
        other => Ok(other?),
    }
}

/// Whether `path` still names `file`: somebody may have removed or replaced it.
pub fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const NAME: &str = "open-commit";

    fn private() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    #[test]
    fn a_log_that_another_process_has_is_not_taken() {
        let directory = private();
        let file = open(directory.path(), NAME).unwrap();

        assert!(open(directory.path(), NAME).unwrap_err().ends_with("in use by another process"));
        drop(file);
        open(directory.path(), NAME).unwrap();
    }

    #[test]
    fn what_others_could_have_written_or_put_there_is_refused() {
        let directory = private();
        let path = directory.path().join(NAME);
        let target = directory.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, &path).unwrap();
        assert!(open(directory.path(), NAME).unwrap_err().ends_with("is a symbolic link"));
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&target, &path).unwrap();
        assert!(open(directory.path(), NAME).unwrap_err().ends_with("is no plain file of its own"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(open(directory.path(), NAME).unwrap_err().ends_with("other users may write to it"));
        std::fs::remove_file(&path).unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(open(directory.path(), NAME).unwrap_err().ends_with("other users may write to it"));
        assert!(open(&directory.path().join("absent"), NAME).unwrap_err().contains("no such file"));
    }

    #[test]
    fn stores_that_share_a_directory_have_logs_of_their_own() {
        assert_ne!(name(Path::new("/var/lib/lineside")), name(Path::new("/var/lib/other")));
        assert!(is_in_memory(Path::new("/dev/shm")) && !is_in_memory(Path::new("/proc")));
    }
}
