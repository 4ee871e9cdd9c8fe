//! From the text of a template to its parts.

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Output(Pipe),
    /// `$name := pipe`
    Set(String, Pipe),
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    /// Names of key and value, where they are named.
    Range(Vec<String>, Pipe, Vec<Node>, Vec<Node>),
}

/// Commands, each of which gets the result of the one before as its last argument.
pub(super) type Pipe = Vec<Command>;

/// A function or value, and arguments.
pub(super) type Command = Vec<Term>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Text(String),
    Integer(i64),
    Number(f64),
    Bool(bool),
    Nil,
    /// `.` and `$name`, with the fields after it; the dot has no name.
    Named(String, Vec<String>),
    Function(String),
    Inner(Pipe, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(String),
    Number(String),
    /// `.`, `.a.b`
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    Word(String),
    Sign(&'static str),
}

/// What stands between braces, and the text between.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// The parts of a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        End::Text => Ok(nodes),
        End::Block => Err("unexpected {{end}}".to_owned()),
        End::Else(_) => Err("unexpected {{else}}".to_owned()),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest, mut trims) = (Vec::new(), text, false);
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let before = if trims { before.trim_start() } else { before };
        let starts_trim = after.is_some_and(|after| after.starts_with("- ") || after.starts_with("-\n"));
        let before = if starts_trim { before.trim_end() } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let Some(after) = after else { return Ok(pieces) };
        let after = if starts_trim { &after[1..] } else { after };
        let end = end_of_action(after).ok_or("unclosed action")?;
        let inside = &after[..end];
        rest = &after[end + 2..];
        trims = inside.ends_with(" -") || inside.ends_with("\n-");
        let inside = inside.strip_suffix('-').filter(|_| trims).unwrap_or(inside).trim();
        if inside.starts_with("/*") {
            if !inside.ends_with("*/") {
                return Err("unclosed comment".to_owned());
            }
            continue;
        }
        pieces.push(Piece::Action(tokens(inside)?));
    }
}

/// Where the braces close, outside of quotes.
fn end_of_action(text: &str) -> Option<usize> {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match quote {
            Some(open) => {
                if is_escaped {
                    is_escaped = false;
                } else if letter == '\\' && open != '`' {
                    is_escaped = true;
                } else if letter == open {
                    quote = None;
                }
            }
            None if matches!(letter, '"' | '`' | '\'') && !text.starts_with("/*") => quote = Some(letter),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' | '`' | '\'' => text_token(rest, first)?,
            '(' => (Token::Sign("("), 1),
            ')' => (Token::Sign(")"), 1),
            '|' => (Token::Sign("|"), 1),
            ',' => (Token::Sign(","), 1),
            '=' => (Token::Sign("="), 1),
            ':' if rest.starts_with(":=") => (Token::Sign(":="), 2),
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let length = word_length(rest);
                (Token::Fields(fields(&rest[1..length])), length)
            }
            '$' => {
                let length = word_length(&rest[1..]) + 1;
                let mut parts = rest[1..length].split('.').map(str::to_owned);
                let name = format!("${}", parts.next().unwrap_or_default());
                (Token::Variable(name, parts.filter(|part| !part.is_empty()).collect()), length)
            }
            '0'..='9' | '.' | '-' | '+' => {
                let is_part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'));
                let length = rest[1..].find(is_part).map_or(rest.len(), |at| at + 1);
                (Token::Number(rest[..length].to_owned()), length)
            }
            letter if letter.is_alphabetic() || letter == '_' => {
                let length = word_length(rest);
                (Token::Word(rest[..length].to_owned()), length)
            }
            other => return Err(format!("unexpected {other:?} in {{{{{text}}}}}")),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(text.len())
}

fn fields(text: &str) -> Vec<String> {
    text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn text_token(text: &str, quote: char) -> Result<(Token, usize), String> {
    let (mut value, mut letters) = (String::new(), text.char_indices().skip(1));
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Ok((Token::Text(value), at + 1)),
            '\\' if quote != '`' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => {}
            },
            _ => value.push(letter),
        }
    }
    Err(format!("unterminated quoted string {text}"))
}

enum End {
    Text,
    Block,
    /// What comes after `else`.
    Else(Vec<Token>),
}

/// Blocks within blocks: more than anybody writes.
const DEPTH_MAX: usize = 32;

fn block(pieces: &mut impl Iterator<Item = Piece>, depth: usize) -> Result<(Vec<Node>, End), String> {
    if depth > DEPTH_MAX {
        return Err("too many blocks within each other".to_owned());
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let word = match tokens.first() {
            Some(Token::Word(word)) => word.as_str(),
            _ => "",
        };
        let rest = tokens.get(1..).unwrap_or_default();
        match word {
            "end" => return Ok((nodes, End::Block)),
            "else" => return Ok((nodes, End::Else(rest.to_vec()))),
            "if" => nodes.push(if_block(pipe(rest)?, pieces, depth)?),
            "with" => {
                let (names, condition) = assigned(rest)?;
                let (mut body, end) = block(pieces, depth + 1)?;
                if let Some(name) = names.first() {
                    body.insert(0, Node::Set(name.clone(), vec![vec![Term::Named(String::new(), Vec::new())]]));
                }
                nodes.push(Node::With(condition, body, otherwise(end, pieces, depth)?));
            }
            "range" => {
                let (names, list) = assigned(rest)?;
                let (body, end) = block(pieces, depth + 1)?;
                nodes.push(Node::Range(names, list, body, otherwise(end, pieces, depth)?));
            }
            "define" | "template" | "block" | "break" | "continue" => {
                return Err(format!("{word} is not known in the templates of rules"));
            }
            _ => match assigned(&tokens)? {
                (names, found) if names.is_empty() => nodes.push(Node::Output(found)),
                (mut names, found) if names.len() == 1 => nodes.push(Node::Set(names.remove(0), found)),
                _ => return Err("only range sets two variables".to_owned()),
            },
        }
    }
    if depth > 0 { Err("a block is not closed by {{end}}".to_owned()) } else { Ok((nodes, End::Text)) }
}

fn if_block(condition: Pipe, pieces: &mut impl Iterator<Item = Piece>, depth: usize) -> Result<Node, String> {
    let mut branches = Vec::new();
    let mut condition = condition;
    loop {
        let (body, end) = block(pieces, depth + 1)?;
        branches.push((condition, body));
        match end {
            End::Else(tokens) if matches!(tokens.first(), Some(Token::Word(word)) if word == "if") => {
                condition = pipe(&tokens[1..])?;
            }
            end => return Ok(Node::If(branches, otherwise(end, pieces, depth)?)),
        }
    }
}

fn otherwise(end: End, pieces: &mut impl Iterator<Item = Piece>, depth: usize) -> Result<Vec<Node>, String> {
    match end {
        End::Block => Ok(Vec::new()),
        End::Else(tokens) if tokens.is_empty() => match block(pieces, depth + 1)? {
            (nodes, End::Block) => Ok(nodes),
            _ => Err("{{else}} is not closed by {{end}}".to_owned()),
        },
        End::Else(_) => Err("{{else}} takes if and a condition, or nothing".to_owned()),
        End::Text => Err("a block is not closed by {{end}}".to_owned()),
    }
}

/// `$a, $b := pipe`, or only the pipe.
fn assigned(tokens: &[Token]) -> Result<(Vec<String>, Pipe), String> {
    let Some(at) = tokens.iter().position(|token| matches!(token, Token::Sign(":=" | "="))) else {
        return Ok((Vec::new(), pipe(tokens)?));
    };
    let name = |token: &Token| match token {
        Token::Variable(name, fields) if fields.is_empty() => Some(Ok(name.clone())),
        Token::Sign(",") => None,
        _ => Some(Err("only a variable such as $name can be set".to_owned())),
    };
    let names: Vec<String> = tokens[..at].iter().filter_map(name).collect::<Result<_, _>>()?;
    Ok((names, pipe(&tokens[at + 1..])?))
}

fn pipe(tokens: &[Token]) -> Result<Pipe, String> {
    let mut position = 0;
    let found = pipe_at(tokens, &mut position, 0)?;
    if position < tokens.len() { Err("unexpected )".to_owned()) } else { Ok(found) }
}

fn pipe_at(tokens: &[Token], position: &mut usize, depth: usize) -> Result<Pipe, String> {
    if depth > DEPTH_MAX {
        return Err("too many parentheses within each other".to_owned());
    }
    let (mut commands, mut command) = (Vec::new(), Vec::new());
    while let Some(token) = tokens.get(*position) {
        *position += 1;
        let term = match token {
            Token::Sign("|") => {
                commands.push(std::mem::take(&mut command));
                continue;
            }
            Token::Sign(")") if depth > 0 => {
                *position -= 1;
                break;
            }
            Token::Sign("(") => {
                let inner = pipe_at(tokens, position, depth + 1)?;
                if tokens.get(*position) != Some(&Token::Sign(")")) {
                    return Err("unclosed left paren".to_owned());
                }
                *position += 1;
                let mut after = Vec::new();
                if let Some(Token::Fields(names)) = tokens.get(*position).filter(|_| !inner.is_empty()) {
                    after.clone_from(names);
                    *position += usize::from(!after.is_empty());
                }
                Term::Inner(inner, after)
            }
            Token::Sign(sign) => return Err(format!("unexpected {sign}")),
            Token::Text(text) => Term::Text(text.clone()),
            Token::Number(number) => number_term(number)?,
            Token::Fields(fields) => Term::Named(String::new(), fields.clone()),
            Token::Variable(name, fields) => Term::Named(name.clone(), fields.clone()),
            Token::Word(word) => match word.as_str() {
                "true" => Term::Bool(true),
                "false" => Term::Bool(false),
                "nil" => Term::Nil,
                _ => Term::Function(word.clone()),
            },
        };
        command.push(term);
    }
    commands.push(command);
    if commands.iter().any(Vec::is_empty) { Err("missing value for command".to_owned()) } else { Ok(commands) }
}

fn number_term(text: &str) -> Result<Term, String> {
    let integer = text.parse().map(Term::Integer).ok();
    let number = || text.parse().map(Term::Number).ok();
    integer.or_else(number).ok_or_else(|| format!("bad number syntax: {text:?}"))
}
