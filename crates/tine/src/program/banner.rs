//! The banner of a program: bytes that its client gets before it is executed.

use std::io;
use std::os::fd::AsFd;

use rustix::io::retry_on_intr;
use rustix::net::SendFlags;

use crate::lifecycle::outcome::ExitReport;

/// Sends the banner. Blocks while the client does not read; runs in the connection process.
///
/// # Errors
/// The report of a connection whose client has gone.
pub(super) fn send(socket: impl AsFd, mut banner: &[u8]) -> Result<(), ExitReport> {
    while !banner.is_empty() {
        // By send(2): write(2) would raise SIGPIPE.
        let sent = retry_on_intr(|| rustix::net::send(&socket, banner, SendFlags::NOSIGNAL));
        let sent = sent.map_err(|errno| ExitReport::from_error(&io::Error::from(errno).into()))?;
        banner = &banner[sent..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_banner_is_sent_whole_or_the_client_has_gone() {
        let (server, mut client) = UnixStream::pair().expect("a pair");
        send(&server, b"").expect("nothing to send");
        send(&server, b"hello\n").expect("room for it");
        let mut received = [0; 6];
        client.read_exact(&mut received).expect("the banner");
        assert_eq!(&received, b"hello\n");
        drop(client);
        assert_eq!(send(&server, b"hello\n"), Err(ExitReport::Reset));
    }
}
