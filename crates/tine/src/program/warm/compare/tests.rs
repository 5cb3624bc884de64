//! Answers of programs.

use super::*;

const TEMPLATE: i32 = 4711;

fn known() -> Known {
    let token = |names, text: &str| Token { names, is_short: text.len() < 8, bytes: text.into() };
    Known {
        template: TEMPLATE,
        tokens: vec![
            token(&["TCPREMOTEIP", "REMOTE_HOST"], "2001:db8:1111:2222:3333:4444:5555:6666"),
            token(&["TCPREMOTEPORT"], "51234"),
        ],
        names: vec!["TCPREMOTEIP".into(), "TCPREMOTEPORT".into()],
    }
}

fn compared(cold: [&str; 2], warm: [&str; 2]) -> Comparison {
    compare_answers(cold.map(str::as_bytes), warm.map(str::as_bytes), &known())
}

/// The findings, short: kind, range, what was found, cause.
fn short(comparison: &Comparison) -> Vec<String> {
    let one = |finding: &Finding| {
        let kind = if finding.kind == FindingKind::Same { "same" } else { "differs" };
        let cause = match &finding.cause {
            Cause::TemplateId => " pid".to_owned(),
            Cause::Variables(names) => format!(" {}", names.join("+")),
            Cause::Unknown => String::new(),
        };
        let (range, found) = (&finding.range, String::from_utf8_lossy(&finding.found));
        format!("{kind} {}-{} {found}{cause}", range.start, range.end)
    };
    comparison.findings.iter().map(one).collect()
}

#[test]
fn words_are_compared_by_what_the_executions_say() {
    for (cold, warm, unique, findings) in [
        (["hello\n"; 2], ["hello\n"; 2], 0, &[][..]),
        ([""; 2], [""; 2], 0, &[]),
        // Ports and ids of their own.
        (["port 1 id 7", "port 2 id 8"], ["port 3 id 9", "port 4 id 10"], 2, &[]),
        // A copy sees something else.
        (["hello\n"; 2], ["hello\n", "hallo\n"], 0, &["differs 0-5 hallo"]),
        (["a, b"; 2], ["a; b"; 2], 0, &["differs 1-3 ; "]),
        // The second one has no answer: an offset of a file that is shared.
        (["one\ntwo\n"; 2], ["one\ntwo\n", ""], 0, &["differs 0-0 "]),
        (["one\n"; 2], ["one\ntwo\n", "one\n"], 0, &["differs 4-7 two"]),
        // A generator that was seeded before.
        (["n 12\n", "n 34\n"], ["n 56\n"; 2], 0, &["same 2-4 56"]),
        (["0.12\n", "0.34\n"], ["0.56\n"; 2], 0, &["same 2-4 56"]),
        (["1.12 x", "2.34 x"], ["3.56 x"; 2], 0, &["same 0-4 3.56"]),
        (["1 2", "3 4"], ["5 6", "5 7"], 1, &["same 0-1 5"]),
        // The process id of the template.
        (["id 10", "id 11"], ["id 4711"; 2], 0, &["same 3-7 4711 pid"]),
        (["id 10 5", "id 11 6"], ["id 4711 7"; 2], 0, &["same 3-7 4711 pid", "same 8-9 7"]),
        // A variable that was not renewed.
        (["at 10", "at 11"], ["at 51234"; 2], 0, &["same 3-8 51234 TCPREMOTEPORT"]),
        (
            ["from 127.0.0.1 on"; 2],
            ["from 2001:db8:1111:2222:3333:4444:5555:6666 on"; 2],
            0,
            &["differs 5-43 2001:db8:1111:2222:3333:4444:5555:6666 TCPREMOTEIP"],
        ),
    ] {
        let comparison = compared(cold, warm);
        assert_eq!(short(&comparison), findings, "{cold:?} {warm:?}");
        assert_eq!((comparison.unique, comparison.compared_to), (unique, None), "{cold:?} {warm:?}");
    }
}

#[test]
fn answers_of_executions_that_differ_in_length_are_compared_in_part() {
    for (cold, warm, compared_to, findings) in [
        (["id 1 a", "id 2 a b"], ["id 3 a d", "id 4 a"], 6, &[][..]),
        (["x\n- 1", "x\n+ 1 2"], ["y\n- 1", "y\n- 2"], 1, &["differs 0-1 y"]),
        // As a whole.
        (["a-b c", "a+b"], ["a=b"; 2], 1, &["same 1-3 =b"]),
        (["id 1-2", "id 2"], ["id 4711"; 2], 7, &["same 3-7 4711 pid"]),
    ] {
        let comparison = compared(cold, warm);
        assert_eq!(short(&comparison), findings, "{cold:?} {warm:?}");
        assert_eq!(comparison.compared_to, Some(compared_to), "{cold:?} {warm:?}");
    }
}

#[test]
fn what_was_found_once_is_not_confirmed() {
    for (first, second, confirmed) in [
        // The second has passed between the copies and the executions.
        ((["9 s 1", "9 s 2"], ["8 s 7"; 2]), (["9 s 3", "9 s 4"], ["9 s 7"; 2]), &["same 4-5 7"][..]),
        // A die: the executions, or the copies, have met by chance.
        ((["dice 2"; 2], ["dice 5"; 2]), (["dice 3"; 2], ["dice 1", "dice 4"]), &[]),
        ((["dice 2", "dice 3"], ["dice 5"; 2]), (["dice 1", "dice 6"], ["dice 4"; 2]), &[]),
        // An offset of a file that the copies share.
        ((["one"; 2], ["one", "two"]), (["one"; 2], ["three", "four"]), &["differs 0-3 two"]),
        // The template has kept a minute, which has passed meanwhile.
        ((["8 h 15"; 2], ["8 h 14"; 2]), (["8 h 16"; 2], ["8 h 14"; 2]), &["differs 4-6 14"]),
    ] {
        let [found, again] = [first, second].map(|(cold, warm)| compared(cold, warm));
        assert!(!found.findings.is_empty());
        assert_eq!(short(&found.confirmed_by(&again)), confirmed, "{first:?} {second:?}");
    }
}

#[test]
fn ends_are_compared() {
    use AnswerEnd::{Closed, Limit, Time};
    let end = |how, answer_end| RunOutcome { answer: b"x".into(), how, answer_end };
    let exited = |code| end(Some(How::Exited(code)), Closed);
    let killed = end(Some(How::Signaled(9)), Closed);
    let hangs = end(None, Time);
    let left = end(Some(How::Exited(0)), Time);
    let text = |cold: [&RunOutcome; 2], warm: [&RunOutcome; 2]| match compare_ends(cold, warm) {
        EndComparison::Same(end) => format!("all {end}"),
        EndComparison::Differs(copy, cold) => format!("{copy}, not {cold}"),
        EndComparison::Undecided(one, other) => format!("{one} or {other}"),
        EndComparison::Cut => "cut".to_owned(),
    };
    for (cold, warm, expected) in [
        ([&exited(0); 2], [&exited(0); 2], "all exited with code 0"),
        ([&exited(0); 2], [&exited(0), &exited(3)], "exited with code 3, not exited with code 0"),
        ([&exited(0); 2], [&killed, &exited(0)], "ended by signal 9, not exited with code 0"),
        ([&exited(0), &exited(1)], [&exited(2); 2], "exited with code 0 or exited with code 1"),
        ([&hangs; 2], [&hangs; 2], "all had not ended within the time"),
        (
            [&exited(0); 2],
            [&left; 2],
            "exited with code 0, with its connection left open, not exited with code 0",
        ),
        ([&exited(0); 2], [&exited(0), &end(Some(How::Signaled(13)), Limit)], "cut"),
    ] {
        assert_eq!(text(cold, warm), expected);
    }
}
