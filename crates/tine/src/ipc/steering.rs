//! Orders of operators: from a control process, which has parsed and checked them, to the
//! supervisor, which carries them out and answers. Fixed words, so that the supervisor parses
//! nothing; behind them, the path of a binary, or a text for the operator.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::setting::{Refusal, Setting, SettingValue};
use crate::admission::access::prefix::Prefix;
use crate::net::operator::Privilege;

/// An order of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// End this connection: TERM, and KILL after the usual time. It is not answered.
    Kill { slot: usize, id: u64 },
    /// OrderAnswer once every connection that this control process had killed has ended.
    AwaitKilled,
    /// Accept no more; clients stay in the backlog.
    Pause,
    /// Accept again.
    Resume,
    /// Drain and stop, as at TERM. It is not answered: the channel ends with the server.
    Drain,
    /// Drain and stop the service of this number. To a master only; not answered.
    DrainService(usize),
    /// Reject later clients of this block for this many seconds; `None` is for ever.
    Ban { block: Prefix, seconds: Option<u64> },
    /// Lift the ban of this block.
    Unban { block: Prefix },
    /// Count this control process as one that follows the log: it stays. It changes nothing, so an
    /// operator who may only read can order it.
    Follow,
    /// Change a setting.
    Set { setting: Setting, value: SettingValue },
    /// Read the configuration again. Answered by a text.
    Reload,
    /// Replace the server: by the binary whose path is sent with the order, or else by the file
    /// that the server was started from. Answered by a text.
    Upgrade,
}

/// The answer to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderAnswer {
    /// It is carried out, for this many connections or blocks.
    Done(u64),
    /// It is not: the server stops already.
    Stopping,
    /// It is not: there are as many bans, or followers of the log, as there can be.
    Full,
    /// Connections have not ended, though they were killed.
    NotEnded,
    /// It is not, for this reason.
    Refused(Refusal),
}

const WORDS: usize = 6;

/// The first word of an answer that is a text.
const TEXT: u64 = 6;

/// Bytes of the path of a binary, at most (`PATH_MAX`, without the zero byte).
pub(crate) const MAX_PATH: usize = 4095;

/// Bytes of an answer that is a text, at most.
const MAX_ANSWER: usize = 8 * 1024;

impl Order {
    /// What an operator needs to be allowed for this.
    pub(crate) fn needs(self) -> Privilege {
        match self {
            Order::Follow => Privilege::Read,
            Order::Kill { .. } | Order::AwaitKilled | Order::Pause | Order::Resume => Privilege::Tend,
            Order::Ban { .. } | Order::Unban { .. } => Privilege::Tend,
            Order::Drain | Order::DrainService(_) | Order::Set { .. } => Privilege::Steer,
            Order::Reload | Order::Upgrade => Privilege::Steer,
        }
    }

    fn to_words(self) -> [u64; WORDS] {
        let block = |kind: u64, block: Prefix, seconds: u64| {
            let (first, length) = block.to_parts();
            [kind, (first >> 64) as u64, first as u64, length.into(), seconds, 0]
        };
        match self {
            Order::Kill { slot, id } => [1, slot as u64, id, 0, 0, 0],
            Order::AwaitKilled => [2, 0, 0, 0, 0, 0],
            Order::Pause => [3, 0, 0, 0, 0, 0],
            Order::Resume => [4, 0, 0, 0, 0, 0],
            Order::Drain => [5, 0, 0, 0, 0, 0],
            Order::DrainService(service) => [8, service as u64, 0, 0, 0, 0],
            Order::Ban { block: of, seconds } => block(6, of, seconds.unwrap_or(u64::MAX)),
            Order::Unban { block: of } => block(7, of, 0),
            Order::Follow => [9, 0, 0, 0, 0, 0],
            Order::Set { setting, value: SettingValue([first, second]) } => {
                [10, setting.index() as u64, first, second, 0, 0]
            }
            Order::Reload => [11, 0, 0, 0, 0, 0],
            Order::Upgrade => [12, 0, 0, 0, 0, 0],
        }
    }

    /// The order in these words; `None` if they are none.
    fn from_words(words: [u64; WORDS]) -> Option<Order> {
        let [kind, first, second, length, seconds, _] = words;
        let block = || {
            let bits = u128::from(first) << 64 | u128::from(second);
            Prefix::from_parts(bits, u8::try_from(length).ok()?)
        };
        Some(match kind {
            1 => Order::Kill { slot: usize::try_from(first).ok()?, id: second },
            2 => Order::AwaitKilled,
            3 => Order::Pause,
            4 => Order::Resume,
            5 => Order::Drain,
            6 => Order::Ban { block: block()?, seconds: (seconds != u64::MAX).then_some(seconds) },
            7 => Order::Unban { block: block()? },
            8 => Order::DrainService(usize::try_from(first).ok()?),
            9 => Order::Follow,
            10 => Order::Set {
                setting: *Setting::ALL.get(usize::try_from(first).ok()?)?,
                value: SettingValue([second, length]),
            },
            11 => Order::Reload,
            12 => Order::Upgrade,
            _ => return None,
        })
    }
}

impl OrderAnswer {
    fn to_words(self) -> [u64; 2] {
        match self {
            OrderAnswer::Done(count) => [1, count],
            OrderAnswer::Stopping => [2, 0],
            OrderAnswer::Full => [3, 0],
            OrderAnswer::NotEnded => [4, 0],
            OrderAnswer::Refused(refusal) => [5, refusal as u64],
        }
    }

    fn from_words([kind, count]: [u64; 2]) -> OrderAnswer {
        match kind {
            1 => OrderAnswer::Done(count),
            3 => OrderAnswer::Full,
            4 => OrderAnswer::NotEnded,
            5 => {
                let refusal = usize::try_from(count).ok().and_then(|at| Refusal::ALL.get(at));
                OrderAnswer::Refused(refusal.copied().unwrap_or(Refusal::NoValue))
            }
            _ => OrderAnswer::Stopping,
        }
    }
}

/// The control process's end: orders go out, answers come in.
#[derive(Debug)]
pub(crate) struct OrderSender(OwnedFd);

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct OrderReceiver(OwnedFd);

/// Makes a channel for orders. The end of either process is the end of the channel.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn channel() -> Result<(OrderSender, OrderReceiver), Errno> {
    let (sender, receiver) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((OrderSender(sender), OrderReceiver(receiver)))
}

impl OrderSender {
    /// Sends an order; blocks while the supervisor is behind. False if the server has ended.
    pub(crate) fn send(&self, order: Order) -> bool {
        self.send_with(order, None)
    }

    /// Sends an order with the path of a binary, of `MAX_PATH` bytes at most.
    pub(crate) fn send_with(&self, order: Order, path: Option<&Path>) -> bool {
        let mut bytes: Vec<u8> = order.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(path.map_or(&[], |path| path.as_os_str().as_bytes()));
        rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL).is_ok()
    }

    /// Waits for an answer that is a text, with the exit code of the command; `None` if the server
    /// has ended.
    pub(crate) fn answer_text(&self) -> Option<(u8, String)> {
        let mut bytes = [0; 16 + MAX_ANSWER];
        let (_, length) = rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty()).ok()?;
        let (head, text) = bytes[..length].split_at_checked(16)?;
        match words(head) {
            [TEXT, code] => {
                let code = u8::try_from(code).unwrap_or(111);
                Some((code, String::from_utf8_lossy(text).into_owned()))
            }
            _ => Some((111, "the server is stopping".to_owned())),
        }
    }

    /// Waits for an answer; `None` if the server has ended.
    pub(crate) fn answer(&self) -> Option<OrderAnswer> {
        let mut bytes = [0; 16];
        let (_, length) = rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty()).ok()?;
        (length == bytes.len()).then(|| OrderAnswer::from_words(words(&bytes)))
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_for_end(&self) {
        while self.answer().is_some() {}
    }
}

impl OrderReceiver {
    /// Receives an order, without blocking, and the path that comes with it; `None` if the control
    /// process has ended, or sent what is no order.
    ///
    /// # Errors
    /// EAGAIN if there is none.
    pub(crate) fn receive(&self) -> Result<Option<(Order, Option<PathBuf>)>, Errno> {
        let mut bytes = [0; WORDS * 8 + MAX_PATH + 1];
        let (_, length) = rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::DONTWAIT)?;
        let received = bytes.get(..length).and_then(|bytes| bytes.split_at_checked(WORDS * 8));
        let Some((head, path)) = received else { return Ok(None) };
        let path = (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)));
        let is_allowed = |order: &Order| path.is_none() || *order == Order::Upgrade;
        let order = Order::from_words(words(head)).filter(is_allowed);
        Ok(order.map(|order| (order, path)))
    }

    /// Answers an order by a text, of which `MAX_ANSWER` bytes arrive, and the exit code of the
    /// command.
    pub(crate) fn answer_text(&self, code: u8, text: &str) {
        let mut bytes: Vec<u8> = [TEXT, code.into()].iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(&text.as_bytes()[..text.len().min(MAX_ANSWER)]);
        // A control process that has ended needs none.
        let _ = rustix::net::send(&self.0, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Ends the channel: the other end sees that the server has stopped.
    pub(crate) fn close(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// Answers an order. Each order has at most one answer, so there is always room.
    pub(crate) fn answer(&self, answer: OrderAnswer) {
        let bytes: Vec<u8> = answer.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
        // A control process that has ended needs none.
        let _ = rustix::net::send(&self.0, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// A receiver whose descriptor was moved.
impl From<OwnedFd> for OrderReceiver {
    fn from(socket: OwnedFd) -> OrderReceiver {
        OrderReceiver(socket)
    }
}

impl AsFd for OrderSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for OrderReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_arrive() {
        let (sender, receiver) = channel().expect("a channel");
        assert_eq!(receiver.receive(), Err(Errno::AGAIN));
        let block = |text: &str| text.parse().expect(text);
        for order in [
            Order::Kill { slot: 7, id: u64::MAX },
            Order::AwaitKilled,
            Order::Pause,
            Order::Resume,
            Order::Drain,
            Order::DrainService(63),
            Order::Ban { block: block("192.0.2.0/24"), seconds: None },
            Order::Ban { block: block("2001:db8::/32"), seconds: Some(60) },
            Order::Unban { block: block("any") },
            Order::Follow,
            Order::Set { setting: Setting::FirstByteTimeout, value: SettingValue([u64::MAX, 7]) },
            Order::Reload,
            Order::Upgrade,
        ] {
            assert!(sender.send(order));
            assert_eq!(receiver.receive(), Ok(Some((order, None))));
        }
        for answer in [
            OrderAnswer::Done(12_000),
            OrderAnswer::Stopping,
            OrderAnswer::Full,
            OrderAnswer::NotEnded,
            OrderAnswer::Refused(Refusal::Busy),
        ] {
            receiver.answer(answer);
            assert_eq!(sender.answer(), Some(answer));
        }
        drop(sender);
        assert_eq!(receiver.receive(), Ok(None));
    }

    #[test]
    fn an_observer_orders_little() {
        let block = "192.0.2.0/24".parse().expect("a block");
        for (order, needed) in [
            (Order::Follow, Privilege::Read),
            (Order::Kill { slot: 1, id: 1 }, Privilege::Tend),
            (Order::AwaitKilled, Privilege::Tend),
            (Order::Pause, Privilege::Tend),
            (Order::Resume, Privilege::Tend),
            (Order::Ban { block, seconds: None }, Privilege::Tend),
            (Order::Unban { block }, Privilege::Tend),
            (Order::Drain, Privilege::Steer),
            (Order::DrainService(0), Privilege::Steer),
            (Order::Set { setting: Setting::Limits, value: SettingValue([1, 0]) }, Privilege::Steer),
            (Order::Reload, Privilege::Steer),
            (Order::Upgrade, Privilege::Steer),
        ] {
            assert_eq!(order.needs(), needed, "{order:?}");
        }
    }

    #[test]
    fn a_path_and_a_text_arrive() {
        let (sender, receiver) = channel().expect("a channel");
        let longest = PathBuf::from("/".repeat(MAX_PATH));
        for path in ["/usr/bin/tine".into(), longest.clone()] {
            assert!(sender.send_with(Order::Upgrade, Some(&path)));
            assert_eq!(receiver.receive(), Ok(Some((Order::Upgrade, Some(path)))));
        }
        assert!(sender.send_with(Order::Pause, Some(&longest)));
        assert_eq!(receiver.receive(), Ok(None), "an order without a path");
        for (code, text) in [(0, "größe".to_owned()), (100, String::new()), (111, "x".repeat(MAX_ANSWER))] {
            receiver.answer_text(code, &text);
            assert_eq!(sender.answer_text(), Some((code, text)));
        }
        receiver.answer(OrderAnswer::Stopping);
        assert_eq!(sender.answer_text().map(|(code, _)| code), Some(111));
        drop(receiver);
        assert_eq!(sender.answer_text(), None);
    }

    #[test]
    fn words_that_are_no_order_are_none() {
        for words in [
            [0; 6],
            [13, 0, 0, 0, 0, 0],
            [10, Setting::ALL.len() as u64, 0, 0, 0, 0],
            [6, 0, 0, 129, 0, 0],
            [6, 0, 1, 127, 0, 0],
            [7, 1, 0, 8, 0, 0],
        ] {
            assert_eq!(Order::from_words(words), None, "{words:?}");
        }
    }

    #[test]
    fn the_end_of_the_supervisor_is_noticed() {
        let (sender, receiver) = channel().expect("a channel");
        drop(receiver);
        assert!(!sender.send(Order::Pause));
        assert_eq!(sender.answer(), None);
    }
}
