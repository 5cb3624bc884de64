//! Variables of a Dockerfile, or of a file with a variable in each line.

use std::collections::HashMap;

/// A name, a value, and the line where it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) line: usize,
}

/// What is wrong, and in which line.
pub(super) type LineFault = (usize, String);

/// The variables that a file sets: the last value of each, in the order of their first lines.
pub(super) fn read(text: &str) -> Result<Vec<Variable>, LineFault> {
    let lines = logical_lines(text)?;
    let is_instruction = |line: &(usize, String)| {
        matches!(instruction(&line.1).0.as_str(), "FROM" | "ENV") && !line.1.contains("ENV=")
    };
    let all = if lines.iter().any(is_instruction) { of_stages(&lines)? } else { of_lines(text)? };
    let mut last: Vec<Variable> = Vec::new();
    for variable in all {
        match last.iter_mut().find(|other| other.name == variable.name) {
            Some(other) => *other = variable,
            None => last.push(variable),
        }
    }
    Ok(last)
}

/// The lines of a Dockerfile: one that ends with a backslash goes on, comments within are left out,
/// and so are texts that an instruction takes from the lines below it (`<<EOF`).
fn logical_lines(text: &str) -> Result<Vec<(usize, String)>, LineFault> {
    let mut logical: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            if logical.is_empty() && comment.trim_start().to_ascii_lowercase().starts_with("escape=") {
                return Err((number, "another character than \\ is the escape".into()));
            }
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        let (start, before) = open.take().unwrap_or((number, String::new()));
        if let Some(part) = trimmed.strip_suffix('\\') {
            open = Some((start, before + part));
            continue;
        }
        let line = before + trimmed;
        if matches!(instruction(&line).0.as_str(), "RUN" | "COPY" | "ADD") {
            for end in ends_of_texts(&line) {
                lines.by_ref().find(|(_, line)| line.trim_start_matches('\t') == end);
            }
        }
        logical.push((start, line));
    }
    logical.extend(open);
    Ok(logical)
}

/// The lines that end the texts which an instruction takes from the lines below it.
fn ends_of_texts(line: &str) -> Vec<String> {
    let after = line.split("<<").skip(1);
    let word = |text: &str| {
        let text = text.trim_start_matches('-').trim_start_matches(['"', '\'']);
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    after.map(word).filter(|word| !word.is_empty()).collect()
}

/// An instruction in capitals, and the rest.
fn instruction(line: &str) -> (String, &str) {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (name.to_ascii_uppercase(), rest.trim())
}

/// The variables of the last stage, and of those that it is made from.
fn of_stages(lines: &[(usize, String)]) -> Result<Vec<Variable>, LineFault> {
    let mut stages: HashMap<String, Vec<Variable>> = HashMap::new();
    let mut name = String::new();
    let mut variables: Vec<Variable> = Vec::new();
    let mut number = 0;
    for (line, text) in lines {
        match instruction(text) {
            (word, rest) if word == "FROM" => {
                stages.insert(name, std::mem::take(&mut variables));
                let words: Vec<&str> =
                    rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
                let base = words.first().copied().unwrap_or_default().to_ascii_lowercase();
                name = match words[..] {
                    [_, r#as, name] if r#as.eq_ignore_ascii_case("as") => name.to_ascii_lowercase(),
                    _ => format!("stage {number}"),
                };
                number += 1;
                variables = stages.get(&base).cloned().unwrap_or_default();
            }
            (word, rest) if word == "ENV" => {
                let set = assignments(rest).map_err(|why| (*line, why))?;
                let variable = |(name, value)| Variable { name, value, line: *line };
                variables.extend(set.into_iter().map(variable));
            }
            _ => {}
        }
    }
    Ok(variables)
}

/// The names and values of an instruction `ENV`: `A=1 B="2 3"`, or `A 1` with one value.
fn assignments(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().ok_or("ENV sets nothing")?;
    if !first.contains('=') {
        let value = text[first.len()..].trim();
        return Ok(vec![(first.to_owned(), unquoted(first, value)?)]);
    }
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| format!("{rest} has no value"))?;
        let end = end_of_word(after);
        found.push((name.to_owned(), unquoted(name, &after[..end])?));
        rest = after[end..].trim_start();
    }
    Ok(found)
}

/// Where a word ends: at a space that is neither quoted nor after a backslash.
fn end_of_word(text: &str) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if quote != Some('\'') => is_escaped = true,
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if c.is_whitespace() && quote.is_none() => return at,
            _ => {}
        }
    }
    text.len()
}

/// A value without its quotes and backslashes.
///
/// # Errors
/// A quote is open; or another variable is in it, and the image reads this one.
fn unquoted(name: &str, text: &str) -> Result<String, String> {
    let is_read = name.starts_with("JAIL_");
    let mut value = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != Some('\'') => value.extend(chars.next()),
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '$' if quote != Some('\'') && is_read => {
                return Err(format!("{text} has a variable: write its value"));
            }
            other => value.push(other),
        }
    }
    match quote {
        Some(_) => Err(format!("{text} has a quote that is not closed")),
        None => Ok(value),
    }
}

/// The variables of a file with one in each line, as Docker and Compose read it.
fn of_lines(text: &str) -> Result<Vec<Variable>, LineFault> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let text = text.strip_prefix("export ").map_or(text, str::trim_start);
        let (name, value) = text.split_once('=').ok_or_else(|| (line, format!("{text} is no NAME=VALUE")))?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err((line, format!("{text} is no NAME=VALUE")));
        }
        let value = unquoted(name, value.trim()).map_err(|why| (line, why))?;
        found.push(Variable { name: name.to_owned(), value, line });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match read(text) {
            Ok(variables) => {
                let all = variables.iter().map(|one| format!("{}:{}={}", one.line, one.name, one.value));
                all.collect::<Vec<_>>().join("|")
            }
            Err((line, why)) => format!("fault {line}: {why}"),
        }
    }

    #[test]
    fn variables_of_a_dockerfile() {
        for (text, expected) in [
            ("FROM a\nENV A=1", "2:A=1"),
            ("FROM a\nenv A 1 2", "2:A=1 2"),
            ("FROM a\nENV A=1 B=\"2 3\" C='4 5' D=6\\ 7", "2:A=1|2:B=2 3|2:C=4 5|2:D=6 7"),
            ("FROM a\nENV A=1 \\\n  # within\n\n    B=2\nENV C=3", "2:A=1|2:B=2|6:C=3"),
            ("FROM a\nENV A=1\nENV B=2\nENV A=3", "4:A=3|3:B=2"),
            ("ENV A=1", "1:A=1"),
            ("FROM a AS first\nENV A=1\nFROM b\nENV B=2", "4:B=2"),
            ("FROM a AS first\nENV A=1\nFROM --platform=x first\nENV B=2", "2:A=1|4:B=2"),
            ("FROM a\nRUN echo \\\n ENV A=1\nRUN x", ""),
            ("FROM a\nRUN <<EOF\nENV A=1\nEOF\nENV B=2", "5:B=2"),
            ("FROM a\nCOPY <<-'E' /x\nENV A=1\n\tE\nENV B=2", "5:B=2"),
            ("FROM a\nENV JAIL_A=$B", "fault 2: $B has a variable: write its value"),
            ("FROM a\nENV JAIL_A='$B' PATH=/x:$PATH", "2:JAIL_A=$B|2:PATH=/x:$PATH"),
            ("FROM a\nENV A=\"1", "fault 2: \"1 has a quote that is not closed"),
            ("FROM a\nENV", "fault 2: ENV sets nothing"),
            ("FROM a\nENV A=1 B", "fault 2: B has no value"),
            ("# escape=`\nFROM a", "fault 1: another character than \\ is the escape"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_of_lines() {
        for (text, expected) in [
            ("", ""),
            ("# comment\n\nA=1\nexport B=\"2 3\"\n C = 4 \nA=5", "6:A=5|4:B=2 3|5:C=4"),
            ("ENV=1\nFROM=2", "1:ENV=1|2:FROM=2"),
            ("A=1=2", "1:A=1=2"),
            ("A", "fault 1: A is no NAME=VALUE"),
            ("\n=1", "fault 2: =1 is no NAME=VALUE"),
            ("A B=1", "fault 1: A B=1 is no NAME=VALUE"),
            ("A=${B}\nJAIL_A=${B}", "fault 2: ${B} has a variable: write its value"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
