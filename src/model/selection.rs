//! Which series are meant: a selector as PromQL has it, such as `active_power_w{line="press"}`.

use std::collections::BTreeMap;

use promql_parser::label::{METRIC_NAME, MatchOp, Matcher};
use promql_parser::parser::{Expr, VectorSelector};

use super::promql;

/// A selector.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// All of them, that of the name among them.
    matchers: Vec<Matcher>,
}

/// Text that selects no series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a selector such as active_power_w{{line=\"press\"}}{reason}")]
pub struct SelectionError {
    reason: String,
}

impl Selection {
    /// The selector in `text`.
    ///
    /// # Errors
    /// The text is another expression, or none at all.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        let refused = |reason: String| SelectionError { reason };
        match promql::parse(text).map_err(|reason| refused(format!(": {reason}")))? {
            Expr::VectorSelector(selector) if selector.at.is_none() && selector.offset.is_none() => {
                Self::of(&selector).ok_or_else(|| refused(", without or".to_owned()))
            }
            _ => Err(refused(String::new())),
        }
    }

    /// What a selector of an expression selects; nothing when alternatives are among its matchers.
    pub fn of(selector: &VectorSelector) -> Option<Self> {
        if !selector.matchers.or_matchers.is_empty() {
            return None;
        }
        let name = selector.name.iter().map(|name| Matcher::new(MatchOp::Equal, METRIC_NAME, name));
        Some(Self { matchers: name.chain(selector.matchers.matchers.iter().cloned()).collect() })
    }

    /// The matchers, that of the name among them.
    pub fn into_matchers(self) -> Vec<Matcher> {
        self.matchers
    }

    /// Whether a series of this name and these labels is meant.
    pub fn takes(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let value = |label: &str| match label {
            METRIC_NAME => name,
            label => labels.get(label).map_or("", String::as_str),
        };
        self.matchers.iter().all(|matcher| matcher.is_match(value(&matcher.name)))
    }

    /// Whether series of this name are meant, if their labels fit.
    pub fn is_called(&self, name: &str) -> bool {
        self.matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).all(|matcher| matcher.is_match(name))
    }

    /// Whether the selector says which name it means.
    pub fn is_named(&self) -> bool {
        self.matchers.iter().any(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_selected_by_name_and_labels() {
        let labels = BTreeMap::from([("device".to_owned(), "press-1".to_owned())]);
        let takes = |text: &str| Selection::parse(text).unwrap().takes("power_w", &labels);

        assert!(takes("power_w") && takes(r#"{device=~"press-.*"}"#) && takes(r#"power_w{line=""}"#));
        assert!(!takes("current_a") && !takes(r#"power_w{device!="press-1"}"#) && !takes(r#"power_w{line="a"}"#));
        assert!(Selection::parse("power_w").unwrap().is_named());
        assert!(!Selection::parse(r#"{device="press-1"}"#).unwrap().is_named());
    }

    #[test]
    fn what_selects_nothing_is_refused_with_the_reason() {
        for text in ["", "1 +", "rate(power_w[5m])", "power_w[5m]", "power_w offset 5m", "power_w > 3"] {
            let refused = Selection::parse(text).unwrap_err().to_string();
            assert!(refused.starts_with("must be a selector such as active_power_w{line=\"press\"}"), "{refused}");
        }
    }
}
