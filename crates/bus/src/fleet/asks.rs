//! Asks the service what an operator of the fleet wants to know, by the control protocol
//! (`docs/control.md`).

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::messages::{Answer, Question};
use crate::messages::write;

/// The time that the service has for a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(2);
/// Rows of a list, and bytes of an answer, at most.
const ROWS: usize = 1_000;
const LONGEST: usize = 512 * 1024;
/// Bytes of a reply that are read, at most: of as many services as a server has.
const LONGEST_REPLY: u64 = 16 << 20;

/// Asks over a socket that the service has the other end of. `answer` has what the link itself
/// says.
pub(super) async fn ask(
    stream: std::os::unix::net::UnixStream,
    question: Question,
    answer: Answer,
) -> Vec<u8> {
    let reply = timeout(REPLY_WITHIN, exchange(stream, question)).await;
    let reply = reply.unwrap_or_else(|_| Err(io::Error::other("it takes too long")));
    write(&match reply {
        Ok(lines) => fit(Answer { answer: lines, ..answer }),
        Err(why) => Answer { error: Some(format!("the server does not reply: {why}")), ..answer },
    })
}

/// The answer without the rows that are too many.
fn fit(mut answer: Answer) -> Answer {
    let all = answer.answer.len();
    let mut bytes = 1_024;
    let fits = |row: &&Value| {
        bytes += row.to_string().len() + 1;
        bytes <= LONGEST
    };
    let fitting = answer.answer.iter().take(ROWS).take_while(fits).count();
    answer.answer.truncate(fitting);
    answer.left_off = (all - fitting) as u64;
    answer
}

async fn exchange(stream: std::os::unix::net::UnixStream, question: Question) -> io::Result<Vec<Value>> {
    let request = match question {
        Question::Status => json!({ "version": 1, "command": "status" }),
        Question::List => json!({ "version": 1, "command": "list", "brief": true }),
    };
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut lines = BufReader::with_capacity(64 * 1024, stream.take(LONGEST_REPLY)).lines();
    let mut reply = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
        match (line.get("type"), line.get("error")) {
            (Some(_), _) => reply.push(line),
            (None, Some(why)) => return Err(io::Error::other(why.as_str().unwrap_or_default())),
            (None, None) => return Ok(reply),
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its reply is not complete"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Write as _};

    use super::*;
    use crate::names::Name;

    fn answer() -> Answer {
        let (node, nodes) = (Name::of("a"), 3);
        Answer {
            node,
            nodes,
            answer: Vec::new(),
            left_off: 0,
            error: None,
            bans: 0,
            pending: 0,
            trouble: None,
        }
    }

    /// Asks a service that replies so.
    fn asked(question: Question, reply: &str) -> (String, Answer) {
        let (own, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let (mut writer, reply) = (theirs.try_clone().expect("a descriptor"), reply.to_owned());
        let service = std::thread::spawn(move || {
            let mut request = String::new();
            io::BufReader::new(theirs).read_line(&mut request).expect("a request");
            writer.write_all(reply.as_bytes()).expect("the link reads");
            request
        });
        let text = crate::connect::runtime().expect("a runtime").block_on(ask(own, question, answer()));
        assert!(text.len() <= LONGEST);
        (service.join().expect("no panic"), serde_json::from_slice(&text).expect("an answer"))
    }

    #[test]
    fn the_reply_of_the_service_is_the_answer() {
        let reply = "{\"type\":\"status\",\"pid\":1}\n{\"count\":1,\"done\":true}\n";
        let (request, answered) = asked(Question::Status, reply);
        assert_eq!(request, "{\"command\":\"status\",\"version\":1}\n");
        assert_eq!(answered, Answer { answer: vec![json!({ "type": "status", "pid": 1 })], ..answer() });
        for (reply, why) in [
            ("{\"code\":111,\"error\":\"no\"}\n", "the server does not reply: no"),
            ("{\"type\":\"status\"}\n", "the server does not reply: its reply is not complete"),
        ] {
            assert_eq!(asked(Question::Status, reply).1, Answer { error: Some(why.into()), ..answer() });
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        for (rows, length, most) in [(5_000, 10, ROWS), (900, 1_000, 600)] {
            let row = json!({ "type": "connection", "peer": "x".repeat(length) });
            let reply = format!("{}{{\"done\":true}}\n", format!("{row}\n").repeat(rows));
            let (_, answered) = asked(Question::List, &reply);
            let kept = answered.answer.len();
            assert!((most / 2..=most).contains(&kept), "{kept}");
            assert_eq!(kept as u64 + answered.left_off, rows as u64);
        }
    }
}
