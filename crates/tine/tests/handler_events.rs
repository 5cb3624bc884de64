//! Events of `tracing` in a handler: lines of the log, with the connection, escaped and limited.

use std::io::Read;

use tine::testing::TestServer;
use tine::{LogFormat, LogLevel, Server};

fn bind() -> Result<Server, tine::Error> {
    Ok(Server::bind("127.0.0.1:0")?.forkers(1))
}

fn finish(server: TestServer) -> Vec<String> {
    server.connect().read_to_end(&mut Vec::new()).expect("the end");
    server.wait_for_line(|line| line.contains(" end ") || line.contains("\"event\":\"end\""));
    let lines = server.lines();
    server.stop().expect("an orderly stop");
    lines.into_iter().filter(|line| line.contains("handler")).collect()
}

#[test]
fn an_event_has_its_connection_level_target_and_fields() {
    let server = TestServer::start(bind, |connection| {
        tracing::warn!(target: "shop", user = "a\"b\n", n = 3, "no {}", "tea\u{1b}[2J");
        tracing::debug!("a detail");
        let _span = tracing::info_span!("inner", x = 1).entered();
        tracing::info!("plain {}", connection.id());
        Ok(())
    });
    let lines = finish(server.expect("it starts"));
    let [first, second] = &lines[..] else { panic!("{lines:#?}") };
    let expected =
        r#" handler id=1 level=warn target=shop text="no tea\u{1b}[2J" fields="user=\"a\\\"b\\n\" n=3""#;
    assert!(first.ends_with(expected), "{first}");
    let expected = r#" handler id=1 level=info target=handler_events text="plain 1""#;
    assert!(second.ends_with(expected), "{second}");
}

#[test]
fn json_lines_have_details_at_the_verbose_level() {
    let build = || Ok(bind()?.log_format(LogFormat::Json).log_level(LogLevel::Verbose));
    let server = TestServer::start(build, |_| {
        tracing::trace!(target: "t", "{}", "x".repeat(1000));
        Ok(())
    });
    let lines = finish(server.expect("it starts"));
    let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!((line["event"].as_str(), line["level"].as_str()), (Some("handler"), Some("trace")));
    assert_eq!((line["id"].as_u64(), line["target"].as_str()), (Some(1), Some("t")));
    assert_eq!(line["text"].as_str(), Some(&*("x".repeat(253) + "…")));
}

#[test]
fn a_flood_is_counted() {
    let server = TestServer::start(bind, |_| {
        (0..500).for_each(|number| tracing::error!("line {number}"));
        Ok(())
    });
    let lines = finish(server.expect("it starts"));
    let number = |line: &String| line.split_once("suppressed=").map(|(_, number)| number.parse::<u64>());
    let suppressed: u64 = lines.iter().filter_map(number).map(|number| number.expect("a number")).sum();
    let logged = lines.iter().filter(|line| line.contains("level=error")).count();
    assert!(suppressed > 0 && logged >= 20, "{lines:#?}");
    assert_eq!(suppressed + logged as u64, 500);
}
