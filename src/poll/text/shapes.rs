//! Which series the lines of an instrument fill. Pure.

use std::sync::Arc;

use crate::config::TagConfig;
use crate::instrument::LineReader;
use crate::model::{Fault, Observed, Row, SeriesId, Timestamp};

/// The rows that one device can give: one shape for each pattern, and one for all its tags.
#[derive(Debug)]
pub struct Shapes {
    all: Arc<[SeriesId]>,
    patterns: Vec<Shape>,
}

/// What a match of one pattern fills.
#[derive(Debug)]
struct Shape {
    series: Arc<[SeriesId]>,
    /// Tags, in the order of `series`.
    tags: Vec<usize>,
    /// For each of `tags` the position of its observation in the pattern's points.
    positions: Vec<usize>,
}

impl Shapes {
    /// `ids` are the series of `tags`, in the same order.
    pub fn new(reader: &LineReader, tags: &[TagConfig], ids: &[SeriesId]) -> Self {
        let shape = |pattern| {
            let points = reader.points(pattern);
            let tags = tags.iter().enumerate();
            let (tags, positions): (Vec<usize>, Vec<usize>) = tags
                .filter_map(|(index, tag)| Some((index, points.iter().position(|point| *point == tag.point)?)))
                .unzip();
            Shape { series: tags.iter().map(|tag| ids[*tag]).collect(), tags, positions }
        };
        Self { all: ids.into(), patterns: (0..reader.pattern_count()).map(shape).collect() }
    }

    /// Tags that a match of `pattern` fills.
    pub fn tags(&self, pattern: usize) -> &[usize] {
        &self.patterns[pattern].tags
    }

    /// The row of a match, with the tags of the pattern only; `None` when it fills none.
    pub fn row(&self, pattern: usize, time: Timestamp, observed: &[Observed]) -> Option<Row> {
        let shape = &self.patterns[pattern];
        let observed: Vec<Observed> = shape.positions.iter().map(|position| observed[*position].clone()).collect();
        (!observed.is_empty()).then(|| Row { series: Arc::clone(&shape.series), time, observed })
    }

    /// The row of a match that could not be used; `None` when the pattern fills no tag.
    pub fn bad_row(&self, pattern: usize, time: Timestamp, fault: Fault) -> Option<Row> {
        let series = Arc::clone(&self.patterns[pattern].series);
        (!series.is_empty()).then(|| Row::all_bad(series, time, fault))
    }

    /// The row of an answer, with all tags of the device. What the answer does not say is no match.
    pub fn full_row(&self, pattern: usize, time: Timestamp, observed: &[Observed]) -> Row {
        let mut row = self.full_bad_row(time, Fault::NoMatch);
        let shape = &self.patterns[pattern];
        for (tag, position) in shape.tags.iter().zip(&shape.positions) {
            row.observed[*tag].clone_from(&observed[*position]);
        }
        row
    }

    /// A row in which all tags of the device are bad.
    pub fn full_bad_row(&self, time: Timestamp, fault: Fault) -> Row {
        Row::all_bad(Arc::clone(&self.all), time, fault)
    }

    /// A row in which these tags are bad; `None` when there are none.
    pub fn bad_tags(&self, tags: &[usize], time: Timestamp, fault: Fault) -> Option<Row> {
        if tags.len() == self.all.len() {
            return Some(self.full_bad_row(time, fault));
        }
        let series: Arc<[SeriesId]> = tags.iter().map(|tag| self.all[*tag]).collect();
        (!series.is_empty()).then(|| Row::all_bad(series, time, fault))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use regex::Regex;

    use super::*;
    use crate::instrument::LineReading;
    use crate::model::{Scale, SeriesInfo, Value, ValueKind};
    use crate::profile::text::{Checksum, LineMeaning, LinePattern, TextPoint, TextProfile};

    const TIME: Timestamp = Timestamp(7);

    fn tag(point: usize) -> TagConfig {
        let series = SeriesInfo {
            name: format!("p{point}"),
            labels: Default::default(),
            unit: String::new(),
            kind: ValueKind::Int,
            scale: Scale::ONE,
            states: Default::default(),
        };
        TagConfig { point, interval: Duration::from_secs(1), series: series.into(), forward: None }
    }

    /// Lines `A <p0> <p1>` and `B <p2>`.
    fn reader() -> LineReader {
        let pattern =
            |expression| LinePattern { expression: Regex::new(expression).unwrap(), meaning: LineMeaning::Good };
        let point = |index| TextPoint {
            name: format!("p{index}"),
            kind: ValueKind::Int,
            scale: Scale::ONE,
            unit: String::new(),
            unit_group: None,
            range: None,
        };
        LineReader::new(&TextProfile {
            ask: None,
            frame_end: b"\n".to_vec(),
            frame_max: 80,
            checksum: Checksum::None,
            patterns: vec![pattern(r"^A (?<p0>\d+) (?<p1>\d+)$"), pattern(r"^B (?<p2>\d+)$")],
            points: (0..3).map(point).collect(),
            interval: None,
        })
    }

    fn observed(reader: &LineReader, line: &str) -> Vec<Observed> {
        match reader.read(line.as_bytes()) {
            LineReading::Points { observed, .. } => observed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_fills_the_tags_that_are_wanted_of_it() {
        let reader = reader();
        let shapes = Shapes::new(&reader, &[tag(1), tag(2)], &[SeriesId(11), SeriesId(12)]);
        let row = shapes.row(0, TIME, &observed(&reader, "A 5 6")).unwrap();
        assert_eq!(row.series[..], [SeriesId(11)]);
        assert_eq!(row.observed, [Observed::Good(Value::Int(6))]);
        assert_eq!(shapes.tags(1), [1]);
    }

    #[test]
    fn a_line_that_says_nothing_wanted_gives_no_row() {
        let reader = reader();
        let shapes = Shapes::new(&reader, &[tag(0)], &[SeriesId(10)]);
        assert_eq!(shapes.row(1, TIME, &observed(&reader, "B 7")), None);
        assert_eq!(shapes.bad_row(1, TIME, Fault::BadChecksum), None);
        assert_eq!(shapes.bad_tags(&[], TIME, Fault::Timeout), None);
    }

    #[test]
    fn an_answer_has_a_reading_of_every_tag() {
        let reader = reader();
        let shapes = Shapes::new(&reader, &[tag(2), tag(0)], &[SeriesId(12), SeriesId(10)]);
        let row = shapes.full_row(0, TIME, &observed(&reader, "A 5 6"));
        assert_eq!(row.series[..], [SeriesId(12), SeriesId(10)]);
        assert_eq!(row.observed, [Observed::Bad(Fault::NoMatch), Observed::Good(Value::Int(5))]);
    }
}
