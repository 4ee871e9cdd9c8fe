//! Where things are kept that outlive the process and not the boot.

use std::path::Path;

use crate::buffer::{WalPlace, is_in_memory};
use crate::config::{Config, OpenCommitPlace};

/// Shared memory of POSIX: a file system in memory on every Linux (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";

/// Directories that may keep the open commit, best first: the one that the service manager keeps for the agent, that of
/// the socket, shared memory.
pub(super) fn open_commit_place(config: &Config) -> WalPlace {
    match &config.store.open_commit {
        OpenCommitPlace::Off => WalPlace::Off,
        OpenCommitPlace::In(directory) => WalPlace::In(vec![directory.clone()]),
        OpenCommitPlace::Auto => {
            // Several are separated by colons (systemd.exec(5), "RuntimeDirectory=").
            let given = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
            if let Some(first) = given.split(':').find(|path| !path.is_empty()) {
                return WalPlace::In(vec![first.into()]);
            }
            let of_socket = config.gateway.socket.parent().map(Path::to_owned);
            let known = of_socket.into_iter().chain([SHARED_MEMORY.into()]);
            WalPlace::In(known.filter(|directory| is_in_memory(directory)).collect())
        }
    }
}
