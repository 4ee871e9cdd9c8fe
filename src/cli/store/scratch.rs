//! A directory for a copy, which goes when the command ends, however it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};

const PREFIX: &str = "lineside-copy-";

/// Below /tmp there is often no disk, but memory.
pub(super) fn usual() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(named) if !named.is_empty() => named.into(),
        Some(_) | None if Path::new("/var/tmp").is_dir() => "/var/tmp".into(),
        Some(_) | None => std::env::temp_dir(),
    }
}

/// A directory of this process.
#[derive(Debug)]
pub(in crate::cli) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `parent`. What a command that was killed has left there goes.
    pub fn new(parent: &Path) -> io::Result<Self> {
        remove_orphans(parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path)?;
        remove_when_interrupted(path.clone());
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: the copy of the store could not be removed: {error}", self.0.display());
        }
    }
}

fn remove_orphans(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()).and_then(Pid::from_raw);
        // Where another user owns the process or the directory, nothing happens.
        if process.is_some_and(|process| test_kill_process(process) == Err(rustix::io::Errno::SRCH)) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Ctrl-C in the middle of a long export.
fn remove_when_interrupted(path: PathBuf) {
    const INTERRUPTED: i32 = 130;
    let waiting = move || {
        let Ok(runtime) = crate::cli::runtime() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return std::future::pending().await;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        fs::remove_dir_all(&path).ok();
        std::process::exit(INTERRUPTED);
    };
    // Without the thread the next command removes the copy.
    std::thread::Builder::new().name("interrupt".into()).spawn(waiting).ok();
}
