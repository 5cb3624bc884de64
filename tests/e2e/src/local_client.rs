//! Clients of Unix sockets that belong to any user.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket};
use rustix::process::{Gid, Uid};

use crate::wait::TEST_TIMEOUT;

/// A client of a Unix socket.
#[derive(Debug)]
pub struct LocalClient(UnixStream);

impl LocalClient {
    /// Connects as this user, with the group of the same number and no other.
    ///
    /// # Panics
    /// The test does not run as root, or nothing listens on the socket.
    #[must_use]
    pub fn of_user(uid: u32, path: &str) -> LocalClient {
        // The ids of a thread are its own (credentials(7)), and the thread ends.
        let connected = std::thread::scope(|scope| {
            let connect = || {
                let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
                rustix::thread::set_thread_groups(&[]).expect("root");
                rustix::thread::set_thread_res_gid(group, group, group).expect("root");
                rustix::thread::set_thread_res_uid(user, user, user).expect("root");
                UnixStream::connect(path)
            };
            scope.spawn(connect).join().expect("the thread ends")
        });
        LocalClient::from(connected.expect("the server listens"))
    }

    /// Connects from a socket that is bound to a name: a path, or after a zero byte an abstract
    /// name.
    ///
    /// # Panics
    /// The name is in use, or nothing listens on the socket.
    #[must_use]
    pub fn named(name: &[u8], path: &str) -> LocalClient {
        let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let name = match name.strip_prefix(b"\0") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(name),
        };
        bind(&client, &name.expect("a name")).expect("a free name");
        connect(&client, &SocketAddrUnix::new(Path::new(path)).expect("a path")).expect("the server listens");
        LocalClient::from(UnixStream::from(client))
    }

    /// Sends a line and reads it back. False if the server closes the connection, or sends
    /// something else.
    ///
    /// # Panics
    /// Nothing comes back in time.
    pub fn echo(&mut self) -> bool {
        let mut reply = Vec::new();
        // A server that closes a connection with unread bytes resets it.
        let sent = self.0.write_all(b"echo\n");
        while sent.is_ok() && reply.len() < 5 {
            let mut bytes = [0; 5];
            match self.0.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => reply.extend_from_slice(&bytes[..length]),
                Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(why) => panic!("no reply: {why}"),
            }
        }
        reply == b"echo\n"
    }

    /// Reads a line, without its newline. Empty if the server closes the connection instead.
    ///
    /// # Panics
    /// Neither comes in time.
    #[must_use]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).expect("a byte, or the end of the stream") == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Ends the stream and reads all that the server sends.
    ///
    /// # Panics
    /// The end does not come in time.
    #[must_use]
    pub fn finish(mut self) -> String {
        // The server may have closed the connection already.
        let _ = self.0.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        self.0.read_to_end(&mut reply).expect("the end of the stream");
        String::from_utf8_lossy(&reply).into_owned()
    }
}

impl From<UnixStream> for LocalClient {
    fn from(stream: UnixStream) -> LocalClient {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time");
        LocalClient(stream)
    }
}
