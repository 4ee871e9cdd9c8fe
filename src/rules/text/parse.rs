//! From the pieces of a template to its parts. As in Go, names of functions and variables are checked on the way.

use std::collections::BTreeMap;

use super::functions;
use super::lex::{Piece, Token, Word, pieces};

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// Shown, unless it sets a variable.
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    /// Another template, with what it is about.
    Template(String, Option<Pipe>),
    Break,
    Continue,
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    /// Variables that are set; two for a range.
    pub names: Vec<String>,
    /// They are new.
    pub declares: bool,
    pub commands: Vec<Command>,
}

/// A function or value, and arguments.
pub(super) type Command = Vec<Term>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Text(String),
    Integer(i64),
    Number(f64),
    Bool(bool),
    Nil,
    /// `.`
    Dot,
    /// `$name`
    Variable(String),
    Function(String),
    Inner(Pipe),
    /// Fields of something; the last may be a method.
    Chain(Box<Term>, Vec<String>),
}

/// A text with its templates.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Template {
    pub main: Vec<Node>,
    /// Those that it defines by name.
    pub defined: BTreeMap<String, Vec<Node>>,
}

/// Variables that there are at the beginning: the first is all there is.
pub(super) const VARIABLES: [&str; 5] = ["$", "$labels", "$externalLabels", "$externalURL", "$value"];

/// Blocks and parentheses within each other: more than anybody writes.
const DEPTH_MAX: usize = 100;

/// The parts of a template.
pub(super) fn parse(text: &str) -> Result<Template, String> {
    let variables = VARIABLES.map(str::to_owned).to_vec();
    let mut parser =
        Parser { pieces: pieces(text)?.into_iter(), variables, defined: BTreeMap::new(), depth: 0, ranges: 0 };
    let (main, end) = parser.block()?;
    match end {
        End::Text => Ok(Template { main, defined: parser.defined }),
        End::Block => Err("unexpected {{end}}".to_owned()),
        End::Else(_) => Err("unexpected {{else}}".to_owned()),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    variables: Vec<String>,
    defined: BTreeMap<String, Vec<Node>>,
    depth: usize,
    ranges: usize,
}

enum End {
    Text,
    Block,
    /// What comes after `else`.
    Else(Vec<Token>),
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, End), String> {
        if self.depth > DEPTH_MAX {
            return Err("too many blocks within each other".to_owned());
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let (word, rest) = match tokens.split_first() {
                Some((Token { word: Word::Name(name), .. }, rest)) => (name.as_str(), rest),
                Some(_) => ("", &tokens[..]),
                None => return Err("missing value for command".to_owned()),
            };
            match word {
                "end" | "else" => {
                    self.end_of_block(word, rest)?;
                    return Ok((nodes, if word == "end" { End::Block } else { End::Else(rest.to_vec()) }));
                }
                "if" => nodes.push(self.control(word, rest, Node::If)?),
                "with" => nodes.push(self.control(word, rest, Node::With)?),
                "range" => nodes.push(self.control(word, rest, Node::Range)?),
                "define" => self.define(rest)?,
                "template" => nodes.push(self.template(rest)?),
                "block" => nodes.push(self.define_here(rest)?),
                "break" | "continue" if rest.is_empty() => {
                    if self.ranges == 0 {
                        return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                    }
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                _ => nodes.push(Node::Action(self.pipe(&tokens, "command")?)),
            }
        }
        if self.depth > 0 { Err("a block is not closed by {{end}}".to_owned()) } else { Ok((nodes, End::Text)) }
    }

    fn end_of_block(&self, word: &str, rest: &[Token]) -> Result<(), String> {
        let goes_on = matches!(rest.first(), Some(Token { word: Word::Name(name), .. }) if matches!(name.as_str(), "if" | "with"));
        if rest.is_empty() || (word == "else" && goes_on) {
            return Ok(());
        }
        Err(if word == "end" {
            "{{end}} takes nothing beside".to_owned()
        } else {
            "{{else}} takes if or with and a condition, or nothing".to_owned()
        })
    }

    /// `if`, `with` or `range`, up to its end. Variables of its pipe are known in it.
    fn control(
        &mut self,
        word: &str,
        tokens: &[Token],
        node: fn(Pipe, Vec<Node>, Vec<Node>) -> Node,
    ) -> Result<Node, String> {
        let known = self.variables.len();
        let pipe = self.pipe(tokens, word)?;
        if pipe.names.len() > 1 && word != "range" {
            return Err("only range sets two variables".to_owned());
        }
        self.depth += 1;
        self.ranges += usize::from(word == "range");
        let (body, end) = self.block()?;
        self.ranges -= usize::from(word == "range");
        let otherwise = match end {
            End::Block | End::Text => Vec::new(),
            End::Else(rest) => self.otherwise(word, &rest)?,
        };
        self.depth -= 1;
        self.variables.truncate(known);
        Ok(node(pipe, body, otherwise))
    }

    fn otherwise(&mut self, word: &str, rest: &[Token]) -> Result<Vec<Node>, String> {
        match rest.split_first() {
            Some((Token { word: Word::Name(next), .. }, rest)) if next == word && word != "range" => {
                // The end of this block ends that one too.
                let node = if word == "if" { Node::If } else { Node::With };
                Ok(vec![self.control(word, rest, node)?])
            }
            Some(_) => Err(format!("{{{{else}}}} of {{{{{word}}}}} does not go on with that")),
            None => match self.block()? {
                (nodes, End::Block) => Ok(nodes),
                _ => Err("{{else}} is not closed by {{end}}".to_owned()),
            },
        }
    }

    fn define(&mut self, tokens: &[Token]) -> Result<(), String> {
        if self.depth > 0 {
            return Err("{{define}} stands outside of other blocks".to_owned());
        }
        let [Token { word: Word::Text(name), .. }] = tokens else {
            return Err("{{define}} takes a name in quotes".to_owned());
        };
        self.body_of(name.clone())
    }

    /// Reads a template up to its end: it knows none of the variables around it.
    fn body_of(&mut self, name: String) -> Result<(), String> {
        let around = std::mem::replace(&mut self.variables, vec![VARIABLES[0].to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        self.depth += 1;
        let (body, end) = self.block()?;
        self.depth -= 1;
        (self.variables, self.ranges) = (around, ranges);
        if !matches!(end, End::Block) {
            return Err("unexpected {{else}}".to_owned());
        }
        self.defined.insert(name, body);
        Ok(())
    }

    fn template(&mut self, tokens: &[Token]) -> Result<Node, String> {
        let Some((Token { word: Word::Text(name), .. }, rest)) = tokens.split_first() else {
            return Err("{{template}} takes a name in quotes".to_owned());
        };
        let about = if rest.is_empty() { None } else { Some(self.pipe(rest, "template")?) };
        Ok(Node::Template(name.clone(), about))
    }

    /// `block`: a template that is defined where it is used.
    fn define_here(&mut self, tokens: &[Token]) -> Result<Node, String> {
        let node = self.template(tokens)?;
        if let Node::Template(name, _) = &node {
            self.body_of(name.clone())?;
        }
        Ok(node)
    }

    /// `$a, $b := commands`, or only the commands.
    fn pipe(&mut self, tokens: &[Token], of: &str) -> Result<Pipe, String> {
        let assigns = |token: &Token| matches!(token.word, Word::Sign(":=" | "="));
        let Some(at) = tokens.iter().position(assigns) else {
            return Ok(Pipe { names: Vec::new(), declares: false, commands: self.commands(tokens, of)? });
        };
        let name = |token: &Token| match &token.word {
            Word::Variable(name) => Some(Ok(name.clone())),
            Word::Sign(",") => None,
            _ => Some(Err("only a variable such as $name can be set".to_owned())),
        };
        let names: Vec<String> = tokens[..at].iter().filter_map(name).collect::<Result<_, _>>()?;
        if names.is_empty() || names.len() > 2 || (names.len() == 2 && of != "range") {
            return Err("a variable such as $name stands before :=, and only range sets two".to_owned());
        }
        let declares = tokens[at].word == Word::Sign(":=");
        let commands = self.commands(&tokens[at + 1..], of)?;
        if declares {
            self.variables.extend(names.iter().cloned());
        } else {
            names.iter().try_for_each(|name| self.known(name))?;
        }
        Ok(Pipe { names, declares, commands })
    }

    fn known(&self, name: &str) -> Result<(), String> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        let meant = match name {
            "$label" => "; $labels is meant?",
            "$values" | "$val" => "; $value is meant?",
            _ if self.variables.len() == 1 => {
                "; a template that is defined knows only what it is called with: {{template \"name\" .}} and .Labels"
            }
            _ => "",
        };
        Err(format!("undefined variable {name:?}{meant}"))
    }

    fn commands(&self, tokens: &[Token], of: &str) -> Result<Vec<Command>, String> {
        let mut position = 0;
        let found = self.commands_at(tokens, &mut position, 0, of)?;
        if position < tokens.len() { Err("unexpected right paren".to_owned()) } else { Ok(found) }
    }

    fn commands_at(&self, tokens: &[Token], at: &mut usize, depth: usize, of: &str) -> Result<Vec<Command>, String> {
        if depth > DEPTH_MAX {
            return Err("too many parentheses within each other".to_owned());
        }
        let (mut commands, mut command) = (Vec::new(), Vec::new());
        while let Some(token) = tokens.get(*at) {
            match &token.word {
                Word::Sign("|") => {
                    commands.push(std::mem::take(&mut command));
                    *at += 1;
                }
                Word::Sign(")") if depth > 0 => break,
                Word::Sign(")") => return Ok(commands),
                Word::Sign("(") => {
                    *at += 1;
                    let inner = self.commands_at(tokens, at, depth + 1, "parenthesized pipeline")?;
                    if tokens.get(*at).is_none_or(|token| token.word != Word::Sign(")")) {
                        return Err("unclosed left paren".to_owned());
                    }
                    *at += 1;
                    let pipe = Pipe { names: Vec::new(), declares: false, commands: inner };
                    command.push(chained(Term::Inner(pipe), tokens, at)?);
                }
                word => {
                    let term = self.term(word)?;
                    *at += 1;
                    command.push(chained(term, tokens, at)?);
                }
            }
        }
        // Nothing behind the last sign of a pipe is as if that were not there.
        if !command.is_empty() || commands.is_empty() {
            commands.push(command);
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(if commands.len() == 1 {
                format!("missing value for {of}")
            } else {
                "missing value for command".to_owned()
            });
        }
        if commands.iter().any(|command| command[0] == Term::Nil) {
            return Err("nil is not a command".to_owned());
        }
        match commands.iter().skip(1).position(|command| is_constant(&command[0])) {
            Some(stage) => Err(format!("non executable command in pipeline stage {}", stage + 2)),
            None => Ok(commands),
        }
    }

    fn term(&self, word: &Word) -> Result<Term, String> {
        Ok(match word {
            Word::Text(text) => Term::Text(text.clone()),
            Word::Integer(number) => Term::Integer(*number),
            Word::Number(number) => Term::Number(*number),
            Word::Fields(fields) if fields.is_empty() => Term::Dot,
            Word::Fields(fields) => Term::Chain(Box::new(Term::Dot), fields.clone()),
            Word::Variable(name) => {
                self.known(name)?;
                Term::Variable(name.clone())
            }
            Word::Name(name) => match name.as_str() {
                "true" => Term::Bool(true),
                "false" => Term::Bool(false),
                "nil" => Term::Nil,
                _ => {
                    functions::known(name)?;
                    Term::Function(name.clone())
                }
            },
            Word::Sign(sign) => return Err(format!("unexpected {sign}")),
        })
    }
}

/// A term with the fields that stand right behind it.
fn chained(term: Term, tokens: &[Token], at: &mut usize) -> Result<Term, String> {
    let Some(Token { word: Word::Fields(fields), is_apart: false }) = tokens.get(*at) else { return Ok(term) };
    if fields.is_empty() || is_constant(&term) {
        return Err("unexpected . behind a term".to_owned());
    }
    *at += 1;
    Ok(match term {
        Term::Chain(of, mut before) => {
            before.extend(fields.iter().cloned());
            Term::Chain(of, before)
        }
        term => Term::Chain(Box::new(term), fields.clone()),
    })
}

/// What cannot take what comes through a pipe.
fn is_constant(term: &Term) -> bool {
    match term {
        Term::Text(_) | Term::Integer(_) | Term::Number(_) | Term::Bool(_) | Term::Nil | Term::Dot => true,
        Term::Variable(_) | Term::Function(_) | Term::Inner(_) | Term::Chain(..) => false,
    }
}
