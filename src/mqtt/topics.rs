//! The MQTT topics of one gateway.

use crate::model::Name;

/// Most levels a prefix may have, so that no topic has more than seven slashes (the most AWS IoT Core takes).
pub const PREFIX_LEVELS_MAX: usize = 4;

/// `<prefix>/<site>/<gateway>` and everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    base: String,
}

/// A topic prefix that a broker would refuse or read as something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {PREFIX_LEVELS_MAX} levels separated by '/', none of them empty, without '+', '#', spaces or control \
     characters, and not begin with '$'"
)]
pub struct PrefixError;

impl Topics {
    /// The topics of `gateway` at `site`. The prefix has 1 to 4 levels (MQTT 5, 4.7).
    pub fn new(prefix: &str, site: &Name, gateway: &Name) -> Result<Self, PrefixError> {
        let levels = prefix.split('/').count();
        let complete = prefix.split('/').all(|level| !level.is_empty());
        let plain = !prefix.chars().any(|c| matches!(c, '+' | '#') || c.is_control() || c.is_whitespace());
        if levels <= PREFIX_LEVELS_MAX && complete && plain && !prefix.starts_with('$') {
            Ok(Self { base: format!("{prefix}/{site}/{gateway}") })
        } else {
            Err(PrefixError)
        }
    }

    /// Online or not, version, boot, epoch: retained, and the will.
    pub fn state(&self) -> String {
        self.below("state")
    }

    /// Batches of telemetry.
    pub fn batch(&self) -> String {
        self.below("batch")
    }

    /// One alarm transition a message.
    pub fn alarm(&self) -> String {
        self.below("alarm")
    }

    /// Part `part` of the catalogue, from 0: retained.
    pub fn catalogue(&self, part: &str) -> String {
        format!("{}/catalogue/{part}", self.base)
    }

    /// Counters of every stage.
    pub fn health(&self) -> String {
        self.below("health")
    }

    /// Messages that rules publish, `name` as they say.
    pub fn event(&self, name: &str) -> String {
        format!("{}/event/{name}", self.base)
    }

    /// What the session sends to itself to see that the broker passes its messages on.
    pub fn probe(&self) -> String {
        self.below("probe")
    }

    fn below(&self, level: &str) -> String {
        format!("{}/{level}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(prefix: &str) -> Result<Topics, PrefixError> {
        Topics::new(prefix, &Name::new("lyon").unwrap(), &Name::new("gw-01").unwrap())
    }

    #[test]
    fn every_topic_stands_below_prefix_site_and_gateway() {
        let topics = topics("lineside/v1").unwrap();

        assert_eq!(topics.state(), "lineside/v1/lyon/gw-01/state");
        assert_eq!(topics.catalogue("3"), "lineside/v1/lyon/gw-01/catalogue/3");
    }

    #[test]
    fn the_longest_prefix_stays_within_seven_slashes() {
        let topic = topics("a/b/c/d").unwrap().catalogue("0123abcd-12");

        assert_eq!(topic.matches('/').count(), 7);
    }

    #[test]
    fn prefixes_that_a_broker_reads_differently_are_refused() {
        for bad in ["", "/a", "a/", "a//b", "a/+/b", "#", "$SYS/a", "a b", "a\u{0}", "a/b/c/d/e"] {
            assert_eq!(topics(bad), Err(PrefixError), "{bad:?}");
        }
    }
}
