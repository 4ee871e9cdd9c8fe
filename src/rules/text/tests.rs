//! Templates against what promtool 2.42 makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::rules::eval::{Evaluator, MemorySeries, MemorySource};
use crate::rules::ring::Sample as RingSample;

fn filled(text: &str, value: f64) -> String {
    let labels = [("device", "press-1"), ("line", "a.b:80")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let around = Surroundings {
        external_labels: BTreeMap::from([("site".to_owned(), "lyon".to_owned())]),
        external_url: "http://gw.example/lineside".to_owned(),
    };
    expand(text, &labels.into(), value, &around, &InMemory::of(&[])).unwrap_or_else(|reason| failed(&reason))
}

/// Name, labels and value of a series.
type Series<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Series in memory, two minutes after their first sample.
struct InMemory(MemorySource);

impl InMemory {
    fn of(series: &[Series<'_>]) -> Self {
        let memory = |(name, labels, value): &Series<'_>| {
            let mut all = owned(labels);
            all.insert("__name__".to_owned(), (*name).to_owned());
            let samples = (0..3).map(|minute| RingSample { time: Timestamp(minute * 60_000), value: *value });
            MemorySeries { labels: Arc::new(all), samples: samples.collect(), look_back: Duration::from_secs(300) }
        };
        Self(MemorySource::new(series.iter().map(memory).collect()))
    }
}

impl Queries for InMemory {
    fn now(&self) -> Timestamp {
        Timestamp(120_000)
    }

    fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let expression = promql::parse(expression)?;
        let evaluator = Evaluator::new(&self.0, self.now(), Duration::from_secs(60));
        let found = evaluator.vector(&expression).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|it| Sample { labels: (*it.labels).clone(), value: it.value }).collect())
    }
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[derive(serde::Deserialize)]
struct Case {
    template: String,
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    text: String,
}

/// Where Prometheus shows an error only when the alarm fires, it is found here when the file is read; where it cannot be
/// known before, filling in fails.
#[test]
fn templates_say_what_they_say_in_promtool() {
    let labels = [("__name__", "x"), ("device", "press-1"), ("line", "a.b:80"), ("n", "42")];
    let series =
        InMemory::of(&[("x", &labels[1..], 1234.5), ("y", &[("device", "b")], 7.0), ("y", &[("device", "a")], 8.0)]);
    let around = Surroundings {
        external_labels: owned(&[("site", "lyon")]),
        external_url: "http://gw.example/lineside".to_owned(),
    };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in include_str!("../../../tests/golden/templates/cases.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let checked = check(&case.template);
        let found = expand(&case.template, &owned(&labels), 1234.5, &around, &series);
        let is_as_there = match (&case.refused, case.text.starts_with("<error")) {
            (Some(_), _) => checked.is_err(),
            (None, true) => found.is_err(),
            (None, false) => checked.is_ok() && found.as_ref() == Ok(&case.text),
        };
        count += 1;
        if !is_as_there {
            let Case { template, refused, text } = case;
            wrong.push(format!("{template}\n    there: {refused:?} {text:?}\n    here: {:?} {found:?}", checked.err()));
        }
    }
    assert!(count > 120);
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_can_only_fail_when_an_alarm_fires_is_found_before() {
    for (template, reason) in [
        ("{{ (toTime $value).Fromat \"15:04\" }}", "can't evaluate field Fromat in type *time.Time"),
        ("{{ (toTime $value).Format }}", "wrong number of args for Format: want 1 got 0"),
        ("{{ value }}", "wrong number of args for value: want 1 got 0; write {{ $value }} for the value of the alarm"),
        ("{{ $label.device }}", "undefined variable \"$label\"; $labels is meant?"),
        ("{{ reReplaceAll \"(\" \"\" $labels.device }}", "error parsing regexp: missing closing ): `(`"),
        ("{{ if match \"[\" \"a\" }}{{ end }}", "error parsing regexp: missing closing ]: `[`"),
        ("{{ with $labels.device }}{{ .Labels.line }}{{ end }}", "can't evaluate field Labels in type string"),
        ("{{ .Lables.device }}", "can't evaluate field Lables in type template data"),
        ("{{ toUpper $value }}", "wrong argument for toUpper: expected string; got float64"),
        ("{{ humanize \"x\" }}", "wrong argument for humanize: expected a number; got \"x\""),
        ("{{ query \"x +\" }}", "query \"x +\": "),
        ("{{ first $labels }}", "wrong argument for first: expected the result of query; got map[string]string"),
        ("{{ if false }}{{ template \"nothing\" }}{{ end }}", "template \"nothing\" not defined"),
    ] {
        let found = check(template).unwrap_err();
        assert!(found.starts_with(reason), "{template}: {found}");
    }
}

#[test]
fn queries_are_known_as_far_as_their_templates_tell() {
    let asked = |template: &str| -> Vec<(String, bool)> {
        check(template).unwrap().iter().map(|query| (query.expression.to_string(), query.is_constant)).collect()
    };
    let one = |text: &str, is_constant| vec![(text.to_owned(), is_constant)];
    assert_eq!(asked("{{ with query \"outside_c\" }}{{ . | first | value }}{{ end }}"), one("outside_c", true));
    assert_eq!(
        asked("{{ printf \"max_over_time(x{device='%s',a='b'}[5m])\" $labels.device | query }}"),
        one("max_over_time(x{a=\"b\"}[5m])", false)
    );
    assert_eq!(asked("{{ query (printf \"%s > 5\" $labels.x) }}"), one(" > 5", false));
    assert_eq!(asked("{{ $q := print \"sum(y{n=~\\\"\" .Labels.n \"|5\\\"})\" }}{{ query $q }}"), one("sum(y)", false));
    assert_eq!(asked("{{ query $labels.all }}"), one("", false));
}

#[test]
fn a_template_takes_bounded_time() {
    let series: Vec<Series<'_>> = vec![("y", &[("device", "a")], 1.0)];
    let many = InMemory::of(&series);
    let around = Surroundings::default();
    let fill = |text: &str| expand(text, &BTreeMap::new(), 1.0, &around, &many);
    let nested = "{{ range 1000 }}".repeat(4) + "{{ if false }}{{ end }}" + &"{{ end }}".repeat(4);
    assert!(fill(&nested).unwrap_err().contains("more than 100000 steps"));
    assert!(fill("{{ range 100 }}{{ query \"y\" }}{{ end }}").unwrap_err().contains("more than 32 queries"));
    assert!(fill("{{ range 9000 }}0123456789{{ end }}").unwrap_err().contains("longer than 65536 bytes"));
    assert!(
        fill("{{ define \"t\" }}{{ template \"t\" . }}{{ end }}{{ template \"t\" . }}")
            .unwrap_err()
            .contains("call each other")
    );
}

#[test]
fn spans_and_what_is_newer_than_promtool_are_known() {
    assert_eq!(
        filled("{{ (toDuration 90.5).Minutes }} {{ toDuration 3723.25 }} {{ now }}", 0.0),
        "1.5083333333333333 1h2m3.25s 120"
    );
    assert_eq!(filled("{{ ((toTime now).Add (toDuration 60)).Format \"15:04:05\" }}", 0.0), "00:03:00");
    assert_eq!(
        filled("{{ urlQueryEscape \"a b\" }}{{ with \"\" }}a{{ else with \"b\" }}{{ . }}{{ end }}", 0.0),
        "a+bb"
    );
}

#[test]
fn labels_and_value_are_filled_in() {
    assert_eq!(filled("{{ $labels.device }}: {{$value}} W{{ $labels.x }}", 2.5), "press-1: 2.5 W");
    assert_eq!(filled("{{ .Labels.device }} {{ .Value }} {{ $externalLabels.site }}", 2.0), "press-1 2 lyon");
    assert_eq!(filled("no braces } {", 2.0), "no braces } {");
    assert_eq!(filled("{{ pathPrefix }} {{ externalURL }}", 2.0), "/lineside http://gw.example/lineside");
}

#[test]
fn numbers_are_shown_as_go_shows_them() {
    let shown = [1e6, 123_456_789.0, 123_456.0, 1e-5, 0.25, f64::NAN, f64::INFINITY, -3.0].map(number);
    assert_eq!(shown, ["1e+06", "1.23456789e+08", "123456", "1e-05", "0.25", "NaN", "+Inf", "-3"]);
    let printed = filled(
        r#"{{ printf "%d|%5.1f|%-6s|%v|%q|%x|%t|%+d|%06.2f|%.3g" 5 $value "ab" $value "q" 255 true 7 $value $value }}"#,
        1e6,
    );
    assert_eq!(printed, "5|1000000.0|ab    |1e+06|\"q\"|ff|true|+7|1000000.00|1e+06");
    assert_eq!(filled(r#"{{ printf "%d %s" $value $value }}"#, 2.5), "%!d(float64=2.5) %!s(float64=2.5)");
}

#[test]
fn helpers_make_numbers_readable() {
    for (value, expected) in [
        (0.0, "0|0|0s|0%"),
        (1234567.0, "1.235M|1.177Mi|14d 6h 56m 7s|1.235e+08%"),
        (0.0125, "12.5m|0.0125|12.5ms|1.25%"),
        (-75.5, "-75.5|-75.5|-1m 15s|-7550%"),
        (f64::NAN, "NaN|NaN|NaN|NaN%"),
    ] {
        let text = "{{ humanize $value }}|{{ $value | humanize1024 }}|{{ humanizeDuration $value }}|{{ humanizePercentage $value }}";
        assert_eq!(filled(text, value), expected);
    }
    assert_eq!(filled("{{ $value | humanizeTimestamp }}", 1e6), "1970-01-12 13:46:40 +0000 UTC");
    assert_eq!(filled("{{ $value | humanizeTimestamp }}", 1.5), "1970-01-01 00:00:01.5 +0000 UTC");
}

#[test]
fn texts_are_changed_and_compared() {
    assert_eq!(filled(r#"{{ title "hello wORLD foo-bar" }}"#, 0.0), "Hello WORLD Foo-Bar");
    assert_eq!(filled("{{ $labels.device | toUpper | printf \"%s!\" }}", 0.0), "PRESS-1!");
    assert_eq!(filled(r#"{{ reReplaceAll "press-(\\d+)" "no. $1" $labels.device }}"#, 0.0), "no. 1");
    assert_eq!(filled(r#"{{ if match "^press" $labels.device }}yes{{ else }}no{{ end }}"#, 0.0), "yes");
    assert_eq!(filled("{{ stripPort $labels.line }} {{ stripDomain $labels.line }}", 0.0), "a.b a:80");
}

#[test]
fn blocks_choose_and_repeat() {
    let text = "{{ if gt $value 10.0 }}high{{ else if gt $value 5.0 }}middle{{ else }}low{{ end }}";
    assert_eq!([12.0, 7.0, 1.0].map(|value| filled(text, value)), ["high", "middle", "low"]);
    assert_eq!(
        filled("{{ with $labels.nothing }}a{{ else }}b{{ end }}{{ with $labels.device }}{{ . }}{{ end }}", 0.0),
        "bpress-1"
    );
    assert_eq!(filled("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", 0.0), "device=press-1;line=a.b:80;");
    assert_eq!(filled("{{ $x := $labels.device }}a {{- /* gone */ -}} {{ $x }}  {{- \"b\" }}", 0.0), "apress-1b");
    assert_eq!(filled("{{ if and (gt $value 1.0) (lt $value 3.0) }}in{{ end }}", 2.0), "in");
}

#[test]
fn what_cannot_be_filled_in_says_so() {
    for (text, reason) in [
        ("{{ unknown }}", "function \"unknown\" not defined"),
        ("{{ query \"up\" | first | value }}", "error calling first: first() called on vector with no elements"),
        ("{{ if $value }}", "a block is not closed by {{end}}"),
        ("{{ $nothing }}", "undefined variable \"$nothing\""),
        ("{{ $value", "unclosed action"),
    ] {
        assert_eq!(filled(text, 1.0), format!("<error expanding template: {reason}>"));
    }
    assert!(check("{{ $labels.x | humanize }}{{ if true }}{{ end }}").is_ok());
    assert!(check("{{ if true }}{{ tmpl }}{{ end }}").is_err());
}
