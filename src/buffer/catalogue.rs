//! Which series has which id, for as long as the database lives.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::database::{Batch, Database, DatabaseError};
use crate::model::{Epoch, SeriesId, SeriesInfo};

const KEY: u8 = b'k';

/// All series that ever were in this epoch, lowest id first.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// Life of the database that gave the ids.
    pub epoch: Epoch,
    /// Every id with its series.
    pub series: Vec<(SeriesId, Arc<SeriesInfo>)>,
    /// Other epochs in which the ids mean the same, and of which records may still be delivered.
    pub others: Vec<Epoch>,
}

impl Catalogue {
    /// The series with this id.
    pub fn get(&self, id: SeriesId) -> Option<&Arc<SeriesInfo>> {
        let position = self.series.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.series.get(position).map(|(_, info)| info)
    }
}

/// Ids not given after damage: more than were ever registered at once.
const IDS_PASSED_OVER: u32 = 1 << 20;

/// The ids by the stored form of their series.
///
/// The text is compared and not the numbers in it, because a number may not survive being written and read.
#[derive(Debug, Clone, Default)]
pub struct SeriesIds {
    ids: HashMap<Box<[u8]>, SeriesId>,
    /// Ids that a series had before it got another one: stored records may use them.
    former: Vec<(SeriesId, Box<[u8]>)>,
    next: u32,
}

impl SeriesIds {
    /// Reads the catalogue of `database`.
    pub fn load(database: &Database) -> Result<Self, DatabaseError> {
        let mut this = Self::default();
        database.visit(&key(SeriesId(0)), &key(SeriesId(u32::MAX)), |key, value| {
            if let Some(id) = id_of(key) {
                this.insert(id, value);
            }
            ControlFlow::Continue(())
        })?;
        Ok(this)
    }

    /// Adds a series with the id it has. It may have had another one.
    pub fn insert(&mut self, id: SeriesId, series: &[u8]) {
        if let Some(former) = self.ids.insert(series.into(), id).filter(|former| *former != id) {
            self.former.push((former, series.into()));
        }
        self.never_again(id);
    }

    /// Gives `id` to no new series.
    pub fn never_again(&mut self, id: SeriesId) {
        self.next = self.next.max(id.0.saturating_add(1));
    }

    /// The newest series may be among what is gone, and no id may ever mean two of them.
    pub fn pass_over(&mut self) {
        self.next = self.next.saturating_add(IDS_PASSED_OVER);
    }

    /// The id of a series in its stored form.
    pub fn get(&self, series: &[u8]) -> Option<SeriesId> {
        self.ids.get(series).copied()
    }

    /// The id that a new series would get.
    pub fn next_id(&self) -> SeriesId {
        SeriesId(self.next)
    }

    /// Adds what was given while the database could not be asked. Says whether there was anything to add.
    pub fn take_over(&mut self, given: &Self) -> bool {
        let mut is_changed = false;
        for (series, id) in &given.ids {
            if self.get(series) != Some(*id) {
                self.insert(*id, series);
                is_changed = true;
            }
        }
        self.next = self.next.max(given.next);
        is_changed
    }

    /// The ids of `series`, in their order. New ones have to become durable before a reading that uses them.
    pub fn register(&mut self, series: &[SeriesInfo]) -> Result<Vec<SeriesId>, serde_json::Error> {
        let texts = series.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
        let id = |text: Vec<u8>| {
            *self.ids.entry(text.into_boxed_slice()).or_insert_with(|| {
                let id = SeriesId(self.next);
                self.next += 1;
                id
            })
        };
        Ok(texts.into_iter().map(id).collect())
    }

    /// Adds every series to `batch`: the catalogue of a new database that takes over from a lost one.
    pub fn write_all(&self, batch: &mut Batch) {
        self.iter().for_each(|(id, text)| batch.put(&key(id), text));
    }

    /// Every id with the stored form of its series, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &[u8])> {
        let former = self.former.iter().map(|(id, text)| (*id, text.as_ref()));
        self.ids.iter().map(|(text, id)| (*id, text.as_ref())).chain(former)
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// All series, lowest id first.
    pub fn all(&self) -> Vec<(SeriesId, Arc<SeriesInfo>)> {
        let mut texts: Vec<(SeriesId, &[u8])> = self.iter().collect();
        texts.sort_unstable_by_key(|(id, _)| *id);
        let mut series: Vec<(SeriesId, Arc<SeriesInfo>)> = Vec::with_capacity(texts.len());
        for (id, text) in texts {
            let Ok(mut info) = serde_json::from_slice::<SeriesInfo>(text) else { continue };
            // Neighbours mostly belong to one device: they share one map of labels.
            if let Some((_, before)) = series.last()
                && before.labels == info.labels
            {
                info.labels = before.labels.clone();
            }
            series.push((id, Arc::new(info)));
        }
        series
    }
}

fn key(id: SeriesId) -> [u8; 5] {
    let mut key = [KEY; 5];
    key[1..].copy_from_slice(&id.0.to_be_bytes());
    key
}

fn id_of(key: &[u8]) -> Option<SeriesId> {
    Some(SeriesId(u32::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}
