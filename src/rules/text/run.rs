//! Fills in a template.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::functions;
use super::methods;
use super::parse::{Command, Node, Pipe, Template, Term, VARIABLES};
use super::things::Thing;
use super::{Queries, Sample, Surroundings};
use crate::model::Timestamp;

/// Longest text that a template may become.
const LENGTH_MAX: usize = 64 * 1024;

/// Most parts that are run: ranges within ranges over many samples would go on for ever.
const STEPS_MAX: usize = 100_000;

/// Most queries that one text may ask.
const QUERIES_MAX: usize = 32;

/// Templates that call each other, one in the other.
const CALLS_MAX: usize = 32;

/// What a template is about, and what it can ask.
pub(super) struct Circumstances<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub value: f64,
    pub around: &'a Surroundings,
    pub now: Timestamp,
    pub queries: &'a dyn Queries,
    asked: Cell<usize>,
}

impl<'a> Circumstances<'a> {
    pub fn new(
        labels: &'a BTreeMap<String, String>,
        value: f64,
        around: &'a Surroundings,
        queries: &'a dyn Queries,
    ) -> Self {
        Self { labels, value, around, now: queries.now(), queries, asked: Cell::new(0) }
    }

    pub fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() > QUERIES_MAX {
            return Err(format!("more than {QUERIES_MAX} queries in one text"));
        }
        self.queries.query(expression).map_err(|reason| format!("error calling query: {reason}"))
    }

    /// What a field of all there is stands for.
    fn of_root(&self, field: &str) -> Option<Thing> {
        match field {
            "Labels" => Some(Thing::Map(self.labels.clone())),
            "Value" => Some(Thing::Number(self.value)),
            "ExternalLabels" => Some(Thing::Map(self.around.external_labels.clone())),
            "ExternalURL" => Some(Thing::Text(self.around.external_url.clone())),
            _ => None,
        }
    }
}

/// How a block ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Variables, the dot, and what was written so far.
pub(super) struct Run<'a> {
    template: &'a Template,
    about: &'a Circumstances<'a>,
    variables: Vec<(String, Thing)>,
    dot: Thing,
    calls: usize,
    steps: usize,
    out: String,
}

impl<'a> Run<'a> {
    pub fn new(template: &'a Template, about: &'a Circumstances<'a>) -> Self {
        let fields = ["Labels", "ExternalLabels", "ExternalURL", "Value"].map(|field| about.of_root(field));
        let things = std::iter::once(Thing::Root).chain(fields.into_iter().flatten());
        let variables = VARIABLES.map(str::to_owned).into_iter().zip(things).collect();
        Self { template, about, variables, dot: Thing::Root, calls: 0, steps: 0, out: String::new() }
    }

    pub fn run(mut self) -> Result<String, String> {
        self.block(&self.template.main)?;
        Ok(self.out)
    }

    fn block(&mut self, nodes: &[Node]) -> Result<Flow, String> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(format!("more than {STEPS_MAX} steps: the ranges of the template are too long"));
            }
            flow = self.node(node)?;
            if self.out.len() > LENGTH_MAX {
                return Err(format!("longer than {LENGTH_MAX} bytes"));
            }
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn node(&mut self, node: &Node) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out += text,
            Node::Action(pipe) => {
                let thing = self.set(pipe)?;
                if pipe.names.is_empty() {
                    self.out += &thing.shown();
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If(pipe, body, otherwise) => {
                return self.scoped(|this| {
                    let is_true = this.set(pipe)?.is_true();
                    this.block(if is_true { body } else { otherwise })
                });
            }
            Node::With(pipe, body, otherwise) => {
                return self.scoped(|this| {
                    let thing = this.set(pipe)?;
                    if thing.is_true() { this.with_dot(thing, body) } else { this.block(otherwise) }
                });
            }
            Node::Range(pipe, body, otherwise) => {
                return self.scoped(|this| {
                    let thing = this.pipe(pipe)?;
                    this.range(pipe, thing, body, otherwise)
                });
            }
            Node::Template(name, about) => self.call(name, about.as_ref())?,
        }
        Ok(Flow::On)
    }

    /// Variables that are set meanwhile are gone afterwards.
    fn scoped(&mut self, run: impl FnOnce(&mut Self) -> Result<Flow, String>) -> Result<Flow, String> {
        let known = self.variables.len();
        let flow = run(self);
        self.variables.truncate(known);
        flow
    }

    fn with_dot(&mut self, dot: Thing, body: &[Node]) -> Result<Flow, String> {
        let before = std::mem::replace(&mut self.dot, dot);
        let done = self.block(body);
        self.dot = before;
        done
    }

    fn range(&mut self, pipe: &Pipe, list: Thing, body: &[Node], otherwise: &[Node]) -> Result<Flow, String> {
        let items: Vec<(Thing, Thing)> = match list {
            Thing::Map(map) => map.into_iter().map(|(key, value)| (Thing::Text(key), Thing::Text(value))).collect(),
            Thing::Arguments(map) => map.into_iter().map(|(key, value)| (Thing::Text(key), value)).collect(),
            Thing::Samples(samples) => {
                (0..).zip(samples).map(|(number, sample)| (Thing::Integer(number), Thing::Sample(sample))).collect()
            }
            Thing::Integer(count) => {
                let most = i64::try_from(STEPS_MAX).unwrap_or(i64::MAX);
                (0..count.min(most)).map(|number| (Thing::Integer(number), Thing::Integer(number))).collect()
            }
            Thing::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {}", other.shown())),
        };
        if items.is_empty() {
            return self.block(otherwise);
        }
        let known = self.variables.len();
        for (key, value) in items {
            match pipe.names.as_slice() {
                [] => {}
                [name] => self.give(name, value.clone(), pipe.declares),
                [first, second, ..] => {
                    self.give(first, key, pipe.declares);
                    self.give(second, value.clone(), pipe.declares);
                }
            }
            let flow = self.with_dot(value, body)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// Runs another template: of the variables it knows only what it is about.
    fn call(&mut self, name: &str, about: Option<&Pipe>) -> Result<(), String> {
        let template = self.template;
        let body = template.defined.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
        if self.calls >= CALLS_MAX {
            return Err(format!("template {name:?}: more than {CALLS_MAX} templates call each other"));
        }
        let dot = about.map_or(Ok(Thing::Nil), |pipe| self.pipe(pipe))?;
        let variables = std::mem::replace(&mut self.variables, vec![(VARIABLES[0].to_owned(), dot.clone())]);
        self.calls += 1;
        self.with_dot(dot, body)?;
        self.calls -= 1;
        self.variables = variables;
        Ok(())
    }

    /// What a pipe comes to, which its variable then holds.
    fn set(&mut self, pipe: &Pipe) -> Result<Thing, String> {
        let thing = self.pipe(pipe)?;
        if let Some(name) = pipe.names.first() {
            self.give(name, thing.clone(), pipe.declares);
        }
        Ok(thing)
    }

    fn give(&mut self, name: &str, thing: Thing, declares: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| !declares && known == name) {
            Some((_, known)) => *known = thing,
            None => self.variables.push((name.to_owned(), thing)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe) -> Result<Thing, String> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last)?);
        }
        Ok(last.unwrap_or(Thing::Nil))
    }

    fn command(&mut self, command: &Command, last: Option<Thing>) -> Result<Thing, String> {
        let [first, arguments @ ..] = command.as_slice() else { return Ok(Thing::Nil) };
        // They stop at the first argument that decides.
        if let (Term::Function(name), None) = (first, &last)
            && matches!(name.as_str(), "and" | "or")
            && !arguments.is_empty()
        {
            let mut result = Thing::Nil;
            for argument in arguments {
                result = self.term(argument)?;
                if result.is_true() == (name == "or") {
                    break;
                }
            }
            return Ok(result);
        }
        if arguments.is_empty() && last.is_none() {
            return self.term(first);
        }
        let mut things: Vec<Thing> = arguments.iter().map(|term| self.term(term)).collect::<Result<_, _>>()?;
        things.extend(last);
        match first {
            Term::Function(name) => functions::call(name, &things, self.about),
            Term::Chain(of, fields) => {
                let of = self.term(of)?;
                self.fields(of, fields, &things)
            }
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

    fn term(&mut self, term: &Term) -> Result<Thing, String> {
        Ok(match term {
            Term::Text(text) => Thing::Text(text.clone()),
            Term::Integer(number) => Thing::Integer(*number),
            Term::Number(number) => Thing::Number(*number),
            Term::Bool(is_true) => Thing::Bool(*is_true),
            Term::Nil => Thing::Nil,
            Term::Dot => self.dot.clone(),
            Term::Function(name) => functions::call(name, &[], self.about)?,
            Term::Inner(pipe) => self.pipe(pipe)?,
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, thing)| thing.clone()).ok_or_else(|| format!("undefined variable {name:?}"))?
            }
            Term::Chain(of, fields) => {
                let of = self.term(of)?;
                self.fields(of, fields, &[])?
            }
        })
    }

    /// Fields of a thing one after the other; the last may be a method, with its arguments.
    fn fields(&self, mut thing: Thing, fields: &[String], arguments: &[Thing]) -> Result<Thing, String> {
        for (position, name) in fields.iter().enumerate() {
            let arguments = if position + 1 == fields.len() { arguments } else { &[] };
            thing = self.field(thing, name, arguments)?;
        }
        Ok(thing)
    }

    fn field(&self, thing: Thing, name: &str, arguments: &[Thing]) -> Result<Thing, String> {
        let found = match &thing {
            Thing::Root => self.about.of_root(name),
            // One that is missing is an empty text, as with labels.
            Thing::Map(map) => Some(Thing::Text(map.get(name).cloned().unwrap_or_default())),
            Thing::Arguments(map) => Some(map.get(name).cloned().unwrap_or(Thing::Nil)),
            Thing::Sample(sample) => match name {
                "Labels" => Some(Thing::Map(sample.labels.clone())),
                "Value" => Some(Thing::Number(sample.value)),
                _ => None,
            },
            Thing::Moment(_) | Thing::Span(_) | Thing::Month(_) | Thing::Weekday(_) => {
                return methods::call(&thing, name, arguments);
            }
            Thing::Text(_) | Thing::Number(_) | Thing::Integer(_) | Thing::Bool(_) | Thing::Samples(_) | Thing::Nil => {
                None
            }
        };
        if found.is_some() && !arguments.is_empty() {
            return Err(format!("{name} has arguments but cannot be invoked as function"));
        }
        found.ok_or_else(|| format!("can't evaluate field {name} in type {}", thing.kind()))
    }
}
