//! Regular expressions as Go reads them (RE2 syntax, package `regexp/syntax` with Perl flags): those of Prometheus.
//!
//! The `regex` crate is RE2's sibling, but reads some patterns differently: a `{` that is no repetition, `\Q...\E`, octal
//! escapes, `&&`, `--`, `~~` and `[` inside a class, `\d`, `\w`, `\s` and `\b` beyond ASCII, flags that Go does not have.
//! So a pattern is read here as Go reads it, and written out again in the words of the crate. Pure.

mod class;
mod escape;

use std::fmt::Write;

use regex::{Regex, RegexBuilder};

/// Most copies of a part that repetitions may ask for, those within each other multiplied (Go, `regexp/syntax`).
const REPEAT_MAX: u32 = 1000;

/// Groups within each other (Go, `regexp/syntax`, `maxHeight`).
const DEPTH_MAX: usize = 1000;

/// Bytes that a compiled pattern may take.
const SIZE_MAX: usize = 10 << 20;

/// A pattern, ready to match.
#[derive(Debug, Clone)]
pub struct GoRegex {
    regex: Regex,
    /// Names of the groups, from the first on.
    names: Vec<Option<String>>,
}

impl GoRegex {
    /// Reads `pattern`.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Go.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let (translated, names) = translate(pattern)?;
        Ok(Self { regex: compile(pattern, &translated)?, names })
    }

    /// Reads `pattern`, which has to match a text as a whole; `.` matches line breaks too. Matchers and `label_replace`
    /// of Prometheus 3 are so.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Go.
    pub fn whole(pattern: &str) -> Result<Self, String> {
        let (translated, names) = translate(pattern)?;
        Ok(Self { regex: compile(pattern, &format!("^(?s:{translated})$"))?, names })
    }

    /// The pattern in the words of the `regex` crate.
    pub fn into_regex(self) -> Regex {
        self.regex
    }

    /// Whether some part of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// `text` with every match replaced by `template`, in which `$1`, `${1}` and `${name}` stand for groups.
    pub fn replace_all(&self, text: &str, template: &str) -> String {
        let (mut out, mut end) = (String::with_capacity(text.len()), 0);
        for groups in self.regex.captures_iter(text) {
            let Some(whole) = groups.get(0) else { continue };
            out += &text[end..whole.start()];
            self.fill_in(&groups, template, &mut out);
            end = whole.end();
        }
        out + &text[end..]
    }

    /// `template` with the groups of the first match filled in; nothing where `text` does not match.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let groups = self.regex.captures(text)?;
        let mut out = String::new();
        self.fill_in(&groups, template, &mut out);
        Some(out)
    }

    /// As Go's `Regexp.Expand`: `$name` takes as many letters, digits and `_` as there are.
    fn fill_in(&self, groups: &regex::Captures<'_>, template: &str, out: &mut String) {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            match group_name(after) {
                Some((name, behind)) => {
                    out.push_str(self.group(groups, name));
                    rest = behind;
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
    }

    fn group<'t>(&self, groups: &regex::Captures<'t>, name: &str) -> &'t str {
        let found = match name.parse::<usize>() {
            Ok(number) => groups.get(number),
            // Several groups may have one name: that counts which took part.
            Err(_) => {
                let named = (1..).zip(&self.names).filter(|(_, known)| known.as_deref() == Some(name));
                named.filter_map(|(number, _)| groups.get(number)).next()
            }
        };
        found.map_or("", |group| group.as_str())
    }
}

/// The name behind a `$`, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    match text.strip_prefix('{') {
        Some(inside) => {
            let end = inside.find(|letter| !is_of_name(letter))?;
            (end > 0 && inside[end..].starts_with('}')).then(|| (&inside[..end], &inside[end + 1..]))
        }
        None => {
            let end = text.find(|letter| !is_of_name(letter)).unwrap_or(text.len());
            (end > 0).then(|| text.split_at(end))
        }
    }
}

fn compile(pattern: &str, translated: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(translated).size_limit(SIZE_MAX).nest_limit(2 * DEPTH_MAX as u32).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            fault(&format!("expression too large (more than {} MiB)", SIZE_MAX >> 20), pattern)
        }
        _ => fault("not known here", pattern),
    })
}

fn fault(what: &str, part: &str) -> String {
    format!("error parsing regexp: {what}: `{part}`")
}

/// The pattern in the words of the `regex` crate, and the names of its groups.
fn translate(pattern: &str) -> Result<(String, Vec<Option<String>>), String> {
    let mut reader = Reader {
        pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 8),
        flags: String::new(),
        names: Vec::new(),
        open: Vec::new(),
        is_lazy: (false, false),
        copies: 0,
        last: None,
        repeated: None,
    };
    reader.read()?;
    Ok((reader.out, reader.names))
}

struct Reader<'p> {
    pattern: &'p str,
    rest: &'p str,
    out: String,
    /// Flags that count from here on, not written out yet: a repetition behind them is of what stands before them.
    flags: String,
    names: Vec<Option<String>>,
    /// For each group that is open, the most copies of a part so far, and whether repetitions take little.
    open: Vec<(u32, bool)>,
    /// Repetitions take little: what was written out says so, and what counts from here on.
    is_lazy: (bool, bool),
    /// The most copies of a part that repetitions of this group ask for; zero without any part.
    copies: u32,
    /// Copies in the part that a repetition would be of.
    last: Option<u32>,
    /// Where the repetition stands that ended just before.
    repeated: Option<&'p str>,
}

impl<'p> Reader<'p> {
    fn read(&mut self) -> Result<(), String> {
        while let Some(first) = self.rest.chars().next() {
            let (before, repeated) = (self.rest, self.repeated.take());
            match first {
                '\\' => escape::outside(self)?,
                '[' => {
                    let class = class::read(self)?;
                    self.part(&class);
                }
                '(' => self.group()?,
                ')' => self.close()?,
                '|' => {
                    self.step(1);
                    self.write_flags();
                    self.out.push('|');
                    self.last = None;
                }
                '*' | '+' | '?' => {
                    self.step(1);
                    self.repeat(before, &before[..1], None, repeated)?;
                }
                '{' => match bounds(before) {
                    Some((least, most, length)) => {
                        self.step(length);
                        let is_valid = [least, most.unwrap_or(0)].iter().all(|count| *count <= u64::from(REPEAT_MAX))
                            && most.is_none_or(|most| least <= most);
                        if !is_valid {
                            return Err(fault("invalid repeat count", &before[..length]));
                        }
                        let times = most.unwrap_or(least) as u32;
                        self.repeat(before, &before[..length], Some(times), repeated)?;
                    }
                    None => {
                        self.step(1);
                        self.part("\\{");
                    }
                },
                '^' | '$' | '.' => {
                    self.step(1);
                    self.part(first.encode_utf8(&mut [0; 4]));
                }
                letter => {
                    self.step(letter.len_utf8());
                    self.letter(letter);
                }
            }
        }
        if self.open.is_empty() { Ok(()) } else { Err(fault("missing closing )", self.pattern)) }
    }

    fn step(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }

    fn write_flags(&mut self) {
        self.out += &std::mem::take(&mut self.flags);
        self.is_lazy.0 = self.is_lazy.1;
    }

    /// Writes a part that can be repeated.
    fn part(&mut self, written: &str) {
        self.write_flags();
        self.out += written;
        self.last = Some(1);
        self.copies = self.copies.max(1);
    }

    fn letter(&mut self, letter: char) {
        let mut bytes = [0; 4];
        self.part(&regex::escape(letter.encode_utf8(&mut bytes)));
    }

    /// A repetition of what stands before; `before` is the pattern from its sign on.
    fn repeat(
        &mut self,
        before: &'p str,
        sign: &str,
        times: Option<u32>,
        repeated: Option<&'p str>,
    ) -> Result<(), String> {
        let is_turned = self.rest.starts_with('?');
        self.step(usize::from(is_turned));
        let length = |from: &str| from.len() - self.rest.len();
        if let Some(from) = repeated {
            return Err(fault("invalid nested repetition operator", &from[..length(from)]));
        }
        let Some(copies) = self.last else {
            return Err(fault("missing argument to repetition operator", &before[..length(before)]));
        };
        let copies = match times {
            Some(times) if times >= 2 => copies.saturating_mul(times),
            _ => copies,
        };
        if copies > REPEAT_MAX {
            return Err(fault("invalid repeat count", &before[..length(before)]));
        }
        self.out += sign;
        // A flag may count already that is not written out yet.
        let is_turned = is_turned != (self.is_lazy.0 != self.is_lazy.1);
        self.out += if is_turned { "?" } else { "" };
        self.last = Some(copies);
        self.copies = self.copies.max(copies);
        self.repeated = Some(before);
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        let name = match self.rest.strip_prefix("(?P<").or_else(|| self.rest.strip_prefix("(?<")) {
            Some(inside) => {
                let end = inside.find('>').ok_or_else(|| fault("invalid named capture", self.rest))?;
                let name = &inside[..end];
                let whole = &self.rest[..self.rest.len() - inside.len() + end + 1];
                let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                if name.is_empty() || !is_name(name) {
                    return Err(fault("invalid named capture", whole));
                }
                self.step(whole.len());
                Some(name.to_owned())
            }
            _ if self.rest.starts_with("(?") => return self.flag_group(),
            _ => {
                self.step(1);
                None
            }
        };
        self.names.push(name);
        self.begin("(")
    }

    fn begin(&mut self, written: &str) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(fault("expression nests too deeply", self.pattern));
        }
        self.write_flags();
        self.out += written;
        self.open.push((self.copies, self.is_lazy.1));
        (self.copies, self.last) = (0, None);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some((before, is_lazy)) = self.open.pop() else { return Err(fault("unexpected )", self.pattern)) };
        self.step(1);
        // Flags end with their group.
        self.flags.clear();
        self.is_lazy = (is_lazy, is_lazy);
        self.out.push(')');
        let inner = self.copies.max(1);
        self.last = Some(inner);
        self.copies = before.max(inner);
        Ok(())
    }

    /// `(?i)` or `(?i:`.
    fn flag_group(&mut self) -> Result<(), String> {
        let (mut is_off, mut has_flag, mut is_lazy) = (false, false, self.is_lazy.1);
        for (at, letter) in self.rest.char_indices().skip(2) {
            let so_far = &self.rest[..at + letter.len_utf8()];
            let unknown = || fault("invalid or unsupported Perl syntax", so_far);
            match letter {
                'U' => (has_flag, is_lazy) = (true, !is_off),
                'i' | 'm' | 's' => has_flag = true,
                '-' if !is_off => (is_off, has_flag) = (true, false),
                ':' | ')' if is_off && !has_flag => return Err(unknown()),
                ':' => {
                    self.step(so_far.len());
                    self.begin(so_far)?;
                    self.is_lazy = (is_lazy, is_lazy);
                    return Ok(());
                }
                ')' => {
                    self.step(so_far.len());
                    self.is_lazy.1 = is_lazy;
                    if so_far != "(?)" {
                        self.flags += so_far;
                    }
                    return Ok(());
                }
                _ => return Err(unknown()),
            }
        }
        Err(fault("invalid or unsupported Perl syntax", self.rest))
    }
}

/// Least and most of a repetition such as `{2,5}`, and its length; nothing for a brace that is none.
fn bounds(text: &str) -> Option<(u64, Option<u64>, usize)> {
    let end = text[1..].find(|letter: char| !letter.is_ascii_digit() && letter != ',')? + 1;
    if !text[end..].starts_with('}') {
        return None;
    }
    let inside = &text[1..end];
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = is_number && (text.len() == 1 || !text.starts_with('0'));
        is_plain.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (least, most) = match inside.split_once(',') {
        None => (number(inside)?, Some(number(inside)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, inside.len() + 2))
}

/// A character as the crate takes it anywhere, also in a class; surrogates are none.
fn shown(code: u32) -> String {
    let mut out = String::new();
    // Writing into a text cannot fail.
    let _ = write!(out, "\\x{{{code:X}}}");
    out
}

#[cfg(test)]
mod tests;
