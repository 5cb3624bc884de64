//! Crash reports, as the stderr logger passes them: grouped by cause, or one of them in full.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::reply::{Reply, SYSTEM, Wait};
use crate::ipc::messages::{Channel, CrashMessage, ReportsFile, Sender};

/// The time that the stderr logger has to read all reports.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Names of reports that a group has, at most: the newest.
const NAMES: usize = 20;

/// How a control process asks for crash reports. Made before it confines itself, which forbids new
/// sockets.
#[derive(Debug)]
pub(crate) struct CrashQuestions {
    pub(crate) logger: Sender<CrashMessage>,
    pub(crate) reply: Channel<ReportsFile>,
}

/// Answers a request for the groups of reports, or for the report with a name.
///
/// # Errors
/// The controller has gone or does not read, or the server has ended.
pub(super) fn crashes(
    questions: Option<CrashQuestions>,
    name: Option<&str>,
    service: Option<&str>,
    reply: &mut Reply,
) -> io::Result<()> {
    let Some(questions) = questions else {
        return reply.error(SYSTEM, "there are no crash reports: start the server with --crash-dir DIR");
    };
    let Some(text) = read_all(questions, reply)? else {
        return reply.error(SYSTEM, "the crash reports cannot be read; the log of the server may say why");
    };
    let reports = parse(&text, service);
    match name {
        None => {
            let groups = groups(&reports);
            groups.iter().try_for_each(|group| reply.line(group))?;
            reply.done(groups.len() as u64)
        }
        Some(name) => match find(&reports, name) {
            Some(report) => {
                reply.line(&Value::Object(report.clone()))?;
                reply.done(1)
            }
            None => reply.error(SYSTEM, "there is no such crash report; the oldest ones are removed"),
        },
    }
}

/// Asks the stderr logger; `None` if it does not answer.
fn read_all(questions: CrashQuestions, reply: &Reply) -> io::Result<Option<Vec<u8>>> {
    let CrashQuestions { logger, reply: Channel { sender, receiver } } = questions;
    logger.send(sender.as_fd(), &CrashMessage::Query);
    // With that of the logger, the channel ends.
    drop(sender);
    let deadline = Instant::now() + READ_WITHIN;
    loop {
        match receiver.receive() {
            Ok(Some((file, _))) => return read(&file).map(Some),
            Ok(None) => return Ok(None),
            Err(Errno::AGAIN) => {}
            Err(why) => return Err(why.into()),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || reply.wait(&[receiver.as_fd()], left)? == Wait::ServerEnded {
            return Ok(None);
        }
    }
}

/// Reads a file by the calls that a confined process may make.
fn read(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        match rustix::io::read(file, &mut part) {
            Ok(0) => return Ok(all),
            Ok(length) => all.extend_from_slice(&part[..length]),
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

/// The reports in these lines, the newest first. What is none is left out. They are those of this
/// service, whatever they say.
fn parse(text: &[u8], service: Option<&str>) -> Vec<Map<String, Value>> {
    let lines = text.split(|byte| *byte == b'\n').rev();
    let mut reports: Vec<Map<String, Value>> =
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    for report in &mut reports {
        report.insert("type".to_owned(), json!("crash"));
        report.insert("service".to_owned(), json!(service));
    }
    reports
}

/// The groups of reports, that with the newest report first.
fn groups(reports: &[Map<String, Value>]) -> Vec<Value> {
    let mut groups: Vec<(&str, Vec<&Map<String, Value>>)> = Vec::new();
    for report in reports {
        let cause = text(report, "cause");
        match groups.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, members)) => members.push(report),
            None => groups.push((cause, vec![report])),
        }
    }
    groups.iter().map(|(cause, members)| group(cause, members)).collect()
}

fn group(cause: &str, members: &[&Map<String, Value>]) -> Value {
    let of = |report: Option<&&Map<String, Value>>, key: &str| {
        report.and_then(|report| report.get(key)).cloned().unwrap_or_default()
    };
    let (newest, oldest) = (members.first(), members.last());
    let names: Vec<&str> = members.iter().take(NAMES).map(|report| text(report, "name")).collect();
    json!({
        "type": "crash_group",
        "service": of(newest, "service"),
        "cause": cause,
        "count": members.len(),
        "first": of(oldest, "time"),
        "last": of(newest, "time"),
        "program": of(newest, "program"),
        "handler": of(newest, "handler"),
        "panic": of(newest, "panic"),
        "peer": of(newest, "peer"),
        "reports": names,
    })
}

/// The report with a name, or the newest one of a connection.
fn find<'a>(reports: &'a [Map<String, Value>], name: &str) -> Option<&'a Map<String, Value>> {
    let id = name.parse::<u64>().ok();
    reports.iter().find(|report| {
        text(report, "name") == name || (id.is_some() && report.get("id").and_then(Value::as_u64) == id)
    })
}

fn text<'a>(report: &'a Map<String, Value>, key: &str) -> &'a str {
    report.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTS: &str = r#"{"name":"1-1-a","cause":"signal SEGV","id":1,"time":"t1","program":["x"]}
{"name":"2-2-b","cause":"panic","id":2,"time":"t2","service":"other"}
not JSON
{"name":"3-1-a","cause":"signal SEGV","id":1,"time":"t3","program":["x"]}
7
"#;

    #[test]
    fn reports_are_grouped_by_cause() {
        let reports = parse(REPORTS.as_bytes(), Some("git"));
        let groups = groups(&reports);
        let shown: Vec<String> = groups
            .iter()
            .map(|group| {
                format!("{} {} {} {}", group["cause"], group["count"], group["first"], group["reports"])
            })
            .collect();
        assert_eq!(shown, [r#""signal SEGV" 2 "t1" ["3-1-a","1-1-a"]"#, r#""panic" 1 "t2" ["2-2-b"]"#]);
        assert!(groups.iter().all(|group| group["service"] == "git" && group["type"] == "crash_group"));
    }

    #[test]
    fn a_report_has_a_name_and_the_id_of_its_connection() {
        let reports = parse(REPORTS.as_bytes(), None);
        for (name, time) in
            [("1-1-a", Some("t1")), ("1", Some("t3")), ("2", Some("t2")), ("9", None), ("", None)]
        {
            let found = find(&reports, name).map(|report| text(report, "time"));
            assert_eq!(found, time, "{name}");
        }
    }
}
