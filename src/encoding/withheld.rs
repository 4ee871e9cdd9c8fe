//! Which readings of a batch are not sent.

/// Readings of a batch that the configuration keeps back. Their places in the commits stay: identities do not move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withheld(Option<Box<Bits>>);

/// For each commit a bit for each of its readings; shorter, or none, where nothing is withheld.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Bits(Vec<Vec<u64>>);

impl Withheld {
    /// Keeps back the reading at `place` among those of the commit at `commit` of the batch.
    pub fn add(&mut self, commit: usize, place: usize) {
        let Bits(commits) = &mut **self.0.get_or_insert_default();
        if commits.len() <= commit {
            commits.resize_with(commit + 1, Vec::new);
        }
        let bits = &mut commits[commit];
        if bits.len() <= place / 64 {
            bits.resize(place / 64 + 1, 0);
        }
        bits[place / 64] |= 1 << (place % 64);
    }

    /// Sends that reading after all.
    pub fn remove(&mut self, commit: usize, place: usize) {
        let commits = self.0.as_mut().map(|bits| &mut bits.0);
        if let Some(word) = commits.and_then(|commits| commits.get_mut(commit)?.get_mut(place / 64)) {
            *word &= !(1 << (place % 64));
        }
    }

    /// Whether that reading is kept back.
    pub fn contains(&self, commit: usize, place: usize) -> bool {
        let word = self.0.as_ref().and_then(|bits| bits.0.get(commit)?.get(place / 64));
        word.is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// How many readings are kept back.
    pub fn len(&self) -> usize {
        self.0.iter().flat_map(|bits| &bits.0).flatten().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits off what concerns the commits from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let commits = self.0.as_mut().map(|bits| &mut bits.0).filter(|commits| at < commits.len());
        Self(commits.map(|commits| Box::new(Bits(commits.split_off(at)))))
    }

    /// Splits off what concerns the readings from `at` on of the only commit.
    pub(super) fn split_commit(&mut self, at: usize, count: usize) -> Self {
        let mut parts = [Self::default(), Self::default()];
        for place in (0..count).filter(|place| self.contains(0, *place)) {
            let (part, place) = if place < at { (0, place) } else { (1, place - at) };
            parts[part].add(0, place);
        }
        let [first, second] = parts;
        *self = first;
        second
    }
}
