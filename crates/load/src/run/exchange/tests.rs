//! Tests of exchanges: the bytes sent, and the check of replies.

use super::*;
use crate::plan::Close;
use crate::plan::text::Template;

fn script(message: Message, expect: &str) -> Script {
    Script {
        message,
        expect: expect.parse().expect(expect),
        exchanges: None,
        think: 0,
        pace: None,
        stays: false,
        counts_server_close: false,
        half_closes: false,
        checks_end: false,
        accepts_open_end: false,
        is_cut: false,
        close: Close::FinClient,
        from_connect: false,
        is_progress_timed: false,
        no_delay: false,
    }
}

fn text(text: &str) -> Message {
    Message::Text(text.as_bytes().to_vec())
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("a template")
}

fn series(count: Option<u64>, expect: &str) -> Script {
    script(Message::Series { template: template("m{n};"), every: 1, count }, expect)
}

fn begun(script: &Script) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.begin(script, 0, 0);
    exchange
}

fn send_all(exchange: &mut Exchange, script: &Script, length: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    while exchange.left() > 0 {
        let mut buffer = vec![0; length];
        let bytes = exchange.next_bytes(script, Pattern::new(1), &mut buffer).to_vec();
        exchange.sent += bytes.len() as u64;
        sent.extend(bytes);
    }
    sent
}

fn check(exchange: &mut Exchange, script: &Script, reply: &[u8]) -> ReplyCheck {
    exchange.check(script, Pattern::new(1), reply, &mut Vec::new())
}

#[test]
fn exchanges_of_a_connection_continue_its_stream() {
    let pattern = Pattern::new(1);
    for length in [1, 3, 64] {
        let script = script(Message::Pattern(20), "echo");
        let mut exchange = Exchange::default();
        let mut sent = Vec::new();
        for n in 0..3 {
            exchange.begin(&script, 7, n);
            let part = send_all(&mut exchange, &script, length);
            assert_eq!(check(&mut exchange, &script, &part), ReplyCheck::Correct);
            assert!(exchange.is_complete());
            sent.extend(part);
        }
        let mut whole = vec![0; 60];
        pattern.fill(7, 0, &mut whole);
        assert_eq!(sent, whole);
    }
    let script = script(Message::Template(template("{c}.{n};")), "echo");
    let mut exchange = Exchange::default();
    exchange.begin(&script, 7, 12);
    assert_eq!(send_all(&mut exchange, &script, 2), b"7.12;");
    assert_eq!(check(&mut exchange, &script, b"7.1"), ReplyCheck::Correct);
    assert_eq!(check(&mut exchange, &script, b"3;"), ReplyCheck::Wrong(0));
}

#[test]
fn replies_are_checked_as_they_arrive() {
    use ReplyCheck::{Correct, TooLong, Wrong};
    for (message, expect, replies, checked, complete) in [
        ("ping", "echo", &["ping"][..], Correct, true),
        ("ping", "echo", &["p", "in"], Correct, false),
        ("ping", "echo", &["pi", "ng"], Correct, true),
        ("ping", "echo", &["po"], Wrong(1), false),
        ("ping", "echo", &["ping", "p"], TooLong, true),
        ("ping", "PONG", &["PO", "NG"], Correct, true),
        ("ping", "PONG", &["PO", "PG"], Wrong(0), false),
        ("ping", "bytes:3", &["ab", "c"], Correct, true),
        ("ping", "bytes:3", &["abcd"], TooLong, true),
        ("ping", "re:b+c", &["ab", "b"], Correct, false),
        ("ping", "re:b+c", &["ab", "bcd"], Correct, true),
        ("ping", "none", &[], Correct, true),
        ("ping", "none", &["what?"], Correct, true),
        ("ping", "end", &["any", "thing"], Correct, false),
    ] {
        let script = script(text(message), expect);
        let mut exchange = begun(&script);
        send_all(&mut exchange, &script, 64);
        let check = |_, reply: &&str| check(&mut exchange, &script, reply.as_bytes());
        let last = replies.iter().fold(Correct, check);
        assert_eq!((last, exchange.is_complete()), (checked, complete), "{expect} {replies:?}");
    }
}

#[test]
fn an_early_reply_does_not_complete_an_exchange_whose_message_is_not_sent() {
    let script = script(text("ping"), "bytes:2");
    let mut exchange = begun(&script);
    exchange.sent = 1;
    assert_eq!(check(&mut exchange, &script, b"ok"), ReplyCheck::Correct);
    assert!(!exchange.is_complete());
    exchange.sent = 4;
    assert!(exchange.is_complete());
}

#[test]
fn an_end_of_the_stream_completes_some_exchanges_and_cuts_others() {
    for (expect, reply, end) in [
        ("end", "", StreamEnd::Complete),
        ("end", "text", StreamEnd::Complete),
        ("echo", "", StreamEnd::Unanswered),
        ("echo", "pi", StreamEnd::Truncated),
        ("re:x", "pi", StreamEnd::Truncated),
    ] {
        let script = script(text("ping"), expect);
        let mut exchange = begun(&script);
        send_all(&mut exchange, &script, 64);
        check(&mut exchange, &script, reply.as_bytes());
        assert_eq!(exchange.end(&script), end, "{expect} {reply}");
    }
}

#[test]
fn a_series_is_complete_when_its_last_message_is_echoed() {
    let script = series(Some(3), "echo");
    let mut exchange = begun(&script);
    assert_eq!(send_all(&mut exchange, &script, 64), b"m0;");
    exchange.compose(&script);
    assert_eq!(send_all(&mut exchange, &script, 2), b"m1;");
    // Replies may be late and in pieces, and need not end where messages do.
    assert_eq!(check(&mut exchange, &script, b"m0;m"), ReplyCheck::Correct);
    assert!(!exchange.is_last() && !exchange.is_complete());
    exchange.compose(&script);
    assert!(exchange.is_last());
    assert_eq!(check(&mut exchange, &script, b"1;"), ReplyCheck::Correct);
    assert_eq!(send_all(&mut exchange, &script, 64), b"m2;");
    assert!(!exchange.is_complete());
    assert_eq!(exchange.end(&script), StreamEnd::Truncated);
    assert_eq!(check(&mut exchange, &script, b"m2;"), ReplyCheck::Correct);
    assert!(exchange.is_complete());
}

#[test]
fn wrong_and_superfluous_bytes_of_a_series_are_found() {
    for (reply, checked) in
        [(&b"M"[..], ReplyCheck::Wrong(0)), (b"m1", ReplyCheck::Wrong(1)), (b"m0;x", ReplyCheck::TooLong)]
    {
        let script = series(None, "echo");
        let mut exchange = begun(&script);
        send_all(&mut exchange, &script, 64);
        assert_eq!(check(&mut exchange, &script, reply), checked);
    }
}

#[test]
fn an_endless_series_may_end_when_no_echo_is_missing() {
    for (expect, reply, end) in [
        ("none", "", StreamEnd::Complete),
        ("none", "any", StreamEnd::Complete),
        ("echo", "m0;", StreamEnd::Complete),
        ("echo", "m0", StreamEnd::Truncated),
        ("echo", "", StreamEnd::Unanswered),
    ] {
        let script = series(None, expect);
        let mut exchange = begun(&script);
        send_all(&mut exchange, &script, 64);
        check(&mut exchange, &script, reply.as_bytes());
        assert_eq!(exchange.end(&script), end, "{expect} {reply}");
    }
    let script = series(Some(2), "none");
    let mut exchange = begun(&script);
    send_all(&mut exchange, &script, 64);
    assert_eq!(exchange.end(&script), StreamEnd::Unanswered, "a message is missing");
}

#[test]
fn a_long_series_keeps_only_bytes_that_are_not_settled() {
    for (expect, echoes) in [("none", false), ("echo", true)] {
        let script = series(None, expect);
        let mut exchange = begun(&script);
        for _ in 0..1000 {
            let sent = send_all(&mut exchange, &script, 64);
            if echoes {
                assert_eq!(check(&mut exchange, &script, &sent), ReplyCheck::Correct);
            }
            exchange.compose(&script);
        }
        assert!(exchange.composed.len() < 20, "{}", exchange.composed.len());
    }
}
