//! Listening sockets that an older generation of the server hands over. They wait here until an
//! address is bound that one of them has.
//!
//! They belong to the process, as inherited sockets do: they were received before the first address
//! is bound, and what is left is closed when the server has taken over.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// A socket that was handed over.
#[derive(Debug)]
pub(crate) struct HandedSocket {
    pub(crate) socket: OwnedFd,
    /// What the older generation said of it: see `Listener::describe`.
    pub(crate) about: Value,
}

static HANDED: Mutex<Vec<(String, HandedSocket)>> = Mutex::new(Vec::new());

fn handed() -> MutexGuard<'static, Vec<(String, HandedSocket)>> {
    HANDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a socket with this address.
pub(crate) fn keep(address: String, socket: HandedSocket) {
    handed().push((address, socket));
}

/// Takes the first socket that was bound with this address.
pub(crate) fn take(address: &str) -> Option<HandedSocket> {
    let mut handed = handed();
    let at = handed.iter().position(|(other, _)| other == address)?;
    Some(handed.remove(at).1)
}

/// The rest of the first address that begins so.
pub(crate) fn first(prefix: &str) -> Option<String> {
    handed().iter().find_map(|(address, _)| address.strip_prefix(prefix)).map(str::to_owned)
}

/// Takes the sockets whose address begins so, each with the rest of the address.
pub(crate) fn take_all(prefix: &str) -> Vec<(String, HandedSocket)> {
    let found = handed().extract_if(.., |(address, _)| address.starts_with(prefix)).collect::<Vec<_>>();
    let rest = |address: String| address.strip_prefix(prefix).unwrap_or_default().to_owned();
    found.into_iter().map(|(address, socket)| (rest(address), socket)).collect()
}

/// Closes those that no address has taken, except those whose address begins so. Forked processes
/// have what is left.
pub(crate) fn close_all_but(prefix: &str) {
    handed().retain(|(address, _)| address.starts_with(prefix));
}

/// Closes those that no address has taken.
pub(crate) fn close_rest() {
    handed().clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_takes_its_socket_once() {
        for (address, number) in [("test:a", 1), ("test:b", 2), ("test:a", 3), ("more:c", 4)] {
            let socket = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("one");
            keep(address.to_owned(), HandedSocket { socket, about: Value::from(number) });
        }
        let number = |address| take(address).map(|handed| handed.about);
        assert_eq!(
            [number("test:a"), number("test:a"), number("test:a")],
            [Some(1.into()), Some(3.into()), None]
        );
        let rest: Vec<_> = take_all("test:").into_iter().map(|(name, handed)| (name, handed.about)).collect();
        assert_eq!(rest, [("b".to_owned(), Value::from(2))]);
        close_all_but("more:");
        assert_eq!(first("more:").as_deref(), Some("c"));
        close_rest();
        assert_eq!(number("more:c"), None);
    }
}
