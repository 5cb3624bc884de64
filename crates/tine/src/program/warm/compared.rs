//! What copies of a program were found to do otherwise than executions, as rows for an operator.

use std::time::Duration;

use super::compare::{Cause, Comparison, EndComparison, Finding, FindingKind};
use super::exchange::LONGEST_ANSWER;
use super::options::WarmRow;

/// What was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    /// The number of descriptors of an execution, and what differs in a copy.
    pub(super) descriptors: (usize, Vec<String>),
    pub(super) answers: Comparison,
    /// The length of the answer of the first copy.
    pub(super) bytes: usize,
    pub(super) ends: EndComparison,
    /// The places of the stack canary, which each copy renews.
    pub(super) canaries: usize,
    /// Whether copies can neither trace nor signal the template.
    pub(super) is_protected: bool,
    /// The times of the executions and of the copies.
    pub(super) times: [Vec<Duration>; 2],
}

/// Findings that a row each is written for; more are counted.
const MOST_ROWS: usize = 4;

/// Bytes of an answer that are shown.
const MOST_SHOWN: usize = 40;

impl Compared {
    /// The rows of the report.
    pub(super) fn rows(&self) -> Vec<WarmRow> {
        let mut rows = vec![self.descriptors()];
        rows.extend(self.of_kind(FindingKind::Differs, "answer", self.answer()));
        rows.push(self.exit());
        rows.extend(self.of_kind(FindingKind::Same, "unique", self.unique()));
        rows.push(row(
            "canary",
            "ok",
            match self.canaries {
                0 => "none".to_owned(),
                count => format!("{count} {}, renewed by each copy", plural(count, "place")),
            },
        ));
        rows.push(match self.is_protected {
            true => row("protected", "ok", "copies can neither trace nor signal the template".to_owned()),
            false => row("protected", "-", "copies can signal the template, and trace it if they have its user: that takes Linux 6.12 with Landlock".to_owned()),
        });
        rows.push(self.saves());
        rows
    }

    fn descriptors(&self) -> WarmRow {
        let (count, differences) = &self.descriptors;
        match differences[..] {
            [] => row("copy", "ok", format!("{count} {}, as in an execution", plural(*count, "descriptor"))),
            _ => row(
                "copy",
                "differs",
                format!(
                    "{}: a copy does not begin as an execution does; open it after the client is there",
                    differences.join(", ")
                ),
            ),
        }
    }

    /// A row for each finding of a kind, or this one.
    fn of_kind(&self, kind: FindingKind, aspect: &'static str, ok: String) -> Vec<WarmRow> {
        let mut findings: Vec<&Finding> =
            self.answers.findings.iter().filter(|finding| finding.kind == kind).collect();
        if findings.is_empty() {
            return vec![row(aspect, "ok", ok)];
        }
        // Those whose cause is known come first.
        findings.sort_by_key(|finding| finding.cause == Cause::Unknown);
        let more = findings.len().saturating_sub(MOST_ROWS);
        let mut rows: Vec<WarmRow> = findings
            .into_iter()
            .take(MOST_ROWS)
            .map(|finding| row(aspect, "differs", text(finding)))
            .collect();
        if more > 0 {
            rows.push(row(aspect, "differs", format!("and {more} more {}", plural(more, "place"))));
        }
        rows
    }

    fn answer(&self) -> String {
        let bytes = self.bytes;
        let mut text = match bytes {
            0 => "none, as of two executions (the client sends the file of --input)".to_owned(),
            _ => format!("{bytes} {}, as of two executions", plural(bytes, "byte")),
        };
        if bytes >= LONGEST_ANSWER {
            text.push_str("; it is longer, and was read up to there");
        }
        if let Some(end) = self.answers.compared_to {
            text.push_str(&format!(
                "; compared up to byte {end}, from where on the executions differ in the number of words"
            ));
        }
        text
    }

    fn unique(&self) -> String {
        match self.answers.unique {
            0 => "the executions do not differ".to_owned(),
            count => format!("{count} {} of each execution and of each copy", plural(count, "word")),
        }
    }

    fn exit(&self) -> WarmRow {
        match &self.ends {
            EndComparison::Same(end) => row("exit", "ok", format!("{end}, as two executions")),
            EndComparison::Differs(copy, cold) => row(
                "exit",
                "differs",
                format!(
                    "a copy {copy}, where two executions {cold}: a file, child or lock from before may be missing; get it after the client is there, after ready() of a helper"
                ),
            ),
            EndComparison::Undecided(one, other) => {
                row("exit", "ok", format!("not compared: one execution {one}, another {other}"))
            }
            EndComparison::Cut => row(
                "exit",
                "ok",
                "not compared: the client has closed the connection before the end".to_owned(),
            ),
        }
    }

    fn saves(&self) -> WarmRow {
        let [cold, warm] = self.times.each_ref().map(|times| median(times).as_secs_f64() * 1e3);
        row(
            "saves",
            "-",
            format!(
                "cold {cold:.1} ms, warm {warm:.1} ms from the connect to the end of the answer: one measurement"
            ),
        )
    }
}

fn row(aspect: &'static str, state: &'static str, detail: String) -> WarmRow {
    WarmRow { aspect, state, detail }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// The median; of an even number of times, the mean of the two in the middle.
fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => Duration::ZERO,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => (sorted[middle - 1] + sorted[middle]) / 2,
    }
}

/// What was found, why, and the next move.
fn text(finding: &Finding) -> String {
    let place = match (finding.range.len(), finding.kind) {
        (0, _) => format!("at byte {}, a copy has nothing", finding.range.start),
        (length, kind) => {
            let bytes = match length {
                1 => format!("byte {}", finding.range.start),
                _ => format!("bytes {} to {}", finding.range.start, finding.range.end - 1),
            };
            let whose = if kind == FindingKind::Same { "of two copies" } else { "of a copy" };
            format!("{bytes} {whose} are {}", shown(&finding.found))
        }
    };
    let expected = match (finding.kind, finding.expected.is_empty()) {
        (FindingKind::Same, _) => format!("where two executions differ ({})", shown(&finding.expected)),
        (FindingKind::Differs, true) => "where two executions have nothing".to_owned(),
        (FindingKind::Differs, false) => format!("where two executions have {}", shown(&finding.expected)),
    };
    let why = match (&finding.cause, finding.kind) {
        (Cause::TemplateId, _) => "the process id of the template, which the program has kept ($$ of a shell): ask for it after the client is there, after ready() of a helper, or do not use it where it has to be unique".to_owned(),
        (Cause::Variables(names), _) => format!(
            "the value of {} in the template: read the variable after ready() of a helper for the language, which renews it",
            names.join(", ")
        ),
        (Cause::Unknown, FindingKind::Same) => "random numbers or a time taken at the start: call ready() of a helper, which seeds the generators, or take them after the client is there".to_owned(),
        (Cause::Unknown, FindingKind::Differs) => "something from before the point, which copies share or lose: do it after the client is there, after ready() of a helper".to_owned(),
    };
    format!("{place}, {expected}: {why}")
}

/// Bytes of an answer.
fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(MOST_SHOWN);
    let more = if end < bytes.len() { "…" } else { "" };
    format!("\"{}{more}\"", bytes[..end].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::compare::{AnswerEnd, Known, RunOutcome, compare_answers};
    use super::*;

    fn compared(cold: [&str; 2], warm: [&str; 2]) -> Compared {
        let known = Known { template: 4711, tokens: Vec::new(), names: Vec::new() };
        let answers = compare_answers(cold.map(str::as_bytes), warm.map(str::as_bytes), &known);
        let how = Some(tine_sys::process::How::Exited(0));
        let end = RunOutcome { answer: Vec::new(), answer_end: AnswerEnd::Closed, how };
        Compared {
            descriptors: (3, Vec::new()),
            answers,
            bytes: warm[0].len(),
            ends: EndComparison::Same(end),
            canaries: 7,
            is_protected: true,
            times: [
                vec![Duration::from_millis(12), Duration::from_millis(10)],
                vec![Duration::from_micros(1100)],
            ],
        }
    }

    fn lines(compared: &Compared) -> Vec<String> {
        compared.rows().iter().map(|row| format!("{} {} {}", row.aspect, row.state, row.detail)).collect()
    }

    #[test]
    fn what_is_the_same_has_a_row_each() {
        assert_eq!(
            lines(&compared(["port 1\n", "port 2\n"], ["port 3\n", "port 4\n"])),
            [
                "copy ok 3 descriptors, as in an execution",
                "answer ok 7 bytes, as of two executions",
                "exit ok exited with code 0, as two executions",
                "unique ok 1 word of each execution and of each copy",
                "canary ok 7 places, renewed by each copy",
                "protected ok copies can neither trace nor signal the template",
                "saves - cold 11.0 ms, warm 1.1 ms from the connect to the end of the answer: one measurement",
            ]
        );
        let mut other = compared([""; 2], [""; 2]);
        (other.canaries, other.is_protected) = (0, false);
        let lines = lines(&other);
        assert!(lines[1].contains("of --input") && lines[4] == "canary ok none", "{lines:?}");
        assert!(lines[5].starts_with("protected - copies can signal"), "{lines:?}");
    }

    #[test]
    fn what_differs_has_the_place_both_sides_and_the_next_move() {
        let lines = lines(&compared(["a 1 2 3 4 5 6\n", "b 2 3 4 5 6 7\n"], ["c 4711 9 9 9 9 9\n"; 2]));
        let unique: Vec<_> = lines.iter().filter(|line| line.starts_with("unique differs ")).collect();
        assert!(
            unique[0].starts_with("unique differs bytes 2 to 5 of two copies are \"4711\", where two executions differ (\"1\"): the process id"),
            "{unique:?}"
        );
        let lines = lines_of_difference();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("answer differs bytes 0 to 4 of a copy are \"hallo\", where two executions have \"hello\": something from before"),
            "{lines:?}"
        );
    }

    fn lines_of_difference() -> Vec<String> {
        let all = lines(&compared(["hello"; 2], ["hallo"; 2]));
        all.into_iter().filter(|line| line.contains(" differs ")).collect()
    }

    #[test]
    fn a_median_is_in_the_middle() {
        for (times, expected) in [(&[][..], 0), (&[3], 3), (&[9, 1], 5), (&[9, 1, 2], 2)] {
            let times: Vec<_> = times.iter().map(|time| Duration::from_millis(*time)).collect();
            assert_eq!(median(&times), Duration::from_millis(expected));
        }
    }
}
