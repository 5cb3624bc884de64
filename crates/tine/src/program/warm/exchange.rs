//! A connection over loopback with a process that was started for it: sends the input, closes that
//! direction, and collects the answer up to the end of both.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tine_sys::process::reap;

use super::compare::{AnswerEnd, RunOutcome};

/// The longest answer that is collected.
pub(super) const LONGEST_ANSWER: usize = 1 << 20;

/// A connection, both ends.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) client: TcpStream,
    pub(super) server: OwnedFd,
    /// The address of the client.
    pub(super) remote: SocketAddr,
    /// When it began to connect.
    pub(super) begin: Instant,
}

impl Ends {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM; EADDRNOTAVAIL.
    pub(super) fn connect(listener: &TcpListener) -> io::Result<Ends> {
        let begin = Instant::now();
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, remote) = listener.accept()?;
        client.set_nonblocking(true)?;
        Ok(Ends { client, server: server.into(), remote, begin })
    }
}

/// The outcome of a process, and the time from the begin of the connection to the end of the
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimedOutcome {
    pub(super) outcome: RunOutcome,
    pub(super) time: Duration,
}

/// Exchanges bytes with a child, and reaps it if it ends in time.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(super) fn exchange(
    client: TcpStream,
    begin: Instant,
    pid: i32,
    input: &[u8],
    timeout: Duration,
) -> io::Result<TimedOutcome> {
    let process = pidfd_open(Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
    let deadline = begin.checked_add(timeout);
    let mut client = Client { stream: Some(client), input, answer: Vec::new(), end: AnswerEnd::Time };
    let (mut time, mut how) = (timeout, None);
    client.write()?;
    while client.stream.is_some() || how.is_none() {
        let events = if client.input.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let of_client = client.stream.as_ref().map(|stream| PollFd::new(stream, events));
        // One that has been reaped is readable for ever.
        let of_process = how.is_none().then(|| PollFd::new(&process, PollFlags::IN));
        let mut fds: Vec<PollFd> = of_client.into_iter().chain(of_process).collect();
        match tine_sys::wait::until(&mut fds, deadline) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
        drop(fds);
        if client.stream.is_some() {
            client.read();
            client.write()?;
            if client.stream.is_none() {
                time = begin.elapsed();
            }
        }
        if how.is_none() {
            how = reap(pid)?.map(|ended| ended.how);
        }
    }
    let Client { answer, end, .. } = client;
    Ok(TimedOutcome { outcome: RunOutcome { answer, answer_end: end, how }, time })
}

/// The client. Its stream is gone at the end of the answer.
struct Client<'a> {
    stream: Option<TcpStream>,
    /// What is not sent yet.
    input: &'a [u8],
    answer: Vec<u8>,
    end: AnswerEnd,
}

impl Client<'_> {
    /// Reads what has come.
    fn read(&mut self) {
        let mut piece = [0; 16 * 1024];
        while let Some(stream) = &mut self.stream {
            match stream.read(&mut piece) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                // A reset, by a process that has not read all, ends the answer, too.
                Ok(0) | Err(_) => (self.stream, self.end) = (None, AnswerEnd::Closed),
                Ok(count) => {
                    self.answer.extend_from_slice(&piece[..count]);
                    if self.answer.len() > LONGEST_ANSWER {
                        self.answer.truncate(LONGEST_ANSWER);
                        (self.stream, self.end) = (None, AnswerEnd::Limit);
                    }
                }
            }
        }
    }

    /// Sends what there is room for; behind the last byte, the end of the input.
    fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.input.is_empty() {
            match stream.write(self.input) {
                Ok(count) => self.input = &self.input[count..],
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Nobody reads it: the answer may be there nevertheless.
                Err(_) => self.input = &[],
            }
        }
        match stream.shutdown(Shutdown::Write) {
            Err(why) if why.kind() != io::ErrorKind::NotConnected => Err(why),
            _ => Ok(()),
        }
    }
}
