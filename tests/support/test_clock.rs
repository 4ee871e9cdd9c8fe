//! A wall clock that a test sets, and a kernel that says of it what the test wants.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::site::{Agent, Site};

/// The clock of an agent, as the test sets it.
pub struct TestClock {
    file: File,
    path: PathBuf,
    library: PathBuf,
}

impl TestClock {
    /// The clock of this machine, of which the kernel says that nobody has set it.
    pub fn new(site: &Site) -> Self {
        let (path, library) = (site.path().join("clock"), site.path().join("set_clock.so"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/set_clock.c");
        super::run("cc", &["-shared", "-fPIC", "-O1", "-o", library.to_str().unwrap(), source]);
        let this = Self { file: File::create(&path).unwrap(), path, library };
        this.set(0, false);
        this
    }

    /// Sets it, and what the kernel says of it.
    pub fn set(&self, added_ms: i64, is_synchronised: bool) {
        let mut bytes = added_ms.to_ne_bytes().to_vec();
        bytes.extend(i64::from(is_synchronised).to_ne_bytes());
        self.file.write_all_at(&bytes, 0).unwrap();
    }

    /// An agent that goes by it.
    pub fn start(&self, site: &Site) -> Agent {
        site.start_with(|command| command.env("LD_PRELOAD", &self.library).env("LINESIDE_TEST_CLOCK", &self.path))
    }
}
