//! Keeps what was learned of the devices in a file beside the database, so that a restart does not begin anew.
//!
//! What a device refuses is written within seconds; how fast it answers each hour and at the end. The file replaces
//! the one before as a whole, and one that cannot be read is as good as none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::diagnostics::Parts;
use crate::poll::learned::{Learned, LearnedDevices};

/// How often it is looked whether something was learned.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often times alone are worth a write.
const TIMES_EVERY: Duration = Duration::from_secs(3600);

/// The file as written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    devices: LearnedDevices,
}

/// The file in the directory of a store.
pub fn place(store: &Path) -> PathBuf {
    store.join("learned.json")
}

/// What the file at `path` holds; nothing when there is none, or none that can be read.
pub fn load(path: &Path) -> LearnedDevices {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return LearnedDevices::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was learned of the devices cannot be read");
            return LearnedDevices::default();
        }
    };
    let written = serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "what was learned of the devices is damaged and begins anew");
        Written::default()
    });
    written.devices
}

/// Replaces the file at `path`, durably.
pub fn save(path: &Path, devices: &LearnedDevices) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&Written { devices: devices.clone() })?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// What the running links know of their devices.
pub(super) fn of_links(parts: &Parts) -> LearnedDevices {
    let mut all = LearnedDevices::default();
    for link in &parts.links {
        let link = link.borrow();
        let known = link.devices.iter().map(|device| (device.name.to_string(), Learned::clone(&device.learned.known)));
        all.extend(known.filter(|(_, learned)| !learned.is_empty()));
    }
    all
}

/// The task that writes the file.
pub(super) struct Keeper {
    path: PathBuf,
    parts: watch::Receiver<Parts>,
    saved: LearnedDevices,
    saved_at: Instant,
    is_failing: bool,
}

impl Keeper {
    pub(super) fn new(path: PathBuf, parts: watch::Receiver<Parts>, saved: LearnedDevices) -> Self {
        Self { path, parts, saved, saved_at: Instant::now(), is_failing: false }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let is_last = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = of_links(&self.parts.borrow());
            let is_due = is_last || self.saved_at.elapsed() >= TIMES_EVERY;
            if teach_something(&self.saved, &now) || is_due && self.saved != now {
                self.write(now).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn write(&mut self, devices: LearnedDevices) {
        let (path, copy) = (self.path.clone(), devices.clone());
        let outcome = tokio::task::spawn_blocking(move || save(&path, &copy)).await;
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &failure
            && !self.is_failing
        {
            tracing::warn!(path = %self.path.display(), error, "what was learned of the devices cannot be kept");
        }
        self.is_failing = failure.is_some();
        // After a failure with the next lesson, or the next hour.
        (self.saved, self.saved_at) = (devices, Instant::now());
    }
}

/// True when something else than times differs.
fn teach_something(before: &LearnedDevices, now: &LearnedDevices) -> bool {
    let differs = |(name, learned): (&String, &Learned)| match before.get(name) {
        Some(known) => known.lessons != learned.lessons || known.of != learned.of,
        None => !learned.lessons.is_empty(),
    };
    let is_forgotten = |(name, known): (&String, &Learned)| !known.lessons.is_empty() && !now.contains_key(name);
    now.iter().any(differs) || before.iter().any(is_forgotten)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::modbus::lessons::Lessons;

    #[test]
    fn what_was_learned_is_read_again_and_damage_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = place(directory.path());
        assert!(load(&path).is_empty());
        let lessons = Arc::new(Lessons { registers_max: Some(60), ..Lessons::default() });
        let devices = LearnedDevices::from([("press".to_owned(), Learned { lessons, ..Learned::default() })]);

        save(&path, &devices).unwrap();
        assert_eq!(load(&path), devices);
        fs::write(&path, "{ \"devices\": 3").unwrap();

        assert!(load(&path).is_empty());
    }

    #[test]
    fn times_alone_are_no_lesson() {
        let of = |answers| LearnedDevices::from([("press".to_owned(), Learned { answers, ..Learned::default() })]);

        assert!(!teach_something(&of(1), &of(2)));
        assert!(!teach_something(&of(1), &LearnedDevices::default()));
        let lessons = Arc::new(Lessons { registers_max: Some(60), ..Lessons::default() });
        let taught = LearnedDevices::from([("press".to_owned(), Learned { lessons, ..Learned::default() })]);
        assert!(teach_something(&of(1), &taught));
        assert!(teach_something(&taught, &LearnedDevices::default()));
    }
}
