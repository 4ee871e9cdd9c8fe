//! The file of the write-ahead log: written at its end, cut at its front.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{Encoder, End, Frames, Positions};
use super::place::{self, WalPlace, is_in_memory};
use super::{Found, WalStatus, end_after};
use crate::buffer::commit::ClockReading;
use crate::buffer::place::io_text;
use crate::clock::Clock;
use crate::model::{AlarmRecord, BootId, Epoch, Row, SeriesId, Timestamp};

const MAGIC: &[u8; 8] = b"lswal  1";

/// Length of the head.
pub(super) const HEAD: u64 = 44;

/// The most that the log takes in memory. Reached only when nothing can be stored for long and nothing goes out either.
const BYTES_MAX: u64 = 8 << 20;

/// The front of the log is cut off when it is at least so long, and something behind it is still needed.
const CUT_LEAST: u64 = 64 << 10;

/// Places where it may be cut are at least so far apart.
const CHECKPOINTS_APART: u64 = 16 << 10;

/// A log that could not be written counts as kept again when nothing failed for so long: each save makes some room.
const CALM: Duration = Duration::from_secs(5);

/// A log that could not be opened is tried again after so long.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Why nothing is put into the log.
struct Trouble {
    reason: String,
    since: Timestamp,
    /// When it was met last, since boot.
    last: Duration,
}

struct LogFile {
    file: File,
    path: PathBuf,
    length: u64,
}

/// The file, and what is known about it.
pub(super) struct Log {
    place: WalPlace,
    name: String,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    file: Option<LogFile>,
    /// What was ever appended, whether it could be written or not.
    pub(super) ends: Positions,
    /// Lengths of the file, and what was appended by then.
    checkpoints: VecDeque<(u64, Positions)>,
    encoder: Encoder,
    out: Vec<u8>,
    /// Frames of series that could not be written yet: nothing may follow without them.
    unwritten: Vec<u8>,
    trouble: Option<Trouble>,
    /// When it was opened last, since boot.
    tried: Duration,
    pub(super) discarded_bytes: u64,
}

impl Log {
    /// A log that is not opened yet.
    pub fn new(place: WalPlace, name: String, epoch: Epoch, clock: Arc<dyn Clock>) -> Self {
        Self {
            place,
            name,
            clock,
            epoch,
            file: None,
            ends: Positions::default(),
            checkpoints: VecDeque::new(),
            encoder: Encoder::default(),
            out: Vec::new(),
            unwritten: Vec::new(),
            trouble: None,
            tried: Duration::ZERO,
            discarded_bytes: 0,
        }
    }

    /// Opens the file in the first directory that can be used. Gives what an earlier process of this boot left in it.
    pub fn open(&mut self) -> Option<Found> {
        let WalPlace::In(directories) = self.place.clone() else { return None };
        self.tried = self.clock.monotonic();
        let mut reasons = Vec::new();
        for directory in &directories {
            let path = directory.join(&self.name);
            let opened = place::open(directory, &self.name).and_then(|file| {
                let found =
                    self.look_into(&file).map_err(|error| format!("{}: {}", path.display(), io_text(&error)))?;
                Ok((file, found))
            });
            match opened {
                Ok((file, found)) => {
                    if !is_in_memory(directory) {
                        tracing::warn!(path = %path.display(), "the open commit is kept on a disk: every poll is written to it");
                    }
                    let length = HEAD + found.as_ref().map_or(0, Found::length);
                    self.file = Some(LogFile { file, path, length });
                    self.end_trouble();
                    if found.is_none() {
                        self.write_head();
                    }
                    if let Some(found) = &found {
                        (self.ends, self.epoch) = (found.end, found.epoch);
                    }
                    return found;
                }
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            reasons.push("no directory in memory is known".to_owned());
        }
        self.begin_trouble(reasons.join("; "));
        None
    }

    /// What is in `file`, shortened to that.
    fn look_into(&mut self, file: &File) -> io::Result<Option<Found>> {
        let length = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length.min(2 * BYTES_MAX)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        let head = bytes.split_first_chunk().and_then(|(head, frames)| Some((read_head(head)?, frames.to_vec())));
        let ours = head.filter(|((boot, _), _)| *boot == self.clock.boot());
        let Some(((boot, epoch), mut bytes)) = ours.filter(|(_, frames)| !frames.is_empty()) else {
            file.set_len(0)?;
            return Ok(None);
        };
        let mut frames = Frames::new(&bytes, boot);
        let mut end = Positions::default();
        for frame in &mut frames {
            end = end_after(end, &frame);
        }
        let taken = frames.taken;
        if frames.end == End::Damaged {
            let damaged = bytes.len() - taken;
            self.discarded_bytes += damaged as u64;
            tracing::error!(bytes = damaged, "the open commit of the process before is damaged; its end is dropped");
        }
        bytes.truncate(taken);
        file.set_len(HEAD + taken as u64)?;
        Ok((taken > 0).then_some(Found { epoch, end, bytes, boot }))
    }

    /// Adds what is appended to the buffer.
    pub fn append(&mut self, rows: &[Row], alarms: &[AlarmRecord], state: Option<&[u8]>) {
        let at = self.ends;
        self.ends.rows += rows.len() as u64;
        self.ends.alarms += alarms.len() as u64;
        self.ends.states += u64::from(state.is_some());
        if self.file.is_none() {
            return;
        }
        let clock = (ClockReading::now(self.clock.as_ref()), self.clock.monotonic());
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        out.extend_from_slice(&self.unwritten);
        self.encoder.appended(&mut out, &at, clock, rows, alarms, state);
        if self.write(&out) {
            self.unwritten.clear();
        }
        self.out = out;
    }

    /// Adds new series.
    pub fn add_series<'a>(&mut self, series: impl Iterator<Item = (SeriesId, &'a [u8])>) {
        for (id, series) in series {
            self.ends.series += 1;
            if self.file.is_some() {
                Encoder::series(&mut self.unwritten, id, series);
            }
        }
        let frames = std::mem::take(&mut self.unwritten);
        if self.file.is_some() && !frames.is_empty() && !self.write(&frames) {
            self.unwritten = frames;
        }
    }

    /// Adds frames at the end. Says whether they are there.
    fn write(&mut self, frames: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        let length = file.length + frames.len() as u64;
        let written = if length > BYTES_MAX {
            Err(format!("{}: nothing was stored for so long that it is full", file.path.display()))
        } else {
            let written = file.file.write_all_at(frames, file.length);
            written.map_err(|error| format!("{}: {}", file.path.display(), io_text(&error)))
        };
        match written {
            Ok(()) => {
                file.length = length;
                let last = self.trouble.as_ref().map(|trouble| trouble.last);
                if last.is_some_and(|last| self.clock.monotonic().saturating_sub(last) >= CALM) {
                    self.end_trouble();
                }
                true
            }
            Err(reason) => {
                // A part of it may be there.
                file.file.set_len(file.length).ok();
                self.begin_trouble(reason);
                false
            }
        }
    }

    /// Writes what has to be known about the frames before. Where that cannot be, there must be none.
    pub fn note(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.file.as_ref().is_none_or(|file| file.length == HEAD) {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        encode(&mut out);
        if !self.write(&out) {
            self.empty();
        }
        self.out = out;
    }

    /// Notes a place at which the file may be cut later.
    pub fn add_checkpoint(&mut self) {
        let Some(file) = &self.file else { return };
        let last = self.checkpoints.back().map_or(HEAD, |(length, _)| *length);
        if file.length >= last + CHECKPOINTS_APART {
            self.checkpoints.push_back((file.length, self.ends));
        }
    }

    /// Everything up to `placed` is not needed any more.
    pub fn cut(&mut self, placed: &Positions) {
        let Some(file) = self.file.as_ref().filter(|file| file.length > HEAD) else { return };
        if placed.covers(&self.ends) {
            self.empty();
            return;
        }
        let covered = self.checkpoints.iter().take_while(|(_, ends)| placed.covers(ends)).count();
        let until = covered.checked_sub(1).map_or(HEAD, |last| self.checkpoints[last].0);
        if until >= HEAD + CUT_LEAST || file.length > BYTES_MAX / 2 && until > HEAD {
            self.cut_to(until);
        }
    }

    /// Removes every frame.
    fn empty(&mut self) {
        self.checkpoints.clear();
        let Some(file) = &mut self.file else { return };
        match file.file.set_len(HEAD) {
            Ok(()) => file.length = HEAD,
            Err(error) => {
                let reason = format!("{}: {}", file.path.display(), io_text(&error));
                std::fs::remove_file(&file.path).ok();
                self.file = None;
                self.begin_trouble(reason);
            }
        }
    }

    /// Removes the frames before the offset `until`: what follows is put into a new file, which takes the place of the old
    /// one in one step.
    pub fn cut_to(&mut self, until: u64) {
        let Some(file) = &self.file else { return };
        if until >= file.length {
            self.empty();
            return;
        }
        match self.rewritten(file, until) {
            Ok(new) => {
                self.file = Some(new);
                self.checkpoints.retain(|(length, _)| *length > until);
                self.checkpoints.iter_mut().for_each(|(length, _)| *length -= until - HEAD);
            }
            // There is no room for both: it stays as it is for now.
            Err(error) => tracing::debug!(%error, "the log of the open commit cannot be cut"),
        }
    }

    fn rewritten(&self, old: &LogFile, until: u64) -> io::Result<LogFile> {
        let mut bytes = self.head().to_vec();
        let needed = usize::try_from(old.length - until).map_err(io::Error::other)?;
        bytes.resize(bytes.len() + needed, 0);
        old.file.read_exact_at(&mut bytes[HEAD as usize..], until)?;
        let (file, new) = place::create_beside(&old.path)?;
        let placed = file.write_all_at(&bytes, 0).and_then(|()| std::fs::rename(&new, &old.path));
        if placed.is_err() {
            std::fs::remove_file(&new).ok();
        }
        placed?;
        Ok(LogFile { file, path: old.path.clone(), length: bytes.len() as u64 })
    }

    fn head(&self) -> [u8; HEAD as usize] {
        let mut head = [0; HEAD as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..24].copy_from_slice(&self.clock.boot().0);
        head[24..40].copy_from_slice(&self.epoch.0);
        let checksum = crc32c::crc32c(&head[..40]);
        head[40..].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    /// The frames from here on, and those before that this process wrote, belong to `epoch`.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        if std::mem::replace(&mut self.epoch, epoch) != epoch {
            self.write_head();
        }
    }

    fn write_head(&mut self) {
        let head = self.head();
        let Some(file) = &self.file else { return };
        if let Err(error) = file.file.write_all_at(&head, 0) {
            let reason = format!("{}: {}", file.path.display(), io_text(&error));
            self.empty();
            self.file = None;
            self.begin_trouble(reason);
        }
    }

    /// Opens the file when it could not be opened before, or somebody has removed it. What it holds then is of no use:
    /// the store has gone on without it.
    pub fn open_again(&mut self) {
        if self.file.as_ref().is_some_and(|file| file.file.metadata().is_ok_and(|about| is_linked(&about))) {
            return;
        }
        let is_due = self.clock.monotonic().saturating_sub(self.tried) >= OPEN_AGAIN;
        if self.place == WalPlace::Off || self.file.is_none() && !is_due {
            return;
        }
        let ends = self.ends;
        self.file = None;
        self.checkpoints.clear();
        let epoch = self.epoch;
        if self.open().is_some() {
            (self.ends, self.epoch) = (ends, epoch);
            self.empty();
            self.write_head();
        }
    }

    /// Removes the file: the store was closed, and everything in it is durable.
    pub fn remove(&mut self) {
        let Some(LogFile { file, path, .. }) = self.file.take() else { return };
        if place::is_at(&file, &path) {
            // One that stays is empty.
            file.set_len(HEAD).ok();
            std::fs::remove_file(&path).ok();
        }
    }

    /// What is known about it.
    pub fn status(&self) -> WalStatus {
        WalStatus {
            kept: self.file.is_some() && self.trouble.is_none(),
            path: self.file.as_ref().map(|file| file.path.clone()),
            bytes: self.file.as_ref().map_or(0, |file| file.length),
            not_kept_because: self.trouble.as_ref().map(|trouble| trouble.reason.clone()),
            not_kept_since: self.trouble.as_ref().map(|trouble| trouble.since),
            taken_up: 0,
            discarded_bytes: self.discarded_bytes,
        }
    }

    fn begin_trouble(&mut self, reason: String) {
        match &mut self.trouble {
            Some(trouble) => (trouble.reason, trouble.last) = (reason, self.clock.monotonic()),
            None => {
                tracing::warn!(
                    reason,
                    "a kill costs what is not yet stored: the open commit is not kept outside the process"
                );
                self.trouble = Some(Trouble { reason, since: self.clock.wall(), last: self.clock.monotonic() });
            }
        }
    }

    fn end_trouble(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("a kill costs nothing again: the open commit is kept outside the process");
        }
    }
}

fn is_linked(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(about) > 0
}

/// Boot and epoch in a head, if it is one.
fn read_head(head: &[u8; HEAD as usize]) -> Option<(BootId, Epoch)> {
    let mut boot = [0; 16];
    let mut epoch = [0; 16];
    boot.copy_from_slice(&head[8..24]);
    epoch.copy_from_slice(&head[24..40]);
    let is_whole = head.starts_with(MAGIC) && head[40..] == crc32c::crc32c(&head[..40]).to_le_bytes();
    is_whole.then_some((BootId(boot), Epoch(epoch)))
}
