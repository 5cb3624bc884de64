//! The ident protocol: asks a client's host for the client's user (RFC 1413).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The maximum length of an answer (RFC 1413: a thousand characters).
const LONGEST: usize = 1000;

const PORT: u16 = 113;

/// The user that the host of `remote` reports for the connection to `local`; `None` without an
/// answer in time.
pub(super) fn ask(remote: SocketAddr, local: SocketAddr, time: Duration) -> Option<Vec<u8>> {
    let deadline = Instant::now() + time;
    let left = || Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    let mut stream = connect(SocketAddr::new(remote.ip(), PORT), local, left()?)?;
    stream.set_write_timeout(left()).ok()?;
    stream.write_all(format!("{} , {}\r\n", remote.port(), local.port()).as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 256];
    while answer.len() < LONGEST && !answer.contains(&b'\n') {
        stream.set_read_timeout(Some(left()?)).ok()?;
        match stream.read(&mut buffer).ok()? {
            0 => break,
            received => answer.extend_from_slice(&buffer[..received]),
        }
    }
    user(&answer)
}

/// Connects from the address that the client connected to: the other side answers about that alone.
fn connect(to: SocketAddr, from: SocketAddr, time: Duration) -> Option<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).ok()?;
    rustix::net::bind(&socket, &SocketAddr::new(from.ip(), 0)).ok()?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            let mut ask = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT)];
            let time = rustix::event::Timespec {
                tv_sec: time.as_secs().try_into().ok()?,
                tv_nsec: time.subsec_nanos().into(),
            };
            if rustix::event::poll(&mut ask, Some(&time)) != Ok(1) {
                return None;
            }
            rustix::net::sockopt::socket_error(&socket).ok()?.ok()?;
        }
        Err(_) => return None,
    }
    rustix::io::ioctl_fionbio(&socket, false).ok()?;
    Some(TcpStream::from(socket))
}

/// The user in an answer: `PORT , PORT : USERID : SYSTEM : USER`.
fn user(answer: &[u8]) -> Option<Vec<u8>> {
    let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let mut parts = line.splitn(4, |byte| *byte == b':');
    let (_ports, kind, _system) = (parts.next()?, parts.next()?, parts.next()?);
    let user = parts.next()?.trim_ascii_start();
    (kind.trim_ascii() == b"USERID" && !user.is_empty()).then(|| user.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (answer, meant) in [
            (&b"6193, 23 : USERID : UNIX : joe\r\n"[..], Some(&b"joe"[..])),
            (b"6193, 23 : USERID : UNIX ,utf-8: a : b\r\n", Some(b"a : b")),
            (b"6193,23:USERID:OTHER:joe", Some(b"joe")),
            (b"6193, 23 : ERROR : NO-USER\r\n", None),
            (b"6193, 23 : USERID : UNIX :  \r\n", None),
            (b"", None),
            (b":::", None),
        ] {
            assert_eq!(user(answer).as_deref(), meant);
        }
    }
}
