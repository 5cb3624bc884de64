//! The part of Rust's syntax that imports are made of: tokens, `use` trees, and paths in code.

/// A token. Comments, strings, numbers and lifetimes are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Separator,
    Mark(char),
}

/// Splits a source into tokens.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let (token, next) = token(&chars, at);
        tokens.extend(token);
        at = next;
    }
    tokens
}

/// Reads the token, comment or space at a position. Returns the token, and the position after it.
fn token(chars: &[char], at: usize) -> (Option<Token>, usize) {
    let is = |offset: usize, wanted: char| chars.get(at + offset) == Some(&wanted);
    match chars[at] {
        '/' if is(1, '/') => (None, find(chars, at, |at| chars[at] == '\n')),
        '/' if is(1, '*') => (None, after_comment(chars, at)),
        '"' => (None, after_string(chars, at)),
        '\'' => (None, after_quote(chars, at)),
        ':' if is(1, ':') => (Some(Token::Separator), at + 2),
        first if first.is_alphanumeric() || first == '_' => {
            let end = find(chars, at, |at| !(chars[at].is_alphanumeric() || chars[at] == '_'));
            let name: String = chars[at..end].iter().collect();
            let hashes = chars[end..].iter().take_while(|one| **one == '#').count();
            let is_literal = ["r", "b", "c", "br", "cr"].contains(&name.as_str());
            match chars.get(end + hashes) {
                Some('"') if is_literal && name.ends_with('r') => {
                    (None, after_raw(chars, end + hashes, hashes))
                }
                Some('"') if is_literal && hashes == 0 => (None, after_string(chars, end)),
                _ if first.is_ascii_digit() => (None, end),
                _ => (Some(Token::Name(name)), end),
            }
        }
        mark if mark.is_whitespace() => (None, at + 1),
        mark => (Some(Token::Mark(mark)), at + 1),
    }
}

fn find(chars: &[char], from: usize, is_end: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|at| is_end(*at)).unwrap_or(chars.len())
}

/// Block comments nest.
fn after_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn after_string(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn after_raw(chars: &[char], quote: usize, hashes: usize) -> usize {
    let closes = |at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take_while(|one| **one == '#').count() >= hashes
    };
    find(chars, quote + 1, closes) + 1 + hashes
}

/// A character literal, or the quote of a lifetime.
fn after_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => find(chars, at + 3, |at| chars[at] == '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Finds the paths that a source imports, from the crate root. `module` is the module of the file;
/// `is_module`: whether a path is a module with a file.
///
/// # Panics
/// If a `#[path]` attribute moves a module elsewhere.
pub(super) fn imports(
    text: &str,
    module: &[String],
    is_module: &dyn Fn(&[String]) -> bool,
) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut reader = Reader { tokens: &tokens, at: 0, module, inline: Vec::new(), depth: 0, is_module };
    let mut found = Vec::new();
    while reader.at < tokens.len() {
        reader.step(&mut found);
    }
    found
}

/// Finds the names of the structs, enums, unions and traits of a source, outside inline modules.
pub(super) fn types(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut reader =
        Reader { tokens: &tokens, at: 0, module: &[], inline: Vec::new(), depth: 0, is_module: &|_| false };
    let mut found = Vec::new();
    while reader.at < tokens.len() {
        if let (Some("struct" | "enum" | "union" | "trait"), Some(name)) = (reader.name(0), reader.name(1))
            && reader.inline.is_empty()
        {
            found.push(name.to_owned());
        }
        reader.step(&mut Vec::new());
    }
    found
}

/// Reads a source from start to end, and knows the inline module it is in.
struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    module: &'a [String],
    /// Names of inline modules, with the depth of braces outside each.
    inline: Vec<(String, usize)>,
    depth: usize,
    is_module: &'a dyn Fn(&[String]) -> bool,
}

impl Reader<'_> {
    fn name(&self, offset: usize) -> Option<&str> {
        match self.tokens.get(self.at + offset) {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn is(&self, offset: usize, mark: char) -> bool {
        self.tokens.get(self.at + offset) == Some(&Token::Mark(mark))
    }

    fn step(&mut self, found: &mut Vec<Vec<String>>) {
        let is_continued = self.at > 0 && self.tokens[self.at - 1] == Token::Separator;
        match (self.name(0).unwrap_or(""), self.name(1)) {
            ("use", _) => {
                self.at += 1;
                let mut trees = Vec::new();
                self.tree(&[], &mut trees);
                found.extend(trees.iter().filter_map(|path| self.resolve(path)));
            }
            ("mod", Some(name)) if self.is(2, '{') => {
                self.inline.push((name.to_owned(), self.depth));
                self.at += 2;
            }
            ("pub", _) if self.is(1, '(') => {
                while self.at < self.tokens.len() && !self.is(0, ')') {
                    self.at += 1;
                }
            }
            ("path", _) if self.at > 1 && self.is(1, '=') => {
                let is_attribute = self.tokens[self.at - 2..self.at] == [Token::Mark('#'), Token::Mark('[')];
                assert!(!is_attribute, "{}: cannot follow #[path]", self.module.join("::"));
                self.at += 1;
            }
            ("", _) => {
                self.braces();
                self.at += 1;
            }
            _ if is_continued => self.at += 1,
            _ => {
                let path = self.path();
                found.extend(self.resolve(&path).filter(|_| path.len() > 1));
            }
        }
    }

    fn braces(&mut self) {
        if self.is(0, '{') {
            self.depth += 1;
        } else if self.is(0, '}') {
            self.depth = self.depth.saturating_sub(1);
            if self.inline.last().is_some_and(|(_, depth)| *depth == self.depth) {
                self.inline.pop();
            }
        }
    }

    /// Reads names with separators between them.
    fn path(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(name) = self.name(0) {
            path.push(name.to_owned());
            self.at += 1;
            match self.tokens.get(self.at..self.at + 2) {
                Some([Token::Separator, Token::Name(_)]) => self.at += 1,
                _ => break,
            }
        }
        path
    }

    /// Reads a `use` tree: `a::b`, `a::{b, c::*}`, `a as b`.
    fn tree(&mut self, before: &[String], found: &mut Vec<Vec<String>>) {
        let (mut path, start) = (before.to_vec(), self.at);
        loop {
            match self.tokens.get(self.at) {
                Some(Token::Name(name)) if name == "as" => self.at += 2,
                Some(Token::Name(name)) => {
                    path.push(name.clone());
                    self.at += 1;
                }
                Some(Token::Separator | Token::Mark('*')) => self.at += 1,
                Some(Token::Mark('{')) => {
                    while !self.is(0, '}') {
                        self.at += 1;
                        self.tree(&path, found);
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
        }
        // Nothing follows the last comma of a list.
        if self.at > start {
            found.push(path);
        }
    }

    /// Makes a path absolute; `None` for paths to other crates and to local names.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let inline: Vec<String> = self.inline.iter().map(|(name, _)| name.clone()).collect();
        let mut base = [self.module, &inline].concat();
        let first = path.first()?;
        let rest = match first.as_str() {
            "crate" => {
                base.clear();
                &path[1..]
            }
            "self" | "super" => {
                let supers = path.iter().skip(usize::from(first == "self"));
                let supers = supers.take_while(|name| *name == "super").count();
                base.truncate(base.len().saturating_sub(supers));
                &path[supers + usize::from(first == "self")..]
            }
            child => {
                // An inline module also sees the child modules of its file, by `use super::*`.
                base = self.module.to_vec();
                let is_child = (self.is_module)(&[self.module, &[child.to_owned()]].concat());
                if !is_child {
                    return None;
                }
                path
            }
        };
        let rest = rest.iter().filter(|name| *name != "self").cloned();
        base.extend(rest);
        Some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_in_use_items_and_in_code_but_not_in_text() {
        for (text, found) in [
            ("use crate::a::b;", &["a::b"][..]),
            ("use crate::{a, b::{self, c as d, *,}, e::f,};", &["a", "b", "b::c", "b", "e::f"]),
            ("pub(in crate::m) use super::x::{Y, Z};", &["x::Y", "x::Z"]),
            ("use std::io; use self::child::A;", &["m::child::A"]),
            ("mod child; use child::B; fn f() { child::g(); other::g(); }", &["m::child::B", "m::child::g"]),
            ("fn f() -> crate::a::T<u8> { super::super::g::<i32>('\\'', 'c') }", &["a::T", "g"]),
            (
                "mod tests { use super::*; use super::super::x; fn f() { self::y() } }",
                &["m", "x", "m::tests::y"],
            ),
            ("// use crate::a;\n/* use crate::b; /* */ crate::c */ /// crate::d\n", &[]),
            ("let x = \"crate::a \\\" crate::b\"; let y = r#\"crate::\"c\"#; let z = b\"crate::d\";", &[]),
            ("impl<'a> X<'a> { fn r(&'a self) { self.a(); Self::b(); x::crate_c::d() } }", &[]),
        ] {
            let module = ["m".to_owned()];
            let is_module = |path: &[String]| path.join("::") == "m::child";
            let paths: Vec<String> =
                imports(text, &module, &is_module).iter().map(|path| path.join("::")).collect();
            assert_eq!(paths, found, "{text}");
        }
    }

    #[test]
    fn types_are_found_outside_inline_modules() {
        let text = "pub struct A<T>(T); enum B { C } pub trait D { type E; } mod tests { struct F; } union G { h: u8 }";
        assert_eq!(types(text), ["A", "B", "D", "G"]);
    }

    #[test]
    #[should_panic(expected = "cannot follow #[path]")]
    fn a_module_with_a_path_attribute_is_rejected() {
        imports("#[path = \"x.rs\"] mod x;", &["m".to_owned()], &|_| false);
    }
}
