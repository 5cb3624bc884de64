//! Unit files, as systemd.syntax(7) describes them.

use std::path::Path;
use std::rc::Rc;

use crate::config::Position;

/// A line of a unit: its section, key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) position: Position,
}

/// A unit with its drop-ins.
#[derive(Debug, Default)]
pub(super) struct Unit {
    assignments: Vec<Assignment>,
}

impl Unit {
    /// Adds the lines of a file: the unit itself, or a drop-in, which comes later.
    pub(super) fn add(&mut self, text: &str, file: &Path) {
        let file: Rc<Path> = Rc::from(file);
        let mut section = String::new();
        for (number, line) in logical_lines(text) {
            let position = Position::new(Rc::clone(&file), number);
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                self.assignments.push(Assignment {
                    section: section.clone(),
                    key: key.trim().to_owned(),
                    value: value.trim().to_owned(),
                    position,
                });
            }
        }
    }

    /// Every assignment of a section that is in force: an empty one resets those of its key before.
    pub(super) fn section(&self, name: &str) -> Vec<&Assignment> {
        let of = self.assignments.iter().filter(|assignment| assignment.section == name);
        let mut kept: Vec<&Assignment> = Vec::new();
        for assignment in of {
            let is_reset = assignment.value.is_empty();
            if is_reset {
                kept.retain(|other| other.key != assignment.key);
            }
            // An empty set of capabilities is one.
            if !is_reset || assignment.key == "CapabilityBoundingSet" {
                kept.push(assignment);
            }
        }
        kept
    }
}

/// The lines of a text, each with the number of its first line. A backslash at the end continues a
/// line; comments within are left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let is_comment = trimmed.starts_with(['#', ';']);
        if is_comment || (trimmed.is_empty() && open.is_none()) {
            continue;
        }
        let (start, before) = open.take().unwrap_or((number + 1, String::new()));
        match trimmed.strip_suffix('\\') {
            Some(part) => open = Some((start, before + part + " ")),
            None => lines.push((start, before + trimmed)),
        }
    }
    lines.extend(open.map(|(start, text)| (start, text.trim().to_owned())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(unit: &Unit, section: &str) -> Vec<String> {
        let lines = unit.section(section).into_iter();
        lines.map(|line| format!("{}:{}={}", line.position, line.key, line.value)).collect()
    }

    #[test]
    fn lines_are_continued_and_comments_left_out() {
        let mut unit = Unit::default();
        unit.add(
            "# comment\n[Socket]\nListenStream = 7\n; more\nBacklog=1\n\n[Service]\nExecStart=/bin/a \\\n# in between\n  b \\\n c\nnonsense\n",
            Path::new("a.socket"),
        );
        assert_eq!(values(&unit, "Socket"), ["a.socket:3:ListenStream=7", "a.socket:5:Backlog=1"]);
        assert_eq!(values(&unit, "Service"), ["a.socket:8:ExecStart=/bin/a  b  c"]);
    }

    #[test]
    fn an_empty_value_resets_those_before() {
        let mut unit = Unit::default();
        unit.add("[Socket]\nListenStream=7\nListenStream=8\n", Path::new("a"));
        unit.add("[Socket]\nListenStream=\nListenStream=9\n", Path::new("b"));
        assert_eq!(values(&unit, "Socket"), ["b:3:ListenStream=9"]);
    }
}
