//! The channel between a server and its observer.
//!
//! The server sends what the observer is to do: a start, with the listeners, and later that clients
//! may be accepted. The observer sends that it is ready, or why it cannot be; later, for each
//! request, one end of a new pair of sockets. What else it sends then has no effect, so one that is
//! taken over can ask, and nothing else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::text_channel::{ReceivedText, TextChannel};

/// The environment variable with the number of the channel.
pub(crate) const VARIABLE: &str = "TINE_OBSERVER";

/// The server's end of the channel.
#[derive(Debug)]
pub(crate) struct ObserverLink(TextChannel);

/// What the observer has said.
#[derive(Debug)]
pub(crate) enum ObserverSaid {
    Ready,
    Failed(String),
    /// It asks for something, over this socket.
    Asks(OwnedFd),
    /// Nothing that has a meaning.
    Other,
    /// It has ended.
    Ended,
}

impl ObserverLink {
    /// Makes a channel: the server's end, and the observer's.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn pair() -> Result<(ObserverLink, OwnedFd), Errno> {
        let (own, theirs) = TextChannel::pair()?;
        Ok((ObserverLink(own), theirs.into()))
    }

    /// Sends the settings, which the observer alone understands, and its listeners.
    ///
    /// # Errors
    /// There are too many listeners, or the observer has ended.
    pub(crate) fn start(&self, settings: &str, listeners: &[BorrowedFd]) -> Result<(), Errno> {
        self.0.send(settings, listeners)
    }

    /// Tells the observer that the server serves. One that has ended need not know.
    pub(crate) fn serve(&self) {
        let _ = self.0.send("serve", &[]);
    }

    /// What the observer has said next; `None` if it has said nothing.
    pub(crate) fn receive(&self) -> Option<ObserverSaid> {
        match self.0.receive() {
            Err(Errno::AGAIN) => None,
            Ok(Some(ReceivedText { text, mut descriptors })) => Some(match descriptors.pop() {
                Some(socket) => ObserverSaid::Asks(socket),
                None => said(&text).unwrap_or(ObserverSaid::Other),
            }),
            Ok(None) | Err(_) => Some(ObserverSaid::Ended),
        }
    }
}

fn said(text: &[u8]) -> Option<ObserverSaid> {
    let value: Value = serde_json::from_slice(text).ok()?;
    match value.get("failed").and_then(Value::as_str) {
        Some(why) => Some(ObserverSaid::Failed(why.to_owned())),
        None => (value.get("ready")? == true).then_some(ObserverSaid::Ready),
    }
}

impl AsFd for ObserverLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The observer's end of the channel to the server that it observes. Runs in the observer.
#[derive(Debug)]
pub struct Observed(TextChannel);

impl Observed {
    /// The channel of the process that was executed to be an observer; `None` in any other.
    #[must_use]
    pub fn from_environment() -> Option<Observed> {
        let number: i32 = std::env::var(VARIABLE).ok()?.parse().ok()?;
        let socket = tine_sys::fd::inherited(number).ok()?;
        Some(Observed::from(socket))
    }

    /// Waits for the settings and the listeners.
    ///
    /// # Errors
    /// The server has ended.
    pub fn wait_for_start(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        let received = self.wait()?;
        Ok((String::from_utf8_lossy(&received.text).into_owned(), received.descriptors))
    }

    /// Waits until the server serves.
    ///
    /// # Errors
    /// The server has ended.
    pub fn wait_until_serving(&self) -> io::Result<()> {
        self.wait().map(drop)
    }

    /// Reports that this process can serve.
    ///
    /// # Errors
    /// The server has ended.
    pub fn ready(&self) -> io::Result<()> {
        Ok(self.0.send(&json!({ "ready": true }).to_string(), &[])?)
    }

    /// Reports why this process cannot serve.
    pub fn failed(&self, why: &str) {
        // If the server has ended, too, there is nobody to tell.
        let _ = self.0.send(&json!({ "failed": why }).to_string(), &[]);
    }

    /// The same channel once more.
    ///
    /// # Errors
    /// EMFILE.
    pub fn duplicate(&self) -> io::Result<Observed> {
        Ok(Observed::from(self.0.as_fd().try_clone_to_owned()?))
    }

    /// A new connection to the server, for one request of the control protocol (`docs/control.md`).
    /// The server takes some each second, and keeps others waiting.
    ///
    /// # Errors
    /// EAGAIN if too many wait already; the server has ended.
    pub fn ask(&self) -> io::Result<UnixStream> {
        let (own, theirs) = UnixStream::pair()?;
        self.0.send("ask", &[theirs.as_fd()])?;
        Ok(own)
    }

    fn wait(&self) -> io::Result<ReceivedText> {
        loop {
            match self.0.receive() {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::AGAIN) => {
                    tine_sys::wait::until(&mut [PollFd::new(&self.0, PollFlags::IN)], None)?;
                }
                Err(why) => return Err(why.into()),
            }
        }
    }
}

impl From<OwnedFd> for Observed {
    fn from(channel: OwnedFd) -> Observed {
        Observed(channel.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_starts_and_asks() {
        let (link, theirs) = ObserverLink::pair().expect("a channel");
        let observed = Observed::from(theirs);
        let listener = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("one");
        link.start("{}", &[listener.as_fd()]).expect("sent");
        let (settings, listeners) = observed.wait_for_start().expect("a start");
        assert_eq!((settings.as_str(), listeners.len()), ("{}", 1));
        assert!(link.receive().is_none());
        observed.ready().expect("sent");
        assert!(matches!(link.receive(), Some(ObserverSaid::Ready)));
        link.serve();
        observed.wait_until_serving().expect("told");
        let mut own = observed.ask().expect("sent");
        let Some(ObserverSaid::Asks(socket)) = link.receive() else { panic!("it asks") };
        io::Write::write_all(&mut own, b"x").expect("sent");
        assert_eq!(rustix::io::read(&socket, &mut [0; 8]), Ok(1));
        observed.0.send("nonsense", &[]).expect("sent");
        assert!(matches!(link.receive(), Some(ObserverSaid::Other)));
        observed.failed("no memory");
        assert!(matches!(link.receive(), Some(ObserverSaid::Failed(why)) if why == "no memory"));
        drop(observed);
        assert!(matches!(link.receive(), Some(ObserverSaid::Ended)));
    }
}
