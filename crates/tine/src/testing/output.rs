//! What the process of a server has transcript, as its test reads it.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{ChildStderr, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::report::Report;
use crate::error::Error;

/// How long a test waits for anything, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines and reports, which two threads read as they come.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Arc<(Mutex<Transcript>, Condvar)>);

#[derive(Debug, Default)]
struct Transcript {
    /// Standard error: the log, and what handlers print.
    lines: Vec<String>,
    /// Standard output, without the reports.
    others: Vec<String>,
    addresses: Vec<SocketAddr>,
    pid: Option<u32>,
    is_ready: bool,
    result: Option<Result<(), Error>>,
    /// How the process ended, without a result.
    ended: Option<String>,
    /// How many of the two have ended.
    closed: usize,
}

impl Output {
    pub(super) fn read(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> Output {
        let output = Output::default();
        output.read_in_thread(stdout, |transcript, line| match Report::parse(&line) {
            Some(report) => transcript.note(report),
            None => transcript.others.push(line),
        });
        output.read_in_thread(stderr, |transcript, line| transcript.lines.push(line));
        output
    }

    fn read_in_thread<R>(
        &self,
        pipe: Option<R>,
        mut note: impl FnMut(&mut Transcript, String) + Send + 'static,
    ) where
        R: Read + Send + 'static,
    {
        let output = self.clone();
        let mut pipe = BufReader::new(pipe.unwrap_or_else(|| unreachable!("it is piped")));
        let read = move || {
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line);
                note(&mut output.transcript(), text.trim_end_matches('\n').to_owned());
                output.0.1.notify_all();
                line.clear();
            }
            output.transcript().closed += 1;
            output.0.1.notify_all();
        };
        #[expect(clippy::disallowed_methods, reason = "the process of the test forks no connection")]
        let started = std::thread::Builder::new().name("tine: test output".to_owned()).spawn(read);
        started.unwrap_or_else(|why| panic!("cannot start a thread: {why}"));
    }

    fn transcript(&self) -> MutexGuard<'_, Transcript> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is found in what was transcript.
    ///
    /// # Panics
    /// It is not there in time, or nothing more can come.
    #[track_caller]
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&mut Transcript) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut transcript = self.transcript();
        loop {
            if let Some(found) = find(&mut transcript) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match &transcript.ended {
                Some(how) => format!("the server has ended {how}"),
                None if transcript.closed == 2 => "its process has ended".to_owned(),
                None if left.is_zero() => format!("not in {} s", PATIENCE.as_secs()),
                None => {
                    transcript =
                        self.0.1.wait_timeout(transcript, left).unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            let all = [&transcript.others[..], &transcript.lines[..]].concat().join("\n");
            drop(transcript);
            panic!("waiting for {what}: {why}; it has written:\n{all}");
        }
    }

    /// Waits until the server is ready. Returns its addresses and its process id; the error if it
    /// could not start.
    pub(super) fn wait_until_ready(&self) -> Result<(Vec<SocketAddr>, u32), Error> {
        self.wait("a test server to be ready", |transcript| match transcript.result.take() {
            Some(Err(error)) => Some(Err(error)),
            // It can have stopped by itself already.
            result => {
                let is_over = result.is_some();
                transcript.result = result;
                let pid = transcript.pid.filter(|_| transcript.is_ready || is_over)?;
                Some(Ok((transcript.addresses.clone(), pid)))
            }
        })
    }

    pub(super) fn wait_for_result(&self) -> Result<(), Error> {
        self.wait("a test server to stop", |transcript| transcript.result.take())
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.transcript().lines.clone()
    }

    #[track_caller]
    pub(super) fn wait_for_line(&self, matches: impl Fn(&str) -> bool) -> String {
        self.wait("a line", |transcript| transcript.lines.iter().find(|line| matches(line)).cloned())
    }
}

impl Transcript {
    fn note(&mut self, report: Report) {
        match report {
            Report::Addresses(addresses) => self.addresses = addresses,
            Report::Pid(pid) => self.pid = Some(pid),
            Report::Ready => self.is_ready = true,
            Report::Stopped => self.result = Some(Ok(())),
            Report::Failed(error) => self.result = Some(Err(error)),
            Report::Ended(how) => self.ended = Some(how),
        }
    }
}
