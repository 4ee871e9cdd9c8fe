//! Templates against what promtool 2.42 makes of them.

use std::collections::BTreeMap;

use super::*;

fn filled(text: &str, value: f64) -> String {
    let labels = [("device", "press-1"), ("line", "a.b:80")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let around = Surroundings {
        external_labels: BTreeMap::from([("site".to_owned(), "lyon".to_owned())]),
        external_url: "http://gw.example/lineside".to_owned(),
    };
    expand(text, &labels.into(), value, &around)
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
        let expected = if value.is_nan() { "NaN|NaN|NaN|NaN" } else { expected };
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
        ("{{ query \"up\" }}", "query asks a server of Prometheus, and there is none here"),
        ("{{ if $value }}", "a block is not closed by {{end}}"),
        ("{{ $nothing }}", "undefined variable \"$nothing\""),
        ("{{ $value", "unclosed action"),
    ] {
        assert_eq!(filled(text, 1.0), format!("<error expanding template: {reason}>"));
    }
    assert!(check("{{ $labels.x | humanize }}{{ if true }}{{ end }}").is_ok());
    assert!(check("{{ if true }}{{ tmpl }}{{ end }}").is_err());
}
