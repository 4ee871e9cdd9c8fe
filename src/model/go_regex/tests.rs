//! Patterns against what Go 1.26 makes of them: `tests/golden/go_regex` holds the table and the program that wrote it.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    pattern: String,
    #[serde(default)]
    error: String,
    #[serde(default, rename = "match")]
    found: String,
    #[serde(default)]
    whole: String,
    #[serde(default)]
    replaced: Vec<String>,
}

#[test]
fn patterns_mean_what_they_mean_in_go() {
    let table = include_str!("../../../tests/golden/go_regex/cases.jsonl");
    let (texts, cases) = table.split_once('\n').unwrap();
    let texts: Vec<String> = serde_json::from_str(texts).unwrap();
    let mut wrong = Vec::new();
    for line in cases.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        if let Some(difference) = difference(&case, &texts) {
            wrong.push(format!("{:?}: {difference}", case.pattern));
        }
    }
    assert!(cases.lines().count() > 850);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn difference(case: &Case, texts: &[String]) -> Option<String> {
    let bits =
        |regex: &GoRegex| -> String { texts.iter().map(|text| if regex.is_match(text) { '1' } else { '0' }).collect() };
    let regex = match (GoRegex::new(&case.pattern), case.error.is_empty()) {
        (Ok(regex), true) => regex,
        (Ok(_), false) => return Some(format!("is read; in Go {}", case.error)),
        (Err(reason), true) => return Some(format!("is refused: {reason}")),
        (Err(reason), false) => return (reason != case.error).then(|| format!("{reason}; in Go {}", case.error)),
    };
    let whole = GoRegex::whole(&case.pattern).ok()?;
    let matching = texts.iter().filter(|text| !text.is_empty() && regex.is_match(text));
    let replaced: Vec<String> = matching.map(|text| regex.replace_all(text, "<$0|${1}>")).collect();
    if bits(&regex) != case.found {
        return Some(format!("matches {}, in Go {}", bits(&regex), case.found));
    }
    if !case.whole.is_empty() && bits(&whole) != case.whole {
        return Some(format!("matches whole {}, in Go {}", bits(&whole), case.whole));
    }
    (replaced != case.replaced).then(|| format!("replaces to {replaced:?}, in Go {:?}", case.replaced))
}

#[test]
fn templates_are_filled_in_as_go_does_it() {
    let regex = GoRegex::new("(?P<letter>[a-z])(\\d)?").unwrap();
    for (template, expected) in [
        ("$1", "a"),
        ("${1}x", "ax"),
        ("$1x", ""),
        ("$letter-${2}", "a-7"),
        ("${letter}s", "as"),
        ("$$1", "$1"),
        ("$ {1}", "$ {1}"),
        ("${1", "${1"),
        ("${a-b}", "${a-b}"),
        ("$9|$0", "|a7"),
        ("$", "$"),
    ] {
        assert_eq!(regex.expand("a7", template).as_deref(), Some(expected), "{template}");
    }
    assert_eq!(regex.expand("-", "$1"), None);
}

#[test]
fn a_pattern_takes_bounded_memory() {
    let refused = GoRegex::new(&r"\pL{900}".repeat(3)).unwrap_err();
    assert!(refused.contains("expression too large"), "{refused}");
    assert!(GoRegex::new(&"(".repeat(2000)).unwrap_err().contains("nests too deeply"));
    assert!(GoRegex::new(&"a{".repeat(200_000)).is_err() || GoRegex::new("a{").is_ok());
}

proptest::proptest! {
    #[test]
    fn no_pattern_makes_it_panic(pattern in "([a-z({\\[\\]})0-9.:\\\\é*+?|^$-]|\\\\Q|\\\\p|\\\\x|\\[:|:\\]|\\(\\?){0,24}") {
        let _ = GoRegex::new(&pattern);
    }
}
