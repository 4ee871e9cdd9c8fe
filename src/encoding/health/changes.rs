//! The differences of two documents, and a document with its differences.
//!
//! Both sides walk the base in the same order: members of an object by key, elements of a list by position. They leave out
//! places that `set` and `drop` name. Every number belongs to the column of its place, in which the index of each list
//! counts as "any"; only the last step counts as it is, so that the buckets of a histogram are columns of their own.
//! Columns come in the order in which the walk meets them first.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tree::Node;
use super::{Changes, Step};

/// What becomes of one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// Added to a whole number; 0 also leaves any other number as it is.
    Add(i64),
    /// The new value of a number with a fraction.
    New(f64),
}

/// The differences of a document from its base.
#[derive(Debug, Default)]
pub(super) struct Differences<'n> {
    pub add: Vec<Entry>,
    pub set: Vec<(Vec<Step>, &'n Node<'n>)>,
    pub drop: Vec<Vec<Step>>,
}

/// One step of a place as a column sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ColumnStep<'a> {
    Key(&'a str),
    Index(usize),
    Any,
}

/// The number of the root in [`Columns`].
const ROOT: usize = 0;

/// The columns of a document: a tree of steps whose nodes are numbered.
#[derive(Debug, Default)]
struct Columns<'a> {
    nodes: HashMap<(usize, ColumnStep<'a>), usize>,
    columns: HashMap<usize, usize>,
}

impl<'a> Columns<'a> {
    fn node(&mut self, parent: usize, step: ColumnStep<'a>) -> usize {
        let next = ROOT + 1 + self.nodes.len();
        *self.nodes.entry((parent, step)).or_insert(next)
    }

    /// The column of the numbers at `step` below `parent`.
    fn column(&mut self, parent: usize, step: ColumnStep<'a>) -> usize {
        let node = self.node(parent, step);
        let next = self.columns.len();
        *self.columns.entry(node).or_insert(next)
    }
}

pub(super) fn between<'n>(base: &'n Node<'n>, now: &'n Node<'n>) -> Differences<'n> {
    let mut comparison = Comparison::default();
    comparison.members(base, now, ROOT);
    comparison.entries.sort_by_key(|(column, _)| *column);
    let add = comparison.entries.into_iter().map(|(_, entry)| entry).collect();
    Differences { add, set: comparison.set, drop: comparison.drop }
}

#[derive(Default)]
struct Comparison<'n> {
    known: Columns<'n>,
    /// Column and entry of each number, in the order of the walk.
    entries: Vec<(usize, Entry)>,
    path: Vec<Step>,
    set: Vec<(Vec<Step>, &'n Node<'n>)>,
    drop: Vec<Vec<Step>>,
}

impl<'n> Comparison<'n> {
    /// Compares what is inside two containers of the same kind.
    fn members(&mut self, base: &'n Node<'n>, now: &'n Node<'n>, parent: usize) {
        match (base, now) {
            (Node::Object(base), Node::Object(now)) => self.objects(base, now, parent),
            (Node::List(base), Node::List(now)) => {
                for (index, (base, now)) in base.iter().zip(now).enumerate() {
                    self.path.push(Step::Index(index));
                    let step = if base.is_container() { ColumnStep::Any } else { ColumnStep::Index(index) };
                    self.place(base, now, parent, step);
                    self.path.pop();
                }
            }
            (_, now) => self.set.push((self.path.clone(), now)),
        }
    }

    fn objects(&mut self, base: &'n [(Key<'n>, Node<'n>)], now: &'n [(Key<'n>, Node<'n>)], parent: usize) {
        let found = |members: &'n [(Key<'n>, Node<'n>)], key: &str| {
            members.binary_search_by(|(known, _)| known.as_ref().cmp(key)).ok().map(|at| &members[at].1)
        };
        for (key, value) in base {
            self.path.push(Step::Key(key.to_string()));
            match found(now, key) {
                Some(now) => self.place(value, now, parent, ColumnStep::Key(key)),
                None => self.drop.push(self.path.clone()),
            }
            self.path.pop();
        }
        for (key, value) in now.iter().filter(|(key, _)| found(base, key).is_none()) {
            let mut path = self.path.clone();
            path.push(Step::Key(key.to_string()));
            self.set.push((path, value));
        }
    }

    fn place(&mut self, base: &'n Node<'n>, now: &'n Node<'n>, parent: usize, step: ColumnStep<'n>) {
        let entry = match (base, now) {
            (Node::Object(_), Node::Object(_)) => {
                let node = self.known.node(parent, step);
                return self.members(base, now, node);
            }
            (Node::List(one), Node::List(other)) if one.len() == other.len() => {
                let node = self.known.node(parent, step);
                return self.members(base, now, node);
            }
            (Node::Int(base), Node::Int(now)) => now.checked_sub(*base).map(Entry::Add),
            (Node::Float(base), Node::Float(now)) if base == now => Some(Entry::Add(0)),
            (Node::Float(_), Node::Float(now)) => Some(Entry::New(*now)),
            (Node::Large(base), Node::Large(now)) if base == now => Some(Entry::Add(0)),
            (base, now) if base == now => return,
            (_, _) => None,
        };
        match entry {
            Some(entry) => self.entries.push((self.known.column(parent, step), entry)),
            None => self.set.push((self.path.clone(), now)),
        }
    }
}

type Key<'n> = std::borrow::Cow<'n, str>;

/// Changes `document` as `changes` say.
///
/// # Errors
/// They are not about this document.
pub(super) fn apply(document: &mut Value, changes: &Changes) -> Result<(), String> {
    let replaced = changes.set.iter().map(|(path, _)| path.as_slice());
    let skipped: HashSet<&[Step]> = replaced.chain(changes.drop.iter().map(Vec::as_slice)).collect();
    let mut numbers = numbers_of(document, &skipped);
    if numbers.len() != changes.add.len() {
        return Err(format!("{} numbers for a document of {}", changes.add.len(), numbers.len()));
    }
    numbers.sort_by_key(|(column, _)| *column);
    for ((_, number), entry) in numbers.into_iter().zip(&changes.add) {
        change(number, *entry)?;
    }
    for path in &changes.drop {
        let (last, above) = path.split_last().ok_or("the document itself cannot be dropped")?;
        match (place_of(document, above)?, last) {
            (Value::Object(members), Step::Key(key)) => drop(members.remove(key)),
            (_, step) => return Err(format!("{step:?} cannot be dropped")),
        }
    }
    changes.set.iter().try_for_each(|(path, value)| set(document, path, value.clone()))
}

/// The numbers of a document in the order of the walk, each with its column.
fn numbers_of<'d>(document: &'d mut Value, skipped: &HashSet<&[Step]>) -> Vec<(usize, &'d mut Value)> {
    let mut walk = Walk { skipped, known: Columns::default(), path: Vec::new(), numbers: Vec::new() };
    walk.members(document, ROOT);
    walk.numbers
}

/// Collects them.
struct Walk<'c, 'd> {
    skipped: &'c HashSet<&'c [Step]>,
    known: Columns<'d>,
    path: Vec<Step>,
    numbers: Vec<(usize, &'d mut Value)>,
}

impl<'d> Walk<'_, 'd> {
    fn members(&mut self, container: &'d mut Value, parent: usize) {
        match container {
            // In the order of the keys: the map is a tree.
            Value::Object(members) => {
                for (key, value) in members {
                    self.place(value, parent, Step::Key(key.clone()), ColumnStep::Key(key));
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    let is_container = value.is_array() || value.is_object();
                    let step = if is_container { ColumnStep::Any } else { ColumnStep::Index(index) };
                    self.place(value, parent, Step::Index(index), step);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn place(&mut self, value: &'d mut Value, parent: usize, step: Step, in_column: ColumnStep<'d>) {
        self.path.push(step);
        if !self.skipped.contains(self.path.as_slice()) {
            match value {
                Value::Object(_) | Value::Array(_) => {
                    let node = self.known.node(parent, in_column);
                    self.members(value, node);
                }
                Value::Number(_) => self.numbers.push((self.known.column(parent, in_column), value)),
                Value::Null | Value::Bool(_) | Value::String(_) => {}
            }
        }
        self.path.pop();
    }
}

fn change(number: &mut Value, entry: Entry) -> Result<(), String> {
    match entry {
        Entry::Add(0) => {}
        Entry::New(new) => *number = new.into(),
        Entry::Add(difference) => {
            let sum = number.as_i64().and_then(|number| number.checked_add(difference));
            *number = sum.ok_or_else(|| format!("{difference} cannot be added to {number}"))?.into();
        }
    }
    Ok(())
}

fn place_of<'d>(document: &'d mut Value, path: &[Step]) -> Result<&'d mut Value, String> {
    path.iter().try_fold(document, |value, step| {
        let next = match step {
            Step::Key(key) => value.get_mut(key.as_str()),
            Step::Index(index) => value.get_mut(*index),
        };
        next.ok_or_else(|| format!("there is no {step:?}"))
    })
}

fn set(document: &mut Value, path: &[Step], value: Value) -> Result<(), String> {
    let Some((last, above)) = path.split_last() else {
        *document = value;
        return Ok(());
    };
    match (place_of(document, above)?, last) {
        (Value::Object(members), Step::Key(key)) => drop(members.insert(key.clone(), value)),
        (Value::Array(list), Step::Index(index)) if *index < list.len() => list[*index] = value,
        (_, step) => return Err(format!("{step:?} cannot be set")),
    }
    Ok(())
}
