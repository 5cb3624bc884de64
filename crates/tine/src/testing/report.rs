//! What the process of a server tells its test, as lines on standard output: pure text.

use std::net::SocketAddr;

use crate::error::Error;

/// In front of each line, as the test harness writes there, too.
const PREFIX: &str = "tine-testing: ";

/// A report.
#[derive(Debug)]
pub(super) enum Report {
    /// The server listens on these addresses.
    Addresses(Vec<SocketAddr>),
    /// This process is the supervisor, or the master.
    Pid(u32),
    /// The server is ready.
    Ready,
    /// The server has stopped.
    Stopped,
    /// The server could not start, or was not stopped properly.
    Failed(Error),
    /// The process of the server has ended in this way, without one of the last two.
    Ended(String),
}

impl Report {
    /// The line, with its newline.
    pub(super) fn to_line(&self) -> String {
        let text = match self {
            Report::Addresses(addresses) => {
                let addresses = addresses.iter().map(|address| format!(" {address}"));
                format!("addresses{}", addresses.collect::<String>())
            }
            Report::Pid(pid) => format!("pid {pid}"),
            Report::Ready => "ready".to_owned(),
            Report::Stopped => "stopped".to_owned(),
            // Both parts of the message are one line.
            Report::Failed(error) => {
                let message = error.to_message();
                let (kind, text) = message.split_first().unwrap_or((&0, &[]));
                format!("failed {kind} {}", String::from_utf8_lossy(text).replace('\n', "\t"))
            }
            Report::Ended(how) => format!("ended {how}"),
        };
        // The harness may have begun a line.
        format!("\n{PREFIX}{text}\n")
    }

    /// The report in a line without its newline; `None` for another line.
    pub(super) fn parse(line: &str) -> Option<Report> {
        let text = line.strip_prefix(PREFIX)?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "addresses" => Some(Report::Addresses(
                rest.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?,
            )),
            "pid" => rest.parse().ok().map(Report::Pid),
            "ready" => Some(Report::Ready),
            "stopped" => Some(Report::Stopped),
            "failed" => {
                let (kind, text) = rest.split_once(' ')?;
                let message = [&[kind.parse().ok()?], text.replace('\t', "\n").as_bytes()].concat();
                Some(Report::Failed(Error::from_message(&message)))
            }
            "ended" => Some(Report::Ended(rest.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn reports_are_lines_among_those_of_the_harness() {
        let error = Error::new(ErrorKind::Handler, "what\n1", "next; move");
        let text = error.to_string();
        for report in [
            Report::Addresses(Vec::new()),
            Report::Addresses(vec![([127, 0, 0, 1], 80).into(), "[::1]:81".parse().expect("an address")]),
            Report::Pid(4711),
            Report::Ready,
            Report::Stopped,
            Report::Failed(error),
            Report::Ended("signal KILL".into()),
        ] {
            let line = report.to_line();
            let inner = line.strip_prefix('\n').and_then(|line| line.strip_suffix('\n')).expect("a line");
            assert!(!inner.contains('\n'), "{line}");
            let parsed = Report::parse(inner).expect("a report");
            assert_eq!(parsed.to_line(), line);
            if let Report::Failed(error) = parsed {
                assert_eq!((error.kind(), error.to_string()), (ErrorKind::Handler, text.clone()));
            }
        }
        for line in ["", "running 1 test", "tine-testing: ", "tine-testing: pid x", "tine-testing: failed 1"]
        {
            assert!(Report::parse(line).is_none(), "{line}");
        }
    }
}
