//! Connecting to the first endpoint of an address that accepts.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use tine_load::plan::endpoint::Endpoint;

/// Time after which the next endpoint is tried beside one that has not answered (RFC 8305, section
/// 5, "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Time between two attempts to connect to a Unix socket whose backlog is full: no event reports
/// when it is not.
const RETRY: Duration = Duration::from_millis(10);

/// A connecting socket.
struct Attempt {
    endpoint: Endpoint,
    socket: OwnedFd,
}

/// Connections being made to the endpoints of one address.
struct Dial {
    left: VecDeque<Endpoint>,
    attempts: Vec<Attempt>,
    /// Time at which the next endpoint is tried.
    next: Instant,
    last: Errno,
}

/// Connects to the first endpoint that accepts. Each is tried as soon as the one before it has
/// failed, or has not answered for a while. The sockets are non-blocking.
///
/// # Errors
/// The error of the endpoint that failed last; ETIMEDOUT if one has not answered in time.
pub(super) fn connect(endpoints: &[Endpoint], timeout: Duration) -> Result<(OwnedFd, Endpoint), Errno> {
    let now = Instant::now();
    let deadline = now + timeout;
    let left = endpoints.iter().cloned().collect();
    let mut dial = Dial { left, attempts: Vec::new(), next: now, last: Errno::ADDRNOTAVAIL };
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Err(Errno::TIMEDOUT);
        }
        if now >= dial.next {
            dial.start(now);
        }
        if dial.attempts.is_empty() && dial.left.is_empty() {
            return Err(dial.last);
        }
        let until = if dial.left.is_empty() { deadline } else { deadline.min(dial.next) };
        if let Some(connected) = dial.wait(until)? {
            return Ok(connected);
        }
    }
}

impl Dial {
    /// Starts to connect to the next endpoint.
    fn start(&mut self, now: Instant) {
        let Some(endpoint) = self.left.pop_front() else { return };
        match start(&endpoint) {
            Ok(socket) => {
                self.attempts.push(Attempt { endpoint, socket });
                self.next = now + ATTEMPT_DELAY;
            }
            Err(Errno::AGAIN) => {
                self.left.push_front(endpoint);
                self.next = now + RETRY;
            }
            Err(errno) => self.last = errno,
        }
    }

    /// Waits until an attempt has succeeded or failed. Returns the connection, if one is made.
    fn wait(&mut self, until: Instant) -> Result<Option<(OwnedFd, Endpoint)>, Errno> {
        let mut fds: Vec<PollFd> =
            self.attempts.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
        match tine_sys::wait::until(&mut fds, Some(until)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let is_ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for (attempt, is_ready) in std::mem::take(&mut self.attempts).into_iter().zip(is_ready) {
            if !is_ready {
                self.attempts.push(attempt);
                continue;
            }
            match sockopt::socket_error(&attempt.socket) {
                Ok(Ok(())) => return Ok(Some((attempt.socket, attempt.endpoint))),
                Ok(Err(errno)) | Err(errno) => {
                    self.last = errno;
                    self.next = Instant::now();
                }
            }
        }
        Ok(None)
    }
}

fn start(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    let socket = endpoint.socket()?;
    if let Endpoint::Tcp(_) = endpoint {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    match endpoint.connect(&socket) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn listener() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        (listener, Endpoint::Tcp(address))
    }

    /// An endpoint whose backlog is full, so that the kernel does not answer.
    fn silent() -> (TcpListener, Endpoint, Vec<OwnedFd>) {
        let (listener, endpoint) = listener();
        rustix::net::listen(&listener, 0).expect("a smaller backlog");
        let filling = (0..4).map(|_| start(&endpoint).expect("a socket")).collect();
        (listener, endpoint, filling)
    }

    fn refused() -> Endpoint {
        listener().1
    }

    #[test]
    fn the_first_endpoint_that_accepts_is_used() {
        let (_listener, good) = listener();
        let (_full, silent, _filling) = silent();
        for endpoints in [
            &[good.clone()][..],
            &[refused(), good.clone()],
            &[silent.clone(), good.clone()],
            &[refused(), silent.clone(), refused(), good.clone()],
            &[good.clone(), silent.clone()],
        ] {
            let (_, endpoint) = connect(endpoints, LONG).expect("it accepts");
            assert_eq!(format!("{endpoint:?}"), format!("{good:?}"), "{endpoints:?}");
        }
    }

    #[test]
    fn without_one_the_last_error_is_returned() {
        assert_eq!(connect(&[refused(), refused()], LONG).expect_err("both refuse"), Errno::CONNREFUSED);
        assert_eq!(connect(&[], LONG).expect_err("there is none"), Errno::ADDRNOTAVAIL);
        let (_full, silent, _filling) = silent();
        let short = Duration::from_millis(300);
        assert_eq!(connect(&[refused(), silent], short).expect_err("no answer"), Errno::TIMEDOUT);
    }

    #[test]
    fn a_unix_socket_with_a_full_backlog_is_awaited() {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
        let name = format!("tine-dial-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("short");
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        bind(&listener, &address).expect("the name is free");
        listen(&listener, 0).expect("it listens");
        let endpoint = Endpoint::Unix(address);
        let _first = connect(std::slice::from_ref(&endpoint), LONG).expect("the backlog is empty");
        let short = Duration::from_millis(100);
        assert_eq!(connect(std::slice::from_ref(&endpoint), short).expect_err("it is full"), Errno::TIMEDOUT);
        let accepting = std::thread::spawn(move || {
            let client = rustix::net::accept(&listener).expect("a client");
            (listener, client)
        });
        connect(&[endpoint], LONG).expect("there is space again");
        accepting.join().expect("accepted");
    }
}
