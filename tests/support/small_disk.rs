//! A file system of its own, small enough to be filled: a tmpfs of 16 MiB. Mounting it needs root.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a small card holds.
pub const SIZE: &str = "16m";

/// A mounted tmpfs. Unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `path`, which is made.
    pub fn at(path: &Path) -> Self {
        std::fs::create_dir(path).unwrap();
        let size = format!("size={SIZE}");
        mount(&["-t", "tmpfs", "-o", &size, "lineside-test"], path);
        Self(path.to_owned())
    }

    /// Somebody else writes until nothing more fits.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.0.join("other")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let bytes = vec![0xa5; size];
            while match file.write(&bytes) {
                Ok(written) => written > 0,
                Err(error) if error.kind() == ErrorKind::StorageFull => false,
                Err(error) => panic!("{error}"),
            } {}
        }
    }

    /// What somebody else wrote is gone.
    pub fn make_room(&self) {
        std::fs::remove_file(self.0.join("other")).unwrap();
    }

    /// Nothing can be written any more.
    pub fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], &self.0);
    }

    /// It can be written again.
    pub fn make_writable(&self) {
        mount(&["-o", "remount,rw"], &self.0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Even while a process that a failed test left behind still has it.
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let output = Command::new("mount").args(arguments).arg(path).output().unwrap();
    assert!(
        output.status.success(),
        "cannot mount {}: {}\nThis test fills a disk and makes it read-only, which cannot be done without mounting \
         one: run it as root (in a container: with CAP_SYS_ADMIN).",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}
