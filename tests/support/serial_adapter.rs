//! A serial adapter that can be plugged in and pulled out: a pseudo terminal behind a path that stays the same.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio_serial::{SerialPort, SerialStream};

/// A serial adapter: what is written to `far` comes out of the port at `path`. Dropped, it is unplugged.
pub struct Adapter {
    /// The device's end of the line.
    pub far: SerialStream,
    path: PathBuf,
    // Held so that the far end does not see a hang-up whenever the port is closed and opened again.
    _port: std::fs::File,
}

impl Adapter {
    /// Plugs an adapter in; `path` leads to it, as names below /dev/serial/by-id do.
    pub fn plug(path: &Path) -> Self {
        let (far, near) = SerialStream::pair().expect("a pseudo terminal");
        let name = near.name().expect("a name");
        let held = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(&name)
            .expect("the near end");
        std::os::unix::fs::symlink(name, path).expect("a free path");
        Self { far, path: path.to_owned(), _port: held }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).expect("the link");
    }
}
