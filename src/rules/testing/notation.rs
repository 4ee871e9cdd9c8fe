//! Series as unit tests write them: `temperature_c{device="press-1"}` and `20+0.5x10 _ _x3 stale NaN`. Pure.

use std::collections::BTreeMap;

use crate::rules::live::NAME;
use crate::rules::ring::END;

/// The values of a series, one for each interval, as they are written: however many they are, they take no memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(Vec<Run>);

/// Values of which each is so much more than the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    /// Nothing where there is no sample.
    first: Option<f64>,
    step: f64,
    count: u64,
}

impl Values {
    /// Each value; nothing where there is no sample, and [`END`] where the series ends.
    pub fn iter(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        self.0.iter().flat_map(|run| {
            // As promtool does it: the steps are added up, with what rounding makes of them.
            let mut value = run.first;
            (0..run.count).map(move |_| {
                let now = value;
                // Adding nothing would make another not-a-number of the mark of the end.
                if run.step != 0.0 {
                    value = value.map(|value| value + run.step);
                }
                now
            })
        })
    }
}

/// The labels of a series, its name among them.
///
/// # Errors
/// What is wrong with it.
pub fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let text = text.trim();
    let (name, inside) = match text.split_once('{') {
        None => (text, ""),
        Some((name, rest)) => {
            let inside = rest.strip_suffix('}').ok_or_else(|| format!("{text:?} has no closing brace"))?;
            (name.trim(), inside)
        }
    };
    let mut labels = BTreeMap::new();
    if !name.is_empty() {
        labels.insert(NAME.to_owned(), name.to_owned());
    }
    let mut rest = inside.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("{rest:?} is not label=\"value\""))?;
        let (value, after) = quoted(after.trim_start())?;
        if !value.is_empty() {
            labels.insert(key.trim().to_owned(), value);
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err(format!("{after:?} stands where a comma belongs")),
        };
    }
    Ok(labels)
}

/// A text in quotes, and what comes after it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut letters = text.char_indices();
    let quote = match letters.next() {
        Some((_, quote @ ('"' | '\'' | '`'))) => quote,
        _ => return Err(format!("{text:?} is not in quotes")),
    };
    let mut value = String::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Ok((value, &text[at + letter.len_utf8()..])),
            '\\' if quote != '`' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, escaped)) => value.push(escaped),
                None => {}
            },
            _ => value.push(letter),
        }
    }
    Err(format!("{text:?} has no closing quote"))
}

/// The values of a series.
///
/// # Errors
/// What is wrong with them.
pub fn values(text: &str) -> Result<Values, String> {
    let mut runs = Vec::new();
    for word in text.split_whitespace() {
        if word.contains("{{") {
            return Err(format!("{word:?} is a native histogram, which does not exist here"));
        }
        let (begin, times) = match word.rsplit_once('x') {
            Some((begin, times)) if !begin.is_empty() => {
                let times: u64 = times.parse().map_err(|_| format!("{word:?}: a whole number belongs after the x"))?;
                (begin, Some(times))
            }
            _ => (word, None),
        };
        let and_first = times.unwrap_or(0).saturating_add(1);
        runs.push(match begin {
            "_" => Run { first: None, step: 0.0, count: times.unwrap_or(1) },
            "stale" => Run { first: Some(END), step: 0.0, count: and_first },
            _ => {
                let (first, step) = course(begin)
                    .ok_or_else(|| format!("{word:?} is none of 5, 1+2x10, 1-2x10, 5x10, _, _x10, stale"))?;
                if step != 0.0 && times.is_none() {
                    return Err(format!("{word:?}: it is not said how often, as in 1+2x10"));
                }
                Run { first: Some(first), step, count: and_first }
            }
        });
    }
    Ok(Values(runs))
}

/// First value and step.
fn course(text: &str) -> Option<(f64, f64)> {
    if let Some(number) = number(text) {
        return Some((number, 0.0));
    }
    let signs = text.char_indices().skip(1).filter(|(_, letter)| matches!(letter, '+' | '-'));
    let mut parts = signs.filter_map(|(at, _)| Some((number(&text[..at])?, number(&text[at..])?)));
    parts.next()
}

/// A number as YAML and Prometheus write it.
pub fn number(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned.trim_start_matches('.').to_ascii_lowercase().as_str() {
        "inf" => Some(sign * f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => unsigned
            .starts_with(|c: char| c.is_ascii_digit() || c == '.')
            .then(|| unsigned.parse().ok())?
            .map(|number: f64| sign * number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::ring::is_end;

    #[test]
    fn values_are_written_out() {
        let plain = |text: &str| -> Vec<f64> { values(text).unwrap().iter().flatten().collect() };

        assert_eq!(plain("1 -2.5 1e3 +Inf"), [1.0, -2.5, 1000.0, f64::INFINITY]);
        assert_eq!(plain("0+10x3 5x2 1-1x1"), [0.0, 10.0, 20.0, 30.0, 5.0, 5.0, 5.0, 1.0, 0.0]);
        assert_eq!(values("_ 1 _x2").unwrap().iter().collect::<Vec<_>>(), [None, Some(1.0), None, None]);
        assert!(values("stalex1").unwrap().iter().all(|value| is_end(value.unwrap())));
        assert_eq!(values("").unwrap().iter().count(), 0);
        assert_eq!(values("1x99999999999 7").unwrap().iter().nth(1_000_001), Some(Some(1.0)));
        assert!(plain("NaN")[0].is_nan());
        for wrong in ["x3", "1+2", "5xa", "hello", "{{schema:1}}", "1x99999999999999999999"] {
            assert!(values(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_are_read_with_their_quotes() {
        let expected = BTreeMap::from(
            [(NAME, "a"), ("b", "c,\"d\""), ("e", "f}")].map(|(key, value)| (key.to_owned(), value.to_owned())),
        );

        assert_eq!(labels(r#" a{b="c,\"d\"", e='f}',} "#).unwrap(), expected);
        assert_eq!(labels("a{}").unwrap().len(), 1);
        assert!(labels("{}").unwrap().is_empty());
        for wrong in ["a{b=c}", "a{b=\"c\"", "a{b}", "a{b=\"c\" d=\"e\"}"] {
            assert!(labels(wrong).is_err(), "{wrong}");
        }
    }
}
