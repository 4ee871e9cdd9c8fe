//! Texts with templates in them: `{{ $labels.device }} at {{ $value | humanize }}`. Pure.
//!
//! The part of Go's templates that rules of Prometheus use: pipelines, variables, `if`, `with` and `range`, and the
//! functions that do not ask a server. `query` and what belongs to it are refused by name.

mod functions;
mod numbers;
mod parse;
mod run;

use std::collections::BTreeMap;

pub use self::numbers::shortest as number;

/// What templates can name beside labels and value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surroundings {
    /// `$externalLabels`: site and gateway.
    pub external_labels: BTreeMap<String, String>,
    /// `$externalURL`.
    pub external_url: String,
}

/// The text with its templates filled in; one that cannot be filled in says so in its place, as in Prometheus.
pub fn expand(text: &str, labels: &BTreeMap<String, String>, value: f64, around: &Surroundings) -> String {
    if !text.contains("{{") {
        return text.to_owned();
    }
    let filled = parse::parse(text).and_then(|nodes| run::Run::new(labels, value, around).run(&nodes));
    filled.unwrap_or_else(|reason| format!("<error expanding template: {reason}>"))
}

/// Whether a text can be filled in, as far as that can be said without labels and value.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<(), String> {
    let nodes = parse::parse(text)?;
    functions::check(&nodes)
}

#[cfg(test)]
mod tests;
