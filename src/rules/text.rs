//! Texts with templates in them: `{{ $labels.device }} at {{ $value | humanize }}`. Pure.
//!
//! Go's `text/template` with the functions of Prometheus, `query` among them. What would fail whenever it is reached is
//! found when the file is read ([`check`]); what depends on the labels, when the text is filled in ([`expand`]).
//!
//! ```text
//! text --lex--> pieces --parse--> nodes --check--> what is asked, or what is wrong
//!                                   `-----run----> the text
//! ```

mod check;
mod functions;
mod humane;
mod kinds;
mod lex;
mod methods;
mod moment;
mod numbers;
mod parse;
mod printf;
mod run;
mod texts;
mod things;

use std::collections::BTreeMap;

use promql_parser::parser::Expr;

pub use self::numbers::shortest as number;
use crate::model::{Timestamp, promql};

/// What templates can name beside labels and value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surroundings {
    /// `$externalLabels`: site and gateway.
    pub external_labels: BTreeMap<String, String>,
    /// `$externalURL`.
    pub external_url: String,
}

/// One result of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Labels of the series, its name among them.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Answers the queries of templates.
pub trait Queries {
    /// The time of the evaluation.
    fn now(&self) -> Timestamp;

    /// What an expression comes to now.
    ///
    /// # Errors
    /// Why it has no result.
    fn query(&self, expression: &str) -> Result<Vec<Sample>, String>;
}

/// The text with its templates filled in.
///
/// # Errors
/// Why it cannot be filled in.
pub fn expand(
    text: &str,
    labels: &BTreeMap<String, String>,
    value: f64,
    around: &Surroundings,
    queries: &dyn Queries,
) -> Result<String, String> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let template = parse::parse(text)?;
    let about = run::Circumstances::new(labels, value, around, queries);
    run::Run::new(&template, &about).run()
}

/// What stands in the place of a text that cannot be filled in, as in Prometheus.
pub fn failed(reason: &str) -> String {
    format!("<error expanding template: {reason}>")
}

/// What a template asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The expression; where the template makes only parts of it, the widest that it may be.
    pub expression: Expr,
    /// All of it is known.
    pub is_constant: bool,
}

/// What a text asks, if it can be filled in, as far as that can be said without labels and value.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<Vec<Query>, String> {
    if !text.contains("{{") {
        return Ok(Vec::new());
    }
    let asked = check::check(&parse::parse(text)?)?;
    let query = |asked| match asked {
        check::Asked::Constant(expression) => match promql::parse(&expression) {
            Ok(expression) => Some(Ok(Query { expression, is_constant: true })),
            Err(reason) => Some(Err(format!("query {expression:?}: {reason}"))),
        },
        check::Asked::Pattern(pattern) => {
            widest(&pattern).map(|expression| Ok(Query { expression, is_constant: false }))
        }
    };
    asked.into_iter().filter_map(query).collect()
}

/// The expression without the matchers that are not known; nothing where it cannot be read so.
fn widest(pattern: &str) -> Option<Expr> {
    let mut expression = promql::parse(&promql::replaced(pattern, kinds::HOLE, UNKNOWN)).ok()?;
    promql::selectors_mut(&mut expression, &mut |selector| {
        if selector.name.as_deref().is_some_and(|name| name.contains(UNKNOWN)) {
            selector.name = None;
        }
        let is_known = |text: &str| !text.contains([kinds::HOLE]) && !text.contains(UNKNOWN);
        selector.matchers.matchers.retain(|matcher| is_known(&matcher.value) && is_known(&matcher.name));
    });
    Some(expression)
}

/// Stands for what is not known outside of quotes.
const UNKNOWN: &str = "_unknown_";

#[cfg(test)]
mod tests;
