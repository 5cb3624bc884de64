//! The channel between a service and its link, the process that talks to other nodes over a bus.
//!
//! A message is a text of lines, a record each. The service sends settings first, then what changes
//! here; the link sends what has changed at other nodes. What the link sends else has no effect, so
//! one that is taken over can ban and limit, and nothing else.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::text_channel::{MAX_TEXT, ReceivedText, TextChannel};
use crate::admission::access::prefix::Prefix;

/// The environment variable with the number of the channel.
pub(crate) const VARIABLE: &str = "TINE_LINK";

/// What is known of the ban of a block. Of two records about a block, the one with the later time
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanRecord {
    /// The block.
    pub block: Prefix,
    /// What holds.
    pub state: BanState,
    /// When it was ordered: milliseconds since 1970, and later than each record that the node knew
    /// before.
    pub at: u64,
}

/// Whether a block is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanState {
    /// Until this time, in seconds since 1970.
    Until(u64),
    /// Until it is lifted.
    Forever,
    /// Not any more.
    Lifted,
}

/// A record of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceRecord {
    /// A ban was given or lifted here; after the start, all that are known.
    Ban(BanRecord),
    /// A source has got a penalty here.
    Penalty {
        /// The source.
        source: Prefix,
        /// For how long, in milliseconds.
        milliseconds: u64,
    },
    /// The use of a source has changed here.
    Used {
        /// The source.
        source: Prefix,
        /// Its connections now.
        held: u32,
        /// Those admitted since the last record about it.
        taken: u32,
    },
}

/// A record of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkRecord {
    /// It runs. Whether the bus is there is another record.
    Ready,
    /// It cannot run.
    Failed(String),
    /// The bus is there, or away.
    Bus(bool),
    /// The nodes of the fleet, this one included.
    Nodes {
        /// Those that are heard.
        present: u32,
        /// Those that are not heard, and have not said that they leave.
        lost: u32,
    },
    /// A ban was given or lifted elsewhere.
    Ban(BanRecord),
    /// A source has got a penalty elsewhere.
    Penalty {
        /// The source.
        source: Prefix,
        /// For how long, in milliseconds.
        milliseconds: u64,
    },
    /// The use of a source at the other nodes that are heard.
    Used {
        /// The source.
        source: Prefix,
        /// Its connections there.
        held: u32,
        /// Those admitted there since the last record about it.
        taken: u32,
    },
    /// An operator of the fleet orders this node to drain.
    Drain,
    /// What an operator is to know.
    Warning(String),
}

/// What has come from a link.
#[derive(Debug)]
pub enum LinkSaid {
    /// It asks for something, over this socket.
    Asks(OwnedFd),
    /// Records, without those that have no meaning.
    Records(Vec<LinkRecord>),
    /// It has ended.
    Ended,
}

/// The service's end of the channel.
#[derive(Debug)]
pub struct LinkChannel(TextChannel);

impl LinkChannel {
    /// Makes a channel: the service's end, and the link's.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn pair() -> Result<(LinkChannel, OwnedFd), Errno> {
        let (own, theirs) = TextChannel::pair()?;
        Ok((LinkChannel(own), theirs.into()))
    }

    /// Sends the settings, which the link alone understands.
    ///
    /// # Errors
    /// The link has ended.
    pub fn start(&self, settings: &str) -> Result<(), Errno> {
        self.0.send(settings, &[])
    }

    /// Sends as many of the records as the channel takes, from the first one on; returns their
    /// number.
    pub fn send(&self, records: &[ServiceRecord]) -> usize {
        send_lines(&self.0, records).0
    }

    /// What the link has said next; `None` if it has said nothing.
    pub fn receive(&self) -> Option<LinkSaid> {
        match self.0.receive() {
            Err(Errno::AGAIN) => None,
            Ok(Some(ReceivedText { text, mut descriptors })) => Some(match descriptors.pop() {
                Some(socket) => LinkSaid::Asks(socket),
                None => LinkSaid::Records(records(&text, LinkRecord::parse)),
            }),
            Ok(None) | Err(_) => Some(LinkSaid::Ended),
        }
    }
}

impl AsFd for LinkChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The link's end of the channel to its service. Runs in the link.
#[derive(Debug)]
pub struct Linked(TextChannel);

impl Linked {
    /// The channel of the process that was executed to be a link; `None` in any other.
    #[must_use]
    pub fn from_environment() -> Option<Linked> {
        let number: i32 = std::env::var(VARIABLE).ok()?.parse().ok()?;
        Some(Linked::from(tine_sys::fd::inherited(number).ok()?))
    }

    /// Waits for the settings.
    ///
    /// # Errors
    /// The service has ended.
    pub fn wait_for_start(&self) -> io::Result<String> {
        loop {
            match self.0.receive() {
                Ok(Some(received)) => return Ok(String::from_utf8_lossy(&received.text).into_owned()),
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::AGAIN) => {
                    tine_sys::wait::until(&mut [PollFd::new(&self.0, PollFlags::IN)], None)?;
                }
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Sends as many of the records as the channel takes, from the first one on; returns their
    /// number. The rest can be sent when the channel can be written.
    ///
    /// # Errors
    /// The service has ended.
    pub fn send(&self, records: &[LinkRecord]) -> io::Result<usize> {
        match send_lines(&self.0, records) {
            (sent, None | Some(Errno::AGAIN)) => Ok(sent),
            (_, Some(why)) => Err(why.into()),
        }
    }

    /// Receives records.
    ///
    /// # Errors
    /// EAGAIN if none have come; the service has ended.
    pub fn receive(&self) -> io::Result<Vec<ServiceRecord>> {
        match self.0.receive() {
            Ok(Some(received)) => Ok(records(&received.text, ServiceRecord::parse)),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(why) => Err(why.into()),
        }
    }

    /// Makes a pair of sockets, of which the service gets one as a new client of its control
    /// protocol. It takes some each second, and keeps others waiting.
    ///
    /// # Errors
    /// EAGAIN if too much waits already; the service has ended.
    pub fn ask(&self) -> io::Result<UnixStream> {
        let (own, theirs) = UnixStream::pair()?;
        self.0.send("ask", &[theirs.as_fd()])?;
        Ok(own)
    }
}

impl From<OwnedFd> for Linked {
    fn from(channel: OwnedFd) -> Linked {
        Linked(channel.into())
    }
}

impl AsFd for Linked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends records in messages of as many lines as fit. Returns how many were sent, and why not all
/// were.
fn send_lines(channel: &TextChannel, records: &[impl fmt::Display]) -> (usize, Option<Errno>) {
    let mut sent = 0;
    let mut text = String::new();
    for (at, record) in records.iter().enumerate() {
        let line = format!("{record}\n");
        if text.len() + line.len() > MAX_TEXT {
            if let Err(why) = channel.send(&text, &[]) {
                return (sent, Some(why));
            }
            text.clear();
            sent = at;
        }
        text.push_str(&line);
    }
    match text.is_empty() {
        true => (records.len(), None),
        false => match channel.send(&text, &[]) {
            Ok(()) => (records.len(), None),
            Err(why) => (sent, Some(why)),
        },
    }
}

/// The records of a message, without those that are none.
fn records<T>(text: &[u8], parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
    String::from_utf8_lossy(text).lines().filter_map(parse).collect()
}

impl BanRecord {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<BanRecord> {
        let block = words.next()?.parse().ok()?;
        let state = match words.next()? {
            "forever" => BanState::Forever,
            "lifted" => BanState::Lifted,
            seconds => BanState::Until(seconds.parse().ok()?),
        };
        Some(BanRecord { block, state, at: words.next()?.parse().ok()? })
    }
}

impl fmt::Display for BanRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BanRecord { block, state, at } = self;
        match state {
            BanState::Until(seconds) => write!(f, "ban {block} {seconds} {at}"),
            BanState::Forever => write!(f, "ban {block} forever {at}"),
            BanState::Lifted => write!(f, "ban {block} lifted {at}"),
        }
    }
}

impl ServiceRecord {
    fn parse(line: &str) -> Option<ServiceRecord> {
        let mut words = line.split(' ');
        Some(match words.next()? {
            "ban" => ServiceRecord::Ban(BanRecord::parse(words)?),
            "penalty" => {
                let (source, milliseconds) = penalty(words)?;
                ServiceRecord::Penalty { source, milliseconds }
            }
            "used" => {
                let (source, held, taken) = used(words)?;
                ServiceRecord::Used { source, held, taken }
            }
            _ => return None,
        })
    }
}

impl fmt::Display for ServiceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceRecord::Ban(ban) => ban.fmt(f),
            ServiceRecord::Penalty { source, milliseconds } => write!(f, "penalty {source} {milliseconds}"),
            ServiceRecord::Used { source, held, taken } => write!(f, "used {source} {held} {taken}"),
        }
    }
}

impl LinkRecord {
    fn parse(line: &str) -> Option<LinkRecord> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = || rest.split(' ');
        Some(match kind {
            "ready" => LinkRecord::Ready,
            "failed" => LinkRecord::Failed(one_line(rest)),
            "bus" => LinkRecord::Bus(rest == "there"),
            "nodes" => {
                let (present, lost) = rest.split_once(' ')?;
                LinkRecord::Nodes { present: present.parse().ok()?, lost: lost.parse().ok()? }
            }
            "ban" => LinkRecord::Ban(BanRecord::parse(words())?),
            "penalty" => {
                let (source, milliseconds) = penalty(words())?;
                LinkRecord::Penalty { source, milliseconds }
            }
            "used" => {
                let (source, held, taken) = used(words())?;
                LinkRecord::Used { source, held, taken }
            }
            "drain" => LinkRecord::Drain,
            "warning" => LinkRecord::Warning(one_line(rest)),
            _ => return None,
        })
    }
}

impl fmt::Display for LinkRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkRecord::Ready => f.write_str("ready"),
            LinkRecord::Failed(why) => write!(f, "failed {}", one_line(why)),
            LinkRecord::Bus(is_there) => f.write_str(if *is_there { "bus there" } else { "bus away" }),
            LinkRecord::Nodes { present, lost } => write!(f, "nodes {present} {lost}"),
            LinkRecord::Ban(ban) => ban.fmt(f),
            LinkRecord::Penalty { source, milliseconds } => write!(f, "penalty {source} {milliseconds}"),
            LinkRecord::Used { source, held, taken } => write!(f, "used {source} {held} {taken}"),
            LinkRecord::Drain => f.write_str("drain"),
            LinkRecord::Warning(text) => write!(f, "warning {}", one_line(text)),
        }
    }
}

/// A text that fits into a line of a message.
fn one_line(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).take(400).collect()
}

fn penalty<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(Prefix, u64)> {
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn used<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(Prefix, u32, u32)> {
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

impl Prefix {
    /// The first address of the block, and the number of bits that all its addresses begin with: of
    /// 32 for an IPv4 address, of 128 for an IPv6 address.
    #[must_use]
    pub fn to_network(self) -> (IpAddr, u8) {
        let (first, length) = self.to_parts();
        let address = IpAddr::V6(first.into()).to_canonical();
        match (address, length.checked_sub(96)) {
            (IpAddr::V4(_), Some(length)) => (address, length),
            _ => (IpAddr::V6(first.into()), length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn records_arrive_as_they_were_sent() {
        let ban = |state| BanRecord { block: block("2001:db8::/32"), state, at: 7 };
        let of_service = [
            ServiceRecord::Ban(ban(BanState::Forever)),
            ServiceRecord::Ban(ban(BanState::Until(u64::MAX))),
            ServiceRecord::Ban(BanRecord { block: block("any"), ..ban(BanState::Lifted) }),
            ServiceRecord::Penalty { source: block("192.0.2.1"), milliseconds: 15_000 },
            ServiceRecord::Used { source: block("192.0.2.0/24"), held: 3, taken: u32::MAX },
        ];
        let of_link = [
            LinkRecord::Ready,
            LinkRecord::Failed("no\nbus".into()),
            LinkRecord::Bus(true),
            LinkRecord::Bus(false),
            LinkRecord::Nodes { present: 3, lost: 1 },
            LinkRecord::Ban(ban(BanState::Lifted)),
            LinkRecord::Penalty { source: block("192.0.2.1"), milliseconds: 1 },
            LinkRecord::Used { source: block("::1"), held: 0, taken: 1 },
            LinkRecord::Drain,
            LinkRecord::Warning("a text".into()),
        ];
        let (service, theirs) = LinkChannel::pair().expect("a channel");
        let link = Linked::from(theirs);
        service.start("{}").expect("sent");
        assert_eq!(link.wait_for_start().expect("settings"), "{}");
        assert_eq!(service.send(&of_service), of_service.len());
        assert_eq!(link.receive().expect("records"), of_service);
        assert_eq!(link.receive().expect_err("no more").kind(), io::ErrorKind::WouldBlock);
        assert_eq!(link.send(&of_link).expect("sent"), of_link.len());
        let Some(LinkSaid::Records(received)) = service.receive() else { panic!("records") };
        assert_eq!(received[1], LinkRecord::Failed("no bus".into()));
        assert_eq!(received.len(), of_link.len());
        for (received, sent) in received.iter().zip(&of_link).filter(|(_, sent)| **sent != of_link[1]) {
            assert_eq!(received, sent);
        }
        let mut own = link.ask().expect("sent");
        let Some(LinkSaid::Asks(socket)) = service.receive() else { panic!("it asks") };
        io::Write::write_all(&mut own, b"x").expect("sent");
        assert_eq!(rustix::io::read(&socket, &mut [0; 8]), Ok(1));
        drop(link);
        assert!(matches!(service.receive(), Some(LinkSaid::Ended)));
    }

    #[test]
    fn what_is_no_record_is_left_out() {
        let text = b"ban x forever 1\nban ::1\nused ::1 -1 0\nnodes 1\npenalty ::1\n\xff\n\nbus there\nx y";
        assert_eq!(records(text, LinkRecord::parse), [LinkRecord::Bus(true)]);
        assert_eq!(records(b"drain\nban ::1 1 99999999999999999999999", ServiceRecord::parse), []);
        // Texts for the log have no control characters, and are bounded.
        let long = format!("warning \u{1b}[2J\t{}", "x".repeat(1_000));
        let shown = format!(" [2J {}", "x".repeat(395));
        assert_eq!(records(long.as_bytes(), LinkRecord::parse), [LinkRecord::Warning(shown)]);
    }

    #[test]
    fn what_the_channel_does_not_take_can_be_sent_later() {
        let (service, theirs) = LinkChannel::pair().expect("a channel");
        let link = Linked::from(theirs);
        let all: Vec<ServiceRecord> = (0..60_000u32)
            .map(|bits| ServiceRecord::Used {
                source: Prefix::of(IpAddr::V4(bits.into())),
                held: 1,
                taken: 0,
            })
            .collect();
        let (mut sent, mut received) = (0, Vec::new());
        while sent < all.len() {
            let now = service.send(&all[sent..]);
            sent += now;
            while let Ok(records) = link.receive() {
                received.extend(records);
            }
        }
        assert_eq!(received, all);
    }

    #[test]
    fn networks_are_addresses_and_lengths() {
        for (text, address, length) in [
            ("192.0.2.0/24", "192.0.2.0", 24),
            ("192.0.2.1", "192.0.2.1", 32),
            ("2001:db8::/32", "2001:db8::", 32),
            ("any", "::", 0),
        ] {
            assert_eq!(block(text).to_network(), (address.parse().expect("an address"), length));
        }
    }
}
