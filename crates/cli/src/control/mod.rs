//! The commands that watch and steer a running server, over its control socket.

pub(crate) mod crashes;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod proc;
pub(crate) mod replace;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod steer;
mod target;
pub(crate) mod text;
pub(crate) mod top;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;

/// The time that a server has for the next line of a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request, and hands each line of the reply to `each`. Returns the count in the last line.
///
/// # Errors
/// The request is not carried out, with the reason and the exit code that the server gives.
fn ask(
    mut stream: UnixStream,
    request: &Value,
    mut each: impl FnMut(&str) -> Result<(), Error>,
) -> Result<u64, Error> {
    if !takes_any_time(request) {
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(|why| cannot_talk(&why))?;
    }
    send(&mut stream, request)?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).map_err(|why| cannot_talk(&why))? == 0 {
            return Err(Error::unavailable("the server has ended", "start it again"));
        }
        // Only the last line has no type. In a text the quotes would be escaped.
        if line.contains("\"type\":") {
            each(line.trim_end())?;
        } else {
            return last(&line);
        }
    }
}

/// Whether the reply comes when connections have ended, which can take any time, or when the server
/// is replaced, for which it has a timeout of its own.
fn takes_any_time(request: &Value) -> bool {
    let command = request["command"].as_str();
    matches!(command, Some("kill" | "drain" | "reload" | "upgrade")) || request["kill"] == true
}

/// Sends a request.
fn send(stream: &mut UnixStream, request: &Value) -> Result<(), Error> {
    match stream.write_all(format!("{request}\n").as_bytes()) {
        // It may have said why before it closed the connection.
        Err(why) if why.kind() != ErrorKind::BrokenPipe => Err(cannot_talk(&why)),
        _ => Ok(()),
    }
}

fn cannot_talk(why: &std::io::Error) -> Error {
    match why.kind() {
        ErrorKind::WouldBlock => Error::unavailable(
            format_args!("the server has not answered for {}s", REPLY_TIMEOUT.as_secs()),
            "look whether its supervisor is stopped (state T in `ps`): it answers once it continues",
        ),
        _ => Error::system("cannot talk to the server", why, "look whether it still runs (`tine status`)"),
    }
}

/// The meaning of the last line of a reply.
fn last(line: &str) -> Result<u64, Error> {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    if value["done"] == true {
        return Ok(value["count"].as_u64().unwrap_or(0));
    }
    let why = value["error"].as_str().unwrap_or("it sent what is no reply");
    let next = "`tine COMMAND --help` says what is possible";
    Err(match value["code"].as_u64() {
        Some(100) => Error::usage(why, next),
        _ => Error::unavailable(why, "`tine status` shows the server, its log what it did"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_ends_connections_or_replaces_the_server_can_take_any_time() {
        for (request, waits) in [
            (json!({ "command": "status" }), false),
            (json!({ "command": "ban", "peer": "::/0" }), false),
            (json!({ "command": "ban", "peer": "::/0", "kill": true }), true),
            (json!({ "command": "kill", "ids": [1] }), true),
            (json!({ "command": "drain" }), true),
            (json!({ "command": "upgrade" }), true),
        ] {
            assert_eq!(takes_any_time(&request), waits, "{request}");
        }
    }

    #[test]
    fn the_last_line_has_count_or_error() {
        for (line, code) in [
            (r#"{"count":3,"done":true}"#, Ok(3)),
            (r#"{"code":100,"error":"no"}"#, Err(100)),
            (r#"{"code":111,"error":"no"}"#, Err(111)),
            ("nonsense", Err(111)),
        ] {
            assert_eq!(last(line).map_err(|error| error.exit_code()), code, "{line}");
        }
    }
}
