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

    /// Filters of the topics on which a lost message costs data.
    pub fn proven(&self) -> [String; 3] {
        [self.batch(), self.alarm(), self.catalogue("+")]
    }

    /// State and counters of every stage; the last whole state is retained.
    pub fn health(&self) -> String {
        self.below("health")
    }

    /// The list of problems: retained.
    pub fn problems(&self) -> String {
        self.below("problems")
    }

    /// Messages that rules publish, `name` as they say.
    pub fn event(&self, name: &str) -> String {
        format!("{}/event/{name}", self.base)
    }

    /// What the session sends to itself to see that the broker passes its messages on.
    pub fn probe(&self) -> String {
        self.below("probe")
    }

    /// Every command for this gateway, as a filter.
    pub fn commands(&self) -> String {
        self.below("cmd/+")
    }

    /// The command with this id.
    pub fn command(&self, id: &str) -> String {
        format!("{}/cmd/{id}", self.base)
    }

    /// The id of the command that came on `topic`.
    pub fn command_id<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.base)?.strip_prefix("/cmd/")
    }

    /// Answers to the command with this id.
    pub fn answer(&self, id: &str) -> String {
        format!("{}/ack/{id}", self.base)
    }

    /// The configuration that is wanted: retained.
    pub fn desired(&self) -> String {
        self.below("config/desired")
    }

    /// The configuration that is in force: retained.
    pub fn reported(&self) -> String {
        self.below("config/reported")
    }

    /// Whether an answer may go to `topic`: it stands below this gateway, and nothing else is said there.
    pub fn takes_answers(&self, topic: &str) -> bool {
        const OWN: [&str; 10] =
            ["state", "batch", "alarm", "catalogue", "health", "problems", "event", "probe", "cmd", "config"];
        let below = topic.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix('/'));
        let first = below.and_then(|below| below.split('/').next()).unwrap_or_default();
        let is_plain = !topic.chars().any(|c| matches!(c, '+' | '#') || c.is_control());
        !first.is_empty() && is_plain && !OWN.contains(&first)
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
    fn answers_stay_below_the_gateway_and_off_its_own_topics() {
        let topics = topics("lineside/v1").unwrap();

        for good in ["lineside/v1/lyon/gw-01/ack/7", "lineside/v1/lyon/gw-01/reply/laptop"] {
            assert!(topics.takes_answers(good), "{good}");
        }
        for bad in [
            "lineside/v1/lyon/gw-01",
            "lineside/v1/lyon/gw-01/",
            "lineside/v1/lyon/gw-011/ack/7",
            "lineside/v1/lyon/gw-01/state",
            "lineside/v1/lyon/gw-01/event/door",
            "lineside/v1/lyon/gw-01/config/desired",
            "lineside/v1/lyon/gw-02/ack/7",
            "lineside/v1/lyon/gw-01/ack/#",
            "other",
        ] {
            assert!(!topics.takes_answers(bad), "{bad}");
        }
        assert_eq!(topics.command_id("lineside/v1/lyon/gw-01/cmd/7"), Some("7"));
        assert_eq!(topics.command_id("lineside/v1/lyon/gw-02/cmd/7"), None);
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
