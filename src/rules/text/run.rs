//! Fills in a template.

use std::collections::BTreeMap;

use super::Surroundings;
use super::functions;
use super::numbers::shortest;
use super::parse::{Command, Node, Pipe, Term};

/// Longest text that a template may become.
const LENGTH_MAX: usize = 64 * 1024;

/// What a pipeline comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thing {
    Text(String),
    Number(f64),
    Integer(i64),
    Bool(bool),
    Map(BTreeMap<String, String>),
    Nil,
}

impl Thing {
    pub fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0.0,
            Self::Integer(number) => *number != 0,
            Self::Bool(is_true) => *is_true,
            Self::Map(map) => !map.is_empty(),
            Self::Nil => false,
        }
    }

    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => shortest(*number),
            Self::Integer(number) => number.to_string(),
            Self::Bool(is_true) => is_true.to_string(),
            Self::Map(map) => {
                let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("map[{}]", pairs.join(" "))
            }
            Self::Nil => "<no value>".to_owned(),
        }
    }
}

/// Variables, the dot, and what was written so far.
pub(super) struct Run<'a> {
    variables: Vec<(String, Thing)>,
    dot: Option<Thing>,
    labels: &'a BTreeMap<String, String>,
    value: f64,
    around: &'a Surroundings,
    out: String,
}

impl<'a> Run<'a> {
    pub fn new(labels: &'a BTreeMap<String, String>, value: f64, around: &'a Surroundings) -> Self {
        Self { variables: Vec::new(), dot: None, labels, value, around, out: String::new() }
    }

    pub fn run(mut self, nodes: &[Node]) -> Result<String, String> {
        self.block(nodes)?;
        Ok(self.out)
    }

    fn block(&mut self, nodes: &[Node]) -> Result<(), String> {
        let known = self.variables.len();
        for node in nodes {
            self.node(node)?;
            if self.out.len() > LENGTH_MAX {
                return Err(format!("longer than {LENGTH_MAX} bytes"));
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        match node {
            Node::Text(text) => self.out += text,
            Node::Output(pipe) => {
                let shown = self.pipe(pipe)?.shown();
                self.out += &shown;
            }
            Node::Set(name, pipe) => {
                let thing = self.pipe(pipe)?;
                // A variable that is set in an inner block is that of the outer one, if it has one.
                match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    Some((_, known)) => *known = thing,
                    None => self.variables.push((name.clone(), thing)),
                }
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.pipe(condition)?.is_true() {
                        return self.block(body);
                    }
                }
                self.block(otherwise)?;
            }
            Node::With(condition, body, otherwise) => {
                let thing = self.pipe(condition)?;
                if thing.is_true() { self.with_dot(thing, body)? } else { self.block(otherwise)? }
            }
            Node::Range(names, list, body, otherwise) => self.range(names, list, body, otherwise)?,
        }
        Ok(())
    }

    fn with_dot(&mut self, dot: Thing, body: &[Node]) -> Result<(), String> {
        let before = self.dot.replace(dot);
        let done = self.block(body);
        self.dot = before;
        done
    }

    fn range(&mut self, names: &[String], list: &Pipe, body: &[Node], otherwise: &[Node]) -> Result<(), String> {
        let map = match self.pipe(list)? {
            Thing::Map(map) => map,
            Thing::Nil => BTreeMap::new(),
            other => return Err(format!("range can't iterate over {}", other.shown())),
        };
        if map.is_empty() {
            return self.block(otherwise);
        }
        let known = self.variables.len();
        for (key, value) in map {
            let value = Thing::Text(value);
            match names {
                [] => {}
                [name] => self.variables.push((name.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), Thing::Text(key)));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            self.with_dot(value, body)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe) -> Result<Thing, String> {
        let mut last = None;
        for command in pipe {
            last = Some(self.command(command, last)?);
        }
        Ok(last.unwrap_or(Thing::Nil))
    }

    fn command(&mut self, command: &Command, last: Option<Thing>) -> Result<Thing, String> {
        let [first, arguments @ ..] = command.as_slice() else { return Ok(Thing::Nil) };
        let Term::Function(name) = first else {
            if !arguments.is_empty() || last.is_some() {
                return Err("can't give argument to non-function".to_owned());
            }
            return self.term(first);
        };
        // They stop at the first argument that decides.
        if let ("and" | "or", None) = (name.as_str(), &last) {
            let mut result = Thing::Nil;
            for argument in arguments {
                result = self.term(argument)?;
                if result.is_true() == (name == "or") {
                    break;
                }
            }
            return Ok(result);
        }
        let mut things: Vec<Thing> = arguments.iter().map(|term| self.term(term)).collect::<Result<_, _>>()?;
        things.extend(last);
        functions::call(name, &things, self.around)
    }

    fn term(&mut self, term: &Term) -> Result<Thing, String> {
        Ok(match term {
            Term::Text(text) => Thing::Text(text.clone()),
            Term::Integer(number) => Thing::Integer(*number),
            Term::Number(number) => Thing::Number(*number),
            Term::Bool(is_true) => Thing::Bool(*is_true),
            Term::Nil => Thing::Nil,
            Term::Function(name) => functions::call(name, &[], self.around)?,
            Term::Inner(pipe, fields) => {
                let thing = self.pipe(pipe)?;
                field(thing, fields)?
            }
            Term::Named(name, fields) => {
                let (thing, fields) = self.named(name, fields)?;
                field(thing, fields)?
            }
        })
    }

    /// What a name stands for, and the fields of it that are left.
    fn named<'f>(&self, name: &str, fields: &'f [String]) -> Result<(Thing, &'f [String]), String> {
        if let Some((_, thing)) = self.variables.iter().rev().find(|(known, _)| known == name) {
            return Ok((thing.clone(), fields));
        }
        let of_all = |first: &str| match first {
            "Labels" => Some(Thing::Map(self.labels.clone())),
            "Value" => Some(Thing::Number(self.value)),
            "ExternalLabels" => Some(Thing::Map(self.around.external_labels.clone())),
            "ExternalURL" => Some(Thing::Text(self.around.external_url.clone())),
            _ => None,
        };
        let thing = match (name, &self.dot) {
            ("$labels", _) => Some((Thing::Map(self.labels.clone()), fields)),
            ("$value", _) => Some((Thing::Number(self.value), fields)),
            ("$externalLabels", _) => Some((Thing::Map(self.around.external_labels.clone()), fields)),
            ("$externalURL", _) => Some((Thing::Text(self.around.external_url.clone()), fields)),
            ("", Some(dot)) => Some((dot.clone(), fields)),
            ("" | "$", _) => fields.split_first().and_then(|(first, rest)| Some((of_all(first)?, rest))),
            _ => None,
        };
        thing.ok_or_else(|| match fields.first() {
            Some(field) if matches!(name, "" | "$") => format!("can't evaluate field {field}"),
            _ => format!("undefined variable \"{name}\""),
        })
    }
}

/// A field of a map; one that is missing is an empty text, as with labels.
fn field(thing: Thing, fields: &[String]) -> Result<Thing, String> {
    let [name, rest @ ..] = fields else { return Ok(thing) };
    match thing {
        Thing::Map(map) => field(Thing::Text(map.get(name).cloned().unwrap_or_default()), rest),
        other => Err(format!("can't evaluate field {name} of {}", other.shown())),
    }
}
