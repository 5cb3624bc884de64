//! Compares what two executions of a program have answered with what two copies have.
//!
//! An answer is split into words and what is between them. A word that is the same in both
//! executions has to be the same in both copies; one that differs between the executions (a port,
//! a process id, a random number, a time) has to differ between the copies, too.

use std::fmt;
use std::ops::Range;

use tine_sys::process::How;

use super::placeholder::Token;

/// What the client has seen of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunOutcome {
    pub(super) answer: Vec<u8>,
    pub(super) answer_end: AnswerEnd,
    /// How the process has ended; `None` if it had not within the time.
    pub(super) how: Option<How>,
}

/// Where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerEnd {
    /// The connection was closed.
    Closed,
    /// It is longer: the client has closed the connection.
    Limit,
    /// The time was over.
    Time,
}

/// What is known of the template, to name causes.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its process id.
    pub(super) template: i32,
    /// The values of the variables that it was started with.
    pub(super) tokens: Vec<Token>,
    /// The variables that were set.
    pub(super) names: Vec<String>,
}

/// What the comparison has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) findings: Vec<Finding>,
    /// The places that differ between the executions, and between the copies.
    pub(super) unique: usize,
    /// Where the comparison has ended, as the executions differ in more than words from there on.
    pub(super) compared_to: Option<usize>,
}

/// A place of the answer of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: FindingKind,
    pub(super) cause: Cause,
    /// The number of the word.
    index: usize,
    /// Its bytes.
    pub(super) range: Range<usize>,
    /// What the copy has there, and what the first execution has.
    pub(super) found: Vec<u8>,
    pub(super) expected: Vec<u8>,
}

/// What is wrong with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FindingKind {
    /// A copy has something else than both executions.
    Differs,
    /// Two copies have the same, where two executions differ.
    Same,
}

/// Where the value of a place comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is the process id of the template.
    TemplateId,
    /// It is the value that these variables had in the template.
    Variables(Vec<String>),
    /// It is not known.
    Unknown,
}

/// Compares the answers of two executions with those of two copies.
pub(super) fn compare_answers(cold: [&[u8]; 2], warm: [&[u8]; 2], known: &Known) -> Comparison {
    if cold[0] == cold[1] && warm == cold {
        return Comparison::default();
    }
    let words =
        Words { cold: cold.map(split), warm: warm.map(split), cold_bytes: cold, warm_bytes: warm, known };
    words.compare()
}

impl Comparison {
    /// What was found here and in another comparison of the same program.
    pub(super) fn confirmed_by(mut self, other: &Comparison) -> Comparison {
        self.findings.retain(|finding| other.findings.iter().any(|other| finding.is_confirmed_by(other)));
        self
    }

    /// Whether something was found that words with few values can do by chance.
    pub(super) fn may_be_chance(&self) -> bool {
        self.findings.iter().any(|finding| finding.cause == Cause::Unknown)
    }
}

impl Finding {
    /// Whether it is the same as one of another comparison: if the cause is not known, also in
    /// what the copies have, or what the executions have. Where both change from one comparison to
    /// the next, there is no value that a template could have kept.
    fn is_confirmed_by(&self, other: &Finding) -> bool {
        if (self.kind, &self.cause) != (other.kind, &other.cause) {
            return false;
        }
        let is_kept = match self.kind {
            FindingKind::Differs => self.expected == other.expected || self.found == other.found,
            FindingKind::Same => self.found == other.found,
        };
        self.cause != Cause::Unknown || (self.index == other.index && is_kept)
    }
}

/// The parts of an answer: words, and what is between them. Each byte is in one of them.
fn split(answer: &[u8]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for part in answer.chunk_by(|one, next| is_of_word(*one) == is_of_word(*next)) {
        parts.push(start..start + part.len());
        start += part.len();
    }
    parts
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The answers in parts.
struct Words<'a> {
    cold: [Vec<Range<usize>>; 2],
    warm: [Vec<Range<usize>>; 2],
    cold_bytes: [&'a [u8]; 2],
    warm_bytes: [&'a [u8]; 2],
    known: &'a Known,
}

impl<'a> Words<'a> {
    fn cold(&self, which: usize, index: usize) -> Option<&'a [u8]> {
        Some(&self.cold_bytes[which][self.cold[which].get(index)?.clone()])
    }

    fn warm(&self, which: usize, index: usize) -> Option<&'a [u8]> {
        Some(&self.warm_bytes[which][self.warm[which].get(index)?.clone()])
    }

    fn compare(&self) -> Comparison {
        let mut comparison = Comparison::default();
        // A copy whose answer has another number of words is out of step from its first difference.
        let mut in_step = [true; 2];
        let end = self.end();
        for index in 0..end {
            let (first, second) = (self.cold(0, index), self.cold(1, index));
            let warm = [0, 1].map(|which| self.warm(which, index));
            let mut differs = |which: usize| {
                if in_step[which] {
                    let lengths = [self.cold[0].len(), self.cold[1].len(), self.warm[which].len()];
                    in_step[which] = lengths[0] != lengths[1] || lengths[0] == lengths[2];
                    comparison.note(self.finding(FindingKind::Differs, which, index));
                }
            };
            if first == second {
                // One copy is enough to tell it.
                let other = [0, 1].into_iter().find(|which| warm[*which] != first);
                other.into_iter().for_each(&mut differs);
            } else if warm[0].is_none() || warm[1].is_none() {
                differs(usize::from(warm[0].is_some()));
            } else if warm[0] == warm[1] && in_step == [true; 2] {
                comparison.note(self.finding(FindingKind::Same, 0, index));
            } else {
                comparison.unique += 1;
            }
            if in_step != [true; 2] {
                return comparison;
            }
        }
        if self.cold[0].len() != self.cold[1].len() {
            self.compare_rest(end, &mut comparison);
        }
        comparison
    }

    /// Where the executions differ in the number of words, only what is before the first difference
    /// between words can be compared.
    fn end(&self) -> usize {
        let [first, second] = [0, 1].map(|which| self.cold[which].len());
        if first == second {
            return first.max(self.warm[0].len()).max(self.warm[1].len());
        }
        let is_between = |part: &[u8]| !is_of_word(part[0]);
        let differ = |index: &usize| match (self.cold(0, *index), self.cold(1, *index)) {
            (Some(one), Some(other)) => one != other && (is_between(one) || is_between(other)),
            _ => true,
        };
        (0..first.max(second)).find(differ).unwrap_or(0)
    }

    /// Compares the rest as a whole.
    fn compare_rest(&self, end: usize, comparison: &mut Comparison) {
        let start =
            |parts: &[Range<usize>], bytes: &[u8]| parts.get(end).map_or(bytes.len(), |part| part.start);
        let [one, other] = [0, 1].map(|which| start(&self.warm[which], self.warm_bytes[which]));
        comparison.compared_to = Some(one);
        let rest = &self.warm_bytes[0][one..];
        if rest == &self.warm_bytes[1][other..] && comparison.findings.is_empty() {
            let cold = &self.cold_bytes[0][start(&self.cold[0], self.cold_bytes[0])..];
            comparison.findings.push(Finding {
                kind: FindingKind::Same,
                cause: Cause::Unknown,
                index: end,
                range: one..self.warm_bytes[0].len(),
                found: rest.to_vec(),
                expected: cold.to_vec(),
            });
        }
    }

    fn finding(&self, kind: FindingKind, which: usize, index: usize) -> Finding {
        let bytes = self.warm_bytes[which];
        let mut range = self.warm[which].get(index).cloned().unwrap_or(bytes.len()..bytes.len());
        let (cause, length) = self.cause(&bytes[range.start..], range.len());
        range.end = range.start + length;
        let expected = self.cold(0, index).unwrap_or_default().to_vec();
        Finding { kind, cause, index, found: bytes[range.clone()].to_vec(), range, expected }
    }

    /// The cause of what is at the beginning of these bytes, where a word has this length, and the
    /// length of what is known.
    fn cause(&self, bytes: &[u8], word: usize) -> (Cause, usize) {
        if bytes[..word] == *self.known.template.to_string().as_bytes() {
            return (Cause::TemplateId, word);
        }
        let is_here = |token: &&Token| bytes.starts_with(&token.bytes) && token.bytes.len() >= word;
        match self.known.tokens.iter().find(is_here) {
            Some(token) => {
                let is_set = |name: &&&str| self.known.names.iter().any(|set| set == **name);
                let names = token.names.iter().filter(is_set).map(|name| (*name).to_owned()).collect();
                (Cause::Variables(names), token.bytes.len())
            }
            None => (Cause::Unknown, word),
        }
    }
}

impl Comparison {
    /// Adds a finding, to the one before if they are two halves of one thing.
    fn note(&mut self, finding: Finding) {
        /// As `.` of a number and `-` of a UUID.
        const BETWEEN: usize = 1;
        if let Some(last) = self.findings.last_mut() {
            let is_next = finding.range.start.saturating_sub(last.range.end) <= BETWEEN;
            let are_unknown = last.cause == Cause::Unknown && finding.cause == Cause::Unknown;
            // It is a part of the value of a variable.
            if finding.range.end <= last.range.end && !finding.range.is_empty() {
                return;
            }
            if is_next && are_unknown && last.kind == finding.kind && !finding.range.is_empty() {
                let gap = finding.range.start.saturating_sub(last.range.end);
                let mark = if gap == 0 { &b""[..] } else { b"." };
                last.found.extend([mark, &finding.found].concat());
                last.expected.extend([mark, &finding.expected].concat());
                last.range.end = finding.range.end;
                return;
            }
        }
        self.findings.push(finding);
    }
}

/// How the processes have ended, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EndComparison {
    /// All in this way.
    Same(RunOutcome),
    /// A copy has ended in the first way, the executions in the second.
    Differs(RunOutcome, RunOutcome),
    /// The executions have ended in two ways.
    Undecided(RunOutcome, RunOutcome),
    /// The client has closed the connection first.
    Cut,
}

/// Compares how two executions have ended with how two copies have.
pub(super) fn compare_ends(cold: [&RunOutcome; 2], warm: [&RunOutcome; 2]) -> EndComparison {
    let end = |outcome: &RunOutcome| RunOutcome { answer: Vec::new(), ..outcome.clone() };
    let [cold, warm] = [cold, warm].map(|both| both.map(end));
    let all = || cold.iter().chain(&warm);
    if all().any(|end| end.answer_end == AnswerEnd::Limit) {
        return EndComparison::Cut;
    }
    let [first, second] = cold;
    if first != second {
        return EndComparison::Undecided(first, second);
    }
    match warm.into_iter().find(|end| *end != first) {
        Some(other) => EndComparison::Differs(other, first),
        None => EndComparison::Same(first),
    }
}

/// How a process has ended.
impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            Some(How::Exited(code)) => write!(f, "exited with code {code}"),
            Some(How::Signaled(signal)) => write!(f, "ended by signal {signal}"),
            None => f.write_str("had not ended within the time"),
        }?;
        match self.answer_end {
            AnswerEnd::Time if self.how.is_some() => f.write_str(", with its connection left open"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
