//! Texts with `{{ $labels.device }}` and `{{ $value }}` in them. Pure.

use std::collections::BTreeMap;

/// The text with everything between double braces replaced; what is not understood stays as it is.
pub fn expand(text: &str, labels: &BTreeMap<String, String>, value: f64) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (inside, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        out += before;
        match inside.trim().trim_matches('-').trim() {
            "$value" => out += &value.to_string(),
            name => match name.strip_prefix("$labels.") {
                Some(label) => out += labels.get(label).map_or("", String::as_str),
                None => out += &format!("{{{{{inside}}}}}"),
            },
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_value_are_filled_in() {
        let labels = BTreeMap::from([("device".to_owned(), "press-1".to_owned())]);

        assert_eq!(expand("{{ $labels.device }}: {{$value}} W{{ $labels.x }}", &labels, 2.5), "press-1: 2.5 W");
        assert_eq!(expand("{{ unknown }} {{", &labels, 0.0), "{{ unknown }} {{");
    }
}
