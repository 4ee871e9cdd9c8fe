use super::*;
use crate::rules::alarm::OnBad;

#[test]
fn everything_that_can_be_said_is_read() {
    let text = r#"
groups:
  - name: presses
    interval: 10s
    labels: { site_area: hall }
    rules:
      - record: press:power_w:avg
        expr: avg by (device) (avg_over_time(active_power_w[5m]))
      - alert: BearingHot
        expr: temperature_c > 80
        for: 1m30s
        labels: { team: mechanics }
        edge:
          clear: temperature_c < 70
          latch: true
          priority: high
          flap: { raises: 5, within: 10m }
          window: { count: 10 }
          evaluate: arrival
          on_bad: fire
          suppressed_by: [DeviceSilent]
          on_firing:
            - capture: { series: "temperature_c", before: 30s, after: 10s }
            - publish: { topic: "note", payload: "hot" }
"#;

    let groups = parse(text, "rules.yml").unwrap();

    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!((group.interval, group.rules.len()), (Duration::from_secs(10), 2));
    let RuleKind::Alert(alert) = &group.rules[1].kind else { panic!("{group:?}") };
    assert_eq!(alert.policy.delay, Duration::from_secs(90));
    assert_eq!((alert.priority, alert.policy.on_bad), (Priority::High, OnBad::Fire));
    assert!(alert.policy.latch && alert.on_arrival && alert.clear.is_some() && alert.on_raised.len() == 2);
    assert_eq!(group.rules[1].labels["site_area"], "hall");
}

#[test]
fn all_faults_are_said_at_once_with_their_place() {
    let text = "groups:\n  - name: a\n    rules:\n      - alert: X\n        expr: \"1 +\"\n      - record: \"no name\"\n        expr: up\n";

    let faults = parse(text, "rules.yml").unwrap_err();

    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{shown:?}");
    assert!(shown[0].starts_with("rules.yml:5: expr: column 15: \"1 +\""), "{shown:?}");
}

#[test]
fn no_time_at_all_is_a_span_too() {
    for (text, span) in [("0", 0), ("0s", 0), ("0m", 0), ("0h0m", 0), ("0h1m", 60)] {
        let text = format!("groups: [{{name: a, rules: [{{alert: X, expr: up, for: {text}}}]}}]");
        let groups = parse(&text, "rules.yml").unwrap();
        let RuleKind::Alert(alert) = &groups[0].rules[0].kind else { panic!("{groups:?}") };
        assert_eq!(alert.policy.delay, Duration::from_secs(span), "{text}");
    }
}

#[test]
fn faults_of_every_kind_in_several_groups_are_said_in_one_go() {
    let text = r#"groups:
  - name: a
    intervall: 5s
    interval: 0s
    limit: some
    rules:
      - alert: Hot
        expr: t > 1
        for: 5 minutes
        fro: 5m
        labels: [team]
        annotations: { summary: "{{ $labels.device", height: 1.50 }
        edge:
          priority: hig
          latch: 1
          flap: { raises: 5 }
          window: { counts: 5 }
          on_firing:
            - publish: { topic: note }
            - shout: { at: all }
            - poll_faster: fast
      - alert: Two
        record: two
        expr: t +
  - rules:
      - expr: up
      - alert: Late
  - name: c
    name: c
    rules: none
"#;

    let shown: Vec<String> = parse(text, "r.yml").unwrap_err().iter().map(ToString::to_string).collect();

    let expected = [
        "r.yml:3: intervall: column 5: unknown key; did you mean \"interval\"? (known here: name, interval, \
         query_offset, limit, labels, rules)",
        "r.yml:4: interval: column 15: must be more than nothing",
        "r.yml:5: limit: column 12: \"some\": must be a whole number",
        "r.yml:9: for: column 14: \"5 minutes\": is no span of time such as 90s or 1h30m: not a valid duration \
         string: 5 minutes",
        "r.yml:10: fro: column 9: unknown key (known here: alert, record, expr, for, \
         keep_firing_for, labels, annotations, edge)",
        "r.yml:11: labels: column 17: must be names with a text each; here is a list",
        "r.yml:12: annotations.summary: column 33: \"{{ $labels.device\": ",
        "r.yml:14: edge.priority: column 21: \"hig\": must be one of low, medium, high, critical; did you mean \
         \"high\"?",
        "r.yml:15: edge.latch: column 18: \"1\": must be one of true, false",
        "r.yml:16: edge.flap.within: column 17: missing",
        "r.yml:17: edge.window.counts: column 21: unknown key; did you mean \"count\"? (known here: count, session, \
         state)",
        "r.yml:19: publish.payload: column 24: missing",
        "r.yml:20: shout: column 15: unknown key (known here: write, poll_faster, capture, publish)",
        "r.yml:21: poll_faster: column 28: must be keys with values; here is \"fast\"",
        "r.yml:23: rules: column 17: a rule has either alert or record; here are alert: \"Two\" and record: \"two\"",
        "r.yml:24: expr: column 15: \"t +\": ",
        "r.yml:25: name: column 5: missing",
        "r.yml:26: rules: column 9: a rule needs a name: either alert or record, with a text",
        "r.yml:27: expr: column 9: missing",
        "r.yml:29: name: column 5: stands here twice",
        "r.yml:30: rules: column 12: must be a list; here is \"none\"",
    ];
    let others: Vec<_> = shown.iter().zip(expected).filter(|(shown, expected)| !shown.starts_with(expected)).collect();
    assert!(others.is_empty() && shown.len() == expected.len(), "{others:#?} in {shown:#?}");
}

#[test]
fn names_and_units_are_looked_at_and_the_message_says_what_is_allowed() {
    let rule = |rule: &str| format!("groups: [{{name: a, rules: [{{expr: t, {rule}}}]}}]");
    for (text, expected) in [
        (rule("record: 'line power'"), "record: column 46: \"line power\": must be made of letters, digits, _ and :"),
        (rule("alert: ''"), "alert: column 45: \"\": must be the name of the alarm"),
        (rule("alert: A, labels: {a-b: c}"), "name \"a-b\": must be made of letters, digits and _"),
        (rule("alert: A, labels: {'a:b': c}"), "name \"a:b\": must be made of"),
        (rule("alert: A, labels: {'': c}"), "name \"\": must be made of"),
        (rule("alert: A, labels: {__name__: c}"), "name \"__name__\": the name of a rule stands"),
        ("groups: [{name: a, labels: {9a: c}, rules: []}]".to_owned(), "name \"9a\": must be made of"),
        (
            rule("alert: A, for: 30"),
            "for: column 53: \"30\": is no span of time such as 90s or 1h30m: its unit is missing",
        ),
        (rule("alert: A, keep_firing_for: 1.5"), "its unit is missing; allowed are ms, s, m, h, d, w and y"),
        ("groups: [{name: a, interval: 10, rules: []}]".to_owned(), "interval: column 30: \"10\": is no span"),
        (
            rule("alert: A, edge: {on_firing: [{poll_faster: {device: d, interval: 200, lasts: 1m}}]}"),
            "poll_faster.interval: column 103: \"200\": is no span",
        ),
        (
            "groups: []\n---\ngroups: []\n".to_owned(),
            "a second YAML document begins here, and Prometheus reads only the first",
        ),
    ] {
        let shown: Vec<String> = parse(&text, "r.yml").unwrap_err().iter().map(ToString::to_string).collect();
        assert!(shown.len() == 1 && shown[0].contains(expected), "{text}: {shown:?}");
    }
    assert!(parse(&rule("expr: 'sum_over_time(t[30] offset 5)'").replace("expr: t, ", "alert: A, "), "r.yml").is_ok());
}

#[test]
fn numbers_and_words_are_texts_as_they_are_written() {
    let text = "groups: [{name: 2, rules: [{alert: Y, expr: 1.50, labels: {a: 1.50, b: yes, c: ~, d: '5', e: 0x1F}}]}]";

    let groups = parse(text, "r.yml").unwrap();

    assert_eq!((groups[0].name.as_str(), groups[0].rules[0].name.as_str()), ("2", "Y"));
    let labels: Vec<&str> = groups[0].rules[0].labels.values().map(String::as_str).collect();
    assert_eq!(labels, ["1.50", "yes", "", "5", "0x1F"]);
}

#[test]
fn an_unknown_key_and_broken_yaml_are_refused_with_their_line() {
    for (text, line) in [("groups:\n  - name: a\n    intervall: 5s\n", 3), ("groups:\n  - name: [\n", 3)] {
        let faults = parse(text, "rules.yml").unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].line.is_some_and(|found| found.abs_diff(line) <= 1), "{}", faults[0]);
    }
}
