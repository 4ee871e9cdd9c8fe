//! File systems of their own: one small enough to be filled, and one that the kernel makes read-only at an error of its
//! card. Mounting them needs root.

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

    /// Nothing can be written any more. The system refuses that while a file is open to be written.
    pub fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], &self.0);
    }

    /// The same, as soon as no file is open to be written.
    pub async fn make_read_only_when_let_go(&self) {
        let is_done =
            || Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).output().unwrap().status.success();
        let asking = async {
            while !is_done() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        super::within("no file that is open to be written", asking).await;
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

/// An ext4 file system on a block device, as on a card: at the first error the kernel makes it read-only, whatever is open.
/// Unmounted when dropped.
pub struct Card {
    path: PathBuf,
    image: PathBuf,
}

impl Card {
    /// Mounts a new one at `path`, which is made.
    pub fn at(path: &Path) -> Self {
        let card = Self { path: path.to_owned(), image: path.with_extension("card") };
        std::fs::create_dir(path).unwrap();
        File::create(&card.image).unwrap().set_len(32 << 20).unwrap();
        super::run("mkfs.ext4", &["-q", "-F", card.image.to_str().unwrap()]);
        card.mount();
        card
    }

    fn mount(&self) {
        mount(&["-t", "ext4", "-o", "loop,errors=remount-ro", self.image.to_str().unwrap()], &self.path);
    }

    /// An error: the journal is given up, and from now on nothing can be written, not even to what is open.
    pub fn fail(&self) {
        mount(&["-o", "remount,abort"], &self.path);
    }

    /// What its owner does: unmounts it, has it checked, and mounts it again. Nobody may use it.
    pub fn repair(&self) {
        super::run("umount", &[self.path.to_str().unwrap()]);
        let checked = Command::new("e2fsck").args(["-f", "-p"]).arg(&self.image).output().unwrap();
        // 1: errors were corrected.
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&checked.stdout));
        self.mount();
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.path).status();
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
