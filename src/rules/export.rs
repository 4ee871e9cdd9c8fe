//! A rule file as an older Prometheus takes it: without `edge`, `query_offset`, and labels of groups. Pure.

use std::time::Duration;

use promql_parser::util::display_duration;

use super::file::raw::{self, RawRule, Texts};
use super::file::tree::{At, Faults};
use crate::settings::FileFault;

/// The same rules for `promtool` 2.42. Labels of a group become those of its rules, which means the same; a function
/// that was renamed has its old name.
///
/// # Errors
/// The text is no rule file.
pub fn plain(text: &str, file: &str) -> Result<String, Vec<FileFault>> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    let mut faults = Faults::of(file);
    let groups = raw::groups(text, &mut faults);
    let faults = faults.in_order();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut out = String::from("groups:\n");
    for group in groups {
        out += &format!("  - name: {}\n", quoted(&group.name.value));
        out += &span("    interval", group.interval);
        if group.limit > 0 {
            out += &format!("    limit: {}\n", group.limit);
        }
        out += if group.rules.is_empty() { "    rules: []\n" } else { "    rules:\n" };
        for rule in &group.rules {
            out += &plain_rule(rule, &group.labels);
        }
    }
    Ok(out)
}

fn plain_rule(rule: &RawRule, of_group: &Texts) -> String {
    let (kind, name) = match (&rule.alert, &rule.record) {
        (Some(alert), _) => ("alert", alert.value.as_str()),
        (None, record) => ("record", record.as_ref().map_or("", |record| &record.value)),
    };
    let expression =
        rule.expr.as_ref().map_or("", |expr| &expr.value).replace("double_exponential_smoothing", "holt_winters");
    let mut out = format!("      - {kind}: {}\n        expr: {}\n", quoted(name), quoted(&expression));
    out += &span("        for", rule.delay);
    out += &span("        keep_firing_for", rule.keep_firing_for);
    let mut labels = of_group.clone();
    labels.extend(rule.labels.clone());
    for (key, map) in [("labels", &labels), ("annotations", &rule.annotations)] {
        if !map.is_empty() {
            out += &format!("        {key}:\n");
            for (name, value) in map {
                out += &format!("          {}: {}\n", quoted(name), quoted(&value.value));
            }
        }
    }
    out
}

fn span(key: &str, span: Option<At<Duration>>) -> String {
    let shown = |span: Duration| if span.is_zero() { "0s".to_owned() } else { display_duration(&span) };
    span.map_or_else(String::new, |span| format!("{key}: {}\n", shown(span.value)))
}

/// A text in quotes, as JSON and YAML have in common.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::file::parse;

    #[test]
    fn what_older_versions_do_not_know_is_gone_and_the_rest_means_the_same() {
        let text = r#"
groups:
  - name: a
    interval: 90s
    query_offset: 5s
    limit: 7
    labels: { hall: "1" }
    rules:
      - alert: Hot
        expr: |
          double_exponential_smoothing(t[5m], 0.5, 0.5)
            > 80
        for: 1m30s
        labels: { team: "{{ $labels.x }}" }
        annotations: { summary: "say \"hot\"" }
        edge: { latch: true }
"#;
        let plain = plain(text, "r.yml").unwrap();

        for gone in ["edge", "query_offset", "double"] {
            assert!(!plain.contains(gone), "{plain}");
        }
        let again = plain.replace("holt_winters", "double_exponential_smoothing");
        let (before, after) = (parse(text, "r.yml").unwrap(), parse(&again, "r.yml").unwrap());
        assert_eq!((after[0].interval, after[0].limit), (before[0].interval, 7));
        assert_eq!(after[0].rules[0].labels, before[0].rules[0].labels);
        assert_eq!(after[0].rules[0].expression.to_string(), before[0].rules[0].expression.to_string());
    }
}
