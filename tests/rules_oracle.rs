//! Rules against an oracle that nobody here wrote: every unit test of rules passes with `promtool` of Prometheus 2.42,
//! and with `lineside rules test`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// So many expectations at least are tested by both.
const EXPECTATIONS_LEAST: u64 = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lineside(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineside")).args(arguments).output().expect("lineside runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn files(directory: &str, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root().join(directory)) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    found.sort();
    found
}

/// The unit tests of a directory with its rule files as an older Prometheus takes them.
fn stripped(directory: &str, into: &Path) -> Vec<PathBuf> {
    for rules in files(directory, ".yml").into_iter().filter(|path| !path.to_string_lossy().ends_with(".test.yml")) {
        let plain = lineside(&["rules", "export", "--plain", rules.to_str().expect("a name")]);
        assert!(plain.status.success(), "{}", text(&plain));
        std::fs::write(into.join(rules.file_name().expect("a name")), plain.stdout).expect("a file can be written");
    }
    let copy = |test: PathBuf| {
        let to = into.join(test.file_name().expect("a name"));
        std::fs::copy(&test, &to).expect("a file can be copied");
        to
    };
    files(directory, ".test.yml").into_iter().map(copy).collect()
}

#[test]
fn unit_tests_pass_with_promtool_and_with_lineside() {
    let mut tested = 0;
    for directory in ["tests/rules", "deploy/rules"] {
        let scratch = tempfile::tempdir().expect("a directory");
        for test in stripped(directory, scratch.path()) {
            let promtool = Command::new("promtool").args(["test", "rules"]).arg(&test).output();
            let promtool = promtool.expect("promtool runs: it is part of the package prometheus");
            assert!(promtool.status.success(), "{}: {}", test.display(), text(&promtool));
        }
        for test in files(directory, ".test.yml") {
            let ours = lineside(&["rules", "test", "--json", test.to_str().expect("a name")]);
            assert!(ours.status.success(), "{}: {}", test.display(), text(&ours));
            let reports: serde_json::Value = serde_json::from_slice(&ours.stdout).expect("JSON");
            tested += reports[0]["tested"].as_u64().expect("a count");
        }
    }
    println!("{tested} expectations pass with promtool and with lineside");
    assert!(tested >= EXPECTATIONS_LEAST, "{tested}");
}

#[test]
fn what_differs_from_prometheus_2_stands_apart() {
    for test in files("tests/rules/apart", ".test.yml") {
        let ours = lineside(&["rules", "test", test.to_str().expect("a name")]);
        assert!(ours.status.success(), "{}", text(&ours));
        // What would pass there too belongs to the others.
        let promtool = Command::new("promtool").args(["test", "rules"]).arg(&test).output().expect("promtool runs");
        assert!(!promtool.status.success(), "{}: passes with promtool", test.display());
    }
}

#[test]
fn a_failed_test_says_what_was_expected_and_what_came() {
    let scratch = tempfile::tempdir().expect("a directory");
    let test = scratch.path().join("wrong.test.yml");
    let content = "tests:\n  - interval: 1m\n    input_series: [{series: 'x{a=\"b\"}', values: '1+1x5'}]\n    \
                   promql_expr_test:\n      - {expr: x * 2, eval_time: 2m, exp_samples: [{labels: '{a=\"b\"}', value: 7}]}\n";
    std::fs::write(&test, content).expect("a file can be written");

    let output = lineside(&["rules", "test", test.to_str().expect("a name")]);

    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for part in ["FAILED", "expr: \"x * 2\", time: 2m,", "exp: {a=\"b\"} 7", "got: {a=\"b\"} 6"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn faults_of_a_rule_file_are_all_shown_with_line_and_column() {
    let scratch = tempfile::tempdir().expect("a directory");
    let rules = scratch.path().join("wrong.yml");
    let content = "groups:\n- name: a\n  rules:\n  - {alert: A, expr: 'x >'}\n  - {alert: B, expr: 'mad_over_time(x[5m])'}\n  \
                   - {record: 'c:d', expr: 'sum(x) + 1', labels: {l: '{{ oops }}'}}\n  - {record: e, expr: x, oops: 1}\n";
    std::fs::write(&rules, content).expect("a file can be written");
    let check = |content: &str| {
        std::fs::write(&rules, content).expect("a file can be written");
        let output = lineside(&["rules", "check", "--config", "/nonexistent", rules.to_str().expect("a name")]);
        (output.status.code(), text(&output))
    };

    let (code, said) = check(content);
    assert_eq!(code, Some(2));
    for part in [
        "wrong.yml:4: expr: column 22: \"x >\": something is missing at its end",
        "wrong.yml:5: expr: column 22: \"mad_over_time(x[5m])\": mad_over_time is an experimental function",
        "wrong.yml:6: labels.l: column 53: \"{{ oops }}\": function \"oops\" not defined",
        "wrong.yml:7: oops: column 26: unknown key",
    ] {
        assert!(said.contains(part), "{said}");
    }

    let cycle = "groups:\n- name: a\n  rules:\n  - {record: c, expr: d + 1}\n  - {record: d, expr: sum(c)}\n";
    let (code, said) = check(cycle);
    assert_eq!(code, Some(2));
    assert!(said.contains("wrong.yml:4: rule c of group a depends on its own result"), "{said}");
}

/// What promtool finds when it reads a file is found here too, and beyond that what would fail only when an alarm fires.
#[test]
fn faults_of_templates_and_patterns_are_found_when_the_file_is_read_with_their_place() {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("rules.yml");
    let rule = |rest: &str| format!("groups:\n- name: g\n  rules:\n  - alert: Hot\n    {rest}\n");
    for (rest, place, reason) in [
        (
            "expr: t > 80\n    annotations: { summary: \"{{ $label.device }} is hot\" }",
            "rules.yml:6: annotations.summary: column 29",
            "undefined variable \"$label\"; $labels is meant?",
        ),
        ("expr: t > 80\n    labels: { at: '{{ value }}' }", "rules.yml:6: labels.at: column 19", "write {{ $value }}"),
        (
            "expr: t > 80\n    annotations: { a: '{{ (toTime $value).Fromat \"15:04\" }}' }",
            "rules.yml:6: annotations.a: column 23",
            "can't evaluate field Fromat in type *time.Time",
        ),
        (
            "expr: label_replace(t, \"a\", \"$1\", \"b\", \"(\") > 1",
            "rules.yml:5: expr: column 11",
            "error parsing regexp: missing closing ): `(`",
        ),
        ("expr: t{a=~\"[\"}", "rules.yml:5: expr: column 11", "error parsing regexp: missing closing ]: `[`"),
        ("expr: count_values(\"a b\", t)", "rules.yml:5: expr: column 11", "invalid label name in count_values()"),
        (
            "expr: t > 80\n    annotations: { a: '{{ query \"t +\" }}' }",
            "rules.yml:6: annotations.a: column 23",
            "query \"t +\": ",
        ),
        ("expr: t @ 1000 > 80", "rules.yml:5", "@ with a fixed time looks at samples of the past"),
        (
            "expr: t\n---\ngroups: []",
            "rules.yml:6",
            "a second YAML document begins here, and Prometheus reads only the first",
        ),
    ] {
        std::fs::write(&path, rule(rest)).expect("a file can be written");
        let checked = lineside(&["rules", "check", path.to_str().expect("a name")]);
        let said = text(&checked);
        assert_eq!(checked.status.code(), Some(2), "{rest}: {said}");
        assert!(said.contains(place) && said.contains(reason), "{rest}: {said}");
    }
    for fine in ["expr: t > 80\n---\n# nothing\n...", "expr: t{a=~\"hall {.*}\"} offset 1m @ end()"] {
        std::fs::write(&path, rule(fine)).expect("a file can be written");
        let checked = lineside(&["rules", "check", path.to_str().expect("a name")]);
        assert!(text(&checked).contains("SUCCESS"), "{fine}: {}", text(&checked));
    }
}

/// The memory of a unit test does not grow with the values that nobody looks at.
#[test]
fn a_series_of_a_thousand_million_values_takes_no_memory() {
    let scratch = tempfile::tempdir().expect("a directory");
    std::fs::write(scratch.path().join("r.yml"), "groups: [ { name: g, rules: [ { alert: Hot, expr: t > 80 } ] } ]\n")
        .expect("a file can be written");
    let test = scratch.path().join("t.test.yml");
    let series = "[ { series: t, values: '0x1000000000' } ]";
    std::fs::write(
        &test,
        format!(
            "rule_files: [r.yml]\ntests:\n- interval: 1s\n  input_series: {series}\n  \
             promql_expr_test: [ {{ expr: t, eval_time: 1h, exp_samples: [ {{ labels: t, value: 0 }} ] }} ]\n"
        ),
    )
    .expect("a file can be written");
    // 512 MiB of address space are a fraction of what the values would take.
    let limited = format!("ulimit -v 524288; exec {} rules test {}", env!("CARGO_BIN_EXE_lineside"), test.display());
    let ours = Command::new("sh").args(["-c", &limited]).output().expect("a shell runs");
    assert!(ours.status.success(), "{}", text(&ours));
}
