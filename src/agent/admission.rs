//! What a configuration must satisfy beyond its own text before it is put in force. `check`, `run` and a reload ask here,
//! so none of them takes what another refuses.

use std::path::Path;

use rustix::fs::statvfs;

use super::{check_broker, load_rules};
use crate::config::{Config, ConfigError, StoreConfig};
use crate::rules::spec::GroupSpec;
use crate::settings::{FileFault, show_size};

/// The rules of `config`, read from `file`, when everything that it names can be used: store, certificates and rules.
///
/// # Errors
/// Everything that is wrong.
pub fn admit(file: &str, config: &Config) -> Result<Vec<GroupSpec>, ConfigError> {
    let mut faults = unusable(file, config);
    match load_rules(config) {
        Ok(groups) if faults.is_empty() => Ok(groups),
        Ok(_) => Err(ConfigError { faults }),
        Err(found) => {
            faults.extend(found);
            Err(ConfigError { faults })
        }
    }
}

/// What is wrong with the store and the files of the broker that `config`, read from `file`, names.
pub(super) fn unusable(file: &str, config: &Config) -> Vec<FileFault> {
    let faults = limit_above_disk(file, &config.store).into_iter();
    faults.chain(check_broker(file, config).err().into_iter().flat_map(|error| error.faults)).collect()
}

/// A stated limit that is larger than the disk. The default is no fault on a small disk: the store takes what room there
/// is, and `check` warns of it.
fn limit_above_disk(file: &str, store: &StoreConfig) -> Option<FileFault> {
    if !store.limit_is_stated {
        return None;
    }
    let disk_bytes = disk_bytes(&store.path).filter(|disk| store.limit_bytes > *disk)?;
    let reason = format!("must fit on the disk of {}, which has {} MiB", store.path.display(), disk_bytes >> 20);
    Some(FileFault {
        key: "store.limit".to_owned(),
        value: Some(format!("{:?}", show_size(store.limit_bytes))),
        ..FileFault::of_file(file, reason)
    })
}

/// Size of the disk that `path` is on, or will be on; nothing when the system does not say.
fn disk_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let disk = statvfs(existing).ok()?;
    Some(disk.f_blocks.saturating_mul(disk.f_frsize)).filter(|bytes| *bytes > 0)
}
