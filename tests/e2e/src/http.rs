//! Requests to the observer of a server, over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::{Server, TEST_TIMEOUT};

/// What an observer has answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The lines of the header, in lower case.
    pub header: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The value of a metric, with its labels, in the text of Prometheus.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let line = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.split(' ').next()?.parse().ok())
    }
}

/// The address of the observer of a server, from its log.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn observer_of(server: &Server) -> String {
    let line = server.log.wait_for("observe", 1).remove(0);
    line["address"].as_str().expect("an address").to_owned()
}

/// Gets a page.
///
/// # Panics
/// If there is no answer.
#[must_use]
pub fn get(address: &str, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Gets a page with a line of header.
///
/// # Panics
/// If there is no answer.
#[must_use]
pub fn get_with(address: &str, path: &str, line: &str) -> Answer {
    let host = format!("Host: {address}\r\nConnection: close");
    request(address, &format!("GET {path} HTTP/1.1\r\n{host}\r\n{line}\r\n\r\n"))
}

/// Sends a request with some lines of header and a body of JSON.
///
/// # Panics
/// If there is no answer.
#[must_use]
pub fn send(address: &str, method: &str, path: &str, lines: &[&str], body: &str) -> Answer {
    let length = format!("Content-Length: {}", body.len());
    let host = format!("Host: {address}");
    let lines = [&[&host, "Connection: close", &length][..], lines].concat().join("\r\n");
    request(address, &format!("{method} {path} HTTP/1.1\r\n{lines}\r\n\r\n{body}"))
}

/// Sends any bytes, and reads the answer up to the end of the stream.
///
/// # Panics
/// If there is no answer.
#[must_use]
pub fn request(address: &str, text: &str) -> Answer {
    try_request(address, text).unwrap_or_else(|why| panic!("{address}: {why}"))
}

/// The same, where it may be that nobody answers.
///
/// # Errors
/// There is no answer.
pub fn try_request(address: &str, text: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TEST_TIMEOUT))?;
    stream.write_all(text.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let no_answer = || std::io::Error::other(format!("no answer: {text:?}"));
    let (header, body) = text.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = header.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
    Ok(Answer { status, header: header.to_lowercase(), body: body.to_owned() })
}
