//! Passes clients that are not admitted to the delayer or the rejector, and proxies to the proxy
//! reader.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tine_sys::wait;

use crate::admission::access::local::ClientGroups;
use crate::admission::penalty::Fault;
use crate::admission::proxy::Screening;
use crate::admission::reason::Reason;
use crate::admission::{Admission, Candidate, Verdict};
use crate::ipc::board::Board;
use crate::ipc::messages::{Delayed, Identified, ProxyArrival, Receiver, Rejection, Sender, Treatment};
use crate::log::Log;
use crate::net::accept::{Accepted, Delay};
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;
use crate::system::clock::now;
use crate::system::wakeup::Wakeup;

/// How long a forker waits for the proxy reader, if that is behind. It takes microseconds for each
/// message. One that takes none for so long is killed and restarted, and gets the same time once
/// more.
const PROXY_READER_WAIT: Duration = Duration::from_secs(1);

/// The memory that decides about clients, and the channels for those that are not admitted.
/// Forkers, spares and workers have it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) board: Board,
    pub(crate) admission: Admission,
    /// To the rejector, where clients can be rejected.
    pub(crate) rejector: Option<Sender<Rejection>>,
    /// To the delayer and back, where clients can be delayed.
    pub(crate) delayer: Option<DelayerLink>,
    /// To the proxy reader and back, where proxies speak for clients.
    pub(crate) proxy_reader: Option<ProxyReaderLink>,
}

/// A forker's ends of the channels of the delayer.
#[derive(Debug)]
pub(crate) struct DelayerLink {
    /// Clients to be queued.
    pub(crate) queue: Sender<Delayed>,
    /// Clients that the delayer releases.
    pub(crate) released: Receiver<Delayed>,
    /// Wakes the delayer.
    pub(crate) wakeup: Wakeup,
}

/// A forker's ends of the channels of the proxy reader.
#[derive(Debug)]
pub(crate) struct ProxyReaderLink {
    /// Proxies whose header is to be read.
    pub(crate) arrivals: Sender<ProxyArrival>,
    /// Clients whose proxy has sent its header.
    pub(crate) identified: Receiver<Identified>,
    /// Never cleared once it is woken: no more proxies will come.
    pub(crate) last: Wakeup,
}

impl Door {
    /// What admission needs to know of a client.
    #[inline]
    pub(crate) fn candidate<'c>(&self, client: &'c Accepted) -> Candidate<'c> {
        Candidate {
            peer: client.peer,
            is_banned: self.board.is_banned(client.peer),
            groups: ClientGroups::OfSocket(client.socket.as_fd()),
            was_delayed: client.delay.is_some(),
            mode: self.board.limits_mode(),
            changed: self.board.changed_limits(),
            nodes: self.board.fleet_nodes(),
            draining: self.board.is_draining(),
        }
    }

    /// Passes a client that is not admitted to the delayer or the rejector. Its slot has to be free
    /// by then: the client may know at once, and its next connection must not find this one
    /// counted.
    pub(crate) fn pass_on(&self, client: &Accepted, verdict: Verdict, log: &mut Log) {
        match verdict {
            Verdict::Admit | Verdict::Report(_) => {}
            Verdict::Delay(reason) if self.delay(client, reason) => {}
            Verdict::Delay(reason) | Verdict::Reject(reason) => self.reject(client, reason, log),
        }
    }

    /// Passes a client to the delayer; false if that is behind, or the server drains.
    fn delay(&self, client: &Accepted, reason: Reason) -> bool {
        let Some(delayer) = &self.delayer else { return false };
        let limits = self.admission.limits();
        let (since, deadline) = match client.delay {
            Some(delay) => (delay.since, delay.deadline),
            None => (now(), limits.delay_deadline(now())),
        };
        // Marked here and not by the delayer: until that runs, later clients could overtake. The
        // delayer clears the marks.
        let marks = limits.delay_blocks(client.peer);
        let marks = marks.map(|block| self.admission.set_queued(&block, true).then_some(block));
        let mut marked = [None; 2];
        marked.iter_mut().zip(marks).for_each(|(entry, mark)| *entry = mark);
        let message = Delayed { peer: client.peer, reason, since, deadline, proxied: proxied(client) };
        let is_sent = self.board.pass_unless_draining(|| delayer.queue.send(client.socket.as_fd(), &message));
        if is_sent {
            self.board.count_delayed(reason);
        } else {
            marked.iter().flatten().for_each(|block| _ = self.admission.set_queued(block, false));
        }
        is_sent
    }

    /// What to do with a client before admission decides about it.
    pub(crate) fn screen(&self, peer: Peer) -> Screening {
        let proxies = self.admission.limits().proxy.as_ref();
        proxies.map_or(Screening::Direct, |proxies| proxies.screen(peer))
    }

    /// Passes a client about which admission does not decide yet: a proxy to the proxy reader, any
    /// other to the rejector.
    pub(crate) fn pass_before_admission(&self, client: &Accepted, log: &mut Log, wake_supervisor: impl Fn()) {
        let is_proxy = self.screen(client.peer) == Screening::Proxy;
        let is_passed = is_proxy && self.pass_to_proxy_reader(client, wake_supervisor);
        if !is_passed {
            self.reject(client, Reason::Proxy, log);
        }
    }

    /// Passes a proxy to the proxy reader. If that takes none in time, the supervisor is to replace
    /// it; false if the next one takes none either. From then on no process waits for that one, so
    /// that it does not hold up the clients that need no proxy reader.
    fn pass_to_proxy_reader(&self, client: &Accepted, wake_supervisor: impl Fn()) -> bool {
        let Some(ProxyReaderLink { arrivals, .. }) = &self.proxy_reader else { return false };
        let message = ProxyArrival { proxy: client.peer };
        let send = || arrivals.send(client.socket.as_fd(), &message);
        let number = self.board.proxy_reader();
        if send() {
            return true;
        }
        if self.board.is_proxy_reader_given_up(number) {
            return false;
        }
        if send_in_time(arrivals, send) {
            return true;
        }
        self.board.note_proxy_reader_behind(number);
        wake_supervisor();
        let is_sent = send_in_time(arrivals, send);
        if !is_sent {
            self.board.give_up_proxy_reader(self.board.proxy_reader());
        }
        is_sent
    }

    /// Passes a client to the rejector, which sends the text and logs.
    fn reject(&self, client: &Accepted, reason: Reason, log: &mut Log) {
        if reason == Reason::Denied {
            self.charge(client.peer, Fault::RefuseConnection, log);
        }
        self.board.count_rejected(reason);
        if let Some(rejector) = &self.rejector {
            let (peer, treatment) = (client.peer, Treatment::Reject);
            let message = Rejection { peer, reason, treatment, proxied: proxied(client) };
            rejector.send(client.socket.as_fd(), &message);
        }
    }

    /// Reports a client that is served although a limit or a rule objects. The rejector logs it.
    #[cold]
    pub(crate) fn report(&self, client: &Accepted, reason: Reason, log: &mut Log) {
        if reason == Reason::Denied {
            self.charge(client.peer, Fault::RefuseConnection, log);
        }
        self.board.count_reported(reason);
        if let Some(rejector) = &self.rejector {
            let treatment = match self.admission.verdict(reason) {
                Verdict::Delay(_) => Treatment::ReportDelay,
                _ => Treatment::ReportReject,
            };
            let message = Rejection { peer: client.peer, reason, treatment, proxied: proxied(client) };
            // A message has a descriptor: the null device. A duplicate of the socket would delay
            // the end of the stream.
            rejector.send(rustix::stdio::stdin(), &message);
        }
    }

    /// Charges a client's source for a fault, and logs a penalty that begins.
    pub(crate) fn charge(&self, peer: Peer, fault: Fault, log: &mut Log) {
        if let Some(time) = self.admission.charge(peer, fault) {
            self.board.note_punished(peer, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            log.penalty(&peer, fault.name(), time);
        }
    }

    /// Wakes the delayer after the end of a connection, if it waits for one.
    pub(crate) fn wake_delayer(&self) {
        if let Some(delayer) = self.delayer.as_ref().filter(|_| self.board.delayer_wants_slot()) {
            delayer.wakeup.wake();
        }
    }

    /// Leaves the memory out of processes forked from now on.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    pub(crate) fn exclude_from_fork(&self) -> std::io::Result<()> {
        self.board.exclude_from_fork()?;
        self.admission.exclude_from_fork()
    }

    /// Takes the shared memory away from this process. The descriptors of the channels stay open.
    ///
    /// # Errors
    /// None that a mapped region can cause.
    #[inline(always)]
    pub(crate) fn unmap(self) -> std::io::Result<()> {
        let Door { board, admission, rejector, delayer, proxy_reader } = self;
        let _channels = ManuallyDrop::new((rejector, delayer, proxy_reader));
        board.unmap()?;
        admission.unmap()
    }

    /// Receives a client that the delayer has released.
    pub(crate) fn receive_released(&self) -> Result<Option<Accepted>, rustix::io::Errno> {
        let Some(delayer) = &self.delayer else { return Ok(None) };
        let received = delayer.released.receive()?;
        Ok(received.map(|(socket, message): (OwnedFd, Delayed)| Accepted {
            socket,
            peer: message.peer,
            delay: Some(Delay {
                since: message.since,
                deadline: message.deadline,
                reason: message.reason.index(),
            }),
            proxied: message.proxied.map(Box::new),
        }))
    }

    /// Receives a client whose proxy has sent its header.
    pub(crate) fn receive_identified(&self) -> Result<Option<Accepted>, rustix::io::Errno> {
        let Some(reader) = &self.proxy_reader else { return Ok(None) };
        let received = reader.identified.receive()?;
        Ok(received.map(|(socket, Identified { peer, proxied })| Accepted {
            socket,
            peer,
            delay: None,
            proxied: proxied.map(Box::new),
        }))
    }
}

/// Sends to the proxy reader, once its channel has room; false if it has none in time.
fn send_in_time(arrivals: &Sender<ProxyArrival>, send: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PROXY_READER_WAIT;
    loop {
        if send() {
            return true;
        }
        let mut poll = [PollFd::new(arrivals, PollFlags::OUT)];
        let has_room = matches!(wait::until(&mut poll, Some(deadline)), Ok(1))
            && !poll[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        if !has_room {
            return false;
        }
    }
}

fn proxied(client: &Accepted) -> Option<Proxied> {
    client.proxied.as_deref().copied()
}
