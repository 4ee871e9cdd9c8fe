//! What of a series goes to the broker: `forward`, `deadband`, `deadband_percent`, `swinging_door`, `heartbeat`, `every`.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Selection, SeriesInfo};
use crate::settings::{Item, Section};

/// Longest heartbeat and longest window of aggregates.
const SPAN_MOST: Duration = Duration::from_secs(24 * 3600);

/// Window of aggregates unless said otherwise.
const EVERY: Duration = Duration::from_secs(60);

/// What of a series goes to the broker. The store keeps every reading in any case.
#[derive(Debug, Clone, PartialEq)]
pub enum Forward {
    /// Every reading.
    All,
    /// Readings that say something new.
    Changes(Changes),
    /// No reading, but mean, least and greatest value of windows aligned to the clock, as series of their own.
    Aggregates {
        /// Length of the windows.
        every: Duration,
    },
    /// Nothing.
    None,
}

/// Which readings say something new: the first one, one of another quality, and one whose value moved far enough.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Changes {
    /// The value has to move by more than this, in the unit of the series.
    pub deadband: f64,
    /// The value has to move by more than this part of the last value sent, in percent.
    pub deadband_percent: f64,
    /// In place of a deadband: straight lines between the readings sent miss no reading by more than this, in the
    /// unit of the series.
    pub swinging_door: Option<f64>,
    /// A reading is sent at least this often.
    pub heartbeat: Option<Duration>,
}

/// What the configuration says about series that it selects.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectedForward {
    /// Which series.
    pub select: Selection,
    /// As it is written.
    pub text: String,
    /// What of them is sent.
    pub forward: Arc<Forward>,
}

/// The sections `[[forward]]`, in the order of the file.
pub(super) fn selected(sections: Vec<Section<'_, '_>>) -> Vec<SelectedForward> {
    let selected = |mut section: Section<'_, '_>| {
        let item = section.require("select", "a selector such as 'active_power_w{line=\"press\"}'");
        let forward = read(&mut section);
        if let Ok(None) = forward {
            section.missing("forward", "\"all\", \"changes\", \"aggregates\" or \"none\"");
        }
        section.finish();
        let item = item?;
        let text = item.text()?;
        let select = item.check(Selection::parse(&text))?;
        Some(SelectedForward { select, text, forward: forward.ok()?? })
    };
    sections.into_iter().filter_map(selected).collect()
}

/// What the first selector that fits a series says about it.
pub(super) fn of<'a>(series: &SeriesInfo, selected: &'a [SelectedForward]) -> Option<&'a Arc<Forward>> {
    let fits = |selected: &&SelectedForward| selected.select.takes(&series.name, &series.labels);
    selected.iter().find(fits).map(|selected| &selected.forward)
}

/// What `section` says about forwarding, with its keys taken out; `None` when it says nothing, or after its faults were
/// noted.
pub(super) fn forward(section: &mut Section<'_, '_>) -> Option<Arc<Forward>> {
    read(section).unwrap_or_default()
}

/// The forwarding was refused, and why was noted.
struct Noted;

fn read(section: &mut Section<'_, '_>) -> Result<Option<Arc<Forward>>, Noted> {
    let what = section.take("forward");
    let [deadband, percent, door] = ["deadband", "deadband_percent", "swinging_door"].map(|key| section.take(key));
    let heartbeat = section.take("heartbeat");
    let every = section.take("every");
    let of_changes = [&deadband, &percent, &door, &heartbeat].into_iter().flatten().next();
    let word = match &what {
        Some(item) => item.choice(&[("all", 0), ("changes", 1), ("aggregates", 2), ("none", 3)]).ok_or(Noted)?,
        None if of_changes.is_some() => 1,
        None => {
            if let Some(every) = every {
                every.fault("only with forward = \"aggregates\"");
            }
            return Ok(None);
        }
    };
    if let Some(item) = of_changes.filter(|_| word != 1) {
        item.fault("only with forward = \"changes\"");
    }
    if let Some(item) = every.as_ref().filter(|_| word != 2) {
        item.fault("only with forward = \"aggregates\"");
    }
    if let (Some(item), true) = (&door, deadband.is_some() || percent.is_some()) {
        item.fault("either a deadband or a swinging door");
    }
    let span = |item: Item<'_, '_>| item.duration(Duration::from_secs(1)..=SPAN_MOST);
    Ok(Some(Arc::new(match word {
        0 => Forward::All,
        1 => Forward::Changes(Changes {
            deadband: deadband.and_then(|item| positive(&item)).unwrap_or_default(),
            deadband_percent: percent.and_then(|item| positive(&item)).unwrap_or_default(),
            swinging_door: door.and_then(|item| positive(&item)),
            heartbeat: heartbeat.and_then(span),
        }),
        2 => Forward::Aggregates { every: every.and_then(span).unwrap_or(EVERY) },
        _ => Forward::None,
    })))
}

fn positive(item: &Item<'_, '_>) -> Option<f64> {
    let number = item.number()?;
    if number <= 0.0 {
        item.fault("must be a number above 0");
    }
    Some(number).filter(|number| *number > 0.0)
}
