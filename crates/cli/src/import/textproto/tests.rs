//! Texts and the fields in them.

use super::*;

/// The fields in one line, as they were understood.
fn shown(message: &Message) -> String {
    let fields = message.fields.iter().map(|field| {
        let value = match &field.value {
            Value::Word(word) => word.clone(),
            Value::Number(number) => format!("#{number}"),
            Value::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
            Value::Message(message) => format!("{{{}}}", shown(message)),
        };
        format!("{}={value}", field.name)
    });
    fields.collect::<Vec<_>>().join(" ")
}

#[test]
fn fields_have_names_and_values() {
    for (text, expected) in [
        ("", ""),
        (" # nothing\n\t# more", ""),
        ("a: 1 b: true c: LISTEN", "a=#1 b=true c=LISTEN"),
        ("a: 1; b: 2, c: 3", "a=#1 b=#2 c=#3"),
        ("a:1b:2", "fault 1:3: 1b is no number"),
        ("a { b: 1 } c < d: 2 > e: { }", "a={b=#1} c={d=#2} e={}"),
        ("a { b { c: 1 }; d: 2; }, e: 3", "a={b={c=#1} d=#2} e=#3"),
        ("a: [1, 2] b: [] c [{ d: 1 }, < d: 2 >]", "a=#1 a=#2 c={d=#1} c={d=#2}"),
        ("a: ['x' \"y\", 'z']", "a=\"xy\" a=\"z\""),
        ("a: 'x'\n  # within\n  \"y\"", "a=\"xy\""),
        (
            "a: -1 b: - 2 c: 0x1F d: 017 e: 1.5e-3 f: .5 g: 2f",
            "a=#-1 b=#-2 c=#0x1F d=#017 e=#1.5e-3 f=#.5 g=#2f",
        ),
        ("a_1: 'it\\'s' b: \"\\\"\\\\\\?\"", "a_1=\"it's\" b=\"\\\"\\\\?\""),
        ("a: '\\a\\b\\f\\n\\r\\t\\v'", "a=\"\\u{7}\\u{8}\\u{c}\\n\\r\\t\\u{b}\""),
        ("a: '\\101\\7\\x41\\x9z\\u00e9\\U0001F600'", "a=\"A\\u{7}A\\tz\u{e9}\u{1f600}\""),
        ("a: '\\1234' b: '# no comment'", "a=\"S4\" b=\"# no comment\""),
        ("a: \u{22}\u{e4}\u{22}", "a=\"\u{e4}\""),
        ("a: '\\377'", "a=\"\u{fffd}\""),
    ] {
        let found = match parse(text) {
            Ok(message) => shown(&message),
            Err(fault) => format!("fault {}: {}", fault.at, fault.what),
        };
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn faults_have_a_line_and_a_column() {
    for (text, expected) in [
        ("a", "1:2: the value of a is missing before the end of the file"),
        ("a:\n\nb: 1", "3:2: the name of a field is missing before \":\""),
        ("a 1", "1:3: \":\" after a is missing before the number 1"),
        ("a: 1\n  : 2", "2:3: the name of a field is missing before \":\""),
        ("a: 1;; b: 2", "1:6: the name of a field is missing before \";\""),
        ("a {\n b: 1", "2:6: the name of a field or \"}\" is missing before the end of the file"),
        ("a { b: 1 >", "1:10: the name of a field or \"}\" is missing before \">\""),
        ("a < b: 1 }", "1:10: the name of a field or \">\" is missing before \"}\""),
        ("a: 1 }", "1:6: the name of a field is missing before \"}\""),
        ("a: [1 2]", "1:7: \",\" or \"]\" is missing before the number 2"),
        ("a: [1,]", "1:7: the value of a is missing before \"]\""),
        ("a: [1", "1:6: \",\" or \"]\" is missing before the end of the file"),
        ("a ['x']", "1:4: \":\" after a is missing before a text"),
        ("[ext.name]: 1", "1:1: extensions are not supported"),
        ("a: 'x\n'", "1:4: the text has no quote at its end, on this line"),
        ("a: 'x\"", "1:4: the text has no quote at its end, on this line"),
        ("a: 'x\\q'", "1:6: there is no such escape"),
        ("a: '\\400'", "1:5: the escape is no byte: \\377 is the last one"),
        ("a: '\\xg'", "1:5: the escape \\x has no digits"),
        ("a: '\\u12'", "1:5: the escape \\u is no character"),
        ("a: '\\ud800'", "1:5: the escape \\u is no character"),
        ("a: 09", "1:4: 09 is no number"),
        ("a: 5M", "1:4: 5M is no number"),
        ("a: 0x", "1:4: 0x is no number"),
        ("a: -x", "1:4: a number is missing after \"-\""),
        ("a: 1\nb = 2", "2:3: the character '=' has no meaning here"),
        ("/* c */", "1:1: the character '/' has no meaning here"),
        ("\u{e4}: 1", "1:1: the character '\u{e4}' has no meaning here"),
        ("a: '\u{e4}' 1", "1:8: the name of a field is missing before the number 1"),
    ] {
        let fault = parse(text).expect_err(text);
        assert_eq!(format!("{}: {}", fault.at, fault.what), expected, "{text}");
    }
}

#[test]
fn messages_within_messages_end_somewhere() {
    let nested = |depth: usize| format!("{}{}", "a { ".repeat(depth), "}".repeat(depth));
    parse(&nested(MAX_DEPTH)).expect("not too deep");
    let fault = parse(&nested(MAX_DEPTH + 1)).expect_err("too deep");
    assert_eq!((fault.at.column, fault.what.contains("within each other")), (131, true));
    parse(&nested(100_000)).expect_err("much too deep");
}

#[test]
fn a_field_is_where_its_name_is() {
    let message = parse("a: 1\n\n  b {\n\tc: [1,\n2]\n}").expect("a message");
    let Value::Message(within) = &message.fields[1].value else { panic!("a message") };
    let places: Vec<String> =
        message.fields.iter().chain(&within.fields).map(|field| field.at.to_string()).collect();
    assert_eq!(places, ["1:1", "3:3", "4:2", "4:2"]);
}
