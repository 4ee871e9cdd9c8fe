//! A disk that loses what was not synced: replays the system calls of a process, recorded by strace, up to a cut.
//!
//! What a `write` put into a file is on the disk for certain only after `fsync` or `fdatasync` of that file; until then
//! each sector of 512 bytes may be there, not there, or torn in the middle. A name in a directory is there for certain
//! only after `fsync` of the directory; until then making, renaming and removing may have happened or not.

#![allow(dead_code)] // Each test program uses its own part of this.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

/// One thing the process did that matters for the disk.
#[derive(Debug)]
enum Event {
    Open { path: PathBuf, file: usize, is_made: bool, is_emptied: bool },
    MakeDirectory(PathBuf),
    Write { file: usize, offset: usize, bytes: Vec<u8> },
    SetLength { file: usize, length: usize },
    Sync(usize),
    SyncDirectory(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
    Exchange(PathBuf, PathBuf),
    Remove(PathBuf),
    Say(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, offset, bytes } => write!(f, "write to {file} at {offset}: {} bytes", bytes.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What a process did, in order.
#[derive(Debug, Default)]
pub struct Recording {
    events: Vec<Event>,
}

/// The system calls that [`Recording::read`] has to see, for `strace -f -xx -s 16777216 -e trace=...`.
pub const TRACED: &str = "open,openat,creat,write,pwrite64,pwritev,writev,ftruncate,fallocate,fsync,fdatasync,rename,renameat,\
                          renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,close,fcntl,dup,dup2,dup3,lseek";

/// Says of a relative path that it begins in the working directory, where no store is.
const HERE: &str = "AT_FDCWD";

/// What a descriptor stands for.
#[derive(Debug, Clone)]
enum Handle {
    File { file: usize, position: usize },
    Directory(PathBuf),
}

impl Recording {
    /// Reads what strace wrote about a process that worked below `root`.
    pub fn read(trace: &str, root: &Path) -> Self {
        let mut reader = Reader { root, handles: HashMap::new(), files: BTreeMap::new(), count: 0, events: Vec::new() };
        let mut unfinished: HashMap<&str, &str> = HashMap::new();
        for line in trace.lines() {
            let Some((process, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
                unfinished.insert(process, begun);
            } else if let Some(rest) = call.strip_prefix("<... ") {
                let (_, rest) = rest.split_once(" resumed>").unwrap();
                let begun = unfinished.remove(process).unwrap_or_default();
                reader.call(&format!("{begun}{rest}"));
            } else {
                reader.call(call);
            }
        }
        Self { events: reader.events }
    }

    /// How many things were done.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The last word that the process said before the event `cut` and that begins with `start`.
    pub fn last_said(&self, cut: usize, start: &str) -> Option<&str> {
        self.events[..cut].iter().rev().find_map(|event| match event {
            Event::Say(word) => word.strip_prefix(start),
            _ => None,
        })
    }

    /// What the process did last before the event `cut`, a line for each event.
    pub fn before(&self, cut: usize) -> String {
        let last = &self.events[cut.saturating_sub(40)..cut];
        last.iter().fold(String::new(), |text, event| text + &event.to_string() + "\n")
    }

    /// How often two names were exchanged.
    pub fn exchanges(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Exchange(..))).count()
    }

    /// The first event at which the process said a word that begins with `start`.
    pub fn first_said(&self, start: &str) -> Option<usize> {
        self.events.iter().position(|event| matches!(event, Event::Say(word) if word.starts_with(start)))
    }

    /// Shows the disk after each event of `cuts`, which rise.
    pub fn replay(&self, cuts: &[usize], mut each: impl FnMut(usize, &Disk)) {
        let mut disk = Disk::default();
        let mut cuts = cuts.iter().peekable();
        for (number, event) in self.events.iter().enumerate() {
            while cuts.next_if(|cut| **cut == number).is_some() {
                each(number, &disk);
            }
            disk.take(event);
        }
        cuts.for_each(|cut| each(*cut, &disk));
    }
}

struct Reader<'a> {
    root: &'a Path,
    handles: HashMap<i64, Handle>,
    /// Files by their present name.
    files: BTreeMap<PathBuf, usize>,
    count: usize,
    events: Vec<Event>,
}

impl Reader<'_> {
    fn call(&mut self, call: &str) {
        let Some((name, rest)) = call.split_once('(') else { return };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
        let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
        let result: i64 = result.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        if result < 0 {
            return;
        }
        let words: Vec<&str> = arguments.split(", ").collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok()).unwrap_or(-1);
        match name {
            "open" | "creat" => self.open(HERE, words[0], words.get(1).copied().unwrap_or("O_CREAT|O_TRUNC"), result),
            "openat" => self.open(words[0], words[1], words[2], result),
            "close" => drop(self.handles.remove(&number(0))),
            "fcntl" if words[1].starts_with("F_DUPFD") => self.duplicate(number(0), result),
            "dup" => self.duplicate(number(0), result),
            "write" => self.write(number(0), text(words[1]), result as usize, None),
            "pwrite64" => self.write(number(0), text(words[1]), result as usize, Some(number(3) as usize)),
            "writev" | "pwritev" | "fallocate" if self.handles.contains_key(&number(0)) => {
                panic!("{name} is not understood")
            }
            "lseek" => self.seek(number(0), result as usize),
            "ftruncate" => {
                if let Some(Handle::File { file, .. }) = self.handles.get(&number(0)) {
                    self.events.push(Event::SetLength { file: *file, length: number(1) as usize });
                }
            }
            "fsync" | "fdatasync" => match self.handles.get(&number(0)) {
                Some(Handle::File { file, .. }) => self.events.push(Event::Sync(*file)),
                Some(Handle::Directory(path)) => self.events.push(Event::SyncDirectory(path.clone())),
                None => {}
            },
            "renameat2" if words[4].contains("RENAME_EXCHANGE") => {
                self.exchange(self.path_at(words[0], words[1]), self.path_at(words[2], words[3]))
            }
            "rename" => self.rename(self.path_at(HERE, words[0]), self.path_at(HERE, words[1])),
            "renameat" | "renameat2" => {
                self.rename(self.path_at(words[0], words[1]), self.path_at(words[2], words[3]));
            }
            "unlink" | "rmdir" => self.remove(self.path_at(HERE, words[0])),
            "unlinkat" => self.remove(self.path_at(words[0], words[1])),
            "mkdir" => self.make_directory(self.path_at(HERE, words[0])),
            "mkdirat" => self.make_directory(self.path_at(words[0], words[1])),
            _ => {}
        }
    }

    /// The path below the root that `word` names, beginning in the directory with the descriptor `directory`.
    fn path_at(&self, directory: &str, word: &str) -> Option<PathBuf> {
        let path = PathBuf::from(String::from_utf8(text(word)).ok()?);
        if path.is_absolute() {
            return path.strip_prefix(self.root).ok().map(Path::to_owned);
        }
        match directory.parse().ok().and_then(|handle: i64| self.handles.get(&handle))? {
            Handle::Directory(above) => Some(above.join(path)),
            Handle::File { .. } => None,
        }
    }

    fn open(&mut self, directory: &str, path: &str, flags: &str, handle: i64) {
        let Some(path) = self.path_at(directory, path) else { return };
        let is_file = self.files.contains_key(&path) || flags.contains("O_CREAT");
        if !is_file {
            self.handles.insert(handle, Handle::Directory(path));
            return;
        }
        let is_made = !self.files.contains_key(&path);
        let file = *self.files.entry(path.clone()).or_insert_with(|| {
            self.count += 1;
            self.count
        });
        self.handles.insert(handle, Handle::File { file, position: 0 });
        self.events.push(Event::Open { path, file, is_made, is_emptied: flags.contains("O_TRUNC") });
    }

    fn duplicate(&mut self, from: i64, to: i64) {
        if let Some(handle) = self.handles.get(&from).cloned() {
            self.handles.insert(to, handle);
        }
    }

    fn write(&mut self, handle: i64, mut bytes: Vec<u8>, written: usize, at: Option<usize>) {
        bytes.truncate(written);
        if handle == 1 {
            let words = String::from_utf8_lossy(&bytes).into_owned();
            self.events.extend(words.lines().map(|word| Event::Say(word.to_owned())));
            return;
        }
        if let Some(Handle::File { file, position }) = self.handles.get_mut(&handle) {
            let offset = at.unwrap_or(*position);
            if at.is_none() {
                *position += written;
            }
            self.events.push(Event::Write { file: *file, offset, bytes });
        }
    }

    fn seek(&mut self, handle: i64, to: usize) {
        if let Some(Handle::File { position, .. }) = self.handles.get_mut(&handle) {
            *position = to;
        }
    }

    fn rename(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        for (path, file) in take_below(&mut self.files, &from) {
            self.files.insert(moved(&path, &from, &to), file);
        }
        self.events.push(Event::Rename { from, to });
    }

    fn exchange(&mut self, one: Option<PathBuf>, other: Option<PathBuf>) {
        let (Some(one), Some(other)) = (one, other) else { return };
        let (of_one, of_other) = (take_below(&mut self.files, &one), take_below(&mut self.files, &other));
        self.files.extend(of_one.into_iter().map(|(path, file)| (moved(&path, &one, &other), file)));
        self.files.extend(of_other.into_iter().map(|(path, file)| (moved(&path, &other, &one), file)));
        self.events.push(Event::Exchange(one, other));
    }

    fn remove(&mut self, path: Option<PathBuf>) {
        let Some(path) = path else { return };
        self.files.remove(&path);
        self.events.push(Event::Remove(path));
    }

    fn make_directory(&mut self, path: Option<PathBuf>) {
        self.events.extend(path.map(Event::MakeDirectory));
    }
}

/// Takes out what has a name that is `top` or below it.
fn take_below<T>(names: &mut BTreeMap<PathBuf, T>, top: &Path) -> Vec<(PathBuf, T)> {
    names.extract_if(.., |path, _| path.starts_with(top)).collect()
}

/// What the name `path` becomes when `from` becomes `to`.
fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    let rest = path.strip_prefix(from).expect("it is below what moves");
    if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) }
}

/// The bytes of a string that strace wrote in hexadecimal.
fn text(word: &str) -> Vec<u8> {
    assert!(!word.ends_with("..."), "strace cut a string short");
    let word = word.trim_matches('"').as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    word.chunks_exact(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])).collect()
}

/// What is in a file: for certain, and perhaps.
#[derive(Debug, Default, Clone)]
struct Content {
    synced: Vec<u8>,
    /// Lengths and writes since, in order.
    unsynced: Vec<Change>,
    /// As the process sees it.
    seen: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A change of names that is not certain yet.
#[derive(Debug, Clone)]
enum Naming {
    Make(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Naming {
    /// Whether it changes names below `top`.
    fn is_below(&self, top: &Path) -> bool {
        match self {
            Self::Make(name, _) | Self::Remove(name) => name.starts_with(top),
            Self::Rename(one, other) | Self::Exchange(one, other) => one.starts_with(top) && other.starts_with(top),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    File(usize),
    Directory,
}

/// A disk with a volatile cache.
#[derive(Debug, Default)]
pub struct Disk {
    contents: HashMap<usize, Content>,
    names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<Naming>,
}

impl Disk {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Open { path, file, is_made, is_emptied } => {
                let content = self.contents.entry(*file).or_default();
                if *is_emptied && !is_made {
                    content.change(Change::Length(0));
                }
                if *is_made {
                    self.unsynced_names.push(Naming::Make(path.clone(), Node::File(*file)));
                }
            }
            Event::MakeDirectory(path) => self.unsynced_names.push(Naming::Make(path.clone(), Node::Directory)),
            Event::Write { file, offset, bytes } => {
                let change = Change::Write { offset: *offset, bytes: bytes.clone() };
                self.contents.entry(*file).or_default().change(change);
            }
            Event::SetLength { file, length } => {
                self.contents.entry(*file).or_default().change(Change::Length(*length));
            }
            Event::Sync(file) => {
                let content = self.contents.entry(*file).or_default();
                content.synced = content.seen.clone();
                content.unsynced.clear();
            }
            Event::SyncDirectory(path) => self.sync_names(path),
            Event::Rename { from, to } => self.unsynced_names.push(Naming::Rename(from.clone(), to.clone())),
            Event::Exchange(one, other) => {
                self.unsynced_names.push(Naming::Exchange(one.clone(), other.clone()));
            }
            Event::Remove(path) => self.unsynced_names.push(Naming::Remove(path.clone())),
            Event::Say(_) => {}
        }
    }

    /// Makes certain all changes of names in the directory `path`.
    fn sync_names(&mut self, path: &Path) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let is_in = |name: &Path| name.parent() == Some(path);
        for change in changes {
            let is_certain = match &change {
                Naming::Make(name, _) | Naming::Remove(name) => is_in(name),
                Naming::Rename(from, to) | Naming::Exchange(from, to) => is_in(from) || is_in(to),
            };
            if is_certain {
                if let Naming::Remove(gone) = &change {
                    // With a directory goes what had not reached the disk of it: another may come under its name.
                    self.unsynced_names.retain(|earlier| !earlier.is_below(gone));
                    take_below(&mut self.names, gone);
                }
                apply(&mut self.names, &change);
            } else {
                self.unsynced_names.push(change);
            }
        }
    }

    /// Writes below `to` what may be on the disk when the power goes now.
    pub fn write_image(&self, to: &Path, random: &mut fastrand::Rng) {
        let mut names = self.names.clone();
        // A journal keeps the order of names, other file systems do not.
        let kept_all = random.usize(..=self.unsynced_names.len());
        let is_ordered = random.bool();
        for (number, change) in self.unsynced_names.iter().enumerate() {
            if if is_ordered { number < kept_all } else { random.bool() } {
                apply(&mut names, change);
            }
        }
        // Most of what is unsynced is kept, most of it lost, or as it comes.
        let kept_of_ten = *random.choice(&[1, 5, 9, 10]).unwrap();
        for (path, node) in &names {
            let path = to.join(path);
            match node {
                Node::Directory => std::fs::create_dir_all(path).unwrap(),
                Node::File(file) => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, self.contents[file].after_a_cut(kept_of_ten, random)).unwrap();
                }
            }
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Naming) {
    match change {
        Naming::Make(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Remove(name) => drop(names.remove(name)),
        Naming::Rename(from, to) => {
            let below = take_below(names, from);
            names.extend(below.into_iter().map(|(name, node)| (moved(&name, from, to), node)));
        }
        Naming::Exchange(one, other) => {
            let (of_one, of_other) = (take_below(names, one), take_below(names, other));
            names.extend(of_one.into_iter().map(|(name, node)| (moved(&name, one, other), node)));
            names.extend(of_other.into_iter().map(|(name, node)| (moved(&name, other, one), node)));
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        match &change {
            Change::Write { offset, bytes } => put(&mut self.seen, *offset, bytes),
            Change::Length(length) => self.seen.resize(*length, 0),
        }
        self.unsynced.push(change);
    }

    fn after_a_cut(&self, kept_of_ten: u8, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            match change {
                Change::Length(length) if random.u8(..10) < kept_of_ten => bytes.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write { offset, bytes: written } => {
                    let mut at = 0;
                    while at < written.len() {
                        let part = (SECTOR - (offset + at) % SECTOR).min(written.len() - at);
                        // Kept, torn in the middle, or not there.
                        let kept = match random.u8(..10) < kept_of_ten {
                            true => part,
                            false if random.u8(..4) == 0 => random.usize(..part),
                            false => 0,
                        };
                        put(&mut bytes, offset + at, &written[at..at + kept]);
                        at += part;
                    }
                }
            }
        }
        // The length may have got there before the bytes did.
        if bytes.len() < self.seen.len() && random.bool() {
            bytes.resize(self.seen.len(), 0);
        }
        bytes
    }
}

fn put(into: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if into.len() < offset + bytes.len() {
        into.resize(offset + bytes.len(), 0);
    }
    into[offset..offset + bytes.len()].copy_from_slice(bytes);
}
