//! The words of a run script: the commands of a plain shell script, or the one chain of an execline
//! script. What a shell would do beyond that is refused, never guessed.

/// A command of a script, with the number of its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScriptCommand {
    pub(super) line: usize,
    pub(super) words: Vec<ScriptWord>,
}

/// A word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScriptWord {
    pub(super) text: String,
    /// A part of it was quoted: it is no keyword and no redirection.
    pub(super) is_quoted: bool,
    /// It has variables that the shell replaces: `$NAME` or `${NAME}`.
    pub(super) has_variables: bool,
}

/// The kinds of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Shell,
    Execline,
}

/// Reads a script.
///
/// # Errors
/// The number of the line, and what is not understood there.
pub(super) fn read(text: &str) -> Result<(Language, Vec<ScriptCommand>), (usize, String)> {
    let first = text.lines().next().unwrap_or_default();
    let interpreter = first.strip_prefix("#!").unwrap_or("/bin/sh").trim();
    let program = interpreter.split_whitespace().next().unwrap_or_default();
    let language = match program.rsplit('/').next().unwrap_or_default() {
        "sh" | "dash" | "bash" | "ash" | "ksh" => Language::Shell,
        "execlineb" => Language::Execline,
        other => return Err((1, format!("its interpreter is {other}, neither sh nor execlineb"))),
    };
    let commands = Reader { text, at: 0, line: 1, language }.commands()?;
    Ok((language, commands))
}

/// The text, and how far it is read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    language: Language,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        self.line += usize::from(character == '\n');
        Some(character)
    }

    fn commands(mut self) -> Result<Vec<ScriptCommand>, (usize, String)> {
        let mut commands = Vec::new();
        let mut words: Vec<ScriptWord> = Vec::new();
        let mut start = 1;
        while let Some(character) = self.peek() {
            match character {
                '#' => {
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.next();
                    }
                }
                '\\' if self.text[self.at..].starts_with("\\\n") => {
                    self.next();
                    self.next();
                }
                '\n' | ';' if self.language == Language::Shell => {
                    self.next();
                    if !words.is_empty() {
                        commands.push(ScriptCommand { line: start, words: std::mem::take(&mut words) });
                    }
                }
                space if space.is_whitespace() => _ = self.next(),
                _ => {
                    if words.is_empty() {
                        start = self.line;
                    }
                    words.push(self.word()?);
                }
            }
        }
        if !words.is_empty() {
            commands.push(ScriptCommand { line: start, words });
        }
        Ok(commands)
    }

    fn word(&mut self) -> Result<ScriptWord, (usize, String)> {
        let line = self.line;
        let mut word = ScriptWord::default();
        while let Some(character) = self.peek() {
            match (character, self.language) {
                (end, _) if end.is_whitespace() => break,
                (';', Language::Shell) => break,
                ('"', _) | ('\'', Language::Shell) => {
                    self.next();
                    word.is_quoted = true;
                    self.quoted(character, &mut word.text)?;
                }
                ('\\', _) => {
                    self.next();
                    word.is_quoted = true;
                    word.text.extend(self.next().filter(|next| *next != '\n'));
                }
                ('`' | '*' | '?' | '[' | '~' | '(' | ')' | '{' | '}' | '|' | '<', Language::Shell) => {
                    return Err((line, format!("the shell would interpret {character} there")));
                }
                ('&', Language::Shell) if !word.text.ends_with('>') => {
                    return Err((line, "the shell would run a command in the background".into()));
                }
                ('{' | '}', Language::Execline) => {
                    return Err((line, "it has a block, which only its command understands".into()));
                }
                ('$', Language::Shell) => {
                    word.has_variables = true;
                    self.variable(&mut word.text)?;
                }
                _ => word.text.extend(self.next()),
            }
        }
        match word.is_quoted && word.has_variables {
            true => Err((line, "a word has quotes and a variable: write it in one way".into())),
            false => Ok(word),
        }
    }

    /// Reads `$NAME` or `${NAME}`, which are replaced later.
    fn variable(&mut self, text: &mut String) -> Result<(), (usize, String)> {
        let line = self.line;
        text.extend(self.next());
        if self.peek() == Some('{') {
            while let Some(character) = self.next() {
                text.push(character);
                if character == '}' {
                    return Ok(());
                }
            }
            return Err((line, "a variable is not closed".into()));
        }
        match self.peek() {
            Some(first) if first.is_ascii_alphabetic() || first == '_' => Ok(()),
            _ => Err((line, "the shell would replace a command or a parameter there".into())),
        }
    }

    fn quoted(&mut self, quote: char, text: &mut String) -> Result<(), (usize, String)> {
        let line = self.line;
        loop {
            match self.next() {
                None => return Err((line, "a quote is not closed".into())),
                Some(character) if character == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.next() {
                    Some(same @ ('"' | '\\' | '$' | '`')) => text.push(same),
                    Some('\n') => {}
                    Some(other) if self.language == Language::Shell => text.extend(['\\', other]),
                    Some(other) if other.is_ascii_alphanumeric() => {
                        return Err((line, format!("it has the escape \\{other}: write the character")));
                    }
                    Some(other) => text.push(other),
                    None => return Err((line, "a quote is not closed".into())),
                },
                Some('$' | '`') if quote == '"' && self.language == Language::Shell => {
                    return Err((line, "the shell would replace a variable or a command in quotes".into()));
                }
                Some(character) => text.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let (_, commands) = read(text).expect(text);
        let all = commands.iter().map(|command| {
            let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
            format!("{}: {}", command.line, words.join("|"))
        });
        all.collect()
    }

    #[test]
    fn plain_commands_are_read() {
        for (text, expected) in [
            (
                "#!/bin/sh\nexec 2>&1\n# a comment\nexec a b \\\n  c 'd e' \"f \\\" g\"\n",
                vec!["2: exec|2>&1", "4: exec|a|b|c|d e|f \" g"],
            ),
            ("#!/bin/sh\nA=1; export A\nexec b$A\n", vec!["2: A=1", "2: export|A", "3: exec|b$A"]),
            (
                "#!/command/execlineb -P\nfdmove -c 2 1\ns6-setuidgid nobody\ncat \"a b\"\n",
                vec!["2: fdmove|-c|2|1|s6-setuidgid|nobody|cat|a b"],
            ),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_shell_would_interpret_is_refused_by_line() {
        for (text, line) in [
            ("#!/usr/bin/perl\n", 1),
            ("#!/bin/sh\nexec a | b\n", 2),
            ("#!/bin/sh\n\nexec a `b`\n", 3),
            ("#!/bin/sh\nexec a $(b)\n", 2),
            ("#!/bin/sh\nexec \"$HOME\"\n", 2),
            ("#!/bin/sh\na &\n", 2),
            ("#!/bin/sh\nexec 'a\n", 2),
            ("#!/bin/execlineb\ncat \"a\\nb\"\n", 2),
            ("#!/bin/execlineb\nifelse { a } { b }\n", 2),
        ] {
            assert_eq!(read(text).expect_err(text).0, line, "{text}");
        }
    }
}
