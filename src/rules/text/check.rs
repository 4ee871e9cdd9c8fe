//! What can be said of a template without labels and value: it is gone through with kinds in the place of things, on
//! all its ways at once. Found is what would fail whenever it is reached; what depends on the labels is not known here.

use super::functions::{self, incomparable};
use super::kinds::{HOLE, Kind};
use super::methods;
use super::parse::{Command, Node, Pipe, Template, Term, VARIABLES};
use crate::model::go_regex::GoRegex;

/// A query of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Known as a whole.
    Constant(String),
    /// With a [`HOLE`] for each part that is not known.
    Pattern(String),
}

/// What a template asks.
///
/// # Errors
/// What would fail in it.
pub(super) fn check(template: &Template) -> Result<Vec<Asked>, String> {
    let kinds = [Kind::Root, Kind::Map, Kind::Map, Kind::UNKNOWN_TEXT, Kind::Number];
    let variables = VARIABLES.map(str::to_owned).into_iter().zip(kinds).collect();
    let mut checker = Checker { template, variables, dot: Kind::Root, called: Vec::new(), asked: Vec::new() };
    checker.block(&template.main)?;
    Ok(checker.asked)
}

struct Checker<'a> {
    template: &'a Template,
    variables: Vec<(String, Kind)>,
    dot: Kind,
    /// Names of the templates that are gone through.
    called: Vec<&'a str>,
    asked: Vec<Asked>,
}

impl<'a> Checker<'a> {
    fn block(&mut self, nodes: &'a [Node]) -> Result<(), String> {
        let known = self.variables.len();
        nodes.iter().try_for_each(|node| self.node(node))?;
        self.variables.truncate(known);
        Ok(())
    }

    fn node(&mut self, node: &'a Node) -> Result<(), String> {
        let known = self.variables.len();
        match node {
            Node::Text(_) | Node::Break | Node::Continue => {}
            Node::Action(pipe) => return self.set(pipe).map(drop),
            Node::If(pipe, body, otherwise) => {
                self.set(pipe)?;
                self.block(body)?;
                self.block(otherwise)?;
            }
            Node::With(pipe, body, otherwise) => {
                let kind = self.set(pipe)?;
                self.with_dot(kind, body)?;
                self.block(otherwise)?;
            }
            Node::Range(pipe, body, otherwise) => {
                let list = self.pipe(pipe)?;
                let (key, value) = items(&list)?;
                match pipe.names.as_slice() {
                    [] => {}
                    [name] => self.give(name, value.clone(), pipe.declares),
                    [first, second, ..] => {
                        self.give(first, key, pipe.declares);
                        self.give(second, value.clone(), pipe.declares);
                    }
                }
                self.with_dot(value, body)?;
                self.block(otherwise)?;
            }
            Node::Template(name, about) => self.call(name, about.as_ref())?,
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn with_dot(&mut self, dot: Kind, body: &'a [Node]) -> Result<(), String> {
        let before = std::mem::replace(&mut self.dot, dot);
        self.block(body)?;
        self.dot = before;
        Ok(())
    }

    fn call(&mut self, name: &'a str, about: Option<&'a Pipe>) -> Result<(), String> {
        let body = self.template.defined.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
        let dot = about.map_or(Ok(Kind::Nil), |pipe| self.pipe(pipe))?;
        if self.called.contains(&name) {
            return Ok(());
        }
        let variables = std::mem::replace(&mut self.variables, vec![(VARIABLES[0].to_owned(), dot.clone())]);
        self.called.push(name);
        self.with_dot(dot, body)?;
        self.called.pop();
        self.variables = variables;
        Ok(())
    }

    fn set(&mut self, pipe: &'a Pipe) -> Result<Kind, String> {
        let kind = self.pipe(pipe)?;
        if let Some(name) = pipe.names.first() {
            self.give(name, kind.clone(), pipe.declares);
        }
        Ok(kind)
    }

    /// Whether a variable is set again is not known where that stands in a block.
    fn give(&mut self, name: &str, kind: Kind, declares: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| !declares && known == name) {
            Some((_, known)) => *known = std::mem::replace(known, Kind::Any).or(kind),
            None => self.variables.push((name.to_owned(), kind)),
        }
    }

    fn pipe(&mut self, pipe: &'a Pipe) -> Result<Kind, String> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last)?);
        }
        Ok(last.unwrap_or(Kind::Nil))
    }

    fn command(&mut self, command: &'a Command, last: Option<Kind>) -> Result<Kind, String> {
        let [first, arguments @ ..] = command.as_slice() else { return Ok(Kind::Nil) };
        let mut kinds: Vec<Kind> = arguments.iter().map(|term| self.term(term)).collect::<Result<_, _>>()?;
        kinds.extend(last);
        match first {
            Term::Function(name) => self.function(name, &kinds),
            Term::Chain(of, names) => {
                let of = self.term(of)?;
                fields(of, names, &kinds)
            }
            other if kinds.is_empty() => self.term(other),
            Term::Text(_)
            | Term::Integer(_)
            | Term::Number(_)
            | Term::Bool(_)
            | Term::Nil
            | Term::Dot
            | Term::Variable(_)
            | Term::Inner(_) => Err("can't give argument to non-function".to_owned()),
        }
    }

    fn term(&mut self, term: &'a Term) -> Result<Kind, String> {
        Ok(match term {
            Term::Text(text) => Kind::Text(text.clone().into()),
            Term::Integer(_) => Kind::Integer,
            Term::Number(_) => Kind::Number,
            Term::Bool(_) => Kind::Bool,
            Term::Nil => Kind::Nil,
            Term::Dot => self.dot.clone(),
            Term::Function(name) => self.function(name, &[])?,
            Term::Inner(pipe) => self.pipe(pipe)?,
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Kind::Any, |(_, kind)| kind.clone())
            }
            Term::Chain(of, names) => {
                let of = self.term(of)?;
                fields(of, names, &[])?
            }
        })
    }

    fn function(&mut self, name: &str, kinds: &[Kind]) -> Result<Kind, String> {
        let function = functions::known(name)?;
        function.takes_count(kinds.len())?;
        kinds.iter().enumerate().try_for_each(|(position, kind)| function.takes(position, kind))?;
        match (name, kinds) {
            ("call", _) => return Err("call takes a function, and there is none that a template could name".to_owned()),
            ("and" | "or", [first, others @ ..]) => {
                return Ok(others.iter().cloned().fold(first.clone(), Kind::or));
            }
            ("eq" | "ne" | "lt" | "le" | "gt" | "ge", [first, others @ ..]) => {
                others.iter().try_for_each(|other| comparable(first, other))?;
            }
            ("len", [kind]) if is_single(kind) => return Err(format!("len of type {}", kind.name())),
            ("index", [of, key, more @ ..]) => return Ok(if more.is_empty() { indexed(of, key)? } else { Kind::Any }),
            ("match" | "reReplaceAll", [pattern, ..]) => {
                pattern.constant().map_or(Ok(()), |pattern| GoRegex::new(pattern).map(drop))?;
            }
            ("parseDuration", [span]) => {
                span.constant().map_or(Ok(()), |span| crate::model::promql::parse_span(span).map(drop))?;
            }
            ("printf", [Kind::Text(format), things @ ..]) => return Ok(Kind::Text(filled(format, things).into())),
            ("print", things) => return Ok(Kind::Text(things.iter().map(shown).collect::<String>().into())),
            ("query", [Kind::Text(expression)]) => self.asked.push(if expression.contains(HOLE) {
                Asked::Pattern(expression.clone().into_owned())
            } else {
                Asked::Constant(expression.clone().into_owned())
            }),
            ("query", [_]) => self.asked.push(Asked::Pattern(HOLE.to_string())),
            _ => {}
        }
        Ok(function.gives.clone())
    }
}

/// Key and value of what a range goes through.
fn items(list: &Kind) -> Result<(Kind, Kind), String> {
    match list {
        Kind::Any => Ok((Kind::Any, Kind::Any)),
        Kind::Map => Ok((Kind::UNKNOWN_TEXT, Kind::UNKNOWN_TEXT)),
        Kind::Arguments => Ok((Kind::UNKNOWN_TEXT, Kind::Any)),
        Kind::Samples => Ok((Kind::Integer, Kind::Sample)),
        Kind::Integer => Ok((Kind::Integer, Kind::Integer)),
        other => Err(format!("range can't iterate over {}", other.name())),
    }
}

fn fields(mut kind: Kind, names: &[String], arguments: &[Kind]) -> Result<Kind, String> {
    for (position, name) in names.iter().enumerate() {
        let arguments = if position + 1 == names.len() { arguments } else { &[] };
        kind = field(&kind, name, arguments)?;
    }
    Ok(kind)
}

fn field(kind: &Kind, name: &str, arguments: &[Kind]) -> Result<Kind, String> {
    if let Some((.., takes, gives)) = methods::method(kind, name) {
        if takes.len() != arguments.len() {
            return Err(format!("wrong number of args for {name}: want {} got {}", takes.len(), arguments.len()));
        }
        for (argument, kind) in takes.iter().zip(arguments) {
            if !argument.takes(kind) {
                return Err(format!("wrong argument for {name}: expected {}; got {}", argument.name(), kind.name()));
            }
        }
        return Ok(gives.clone());
    }
    let found = match (kind, name) {
        (Kind::Any, _) => return Ok(Kind::Any),
        (Kind::Root, "Labels" | "ExternalLabels") | (Kind::Sample, "Labels") => Some(Kind::Map),
        (Kind::Root, "ExternalURL") | (Kind::Map, _) => Some(Kind::UNKNOWN_TEXT),
        (Kind::Root | Kind::Sample, "Value") => Some(Kind::Number),
        (Kind::Arguments, _) => Some(Kind::Any),
        _ => None,
    };
    if found.is_some() && !arguments.is_empty() {
        return Err(format!("{name} has arguments but cannot be invoked as function"));
    }
    found.ok_or_else(|| {
        let meant = match (kind, name) {
            (Kind::Text(_) | Kind::Number, "Labels" | "Value") => "; inside with and range write $labels and $value",
            (Kind::Root, "labels" | "value") => "; it begins with a capital",
            _ => "",
        };
        format!("can't evaluate field {name} in type {}{meant}", kind.name())
    })
}

fn comparable(first: &Kind, second: &Kind) -> Result<(), String> {
    match (first, second) {
        (Kind::Any, _) | (_, Kind::Any) | (Kind::Text(_), Kind::Text(_)) | (Kind::Bool, Kind::Bool) => Ok(()),
        (first, second) if first.is_number() && second.is_number() => Ok(()),
        (first, second) => Err(incomparable(first.name(), second.name())),
    }
}

/// What has no length.
fn is_single(kind: &Kind) -> bool {
    !matches!(kind, Kind::Any | Kind::Text(_) | Kind::Map | Kind::Arguments | Kind::Samples)
}

fn indexed(of: &Kind, key: &Kind) -> Result<Kind, String> {
    match (of, key) {
        (Kind::Any, _) | (_, Kind::Any) | (Kind::Arguments, Kind::Text(_)) => Ok(Kind::Any),
        (Kind::Map, Kind::Text(_)) => Ok(Kind::UNKNOWN_TEXT),
        (Kind::Samples, Kind::Integer) => Ok(Kind::Sample),
        (Kind::Text(_), Kind::Integer) => Ok(Kind::Integer),
        (of, key) => Err(format!("can't index item of type {} with {}", of.name(), key.name())),
    }
}

fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Text(text) => text.clone().into_owned(),
        _ => HOLE.to_string(),
    }
}

/// `printf`, as far as it is known: only what fills plain `%s` and `%v`.
fn filled(format: &str, things: &[Kind]) -> String {
    let (mut out, mut rest, mut things) = (String::new(), format, things.iter());
    while let Some((before, after)) = rest.split_once('%') {
        out += before;
        let length = after.find(|letter: char| letter.is_ascii_alphabetic() || letter == '%').unwrap_or(after.len());
        let verb = after[length..].chars().next();
        rest = &after[(length + 1).min(after.len())..];
        match (verb, length) {
            (Some('%'), _) => out.push('%'),
            (Some('s' | 'v'), 0) => out += &things.next().map_or_else(String::new, shown),
            (Some('q'), 0) => out += &format!("\"{}\"", things.next().map_or_else(String::new, shown)),
            _ => {
                things.next();
                out.push(HOLE);
            }
        }
    }
    out + rest
}
