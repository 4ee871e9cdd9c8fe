//! Which tags of a streaming instrument have not been heard for too long. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Intervals without a line after which a tag is silent.
const INTERVALS_MISSED: u32 = 3;

/// When each tag was heard last.
///
/// A stream of several kinds of lines may lose one of them, so each tag has its own silence.
#[derive(Debug)]
pub struct Silence {
    tags: Vec<Tag>,
}

#[derive(Debug)]
struct Tag {
    limit: Duration,
    heard: Instant,
    reported: bool,
}

impl Silence {
    /// Tags of these intervals, all heard just now. A silence of three intervals, and at least `limit_min`, is too
    /// long.
    pub fn new(intervals: impl Iterator<Item = Duration>, limit_min: Duration, now: Instant) -> Self {
        let limit = |interval: Duration| interval.saturating_mul(INTERVALS_MISSED).max(limit_min);
        Self { tags: intervals.map(|interval| Tag { limit: limit(interval), heard: now, reported: false }).collect() }
    }

    /// A line that says something about this tag came.
    pub fn heard(&mut self, tag: usize, now: Instant) {
        if let Some(tag) = self.tags.get_mut(tag) {
            tag.heard = now;
            tag.reported = false;
        }
    }

    /// Listening begins anew: all tags count as heard just now.
    pub fn restart(&mut self, now: Instant) {
        for tag in 0..self.tags.len() {
            self.heard(tag, now);
        }
    }

    /// When the next tag falls silent, if it is not heard before.
    pub fn deadline(&self) -> Option<Instant> {
        self.tags.iter().filter(|tag| !tag.reported).map(|tag| tag.heard + tag.limit).min()
    }

    /// The tags that fell silent since this was asked last, in order.
    pub fn newly_silent(&mut self, now: Instant) -> Vec<usize> {
        let tags = self.tags.iter_mut().enumerate();
        tags.filter(|(_, tag)| !tag.reported && now >= tag.heard + tag.limit)
            .map(|(index, tag)| {
                tag.reported = true;
                index
            })
            .collect()
    }

    /// True when every tag is silent.
    pub fn is_complete(&self) -> bool {
        self.tags.iter().all(|tag| tag.reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Tags of these intervals, heard at `start`.
    fn silence(intervals_ms: &[u64], limit_min_ms: u64) -> (Silence, Instant) {
        let start = Instant::now();
        (Silence::new(intervals_ms.iter().map(|interval| ms(*interval)), ms(limit_min_ms), start), start)
    }

    #[test]
    fn each_tag_falls_silent_once_and_after_its_own_time() {
        let (mut silence, start) = silence(&[100, 1000], 500);
        assert_eq!(
            silence.deadline(),
            Some(start + ms(500)),
            "three intervals of the first would be less than the timeout"
        );
        assert!(silence.newly_silent(start + ms(499)).is_empty());
        assert_eq!(silence.newly_silent(start + ms(500)), [0]);
        assert!(silence.newly_silent(start + ms(900)).is_empty());
        assert!(!silence.is_complete());
        assert_eq!(silence.newly_silent(start + ms(3000)), [1]);
        assert!(silence.is_complete());
        assert_eq!(silence.deadline(), None);
    }

    #[test]
    fn a_tag_that_is_heard_again_may_fall_silent_again() {
        let (mut silence, start) = silence(&[100], 500);
        silence.newly_silent(start + ms(500));
        silence.heard(0, start + ms(700));
        assert!(!silence.is_complete());
        assert!(silence.newly_silent(start + ms(1199)).is_empty());
        assert_eq!(silence.newly_silent(start + ms(1200)), [0]);
    }

    #[test]
    fn after_a_restart_nothing_is_silent() {
        let (mut silence, start) = silence(&[100, 100], 0);
        assert_eq!(silence.newly_silent(start + ms(300)), [0, 1]);
        silence.restart(start + ms(10_000));
        assert_eq!(silence.deadline(), Some(start + ms(10_300)));
    }
}
