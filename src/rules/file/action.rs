//! What a rule does beside telling: `on_firing` and `on_resolved`.
//!
//! ```yaml
//! edge:
//!   on_firing:
//!     - poll_faster: { device: "{{ $labels.device }}", interval: 200ms, lasts: 5m }
//!     - capture: { series: 'vibration_mm_s{device="{{ $labels.device }}"}', before: 1m, after: 1m }
//!     - publish: { topic: maintenance, payload: "{{ $labels.device }} at {{ $value }}" }
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Reader;
use super::raw::RawAction;
use super::tree::At;
use crate::rules::spec::ActionSpec;
use crate::settings::show_duration;

/// No device is polled faster than this by a rule.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// For so long a device can be polled faster.
const LASTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// So far a capture reaches to either side: all of it is sent at once.
const CAPTURE_MOST: Duration = Duration::from_secs(3600);

impl Reader<'_> {
    pub(super) fn action(&mut self, raw: RawAction) -> Option<ActionSpec> {
        Some(match raw {
            RawAction::Write { device, point, value } => {
                self.template(&device, "write.device");
                self.refuse_query(&device, "write.device");
                ActionSpec::Write { device: device.value, point, value, from_afar: false }
            }
            RawAction::PollFaster { device, interval, lasts } => ActionSpec::PollFaster {
                device: {
                    self.template(&device, "poll_faster.device");
                    device.value
                },
                interval: self.span_within(&interval, "poll_faster.interval", &INTERVALS)?,
                lasts: self.span_within(&lasts, "poll_faster.lasts", &LASTS)?,
            },
            RawAction::Capture { series, before, after } => {
                if series.value.contains("{{") {
                    self.template(&series, "capture.series");
                } else {
                    self.selector(&series, "capture.series")?;
                }
                let range = Duration::ZERO..=CAPTURE_MOST;
                let before = self.span_within(&before, "capture.before", &range)?;
                let after = self.span_within(&after, "capture.after", &range)?;
                ActionSpec::Capture { series: series.value, before, after }
            }
            RawAction::Publish { topic, payload } => {
                if !is_level(&topic.value) {
                    let reason = "must be one level of letters, digits, '_' and '-': it stands below event/";
                    self.fault(&topic, "publish.topic", format!("{:?}: {reason}", topic.value));
                    return None;
                }
                self.template(&payload, "publish.payload");
                ActionSpec::Publish { topic: topic.value, payload: payload.value }
            }
        })
    }

    fn span_within(&mut self, span: &At<Duration>, key: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let found = span.value;
        if !range.contains(&found) {
            let [found, least, most] = [found, *range.start(), *range.end()].map(show_duration);
            self.fault(span, key, format!("{found}: must be {least} to {most}"));
        }
        range.contains(&found).then_some(found)
    }
}

/// One level of a topic, without what a broker would read as something else (MQTT 5.0, 4.7).
fn is_level(topic: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&topic.len()) && topic.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use crate::rules::file::parse;

    #[test]
    fn what_is_written_to_does_not_depend_on_queries() {
        let rule = |labels: &str, device: &str, action: &str| {
            let edge = format!("on_firing: [ {{ {action}: {{ device: {device:?}, point: p, value: 1 }} }} ]");
            let text = format!("{{ alert: Hot, expr: t > 1, labels: {{ a: {labels:?} }}, edge: {{ {edge} }} }}");
            parse(&format!("groups: [ {{ name: a, rules: [ {text} ] }} ]"), "rules.yml")
        };
        let asking = "{{ query 't' | first | label 'device' }}".replace('\'', "`");
        assert!(rule("x", "{{ $labels.a }}", "write").is_ok());
        for refused in [rule("x", &asking, "write"), rule(&asking, "press-1", "write")] {
            let shown = refused.unwrap_err()[0].to_string();
            assert!(shown.contains("what a rule writes to must not depend on other series"), "{shown}");
        }
    }

    #[test]
    fn actions_out_of_range_are_refused_with_their_place() {
        let text = r#"groups:
  - name: a
    rules:
      - alert: Hot
        expr: t > 1
        edge:
          on_firing:
            - poll_faster: { device: press-1, interval: 0s, lasts: 5m }
            - capture: { series: "t +", before: 1m, after: 1m }
            - capture: { series: "t", before: 2h, after: 1m }
            - publish: { topic: "a/#", payload: "hot" }
"#;

        let faults = parse(text, "rules.yml").unwrap_err();

        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 4, "{shown:#?}");
        assert_eq!(shown[0], "rules.yml:8: poll_faster.interval: column 57: 0s: must be 10ms to 1h");
        assert!(shown[1].starts_with("rules.yml:9: capture.series: column"), "{shown:#?}");
        assert!(shown[3].contains("\"a/#\": must be one level"), "{shown:#?}");
    }
}
